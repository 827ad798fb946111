"""Verify: candidate pairs become edges only with the Jaccard index that their sketches give.

    pairs by a ──► attach: sketches of a ──► pairs and sides by b ──► compare with the sketches of b ──► edges

Each side of a pair picks up its sketch where the sketches of that segment of ids lie, so no task holds
more than one segment of them. Pairs name records by ref; all records of a ref are compared.

The contract with a refresh: SKETCHES rows of the index are appended to those of the runs, their `published` 0, 1
or 2 (in train, val or eval); two published records are never compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bands import NEW, refs_of
from transforms.compiled import compiled
from transforms.exact import first_of_each, id_words, ranges
from transforms.fingerprints import Fingerprints
from transforms.sketches import ALMOST, Sketches, estimate

# What an edge needs to know of a record, beside the sketches that verify it.
_ABOUT = [
    pa.field("rank", pa.binary(), nullable=False),
    pa.field("group", pa.binary(16)),
    pa.field("n_bytes", pa.int64(), nullable=False),
    pa.field("published", pa.int8(), nullable=False),
]

SKETCHES = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        *_ABOUT,
        pa.field("tie", pa.uint64(), nullable=False),  # the first half; 0 where published
        pa.field("words", pa.list_(pa.uint32()), nullable=False),  # as `transforms.sketches` says
        pa.field("grams", pa.list_(pa.uint32()), nullable=False),
    ]
)

_SIDE = tuple(field.name for field in _ABOUT)

# `similarity` is 1 where all sketches of both are the same, and only there: what holds of one of them holds of the other.
EDGES = pa.schema(
    [
        pa.field("a", pa.binary(16), nullable=False),
        pa.field("b", pa.binary(16), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        *[pa.field(f"{field.name}_{side}", field.type) for side in "ab" for field in _ABOUT],
    ]
)


class Sides(NamedTuple):
    """Sketches of the leaders of pairs, once for each segment that a follower of theirs is in (int64[N])."""

    sketches: pa.Table
    segments: npt.NDArray[np.int64]


def sketch_rows(signed: pa.RecordBatch, prints: Fingerprints) -> pa.RecordBatch:
    """SKETCHES of those new records (SIGNED) that have any."""
    rows, words, grams = sketch_lists(prints)
    columns = {
        "published": pa.array(np.full(len(rows), NEW, np.int8)),
        "tie": pa.array(np.ascontiguousarray(id_words(signed.column("tie"))[rows, 0])),
        "words": words,
        "grams": grams,
    }
    chosen = pa.array(rows)
    arrays = [columns[name] if name in columns else signed.column(name).take(chosen) for name in SKETCHES.names]
    return pa.RecordBatch.from_arrays(arrays, schema=SKETCHES)


def sketch_lists(prints: Fingerprints) -> tuple[npt.NDArray[np.int64], pa.ListArray, pa.ListArray]:
    """int64[M] the rows that have a sketch, and the columns `words` and `grams` of their SKETCHES."""
    both = (prints.words, prints.grams)
    rows = np.flatnonzero(np.diff(both[0].offsets) + np.diff(both[1].offsets))
    # The others have nothing between their bounds.
    words, grams = (
        pa.ListArray.from_arrays(
            pa.array(sets.offsets[np.append(rows, len(sets.offsets) - 1)].astype(np.int32)), pa.array(sets.values)
        )
        for sets in both
    )
    return rows, words, grams


def elect_sketches(sketches: pa.Table) -> pa.Table:
    """One of the SKETCHES of each id, sorted by id: a published one, else the first by rank and tie, as among the records."""
    sketches = sketches.combine_chunks()
    words = id_words(sketches.column("id"))
    order = np.argsort(words[:, 0], kind="stable")
    words = words[order]
    if (words[1:, 0] == words[:-1, 0]).any():  # copies, most often; else the order is known
        keys = [("id", "ascending"), ("published", "descending"), ("rank", "ascending"), ("tie", "ascending")]
        order = pc.sort_indices(sketches.select([name for name, _ in keys]), sort_keys=keys).to_numpy()
    sketches = sketches.take(pa.array(order))
    return sketches.filter(pa.array(first_of_each(sketches.column("id")))).combine_chunks()


def publish_sketches(sketches: pa.Table, records: pa.Table) -> pa.Table:
    """The SKETCHES, each id once, of published records (with `id` and `split`), as the index has them."""
    place = pc.index_in(sketches.column("id"), value_set=records.column("id").combine_chunks())
    chosen = sketches.filter(pc.is_valid(place))
    splits = records.column("split").take(place.drop_null()).combine_chunks()
    columns = {"published": splits, "tie": pa.array(np.zeros(chosen.num_rows, np.uint64))}
    return pa.table(
        [columns[name] if name in columns else chosen.column(name) for name in SKETCHES.names], schema=SKETCHES
    )


def mark_earlier(sketches: pa.Table, before: pa.Table) -> pa.Table:
    """SKETCHES in which new ones tell the split that the same id had before (`before`: published SKETCHES)."""
    place = pc.index_in(sketches.column("id"), value_set=before.column("id").combine_chunks())
    marks = pc.subtract(pa.scalar(NEW - 1, pa.int8()), before.column("published").take(place))
    is_new = pc.less(sketches.column("published"), 0)
    published = pc.if_else(pc.and_(is_new, pc.is_valid(marks)), marks, sketches.column("published"))
    return sketches.set_column(sketches.schema.get_field_index("published"), SKETCHES.field("published"), published)


def sketch_refs(sketches: pa.Table | pa.RecordBatch) -> npt.NDArray[np.uint32]:
    """uint32[N]: the ref of each of SKETCHES."""
    return refs_of(id_words(sketches.column("id"))[:, 0])


def attach_sketches(pairs: pa.Table, sketches: pa.Table, segments: int) -> Sides:
    """The sketches of the leaders of sorted PAIRS; `sketches` holds each once, sorted by id. Raises KeyError where one is missing."""
    bits = segments.bit_length() - 1
    leaders, followers = (pairs.column(name).to_numpy() for name in ("a", "b"))
    targets = followers >> np.uint32(1) >> np.uint32(31 - bits)  # no shift by 32, which is undefined
    fresh = np.ones(len(leaders), bool)
    fresh[1:] = (leaders[1:] != leaders[:-1]) | (targets[1:] != targets[:-1])
    first, last = _rows_of(sketches, leaders[fresh])
    chosen = sketches.take(pa.array(ranges(first, last)))
    return Sides(chosen, np.repeat(targets[fresh].astype(np.int64), last - first))


def compare_pairs(pairs: pa.Table, left: pa.Table, right: pa.Table, threshold: float) -> pa.Table:
    """EDGES for the PAIRS whose Jaccard index is at least `threshold`.

    `left` holds the SKETCHES of every `a`, `right` of every `b`, each id once, sorted. Raises KeyError where one
    is missing.
    """
    bounds = [_rows_of(sketches, pairs.column(side).to_numpy()) for side, sketches in (("a", left), ("b", right))]
    (first_a, last_a), (first_b, last_b) = bounds
    published = [sketches.column("published").to_numpy() for sketches in (left, right)]
    most = int(((last_a - first_a) * (last_b - first_b)).sum())
    rows, similarity = np.empty((2, most), np.int64), np.empty(most, np.float64)
    found = _compare(
        np.stack([first_a, last_a, first_b, last_b]), published[0], published[1],
        sets_of(left, "words"), sets_of(left, "grams"), sets_of(right, "words"), sets_of(right, "grams"),
        threshold, rows, similarity,
    )  # fmt: skip
    a, b = pa.array(rows[0, :found]), pa.array(rows[1, :found])
    columns = [
        left.column("id").take(a),
        right.column("id").take(b),
        pa.array(similarity[:found], pa.float32()),
        *(left.column(name).take(a) for name in _SIDE),
        *(right.column(name).take(b) for name in _SIDE),
    ]
    return pa.table(columns, schema=EDGES)


def drop_implied(edges: pa.Table) -> pa.Table:
    """EDGES, all that there are of every `b`, without those that follow from others.

    A new record with the same sketches as an earlier new one (similarity 1) keeps its edge to the first of these alone:
    they share all bands, so whatever else it met, that one met too.
    """
    new = pc.and_(*(pc.less(edges.column(f"published_{side}"), 0) for side in "ab"))
    copies = edges.filter(pc.and_(new, pc.equal(edges.column("similarity"), 1.0)))
    if copies.num_rows == 0:
        return edges
    order = [(name, "ascending") for name in ("b", "rank_a", "a")]
    copies = copies.take(pc.sort_indices(copies.select(["b", "rank_a", "a"]), sort_keys=order)).combine_chunks()
    copies = copies.filter(pa.array(first_of_each(copies.column("b"))))
    others = edges.filter(pc.invert(pc.is_in(edges.column("b"), value_set=copies.column("b").combine_chunks())))
    return pa.concat_tables([others, copies]).combine_chunks()


def sets_of(sketches: pa.Table, name: str) -> Sketches:
    """The `words` or `grams` of SKETCHES."""
    column = sketches.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # what combine_chunks gives for no chunk
        return Sketches(np.zeros(1, np.int64), np.zeros(0, np.uint32))
    return Sketches(column.offsets.to_numpy().astype(np.int64), column.values.to_numpy())


def _rows_of(sketches: pa.Table, refs: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64[N] each: the first row of the sorted sketches with each ref, and the row after the last."""
    mine = sketch_refs(sketches)
    slots = np.full(1 << max(4, (2 * len(mine)).bit_length()), -1, np.int64)
    first, last = np.empty((2, len(refs)), np.int64)
    missing = _find_rows(mine, refs, slots, first, last)
    if missing:
        raise KeyError(f"{missing} candidates have no sketch")
    return first, last


@compiled
def _find_rows(
    mine: npt.NDArray[np.uint32],
    refs: npt.NDArray[np.uint32],
    slots: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> int:
    """Puts the rows of each ref among `mine`, which are sorted; returns how many have none.

    `slots` are -1, a power of two of them; far more refs are asked for than there are, so a table beats bisection.
    """
    mask = np.uint64(len(slots) - 1)
    for row in range(len(mine)):
        if row and mine[row] == mine[row - 1]:
            continue
        at = _slot(mine[row], mask)
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = row
    missing = 0
    for one in range(len(refs)):
        ref = refs[one]
        at = _slot(ref, mask)
        while slots[at] >= 0 and mine[slots[at]] != ref:
            at = (at + np.uint64(1)) & mask
        row = slots[at]
        first[one] = row
        if row < 0:
            missing += 1
            continue
        while row < len(mine) and mine[row] == ref:
            row += 1
        last[one] = row
    return missing


@compiled
def _slot(ref: np.uint32, mask: np.uint64) -> np.uint64:
    return np.uint64((np.uint64(ref) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask


@compiled
def similarity_of(
    words: Sketches, grams: Sketches, a: int, other_words: Sketches, other_grams: Sketches, b: int
) -> float:
    """The Jaccard index of records `a` and `b`: of their words where both have them, else of their grams."""
    in_words = words.offsets[a] < words.offsets[a + 1] and other_words.offsets[b] < other_words.offsets[b + 1]
    if in_words:
        left, right = words, other_words
    else:
        left, right = grams, other_grams
    index = estimate(
        left.values, left.offsets[a], left.offsets[a + 1], right.values, right.offsets[b], right.offsets[b + 1]
    )
    if index == 1.0:
        same = _same(grams, a, other_grams, b) if in_words else _same(words, a, other_words, b)
        return index if same else ALMOST
    return index


@compiled
def _same(left: Sketches, a: int, right: Sketches, b: int) -> bool:
    """Whether two sketches are the same."""
    start, first = left.offsets[a], right.offsets[b]
    count = left.offsets[a + 1] - start
    if right.offsets[b + 1] - first != count:
        return False
    place = 0
    while place < count and left.values[start + place] == right.values[first + place]:
        place += 1
    return bool(place == count)


@compiled
def _compare(
    bounds: npt.NDArray[np.int64],
    published: npt.NDArray[np.int8],
    other_published: npt.NDArray[np.int8],
    words: Sketches,
    grams: Sketches,
    other_words: Sketches,
    other_grams: Sketches,
    threshold: float,
    rows: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float64],
) -> int:
    """Puts the rows and the similarity of those pairs that reach the threshold; returns their number."""
    found = 0
    for pair in range(bounds.shape[1]):
        for a in range(bounds[0, pair], bounds[1, pair]):
            for b in range(bounds[2, pair], bounds[3, pair]):
                if published[a] >= 0 and other_published[b] >= 0:
                    continue
                index = similarity_of(words, grams, a, other_words, other_grams, b)
                if index >= threshold:
                    rows[0, found], rows[1, found], similarity[found] = a, b, index
                    found += 1
    return found
