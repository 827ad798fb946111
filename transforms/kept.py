"""Which refs a run publishes, to be asked for many at once: what Index bands needs to know of every record of the run.

A ref has 32 bits (`transforms.bands`). Few are held sorted, 4 bytes each; from an eighth of a thousand million on a bit
for every ref there could be takes less: 512 MiB, however large the corpus is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transforms.compiled import compiled, signed

MOST_SORTED = 1 << 27  # refs: from there on the bits are smaller
_BITMAP_BYTES = 1 << 29

Refs = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Kept:
    """Sorted refs, and where those begin that share their upper bits; or a bitmap of them."""

    refs: Refs
    starts: npt.NDArray[np.int32]
    bitmap: npt.NDArray[np.uint8] | None

    def has(self, refs: Refs) -> npt.NDArray[np.bool_]:
        """bool[N]: whether each of the refs is kept."""
        if self.bitmap is not None:
            found = self.bitmap[refs >> np.uint32(3)] >> (refs & np.uint32(7)).astype(np.uint8)
            return np.asarray(found & 1, bool)
        had = np.empty(len(refs), bool)
        _look_up(self.refs, self.starts, np.uint32(_shift(len(self.refs))), np.ascontiguousarray(refs), had)
        return had


def gather_kept(parts: Iterable[Refs], most_sorted: int = MOST_SORTED) -> Kept:
    """All of the parts, each of which is sorted, without repetition, and above those before it."""
    sorted_parts: list[Refs] = []
    count, bitmap = 0, None
    for part in parts:
        count += len(part)
        sorted_parts.append(part)
        if count > most_sorted:
            bitmap = np.zeros(_BITMAP_BYTES, np.uint8) if bitmap is None else bitmap
            while sorted_parts:
                _set_bits(bitmap, sorted_parts.pop())
    refs = np.concatenate([np.empty(0, np.uint32), *sorted_parts])
    firsts = np.arange(1 << 32 - _shift(len(refs)), dtype=np.uint32) << np.uint32(_shift(len(refs)))
    starts = np.concatenate([np.searchsorted(refs, firsts), [len(refs)]]).astype(np.int32)
    return Kept(refs, starts, bitmap)


def _shift(count: int) -> int:
    """How far a ref is shifted to the number of its bucket: there are half as many as refs, or all of them."""
    return 32 - max(1, count.bit_length() - 1)


@compiled
def _look_up(
    refs: Refs, starts: npt.NDArray[np.int32], shift: np.uint32, asked: Refs, had: npt.NDArray[np.bool_]
) -> None:
    """As a search through the sorted refs, but in their bucket alone: refs are hashes, which fill buckets evenly."""
    for row in range(len(asked)):
        bucket = signed(asked[row] >> shift)
        place, end = starts[bucket], starts[bucket + 1]
        while place < end and refs[place] < asked[row]:
            place += 1
        had[row] = place < end and refs[place] == asked[row]


def _set_bits(bitmap: npt.NDArray[np.uint8], refs: Refs) -> None:
    if len(refs) == 0:
        return
    first, last = int(refs[0]) >> 3, int(refs[-1]) >> 3
    flags = np.zeros((last - first + 1) * 8, bool)
    flags[refs.astype(np.int64) - first * 8] = True
    bitmap[first : last + 1] |= np.packbits(flags, bitorder="little")
