"""Verify: candidate pairs become edges only with the Jaccard index of their shingle sets, computed exactly.

    pairs by a ──► attach: sketches of a ──► pairs and sides by b ──► compare with the sketches of b ──► edges

Each side of a pair picks up its sketch where the sketches of that segment of ids lie, so no task holds
more than one segment of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.candidates import PAIRS
from transforms.exact import first_of_each
from transforms.shingles import jaccard

# What an edge needs to know of a record, beside the shingle set that verifies it.
_ABOUT = [
    pa.field("rank", pa.binary(), nullable=False),
    pa.field("tie", pa.binary(16), nullable=False),
    pa.field("group", pa.binary(16)),
    pa.field("n_bytes", pa.int64(), nullable=False),
]

SKETCHES = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        *_ABOUT,
        pa.field("shingles", pa.list_(pa.uint64()), nullable=False),
    ]
)

_SIDE = ("rank", "group", "n_bytes")

EDGES = pa.schema(
    [
        *PAIRS,
        pa.field("similarity", pa.float32(), nullable=False),
        *[pa.field(f"{name}_{side}", SKETCHES.field(name).type) for side in "ab" for name in _SIDE],
    ]
)


class Sides(NamedTuple):
    """Pairs, and the sketches of their first records, each once."""

    pairs: pa.Table
    sketches: pa.Table


def elect_sketches(sketches: pa.Table) -> pa.Table:
    """One of the SKETCHES of each id: the first by rank and tie, as among the records."""
    order = [("id", "ascending"), ("rank", "ascending"), ("tie", "ascending")]
    sketches = sketches.take(pc.sort_indices(sketches.select(["id", "rank", "tie"]), sort_keys=order))
    return sketches.filter(pa.array(first_of_each(sketches.column("id")))).combine_chunks()


def distinct_pairs(pairs: pa.Table) -> pa.Table:
    """PAIRS without repetition, sorted."""
    return pairs.group_by(["a", "b"]).aggregate([]).sort_by([("a", "ascending"), ("b", "ascending")])


def compare_pairs(pairs: pa.Table, left: pa.Table, right: pa.Table, threshold: float) -> pa.Table:
    """EDGES for the distinct PAIRS whose Jaccard index is at least `threshold`.

    `left` holds the SKETCHES of every `a`, `right` of every `b`, each id once. Raises KeyError where one is missing.
    """
    place_a = _places(left, pairs.column("a"))
    place_b = _places(right, pairs.column("b"))
    sets_a, sets_b = _sets(left), _sets(right)
    similarity = np.fromiter(
        (jaccard(sets_a[a], sets_b[b]) for a, b in zip(place_a, place_b, strict=True)), np.float64, len(place_a)
    )
    alike = similarity >= threshold
    columns = [
        *(pairs.column(name).filter(pa.array(alike)) for name in ("a", "b")),
        pa.array(similarity[alike], pa.float32()),
        *(left.column(name).take(pa.array(place_a[alike])) for name in _SIDE),
        *(right.column(name).take(pa.array(place_b[alike])) for name in _SIDE),
    ]
    return pa.table(columns, schema=EDGES)


def _places(sketches: pa.Table, ids: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64[N]: the row of each id among the sketches."""
    places = pc.index_in(ids, value_set=sketches.column("id"))
    if places.null_count:
        raise KeyError(f"{places.null_count} candidates have no sketch")
    return np.asarray(places.to_numpy(), np.int64)


def _sets(sketches: pa.Table) -> list[np.ndarray[tuple[int], np.dtype[np.uint64]]]:
    """The shingle set of each row, as views."""
    column = sketches.column("shingles").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        return []
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy()
    return [values[start:end] for start, end in zip(offsets[:-1], offsets[1:], strict=True)]
