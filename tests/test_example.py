"""The example input, and public data beside the project, through the whole mill."""

from __future__ import annotations

import base64
import hashlib
import json
import operator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import re2
import zstandard

from tests.records import chat, write_lines
from tests.test_run import lineage, manifest_of, mill, rows

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    patch = pytest.MonkeyPatch()
    patch.chdir(EXAMPLES.parent)
    try:
        assert mill("run", EXAMPLES / "config.yaml", "--output", folder / "out", "--keep-work") == 0
    finally:
        patch.undo()
    return folder / "out"


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((EXAMPLES / "expected.json").read_text(encoding="utf-8"))


def test_the_example_is_accounted_for_as_planted(example, expected):
    accounting = manifest_of(example)["accounting"]
    assert accounting["read"] == expected["read"]
    assert accounting["blank"] == expected["blank"]
    assert accounting["quarantined"] == expected["quarantined"]
    assert accounting["duplicate"] == sum(expected["duplicates"].values())
    assert accounting["train"] + accounting["val"] + accounting["eval"] == expected["kept"]


def unpacked(path: Path) -> bytes:
    """The bytes of a file as a reader gets to see them."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        return json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
    if path.suffix == ".run":
        pieces, position = [], 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 4], "little")
            pieces.append(zstandard.decompress(content[position + 4 : position + 4 + length]))
            position += 4 + length
        return b"".join(pieces)
    return content


def disguises(value: str) -> set[bytes]:
    """A value, escaped, and as digests and base64 that would let one confirm a guess at it."""
    raw = value.encode()
    digests = [hashlib.new(name, raw) for name in ("sha256", "md5", "sha1", "blake2b")] + [
        hashlib.blake2b(raw, digest_size=16)
    ]
    hexes = {digest.hexdigest().encode() for digest in digests}
    return {
        raw,
        json.dumps(value)[1:-1].encode(),
        base64.b64encode(raw),
        *hexes,
        *(digest.digest() for digest in digests),
    }


def test_no_planted_value_survives_anywhere(example, expected):
    """Not in any file, unpacked, not as a digest or base64, nor in a name; the work folder included."""
    planted = [one["value"] for one in expected["canaries"]] + expected["users"] + [expected["codename"]["value"]]
    assert len(planted) > 400
    needles = re2.Set.SearchSet(_options())
    patterns = [needle for value in planted for needle in disguises(value)]
    for needle in patterns:
        needles.Add(re2.escape(needle))
    needles.Compile()
    assert all(needles.Match(b"a " + needle + b" b") for needle in patterns[::50])
    files = [path for path in example.rglob("*") if path.is_file()]
    assert {".run", ".parquet", ".jsonl", ".json", ".html", ".md"} <= {path.suffix for path in files}
    for path in files:
        found = needles.Match(unpacked(path)) or needles.Match(str(path.relative_to(example)).encode())
        assert not found, f"{len(found)} planted values in {path.name}"


def _options():
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 1 << 28
    return options


def test_verify_agrees(example):
    assert mill("verify", example, "--sample", 0) == 0


def test_every_public_record_is_accounted_for_and_understood(shared, tmp_path):
    inputs = [shared / "gsm8k" / "train.jsonl", *sorted((shared / "llama-factory").glob("*.json*"))]
    assert mill("run", "--input", *inputs, "--output", tmp_path / "out") == 0
    accounting = manifest_of(tmp_path / "out")["accounting"]
    assert accounting["read"] == 10_622
    assert accounting["quarantined"] == {"preference_record": 300}
    ids = {row["id"]: row for split in ("train", "val", "eval") for row in rows(tmp_path / "out", split)}
    assert len(ids) + accounting["duplicate"] + 300 == 10_622
    assert len(lineage(tmp_path / "out")) == 10_622
    lines = [json.loads(line) for path in (tmp_path / "out").rglob("*.jsonl") for line in path.open(encoding="utf-8")]
    present = [
        [{key: value for key, value in one.items() if value is not None} for one in row["messages"]]
        for row in ids.values()
    ]
    by_text = operator.itemgetter("messages")
    order = lambda messages: json.dumps(messages, sort_keys=True).replace(".0", "")  # noqa: E731
    assert sorted(map(by_text, lines), key=order) == sorted(present, key=order)


def test_naughty_strings_come_back_equal(shared, tmp_path):
    strings = json.loads((shared / "naughty-strings" / "blns.json").read_text(encoding="utf-8"))
    naughty = [one for one in strings if one.strip()]
    assert len(naughty) == 513
    path = write_lines(tmp_path / "a.jsonl", [chat(one, one) for one in naughty])
    arguments = ["--set", "redact.enabled=false", "--set", "dedupe.near=false"]
    assert mill("run", "--input", path, "--output", tmp_path / "out", *arguments) == 0
    parquet = {
        one["content"]
        for split in ("train", "val", "eval")
        for row in rows(tmp_path / "out", split)
        for one in row["messages"]
    }
    jsonl = {
        one["content"]
        for file in (tmp_path / "out" / "jsonl").rglob("*.jsonl")
        for line in file.read_bytes().split(b"\n")[:-1]
        for one in json.loads(line)["messages"]
    }
    assert parquet == jsonl == set(naughty)


def test_names_of_files_and_folders_are_redacted(tmp_path, capsys):
    folder = tmp_path / "to jane.doe@example.org"
    for number in range(2):
        write_lines(folder / f"for max{number}@example.org.jsonl", [chat(f"What about parcel {number}?"), b"{"])
    assert mill("run", "--input", folder, "--output", tmp_path / "out", "--set", "dedupe.near=false") == 0
    out = tmp_path / "out"
    for path in out.rglob("*"):
        assert not path.is_file() or b"@example" not in unpacked(path), path.name
    assert "@example" not in capsys.readouterr().out
    shards = pq.read_table(out / "snapshots" / "000001-inputs.parquet").to_pylist()
    assert [one["read"] for one in shards] == [2, 2]
    assert len(json.loads(next(out.rglob("report.json")).read_text(encoding="utf-8"))["shards"]) == 2
    assert mill("run", "--input", folder, "--output", out, "--set", "dedupe.near=false") == 0
    assert mill("verify", out) == 0


def test_a_thousand_canaries_are_nowhere(tmp_path, capfd, caplog):
    """Planted in valid, broken and quarantined lines, in file names and in the config; what fails says nothing either."""
    mails = [f"zq{number}canary@planted{number}.com" for number in range(700)]
    words = [f"Zqdenied{number}" for number in range(200)]
    names = [f"zqfile{number}canary@planted.com" for number in range(4)]
    valid = [chat(f"Write to {mail}, or {words[place % 200]}?") for place, mail in enumerate(mails[:500])]
    broken = [json.dumps(chat(f"Write to {mail}")).encode()[:-3] for mail in mails[500:600]]
    rejected = [{"messages": [{"role": "user", "content": f"alone, {mail}"}]} for mail in mails[600:]]
    lines = [*valid, *broken, *rejected]
    for number, name in enumerate(names):
        write_lines(tmp_path / "in" / f"{name}.jsonl", lines[number::4])
    config = tmp_path / "config.yaml"
    custom = [{"name": "CODENAME", "deny": words}]
    config.write_text(json.dumps({"redact": {"custom": custom}, "dedupe": {"near": False}}), encoding="utf-8")
    assert mill("run", config, "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert manifest_of(tmp_path / "out")["accounting"]["quarantined"]["too_few_messages"] == 100
    assert mill("run", config, "--input", tmp_path / "in", "--output", tmp_path / "bad", "--set", "redact.x=1") == 2
    assert mill("verify", tmp_path / "out") == 0
    needles = re2.Set.SearchSet(_options())
    for value in (*mails, *words, *names):
        for needle in disguises(value):
            needles.Add(re2.escape(needle))
    needles.Compile()
    said = capfd.readouterr()
    for text in (said.out, said.err, caplog.text):
        assert not needles.Match(text.encode())
    for path in (tmp_path / "out").rglob("*"):
        assert not needles.Match(str(path.relative_to(tmp_path)).encode())
        assert not path.is_file() or not needles.Match(unpacked(path)), path.suffix
