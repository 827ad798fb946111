"""Human decisions: what stops them, and what they leave behind, seen on one dataset and one later night."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.apply import DecisionFile, parse_decisions
from pipeline.snapshots import Dataset, total
from tests.records import WORDS, chat, write_lines
from tests.test_forget import live
from tests.test_run import FAST, mill
from transforms.hashing import Keys
from transforms.options import ReadOptions
from transforms.storage import Storage

OPTIONS = [
    *FAST,
    "--set",
    "split.group_by=metadata.user_id",
    "--set",
    "write.shard_bytes=16384",
    "--set",
    "split.eval=0.1",
]


def said(number: int) -> str:
    return (
        " ".join(WORDS[(number * 7 + k * (number % 11 + 2)) % len(WORDS)] for k in range(40))
        + f" {number} {number * 31}"
    )


def made_logs() -> list[Any]:
    return [chat(said(n), f"Answer number {n} is this.", user_id=n) for n in range(60)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("apply")
    logs = write_lines(folder / "logs.jsonl", made_logs())
    assert mill("run", "--input", logs, "--output", folder / "out", *OPTIONS) == 0
    return folder / "out"


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def of_split(output: Path, split: str) -> list[dict[str, Any]]:
    dataset = Dataset(Storage(), str(output))
    uris = dataset.files(dataset.manifest(), "parquet", split)
    return sorted((row for uri in uris for row in pq.read_table(uri).to_pylist()), key=lambda row: str(row["id"]))


def apply(output: Path, decisions: list[Any]) -> int:
    return mill("apply", output, write_lines(output.parent / "decisions.jsonl", decisions), "--json")


def fix(row: dict[str, Any], answer: str) -> dict[str, Any]:
    messages = json.loads(json.dumps(row["messages"]))
    messages[-1]["content"] = answer
    return {"id": row["id"], "decision": "fix", "messages": messages, "by": "A. Reviewer"}


def test_a_correction_stands_in_the_place_of_its_original_and_a_cut_record_stays_away(made, output, tmp_path, capsys):
    train, val = of_split(output, "train"), of_split(output, "val")
    wrong, gone, kept, other = train[0], train[1], train[2], val[0]
    before = Dataset(Storage(), str(output)).manifest()
    capsys.readouterr()
    decisions = [fix(wrong, "Corrected by hand."), {"id": gone["id"], "decision": "cut"},
                 {"id": kept["id"], "decision": "keep"}, fix(other, "Corrected as well.")]  # fmt: skip
    assert apply(output, decisions) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["fixed"], done["cut"], done["kept"], done["snapshot"]) == (2, 1, 1, 2)
    after = Dataset(Storage(), str(output)).manifest()
    accounting = after["accounting"]
    assert accounting["read"] == total(accounting) == before["accounting"]["read"] + 2
    assert accounting["dropped"] == {"superseded": 3}
    assert after["added"]["read"] == 2
    now = {row["id"]: row for row in [*of_split(output, "train"), *of_split(output, "val")]}
    assert not {wrong["id"], gone["id"], other["id"]} & now.keys()
    corrected = {json.loads(row["metadata"])["replaces"]: row for row in now.values() if "corrected" in row["metadata"]}
    assert corrected.keys() == {wrong["id"], other["id"]}
    new = corrected[wrong["id"]]
    assert new["messages"][-1]["content"] == "Corrected by hand."
    assert (new["kind"], new["group"]) == (wrong["kind"], wrong["group"])
    assert new in of_split(output, "train")
    assert corrected[other["id"]] in of_split(output, "val")
    assert of_split(output, "eval") == of_split_of(before, output, "eval")
    fates = {row["id"]: row for row in live(output, "lineage") if row["id"]}
    assert (fates[wrong["id"]]["reasons"], fates[wrong["id"]]["kept_id"]) == (["superseded"], new["id"])
    assert (fates[gone["id"]]["reasons"], fates[gone["id"]]["kept_id"]) == (["superseded"], None)
    assert fates[new["id"]]["outcome"] == "train"
    assert "A. Reviewer" not in str(live(output, "parquet"))
    assert mill("verify", output) == 0
    # Once more is nothing to do; what was decided can't be decided otherwise.
    capsys.readouterr()
    assert apply(output, decisions) == 0
    assert json.loads(capsys.readouterr().out)["committed"] is False
    assert apply(output, [{"id": gone["id"], "decision": "keep"}]) == 2
    # The next night brings all of it again, and a near-copy of the original.
    logs = made_logs()
    number = next(n for n in range(60) if said(n) == wrong["messages"][0]["content"])
    near = chat(said(number) + " please", f"Answer number {number} is this.", user_id=number)
    night = write_lines(
        tmp_path / "night.jsonl", [*logs, near, chat("Never asked before in this shop", "So.", user_id=99)]
    )
    assert mill("run", "--input", night, "--output", output, *OPTIONS) == 0
    added = Dataset(Storage(), str(output)).manifest()["added"]
    assert added["dropped"]["superseded"] == 3
    assert added["train"] + added["val"] + added["eval"] == 1
    assert mill("verify", output) == 0
    # So does a rebuild, under a config that would keep more; and all of it stays decided.
    rebuilt = [night, made.parent / "logs.jsonl", "--output", output, *OPTIONS, "--set", "validate.max_chars=9000"]
    before = Dataset(Storage(), str(output)).manifest()["accounting"]
    assert mill("run", "--input", *rebuilt, "--rebuild") == 0
    after = Dataset(Storage(), str(output)).manifest()["accounting"]
    assert [after[split] for split in ("train", "val", "eval")] == [before[split] for split in ("train", "val", "eval")]
    assert after["dropped"]["superseded"] == 6  # the night brought a copy of each
    rows = {row["id"]: row for row in [*of_split(output, "train"), *of_split(output, "val")]}
    assert not {wrong["id"], gone["id"], other["id"]} & rows.keys()
    assert rows[new["id"]] == new
    assert corrected[other["id"]] in of_split(output, "val")
    assert mill("verify", output) == 0
    assert mill("run", "--input", *rebuilt, "--rebuild") == 0
    assert Dataset(Storage(), str(output)).manifest()["accounting"] == after
    assert mill("run", "--input", *rebuilt) == 0
    again = write_lines(tmp_path / "again.jsonl", [*logs, near])
    assert mill("run", "--input", again, *rebuilt[2:]) == 0
    added = Dataset(Storage(), str(output)).manifest()["added"]
    assert (added["dropped"]["superseded"], added["train"] + added["val"] + added["eval"]) == (3, 0)
    assert mill("verify", output) == 0
    # And when the person is forgotten, the correction of their record goes too.
    capsys.readouterr()
    assert mill("forget", output, "--group", str(number), "--json") == 0
    assert sum(json.loads(capsys.readouterr().out)["removed"]["records"].values()) == 1
    assert new["id"] not in {row["id"] for row in live(output, "parquet")}
    assert mill("verify", output) == 0


def of_split_of(manifest: dict[str, Any], output: Path, split: str) -> list[dict[str, Any]]:
    uris = Dataset(Storage(), str(output)).files(manifest, "parquet", split)
    return sorted((row for uri in uris for row in pq.read_table(uri).to_pylist()), key=lambda row: str(row["id"]))


def test_one_decision_that_cannot_be_carried_out_stops_them_all(output, capsys):
    train, val, held = of_split(output, "train"), of_split(output, "val"), of_split(output, "eval")
    fine = fix(train[5], "Corrected by hand.")
    copied = {**fix(train[0], ""), "messages": val[0]["messages"]}
    near = {**fix(train[0], ""), "messages": fix(held[0], "Answer number 1000 is this.")["messages"]}
    for wrong, told in (
        (fix(held[0], "No."), "is in eval"),
        ({"id": held[0]["id"], "decision": "cut"}, "is in eval"),
        ({"id": "0" * 32, "decision": "cut"}, "has no record"),
        ({"id": train[5]["id"], "decision": "cut"}, "was decided on in line 1"),
        (fix(train[0], " "), "empty_turn"),
        (fix(train[0], train[0]["messages"][-1]["content"]), "says what the record says already"),
        (copied, f"says what record {val[0]['id']} says"),
        (near, "resembles"),
        ({"id": train[0]["id"], "decision": "fix"}, "needs `messages`"),
        ({"id": train[0]["id"], "decision": "drop"}, "none of keep, cut, fix"),
        ({"id": "x", "decision": "keep"}, "32 hex digits"),
        (b'{"id": "a", "id": "b"}', "duplicate_key"),
    ):
        assert apply(output, [fine, wrong]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
        assert not (output / "snapshots" / "000002.json").exists()
    assert mill("apply", output, output / "none.jsonl") == 2


def test_decisions_know_their_place():
    content = b'\n{"id":"' + b"a" * 32 + b'","decision":"keep"}\n\n{"id":"' + b"b" * 32 + b'","decision":"cut"}'
    decisions, wrong = parse_decisions(DecisionFile("decisions.jsonl", content), 0, ReadOptions())
    assert not wrong
    for one in decisions:
        assert json.loads(content[one.offset : one.offset + one.length])["id"] == one.id
        assert content.split(b"\n")[one.line - 1] == content[one.offset : one.offset + one.length]


def repeating(wrong: dict[str, Any], other: dict[str, Any], last: str = "that.") -> dict[str, Any]:
    """A fix that makes of a record a near-duplicate of another."""
    said = fix(other, str(other["messages"][-1]["content"]).rsplit(" ", 1)[0] + " " + last)
    return {**said, "id": wrong["id"]}


def fate_of(output: Path, identity: str) -> list[dict[str, Any]]:
    return [row for row in live(output, "lineage") if row["id"] == identity]


def test_what_resembles_a_corrected_record_in_its_split_gives_way_to_it(made, output, tmp_path, capsys):
    train = of_split(output, "train")
    wrong, other, far = train[0], train[1], train[2]
    before = Dataset(Storage(), str(output)).manifest()
    capsys.readouterr()
    decisions = [repeating(wrong, other), {"id": far["id"], "decision": "keep"}]
    assert apply(output, decisions) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["fixed"], done["gave_way"], done["already"]) == (1, 1, 0)
    after = Dataset(Storage(), str(output)).manifest()
    accounting = after["accounting"]
    assert accounting["read"] == total(accounting) == before["accounting"]["read"] + 1
    assert accounting["train"] == before["accounting"]["train"] - 1
    assert accounting["duplicate"] == before["accounting"]["duplicate"] + 1
    now = {row["id"]: row for row in of_split(output, "train")}
    (new,) = [row for row in now.values() if "corrected" in row["metadata"]]
    assert now.keys() == {row["id"] for row in train} - {wrong["id"], other["id"]} | {new["id"]}
    (fate,) = fate_of(output, other["id"])
    assert (fate["outcome"], fate["reasons"], fate["kept_id"]) == ("duplicate", ["near"], new["id"])
    assert 0.8 <= fate["similarity"] < 1
    assert mill("verify", output) == 0
    capsys.readouterr()
    assert mill("why", output, other["id"]) == 0
    assert f"gave way to {new['id']}, of which it is a near-duplicate" in " ".join(capsys.readouterr().out.split())
    # The same file again is nothing to do; a decision on what gave way names the wrong record.
    assert apply(output, decisions) == 0
    assert json.loads(capsys.readouterr().out)["committed"] is False
    for decision in ("cut", "keep"):
        assert apply(output, [{"id": other["id"], "decision": decision}]) == 2
        assert f"gave way to {new['id']}" in " ".join(capsys.readouterr().err.split())
    # In the index it is as if the corrected record had been there first: to a night, and to a rebuild.
    night = write_lines(tmp_path / "night.jsonl", [chat(other["messages"][0]["content"], other["messages"][1]["content"],
                                                        user_id=json.loads(other["metadata"])["user_id"])])  # fmt: skip
    assert mill("run", "--input", night, "--output", output, *OPTIONS) == 0
    assert Dataset(Storage(), str(output)).manifest()["added"]["duplicate"] == 1
    told = [(one["outcome"], one["reasons"], one["kept_id"], one["similarity"]) for one in fate_of(output, other["id"])]
    assert told == 2 * [("duplicate", ["near"], new["id"], fate["similarity"])]
    rebuilt = ["run", "--input", made.parent / "logs.jsonl", night, "--output", output, *OPTIONS]
    assert mill(*rebuilt, "--set", "validate.max_chars=9000", "--rebuild") == 0
    assert {row["id"] for row in of_split(output, "train")} == now.keys()
    assert told == [(one["outcome"], one["reasons"], one["kept_id"], one["similarity"]) for one in fate_of(output, other["id"])]  # fmt: skip
    assert mill("verify", output) == 0
    # When the person whose record was corrected is forgotten, what gave way to it names nobody, and stays away.
    assert mill("forget", output, "--group", str(json.loads(wrong["metadata"])["user_id"])) == 0
    assert [one["kept_id"] for one in fate_of(output, other["id"])] == [None, None]
    assert mill("verify", output) == 0


def test_copies_of_what_gives_way_to_a_corrected_record_are_its_near_duplicates_too(output, tmp_path):
    wrong, other, *_ = of_split(output, "train")
    copy = chat(other["messages"][0]["content"], other["messages"][1]["content"], user_id=json.loads(other["metadata"])["user_id"])  # fmt: skip
    night = write_lines(tmp_path / "night.jsonl", [copy])
    assert mill("run", "--input", night, "--output", output, *OPTIONS) == 0
    assert apply(output, [repeating(wrong, other)]) == 0
    mine = fate_of(output, other["id"])
    assert len(mine) == 2
    assert {(one["outcome"], *one["reasons"]) for one in mine} == {("duplicate", "near")}
    assert len({(one["kept_id"], one["similarity"]) for one in mine}) == 1
    assert mill("verify", output) == 0


def test_what_a_human_keeps_or_corrected_gives_way_to_no_correction(output, capsys):
    train = of_split(output, "train")
    capsys.readouterr()
    kept = {"id": train[1]["id"], "decision": "keep"}
    assert apply(output, [repeating(train[0], train[1]), kept, repeating(train[2], train[1], "these.")]) == 0
    assert json.loads(capsys.readouterr().out)["gave_way"] == 0
    assert apply(output, [repeating(train[3], train[1], "those.")]) == 0
    assert json.loads(capsys.readouterr().out)["gave_way"] == 1
    ids = {row["id"] for row in of_split(output, "train")}
    assert len(ids) == len(train) - 1
    assert train[1]["id"] not in ids
    # The text of what gave way is anybody's again.
    again = {**fix(train[1], train[1]["messages"][-1]["content"]), "id": train[4]["id"]}
    assert apply(output, [again]) == 0
    assert json.loads(capsys.readouterr().out)["gave_way"] == 0
    assert train[1]["id"] in {row["id"] for row in of_split(output, "train")}
    assert mill("verify", output) == 0


def test_a_correction_resembles_no_record_that_was_cut_or_replaced(output, capsys):
    train, val = of_split(output, "train"), of_split(output, "val")
    assert apply(output, [repeating(val[0], train[0])]) == 2
    assert "resembles" in capsys.readouterr().err
    cut = {"id": train[0]["id"], "decision": "cut"}
    # Neither in the file that cuts it, nor later.
    assert apply(output, [repeating(val[0], train[0]), cut]) == 0
    assert apply(output, [repeating(val[1], train[0], "these.")]) == 0
    assert apply(output, [fix(train[1], "Corrected by hand.")]) == 0
    assert apply(output, [repeating(val[2], train[1], "so.")]) == 0
    assert mill("verify", output) == 0


def test_corrections_come_to_the_same_by_either_way(made, tmp_path):
    train = of_split(made, "train")
    first, second = (Path(shutil.copytree(made, tmp_path / name)) for name in ("applied", "marked"))
    lines = [{"corrects": one["id"], "messages": one["messages"]} for one in (repeating(train[0], train[1]), fix(train[2], "Right."))]  # fmt: skip
    corrected = write_lines(tmp_path / "corrected.jsonl", lines)
    assert mill("apply", first, corrected) == 0
    config = tmp_path / "nightly.yaml"
    config.write_text(f"sources:\n  - input: {made.parent}/logs.jsonl\n  - {{input: {corrected}, corrected: true}}\n")
    assert mill("run", config, "--output", second, *OPTIONS) == 0
    for kind in ("parquet", "jsonl", "lineage", "index"):
        found = []
        for output in (first, second):
            files = Dataset(Storage(), str(output)).manifest()["files"]
            found.append(sorted((one["path"].rsplit("/", 1)[1], one["digest"]) for one in files if one["kind"] == kind))
        assert found[0] == found[1]
    manifests = [Dataset(Storage(), str(output)).manifest() for output in (first, second)]
    assert manifests[0]["accounting"] == manifests[1]["accounting"]
    assert manifests[0]["changes"] == manifests[1]["changes"]
    assert manifests[0]["changes"]["gave_way"] == 1


def test_a_rebuild_keeps_what_resembles_a_corrected_record_in_its_split(tmp_path):
    """As `apply` does: two records of val below the dedupe threshold, of which one is corrected."""
    logs = []
    for number in range(40):
        words = said(number).split()
        logs += [
            chat(" ".join(words), "So."),
            chat(" ".join([*words[:-4], "never", "ever", "to", "be", "seen"]), "So."),
        ]
    inputs = ["run", "--input", write_lines(tmp_path / "logs.jsonl", logs), "--output", tmp_path / "out", *FAST,
              "--set", "split.min_val=20", "--set", "split.eval=0"]  # fmt: skip
    assert mill(*inputs) == 0
    val = of_split(tmp_path / "out", "val")
    assert apply(tmp_path / "out", [fix(one, "So it is.") for one in val[:3]]) == 0
    now = [{row["id"] for row in of_split(tmp_path / "out", split)} for split in ("train", "val")]
    assert mill(*inputs, "--set", "validate.max_chars=9000", "--rebuild") == 0
    assert [{row["id"] for row in of_split(tmp_path / "out", split)} for split in ("train", "val")] == now
    assert mill("verify", tmp_path / "out") == 0


def test_a_new_version_of_a_corrected_record_is_superseded_by_the_corrected_one(tmp_path, capsys, monkeypatch):
    """Known by its source: as a newer redactor would, a word comes out otherwise."""
    monkeypatch.setenv("CORPUSMILL_KEY", "sixteen bytes and more")
    source_id = Keys.source_id
    monkeypatch.setattr(Keys, "source_id", lambda keys, said: source_id(keys, said.replace(b"<NEWER>", b"this")))
    output = tmp_path / "out"
    logs = write_lines(tmp_path / "logs.jsonl", made_logs())
    assert mill("run", "--input", logs, "--output", output, *OPTIONS) == 0
    first, gone, again = of_split(output, "train")[:3]
    assert apply(output, [fix(first, "A first answer."), {"id": gone["id"], "decision": "cut"}]) == 0
    (once,) = [row for row in of_split(output, "train") if "corrected" in row["metadata"]]
    assert apply(output, [fix(once, "A better answer."), fix(again, "Another answer.")]) == 0
    capsys.readouterr()
    standing = {row["messages"][-1]["content"]: row["id"] for row in of_split(output, "train")}
    numbers = [int(row["messages"][-1]["content"].split()[2]) for row in (first, gone, again)]
    newer = [chat(said(n), f"Answer number {n} is <NEWER>.", user_id=n) for n in numbers]
    night = write_lines(tmp_path / "night.jsonl", newer)
    assert mill("run", "--input", night, "--output", output, *OPTIONS) == 0
    added = Dataset(Storage(), str(output)).manifest()["added"]
    assert (added["read"], added["dropped"]) == (3, {"superseded": 3})
    told = {row["line"]: row for row in live(output, "lineage") if row["shard"].endswith("night.jsonl")}
    # As copies are: of what stood in its place first, which says by whom it was replaced in turn.
    assert [told[line]["kept_id"] for line in (1, 2, 3)] == [once["id"], gone["id"], standing["Another answer."]]
    assert mill("verify", output) == 0


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_rebuild_looks_for_benchmarks_in_corrected_records(kind, tmp_path, capsys):
    text = "Which of the four rivers of the northern plain carries the most water to the sea in a dry summer"
    output = tmp_path / "out"
    logs = write_lines(tmp_path / "logs.jsonl", made_logs())
    arguments = [
        "run",
        "--input",
        logs,
        "--output",
        output,
        *OPTIONS,
        *(["--set", "write.parquet=false"] if kind == "jsonl" else []),
    ]
    assert mill(*arguments) == 0
    first, second = [fate["id"] for fate in live(output, "lineage") if fate["outcome"] in ("train", "val")][:2]
    said = {"decision": "fix", "messages": chat(text, "The second.")["messages"]}
    other = {"decision": "fix", "messages": chat("What is so special about the third?", "Nothing is.")["messages"]}
    assert apply(output, [{"id": first, **said}, {"id": second, **other}]) == 0
    bench = write_lines(tmp_path / "bench.jsonl", [{"question": text}])
    capsys.readouterr()
    assert mill(*arguments, "--decontaminate", bench) == 0
    assert "1 benchmarks are new" in capsys.readouterr().err
    assert mill(*arguments, "--decontaminate", bench, "--rebuild") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "1 corrected records hold an item of a benchmark, as " in told
    assert Dataset(Storage(), str(output)).latest() == 2
    assert "rivers" not in told
    found = told.split("benchmark, as ")[1][:32]
    assert apply(output, [{"id": found, "decision": "cut"}]) == 0
    assert mill(*arguments, "--decontaminate", bench, "--rebuild") == 0
    assert mill("verify", output) == 0
    jsonl = Dataset(Storage(), str(output)).files(Dataset(Storage(), str(output)).manifest(), "jsonl")
    content = b"".join(Path(uri).read_bytes() for uri in jsonl)
    assert b"rivers" not in content
    assert b"special about the third" in content
