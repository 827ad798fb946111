"""The same tests on a local folder, MinIO, fake-gcs-server and Azurite: the storage layer, and the whole mill.

Run by name: `make test-stores`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.records import chat
from tests.servers.conftest import SETS, UNITS
from tests.servers.stores import Place, place_of
from tests.test_run import mill
from tests.test_stores import forget_clients
from transforms.storage import Storage, join

ODD = ["plain", "sp ace", "ünï→𝄞", "a+b&c=d", "100%25", "per%cent", "ha#sh", "que?ry", "br[ab]c", "st*r", "quo'te\"", "{x}",
       "semi;co,lon:", "tilde~!$()", "two::parts", "dots.."]  # fmt: skip


@pytest.fixture(scope="module", params=["local", "s3", "gs", "az"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place whose variables are set, as those of a user's shell."""
    with place_of(request.param, tmp_path_factory.mktemp("place")) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        if made.kind != "local":
            forget_clients(made.kind)
        yield made


@pytest.fixture(scope="module")
def inputs(place: Place, logs: Path) -> str:
    """The shards at the place."""
    for path in logs.iterdir():
        place.put(join(place.base, "logs", path.name), path.read_bytes())
    return join(place.base, "logs", "*.jsonl*")


def digests_at(place: Place, output: str) -> dict[str, str]:
    """As `digests`, of a dataset at a place."""
    manifest = json.loads(place.cat(join(output, "snapshots", "000001.json")))
    return {Path(one["path"]).name: one["digest"] for one in manifest["files"] if one["kind"] in ("parquet", "jsonl")}


# ------------------------------------------------------------------------------------------------- storage


def test_bytes_come_back_whole_and_in_ranges(place):
    storage, uri = Storage(), join(place.base, "bytes", "a.bin")
    content = bytes(range(256)) * 100_000  # 25.6 MB, in several blocks
    for size in (0, 1, len(content)):
        storage.put(uri, content[:size])
        assert storage.read(uri) == content[:size] == place.cat(uri)
        assert storage.stat(uri).size == size
        with storage.open(uri) as stream:
            assert b"".join(iter(lambda stream=stream: stream.read(1 << 20), b"")) == content[:size]
    for start, end in [
        (0, 1),
        (5, 5),
        (9, 4),
        (8_388_600, 8_388_700),
        (25_599_990, 30_000_000),
        (26_000_000, 27_000_000),
    ]:
        assert storage.read(uri, start, end) == content[start:end]
        with storage.open(uri, len(content), end) as stream:
            stream.seek(start)
            parts = [stream.read(300_000) for _ in range(5)]  # on beyond `end`, too
            assert b"".join(parts) == content[start : start + sum(map(len, parts))]
            assert parts[0] or start > len(content)
    with pytest.raises(FileNotFoundError):
        storage.read(join(place.base, "bytes", "none"))
    with pytest.raises(FileNotFoundError), storage.open(join(place.base, "bytes", "none")):
        pass
    with pytest.raises(FileNotFoundError):
        storage.stat(join(place.base, "bytes", "none"))


def test_a_large_file_is_put_whole(place, tmp_path):
    storage, uri, source = Storage(), join(place.base, "large", "a.bin"), tmp_path / "source"
    content = bytes(range(251)) * 300_000  # 75 MB, which clients put in parts
    source.write_bytes(content)
    storage.put_file(uri, str(source))
    assert not source.exists()
    assert storage.read(uri) == content


def test_one_of_many_creators_wins(place):
    storage, uri = Storage(), join(place.base, "race", "000001.json")
    crowd = 24
    start = threading.Barrier(crowd)

    def create(number: int) -> bool:
        mine = Storage()
        start.wait()
        return mine.create(uri, b"%02d" % number * 1000)

    for _ in range(3):
        storage.remove(uri)
        with ThreadPoolExecutor(crowd) as pool:
            won = list(pool.map(create, range(crowd)))
        assert won.count(True) == 1
        assert storage.read(uri) == b"%02d" % won.index(True) * 1000
        assert not storage.create(uri, b"late")
    assert len(place.find(join(place.base, "race"))) == 1, "something was left beside it"


def test_what_another_did_is_seen_at_once(place):
    storage, uri = Storage(), join(place.base, "seen", "a.json")
    assert not storage.exists(uri)
    assert storage.names(join(place.base, "seen")) == []
    place.put(uri, b"1")
    assert storage.exists(uri)
    assert storage.names(join(place.base, "seen")) == ["a.json"]
    before = storage.stat(uri)
    place.put(uri, b"2")
    assert storage.read(uri) == b"2"
    assert storage.stat(uri) != before
    place.look().rm_file(place.path(uri))
    assert not storage.exists(uri)
    assert storage.names(join(place.base, "seen")) == []


def test_removing_takes_all_below_and_nothing_beside(place):
    storage = Storage()
    base = join(place.base, "gone")
    kept = [join(base, name) for name in ("work2/a", "work.json", "wor[k]/a", "st1r/a")]
    lost = [join(base, "work", name) for name in ("a", "b/c/d", "e*", "st*r/x")] + [join(base, "st*r/a")]
    for uri in kept + lost:
        storage.put(uri, b"1")
    storage.remove(join(base, "work"))
    storage.remove(join(base, "st*r"))
    storage.remove(join(base, "work"))
    storage.remove(join(base, "never"))
    assert {Path(path).relative_to(place.path(base)).as_posix() for path in place.find(base)} == {
        uri.removeprefix(base + "/") for uri in kept
    }
    storage.remove(kept[1])
    assert not storage.exists(kept[1])
    assert storage.exists(kept[0])


def test_odd_names_are_found_and_read(place):
    storage, folder = Storage(), join(place.base, "odd")
    uris = sorted(join(folder, f"{name}.jsonl") for name in ODD)
    for uri in uris:
        storage.put(uri, uri.encode())
    for uri in uris:
        assert [one.uri for one in storage.find(uri)] == [uri]
        assert storage.read(uri) == uri.encode()
        assert storage.stat(uri).size == len(uri.encode())
        assert storage.exists(uri)
        with storage.open(uri) as stream:
            assert stream.read(10_000) == uri.encode()
    assert [one.uri for one in storage.find(folder)] == uris
    assert storage.names(folder) == sorted(uri.rsplit("/", 1)[1] for uri in uris)
    globbed = [one.uri for one in storage.find(join(folder, "*.jsonl"))]
    assert globbed == uris


def test_patterns_and_folders(place):
    storage, base = Storage(), join(place.base, "tree")
    for name in (
        "2026-11-22/a.jsonl",
        "2026-11-22/b.json.gz",
        "2026-11-22/.hidden.jsonl",
        "2026-11-23/c.jsonl",
        "d.txt",
    ):
        storage.put(join(base, name), b"1")

    def found(pattern: str) -> list[str]:
        return [one.uri.removeprefix(base + "/") for one in storage.find(join(base, pattern))]

    assert found("*/*.jsonl") == ["2026-11-22/a.jsonl", "2026-11-23/c.jsonl"]
    assert found("**/*.jsonl") == ["2026-11-22/a.jsonl", "2026-11-23/c.jsonl"]
    assert found("2026-11-2[23]/?.jsonl") == ["2026-11-22/a.jsonl", "2026-11-23/c.jsonl"]
    assert found("2026-11-22") == ["2026-11-22/a.jsonl", "2026-11-22/b.json.gz"]
    assert found("") == ["2026-11-22/a.jsonl", "2026-11-22/b.json.gz", "2026-11-23/c.jsonl"]
    assert found("d.txt") == ["d.txt"]
    assert found("2026-12-*/*.jsonl") == found("none") == []


# ------------------------------------------------------------------------------------------- the whole mill


@pytest.fixture(scope="module")
def milled(place: Place, inputs: str) -> str:
    """A dataset made with inputs, work folder and output at the place."""
    output = join(place.base, "out")
    work = ["--set", f"work={join(place.base, 'elsewhere')}"]
    assert mill("run", "--input", inputs, "--output", output, *SETS, *UNITS, *work) == 0
    return output


def test_the_whole_mill_makes_the_same_bytes(place, milled, expected):
    assert digests_at(place, milled) == expected
    assert place.find(join(place.base, "elsewhere")) == [], "the work folder is left"


def test_the_other_commands_read_it(place, inputs, milled, expected, capsys):
    assert mill("verify", milled) == 0
    assert "all is as the manifest says" in capsys.readouterr().out
    assert mill("files", milled, "--kind", "jsonl", "--split", "train") == 0
    listed = capsys.readouterr().out.split()
    assert {uri.rsplit("/", 1)[1] for uri in listed} == {name for name in expected if name.startswith("train") and name.endswith("jsonl")}  # fmt: skip
    first = json.loads(place.cat(listed[0]).split(b"\n")[0])
    assert first["messages"]
    assert mill("report", milled) == 0
    assert capsys.readouterr().out.strip().endswith("index.html")
    shard = sorted(place.find(join(place.base, "logs")))[0]
    assert mill("why", milled, f"{shard.rsplit('/', 1)[1]}:1") == 0
    assert capsys.readouterr().out
    assert mill("check", "--input", inputs) == 3  # there are broken lines
    assert mill("plan", "--input", inputs, "--output", join(place.base, "other"), *SETS) == 0
    assert place.find(join(place.base, "other")) == []
    capsys.readouterr()
    assert mill("run", "--input", inputs, "--output", milled, *SETS, *UNITS) == 0
    assert "nothing new" in capsys.readouterr().err


def test_what_was_altered_is_found(place, milled, capsys):
    storage = Storage()
    capsys.readouterr()
    assert mill("files", milled, "--kind", "parquet", "--split", "train") == 0
    uri = capsys.readouterr().out.split()[0]
    whole = place.cat(uri)
    place.put(uri, whole[:-1] + bytes([whole[-1] ^ 1]))
    assert mill("verify", milled) == 3
    assert "was altered" in capsys.readouterr().out
    storage.remove(uri)
    assert mill("verify", milled) == 3
    assert "is missing" in capsys.readouterr().out
    place.put(uri, whole)
    assert mill("verify", milled) == 0


def test_a_changed_input_ends_the_run(place, capsys, monkeypatch):
    """The input changes between the plan and the reading, and again right after the reading."""
    uri = join(place.base, "changing", "a.jsonl")
    line = json.dumps(chat("zebra zebra", "a zebra")).encode() + b"\n"
    output = join(place.base, "changed")
    place.put(uri, line * 30)
    stat = Storage.stat
    looks: list[str] = []

    def change_when_looked_at(storage: Storage, wanted: str) -> object:
        if wanted == uri:
            looks.append(wanted)
            if len(looks) == change_at:
                place.put(uri, line * 31)
        return stat(storage, wanted)

    planned = int(place.kind == "local")  # there the plan looks once too
    for change_at in (planned + 1, planned + 2):
        looks.clear()
        place.put(uri, line * 30)
        monkeypatch.setattr(Storage, "stat", change_when_looked_at)
        assert mill("run", "--input", uri, "--output", output, *SETS) == 4
        monkeypatch.setattr(Storage, "stat", stat)
        said = capsys.readouterr().err
        assert "an input changed since the run was planned" in said
        assert "zebra" not in said
        assert len(looks) >= change_at
        assert not place.find(join(output, "snapshots"))


def test_odd_names_go_through_the_mill(place, capsys):
    uris = [join(place.base, "mill odd", f"{name}.jsonl") for name in ODD]
    for number, uri in enumerate(uris):
        words = " ".join(f"word{number}x{place}" for place in range(30))
        place.put(uri, json.dumps(chat(words, f"answer {number}")).encode() + b"\n")
    output = join(place.base, "out of 100%")
    assert mill("run", "--input", join(place.base, "mill odd"), "--output", output, *SETS) == 0
    manifest = json.loads(place.cat(join(output, "snapshots", "000001.json")))
    assert manifest["accounting"]["read"] == len(ODD)
    assert mill("verify", output) == 0
    capsys.readouterr()
