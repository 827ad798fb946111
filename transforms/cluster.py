"""Cluster: verified edges become duplicates with the record that each gave way to, and units of splitting.

Duplicates: records in the order of rank and id; one stays unless it is at least `threshold` like one that
stays already. So nothing chains: whoever is dropped resembles, verifiably, somebody who is kept.

Units: kept records that are joined by look-alikes at `leak_threshold` go to one split together. A unit
above a hundredth of the corpus is divided; look-alikes in two parts are then told apart by the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from transforms.exact import id_words, ids_of

# What is known of a record that resembles another; all others are kept and units of their own.
VERDICTS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("kept_id", pa.binary(16)),  # null: the record is kept
        pa.field("similarity", pa.float32()),
        pa.field("unit", pa.binary(16)),  # null where it is dropped, or a group decides
        pa.field("to_train", pa.bool_(), nullable=False),  # its unit resembles a record that is published in train
    ]
)

# Look-alikes that are kept in different units, which may turn out to be in different splits.
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

DIVIDED_SHARE = 0.01  # of the corpus: a larger unit is divided
DIVIDED_FLOOR = 100  # records: a smaller unit never is, however small the corpus


class Clusters(NamedTuple):
    """Verdicts, cross edges, and what the report tells of the largest clusters."""

    verdicts: pa.Table
    cross: pa.Table
    largest: list[dict[str, int | str]]
    divided: list[int]


@dataclass(frozen=True)
class _Graph:
    """Records as numbers, in the order of rank and id, and the edges among them."""

    ids: npt.NDArray[np.uint64]
    groups: list[bytes | None]
    n_bytes: npt.NDArray[np.int64]
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


def cluster_edges(edges: pa.Table, threshold: float, distinct: int) -> Clusters:
    """Verdicts for all ids in EDGES; `distinct` is the number of distinct records of the corpus."""
    graph = _graph(edges)
    kept_for, kept_similarity = _drop_duplicates(graph, threshold)
    kept = kept_for < 0
    units, divided = _units(graph, kept, max(DIVIDED_FLOOR, int(distinct * DIVIDED_SHARE)))
    ids = ids_of(graph.ids)
    numbers = np.arange(len(kept))
    grouped = np.array([group is not None for group in graph.groups], bool)
    unit_ids = ids.take(pa.array(units))
    verdicts = pa.table(
        [
            ids,
            ids.take(pa.array(np.where(kept, 0, kept_for), mask=kept)),
            pa.array(kept_similarity, pa.float32(), mask=kept),
            pc.if_else(pa.array(kept & ~grouped), unit_ids, pa.scalar(None, pa.binary(16))),
            pa.array(np.zeros(len(kept), bool)),
        ],
        schema=VERDICTS,
    )
    owners = pc.coalesce(pa.array(graph.groups, pa.binary(16)), unit_ids)
    both = kept[graph.a] & kept[graph.b]
    a, b = pa.array(graph.a[both]), pa.array(graph.b[both])
    sizes = pa.array(graph.n_bytes)
    cross = pa.table(
        [ids.take(a), ids.take(b), owners.take(a), owners.take(b), sizes.take(a), sizes.take(b)], schema=CROSS
    )
    cross = cross.filter(pc.not_equal(cross.column("unit_a"), cross.column("unit_b")))
    return Clusters(verdicts, cross, _largest(ids, np.where(kept, numbers, kept_for)), divided)


def _graph(edges: pa.Table) -> _Graph:
    """The records of EDGES in order, each once, whichever sides it is on."""
    sides = [edges.select([side, *(f"{name}_{side}" for name in ("rank", "group", "n_bytes"))]) for side in "ab"]
    records = pa.concat_tables([side.rename_columns(["id", "rank", "group", "n_bytes"]) for side in sides])
    records = records.sort_by([("rank", "ascending"), ("id", "ascending")]).combine_chunks()
    ids = id_words(records.column("id"))
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    records = records.filter(pa.array(first))
    places = [pc.index_in(edges.column(side), value_set=records.column("id")).to_numpy() for side in "ab"]
    return _Graph(
        ids[first],
        records.column("group").to_pylist(),
        records.column("n_bytes").to_numpy(),
        np.minimum(*places).astype(np.int64),
        np.maximum(*places).astype(np.int64),
        edges.column("similarity").to_numpy(),
    )


def _drop_duplicates(graph: _Graph, threshold: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """int64[N] the kept record that each gives way to, -1 for the kept; float32[N] their similarity.

    The most similar one is named, the first in order among equals.
    """
    strong = graph.similarity >= np.float32(threshold)
    later, earlier, similarity = graph.b[strong], graph.a[strong], graph.similarity[strong]
    order = np.lexsort((earlier, -similarity, later))
    kept_for = np.full(len(graph.ids), -1, np.int64)
    kept_similarity = np.zeros(len(graph.ids), np.float32)
    for edge in order.tolist():
        record, leader = later[edge], earlier[edge]
        # Edges come by `later`: all that is said of `leader` is decided, and the best edge comes first.
        if kept_for[record] < 0 and kept_for[leader] < 0:
            kept_for[record] = leader
            kept_similarity[record] = similarity[edge]
    return kept_for, kept_similarity


def _units(graph: _Graph, kept: npt.NDArray[np.bool_], largest: int) -> tuple[npt.NDArray[np.int64], list[int]]:
    """int64[N] the record that names the unit of each; sizes of the units that were divided.

    The name is the member with the smallest id, of a divided unit that of each part. Records with a group
    join nobody: the group is their unit.
    """
    count = len(graph.ids)
    alone = np.array([group is None for group in graph.groups], bool) & kept
    both = alone[graph.a] & alone[graph.b]
    matrix = coo_array((np.ones(both.sum(), np.int8), (graph.a[both], graph.b[both])), shape=(count, count))
    _, labels = connected_components(matrix, directed=False)
    order = np.lexsort((graph.ids[:, 1], graph.ids[:, 0], labels))
    sizes = np.bincount(labels)
    place = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    leads = place % largest == 0
    names = np.empty(count, np.int64)
    names[order] = order[np.maximum.accumulate(np.where(leads, np.arange(count), 0))]
    return names, sorted((int(size) for size in sizes[sizes > largest]), reverse=True)


def _largest(
    ids: pa.FixedSizeBinaryArray, kept_for: npt.NDArray[np.int64], most: int = 20
) -> list[dict[str, int | str]]:
    """The kept records that most gave way to, with the number of records in their cluster."""
    leaders, counts = np.unique(kept_for, return_counts=True)
    chosen = np.lexsort((leaders, -counts))[:most]
    return [
        {"id": ids[int(leaders[one])].as_py().hex(), "records": int(counts[one])} for one in chosen if counts[one] > 1
    ]
