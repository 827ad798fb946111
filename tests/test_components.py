"""Clusters in parts: what meets in a part, and that all parts together say what one task over all edges says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.records import clusters_of
from transforms.bands import NEW, refs_of
from transforms.components import LABELS, forest_of, join_labels, label_keys, roots_of
from transforms.exact import id_words
from transforms.options import DedupeOptions
from transforms.runs import segment_of
from transforms.shingles import mix
from transforms.split import EVAL, TRAIN, VAL
from transforms.told import add_told, tell_clusters
from transforms.verify import EDGES

RECORDS = 120
OPTIONS = DedupeOptions()

# Graphs of what has trouble: chains, stars, cliques and copies, apart and overlapping.
paths = st.builds(lambda start, count: [(at, at + 1) for at in range(start, start + count)], *[st.integers(0, 50)] * 2)
stars = st.builds(lambda hub, ends: [(hub, end) for end in ends], st.integers(0, 119), st.sets(st.integers(0, 119)))
cliques = st.builds(
    lambda members: [(a, b) for a in members for b in members if a < b], st.sets(st.integers(0, 119), max_size=8)
)
scattered = st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), max_size=60)
graphs = st.lists(st.one_of(paths, stars, cliques, scattered), min_size=1, max_size=4)
similarities = st.sampled_from([0.7, 0.75, 0.8, 0.9, 1.0])


def one_id(number: int) -> bytes:
    return b"".join(int(mix(np.array([number * 3 + 1 + half], np.uint64))[0]).to_bytes(8, "big") for half in (0, 1))


IDS = [one_id(number) for number in range(RECORDS)]


def edge_table(drawn, ranks, groups, published) -> pa.Table:
    """EDGES, the first in order leading: published records, then by rank and id."""
    order = sorted(range(RECORDS), key=lambda one: (one not in published, ranks.get(one, 0), IDS[one]))
    place = {one: at for at, one in enumerate(order)}
    sides = [[], []]
    for pair in drawn:
        for side, one in zip(sides, sorted(pair, key=place.__getitem__), strict=True):
            side.append(one)
    columns = {"similarity": pa.array(list(drawn.values()), pa.float32())}
    for name, side in zip("ab", sides, strict=True):
        columns |= {
            name: pa.array([IDS[one] for one in side], pa.binary(16)),
            f"rank_{name}": pa.array([bytes([ranks.get(one, 0)]) for one in side], pa.binary()),
            f"group_{name}": pa.array([groups.get(one) for one in side], pa.binary(16)),
            f"n_bytes_{name}": pa.array([10 + one for one in side], pa.int64()),
            f"published_{name}": pa.array([published.get(one, NEW) for one in side], pa.int8()),
        }
    return pa.table([columns[name] for name in EDGES.names], schema=EDGES)


def labels_of(edges: pa.Table, segments: int, fan: int) -> pa.Table:
    """LABELS of the forests of segments of followers, joined `fan` at a time."""
    leads = np.unique(refs_of(id_words(edges.column("a"))[:, 0]))
    targets = segment_of(id_words(edges.column("b"))[:, 0], segments)
    forests = [forest_of(edges.filter(pa.array(targets == one)), leads) for one in range(segments)]
    while len(forests) > 1:
        groups = [forests[start : start + fan] for start in range(0, len(forests), fan)]
        forests = [
            pa.Table.from_batches(join_labels(batch for one in group for batch in one.to_batches()), LABELS)
            for group in groups
        ]
    return forests[0]


records = st.integers(0, RECORDS - 1)


@settings(max_examples=60)
@given(
    st.data(),
    graphs,
    st.dictionaries(records, st.integers(0, 2)),
    st.dictionaries(records, st.sampled_from([b"g" * 16, b"h" * 16]), max_size=20),
    st.dictionaries(records, st.sampled_from([TRAIN, VAL, EVAL]), max_size=20),
    st.sampled_from([2, 8]),
)
def test_all_parts_say_what_one_task_says(data, graph, ranks, groups, published, parts):
    pairs = sorted({(min(pair), max(pair)) for part in graph for pair in part if pair[0] != pair[1]})
    pairs = [pair for pair in pairs if not published.keys() >= set(pair)]
    indexes = data.draw(st.lists(similarities, min_size=len(pairs), max_size=len(pairs)))
    edges = edge_table(dict(zip(pairs, indexes, strict=True)), ranks, groups, published)
    labels = labels_of(edges, 4, 4)
    targets = segment_of(label_keys(edges, labels), parts)
    whole = clusters_of(edges, OPTIONS.threshold, RECORDS)
    found = [clusters_of(edges.filter(pa.array(targets == one)), OPTIONS.threshold, RECORDS) for one in range(parts)]
    for table_of, key in ((lambda one: one.verdicts.table(), ["id"]), (lambda one: one.cross, ["a", "b"])):
        together = pa.concat_tables([table_of(one) for one in found])
        order = [(one, "ascending") for one in key]
        assert together.sort_by(order).equals(table_of(whole).sort_by(order))
    told = [tell_clusters(one, OPTIONS) for one in found]
    assert add_told(told, OPTIONS) == tell_clusters(whole, OPTIONS)


@pytest.mark.parametrize("fan", [2, 16])
def test_a_long_chain_has_one_label_in_any_tree(fan):
    chain = {(number, number + 1): 0.75 for number in range(RECORDS - 1)}
    labels = labels_of(edge_table(chain, {}, {}, {}), 16, fan)
    assert set(labels.column("label").to_pylist()) == {min(labels.column("label").to_pylist())}
    edges = edge_table(chain, {}, {}, {})
    assert len(set(label_keys(edges, labels).tolist())) == 1


def test_pairs_and_families_need_no_labels():
    family = {(number, number + 60): 0.9 for number in range(60)}
    star = {(0, number): 0.9 for number in range(1, RECORDS)}
    for drawn in (family, star):
        edges = edge_table(
            drawn, {number: int(number >= 60 or (drawn is star and number > 0)) for number in range(RECORDS)}, {}, {}
        )
        assert labels_of(edges, 16, 16).num_rows == 0
        assert len(set(label_keys(edges, LABELS.empty_table()).tolist())) == len(set(edges.column("a").to_pylist()))


@given(graphs)
def test_roots_are_the_smallest_of_the_components_that_scipy_finds(drawn):
    ones, others = (np.array([pair[side] for part in drawn for pair in part], np.int32) for side in (0, 1))
    _, labels = connected_components(coo_array((np.ones(len(ones)), (ones, others)), shape=(RECORDS, RECORDS)))
    smallest = [int(np.flatnonzero(labels == label)[0]) for label in labels]
    assert roots_of(RECORDS, ones, others).tolist() == smallest
