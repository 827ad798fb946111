"""Borderline: pairs beside the threshold, and what the report shows of them."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import MOST_PAIRS, borderline, look_alikes, lower_bound
from tests.records import clusters_of
from transforms.borderline import NEAREST, borderline_pairs, nearest_pairs, similarity_counts
from transforms.verify import EDGES

THRESHOLD = 0.8
drawn_edges = st.dictionaries(
    st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.7, 0.75, 0.79, 0.8, 0.81, 0.9, 0.99]),
    max_size=40,
)


def one_id(number: int) -> bytes:
    return number.to_bytes(8, "big") * 2


def edge_table(drawn) -> pa.Table:
    columns = {
        "similarity": pa.array(list(drawn.values()), pa.float32()),
        **{side: pa.array([one_id(pair[place]) for pair in drawn], pa.binary(16)) for place, side in enumerate("ab")},
        **{f"rank_{side}": pa.array([b"\0"] * len(drawn), pa.binary()) for side in "ab"},
        **{f"n_bytes_{side}": pa.array([1] * len(drawn), pa.int64()) for side in "ab"},
        **{f"published_{side}": pa.array([-1] * len(drawn), pa.int8()) for side in "ab"},
    }
    return pa.table([columns.get(one.name, pa.nulls(len(drawn), one.type)) for one in EDGES], schema=EDGES)


@given(drawn_edges, st.randoms())
def test_pairs_are_on_their_side_of_the_threshold_whatever_the_order(drawn, shuffled):
    clusters = clusters_of(edge_table(drawn), THRESHOLD, 16)
    gone = {row["id"].hex() for row in clusters.verdicts.table().to_pylist() if row["kept_id"] is not None}
    pairs = borderline_pairs(clusters, THRESHOLD)
    for pair in pairs:
        assert pair["dropped"] == (pair["similarity"] >= THRESHOLD - 1e-6)
        assert (pair["a"] in gone, pair["b"] in gone) == (False, pair["dropped"])
    for dropped in (True, False):
        away = [abs(pair["similarity"] - THRESHOLD) for pair in pairs if pair["dropped"] == dropped]
        assert away == sorted(away)
    assert sum(pair["dropped"] for pair in pairs) == len(gone)
    items = list(drawn.items())
    shuffled.shuffle(items)
    assert borderline_pairs(clusters_of(edge_table(dict(items)), THRESHOLD, 16), THRESHOLD) == pairs


@given(drawn_edges)
def test_every_pair_is_counted_once(drawn):
    clusters = clusters_of(edge_table(drawn), THRESHOLD, 16)
    counts = similarity_counts(clusters, 0.7)
    assert [one["from"] for one in counts] == [round(0.7 + 0.02 * step, 2) for step in range(15)]
    pairs = borderline_pairs(clusters, THRESHOLD)
    for name, dropped in (("dropped", True), ("kept", False)):
        assert sum(one[name] for one in counts) == sum(pair["dropped"] == dropped for pair in pairs)


def test_no_edges_no_pairs():
    clusters = clusters_of(EDGES.empty_table(), THRESHOLD, 0)
    assert borderline_pairs(clusters, THRESHOLD) == []
    assert not any(one["dropped"] or one["kept"] for one in similarity_counts(clusters, 0.7))


def test_of_many_pairs_the_nearest_are_told_whatever_their_cut():
    chooser = random.Random(3)
    drawn = {(number, number + 1): chooser.uniform(0.7, 1.0) for number in range(0, 600, 2)}
    clusters = clusters_of(edge_table(drawn), THRESHOLD, 600)
    pairs = borderline_pairs(clusters, THRESHOLD)
    assert [pair["dropped"] for pair in pairs] == [True] * NEAREST + [False] * NEAREST
    nearest = sorted(abs(index - THRESHOLD) for index in drawn.values() if index >= THRESHOLD)[:NEAREST]
    assert [abs(pair["similarity"] - THRESHOLD) for pair in pairs[:NEAREST]] == pytest.approx(nearest, abs=1e-6)
    halves = [dict(list(drawn.items())[place::2]) for place in range(2)]
    told = [borderline_pairs(clusters_of(edge_table(half), THRESHOLD, 600), THRESHOLD) for half in halves]
    assert nearest_pairs([*told[0], *told[1]], THRESHOLD) == pairs


def test_the_report_shows_train_and_what_gave_way_to_it_alone():
    outcomes = ("train", "val", "eval", "duplicate", "dropped")
    seen = {name: {"outcome": name, "place": f"log:{name}"} for name in outcomes}
    pairs = [
        {"a": a, "b": b, "similarity": 0.8, "dropped": dropped}
        for a in (*outcomes, "elsewhere")
        for b in (*outcomes, "elsewhere")
        for dropped in (True, False)
    ]
    shown = borderline(pairs, seen)
    assert {(one["a"], one["b"], one["dropped"]) for one in shown} == {
        ("train", "duplicate", True),
        ("train", "train", False),
    }
    assert shown[0]["place_a"] == "log:train"
    many = [{"a": "train", "b": "train", "similarity": 0.79, "dropped": False}] * NEAREST
    assert len(borderline(many, seen)) == MOST_PAIRS


def test_recall_is_told_only_where_it_was_measured():
    assert look_alikes({}) is None
    told = {"dropped": 9, "sampled": 8, "recalled": 6, "unsearched": 0}
    least = lower_bound(6, 8)
    assert 0.45 < least < 0.5
    assert look_alikes(told) == {
        "dropped": 9, "sampled": 8, "found": 6, "missed": 2, "recall": 0.75, "recall_at_least": least, "unsearched": 0
    }  # fmt: skip
    assert look_alikes(told | {"sampled": 0, "recalled": 0})["recall"] is None
