import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms import write
from transforms.storage import Storage
from transforms.write import FileWriter, JsonlShard, ParquetShard

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())])


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(write, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(write, "ROW_GROUP_BYTES", 1000)


def shard(tmp_path, cuts, sizes):
    table = pa.table([pa.array(range(len(sizes))), pa.array([f"text {n}" for n in range(len(sizes))])], schema=SCHEMA)
    out = ParquetShard(FileWriter(Storage(), str(tmp_path), "data/x/a.parquet", "parquet", "train"), SCHEMA)
    bounds = [0, *cuts, len(sizes)]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        out.append(table.slice(start, end - start), np.array(sizes[start:end], np.int64))
    return out.put()


@pytest.mark.usefixtures("small_groups")
def test_bytes_don_t_depend_on_the_cut_of_the_rows(tmp_path):
    chooser = np.random.default_rng(0)
    sizes = chooser.choice([1, 50, 300, 5000], 100).tolist()
    digests = {
        shard(tmp_path, sorted(chooser.choice(101, cuts, replace=False).tolist()), sizes).digest
        for cuts in (0, 1, 5, 40, 100)
    }
    assert len(digests) == 1


@pytest.mark.usefixtures("small_groups")
def test_row_groups_end_at_rows_or_bytes(tmp_path):
    written = shard(tmp_path, [], [1] * 25 + [600, 600, 1, 5000, 1])
    metadata = pq.ParquetFile(tmp_path / written.path).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [10, 10, 7, 2, 1]


def test_the_digest_is_sha256_of_the_file(tmp_path):
    written = shard(tmp_path, [], [1] * 3)
    content = (tmp_path / written.path).read_bytes()
    assert written.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    assert (written.rows, written.bytes) == (3, len(content))


def test_an_empty_shard_is_a_file(tmp_path):
    written = shard(tmp_path, [], [])
    assert pq.read_table(tmp_path / written.path).schema.names == SCHEMA.names


def test_lines_end_with_a_newline(tmp_path):
    out = JsonlShard(FileWriter(Storage(), str(tmp_path), "a.jsonl", "jsonl"))
    out.append(pa.array(["{}", '{"é":1}', "{}"])[1:])
    out.append(pa.array([], pa.string()))
    assert out.put().rows == 2
    assert (tmp_path / "a.jsonl").read_text() == '{"é":1}\n{}\n'
