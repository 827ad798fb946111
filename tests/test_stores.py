"""The mill on an object store: moto's S3 server, in this process. Real servers: tests/servers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from tests.records import chat
from tests.test_run import FAST, digests, made_corpus, mill
from transforms.storage import Storage
from transforms.stores import s3_client


def forget_clients(scheme: str) -> None:
    """Clients are made anew, as the environment is now."""
    fsspec.get_filesystem_class(scheme).clear_instance_cache()
    s3_client.cache_clear()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    forget_clients("s3")
    file_system = fsspec.filesystem("s3")
    file_system.mkdir("data")
    yield file_system
    file_system.rm("data", recursive=True)
    server.stop()
    forget_clients("s3")


def test_a_dataset_on_a_store_is_the_one_on_a_disk(s3, tmp_path, capsys):
    content = b"".join(
        (record if isinstance(record, bytes) else json.dumps(record).encode()) + b"\n" for record in made_corpus(60)
    )
    s3.pipe_file("data/logs/a.jsonl", content)
    (tmp_path / "a.jsonl").write_bytes(content)
    options = [*FAST, "--set", "read.unit_bytes=20000", "--set", "write.shard_bytes=20000"]
    assert mill("run", "--input", "s3://data/logs/*.jsonl", "--output", "s3://data/out", *options) == 0
    assert mill("run", "--input", tmp_path / "a.jsonl", "--output", tmp_path / "out", *options) == 0
    stored = json.loads(s3.cat_file("data/out/snapshots/000001.json"))
    names = {
        one["path"].rsplit("/", 1)[1]: one["digest"] for one in stored["files"] if one["kind"] in ("parquet", "jsonl")
    }
    assert names == digests(tmp_path / "out")
    assert not s3.find("data/out/work")
    assert mill("verify", "s3://data/out") == 0
    capsys.readouterr()
    assert mill("run", "--input", "s3://data/logs/*.jsonl", "--output", "s3://data/out", *options) == 0
    assert "nothing new" in capsys.readouterr().err


def test_history_on_a_store(s3, nights, capsys):
    s3.put(str(nights), "data/out", recursive=True)
    assert mill("rollback", "s3://data/out", "1") == 0
    capsys.readouterr()
    assert mill("log", "s3://data/out", "--json") == 0
    assert [one["undone"] for one in json.loads(capsys.readouterr().out)] == [False, True, False]
    assert mill("diff", "s3://data/out", "2", "3") == 0
    s3.pipe_file("data/out/work/abcdefabcdef/done/mill/000000.json", b"{}")
    s3.pipe_file("data/out/data/000004-abcdefabcdef/train-00000-of-00001.parquet", b"left")
    assert mill("expire", "s3://data/out", "--keep", "1") == 0
    assert s3.exists("data/out/work/abcdefabcdef/done/mill/000000.json")  # it may be of a run in progress
    assert not s3.exists("data/out/snapshots/000002.json")
    assert not [name for name in s3.find("data/out") if "/000002" in name]
    assert mill("expire", "s3://data/out", "--keep", "1", "--older-than", "0") == 0
    s3.invalidate_cache()
    assert not s3.find("data/out/work")
    assert not s3.find("data/out/data/000004-abcdefabcdef")
    assert mill("verify", "s3://data/out") == 0


def test_create_is_exclusive(s3):
    storage = Storage()
    assert storage.create("s3://data/snapshots/1.json", b"first")
    assert not storage.create("s3://data/snapshots/1.json", b"second")
    assert storage.read("s3://data/snapshots/1.json") == b"first"
    assert s3.cat_file("data/snapshots/1.json") == b"first"


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_told_before_any_work(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(chat("Hello there")).encode())
    assert mill("run", "--input", path, "--output", "s3://nowhere/out", *FAST) == 2
    assert "nowhere" in capsys.readouterr().err
    assert mill("run", "--input", "s3://nowhere/*.jsonl", "--output", tmp_path / "out", *FAST) == 2
    assert not (tmp_path / "out").exists()
