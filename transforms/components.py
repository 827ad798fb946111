"""Components: which edges must meet, where clusters are found in parts.

    edges of a segment of followers ─ forest ─┐                     ┌─ by part
    edges of a segment of followers ─ forest ─┼─ join ─ labels ─ route ─ by part
    …                                         ┘            of leaders

An edge goes where its leader is. So forests tell of leaders alone: a follower that leads nobody joins those that it
follows, and a leader that no other is joined with has no label but itself. What the join holds is thus far less than
the records that resemble another: neither pairs nor families, whose leaders are few, are in it with all their records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.bands import refs_of
from transforms.compiled import compiled
from transforms.exact import id_words, ids_of
from transforms.numbering import Numbering
from transforms.shingles import mix

# The smallest id of the component of a record; the record itself where there is no row of it.
LABELS = pa.schema([pa.field("id", pa.binary(16), nullable=False), pa.field("label", pa.binary(16), nullable=False)])

ROWS = 65_536  # at a time


def forest_of(edges: pa.Table, leads: npt.NDArray[np.uint32]) -> pa.Table:
    """LABELS of the leaders that EDGES join, all that there are of every `b`; `leads` holds the refs of the `b` that lead."""
    edges = edges.combine_chunks()
    leaders, followers = (id_words(edges.column(side)) for side in "ab")
    numbers = Numbering().number(followers)
    firsts = np.empty_like(leaders)
    firsts[numbers[::-1]] = leaders[::-1]  # the one that is put last stays: the first that a follower meets
    heads = np.where(np.isin(refs_of(followers[:, 0]), leads)[:, None], followers, firsts[numbers])
    return pa.Table.from_batches(join_labels([_batch(leaders, heads)]), LABELS)


def join_labels(forests: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """LABELS of the components that LABELS of parts of the edges make together, some at a time; in any tree of calls.

    Holds some 50 bytes for each record that has a label, or is one.
    """
    numbering, parents = Numbering(), np.zeros(0, np.int32)
    for batch in forests:
        sides = [numbering.number(id_words(batch.column(name))) for name in LABELS.names]
        if len(parents) < len(numbering):
            wider = np.arange(2 * len(numbering), dtype=np.int32)
            wider[: len(parents)] = parents
            parents = wider
        _unite(parents, *sides)
    ids = numbering.ids
    smallest = np.arange(len(ids), dtype=np.int32)
    _put_smallest(parents, ids, smallest)
    for start in range(0, len(ids), ROWS):
        own = slice(start, start + ROWS)
        label = smallest[parents[own][: len(ids[own])]]
        other = label != np.arange(len(ids))[own]
        yield _batch(ids[own][other], ids[label[other]])


def roots_of(count: int, ones: npt.NDArray[np.int32], others: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """int32[`count`]: the smallest number of the component of each, where each of `ones` is joined with that of `others`
    beside it."""
    parents = np.arange(count, dtype=np.int32)
    _unite(parents, ones, others)
    _put_roots(parents)
    return parents


def label_keys(edges: pa.Table, labels: pa.Table) -> npt.NDArray[np.uint64]:
    """uint64[N]: the same for all EDGES of a component. `labels` are the LABELS of their leaders."""
    numbering = Numbering()
    known = numbering.number(id_words(labels.column("id")))
    numbers = numbering.number(id_words(edges.column("a")))
    words = numbering.ids[:, 0].copy()
    words[known] = id_words(labels.column("label"))[:, 0]
    return mix(words[numbers])


def _batch(ids: npt.NDArray[np.uint64], labels: npt.NDArray[np.uint64]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids_of(ids), ids_of(labels)], schema=LABELS)


@compiled
def _root(parents: npt.NDArray[np.int32], one: int) -> int:
    """The root of a tree, whose paths get shorter on the way."""
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one


@compiled
def _unite(parents: npt.NDArray[np.int32], ones: npt.NDArray[np.int32], others: npt.NDArray[np.int32]) -> None:
    """Makes one tree of those of each of `ones` and the one of `others` beside it."""
    for row in range(len(ones)):
        one, other = _root(parents, ones[row]), _root(parents, others[row])
        if one < other:
            parents[other] = one
        else:
            parents[one] = other


@compiled
def _put_roots(parents: npt.NDArray[np.int32]) -> None:
    """Puts each one's root for its parent."""
    for one in range(len(parents)):
        parents[one] = _root(parents, one)


@compiled
def _put_smallest(parents: npt.NDArray[np.int32], ids: npt.NDArray[np.uint64], smallest: npt.NDArray[np.int32]) -> None:
    """Puts each record's root for its parent, and for each root the record of its tree that has the smallest id."""
    for one in range(len(ids)):
        root = _root(parents, one)
        parents[one] = root
        best = smallest[root]
        if ids[one, 0] < ids[best, 0] or (ids[one, 0] == ids[best, 0] and ids[one, 1] < ids[best, 1]):
            smallest[root] = one
