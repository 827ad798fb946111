"""Forgetting people: laws on the lineage and the groups' readings, and one dataset looked at from many sides."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forget import Gone, forget_lines, groups_of, scrub_values
from pipeline.rewrite import count_changes, outcomes_of
from pipeline.snapshots import Dataset, total
from tests.records import WORDS, chat, write_lines
from tests.test_refresh import splits
from tests.test_run import FAST, mill
from tests.test_run import rows as rows_of
from transforms.canonical import canonical_json
from transforms.hashing import Keys
from transforms.reasons import SPLITS
from transforms.schema import LINEAGE
from transforms.storage import Storage

KEYS = Keys("corpusmill")
GROUPS, IDS = "abcd", "0123456789"

rows = st.lists(
    st.fixed_dictionaries(
        {
            "shard": st.sampled_from(["x", "y"]),
            "line": st.integers(1, 9),
            "offset": st.just(0),
            "length": st.just(1),
            "outcome_and_reasons": st.sampled_from(
                [("train", []), ("eval", []), ("duplicate", ["near"]), ("dropped", ["near_eval"]), ("quarantined", ["empty_turn", "no_user_turn"])]
            ),
            "id": st.none() | st.sampled_from(IDS),
            "source_id": st.none() | st.sampled_from(IDS),
            "group": st.none() | st.sampled_from(GROUPS),
            "kept_id": st.none() | st.sampled_from(IDS),
            "similarity": st.none() | st.just(0.5),
        }
    )
)  # fmt: skip


def lineage_table(rows: list[dict[str, Any]]) -> pa.Table:
    made = [{**row, "outcome": row["outcome_and_reasons"][0], "reasons": row["outcome_and_reasons"][1]} for row in rows]
    return pa.Table.from_pylist([{name: row[name] for name in LINEAGE.names} for row in made], LINEAGE)


@given(rows, st.sets(st.sampled_from(GROUPS)), st.sets(st.sampled_from(IDS)))
def test_lines_of_the_groups_name_nobody_and_all_others_stay(drawn, groups, ids):
    before = lineage_table(drawn)
    after = forget_lines(before, Gone(groups, ids))
    assert after.schema == LINEAGE
    for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
        assert all(old[name] == new[name] for name in ("shard", "line", "offset", "length"))
        if old["group"] in groups:
            assert (new["outcome"], new["reasons"]) == ("dropped", ["forgotten"])
            assert all(new[name] is None for name in ("id", "source_id", "group", "kept_id", "similarity"))
        else:
            assert new == {**old, "kept_id": None if old["kept_id"] in ids else old["kept_id"]}
    again = forget_lines(after, Gone(groups, ids))
    assert again.equals(after)
    deltas: dict[str, Any] = {}
    count_changes(before, after, deltas)
    assert all(sum(counts.values()) == 0 for counts in deltas.values())
    moved = sum(count for counts in deltas.values() for count in counts.values() if count > 0)
    assert moved == sum(one == "dropped.forgotten" for one in outcomes_of(after))


def test_a_group_is_read_in_every_way_that_it_can_be():
    def digest(value: Any) -> str:
        return KEYS.group(canonical_json(value)).hex()

    assert groups_of("alice", KEYS) == [digest("alice")]
    assert groups_of("42", KEYS) == [digest("42"), digest(42)]
    assert groups_of('"42"', KEYS) == [digest("42")]
    assert groups_of("Ada Ł", KEYS) == [digest("Ada Ł")]
    assert digest({"a": 1}) in groups_of('{"a": 1}', KEYS)
    hexadecimal = "0123456789abcdef" * 2
    assert groups_of(hexadecimal, KEYS) == [digest(hexadecimal), hexadecimal]


@given(st.recursive(st.none() | st.integers() | st.sampled_from("abcde"), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcxyz"), inner)))  # fmt: skip
def test_a_scrubbed_report_names_nobody(value):
    def strings(one: Any) -> set[str]:
        if isinstance(one, dict):
            return set(one) | {text for inner in one.values() for text in strings(inner)}
        if isinstance(one, list):
            return {text for inner in one for text in strings(inner)}
        return {one} if isinstance(one, str) else set()

    assert not strings(scrub_values(value, {"a", "b"})) & {"a", "b"}
    assert strings(value) & {"a", "b"} or scrub_values(value, {"a", "b"}) == value


def made_people() -> list[Any]:
    """Thirty people with three records each; person 5 said first what person 6 says too, person 7 nearly so."""
    records = []
    for person in range(30):
        for turn in range(3):
            words = [WORDS[(person * 7 + turn * 11 + k * (person + 2)) % len(WORDS)] for k in range(30)]
            records.append(chat(f"{' '.join(words)} {person} {turn}", f"Answer {turn}.", user_id=person))
    said = " ".join(WORDS[:40])
    records += [chat(said, user_id=5), chat(said, user_id=6), chat(said + " indeed", user_id=7)]
    return records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    logs = write_lines(folder / "logs.jsonl", made_people())
    assert mill("run", "--input", logs, "--output", folder / "out", *FAST,
                "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=8192") == 0  # fmt: skip
    return folder / "out"


@pytest.fixture
def people(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def forget(output: Path, capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, Any]:
    capsys.readouterr()
    assert mill("forget", output, "--json", "--group", *given) == 0
    return dict(json.loads(capsys.readouterr().out))


def live(output: Path, kind: str) -> list[dict[str, Any]]:
    dataset = Dataset(Storage(), str(output))
    return [row for uri in dataset.files(dataset.manifest(), kind) for row in pq.read_table(uri).to_pylist()]


def test_forgetting_removes_a_person_and_nothing_else(people, capsys):
    dataset = Dataset(Storage(), str(people))
    before, lines = dataset.manifest(), live(people, "lineage")
    group = KEYS.group(b"5").hex()
    mine = [one for one in lines if one["group"] == group]
    published = {one["id"] for one in mine if one["outcome"] in SPLITS}
    data = live(people, "parquet")
    certificate = forget(people, capsys, "5")
    after = dataset.manifest()
    assert certificate["groups"] == [group]
    assert certificate["search"]["found"] == 0
    assert (after["operation"], after["parent"], after["snapshot"]) == ("forget", 1, 2)
    assert sum(certificate["removed"]["records"].values()) == len(published) > 0
    left = sorted(live(people, "parquet"), key=lambda row: str(row["id"]))
    assert left == sorted((row for row in data if row["id"] not in published), key=lambda row: str(row["id"]))
    assert after["accounting"]["dropped"]["forgotten"] == len(mine) == 4
    assert after["accounting"]["read"] == total(after["accounting"]) == before["accounting"]["read"]
    changed = [one for one in live(people, "lineage") if one["reasons"] == ["forgotten"]]
    assert {(one["shard"], one["line"]) for one in changed} == {(one["shard"], one["line"]) for one in mine}
    assert all(one["kept_id"] not in published for one in live(people, "lineage"))
    assert sum(dict(one["dropped"]).get("forgotten", 0) for one in live(people, "inputs")) == 4
    assert [one["group"].hex() for one in live(people, "suppressed")] == sorted(
        [KEYS.group(b"5").hex(), KEYS.group(b'"5"').hex()]
    )
    untouched = {one["path"] for one in before["files"]} & {one["path"] for one in after["files"]}
    assert len(untouched) == len(before["files"]) - certificate["cost"]["files_rewritten"] - 2  # the report's two
    for uri in dataset.files(after):
        content = Path(uri).read_bytes()
        if not uri.endswith("suppressed.parquet"):
            assert group.encode() not in content
    assert mill("verify", people) == 0


def test_forgetting_twice_copies_copies_and_says_when_nothing_is_left(people, capsys):
    forget(people, capsys, "5", "6")
    second = forget(people, capsys, "7", "nobody")
    assert second["snapshot"] == 3
    assert second["unknown"] == [2]
    assert second["removed"]["records"] != {"train": 0, "val": 0, "eval": 0}
    again = forget(people, capsys, "5", "nobody")
    assert (again["committed"], again["snapshot"], again["unknown"]) == (False, 3, [])
    assert len(live(people, "suppressed")) == 7
    groups = {one["group"] for one in live(people, "parquet")}
    assert not groups & {KEYS.group(str(n).encode()).hex() for n in (5, 6, 7)}
    assert len(groups) == 27
    paths = [one["path"] for one in Dataset(Storage(), str(people)).manifest()["files"]]
    assert len(paths) == len(set(paths))
    assert mill("verify", people) == 0


def test_after_a_rebuild_every_file_keeps_a_copy_of_its_own(people, made, tmp_path, capsys):
    """A rebuild writes lineage, data and JSONL to several folders, with the same names in each."""
    rows = live(people, "parquet")
    splits = {one["id"]: one["outcome"] for one in live(people, "lineage") if one["outcome"] in SPLITS}
    held = next(row["group"] for row in rows if splits[row["id"]] == "eval")
    fixed = next(row for row in rows if splits[row["id"]] == "train")
    said = [{"role": "user", "content": "What was corrected?"}, {"role": "assistant", "content": "Nearly all of it."}]
    decisions = write_lines(tmp_path / "decisions.jsonl", [{"id": fixed["id"], "decision": "fix", "messages": said}])
    assert mill("apply", people, decisions) == 0
    again = ["run", "--input", made.parent / "logs.jsonl", "--output", people, *FAST]
    again += ["--set", "split.group_by=metadata.user_id"]
    assert mill(*again, "--set", "validate.max_chars=100000", "--rebuild") == 0
    lines = len(live(people, "lineage"))
    kept = {row["id"] for row in live(people, "parquet") if row["group"] not in (held, fixed["group"])}
    certificate = forget(people, capsys, held, fixed["group"])
    assert certificate["search"]["found"] == 0
    assert mill("verify", people) == 0
    assert len(live(people, "lineage")) == lines
    left = [row["id"] for row in live(people, "parquet")]
    assert len(left) == len(set(left))
    assert set(left) == kept
    paths = [one["path"] for one in Dataset(Storage(), str(people)).manifest()["files"]]
    assert any("-eval/part" in path for path in paths)
    assert any("-corrected/train" in path for path in paths)


def test_what_was_in_eval_comes_back_for_nobody(people, tmp_path, capsys):
    """What a forgotten person said in eval stays out when somebody else says it."""
    dataset = Dataset(Storage(), str(people))
    evaluated = [
        row for uri in dataset.files(dataset.manifest(), "parquet", "eval") for row in pq.read_table(uri).to_pylist()
    ]
    group = evaluated[0]["group"]
    told = forget(people, capsys, group)["out_of_reach"]
    assert any("nearly as a forgotten record of eval" in one for one in told)
    said = [row for row in evaluated if row["group"] == group]
    texts = [[{key: turn[key] for key in ("role", "content")} for turn in one["messages"]] for one in said]
    logs = write_lines(
        tmp_path / "more.jsonl", [{"messages": one, "user_id": "again"} for one in texts] + [chat("New.", "So.")]
    )
    options = [*FAST, "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=8192"]
    assert mill("run", "--input", logs, "--output", people, *options) == 0
    added = dataset.manifest()["added"]
    assert added["dropped"] == {"forgotten": len(said)}
    assert not {one["id"] for one in said} & {row["id"] for row in live(people, "parquet")}
    assert all(one["id"] is None for one in live(people, "lineage") if one["reasons"] == ["forgotten"])
    assert mill("diff", people, "1", "3") == 0
    assert mill("verify", people) == 0
    assert forget(people, capsys, "nobody")["out_of_reach"] == told[:1]


def test_what_was_in_eval_comes_back_by_no_other_redaction(tmp_path, capsys, monkeypatch):
    """Its id is another then; its source is not."""
    monkeypatch.setenv("CORPUSMILL_KEY", "sixteen bytes and more")
    chooser = random.Random(4)
    texts = [f"Box E-{n:04d} holds {' '.join(chooser.choices(WORDS, k=30))}" for n in range(150)]
    logs = write_lines(
        tmp_path / "logs.jsonl",
        [chat(text, "Yes.", user_id=n) for n, text in enumerate(texts)]
        + [chat(text, "Yes.", user_id=1000 + n) for n, text in enumerate(texts)],
    )
    out = tmp_path / "out"
    options = ["run", "--input", logs, "--output", out, "--set", "split.group_by=metadata.user_id"]
    assert mill(*options) == 0
    capsys.readouterr()
    group = next(row["group"] for row in live(out, "lineage") if row["outcome"] == "eval")
    said = {row["source_id"] for row in live(out, "lineage") if row["group"] == group and row["outcome"] == "eval"}
    forget(out, capsys, group)
    redacted = tmp_path / "redacted.yaml"
    redacted.write_text("redact:\n  custom:\n    - {name: BOX, pattern: 'E-[0-9]{4}'}\n")
    assert mill("run", redacted, *options[1:], "--rebuild") == 0
    lines = live(out, "lineage")
    assert sum(row["reasons"] == ["forgotten"] for row in lines) >= 2
    assert not said & {row["source_id"] for row in lines}


@pytest.mark.parametrize("outside", [False, True])
def test_what_a_gate_set_aside_goes_too(people, tmp_path, capsys, outside):
    logs = write_lines(
        tmp_path / "more.jsonl", [chat(f"Something new of {n}", user_id=5) for n in range(9)] + [b"{"] * 9
    )
    gated = ["run", "--input", logs, "--output", people, *FAST, "--set", "split.group_by=metadata.user_id"]
    gated += ["--set", f"work={tmp_path}/work"] if outside else []
    assert mill(*gated, "--set", "write.shard_bytes=8192", "--set", "gates.max_quarantined=0.1") == 3
    work = tmp_path / "work" if outside else people / "work"
    aside = [*people.glob("data/000002-*/*"), *work.glob("*/texts/*.run")]
    assert len(aside) > 1
    assert forget(people, capsys, "5")["uncommitted_removed"] > 0
    assert not any(path.exists() for path in aside)
    group = KEYS.group(b"5").hex().encode()
    listed = {uri for n in (1, 2) for uri in (lambda d: d.files(d.manifest(n)))(Dataset(Storage(), str(people)))}
    for path in people.rglob("*"):
        if path.is_file() and str(path) not in listed:
            assert group not in path.read_bytes()


def test_the_same_request_gives_the_same_bytes_whatever_order_it_comes_in(people, made, tmp_path, capsys):
    other = Path(shutil.copytree(made, tmp_path / "other" / "out"))
    forget(people, capsys, "1", "2")
    forget(other, capsys, "2", "1")
    one, two = (Dataset(Storage(), str(path)).manifest() for path in (people, other))
    assert one == two


def test_digests_do_without_the_key_and_raw_values_do_not(people, monkeypatch, capsys):
    monkeypatch.setenv("CORPUSMILL_KEY", "another key than the dataset's")
    assert mill("forget", people, "--group", "5") == 2
    assert "was made without a secret key" in capsys.readouterr().err
    assert mill("forget", people, "--group", "ab" * 16) == 2  # may be a raw value as well
    assert forget(people, capsys, KEYS.group(b"5").hex())["snapshot"] == 2


def test_a_file_names_groups_and_the_trial_goes_too(people, tmp_path, capsys):
    (people / "trial" / "data").mkdir(parents=True)
    names = tmp_path / "names.txt"
    names.write_text("5\r\n\n 6 \n")
    assert mill("forget", people, "--group-file", names) == 0
    assert "groups found      2, of 2 given" in capsys.readouterr().out
    assert not (people / "trial").exists()
    assert mill("forget", people, "--group-file", tmp_path / "none") == 2
    assert mill("forget", people) == 2


def test_jsonl_alone_is_searched_by_what_its_lines_say(tmp_path, capsys):
    logs = write_lines(tmp_path / "logs.jsonl", made_people())
    assert mill("run", "--input", logs, "--output", tmp_path / "out", *FAST, "--set", "write.parquet=false",
                "--set", "split.group_by=metadata.user_id", "--set", "dedupe.near=false") == 0  # fmt: skip
    before = Dataset(Storage(), str(tmp_path / "out")).manifest()["accounting"]
    certificate = forget(tmp_path / "out", capsys, "5")
    assert sum(certificate["removed"]["records"].values()) >= 3
    after = Dataset(Storage(), str(tmp_path / "out")).manifest()
    assert sum(one["rows"] for one in after["files"] if one["kind"] == "jsonl") == sum(after["accounting"][split] for split in SPLITS)  # fmt: skip
    assert after["accounting"]["read"] == before["read"]
    assert mill("verify", tmp_path / "out") == 0


def test_another_commit_meanwhile_is_told_and_nothing_is_lost(people, monkeypatch, capsys):
    commit = Dataset.commit

    def overtaken(self: Dataset, manifest: dict[str, Any]) -> bool:
        assert commit(self, {**manifest, "plan": "0" * 12, "operation": "run"})
        return commit(self, manifest)

    monkeypatch.setattr(Dataset, "commit", overtaken)
    assert mill("forget", people, "--group", "5") == 5
    assert "another run committed snapshot 000002 first" in capsys.readouterr().err


def test_what_is_left_behind_stops_the_commit(people, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.rewrite.Rewrite.rows_left", lambda *_: None)
    assert mill("forget", people, "--group", "5") == 1
    assert "a bug: RuntimeError" in capsys.readouterr().err
    assert not (people / "snapshots" / "000002.json").exists()


def test_a_dataset_without_groups_says_what_to_do(tmp_path, capsys):
    logs = write_lines(tmp_path / "logs.jsonl", [chat(f"Question {n}?") for n in range(5)])
    assert mill("run", "--input", logs, "--output", tmp_path / "out", *FAST) == 0
    assert mill("forget", tmp_path / "out", "--group", "5") == 2
    assert "split.group_by" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "left_out"), [("val", 20), ("train", 28)])
def test_what_somebody_forgotten_said_is_in_no_other_split_when_others_say_it(split, left_out, tmp_path, capsys):
    chooser, out = random.Random(3), tmp_path / "out"
    texts = [" ".join(chooser.choices(WORDS, k=60)) for _ in range(40)]
    logs = [
        write_lines(tmp_path / f"{number}.jsonl", [chat("Well?", text, user=f"u{user}") for user, text in said])
        for number, said in enumerate((enumerate(texts), ((user + 100, text) for user, text in enumerate(texts))), 1)
    ]
    options = [*FAST, "--set", "split.group_by=metadata.user", "--set", "split.min_val=10"]
    assert mill("run", "--input", logs[0], "--output", out, *options) == 0
    ids = {row["id"] for row in rows_of(out, split)}
    groups = {row["group"] for row in rows_of(out, split)}
    assert len(groups) == (10 if split == "val" else 28)
    assert mill("forget", out, *(value for one in sorted(groups) for value in ("--group", one))) == 0
    assert mill("run", "--input", logs[1], "--output", out, *options, "--set", "split.val=0.3") == 2
    assert mill("run", "--input", logs[1], "--output", out, *options, "--set", "split.val=0.3", "--accept") == 0
    assert mill("diff", out, "1", "3") == 0
    assert "0 records moved" in capsys.readouterr().out
    accounting = json.loads((out / "snapshots" / "000003.json").read_bytes())["accounting"]
    assert accounting["dropped"]["forgotten"] == left_out
    after = splits(out, 3)
    # Of train some are left out, as their new users would be in val.
    assert {after.get(one) for one in ids} == ({"train", None} if split == "train" else {None})


def test_what_gave_way_to_a_correction_that_is_forgotten_is_in_no_other_split(tmp_path):
    """Near-duplicates that were published in train, and are again once the correction that they gave way to is forgotten."""
    chooser, out = random.Random(5), tmp_path / "out"
    texts = [" ".join(chooser.choices(WORDS, k=60)) for _ in range(120)]
    records = [chat("Well?", text, **({"user": f"u{user}"} if user % 2 else {})) for user, text in enumerate(texts)]
    options = [*FAST, "--set", "split.group_by=metadata.user", "--set", "split.min_val=0", "--set", "split.eval=0.0"]
    assert mill("run", "--input", write_lines(tmp_path / "1.jsonl", records), "--output", out, *options) == 0
    trained = rows_of(out, "train")
    theirs, wrong = ([row for row in trained if bool(row["group"]) == known][:40] for known in (False, True))
    said = [[*row["messages"][1]["content"].split()[:-1], "mended"] for row in theirs]
    fixes = [
        {"id": row["id"], "decision": "fix", "messages": chat("Well?", " ".join(words))["messages"]}
        for row, words in zip(wrong, said, strict=True)
    ]
    assert mill("apply", out, write_lines(tmp_path / "decisions.jsonl", fixes)) == 0
    gone = {row["id"] for row in theirs} - splits(out, 2).keys()
    assert len(gone) > 35
    assert mill("forget", out, *(value for row in wrong for value in ("--group", row["group"]))) == 0
    again = [
        one for one in records if one["messages"][1]["content"] in {row["messages"][1]["content"] for row in theirs}
    ]
    more = [chat("Well?", " ".join(chooser.choices(WORDS, k=60)), user=f"v{user}") for user in range(40)]
    night = write_lines(tmp_path / "2.jsonl", [*again, *more])
    assert mill("run", "--input", night, "--output", out, *options, "--set", "split.val=0.3", "--accept") == 0
    after = splits(out, 4)
    assert "val" in {split for one, split in after.items() if one not in splits(out, 1)}
    assert {after.get(one) for one in gone} <= {"train", None}
    assert mill("diff", out, "1", "4") == 0
