"""Search: look-alikes of val and eval among all records, where bands are too crowded for every pair to be made.

Bands of up to 17 records have all their pairs verified (`transforms.candidates`); what resembles a held-out
record there is an edge of the cluster stage. Here the members of more crowded bands are gone through, once
it is known who is held out: each record meets every held-out member of its bands, until one is found that it
resembles: one is enough to lose its place. So a family costs its size times the part of it that is held out,
at some nanoseconds a pair, and nobody more than `MOST_MET` pairs.

Of thousands of estimates the highest are too high by chance, and in a family below the threshold they would reach it. So
where a record meets `FEW_MET` and more, an estimate has to stand out from those that it has with its crowd, as chance
hardly ever does. Whole sets, which are compared exactly, need not, nor does a family whose members mostly reach the
threshold.

    crowds, seats, sketches ─ hold_out (a segment) ─► held ─ bar (a segment) ─► resolve: val gives way to eval ─► held
                                                                                  train ─ search (a segment) ─► drops

Before all that new records that would be held out give way to published train that they resemble (`bar_newcomers`).

A sample of held-out records is compared with every record, band or none: `recall` says of how many of the look-alikes that
this finds one was left out or both are in one split, as bands put those that they find in one unit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.compiled import compiled, signed
from transforms.exact import among_ids, id_words, ranges
from transforms.reasons import Drop
from transforms.shingles import mix
from transforms.sketches import BITS, EXACT, Sketches
from transforms.split import DROPS, EVAL, TRAIN, VAL, Cut, drop_lookalikes
from transforms.verify import sets_of, similarity_of, sketch_refs

# The bin of each kept record, by the first half of its id.
SEATS = pa.schema([pa.field("word", pa.uint64(), nullable=False), pa.field("bin", pa.int32(), nullable=False)])

# Held-out records that look-alikes are searched for.
HELD = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
        pa.field("published", pa.int8(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("sampled", pa.bool_(), nullable=False),
        pa.field("bands", pa.list_(pa.uint64()), nullable=False),  # the crowded ones
        pa.field("words", pa.list_(pa.uint32()), nullable=False),
        pa.field("grams", pa.list_(pa.uint32()), nullable=False),
    ]
)

_REASONS = {TRAIN: Drop.NEAR_TRAIN, VAL: Drop.NEAR_VAL, EVAL: Drop.NEAR_EVAL}  # by the split of what is resembled
MOST_MET = 1 << 17  # pairs a record, a millisecond
FEW_MET = 32  # pairs a record, of which none is too high by chance
_SPREAD = 512  # pairs, about, that a record's estimates are judged by
SAMPLE = 64  # held-out records that recall is measured with


def sample_of(segment: int, segments: int) -> int:
    """Records of a segment that are sampled: of all segments `SAMPLE`, however many there are.

    >>> sum(sample_of(segment, 4096) for segment in range(4096)), sample_of(0, 16)
    (64, 4)
    """
    return (segment + 1) * SAMPLE // segments - segment * SAMPLE // segments


def in_sample(words: npt.NDArray[np.uint64], sample: int) -> npt.NDArray[np.int64]:
    """int64[M]: the rows of at most `sample` ids that their first halves choose, whatever order they are in.

    By a hash: neighbours by id, as the parts of a divided unit are, may all be in one split.
    """
    return np.argsort(mix(words), kind="stable")[:sample]


@compiled
def first_alike(
    words: Sketches,
    grams: Sketches,
    row: int,
    other_words: Sketches,
    other_grams: Sketches,
    rows: npt.NDArray[np.int64],
    threshold: float,
) -> int:
    """The first of `rows` whose sketches resemble those of `row` by `threshold`; -1 where none does."""
    for other in rows:
        if similarity_of(words, grams, row, other_words, other_grams, other) >= threshold:
            return int(other)
    return -1


@compiled
def similarities(
    words: Sketches,
    grams: Sketches,
    row: int,
    other_words: Sketches,
    other_grams: Sketches,
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """float64[N]: how much the sketches of each of `rows` resemble those of `row`."""
    found = np.empty(len(rows), np.float64)
    for place, other in enumerate(rows):
        found[place] = similarity_of(words, grams, row, other_words, other_grams, other)
    return found


def bar_newcomers(newcomers: pa.Table, crowds: pa.Table, sketches: pa.Table, threshold: float) -> pa.Table:
    """DROPS of `newcomers` (HELD) that resemble one of a segment in their crowds that is, or was, published in train.

    `crowds` are those of the segment, sorted, `sketches` those of its records in crowds, elected.
    """
    published = sketches.column("published").to_numpy()
    peers = _with_bands(sketches.filter(pa.array((published == TRAIN) | (published == -2 - TRAIN))), crowds)
    peers = peers.append_column("split", pa.array(np.full(peers.num_rows, TRAIN, np.int8)))
    return _drops(newcomers, peers, _search(newcomers, peers, np.arange(peers.num_rows), threshold))


class Found(NamedTuple):
    """DROPS, and what a search tells of itself."""

    drops: pa.Table
    unsearched: int  # records that met `MOST_MET` and have not met all
    sampled: int  # look-alikes of sampled records
    recalled: int  # of these, the ones that are left out or in one split with it


def seats_of(settled: pa.Table) -> pa.Table:
    """SEATS, sorted, of the records that stay among rows with `id` and `bin` (-1: left out)."""
    bins = settled.column("bin").to_numpy()
    words = id_words(settled.column("id"))[:, 0]
    stays = np.flatnonzero(bins >= 0)
    order = stays[np.argsort(words[stays], kind="stable")]
    return pa.table([pa.array(words[order]), pa.array(bins[order])], schema=SEATS)


def seat_splits(seats: pa.Table, cut: Cut) -> npt.NDArray[np.int8]:
    """int8[N]: the split of each of SEATS."""
    return cut.splits(seats.column("bin").to_numpy().astype(np.int64))


def splits_of_words(words: npt.NDArray[np.uint64], seats: pa.Table, cut: Cut) -> npt.NDArray[np.int8]:
    """int8[N]: the split of the record whose id begins with each word; -1 where it has no seat. `seats` are sorted."""
    seated = seats.column("word").to_numpy()
    splits = np.full(len(words), -1, np.int8)
    if len(seated):
        place = np.minimum(np.searchsorted(seated, words), len(seated) - 1)
        has = seated[place] == words
        splits[has] = seat_splits(seats, cut)[place[has]]
    return splits


def hold_out(crowds: pa.Table, seats: pa.Table, sketches: pa.Table, cut: Cut, sample: int) -> pa.Table:
    """HELD: val and eval records of a segment that are in crowds, and `sample` of those that have a sketch.

    `sketches` are elected, of all that are in crowds or seated in val or eval. A published record is in its split.
    """
    splits = _splits_of(sketches, seats, cut)
    held = splits > TRAIN
    in_crowd = np.isin(sketch_refs(sketches), crowds.column("ref").to_numpy())
    sampled = np.zeros(len(held), bool)
    new = np.flatnonzero(held & (sketches.column("published").to_numpy() < 0))
    sampled[new[in_sample(id_words(sketches.column("id"))[new, 0], sample)]] = True
    rows = np.flatnonzero((held & in_crowd) | sampled)
    chosen = _with_bands(sketches.take(pa.array(rows)), crowds)
    columns = {"split": pa.array(splits[rows]), "sampled": pa.array(sampled[rows])}
    return pa.table(
        [columns[name] if name in columns else chosen.column(name) for name in HELD.names], schema=HELD
    ).combine_chunks()


def resolve_held(
    held: pa.Table, cross: pa.Table, seats: pa.Table, cut: Cut, threshold: float, near_train: pa.Table
) -> tuple[pa.Table, pa.Table]:
    """(HELD that stay, sorted; DROPS of new records that `cross` edges or, if they are held, crowds tell to give way).

    Val gives way to eval first, so that who is dropped costs nobody in train their place; before that, those in
    `near_train` (DROPS) have given way to what is published. `seats` are those of the records in `cross`.
    """
    held = held.take(pa.array(np.lexsort(id_words(held.column("id")).T[::-1]))).combine_chunks()
    ids, splits = id_words(held.column("id")), held.column("split").to_numpy()
    first, second = (splits_of_words(id_words(cross.column(side))[:, 0], seats, cut) for side in "ab")
    near_eval = drop_lookalikes(cross, (first, second), EVAL, id_words(near_train.column("id")))
    gone = among_ids(ids, np.concatenate([id_words(one.column("id")) for one in (near_train, near_eval)]))
    asked = (splits == VAL) & (held.column("published").to_numpy() < 0) & ~gone
    found = _search(held.filter(pa.array(asked)), held, np.flatnonzero(splits == EVAL), threshold)
    in_crowds = _drops(held.filter(pa.array(asked)), held, found)
    gone[np.flatnonzero(asked)[found.rows >= 0]] = True
    before = np.concatenate([id_words(one.column("id")) for one in (near_train, near_eval, in_crowds)])
    near_val = drop_lookalikes(cross, (first, second), VAL, before)
    return held.filter(pa.array(~gone)).combine_chunks(), pa.concat_tables([near_train, near_eval, in_crowds, near_val])


def search_segment(
    crowds: pa.Table, seats: pa.Table, sketches: pa.Table, held: pa.Table, cut: Cut, gone: npt.NDArray[np.uint64],
    threshold: float,
) -> Found:  # fmt: skip
    """DROPS of the train records of a segment that resemble a held-out one of their crowds.

    `sketches` are all of the segment, elected; `gone` uint64[N, 2] ids that are dropped already.
    """
    splits = _splits_of(sketches, seats, cut)
    new = sketches.column("published").to_numpy() < 0
    ids = id_words(sketches.column("id"))
    dropped = among_ids(ids, gone)
    crowd = np.isin(sketch_refs(sketches), crowds.column("ref").to_numpy())
    asked = np.flatnonzero((splits == TRAIN) & new & ~dropped & crowd)
    askers = _with_bands(sketches.take(pa.array(asked)), crowds)
    found = _search(askers, held, np.flatnonzero(held.column("split").to_numpy() > TRAIN), threshold)
    drops = _drops(askers, held, found)
    dropped[asked[found.rows >= 0]] = True
    sampled = held.filter(held.column("sampled")).combine_chunks()
    return Found(drops, found.cut_short, *_recall(sketches, np.where(new, splits, -1), dropped, sampled, threshold))


def _splits_of(sketches: pa.Table, seats: pa.Table, cut: Cut) -> npt.NDArray[np.int8]:
    """int8[N]: the split of each of SKETCHES; -1 where it has no seat. Published ones keep theirs."""
    published = sketches.column("published").to_numpy()
    splits = splits_of_words(id_words(sketches.column("id"))[:, 0], seats, cut)
    return np.asarray(np.where(published >= 0, published, splits), np.int8)


def _with_bands(sketches: pa.Table, crowds: pa.Table) -> pa.Table:
    """SKETCHES with the list of their crowded bands."""
    refs, bands = crowds.column("ref").to_numpy(), crowds.column("band").to_numpy()
    mine = sketch_refs(sketches)
    first, last = np.searchsorted(refs, mine, "left"), np.searchsorted(refs, mine, "right")
    offsets = np.concatenate(([0], np.cumsum(last - first)))
    places = ranges(first, last)
    lists = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(bands[places]))
    return sketches.append_column("bands", lists)


class _Met(NamedTuple):
    """int64[N] the held row that each asker resembles, eval first, -1 for none; float32[N] how much; how many were cut short."""

    rows: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    cut_short: int


def _drops(askers: pa.Table, held: pa.Table, met: _Met) -> pa.Table:
    """DROPS of the askers that resemble one who is held out, by the split of that one."""
    near = np.flatnonzero(met.rows >= 0)
    rows, alike = askers.take(pa.array(near)), held.take(pa.array(met.rows[near]))
    reasons = pa.array([_REASONS[code].value for code in alike.column("split").to_pylist()], pa.string())
    similarity = pa.array(met.similarity[near])
    return pa.table([rows.column("id"), reasons, rows.column("n_bytes"), alike.column("id"), similarity], schema=DROPS)


def _bands_of(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    column = rows.column("bands").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        return np.zeros(1, np.int64), np.zeros(0, np.uint64)
    return column.offsets.to_numpy().astype(np.int64), column.values.to_numpy()


def _search(askers: pa.Table, held: pa.Table, wanted: npt.NDArray[np.int64], threshold: float) -> _Met:
    """What each asker resembles of the held rows that are `wanted`."""
    offsets, bands = _bands_of(held)
    counts = np.diff(offsets)[wanted]
    rows = np.repeat(wanted, counts)
    starts = np.repeat(offsets[wanted] - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    values = bands[starts + np.arange(len(rows))] if len(rows) else bands[:0]
    codes = held.column("split").to_numpy()[rows]
    order = np.lexsort((rows, -codes, values))
    values, rows = values[order], rows[order]
    own_offsets, own_bands = _bands_of(askers)
    first, last = np.searchsorted(values, own_bands, "left"), np.searchsorted(values, own_bands, "right")
    found, similarity = np.full(askers.num_rows, -1, np.int64), np.zeros(askers.num_rows, np.float32)
    cut_short = _first_alike(
        own_offsets, first, last, rows, held.column("split").to_numpy(), np.zeros(held.num_rows, np.int64),
        sets_of(askers, "words"), sets_of(askers, "grams"), sets_of(held, "words"), sets_of(held, "grams"),
        threshold, found, similarity,
    )  # fmt: skip
    return _Met(found, similarity, int(cut_short))


@compiled
def _first_alike(
    offsets: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int8],
    seen: npt.NDArray[np.int64],
    words: Sketches,
    grams: Sketches,
    held_words: Sketches,
    held_grams: Sketches,
    threshold: float,
    found: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float32],
) -> int:
    """Puts the first held row that each asker resembles, of all its bands, and how much: of eval, else of val, else of train;
    how many were cut short."""
    cut_short = 0
    for asker in range(len(found)):
        met, limit = 0, 0.0
        for code in (EVAL, VAL, TRAIN):
            for band in range(offsets[asker], offsets[asker + 1]):
                if found[asker] >= 0 or met > MOST_MET:
                    break
                for place in range(first[band], last[band]):
                    other = rows[place]
                    if splits[other] != code or seen[other] == asker + 1:
                        continue
                    seen[other] = asker + 1
                    met += 1
                    index = similarity_of(words, grams, asker, held_words, held_grams, other)
                    alike = index >= threshold
                    if alike and not _are_whole(words, grams, asker, held_words, held_grams, other):
                        if limit == 0.0:
                            own = slice(offsets[asker], offsets[asker + 1])
                            limit = _limit(
                                words, grams, asker, held_words, held_grams, first[own], last[own], rows, threshold
                            )
                        alike = index >= limit
                    if alike:
                        found[asker], similarity[asker] = other, index
                        break
                    if met > MOST_MET:
                        break
        cut_short += found[asker] < 0 and met > MOST_MET
    return cut_short


@compiled
def _are_whole(words: Sketches, grams: Sketches, a: int, other_words: Sketches, other_grams: Sketches, b: int) -> bool:
    """Whether `similarity_of` compares whole sets."""
    in_words = words.offsets[a] < words.offsets[a + 1] and other_words.offsets[b] < other_words.offsets[b + 1]
    if in_words:
        left, right = words, other_words
    else:
        left, right = grams, other_grams
    return bool(left.offsets[a + 1] - left.offsets[a] <= EXACT and right.offsets[b + 1] - right.offsets[b] <= EXACT)


@compiled
def _limit(
    words: Sketches,
    grams: Sketches,
    asker: int,
    held_words: Sketches,
    held_grams: Sketches,
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    threshold: float,
) -> float:
    """What a record's estimates have to reach in its crowd: `threshold`, or more where chance alone may reach that.

    An odd sketch errs by the shingles that fall on each other's bits, some d^2 / (2 BITS) pairs of the d that are in one
    set only, as Poisson's law has it. By Bernstein's inequality (Boucheron, Lugosi, Massart, *Concentration Inequalities*,
    section 2.8) the highest of n is above the mean by sqrt(2 L) + L / (3 sqrt(pairs)) standard deviations once in twenty
    times at most, where L = ln(20 n).
    """
    tries = 0
    for band in range(len(first)):
        tries += last[band] - first[band]
    if tries < FEW_MET:
        return threshold
    step, at = max(1, tries // _SPREAD), 0
    count, below, total, squares = 0, 0, 0.0, 0.0
    for band in range(len(first)):
        while at < last[band] - first[band]:
            index = similarity_of(words, grams, asker, held_words, held_grams, rows[first[band] + at])
            count += 1
            if index < threshold:
                below += 1
                total += index
                squares += index * index
            at += step
        at -= last[band] - first[band]
    if 2 * below < count:
        return threshold
    mean = total / below
    spread = math.sqrt(max(squares / below - mean * mean, 0.0))
    own = words if words.offsets[asker] < words.offsets[asker + 1] else grams
    size = own.offsets[asker + 1] - own.offsets[asker]
    if size > EXACT:
        size = signed(own.values[own.offsets[asker] + 1])
    apart = 2 * size * (1 - mean) / (1 + mean)
    pairs, often = max(apart * apart / (2 * BITS), 0.1), math.log(20.0 * tries)
    return max(threshold, mean + spread * (math.sqrt(2 * often) + often / (3 * math.sqrt(pairs))))


def _recall(
    sketches: pa.Table,
    splits: npt.NDArray[np.integer],
    dropped: npt.NDArray[np.bool_],
    sampled: pa.Table,
    threshold: float,
) -> tuple[int, int]:
    """(look-alikes of sampled records among those with a split, how many of them do no harm), all compared with all."""
    pairs, harmless = _count_pairs(
        id_words(sketches.column("id"))[:, 0], splits.astype(np.int8), dropped,
        id_words(sampled.column("id"))[:, 0], sampled.column("split").to_numpy(),
        sets_of(sketches, "words"), sets_of(sketches, "grams"), sets_of(sampled, "words"), sets_of(sampled, "grams"),
        threshold,
    )  # fmt: skip
    return int(pairs), int(harmless)


@compiled
def _count_pairs(
    ids: npt.NDArray[np.uint64],
    splits: npt.NDArray[np.int8],
    dropped: npt.NDArray[np.bool_],
    held_ids: npt.NDArray[np.uint64],
    held_splits: npt.NDArray[np.int8],
    words: Sketches,
    grams: Sketches,
    held_words: Sketches,
    held_grams: Sketches,
    threshold: float,
) -> tuple[int, int]:
    """Pairs of a record and a held-out one that are alike, and those of them that are in one split or lost a record."""
    pairs = harmless = 0
    for row in range(len(splits)):
        if splits[row] < 0:
            continue
        for other in range(len(held_splits)):
            if ids[row] == held_ids[other]:
                continue
            if similarity_of(words, grams, row, held_words, held_grams, other) >= threshold:
                pairs += 1
                harmless += dropped[row] or splits[row] == held_splits[other]
    return pairs, harmless
