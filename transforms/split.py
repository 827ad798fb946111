"""Split: by hash of the unit of splitting; eval is cut first, then val, the smallest hashes first.

The hash's top 20 bits are the unit's bin. Bins are never divided, so units are not; counts by bin are all
that the cut needs, however large the corpus. (Two units that share a bin go together, which at a million
units a bin moves the cut by a record or two.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.exact import among_ids, id_words, ids_of
from transforms.hashing import Keys
from transforms.options import SplitOptions
from transforms.reasons import SPLITS, Drop

BIN_BITS = 20
BINS = 1 << BIN_BITS
TRAIN, VAL, EVAL = (SPLITS.index(name) for name in ("train", "val", "eval"))

DROPS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Cut:
    """Bins [0, eval_end) are eval, [eval_end, val_end) val, but for those passed over; the rest is train."""

    eval_end: int
    val_end: int
    passed: tuple[int, ...] = ()
    val_capped: bool = False

    def splits(self, bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """int8[N]: TRAIN, VAL or EVAL for each bin."""
        codes = np.full(len(bins), TRAIN, np.int8)
        codes[bins < self.val_end] = VAL
        codes[bins < self.eval_end] = EVAL
        codes[np.isin(bins, self.passed)] = TRAIN
        return codes


def bin_of(unit: bytes, keys: Keys) -> int:
    """The bin of a unit of splitting: a group, or the id that names a cluster."""
    return keys.split_hash(unit) >> (64 - BIN_BITS)


def choose_cut(counts: npt.NDArray[np.int64], options: SplitOptions) -> Cut:
    """The cut for `counts` int64[BINS] of kept records.

    Eval takes bins until it has `eval` x N records, val until it has max(min_val, val x N). Neither takes
    more than a third of N: a bin that would is passed over and goes to train.
    """
    total = int(counts.sum())
    third = total // 3
    wanted_val = max(options.min_val, _share(options.val, total))
    bins = np.flatnonzero(counts)
    passed: list[int] = []
    ends = []
    place = 0
    for wanted in (min(_share(options.eval, total), third), min(wanted_val, third)):
        taken = 0
        while taken < wanted and place < len(bins):
            size = int(counts[bins[place]])
            if taken + size > third:
                passed.append(int(bins[place]))
            else:
                taken += size
            place += 1
        ends.append(int(bins[place - 1]) + 1 if place else 0)
    return Cut(ends[0], ends[1], tuple(passed), wanted_val > third)


def drop_lookalikes(
    cross: pa.Table, cut: Cut, keys: Keys, split: int, gone: npt.NDArray[np.uint64] | None = None
) -> pa.Table:
    """DROPS, sorted by id: records that resemble one in `split`, EVAL or VAL, from a split that gives way to it.

    `cross` holds `cluster.CROSS` edges. The records in `gone` uint64[N, 2] are dropped already: they cost nobody else
    their place.
    """
    ids = [id_words(cross.column(side)) for side in "ab"]
    codes = [_splits_of(cross.column(f"unit_{side}"), cut, keys) for side in "ab"]
    lost = [among_ids(one, np.empty((0, 2), np.uint64) if gone is None else gone) for one in ids]
    found, sizes = [], []
    for own, other in ((0, 1), (1, 0)):
        near = (codes[other] == split) & (codes[own] < split) & ~lost[own] & ~lost[other]
        found.append(ids[own][near])
        sizes.append(cross.column(f"n_bytes_{'ab'[own]}").to_numpy()[near])
    words, first = np.unique(np.concatenate(found), axis=0, return_index=True)
    reason = (Drop.NEAR_EVAL if split == EVAL else Drop.NEAR_VAL).value
    return pa.table(
        [ids_of(words), pa.array([reason] * len(words), pa.string()), pa.array(np.concatenate(sizes)[first])],
        schema=DROPS,
    )


def _splits_of(units: pa.ChunkedArray, cut: Cut, keys: Keys) -> npt.NDArray[np.int8]:
    """int8[N]: the split of each unit."""
    distinct = units.dictionary_encode().combine_chunks()
    if isinstance(distinct, pa.ChunkedArray):
        return np.empty(0, np.int8)
    bins = np.array([bin_of(unit, keys) for unit in distinct.dictionary.to_pylist()], np.int64)
    return np.asarray(cut.splits(bins)[distinct.indices.to_numpy()])


def _share(fraction: float, total: int) -> int:
    """`fraction` of `total`, rounded half up."""
    return int(fraction * total + 0.5)
