import os
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import runs as runs_module
from transforms.once import TaskFault, Work
from transforms.runs import Runs, RunWriter, Segment, segment_of, segments_of
from transforms.storage import Storage, join, scheme_of
from transforms.stores import MissingExtra, StorageError

SCHEMA = pa.schema([pa.field("key", pa.uint64()), pa.field("text", pa.string())])


def written(tmp_path, keys, segments, cut):
    runs = Runs(Storage(), str(tmp_path), "texts", SCHEMA)
    with RunWriter(SCHEMA, segments) as writer:
        for start in range(0, len(keys), cut):
            part = np.array(keys[start : start + cut], np.uint64)
            batch = pa.record_batch([pa.array(part), pa.array([f"é{key}" for key in part])], schema=SCHEMA)
            writer.append(batch, segment_of(part, segments))
        offsets = writer.finish(runs, 3)
    return runs, offsets


@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.sampled_from([1, 2, 8]), st.integers(1, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_segment_gives_back_its_rows_in_order(tmp_path_factory, keys, segments, cut, often):
    folder = tmp_path_factory.mktemp("runs")
    before = runs_module.FLUSH_BYTES
    runs_module.FLUSH_BYTES = 1 if often else before
    try:
        runs, offsets = written(folder, keys, segments, cut)
    finally:
        runs_module.FLUSH_BYTES = before
    references = dict(segments_of(3, offsets))
    found = {number: runs.table([reference]).column("key").to_pylist() for number, reference in references.items()}
    expected: dict[int, list[int]] = {}
    for key in keys:
        expected.setdefault(key * segments >> 64, []).append(key)
    assert found == expected


def test_a_run_that_is_cut_raises(tmp_path):
    runs, offsets = written(tmp_path, [1, 2, 3], 1, 3)
    os.truncate(runs.uri(3), offsets[1] - 1)
    with pytest.raises(RuntimeError, match="shorter than its reference"):
        runs.table([Segment(3, 0, offsets[1])])


def test_segments_are_a_power_of_two():
    with pytest.raises(ValueError, match="not a power of two"):
        segment_of(np.zeros(1, np.uint64), 3)


def test_a_task_is_done_once(tmp_path):
    work = Work(Storage(), str(tmp_path))
    calls = []
    for _ in range(2):
        assert work.once("merge", 4, lambda: calls.append(1) or {"rows": 7}) == {"rows": 7}
    assert calls == [1]


@pytest.mark.parametrize("count", [0, 1, 200])
def test_results_come_in_order_and_none_is_left_out(tmp_path, count):
    work = Work(Storage(), str(tmp_path))
    tasks = [("merge" if number % 3 else "mill", number) for number in range(count)]
    for stage, number in reversed(tasks):
        work.once(stage, number, lambda number=number: {"number": number})
    assert [one["number"] for one in work.results(tasks)] == list(range(count))
    with pytest.raises(RuntimeError, match="merge 9999 is not done"):
        list(work.results([*tasks, ("merge", 9999)]))


def test_a_fault_says_stage_and_type_but_never_the_message(tmp_path):
    def fail():
        raise ValueError("jane@example.com")

    with pytest.raises(TaskFault, match=r"merge 4 failed with ValueError") as caught:
        Work(Storage(), str(tmp_path)).once("merge", 4, fail)
    assert "jane" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_create_is_exclusive_and_whole(tmp_path):
    storage = Storage()
    uri = str(tmp_path / "snapshots" / "000001.json")
    assert storage.create(uri, b"first")
    assert not storage.create(uri, b"second")
    assert storage.read(uri) == b"first"
    assert os.listdir(tmp_path / "snapshots") == ["000001.json"]


def test_put_leaves_no_temporary_file(tmp_path):
    storage = Storage()
    storage.put(str(tmp_path / "a" / "b"), b"1")
    source = tmp_path / "source"
    source.write_bytes(b"22")
    storage.put_file(str(tmp_path / "a" / "b"), str(source))
    assert storage.read(str(tmp_path / "a" / "b")) == b"22"
    assert storage.read(str(tmp_path / "a" / "b"), 1, 2) == b"2"
    assert not source.exists()
    assert os.listdir(tmp_path / "a") == ["b"]


def test_find_lists_files_sorted(tmp_path):
    for name in ("b.jsonl", "a.jsonl", ".hidden", "sub/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    storage = Storage()
    names = [os.path.relpath(one.uri, tmp_path) for one in storage.find(str(tmp_path))]
    assert names == ["a.jsonl", "b.jsonl", "sub/c.jsonl"]
    assert [one.size for one in storage.find(str(tmp_path / "*.jsonl"))] == [1, 1]
    assert storage.find(str(tmp_path / "missing.jsonl")) == []


def test_schemes_and_joins():
    assert join("/", "a") == "/a"
    assert join("s3://b", "a", "", "c") == "s3://b/a/c"
    assert scheme_of("a:b") == ""
    with pytest.raises(StorageError, match="not a kind of storage"):
        Storage().find("nowhere://a")


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [("s3://b/a", "s3fs", "s3"), ("gs://b/a", "gcsfs", "gcs"), ("az://b/a", "adlfs", "azure")],
)
def test_a_missing_package_names_its_extra(monkeypatch, uri, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme_of(uri), raising=False)
    with pytest.raises(MissingExtra, match="not installed") as caught:
        Storage().find(uri)
    assert f"make setup EXTRAS={extra}" in str(caught.value.hint)
