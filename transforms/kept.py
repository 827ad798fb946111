"""Which refs a run publishes, to be asked for many at once: what Index bands needs to know of every record of the run.

A ref has 32 bits (`transforms.bands`). Few are held sorted, 4 bytes each; from an eighth of a thousand million on a bit
for every ref there could be takes less: 512 MiB, however large the corpus is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_SORTED = 1 << 27  # refs: from there on the bits are smaller
_BITMAP_BYTES = 1 << 29

Refs = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Kept:
    """Sorted refs, or a bitmap of them."""

    refs: Refs
    bitmap: npt.NDArray[np.uint8] | None

    def has(self, refs: Refs) -> npt.NDArray[np.bool_]:
        """bool[N]: whether each of the refs is kept."""
        if self.bitmap is not None:
            found = self.bitmap[refs >> np.uint32(3)] >> (refs & np.uint32(7)).astype(np.uint8)
            return np.asarray(found & 1, bool)
        if len(self.refs) == 0:
            return np.zeros(len(refs), bool)
        places = np.searchsorted(self.refs, refs)
        return np.asarray(self.refs[np.minimum(places, len(self.refs) - 1)] == refs)


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
    return Kept(refs, bitmap)


def _set_bits(bitmap: npt.NDArray[np.uint8], refs: Refs) -> None:
    if len(refs) == 0:
        return
    first, last = int(refs[0]) >> 3, int(refs[-1]) >> 3
    flags = np.zeros((last - first + 1) * 8, bool)
    flags[refs.astype(np.int64) - first * 8] = True
    bitmap[first : last + 1] |= np.packbits(flags, bitorder="little")
