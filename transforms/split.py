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

from transforms.exact import among_ids, first_of_each, id_words
from transforms.hashing import Keys
from transforms.options import SplitOptions
from transforms.reasons import SPLITS, Drop

BIN_BITS = 20
BINS = 1 << BIN_BITS
TRAIN, VAL, EVAL = (SPLITS.index(name) for name in ("train", "val", "eval"))

# Bins beyond the others, one a split: of records whose split is settled before the cut.
PINNED = BINS

DROPS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field(
            "kept_id", pa.binary(16)
        ),  # the record that it resembles; null where it goes with one that is left out
        pa.field("similarity", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Cut:
    """Bins [0, eval_end) are eval, [eval_end, val_end) val, but for those passed over; the rest is train.

    Where eval is `frozen`, its bins are train.
    """

    eval_end: int
    val_end: int
    passed: tuple[int, ...] = ()
    val_capped: bool = False
    frozen: bool = False

    def splits(self, bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """int8[N]: TRAIN, VAL or EVAL for each bin."""
        codes = np.full(len(bins), TRAIN, np.int8)
        codes[bins < self.val_end] = VAL
        codes[bins < self.eval_end] = TRAIN if self.frozen else EVAL
        codes[np.isin(bins, self.passed)] = TRAIN
        pinned = bins >= PINNED
        codes[pinned] = bins[pinned] - PINNED
        return codes


@dataclass(frozen=True)
class Settlement:
    """What is in the splits before the cut: published, or bound to go there. Counts of records.

    `eval_end` is that of the cut by which eval was filled; `frozen` says that nothing is added to it.
    """

    train: int = 0
    val: int = 0
    eval: int = 0
    eval_end: int = 0
    frozen: bool = False

    @property
    def total(self) -> int:
        return self.train + self.val + self.eval


NOTHING_SETTLED = Settlement()


def bin_of(unit: bytes, keys: Keys) -> int:
    """The bin of a unit of splitting: a group, or the id that names a cluster."""
    return keys.split_hash(unit) >> (64 - BIN_BITS)


def choose_cut(
    counts: npt.NDArray[np.int64],
    options: SplitOptions,
    settled: Settlement = NOTHING_SETTLED,
) -> Cut:
    """The cut for `counts` int64[BINS] of open records, beside those whose split is settled.

    Of all N records eval gets eval x N (or `eval_records`), val max(min_val, val x N), counted with what they
    have. Neither takes more than a third of N: a bin that would is passed over and goes to train. A frozen
    eval takes nothing, and val begins where eval ended when it was filled.
    """
    total = int(counts.sum()) + settled.total
    third = total // 3
    wanted_val = max(options.min_val, _share(options.val, total))
    wanted_eval = 0 if settled.frozen else options.eval_records or _share(options.eval, total)
    bins = np.flatnonzero(counts)
    passed: list[int] = []
    ends = []
    place = int(np.searchsorted(bins, settled.eval_end)) if settled.frozen else 0
    for wanted, has in ((min(wanted_eval, third), settled.eval), (min(wanted_val, third), settled.val)):
        taken = has
        while taken < wanted and place < len(bins):
            size = int(counts[bins[place]])
            if taken + size > third:
                passed.append(int(bins[place]))
            else:
                taken += size
            place += 1
        ends.append(int(bins[place - 1]) + 1 if place else 0)
    eval_end = settled.eval_end if settled.frozen else ends[0]
    return Cut(eval_end, max(ends[1], eval_end), tuple(passed), wanted_val > third, settled.frozen)


def best_drops(drops: pa.Table) -> pa.Table:
    """DROPS, sorted by id, of several of an id the one that resembles most, by the smallest `kept_id` among equals."""
    keys = [("id", "ascending"), ("similarity", "descending"), ("kept_id", "ascending")]
    drops = drops.sort_by(keys).combine_chunks()
    return drops.filter(pa.array(first_of_each(drops.column("id")))).combine_chunks()


def drop_lookalikes(
    cross: pa.Table,
    codes: tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]],
    split: int,
    gone: npt.NDArray[np.uint64] | None = None,
) -> pa.Table:
    """`best_drops` of records that resemble one in `split`, EVAL or VAL, from a split that gives way to it.

    `cross` holds `cluster.CROSS` edges, `codes` int8[N] the splits of either end, -1 for none. The records in `gone`
    uint64[N, 2] are dropped already: they cost nobody else their place.
    """
    nobody = np.empty((0, 2), np.uint64)
    lost = [among_ids(id_words(cross.column(side)), nobody if gone is None else gone) for side in "ab"]
    reason = (Drop.NEAR_EVAL if split == EVAL else Drop.NEAR_VAL).value
    found = []
    for own, other in ((0, 1), (1, 0)):
        near = (codes[other] == split) & (codes[own] >= 0) & (codes[own] < split) & ~lost[own] & ~lost[other]
        rows = cross.filter(pa.array(near))
        columns = [rows.column("ab"[own]), pa.array([reason] * rows.num_rows, pa.string())]
        columns += [rows.column(name) for name in (f"n_bytes_{'ab'[own]}", "ab"[other], "similarity")]
        found.append(pa.table(columns, schema=DROPS))
    return best_drops(pa.concat_tables(found))


def _share(fraction: float, total: int) -> int:
    """`fraction` of `total`, rounded half up."""
    return int(fraction * total + 0.5)
