"""Cluster: verified edges become duplicates with the record that each gave way to, and units of splitting.

Duplicates: records in the order of rank and id; one stays unless it is at least `threshold` like one that
stays already. So nothing chains: whoever is dropped resembles, verifiably, somebody who is kept.

Copies, new records whose sketches are the same, are one record here: what becomes of the first of them becomes of the
others, which give way to it where it is kept. So nobody needs the edges of all of them.

Edges are read a batch at a time and held as numbers, 12 bytes each beside what is known of each record.

Units: kept records that are joined by look-alikes at `leak_threshold` go to one split together. A unit
above a hundredth of the corpus is divided; look-alikes in two parts are then told apart by the split.

Published records come first in the order, are kept and stay in their split: they are in no unit with new
ones. `like` says which splits a new record has published look-alikes in; one that is like val or eval is
neither kept nor anybody's duplicate here, and takes no part in units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from transforms.compiled import compiled
from transforms.exact import id_words, ids_of
from transforms.numbering import Numbering
from transforms.verify import EDGES

# What is known of a new record that resembles another; all others are kept and units of their own.
VERDICTS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("kept_id", pa.binary(16)),  # null: the record is kept, unless `like` says otherwise
        pa.field("similarity", pa.float32()),
        pa.field("unit", pa.binary(16)),  # null where it is dropped, or a group decides
        pa.field("like", pa.int8(), nullable=False),  # splits of its published look-alikes, as the sum of `LIKE`
        pa.field("to_train", pa.bool_(), nullable=False),  # a record of its unit resembles a published one in train
    ]
)

# Look-alikes that are kept in different units, which may turn out to be in different splits. All new.
CROSS = pa.schema(
    [
        pa.field("a", pa.binary(16), nullable=False),
        pa.field("b", pa.binary(16), nullable=False),
        pa.field("unit_a", pa.binary(16), nullable=False),
        pa.field("unit_b", pa.binary(16), nullable=False),
        pa.field("n_bytes_a", pa.int64(), nullable=False),
        pa.field("n_bytes_b", pa.int64(), nullable=False),
    ]
)

LIKE_TRAIN, LIKE_VAL, LIKE_EVAL = LIKE = (1, 2, 4)  # by split

DIVIDED_SHARE = 0.01  # of the corpus: a larger unit is divided
DIVIDED_FLOOR = 100  # records: a smaller unit never is, however small the corpus
LARGEST = 20  # clusters that are told
FAMILY = 0.5  # of a unit's records that one of them resembles, from which the cause is one text, not a chain

# Look-alikes that both stay, whatever their units.
CLOSE = pa.schema([EDGES.field(name) for name in ("a", "b", "similarity")])

_ABOUT = pa.schema([EDGES.field(f"{name}_a").with_name(name) for name in ("rank", "group", "n_bytes", "published")])


class Clusters(NamedTuple):
    """Verdicts, cross edges, close pairs, and what the report tells of the largest clusters and of divided units."""

    verdicts: pa.Table
    cross: pa.Table
    close: pa.Table
    edges: int  # that there are
    largest: list[dict[str, int | str]]
    divided: list[dict[str, Any]]


@dataclass(frozen=True)
class _Graph:
    """Records as numbers, in order, and the edges among them: each once, `a` before `b`."""

    ids: npt.NDArray[np.uint64]
    groups: pa.ChunkedArray
    grouped: npt.NDArray[np.bool_]
    n_bytes: npt.NDArray[np.int64]
    published: npt.NDArray[np.int8]
    a: npt.NDArray[np.int32]
    b: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]


def cluster_edges(edges: Iterable[pa.RecordBatch], threshold: float, distinct: int) -> Clusters:
    """Verdicts for all new ids in EDGES; `distinct` is the number of distinct new records of the corpus."""
    whole = _graph(edges)
    first, graph = _merge_copies(whole)
    like = _like(graph)
    barred = like >= LIKE_VAL
    kept_for, kept_similarity = np.full(len(like), -1, np.int32), np.zeros(len(like), np.float32)
    strong = graph.similarity >= np.float32(threshold)
    later, earlier, similarity = graph.b[strong], graph.a[strong], graph.similarity[strong]
    order = np.lexsort((earlier, -similarity, later))
    _drop_duplicates(later[order], earlier[order], similarity[order], barred, kept_for, kept_similarity)
    copies = np.flatnonzero(first != np.arange(len(first)))
    leaders = first[copies]
    gone = kept_for[leaders] >= 0
    kept_for[copies] = np.where(barred[leaders], -1, np.where(gone, kept_for[leaders], leaders))
    kept_similarity[copies] = np.where(gone, kept_similarity[leaders], 1.0)
    like[copies], barred[copies] = like[leaders], barred[leaders]
    published = int((whole.published >= 0).sum())  # they come first
    kept = (kept_for < 0) & ~barred
    kept[:published] = False
    units, divided = _units(graph, kept, max(DIVIDED_FLOOR, int(distinct * DIVIDED_SHARE)))
    drawn = np.zeros(len(kept), bool)
    drawn[units[kept & (like == LIKE_TRAIN)]] = True
    ids = ids_of(whole.ids)
    new = slice(published, None)
    stays = pa.array(kept_for[new], mask=kept_for[new] < 0)
    verdicts = pa.table(
        [
            ids[new],
            ids.take(stays),
            pa.array(kept_similarity[new], pa.float32(), mask=kept_for[new] < 0),
            ids.take(pa.array(units[new], mask=~kept[new] | whole.grouped[new])),
            pa.array(like[new]),
            pa.array((drawn[units] & kept)[new]),
        ],
        schema=VERDICTS,
    )
    both = kept[graph.a] & kept[graph.b]
    sides = graph.a[both], graph.b[both]
    places = [pa.array(side) for side in sides]
    owners = [
        pc.coalesce(graph.groups.take(place), ids.take(pa.array(units[side])))
        for place, side in zip(places, sides, strict=True)
    ]
    sizes = [pa.array(graph.n_bytes[side]) for side in sides]
    cross = pa.table([*(ids.take(place) for place in places), *owners, *sizes], schema=CROSS)
    cross = cross.filter(pc.not_equal(cross.column("unit_a"), cross.column("unit_b")))
    both = kept[whole.a] & kept[whole.b]
    ends = [ids.take(pa.array(side[both])) for side in (whole.a, whole.b)]
    close = pa.table([*ends, pa.array(whole.similarity[both])], schema=CLOSE)
    return Clusters(verdicts, cross, close, len(whole.a), _largest(whole.ids, kept_for), divided)


def _graph(edges: Iterable[pa.RecordBatch]) -> _Graph:
    """The records of EDGES in order, each once, whichever sides it is on."""
    numbering = Numbering()
    about: list[pa.RecordBatch] = []
    ends: tuple[list[npt.NDArray[np.int32]], ...] = ([np.empty(0, np.int32)], [np.empty(0, np.int32)])
    similarity = [np.empty(0, np.float32)]
    for batch in edges:
        for side, numbers in zip("ab", ends, strict=True):
            known = len(numbering)
            numbers.append(numbering.number(id_words(batch.column(side))))
            highest = np.maximum.accumulate(np.concatenate(([known - 1], numbers[-1])))
            fresh = pa.array(np.diff(highest) > 0)
            columns = [batch.column(f"{name}_{side}").filter(fresh) for name in _ABOUT.names]
            about.append(pa.RecordBatch.from_arrays(columns, schema=_ABOUT))
        similarity.append(batch.column("similarity").to_numpy())
    records = pa.Table.from_batches(about, _ABOUT).combine_chunks()
    published = records.column("published").to_numpy()
    ranks = pc.rank(records.column("rank"), sort_keys="ascending", tiebreaker="dense").to_numpy()
    order = np.lexsort((numbering.ids[:, 1], numbering.ids[:, 0], ranks, published < 0))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    sides = [place[np.concatenate(numbers)] for numbers in ends]
    groups = records.column("group").take(pa.array(order))
    return _Graph(
        numbering.ids[order],
        groups,
        np.asarray(groups.is_valid().to_numpy(), bool),
        records.column("n_bytes").to_numpy()[order],
        published[order],
        np.minimum(*sides),
        np.maximum(*sides),
        np.concatenate(similarity),
    )


def _merge_copies(graph: _Graph) -> tuple[npt.NDArray[np.int32], _Graph]:
    """int32[N]: the first of the copies of each record; the graph with the edges of all of them at that one."""
    count = len(graph.ids)
    new = graph.published < 0
    same = (graph.similarity == 1) & new[graph.a] & new[graph.b]
    if not same.any():
        return np.arange(count, dtype=np.int32), graph
    matrix = coo_array((np.ones(same.sum(), np.int8), (graph.a[same], graph.b[same])), shape=(count, count))
    components, labels = connected_components(matrix, directed=False)
    firsts = np.empty(components, np.int32)
    firsts[labels[::-1]] = np.arange(count)[::-1]  # the one that is put last stays
    first = firsts[labels]
    a, b = first[graph.a[~same]], first[graph.b[~same]]
    low, high = np.minimum(a, b), np.maximum(a, b)
    # Copies are as similar as each other, so any of the edges between two of their firsts will do.
    pairs, chosen = np.unique(low.astype(np.int64) * count + high, return_index=True)
    chosen = chosen[pairs // count != pairs % count]
    return first, replace(graph, a=low[chosen], b=high[chosen], similarity=graph.similarity[~same][chosen])


def _like(graph: _Graph) -> npt.NDArray[np.int8]:
    """int8[N]: the splits in which each new record has published look-alikes."""
    like = np.zeros(len(graph.ids), np.int8)
    met = (graph.published[graph.a] >= 0) & (graph.published[graph.b] < 0)  # published ones come first
    splits = graph.published[graph.a[met]]
    for split, bit in enumerate(LIKE):
        like[graph.b[met][splits == split]] |= bit
    return like


@compiled
def _drop_duplicates(
    later: npt.NDArray[np.int32],
    earlier: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    barred: npt.NDArray[np.bool_],
    kept_for: npt.NDArray[np.int32],
    kept_similarity: npt.NDArray[np.float32],
) -> None:
    """Puts the kept record that each gives way to: the most similar one, the first in order among equals.

    Edges come by `later`, the best first: all that is said of `earlier` is decided by then.
    """
    for edge in range(len(later)):
        record, leader = later[edge], earlier[edge]
        if kept_for[record] < 0 and kept_for[leader] < 0 and not barred[record] and not barred[leader]:
            kept_for[record] = leader
            kept_similarity[record] = similarity[edge]


def _units(
    graph: _Graph, kept: npt.NDArray[np.bool_], largest: int
) -> tuple[npt.NDArray[np.int64], list[dict[str, Any]]]:
    """int64[N] the record that names the unit of each; what is to be told of units that were divided.

    The name is the member with the smallest id; of a divided unit, that of each part. Records with a group
    join nobody: the group is their unit.
    """
    count = len(graph.ids)
    alone = ~graph.grouped & kept
    both = alone[graph.a] & alone[graph.b]
    edges = (graph.a[both], graph.b[both])
    matrix = coo_array((np.ones(both.sum(), np.int8), edges), shape=(count, count)).tocsr()
    _, labels = connected_components(matrix, directed=False)
    sizes = np.bincount(labels, minlength=1)
    order = np.lexsort((graph.ids[:, 1], graph.ids[:, 0], labels))
    starts = np.cumsum(sizes) - sizes
    names = np.empty(count, np.int64)
    names[order] = np.repeat(order[starts[sizes > 0]], sizes[sizes > 0])
    divided = []
    for label in np.flatnonzero(sizes > largest).tolist():
        members = order[starts[label] : starts[label] + sizes[label]]
        divided.append(_divide(graph, matrix, members, largest, names))
    return names, sorted(divided, key=lambda one: (-one["records"], one["hub"]))


def _divide(
    graph: _Graph, matrix: Any, members: npt.NDArray[np.int64], largest: int, names: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Names the parts of a unit, `members` in the order of ids; returns its size, parts and cause.

    Parts are cut from a walk through the look-alikes, breadth first from the smallest id, so that few of them
    come to be in two parts.
    """
    inside = matrix[members][:, members]
    inside = (inside + inside.T).tocsr()
    inside.sort_indices()
    walk = breadth_first_order(inside, 0, directed=False, return_predecessors=False)
    parts = -(-len(members) // largest)
    for part in np.array_split(walk, parts):
        names[members[part]] = members[part.min()]
    met = np.diff(inside.indptr)
    hub = int(np.argmax(met))
    return {
        "records": len(members),
        "parts": parts,
        "cause": "family" if met[hub] >= FAMILY * (len(members) - 1) else "chain",
        "hub": ids_of(graph.ids[members[hub : hub + 1]])[0].as_py().hex(),
        "hub_look_alikes": int(met[hub]),
    }


def _largest(ids: npt.NDArray[np.uint64], kept_for: npt.NDArray[np.int32]) -> list[dict[str, int | str]]:
    """The kept records that most gave way to, with the number of records in their cluster."""
    counts = np.bincount(kept_for[kept_for >= 0], minlength=1)
    leaders = np.flatnonzero(counts)
    chosen = leaders[np.lexsort((ids[leaders, 1], ids[leaders, 0], -counts[leaders]))[:LARGEST]]
    return [
        {"id": one.hex(), "records": int(count) + 1}
        for one, count in zip(ids_of(ids[chosen]).to_pylist(), counts[chosen], strict=True)
    ]
