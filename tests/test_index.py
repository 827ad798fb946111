import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.bands import BANDS, publish_bands
from transforms.index import OWNERS, PUBLISHED, Index, Part, in_eval, match_owners, parts_of, put_part
from transforms.kept import gather_kept
from transforms.merge import Shard
from transforms.split import EVAL, TRAIN, VAL
from transforms.storage import Storage

keys = st.lists(st.integers(0, 2**64 - 1), max_size=40)
counts = st.integers(1, 9)


def one_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def published(values: list[int]) -> pa.Table:
    count = len(values)
    columns = [pa.array(values, pa.uint64()), pa.array([one_id(value) for value in values], pa.binary(16)),
               pa.array([value % 3 for value in values], pa.int8()), pa.nulls(count, pa.binary(16))]  # fmt: skip
    return pa.table(columns, schema=PUBLISHED)


@given(st.lists(st.tuples(keys, counts), max_size=3), counts)
def test_whoever_asks_gets_each_row_of_their_keys_once(tmp_path_factory, snapshots, segments):
    """However many parts the snapshots are cut into, and however many segments ask."""
    root = str(tmp_path_factory.mktemp("index"))
    paths = []
    for number, (values, count) in enumerate(snapshots, 1):
        for index in range(count):
            shard = Shard(index, count)
            mine = [value for value in values if shard.first <= value <= shard.last]
            paths.append(put_part(Storage(), root, f"{number:06d}-x", "records", index, count, published(mine)).path)
    index = Index(Storage(), root, parts_of(paths))
    found = [index.read("records", segment, segments).column("key").to_pylist() for segment in range(segments)]
    assert sorted(value for one in found for value in one) == sorted(
        value for values, _ in snapshots for value in values
    )
    for segment, values in enumerate(found):
        asked = Shard(segment, segments)
        assert all(asked.first <= value <= asked.last for value in values)


def test_a_part_says_whom_it_is_for():
    third = Part("bands", "", 2, 4)
    assert [third.overlaps(segment, 2) for segment in range(2)] == [False, True]
    assert third.lies_in(1, 2)
    assert not third.lies_in(2, 3)
    with pytest.raises(ValueError, match="no name of the index"):
        parts_of(["index/000001-x/other.parquet"])


def owners(rows: list[tuple[int, int, int | None]]) -> pa.Table:
    columns = [
        pa.array([one_id(owner) for owner, _, _ in rows], pa.binary(16)),
        pa.array([split for _, split, _ in rows], pa.int8()),
        pa.array([None if one is None else one_id(one) for _, _, one in rows], pa.binary(16)),
    ]
    return pa.table(columns, schema=OWNERS)


def test_owners_are_found_for_whoever_claims_them():
    known = owners([(1, VAL, None), (2, EVAL, 20), (1, VAL, None), (3, TRAIN, None)])
    claims = pa.table({"owner": pa.array([one_id(9), one_id(1), one_id(2), one_id(1)], pa.binary(16)),
                       "key": pa.array([5, 6, 7, 8], pa.uint64())})  # fmt: skip
    rows, targets = match_owners(claims, known)
    assert rows.equals(owners([(1, VAL, None), (2, EVAL, 20), (1, VAL, None)]))
    assert targets.tolist() == [6, 7, 8]
    assert in_eval(rows).equals(owners([(2, EVAL, 20)]))


def test_a_group_in_two_splits_is_a_broken_invariant():
    claims = pa.table({"owner": pa.array([], pa.binary(16)), "key": pa.array([], pa.uint64())})
    with pytest.raises(RuntimeError, match="two splits"):
        match_owners(claims, owners([(1, VAL, None), (1, TRAIN, None)]))


def test_only_bands_of_kept_records_are_published():
    refs = [7, 8, 7, 9]
    rows = pa.table([pa.array([1, 2, 3, 4], pa.uint64()), pa.array(refs, pa.uint32()),
                     pa.array([0] * 4, pa.uint32()), pa.array([-1] * 4, pa.int8())], schema=BANDS)  # fmt: skip
    told = publish_bands(rows, gather_kept([np.array([7, 9], np.uint32)]))
    assert told.column("ref").to_pylist() == [7, 7, 9]
    assert set(told.column("published").to_pylist()) == {0}


@given(keys, keys, st.integers(1, 64))
def test_who_asks_for_some_gets_those_and_no_other(tmp_path_factory, values, asked, bits):
    root = str(tmp_path_factory.mktemp("index"))
    index = Index(
        Storage(), root, parts_of([put_part(Storage(), root, "000001-x", "records", 0, 1, published(values)).path])
    )
    mask = ~((1 << (64 - bits)) - 1)
    wanted = {value & mask for value in [*asked, *values[::2]]}
    found = index.read("records", 0, 1, np.array(sorted(wanted), np.uint64), bits).column("key").to_pylist()
    assert sorted(found) == sorted(value for value in values if value & mask in wanted)
