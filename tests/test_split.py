import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.cluster import CROSS
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.options import SplitOptions
from transforms.split import BINS, EVAL, TRAIN, VAL, Cut, bin_of, choose_cut, drop_lookalikes

KEYS = Keys("test salt")


def counts_of(sizes: dict[int, int]) -> np.ndarray:
    counts = np.zeros(BINS, np.int64)
    for one, size in sizes.items():
        counts[one] = size
    return counts


sizes = st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 30), max_size=200)


@given(sizes, st.floats(0, 0.3), st.floats(0, 0.3), st.integers(0, 40))
def test_the_cut_obeys_fractions_floor_and_cap(drawn, val, eval_share, floor):
    options = SplitOptions(val=val, eval=eval_share, min_val=floor)
    cut = choose_cut(counts_of(drawn), options)
    bins = np.array(sorted(drawn), np.int64)
    codes = cut.splits(bins)
    taken = {code: sum(drawn[one] for one, mine in zip(bins.tolist(), codes, strict=True) if mine == code)
             for code in (TRAIN, VAL, EVAL)}  # fmt: skip
    total = sum(drawn.values())
    assert taken[VAL] <= total // 3
    assert taken[EVAL] <= total // 3
    if not cut.passed and drawn:
        wanted = max(floor, int(val * total + 0.5))
        assert taken[VAL] >= min(wanted, total // 3)
        assert taken[EVAL] >= min(int(eval_share * total + 0.5), total // 3)


def test_units_of_one_give_exact_sizes():
    chooser = np.random.default_rng(0)
    bins = chooser.choice(BINS, 1000, replace=False)
    cut = choose_cut(counts_of(dict.fromkeys(bins.tolist(), 1)), SplitOptions())
    codes = cut.splits(bins.astype(np.int64))
    assert [(codes == code).sum() for code in (TRAIN, VAL, EVAL)] == [850, 100, 50]


def test_the_floor_of_val_is_capped_at_a_third_and_says_so():
    cut = choose_cut(counts_of(dict.fromkeys(range(30), 1)), SplitOptions())
    codes = cut.splits(np.arange(30))
    assert (codes == VAL).sum() == 10
    assert cut.val_capped


def test_a_unit_that_does_not_fit_is_passed_over():
    cut = choose_cut(counts_of({0: 60, 1: 1, 2: 1, 3: 1, 4: 50, 5: 20}), SplitOptions(eval=0.01, val=0.01, min_val=1))
    assert cut.passed == (0,)
    assert cut.splits(np.array([0, 1, 2, 3])).tolist() == [TRAIN, EVAL, VAL, TRAIN]


def alike_of(edge: tuple[bytes, bytes]) -> float:
    return (edge[0][0] ^ edge[1][0]) % 4 / 4


def cross_of(edges: list[tuple[bytes, bytes]], units: dict[bytes, bytes]) -> pa.Table:
    columns = [pa.array([edge[side] for edge in edges], pa.binary(16)) for side in (0, 1)]
    columns += [pa.array([units[edge[side]] for edge in edges], pa.binary(16)) for side in (0, 1)]
    columns += [pa.array([7] * len(edges), pa.int64())] * 2
    columns += [pa.array([alike_of(edge) for edge in edges], pa.float32())]
    return pa.table(columns, schema=CROSS)


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]),
        unique=True,
        max_size=30,
    )
)
def test_no_look_alikes_are_left_in_two_splits(pairs):
    ids = [bytes([number]) * 16 for number in range(12)]
    units = {one: one for one in ids}
    bins = {one: bin_of(one, KEYS) for one in ids}
    ends = sorted(bins.values())
    cut = Cut(ends[4], ends[8])
    cross = cross_of([(ids[a], ids[b]) for a, b in pairs], units)
    codes = tuple(cut.splits(np.array([bins[ids[pair[side]]] for pair in pairs], np.int64)) for side in (0, 1))
    first = drop_lookalikes(cross, codes, EVAL)
    drops = pa.concat_tables([first, drop_lookalikes(cross, codes, VAL, id_words(first.column("id")))])
    gone = dict(zip(drops.column("id").to_pylist(), drops.column("reason").to_pylist(), strict=True))
    assert len(gone) == drops.num_rows
    kept_id, similarity = (
        dict(zip(drops.column("id").to_pylist(), drops.column(name).to_pylist(), strict=True))
        for name in ("kept_id", "similarity")
    )
    split = {one: int(cut.splits(np.array([bins[one]]))[0]) for one in ids}
    for a, b in pairs:
        left, right = ids[a], ids[b]
        assert split[left] == split[right] or left in gone or right in gone
    for one, reason in gone.items():
        neighbours = {ids[b] if ids[a] == one else ids[a] for a, b in pairs if one in (ids[a], ids[b])}
        wanted = EVAL if reason == "near_eval" else VAL
        assert split[one] != EVAL
        met = [other for other in neighbours if split[other] == wanted and other not in gone]
        most = max(alike_of((one, other)) for other in met)
        assert similarity[one] == most
        assert kept_id[one] == min(other for other in met if alike_of((one, other)) == most)
