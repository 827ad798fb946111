"""Sign, Cluster and Settle: laws, and brute force as the oracle."""

import random
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import clusters_of, conversations, none_of, records_batch
from transforms import cluster
from transforms.bands import NEW
from transforms.cluster import LIKE
from transforms.exact import FACTS, elect_records, id_words, ids_of
from transforms.hashing import Keys
from transforms.minhash import permutations, sign
from transforms.options import DedupeOptions
from transforms.settle import settle_records
from transforms.shingles import jaccard, shingle_texts, tokenize
from transforms.sign import fingerprint_records, identify_sources, sign_records
from transforms.split import EVAL, TRAIN, VAL
from transforms.told import tell_clusters
from transforms.verify import EDGES

KEYS = Keys("test salt")
bodies = st.lists(st.text(st.sampled_from("ab 東é.\n"), max_size=60), max_size=12)


def one_id(number: int) -> bytes:
    return number.to_bytes(8, "big") * 2


def test_tokens_by_script():
    assert tokenize("Don't STOP 3.5 ﬁn Straße") == ["don", "t", "stop", "3", "5", "fin", "strasse"]
    assert tokenize("ไทย 안녕하세요 漢字かな") == ["ไ", "ท", "ย", "안녕하세요", "漢", "字", "か", "な"]
    assert tokenize("…!?") == []


@given(bodies, bodies)
def test_shingles_are_batch_invariant(left, right):
    both = shingle_texts(left + right, 3, KEYS)
    apart = [shingle_texts(part, 3, KEYS) for part in (left, right)]
    assert both.values.tolist() == [*apart[0].values.tolist(), *apart[1].values.tolist()]
    assert np.diff(both.offsets).tolist() == [*np.diff(apart[0].offsets).tolist(), *np.diff(apart[1].offsets).tolist()]


@given(bodies)
def test_shingles_are_distinct_windows_of_tokens(drawn):
    shingles = shingle_texts(drawn, 3, KEYS)
    for place, text in enumerate(drawn):
        tokens = tokenize(text)
        windows = {tuple(tokens[at : at + 3]) for at in range(max(1, len(tokens) - 2))} if tokens else set()
        hashes = shingles.values[shingles.offsets[place] : shingles.offsets[place + 1]]
        assert len(hashes) == len(windows)
        assert (np.diff(hashes.astype(object)) > 0).all()


def test_the_salt_and_the_secret_change_every_permutation():
    seen = [permutations(16, keys).a.tolist() for keys in (Keys("a"), Keys("b"), Keys("a", b"s" * 16))]
    assert len({tuple(one) for one in seen}) == 3


def test_estimates_are_near_the_truth():
    chooser = random.Random(1)
    words = [f"w{number}" for number in range(3000)]
    text = chooser.choices(words, k=400)
    changed = list(text)
    for place in range(0, 400, 25):
        changed[place] = "changed" + str(place)
    shingles = shingle_texts([" ".join(text), " ".join(changed)], 5, KEYS)
    truth = jaccard(shingles.values[: shingles.offsets[1]], shingles.values[shingles.offsets[1] :])
    signatures = sign(shingles, permutations(512, KEYS))
    assert abs((signatures[0] == signatures[1]).mean() - truth) < 4 * (truth * (1 - truth) / 512) ** 0.5


@given(conversations, conversations)
@settings(max_examples=50)
def test_signing_is_batch_invariant(left, right):
    def signed(drawn):
        batch = records_batch([one for one, _ in drawn], [tool for _, tool in drawn])
        return sign_records(batch, KEYS).to_pylist()

    def placed(rows):
        return [{**row, "line": 0, "offset": 0} for row in rows]

    assert placed(signed(left + right)) == placed(signed(left)) + placed(signed(right))


def test_ids_leave_weight_and_metadata_out():
    said = {"role": "user", "content": "hello"}
    batch = records_batch([[said], [{**said, "weight": 0.5}]], metadata=[{}, {"k": 1}])
    signed = sign_records(batch, KEYS)
    first, second = signed.column("id").to_pylist()
    assert first == second
    assert signed.column("tie")[0] != signed.column("tie")[1]


def test_every_column_of_the_dataset_tells_copies_apart():
    """Else which copy stays would hang on the order of the inputs."""
    batch = records_batch([[{"role": "user", "content": "x"}]] * 2)
    place = batch.schema.get_field_index("n_redactions")
    batch = batch.set_column(place, batch.schema.field(place), pa.array([0, 1], pa.int32()))
    first, second = sign_records(batch, KEYS).column("tie").to_pylist()
    assert first != second


def test_rank_follows_kind_then_preference():
    batch = records_batch(
        [[{"role": "user", "content": "x"}]] * 5,
        metadata=[{"stars": 1}, {"stars": 5}, {}, {"stars": -2.5}, {"stars": 9}],
        kinds=["production"] * 4 + ["public"],
    )
    ranks = sign_records(batch, KEYS, ("metadata.stars",)).column("rank").to_pylist()
    assert sorted(range(5), key=lambda place: ranks[place]) == [1, 0, 3, 2, 4]
    ranks = sign_records(batch, KEYS, ("-metadata.stars",)).column("rank").to_pylist()
    assert sorted(range(5), key=lambda place: ranks[place]) == [3, 0, 1, 2, 4]


def test_source_ids_need_a_secret():
    batch = records_batch([[{"role": "user", "content": "x"}]])
    assert identify_sources(batch, KEYS).column("source_id").null_count == 1
    keyed = [
        identify_sources(batch, Keys("s", secret)).column("source_id")[0].as_py() for secret in (b"1" * 16, b"2" * 16)
    ]
    assert keyed[0] != keyed[1]
    assert "1111" not in repr(Keys("s", b"1" * 16))


def test_system_and_tool_texts_are_not_compared():
    said = [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "d e f"}]
    batch = records_batch([said, [{"role": "system", "content": "x " * 50}, *said, {"role": "tool", "content": "y"}]])
    prints = fingerprint_records(batch, DedupeOptions(), KEYS)
    assert len(prints.bands)
    assert (prints.bands[prints.owners == 0] == prints.bands[prints.owners == 1]).all()


edge_lists = st.dictionaries(
    st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.7, 0.75, 0.8, 0.9, 0.99]),
    max_size=40,
)


def edge_table(drawn, ranks=None, groups=None, published=None) -> pa.Table:
    pairs = list(drawn)
    ranks, groups = ranks or {}, groups or {}
    columns = [
        pa.array([one_id(a) for a, _ in pairs], pa.binary(16)),
        pa.array([one_id(b) for _, b in pairs], pa.binary(16)),
        pa.array([drawn[pair] for pair in pairs], pa.float32()),
    ]
    for side in (0, 1):
        columns += [
            pa.array([bytes([ranks.get(pair[side], 0)]) for pair in pairs], pa.binary()),
            pa.array([groups.get(pair[side]) for pair in pairs], pa.binary(16)),
            pa.array([1] * len(pairs), pa.int64()),
            pa.array([(published or {}).get(pair[side], NEW) for pair in pairs], pa.int8()),
        ]
    return pa.table(columns, schema=EDGES)


def number_of(one: bytes) -> int:
    return int.from_bytes(one[:8], "big")


@given(edge_lists, st.dictionaries(st.integers(0, 15), st.integers(0, 2)))
def test_every_dropped_record_resembles_a_kept_one_and_no_two_kept_are_alike(drawn, ranks):
    clusters = clusters_of(edge_table(drawn, ranks), 0.8, 16)
    kept_for = {
        number_of(row["id"]): row["kept_id"] and number_of(row["kept_id"])
        for row in clusters.verdicts.table().to_pylist()
    }
    similar = {frozenset(pair): index for pair, index in drawn.items()}
    for record, leader in kept_for.items():
        if leader is not None:
            assert kept_for[leader] is None
            assert similar[frozenset((record, leader))] >= 0.8 - 1e-6
            assert (ranks.get(leader, 0), leader) < (ranks.get(record, 0), record)
    for (a, b), index in drawn.items():
        assert index < 0.8 or not (kept_for[a] is None and kept_for[b] is None)


@given(st.randoms(), st.booleans())
def test_copies_that_are_not_held_fare_as_if_they_were(chooser, rebuild):
    """Records of a few classes: those of one class are copies, and resemble those of another alike."""
    classes = {record: chooser.randrange(8) for record in range(24)}
    published = {record: chooser.choice([NEW, NEW, NEW, 0, 1, 2] + [-2, -3] * rebuild) for record in classes}
    ranks = {record: chooser.randrange(3) for record in classes}
    groups = {record: chooser.choice([None, None, b"g" * 16]) for record in classes}
    alike = {pair: chooser.choice([0.0, 0.0, 0.7, 0.79, 0.81, 0.95]) for pair in combinations(range(8), 2)}
    drawn = {}
    for b in chooser.sample(sorted(classes), k=len(classes)):
        twins = [a for a in classes if classes[a] == classes[b] and max(published[a], published[b]) < 0 and a != b]
        led = [a for a, other in drawn if other in twins]
        if twins and chooser.random() < 0.7:
            a = chooser.choice(twins)
            drawn |= {} if (b, a) in drawn else {(a, b): 1.0}
            continue
        for a in {*chooser.sample(sorted(classes), k=6), *led}:
            same = 1.0 if published[a] >= 0 else 0.0
            index = alike.get((min(classes[a], classes[b]), max(classes[a], classes[b])), same)
            if index and published[b] < 0 and (b, a) not in drawn:
                drawn[a, b] = index
    edges = edge_table(drawn, ranks, groups, published)
    found = clusters_of(edges, 0.8, 24, rebuild=rebuild)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_not_held", none_of)
        held = clusters_of(edges, 0.8, 24, rebuild=rebuild)
    assert found.verdicts.table().sort_by("id").equals(held.verdicts.table().sort_by("id"))
    order = [("a", "ascending"), ("b", "ascending")]
    assert found.cross.sort_by(order).equals(held.cross.sort_by(order))
    options = DedupeOptions(threshold=0.8)
    assert tell_clusters(found, options) == tell_clusters(held, options)


@given(edge_lists, st.randoms())
def test_clusters_don_t_depend_on_the_order_of_edges(drawn, shuffled):
    pairs = list(drawn)
    shuffled.shuffle(pairs)
    again = clusters_of(edge_table({pair: drawn[pair] for pair in pairs}), 0.8, 16)
    first = clusters_of(edge_table(drawn), 0.8, 16)
    assert first.verdicts.table().equals(again.verdicts.table())
    assert first.cross.sort_by([("a", "ascending"), ("b", "ascending")]).equals(
        again.cross.sort_by([("a", "ascending"), ("b", "ascending")])
    )


@given(edge_lists)
def test_kept_look_alikes_share_a_unit(drawn):
    clusters = clusters_of(edge_table(drawn), 0.8, 16)
    units = {number_of(row["id"]): row["unit"] for row in clusters.verdicts.table().to_pylist()}
    assert clusters.cross.num_rows == 0
    for a, b in drawn:
        assert units[a] is None or units[b] is None or units[a] == units[b]


def test_groups_are_units_and_their_look_alikes_cross():
    groups = {1: one_id(91), 2: one_id(92)}
    clusters = clusters_of(edge_table({(1, 2): 0.75, (2, 3): 0.7}, groups=groups), 0.8, 16)
    units = {number_of(row["id"]): row["unit"] for row in clusters.verdicts.table().to_pylist()}
    assert units == {1: None, 2: None, 3: one_id(3)}
    assert clusters.cross.num_rows == 2


def test_a_unit_above_a_hundredth_of_the_corpus_is_divided():
    chain = {(number, number + 1): 0.75 for number in range(249)}
    whole = clusters_of(edge_table(chain), 0.8, 1_000_000)
    assert whole.divided == []
    parts = clusters_of(edge_table(chain), 0.8, 10_000)
    (told,) = parts.divided
    assert (told["records"], told["parts"], told["cause"], told["hub_look_alikes"]) == (250, 3, "chain", 2)
    units = {number_of(row["id"]): row["unit"] for row in parts.verdicts.table().to_pylist()}
    assert len(set(units.values())) == 3
    assert max(list(units.values()).count(unit) for unit in units.values()) <= 100
    assert parts.cross.num_rows == 2  # parts are stretches of the chain
    star = {(0, number): 0.75 for number in range(1, 250)}
    (told,) = clusters_of(edge_table(star), 0.8, 10_000).divided
    assert (told["cause"], told["hub"]) == ("family", one_id(0).hex())


@given(
    edge_lists,
    st.dictionaries(st.integers(0, 15), st.integers(0, 2)),
    st.dictionaries(st.integers(0, 15), st.sampled_from([TRAIN, VAL, EVAL])),
)
def test_newcomers_give_way_to_what_is_published(drawn, ranks, published):
    drawn = {pair: index for pair, index in drawn.items() if not (pair[0] in published and pair[1] in published)}
    clusters = clusters_of(edge_table(drawn, ranks, published=published), 0.8, 16)
    verdicts = {number_of(row["id"]): row for row in clusters.verdicts.table().to_pylist()}
    assert not verdicts.keys() & published.keys()
    similar = {frozenset(pair): index for pair, index in drawn.items()}
    kept = {record for record, row in verdicts.items() if row["kept_id"] is None and row["like"] < 2}
    for record, row in verdicts.items():
        met = [other for pair in similar if record in pair for other in pair - {record} if other in published]
        assert row["like"] == sum(LIKE[split] for split in {published[other] for other in met})
        if met:
            like = number_of(row["like_id"])
            best = max(met, key=lambda one: (published[one], similar[frozenset((record, one))]))
            assert (published[like], row["like_similarity"]) == (
                published[best], pytest.approx(similar[frozenset((record, best))])
            )  # fmt: skip
        else:
            assert row["like_id"] is row["like_similarity"] is None
        if row["kept_id"] is not None:
            leader = number_of(row["kept_id"])
            assert row["like"] < 2
            assert leader in kept or published.get(leader) == TRAIN
            assert similar[frozenset((record, leader))] >= 0.8 - 1e-6
        elif row["like"] < 2:
            assert all(similar[frozenset((record, other))] < 0.8 for other in met)
    for record in kept:
        with_train = [one for one in kept if verdicts[one]["unit"] == verdicts[record]["unit"]]
        assert verdicts[record]["to_train"] == any(verdicts[one]["like"] for one in with_train)


@given(
    edge_lists,
    st.dictionaries(st.integers(0, 15), st.integers(0, 2)),
    st.dictionaries(st.integers(0, 15), st.sampled_from([TRAIN, VAL])),
)
def test_in_a_rebuild_no_newcomer_decides_on_what_was_published(drawn, ranks, before):
    marks = {record: -2 - split for record, split in before.items()}
    clusters = clusters_of(edge_table(drawn, ranks, published=marks), 0.8, 16, rebuild=True)
    verdicts = {number_of(row["id"]): row for row in clusters.verdicts.table().to_pylist()}
    among = {pair: index for pair, index in drawn.items() if pair[0] in before and pair[1] in before}
    alone = clusters_of(edge_table(among, ranks, published=marks), 0.8, 16, rebuild=True).verdicts.table().to_pylist()
    without = {number_of(row["id"]): row for row in alone}
    for record in before.keys() & verdicts.keys():
        mine = verdicts[record]
        assert mine["like"] == 0
        assert (mine["kept_id"], mine["similarity"]) == (
            (without[record]["kept_id"], without[record]["similarity"]) if record in without else (None, None)
        )
        assert mine["unit"] in (None, one_id(record))
    for pair in drawn:
        for record, other in (pair, pair[::-1]):
            if record not in before and other in before:
                assert verdicts[record]["like"] & LIKE[before[other]]
                assert verdicts[record]["kept_id"] is None or before[other] == TRAIN
    kept = {record for record, row in verdicts.items() if row["kept_id"] is None and row["like"] < 2}
    crossed = {frozenset((number_of(row["a"]), number_of(row["b"]))) for row in clusters.cross.to_pylist()}
    assert crossed == {frozenset(pair) for pair in drawn if pair[0] in kept and pair[1] in kept}


def test_in_a_rebuild_what_was_published_stays_beside_its_like_of_the_same_split():
    marks = {1: VAL, 2: -2 - VAL, 3: -2 - TRAIN, 4: NEW, 5: -2 - VAL}
    drawn = {(1, 2): 0.75, (1, 3): 0.75, (1, 4): 0.75, (1, 5): 0.85}
    clusters = clusters_of(edge_table(drawn, published=marks), 0.8, 16, rebuild=True)
    told = {number_of(row["id"]): (row["like"], row["kept_id"]) for row in clusters.verdicts.table().to_pylist()}
    assert told == {2: (0, None), 3: (LIKE[VAL], None), 4: (LIKE[VAL], None), 5: (0, one_id(1))}


facts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), max_size=30)


def fact_table(rows, order) -> pa.Table:
    return pa.table(
        [
            pa.array([KEYS.shuffle_key(one_id(rows[place][0])) for place in order], pa.uint64()),
            pa.array([one_id(rows[place][0]) for place in order], pa.binary(16)),
            pa.array([bytes([rows[place][1]]) for place in order], pa.binary()),
            pa.array([one_id(rows[place][2]) for place in order], pa.binary(16)),
            pa.nulls(len(order), pa.binary(16)),
            pa.nulls(len(order), pa.binary(16)),
            pa.array([10] * len(order), pa.int64()),
            pa.array(list(order), pa.int64()),
            pa.array([0] * len(order), pa.int32()),
        ],
        schema=FACTS,
    )


@given(facts, st.randoms())
def test_one_of_each_id_is_elected_whatever_the_order(rows, shuffled):
    order = list(range(len(rows)))
    first, elected = elect_records(fact_table(rows, order), exact=True)
    shuffled.shuffle(order)
    again, elected_again = elect_records(fact_table(rows, order), exact=True)
    assert first.equals(again)
    assert elected.tolist() == elected_again.tolist()
    chosen = first.filter(pa.array(elected)).to_pylist()
    best: dict[int, tuple] = {}
    for place, (one, rank, tie) in enumerate(rows):
        best[one] = min(best.get(one, (9, 9, 999)), (rank, tie, place))
    assert {number_of(row["id"]): row["line"] for row in chosen} == {one: place for one, (_, _, place) in best.items()}


def test_settling_counts_only_what_is_kept():
    table = fact_table([(1, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)], range(4))
    verdicts = clusters_of(edge_table({(2, 3): 0.9}), 0.8, 3).verdicts.table()
    settled = settle_records(table, verdicts, KEYS, exact=True)
    assert settled.counts.sum() == 2
    assert settled.n_bytes == 20
    fates = {(number_of(row["id"]), row["line"]): (row["bin"] >= 0, row["kept_id"] and number_of(row["kept_id"]), row["near"])
             for row in settled.rows.to_pylist()}  # fmt: skip
    assert fates == {
        (1, 0): (True, None, False),
        (1, 1): (False, 1, False),
        (2, 2): (True, None, False),
        (3, 3): (False, 2, True),
    }


def test_without_exact_every_copy_is_kept():
    table = fact_table([(1, 0, 0), (1, 0, 0)], range(2))
    no_verdicts = clusters_of(EDGES.empty_table(), 0.8, 2).verdicts.table()
    assert settle_records(table, no_verdicts, KEYS, exact=False).counts.sum() == 2


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_ids_survive_as_words(ids):
    array = pa.array(ids, pa.binary(16))
    assert ids_of(id_words(array)).to_pylist() == ids
    assert ids_of(id_words(array[1:])).to_pylist() == ids[1:]
