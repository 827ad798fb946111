"""Settle: what becomes of each sound record before the cut is known.

The first that holds decides:

    a copy in this run         duplicate of the one elected
    published already          duplicate of the published one; superseded where a correction replaced that
    resembles published eval   left out; so is what resembles published val
    resembles one that stays   duplicate of that one
    of a published group       goes where the group is; left out where the group is in a frozen eval, or in val
                               or eval while the record resembles published train
    resembles published train  goes to train, its unit with it, unless its group decides: that is up to the cut
    else                       kept, in the bin of its unit of splitting: the cut decides

Copies of a record that is left out are left out with it, and so are its near-duplicates, once that is known of all
(`follow_dropped`): what repeats a record goes where that goes, and nobody is the duplicate of a record that is not there.
Where a group in a frozen eval leaves a record out, copies of other groups are elected before it, and near-duplicates did not
give way to it (`mill` signs no record of such a group).
So where a record is published already under another id, by its source, they are duplicates of that one (`follow_known`).

A rebuild reads again what is published. There only eval is there already; a record that was in train or val goes
where it was, if it is kept, of copies one whose group is there (`_later`). So does one that was published until somebody went back over its snapshot (`transforms.left`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.cluster import LIKE_EVAL, LIKE_TRAIN, LIKE_VAL
from transforms.exact import elect_records
from transforms.hashing import Keys
from transforms.index import OWNERS, PUBLISHED
from transforms.left import NOTHING_LEFT, Left, bind_left
from transforms.reasons import SPLITS, Drop
from transforms.split import BINS, DROPS, EVAL, PINNED, TRAIN, VAL, Cut, bin_of

# Fates: a split, or one of these.
DUPLICATE = len(SPLITS)
DROPPED = len(SPLITS) + 1  # and on: DROPPED + i is for the reason DROPS_BY_CODE[i]
OPEN = -1  # the cut decides
DROPS_BY_CODE = tuple(Drop)

# One row for each sound record, sorted by key, then id. `writer` and `line` say where its text is; `bin` is
# that of its unit, or of its split where that is settled, -1 for records that are left out; `kept_id` and `similarity` say
# whom one resembles that gave way.
SETTLED = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("writer", pa.int32(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("fate", pa.int8(), nullable=False),
        pa.field("bin", pa.int32(), nullable=False),
        pa.field("kept_id", pa.binary(16)),
        pa.field("similarity", pa.float32()),
        pa.field("near", pa.bool_(), nullable=False),
    ]
)

# What is published of the owners of a segment's records: OWNERS, each owner once.
OWNED = OWNERS


# Near-duplicates, each id once, and whom they gave way to.
FOLLOWERS = pa.schema(
    [pa.field("id", pa.binary(16), nullable=False), pa.field("kept_id", pa.binary(16), nullable=False)]
)

# Records that resemble published train, with a group that may yet go to val or eval.
TORN = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("bin", pa.int32(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("like_id", pa.binary(16)),  # the one in train
        pa.field("like_similarity", pa.float32()),
    ]
)


class Settled(NamedTuple):
    """SETTLED rows; TORN records; FOLLOWERS; DROPS of records that are left out already; records that are published
    under another id (as FOLLOWERS of that); open records by bin (int64[BINS]); records whose split is settled (int64[3]);
    canonical JSON bytes of both."""

    rows: pa.Table
    torn: pa.Table
    followers: pa.Table
    fallen: pa.Table
    known: pa.Table
    counts: npt.NDArray[np.int64]
    pinned: npt.NDArray[np.int64]
    n_bytes: int


def drop_code(reason: Drop) -> int:
    """The fate of a record that is left out for a reason."""
    return DROPPED + DROPS_BY_CODE.index(reason)


def settle_records(
    facts: pa.Table,
    verdicts: pa.Table,
    keys: Keys,
    *,
    exact: bool,
    published: pa.Table | None = None,
    owned: pa.Table | None = None,
    eval_open: bool = True,
    rebuild: bool = False,
    decided: pa.Table | None = None,
    left: Left = NOTHING_LEFT,
) -> Settled:
    """Settles the records of one segment of keys from their FACTS and the VERDICTS on some of them.

    `published` is what the index has of the segment, `owned` (OWNED) of the records' groups and source ids, `decided`
    (DECIDED) what a rebuild takes over of human decisions, `left` what was published and is no more.
    """
    published = PUBLISHED.empty_table() if published is None else published
    owned = OWNED.empty_table() if owned is None else owned
    later = _later(facts, published, owned, eval_open=eval_open, rebuild=rebuild)
    facts, elected = elect_records(facts, exact=exact, later=later)
    ids, groups = facts.column("id"), facts.column("group")
    place = pc.index_in(ids, value_set=verdicts.column("id"))
    near_of = verdicts.column("kept_id").take(place)
    fates = np.where(elected, OPEN, DUPLICATE).astype(np.int8)
    kept_id = pc.if_else(pa.array(elected), pa.scalar(None, pa.binary(16)), ids)
    known = _known(facts, published, owned, exact=exact, rebuild=rebuild, decided=decided)
    fates, kept_id = _decide(fates, kept_id, known.fates, known.kept_id)
    like = np.asarray(pc.fill_null(verdicts.column("like").take(place), 0).to_numpy(), np.int8)
    like_id, like_similarity = (verdicts.column(name).take(place) for name in ("like_id", "like_similarity"))
    group_split = _split_of(groups, pa.concat_tables([owned, left.owned]))
    bound = bind_left(facts, (known.fates == OPEN) & (known.splits == OPEN), group_split, like, left)
    # Else it is bound by itself, and resembles nobody of that split.
    like_id = pc.if_else(pa.array(like >= bound.like), like_id, pa.scalar(None, pa.binary(16)))
    like = like | bound.like
    for bit, reason in ((LIKE_EVAL, Drop.NEAR_EVAL), (LIKE_VAL, Drop.NEAR_VAL)):
        fates, kept_id = _decide(fates, kept_id, np.where(like & bit > 0, drop_code(reason), OPEN), like_id)
    # Copies of a near-duplicate are so too: they name the record that is kept, not the id that they share.
    copies = ~elected & (known.fates == OPEN) & (like < LIKE_VAL)
    near = np.asarray(pc.is_valid(near_of).to_numpy(), bool) & ((fates == OPEN) | copies)
    kept_id = pc.if_else(pa.array(near), near_of, kept_id)
    fates[near] = DUPLICATE
    if rebuild:  # nobody of the group that it was published of says it any more
        others = np.isin(known.splits, (TRAIN, VAL)) & (group_split != OPEN) & (group_split != known.splits)
        away = np.where(known.splits == VAL, drop_code(Drop.NEAR_VAL), drop_code(Drop.NEAR_TRAIN))
        away = np.where((group_split == EVAL) & (not eval_open), drop_code(Drop.GROUP_IN_EVAL), away)
        fates, kept_id = _decide(fates, kept_id, np.where(others, away, OPEN), None)
    for splits in (known.splits, bound.splits):
        fates, kept_id = _decide(fates, kept_id, splits, None)
    group_fate = np.where((group_split == EVAL) & (not eval_open), drop_code(Drop.GROUP_IN_EVAL), group_split)
    torn = like & LIKE_TRAIN > 0
    away = torn & np.isin(group_fate, (VAL, EVAL))
    fates, kept_id = _decide(fates, kept_id, np.where(away, drop_code(Drop.NEAR_TRAIN), OPEN), like_id)
    fates, kept_id = _decide(fates, kept_id, group_fate, None)
    units = verdicts.column("unit").take(place)
    to_train = np.asarray(pc.fill_null(verdicts.column("to_train").take(place), False).to_numpy(), bool)
    to_train = to_train | (bound.like & LIKE_TRAIN > 0)
    alone = np.asarray(pc.is_null(groups).to_numpy(), bool)
    fates, kept_id = _decide(fates, kept_id, np.where(to_train & alone, TRAIN, OPEN), None)
    fallen = elected & (fates >= DROPPED)
    otherwise = np.asarray(pc.fill_null(pc.not_equal(known.kept_id, ids), False).to_numpy(), bool)
    renamed = elected & (known.fates == DUPLICATE) & otherwise
    fates, kept_id = _fall(fates, kept_id, ids, fallen | renamed, ~elected & ~near)
    resembles = pa.array(np.isin(fates, [drop_code(one) for one in (Drop.NEAR_EVAL, Drop.NEAR_VAL, Drop.NEAR_TRAIN)]))
    similarity = pc.if_else(resembles, like_similarity, pa.scalar(1.0, pa.float32()))
    similarity = pc.if_else(pa.array(near), verdicts.column("similarity").take(place), similarity)
    is_open, is_pinned = fates == OPEN, (fates >= 0) & (fates < DUPLICATE)
    owners = pc.coalesce(groups, units, ids)
    bins = np.where(is_pinned, PINNED + fates.astype(np.int32), -1).astype(np.int32)
    bins[is_open] = [bin_of(unit, keys) for unit in owners.filter(pa.array(is_open)).to_pylist()]
    rows = pa.table(
        [
            facts.column("key"),
            ids,
            facts.column("writer"),
            facts.column("line"),
            pa.array(fates),
            pa.array(bins),
            kept_id,
            pc.if_else(pc.is_valid(kept_id), similarity, pa.scalar(None, pa.float32())),
            pa.array(near),
        ],
        schema=SETTLED,
    )
    n_bytes = facts.column("n_bytes")
    is_torn = pa.array(torn & is_open)
    return Settled(
        rows,
        pa.table([ids, pa.array(bins), n_bytes, like_id, like_similarity], schema=TORN).filter(is_torn),
        pa.table([ids, kept_id], names=FOLLOWERS.names).filter(pa.array(near & elected)).cast(FOLLOWERS),
        _drops_of(ids.filter(pa.array(fallen)), [DROPS_BY_CODE[fate - DROPPED] for fate in fates[fallen].tolist()]),
        pa.table([ids, kept_id], names=FOLLOWERS.names).filter(pa.array(renamed)).cast(FOLLOWERS),
        np.bincount(bins[is_open], minlength=BINS).astype(np.int64),
        np.bincount(fates[is_pinned], minlength=len(SPLITS)).astype(np.int64),
        int(n_bytes.to_numpy()[is_open | is_pinned].sum()),
    )


def follow_dropped(followers: pa.Table, gone: pa.Table) -> pa.Table:
    """DROPS of the FOLLOWERS of records that are `gone` (DROPS), for the same reason. They were not counted as kept."""
    place = pc.index_in(followers.column("kept_id"), value_set=gone.column("id"))
    mine = followers.column("id").filter(pc.is_valid(place))
    return _drops_of(mine, gone.column("reason").take(place.drop_null()).to_pylist())


def follow_known(followers: pa.Table, known: pa.Table) -> pa.Table:
    """FOLLOWERS, of the published ones that are meant, where the record that some gave way to is `known` under another id."""
    place = pc.index_in(followers.column("kept_id"), value_set=known.column("id").combine_chunks())
    mine = followers.column("id").filter(pc.is_valid(place))
    return pa.table([mine, known.column("kept_id").take(place.drop_null())], schema=FOLLOWERS)


def _drops_of(ids: pa.ChunkedArray, reasons: Sequence[str]) -> pa.Table:
    """DROPS of records that nothing counted, and that say elsewhere whom they gave way to."""
    nobody = [pa.nulls(len(ids), DROPS.field(name).type) for name in ("kept_id", "similarity")]
    return pa.table(
        [ids, pa.array(reasons, pa.string()), pa.array(np.zeros(len(ids), np.int64)), *nobody], schema=DROPS
    )


def drop_torn(torn: pa.Table, cut: Cut) -> pa.Table:
    """DROPS: the TORN records whose group goes to val or eval."""
    away = torn.filter(pa.array(cut.splits(torn.column("bin").to_numpy().astype(np.int64)) != TRAIN))
    reasons = pa.array([Drop.NEAR_TRAIN.value] * away.num_rows, pa.string())
    met = [away.column(name) for name in ("like_id", "like_similarity")]
    return pa.table([away.column("id"), reasons, away.column("n_bytes"), *met], schema=DROPS)


class _Known(NamedTuple):
    fates: npt.NDArray[np.int8]
    kept_id: pa.ChunkedArray
    splits: npt.NDArray[np.int8]  # where a record belongs that is not a duplicate for being known


def _known(
    facts: pa.Table, published: pa.Table, owned: pa.Table, *, exact: bool, rebuild: bool, decided: pa.Table | None
) -> _Known:
    """Which records are published already, by id or by source id, and as what.

    What was in eval is never in train or val, so copies of it are duplicates even where copies are wanted. To a rebuild
    that, and what stands in the place of a corrected record, is there; all else it reads again.
    """
    by_id = pc.index_in(facts.column("id"), value_set=published.column("id"))
    sources = owned.filter(pc.is_valid(owned.column("id")))
    by_source = pc.index_in(facts.column("source_id"), value_set=sources.column("owner"), skip_nulls=True)
    splits = pc.coalesce(published.column("split").take(by_id), sources.column("split").take(by_source))
    there = np.asarray(pc.fill_null(splits, OPEN).to_numpy(), np.int8)
    by = [rows.column("replaced_by").take(place) for rows, place in ((published, by_id), (sources, by_source))]
    replaced_by = pc.if_else(pc.is_valid(by_id), *by)
    stays = np.zeros(facts.num_rows, bool)
    if decided is not None:
        value_set = decided.column("owner").combine_chunks()
        for name in ("id", "source_id"):
            place = pc.index_in(facts.column(name), value_set=value_set, skip_nulls=True)
            replaced_by = pc.coalesce(replaced_by, decided.column("replaced_by").take(place))
            stays |= np.asarray(pc.is_valid(place).to_numpy(), bool)
    is_copy = (there == EVAL) | ((there != OPEN) & ((exact and not rebuild) | stays))
    fates = np.where(is_copy, DUPLICATE, OPEN).astype(np.int8)
    fates[np.asarray(pc.is_valid(replaced_by).to_numpy(), bool)] = drop_code(Drop.SUPERSEDED)
    same = pc.if_else(pc.is_valid(by_id), facts.column("id"), sources.column("id").take(by_source))
    return _Known(fates, pc.coalesce(replaced_by, same), np.where(is_copy, OPEN, there).astype(np.int8))


def _later(
    facts: pa.Table, published: pa.Table, owned: pa.Table, *, eval_open: bool, rebuild: bool
) -> npt.NDArray[np.int8] | None:
    """int8[N]: which copies are elected before others: those of a group in a frozen eval last; None where none is.

    In a rebuild who is of a group in the split that it was published in comes first, who is of a group in another last.
    """
    if eval_open and not rebuild:
        return None
    splits = _split_of(facts.column("group"), owned)
    later = np.zeros(facts.num_rows, np.int8)
    if rebuild:
        by_id = pc.index_in(facts.column("id"), value_set=published.column("id"))
        there = np.asarray(pc.fill_null(published.column("split").take(by_id), OPEN).to_numpy(), np.int8)
        known = there != OPEN
        later[known] = np.select([splits == there, splits == OPEN], [0, 1], 2)[known]
    if not eval_open:
        later[splits == EVAL] = 3
    return later


def _split_of(groups: pa.ChunkedArray, owned: pa.Table) -> npt.NDArray[np.int8]:
    """int8[N]: the split of each record's group, OPEN where it has none that is published."""
    known = owned.filter(pc.is_null(owned.column("id")))
    place = pc.index_in(groups, value_set=known.column("owner"), skip_nulls=True)
    return np.asarray(pc.fill_null(known.column("split").take(place), OPEN).to_numpy(), np.int8)


def _fall(
    fates: npt.NDArray[np.int8],
    kept_id: pa.ChunkedArray | pa.Array,
    ids: pa.ChunkedArray,
    fallen: npt.NDArray[np.bool_],
    copies: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int8], pa.ChunkedArray | pa.Array]:
    """Fates, where copies of a record that has `fallen`, or is published otherwise, take its fate, with whom that gave way to."""
    place = pc.index_in(ids, value_set=ids.filter(pa.array(fallen)))
    now = copies & np.asarray(pc.is_valid(place).to_numpy(), bool)
    theirs = fates[fallen]
    if now.any():
        fates = fates.copy()
        fates[now] = theirs[place.filter(pa.array(now)).to_numpy()]
    return fates, pc.if_else(pa.array(now), kept_id.filter(pa.array(fallen)).take(place), kept_id)


def _decide(
    fates: npt.NDArray[np.int8],
    kept_id: pa.ChunkedArray | pa.Array,
    more: npt.NDArray[np.integer],
    more_kept: pa.ChunkedArray | None,
) -> tuple[npt.NDArray[np.int8], pa.ChunkedArray | pa.Array]:
    """Fates where the open ones take what `more` says, with whom they gave way to."""
    now = (fates == OPEN) & (more != OPEN)
    if more_kept is not None:
        kept_id = pc.if_else(pa.array(now), more_kept, kept_id)
    return np.where(now, more, fates).astype(np.int8), kept_id
