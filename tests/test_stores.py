"""The mill on an object store: moto's S3 server, in this process. Real servers: tests/servers."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator

import fsspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

from tests.records import chat
from tests.servers.programs import free_port
from tests.test_run import FAST, digests, made_corpus, mill
from transforms import stores
from transforms.storage import Storage
from transforms.stores import patiently, s3_client

SERVERS: list[ThreadedMotoServer] = []  # the one that answers


def forget_clients(scheme: str) -> None:
    """Clients are made anew, as the environment is now."""
    fsspec.get_filesystem_class(scheme).clear_instance_cache()
    s3_client.cache_clear()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    SERVERS[:] = [server]
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


def refusal(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize(
    "error", [refusal("SlowDown", 503), EndpointConnectionError(endpoint_url="http://s"), ConnectionResetError()]
)
def test_a_store_that_is_away_is_asked_again_for_a_while(error, monkeypatch):
    slept: list[float] = []
    clock = itertools.count()
    monkeypatch.setattr(stores.time, "sleep", slept.append)
    monkeypatch.setattr(stores.time, "monotonic", lambda: float(sum(slept)))
    answers = iter([error, error, error, "found"])

    def ask() -> str:
        next(clock)
        answer = next(answers, error)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(ask) == "found"
    assert next(clock) == 4
    with pytest.raises(type(error)):
        patiently(ask)
    assert stores.OUTAGE_SECONDS - max(slept) <= sum(slept) <= 2 * stores.OUTAGE_SECONDS


@pytest.mark.parametrize(
    "error", [refusal("AccessDenied", 403), refusal("NoSuchKey", 404), FileNotFoundError(), ValueError()]
)
def test_what_waiting_does_not_mend_is_told_at_once(error, monkeypatch):
    monkeypatch.setattr(stores.time, "sleep", lambda _: pytest.fail("it waits"))

    def ask() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(ask)


def test_a_store_that_comes_back_is_read(s3):
    s3.pipe_file("data/a", b"there")
    (server,) = SERVERS
    server.stop()
    back = threading.Timer(1.5, server.start)
    back.start()
    assert Storage().read("s3://data/a") == b"there"
    back.join()


def test_what_a_store_refuses_to_give_is_a_lack_of_rights():
    class Client:
        def get_object(self, **_: object) -> None:
            raise refusal("AccessDenied", 403)

    with pytest.raises(PermissionError):
        stores.read_s3(Client(), "data/a", 0, 10)


def test_what_a_store_refuses_to_remove_is_told(s3, monkeypatch):
    s3.pipe_file("data/a", b"")
    answer = {"Errors": [{"Key": "a", "Code": "AccessDenied"}]}
    monkeypatch.setattr(type(s3), "call_s3", lambda *_, **__: answer)
    with pytest.raises(PermissionError):
        Storage().remove("s3://data/a")


def test_all_below_a_folder_is_removed_whatever_its_names(s3):
    names = [f"data/out/{name}" for name in ("a[1].json", "*", "b c", "a/b?", "d")]
    for name in names:
        s3.pipe_file(name, b"")
    s3.pipe_file("data/other", b"")
    Storage().remove("s3://data/out")
    s3.invalidate_cache()
    assert s3.find("data") == ["data/other"]


def test_the_clients_own_settings_are_those_of_all_reads(s3, monkeypatch):
    s3.pipe_file("data/a", b"there")
    settings = {"key": "testing", "secret": "testing", "endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    forget_clients("s3")
    assert Storage().read("s3://data/a") == b"there"


@pytest.mark.usefixtures("s3")
def test_the_next_commands_know_the_server_of_the_config(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.jsonl").write_bytes(json.dumps(chat("Hello there")).encode())
    url = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    sets = [*FAST, "--set", f"storage.endpoint={url}"]
    assert mill("run", "--input", tmp_path / "a.jsonl", "--output", "s3://data/out", *sets) == 0
    assert f"AWS_ENDPOINT_URL={url} corpusmill verify s3://data/out" in capsys.readouterr().out


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_told_before_any_work(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(chat("Hello there")).encode())
    assert mill("run", "--input", path, "--output", "s3://nowhere/out", *FAST) == 2
    assert "nowhere" in capsys.readouterr().err
    assert mill("run", "--input", "s3://nowhere/*.jsonl", "--output", tmp_path / "out", *FAST) == 2
    assert not (tmp_path / "out").exists()
