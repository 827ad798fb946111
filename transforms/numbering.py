"""Numbering: ids as small numbers, in the order in which they come. Graphs are of numbers; an edge of ids would weigh 32 bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from transforms.compiled import compiled, signed

_FEWEST = 1024  # slots


class Numbering:
    """Gives each id that it meets a number, from 0. Holds 16 bytes an id, and 2 to 4 slots of 4 bytes."""

    def __init__(self) -> None:
        self._ids = np.empty((_FEWEST // 2, 2), np.uint64)
        self._slots = np.full(_FEWEST, -1, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> npt.NDArray[np.uint64]:
        """uint64[len, 2]: the ids by number, as `exact.id_words` has them."""
        return self._ids[: self._count]

    def number(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """int32[N]: the numbers of ids uint64[N, 2]; those of new ones follow each other in the order of their rows."""
        numbers = np.empty(len(ids), np.int32)
        start = 0
        while start < len(ids):
            room = len(self._slots) // 2 - self._count
            end = start + room
            self._count = _number(ids[start:end], self._ids, self._slots, self._count, numbers[start:end])
            if self._count == len(self._slots) // 2:
                self._widen()
            start = end
        return numbers

    def _widen(self) -> None:
        """Raises OverflowError above 2**30 ids."""
        if len(self._slots) > np.iinfo(np.int32).max:
            raise OverflowError(f"more than {self._count} records in one graph")
        self._slots = np.full(2 * len(self._slots), -1, np.int32)
        ids = np.empty((len(self._slots) // 2, 2), np.uint64)
        _number(self.ids, ids, self._slots, 0, np.empty(self._count, np.int32))
        self._ids = ids


@compiled
def _number(
    ids: npt.NDArray[np.uint64],
    known: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    count: int,
    numbers: npt.NDArray[np.int32],
) -> int:
    """Puts the numbers of ids, and new ids among the `count` that are known; returns how many are known then."""
    mask = len(slots) - 1
    for row in range(len(ids)):
        first, second = ids[row, 0], ids[row, 1]
        at = signed(((first ^ second) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
        while slots[at] >= 0 and (known[slots[at], 0] != first or known[slots[at], 1] != second):
            at = (at + 1) & mask
        if slots[at] < 0:
            slots[at] = count
            known[count, 0], known[count, 1] = first, second
            count += 1
        numbers[row] = slots[at]
    return count
