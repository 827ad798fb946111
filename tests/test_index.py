import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import parts
from transforms.bands import BANDS, publish_bands
from transforms.index import (
    OWNERS,
    PUBLISHED,
    Index,
    Part,
    match_owners,
    parts_of,
    parts_to_merge,
    put_part,
    without,
)
from transforms.kept import gather_kept
from transforms.merge import Shard
from transforms.split import EVAL, TRAIN, VAL
from transforms.storage import Storage
from transforms.verify import SKETCHES

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
    with pytest.raises(ValueError, match="no name of the index"):
        parts_of(["index/000001-x/other.parquet"])


@given(st.lists(st.integers(0, 60), max_size=70))
def test_of_many_small_parts_few_are_left(nights):
    """Each row is written again as often as the number of rows doubles, whatever the nights bring."""
    parts: list[list[int]] = []  # how often each row of it was written
    for rows in nights:
        names = {f"index/{number:06d}-x/owners-00001-of-00002.parquet": len(part) for number, part in enumerate(parts)}
        others = {"index/000000-x/owners-00000-of-00002.parquet": 0, "index/000000-x/bands-00001-of-00002.parquet": 0}
        count = len(parts_to_merge("owners", 1, 2, names | others))
        taken = [written for part in parts[len(parts) - count :] for written in part]
        parts = [*parts[: len(parts) - count], [*(written + 1 for written in taken), *[1] * rows]]
        total = sum(map(len, parts))
        assert len(parts) <= 2 + 2 * total.bit_length()
        assert max((written for part in parts for written in part), default=0) <= 2 + 2 * total.bit_length()
    assert sum(map(len, parts)) == sum(nights)


def owners(rows: list[tuple[int, int, int | None]], replaced_by: int | None = None) -> pa.Table:
    columns = [
        pa.array([one_id(owner) for owner, _, _ in rows], pa.binary(16)),
        pa.array([split for _, split, _ in rows], pa.int8()),
        pa.array([None if one is None else one_id(one) for _, _, one in rows], pa.binary(16)),
        pa.array([None if replaced_by is None else one_id(replaced_by)] * len(rows), pa.binary(16)),
    ]
    return pa.table(columns, schema=OWNERS)


def test_a_part_that_is_older_than_a_column_is_read(tmp_path):
    known = owners([(1, VAL, 10), (2, TRAIN, None)])
    path = put_part(Storage(), str(tmp_path), "000001-x", "owners", 0, 1, known).path
    assert Index(Storage(), str(tmp_path), parts_of([path])).read("owners", 0, 1).equals(known)
    old = pq.read_table(tmp_path / path).drop_columns(["replaced_by"])
    pq.write_table(old, tmp_path / path, store_schema=False)
    assert Index(Storage(), str(tmp_path), parts_of([path])).read("owners", 0, 1).equals(known)


def test_owners_are_found_for_whoever_claims_them():
    known = owners([(1, VAL, None), (2, EVAL, 20), (1, VAL, None), (3, TRAIN, None)])
    claims = pa.table({"owner": pa.array([one_id(9), one_id(1), one_id(2), one_id(1)], pa.binary(16)),
                       "key": pa.array([5, 6, 7, 8], pa.uint64())})  # fmt: skip
    rows, targets = match_owners(claims, known)
    assert rows.equals(owners([(1, VAL, None), (2, EVAL, 20), (1, VAL, None)]))
    assert targets.tolist() == [6, 7, 8]


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


FAMILY = st.lists(st.integers(0, 2**40 - 1), max_size=300)


@given(FAMILY, st.lists(st.integers(0, 2**40 - 1), max_size=20), st.sampled_from([1, 7, 1 << 16]), st.integers(1, 4))
def test_bands_come_back_by_whole_blocks_or_some(tmp_path_factory, values, asked, block, segments):
    """However they are cut into blocks, whoever asks for some bands gets what a filter over all rows gives."""
    root = str(tmp_path_factory.mktemp("index"))
    rows = pa.table(
        [
            pa.array([value << 24 for value in values], pa.uint64()),
            pa.array([value % 1000 for value in values], pa.uint32()),
            pa.array([value % 3 for value in values], pa.uint32()),
            pa.array([0] * len(values), pa.int8()),
        ],
        schema=BANDS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BLOCK", block)
        written = put_part(Storage(), root, "000001-x", "bands", 0, 1, rows)
    index = Index(Storage(), root, parts_of([written.path]))
    order = [("band", "ascending"), ("ref", "ascending")]
    (everything,) = index.all("bands")
    assert everything.sort_by([*order, ("order", "ascending")]).equals(rows.sort_by([*order, ("order", "ascending")]))
    wanted = np.array([value << 24 for value in [*asked, *values[::3]]], np.uint64)
    found = pa.concat_tables(index.read("bands", segment, segments, wanted) for segment in range(segments))
    assert sorted(found.column("band").to_pylist()) == sorted(
        value for value in rows.column("band").to_pylist() if value in set(wanted.tolist())
    )


LISTS = st.lists(st.integers(0, 2**32 - 1), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 2**128 - 1), LISTS, LISTS), max_size=40, unique_by=lambda one: one[0]), counts)
def test_sketches_come_back_as_they_were(tmp_path_factory, made, segments):
    root = str(tmp_path_factory.mktemp("index"))
    made = sorted(made)
    rows = pa.table(
        {
            "id": pa.array([one.to_bytes(16, "big") for one, _, _ in made], pa.binary(16)),
            "rank": [b"r"] * len(made),
            "group": pa.array([None if one % 2 else one.to_bytes(16, "big") for one, _, _ in made], pa.binary(16)),
            "n_bytes": [one % 9 for one, _, _ in made],
            "published": pa.array([one % 3 for one, _, _ in made], pa.int8()),
            "tie": pa.array([0] * len(made), pa.uint64()),
            "words": pa.array([words for _, words, _ in made], pa.list_(pa.uint32())),
            "grams": pa.array([grams for _, _, grams in made], pa.list_(pa.uint32())),
        },
        schema=SKETCHES,
    )
    index = Index(Storage(), root, parts_of([put_part(Storage(), root, "000001-x", "sketches", 0, 1, rows).path]))
    assert pa.concat_tables(index.read("sketches", segment, segments) for segment in range(segments)).equals(rows)
    some = np.unique(np.array([one >> 64 for one, _, _ in made[::2]], np.uint64))
    assert index.read("sketches", 0, 1, some).column("id").to_pylist() == [
        one.to_bytes(16, "big") for one, _, _ in made if one >> 64 in some
    ]


def test_row_groups_without_what_is_asked_for_stay_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_PARQUET", {**parts._PARQUET, "row_group_size": 10})
    values = [number << 32 for number in range(100)]
    path = put_part(Storage(), str(tmp_path), "000001-x", "records", 0, 1, published(values)).path
    index, read = Index(Storage(), str(tmp_path), parts_of([path])), []
    whole = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_groups", lambda self, groups: read.append(groups) or whole(self, groups)
    )
    assert index.read("records", 0, 1, np.array([5 << 32, 6 << 32, 93 << 32], np.uint64)).num_rows == 3
    assert (
        index.read("records", 1, 1 << 26).column("key").to_pylist() == [number << 32 for number in range(64, 100)][:36]
    )
    assert read == [[0, 9], [6, 7, 8, 9]]


def test_who_shares_a_ref_with_a_forgotten_record_keeps_their_bands():
    gone, stays = (bytes([1, 2, 3, 4]) + bytes([number] * 12) for number in (5, 6))
    ref = int.from_bytes(gone[:4], "big")
    bands = pa.table([pa.array([1 << 24, 2 << 24, 3 << 24, 4 << 24], pa.uint64()), pa.array([ref, ref, ref, 9], pa.uint32()),
                      pa.array([0] * 4, pa.uint32()), pa.array([0] * 4, pa.int8())], schema=BANDS)  # fmt: skip
    assert without("bands", bands, [gone], []).column("band").to_pylist() == [4 << 24]
    left = without("bands", bands, [gone], [], bands.slice(1, 1))
    assert left.column("band").to_pylist() == [2 << 24, 4 << 24]
    ids = pa.table({"id": pa.array([gone, stays], pa.binary(16))})
    assert without("records", ids, [gone], []).column("id").to_pylist() == [stays]
