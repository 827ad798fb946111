"""Nights: new logs into a dataset that is there. Nothing that is published moves."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import refresh
from pipeline.errors import OvertakenError, RunFailed, UsageError
from pipeline.history import list_snapshots
from pipeline.snapshots import Dataset
from pipeline.verify import _check_leaks
from tests.records import WORDS, chat, write_lines
from tests.test_run import FAST, mill, rows
from transforms.index import SCHEMAS, Index, parts_of
from transforms.storage import Storage

GROUPED = [*FAST, "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000"]


WHOLE = ["--set", "write.shard_bytes=1000000"]


def said(chooser: random.Random, user: int, words: int = 50) -> dict[str, Any]:
    """A conversation that is like no other."""
    return chat(" ".join(chooser.choices(WORDS, k=words)), " ".join(chooser.choices(WORDS, k=words)), user_id=user)


def like(record: dict[str, Any], chooser: random.Random, user: int) -> dict[str, Any]:
    """A near-copy: a word more, another user."""
    copy = json.loads(json.dumps(record))
    copy["messages"][0]["content"] += f" {chooser.choice(WORDS)}"
    copy["user_id"] = user
    return dict(copy)


def manifest(output: Path, number: int) -> dict[str, Any]:
    return dict(json.loads((output / "snapshots" / f"{number:06d}.json").read_bytes()))


def splits(output: Path, number: int) -> dict[str, str]:
    """The split of each published id."""
    found: dict[str, str] = {}
    for one in manifest(output, number)["files"]:
        if one["kind"] == "parquet":
            ids = pq.read_table(output / one["path"], columns=["id"]).column("id").to_pylist()
            assert not found.keys() & set(ids)
            found |= dict.fromkeys(ids, one["split"])
    return found


def fates(output: Path, number: int) -> list[dict[str, Any]]:
    """The lineage of what a snapshot added."""
    name = f"{number:06d}-{manifest(output, number)['plan']}"
    return [
        row for path in sorted((output / "lineage" / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def night(output: Path, logs: Path, date: str, *more: str) -> int:
    return mill("run", "--input", logs / "{date}*.jsonl", "--output", output, "--date", date, *GROUPED, *more)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights: with users of before, copies, near-copies, and users that are new."""
    folder = tmp_path_factory.mktemp("nights")
    chooser = random.Random(3)
    first = [said(chooser, user=number % 100) for number in range(300)]
    second = [said(chooser, user=chooser.randrange(130)) for _ in range(80)]
    second += chooser.sample(first, 30) + [like(one, chooser, 500 + n) for n, one in enumerate(first[:100])]
    third = [said(chooser, user=chooser.randrange(160)) for _ in range(80)]
    third += chooser.sample(first, 20) + chooser.sample(second, 20)
    third += [like(one, chooser, 900 + n) for n, one in enumerate(second[:40])]
    for day, records in enumerate((first, second, third), 1):
        write_lines(folder / "logs" / f"2026-11-0{day}.jsonl", records)
        assert night(folder / "out", folder / "logs", f"2026-11-0{day}") == 0
    return folder


def test_what_is_published_never_moves(nights):
    before: dict[str, str] = {}
    for number in (1, 2, 3):
        now = splits(nights / "out", number)
        assert before.items() <= now.items()
        assert len(now) > len(before)
        before = now


def test_eval_is_frozen_and_its_files_are_the_same(nights):
    files = [
        [one for one in manifest(nights / "out", number)["files"] if one.get("split") == "eval"] for number in (1, 2, 3)
    ]
    assert files[0] == files[1] == files[2]
    assert sum(one["rows"] for one in files[0] if one["kind"] == "parquet") > 0


def test_old_files_are_listed_and_not_written_again(nights):
    first, second = (manifest(nights / "out", number) for number in (1, 2))
    kept = [one for one in first["files"] if one["kind"] != "report"]
    assert all(one in second["files"] for one in kept)
    assert second["parent"] == 1
    assert second["operation"] == "refresh"


def test_accounts_balance_each_night_and_in_all(nights):
    total: Counter[str] = Counter()
    for number in (1, 2, 3):
        one = manifest(nights / "out", number)
        added, lines = one["added"], Counter()
        for fate in fates(nights / "out", number):
            lines[fate["outcome"]] += 1
        assert sum(lines.values()) == added["read"]
        for name in ("train", "val", "eval", "duplicate"):
            assert lines[name] == added[name]
            total[name] += added[name]
            assert one["accounting"][name] == total[name]
        assert lines["dropped"] == sum(added["dropped"].values())


def test_copies_of_what_is_published_are_duplicates_of_it(nights):
    published = splits(nights / "out", 1)
    copies = [one for one in fates(nights / "out", 2) if one["id"] in published]
    assert len(copies) == 30
    for one in copies:
        assert (one["outcome"], one["reasons"], one["kept_id"]) == ("duplicate", ["exact"], one["id"])


def test_groups_stay_in_their_split(nights):
    owners: dict[str, str] = {}
    for number in (1, 2, 3):
        for fate in fates(nights / "out", number):
            if fate["outcome"] in ("train", "val", "eval"):
                assert owners.setdefault(fate["group"], fate["outcome"]) == fate["outcome"]
    left_out = [
        one for number in (2, 3) for one in fates(nights / "out", number) if one["reasons"] == ["group_in_eval"]
    ]
    assert left_out
    assert all(owners[one["group"]] == "eval" for one in left_out)


def test_verify_finds_nothing(nights):
    assert mill("verify", nights / "out") == 0


def test_the_same_night_twice_is_nothing_new(nights, capsys):
    before = sorted((nights / "out").rglob("*"))
    assert night(nights / "out", nights / "logs", "2026-11-02") == 0
    assert "nothing new" in capsys.readouterr().err
    assert sorted((nights / "out").rglob("*")) == before


def test_a_night_that_has_nothing_is_no_error(nights):
    assert night(nights / "out", nights / "logs", "2026-11-09") == 0
    assert night(nights / "out", nights / "logs", "2026-11-09", "--require-input") == 2


def test_mistakes_with_dates_are_told(nights, capsys):
    assert night(nights / "out", nights / "logs", "22.11.2026") == 2
    assert "is no date" in capsys.readouterr().err
    assert night(nights / "out", nights / "logs", "2026-02-31") == 2
    assert "is no date" in capsys.readouterr().err
    assert mill("run", "--input", nights / "logs" / "{date}.jsonl", "--output", nights / "out", *GROUPED) == 2
    assert "say which: --date" in capsys.readouterr().err


def test_a_night_does_not_hang_on_how_its_logs_are_cut(nights, tmp_path):
    lines = [(nights / "logs" / f"2026-11-0{day}.jsonl").read_bytes().splitlines() for day in (1, 2)]
    logs = tmp_path / "logs"
    logs.mkdir()
    for day, mine in enumerate(lines, 1):
        for part in range(3):
            content = b"\n".join(reversed(mine[part::3])) + b"\n"
            (logs / f"2026-11-0{day}-{part}.jsonl").write_bytes(content)
        assert night(tmp_path / "out", logs, f"2026-11-0{day}", "--set", "read.unit_bytes=20000") == 0
    assert splits(tmp_path / "out", 2) == splits(nights / "out", 2)
    again, before = (
        sorted(one["digest"] for one in manifest(out, 2)["files"] if one["kind"] in ("parquet", "jsonl"))
        for out in (tmp_path / "out", nights / "out")
    )
    assert again == before


def test_near_copies_of_what_is_published_are_left_out(nights):
    """Night 2 has near-copies of 100 published records, by users of their own."""
    before, after = splits(nights / "out", 1), splits(nights / "out", 2)
    near = [one for one in fates(nights / "out", 2) if one["reasons"] == ["near"] and one["kept_id"] in before]
    assert {before[one["kept_id"]] for one in near} == {"train"}
    assert all(one["similarity"] >= 0.8 for one in near)
    reasons = Counter(reason for one in fates(nights / "out", 2) for reason in one["reasons"])
    assert reasons["near_val"] + reasons["near_eval"] + len(near) >= 99
    assert reasons["near_val"] > 0
    assert reasons["near_eval"] > 0
    like = [one for one in fates(nights / "out", 2) if one["reasons"] in (["near_val"], ["near_eval"])]
    assert {f"near_{before[one['kept_id']]}" for one in like if one["kept_id"] in before} == {"near_eval", "near_val"}
    assert all(one["reasons"] == [f"near_{after[one['kept_id']]}"] and one["similarity"] >= 0.69 for one in like)
    assert before.items() <= after.items()


def test_what_a_user_of_eval_repeats_stays_where_others_say_it(tmp_path):
    """Exact and near copies, in one night, of what users say whose groups are in a frozen eval."""
    chooser, out = random.Random(8), tmp_path / "out"
    eval_ = ["split.eval=0.2", "split.val=0.2", "split.min_val=1", "split.eval_records=20"]
    options = [*GROUPED, *(flag for one in eval_ for flag in ("--set", one))]
    records = [said(chooser, user) for user in range(100)]
    first = write_lines(tmp_path / "1.jsonl", records)
    assert mill("run", "--input", first, "--output", out, *options) == 0
    held = {row["messages"][0]["content"] for row in rows(out, "eval")}
    users = [user for user, one in enumerate(records) if one["messages"][0]["content"] in held]
    assert len(users) == 20
    second, free = [], 500
    for user in users:
        exact, near = said(chooser, user), said(chooser, user)
        second += [exact, {**exact, "user_id": free}, near, like(near, chooser, free + 1)]
        free += 2
    logs = write_lines(tmp_path / "2.jsonl", second)
    assert mill("run", "--input", logs, "--output", out, *options) == 0
    told = sorted(fates(out, 2), key=lambda one: one["line"])
    kept = [one["outcome"] in ("train", "val") for one in told]
    assert kept == [False, True] * (2 * len(users))
    barred = [one["reasons"] for one in told[::2]]
    assert barred == [["exact"], ["group_in_eval"]] * len(users)
    assert mill("verify", out) == 0


def test_a_rebuild_divides_no_group_over_copies(tmp_path, monkeypatch):
    """Users say the second night what others said the first; groups stay whole, with a key and without."""
    chooser = random.Random(6)
    records = [said(chooser, user) for user in range(40)]
    again = [{**records[(user + 1) % 40], "user_id": user} for user in range(40)]
    options = [*GROUPED, "--set", "split.min_val=10"]
    for key in ("", "k" * 32):
        monkeypatch.setenv("CORPUSMILL_KEY", key)
        out, logs = tmp_path / f"out{len(key)}", tmp_path / f"logs{len(key)}"
        for number, made in enumerate((records, again), 1):
            night_ = write_lines(logs / f"{number}.jsonl", made)
            assert mill("run", "--input", night_, "--output", out, *options) == 0
        before = splits(out, 2)
        every = ("run", "--input", logs / "*.jsonl", "--output", out, *options, "--rebuild")
        assert mill(*every) == 0
        assert mill("verify", out) == 0
        assert mill(*every, "--set", "validate.max_chars=9000") == 0
        assert mill("verify", out) == 0
        assert splits(out, 3) == splits(out, 4) == before


def test_no_held_out_newcomer_resembles_published_train_in_a_crowd(tmp_path):
    """A family by one template, the second night of which varies records of the first."""
    chooser = random.Random(5)
    template = chooser.choices(WORDS, k=90)

    def own(words: int) -> list[str]:
        return [f"{chooser.choice(WORDS)}{chooser.randrange(999)}" for _ in range(words)]

    first = [[*template, *own(28)] for _ in range(400)]
    second = [[*one[:-16], *own(16)] for one in chooser.sample(first, 150)]  # 0.75 like it
    out, cut = tmp_path / "out", ["split.val=0.3", "split.eval=0.1", "split.min_val=1"]
    options = [*FAST, *(flag for one in cut for flag in ("--set", one))]
    for number, said in enumerate((first, second), 1):
        logs = write_lines(tmp_path / f"{number}.jsonl", [chat("What?", " ".join(words)) for words in said])
        assert mill("run", "--input", logs, "--output", out, *options) == 0
    texts = {
        split: {one["messages"][1]["content"]: one["id"] for one in rows(out, split)} for split in ("train", "val")
    }
    before, least = splits(out, 1), 0.7
    ids = [texts["train"][text] for text in texts["train"] if texts["train"][text] in before]
    held = {text: one for text, one in texts["val"].items() if one not in before}
    assert held
    said = list(held) + [text for text in texts["train"] if texts["train"][text] in before]
    sets = [{tuple(words[place : place + 5]) for place in range(len(words) - 4)} for words in map(str.split, said)]
    for mine in sets[: len(held)]:
        assert max(len(mine & other) / len(mine | other) for other in sets[len(held) :]) < least
    named = [one for one in fates(out, 2) if one["reasons"] == ["near_train"]]
    assert named
    assert all(one["kept_id"] in ids and 0.7 <= one["similarity"] < 0.85 for one in named)
    assert mill("verify", out) == 0


def test_a_rebuild_keeps_published_splits_and_eval(nights, tmp_path, capsys):
    out, logs = tmp_path / "out", nights / "logs"
    shutil.copytree(nights / "out", out)
    everything = ["run", "--input", logs / "*.jsonl", "--output", out, *GROUPED]
    assert mill(*everything, "--set", "dedupe.shingle=4") == 2
    assert "dedupe.shingle: was 5, is 4" in capsys.readouterr().err
    assert mill("run", "--input", logs / "2026-11-01.jsonl", *everything[3:], "--rebuild") == 2
    assert "2 of the 3 inputs" in capsys.readouterr().err
    assert mill(*everything, "--set", "dedupe.shingle=4", "--rebuild") == 0
    before, after = splits(out, 3), splits(out, 4)
    assert {one: split for one, split in after.items() if one in before} == {
        one: before[one] for one in after.keys() & before.keys()
    }
    assert {one for one, split in before.items() if split == "eval"} == {
        one for one, split in after.items() if split == "eval"
    }
    old, new = (manifest(out, number) for number in (3, 4))
    assert [one for one in new["files"] if one.get("split") == "eval"] == [
        one for one in old["files"] if one.get("split") == "eval"
    ]
    assert len(after) > 0.9 * len(before)
    assert new["operation"] == "rebuild"
    assert mill("verify", out) == 0
    assert mill(*everything, "--set", "dedupe.shingle=4") == 0  # nothing new
    write_lines(
        tmp_path / "more" / "2026-11-04.jsonl", [json.loads(line) for line in (logs / "2026-11-03.jsonl").open()]
    )
    assert mill("run", "--input", tmp_path / "more", "--output", out, *GROUPED, "--set", "dedupe.shingle=4") == 0
    assert splits(out, 5) == after


def test_a_rebuild_under_a_config_that_changes_no_record_loses_none(tmp_path):
    """What gave way to published records gives way again, whatever its id; look-alikes of train go where that is."""
    chooser = random.Random(11)
    first = [said(chooser, user=number) for number in range(80)]
    near = [like(record, chooser, user=100 + number) for number, record in enumerate(first[:60])]
    for number, record in enumerate(first[60:]):  # between the thresholds
        words = record["messages"][1]["content"].split()
        words[::14] = ["changed"] * len(words[::14])
        near.append(chat(record["messages"][0]["content"], " ".join(words), user_id=200 + number))
    for date, records in (("2026-11-01", first), ("2026-11-02", near)):
        write_lines(tmp_path / "logs" / f"{date}.jsonl", records)
        assert night(tmp_path / "out", tmp_path / "logs", date) == 0
    before = splits(tmp_path / "out", 2)
    again = ["run", "--input", tmp_path / "logs", "--output", tmp_path / "out", *GROUPED]
    assert mill(*again, "--set", "validate.max_chars=100000", "--rebuild") == 0
    assert before.items() == splits(tmp_path / "out", 3).items()
    assert mill("verify", tmp_path / "out") == 0
    told = list_snapshots(Dataset(Storage(), str(tmp_path / "out")))[-1]
    assert (told["operation"], {*told["in"].values(), *told["out"].values()}) == ("rebuild", {0})
    # The same again is done already; under another config, or after anything else, it is not.
    assert mill(*again, "--set", "validate.max_chars=100000", "--rebuild") == 0
    assert Dataset(Storage(), str(tmp_path / "out")).latest() == 3
    assert mill(*again, "--set", "validate.max_chars=100001", "--rebuild") == 0
    assert Dataset(Storage(), str(tmp_path / "out")).latest() == 4


def test_what_a_rebuild_went_on_without_is_new_when_it_is_back(nights, tmp_path):
    out, logs = tmp_path / "out", nights / "logs"
    shutil.copytree(nights / "out", out)
    changed = ["--output", out, *GROUPED, "--set", "dedupe.shingle=4"]
    later = [logs / "2026-11-02.jsonl", logs / "2026-11-03.jsonl"]
    assert mill("run", "--input", *later, *changed, "--rebuild", "--accept") == 0
    assert len(splits(out, 4)) < len(splits(out, 3))
    assert mill("run", "--input", logs / "2026-11-01.jsonl", *changed) == 0
    assert manifest(out, 5)["added"]["read"] == len((logs / "2026-11-01.jsonl").read_bytes().splitlines())
    assert splits(out, 4).items() <= splits(out, 5).items()
    assert len(splits(out, 5)) > len(splits(out, 4))
    assert mill("verify", out) == 0


def test_logs_without_a_line_are_taken_in_with_a_warning(nights, tmp_path, capsys):
    out, logs = tmp_path / "out", tmp_path / "logs"
    shutil.copytree(nights / "out", out)
    write_lines(logs / "2026-11-04.jsonl", [said(random.Random(4), user=1)])
    assert night(out, logs, "2026-11-04") == 0
    assert "there is no line in" not in capsys.readouterr().err
    for name, content in (("05", b""), ("05-b", b"\n \n"), ("05-c", b"{}\n"), ("05-d", b""), ("05-e", b"\n")):
        (logs / f"2026-11-{name}.jsonl").write_bytes(content)
    assert night(out, logs, "2026-11-05", "--accept") == 0
    named = ", ".join(f"{logs}/2026-11-05{name}.jsonl" for name in ("-b", "-d", "-e"))
    assert f"warning: there is no line in {named} and 1 more" in " ".join(capsys.readouterr().err.split())
    assert night(out, logs, "2026-11-05", "--accept") == 0
    assert "nothing new" in capsys.readouterr().err


def test_a_log_that_grew_is_there_for_a_rebuild_and_one_that_was_replaced_is_not(nights, tmp_path, capsys):
    out, logs = tmp_path / "out", tmp_path / "logs"
    shutil.copytree(nights / "logs", logs)
    grown = logs / "2026-11-03.jsonl"
    whole = grown.read_bytes()
    everything = ["run", "--input", logs, "--output", out, *GROUPED]
    for size in (len(whole) // 3, len(whole) // 2, len(whole)):  # cut within a line
        grown.write_bytes(whole[:size])
        assert mill(*everything) == 0
    before = splits(out, 3)
    changed = [*everything, "--set", "validate.max_chars=100000"]
    lines = whole.splitlines(keepends=True)
    for rebuild in ([*everything], [*changed, "--rebuild"]):
        assert mill(*rebuild) == 0
        capsys.readouterr()
        for name in ("2026-11-01.jsonl", "2026-11-03.jsonl"):  # the lines of one, not of all that was read
            assert mill("why", out, f"{name}:0") == 2
            assert f"it has {len((logs / name).read_bytes().splitlines())} lines, 0 of" in capsys.readouterr().err
    assert splits(out, 4).items() >= before.items()
    for number, other in enumerate((lines[1:] + lines[:1], lines[1:]), 1):  # other lines in their places; fewer lines
        grown.write_bytes(b"".join(other))
        assert mill(*changed) == 0
        capsys.readouterr()
        assert mill(*everything, "--set", "validate.max_chars=100001", "--rebuild") == 2
        assert f"{number} of the {3 + number} inputs" in capsys.readouterr().err
    assert mill("verify", out) == 0


def test_eval_is_filled_until_it_has_its_records(tmp_path):
    chooser = random.Random(8)
    for day in (1, 2, 3):
        write_lines(
            tmp_path / "logs" / f"2026-11-0{day}.jsonl", [said(chooser, user=1000 * day + n) for n in range(60)]
        )
        assert night(tmp_path / "out", tmp_path / "logs", f"2026-11-0{day}", "--set", "split.eval_records=30") == 0
    sizes = [manifest(tmp_path / "out", number)["accounting"]["eval"] for number in (1, 2, 3)]
    assert sizes == [20, 30, 30]
    assert [manifest(tmp_path / "out", number)["split"]["eval_frozen"] for number in (1, 2, 3)] == [False, True, True]
    before: dict[str, str] = {}
    for number in (1, 2, 3):
        now = splits(tmp_path / "out", number)
        assert before.items() <= now.items()
        before = now


def test_eval_is_frozen_by_its_date_though_the_night_of_it_is_missed(tmp_path):
    chooser = random.Random(9)
    for day in (1, 2, 5):
        write_lines(
            tmp_path / "logs" / f"2026-11-0{day}.jsonl", [said(chooser, user=1000 * day + n) for n in range(60)]
        )
        until = ["--set", "split.eval_until=2026-11-03"]
        assert night(tmp_path / "out", tmp_path / "logs", f"2026-11-0{day}", *until) == 0
    sizes = [manifest(tmp_path / "out", number)["accounting"]["eval"] for number in (1, 2, 3)]
    assert 0 < sizes[0] < sizes[1] == sizes[2]
    assert [manifest(tmp_path / "out", number)["split"]["eval_frozen"] for number in (1, 2, 3)] == [False, False, True]


def test_corrections_come_with_the_inputs_of_a_night(tmp_path, capsys):
    chooser = random.Random(5)
    first = [said(chooser, user=number) for number in range(60)]
    write_lines(tmp_path / "logs" / "2026-11-01.jsonl", first)
    config = tmp_path / "nightly.yaml"
    config.write_text(
        f"sources:\n  - input: {tmp_path}/logs/{{date}}.jsonl\n"
        f"  - {{input: '{tmp_path}/corrected/*.jsonl', corrected: true}}\noutput: {tmp_path}/out\n"
    )
    nightly = ["run", config, *GROUPED, "--date"]
    assert mill(*nightly, "2026-11-01") == 0
    before = splits(tmp_path / "out", 1)
    wrong = min(one for one, split in before.items() if split == "train")
    right = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "It is on its way."}]
    write_lines(tmp_path / "corrected" / "a.jsonl", [{"corrects": wrong, "messages": right}])
    write_lines(tmp_path / "logs" / "2026-11-02.jsonl", [*first[:60], said(chooser, user=99)])
    assert mill(*nightly, "2026-11-02") == 0
    assert "1 records corrected" in capsys.readouterr().err
    operations = [manifest(tmp_path / "out", number)["operation"] for number in (1, 2, 3)]
    assert operations == ["run", "apply", "refresh"]
    after = splits(tmp_path / "out", 3)
    assert wrong not in after
    assert len(after) == len(before) + 1
    reasons = Counter(reason for one in fates(tmp_path / "out", 3) for reason in one["reasons"])
    assert reasons["superseded"] == 1
    assert mill("verify", tmp_path / "out") == 0
    assert mill(*nightly, "2026-11-02") == 0
    assert "nothing new" in capsys.readouterr().err
    # A rebuild does not ask for the file of corrections, nor takes it in again.
    logs = f"{tmp_path}/logs/*.jsonl"
    config.write_text(config.read_text().replace(f"{tmp_path}/logs/{{date}}.jsonl", logs))
    assert mill("run", config, *GROUPED, "--set", "dedupe.threshold=0.9", "--rebuild") == 0
    rebuilt = splits(tmp_path / "out", 4)
    assert rebuilt.items() >= after.items()
    assert wrong not in rebuilt
    assert mill("verify", tmp_path / "out") == 0
    nightly = ["run", config, *GROUPED, "--set", "dedupe.threshold=0.9", "--date"]
    capsys.readouterr()
    assert mill(*nightly, "2026-11-02") == 0
    assert "nothing new" in capsys.readouterr().err
    write_lines(tmp_path / "corrected" / "b.jsonl", [{"corrects": "0" * 32, "messages": right}])
    assert mill(*nightly, "2026-11-02", "--set", "dedupe.threshold=0.8") == 2
    assert len(list((tmp_path / "out" / "snapshots").glob("*.json"))) == 4
    capsys.readouterr()
    assert mill(*nightly, "2026-11-02") == 2
    assert "the dataset has no record" in capsys.readouterr().err


def test_a_file_of_cuts_is_taken_in_once_and_lets_forgotten_people_pass(tmp_path, capsys):
    chooser = random.Random(6)
    config = tmp_path / "nightly.yaml"
    config.write_text(
        f"sources:\n  - input: {tmp_path}/logs/{{date}}.jsonl\n"
        f"  - {{input: '{tmp_path}/corrected/*.jsonl', corrected: true}}\noutput: {tmp_path}/out\n"
    )
    nightly = ["run", config, *GROUPED, "--date"]
    for day in range(1, 5):
        some = [said(chooser, user=100 * day + number) for number in range(40)]
        write_lines(tmp_path / "logs" / f"2026-11-{day:02}.jsonl", some)
    assert mill(*nightly, "2026-11-01") == 0
    trained = sorted(one for one, split in splits(tmp_path / "out", 1).items() if split == "train")
    write_lines(tmp_path / "corrected" / "a.jsonl", [{"id": trained[0], "decision": "cut"}])
    assert mill(*nightly, "2026-11-02") == 0
    assert "1 cut" in capsys.readouterr().err
    assert trained[0] not in splits(tmp_path / "out", 3)
    assert mill(*nightly, "2026-11-03") == 0
    assert "cut" not in capsys.readouterr().err
    assert mill("verify", tmp_path / "out") == 0
    group = next(one["group"] for one in fates(tmp_path / "out", 1) if one["id"] == trained[1])
    write_lines(tmp_path / "corrected" / "b.jsonl", [{"id": one, "decision": "cut"} for one in trained[1:3]])
    assert mill("forget", tmp_path / "out", "--group", group) == 0
    assert mill(*nightly, "2026-11-04") == 0
    assert "1 corrections are of records that are not there" in capsys.readouterr().err
    assert not set(trained[:3]) & splits(tmp_path / "out", 7).keys()
    assert mill("verify", tmp_path / "out") == 0


def test_without_a_key_nothing_is_redacted_otherwise_in_a_rebuild(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CORPUSMILL_KEY", raising=False)
    chooser = random.Random(7)
    logs = write_lines(tmp_path / "a.jsonl", [said(chooser, user=number) for number in range(40)])
    again = ["run", "--input", logs, "--output", tmp_path / "out", *GROUPED]
    assert mill(*again) == 0
    capsys.readouterr()
    assert mill(*again, "--rebuild", "--set", "redact.enabled=true") == 2
    assert "a record is known by its redacted text alone" in capsys.readouterr().err
    assert mill(*again, "--rebuild", "--set", "validate.max_chars=5000") == 0
    assert splits(tmp_path / "out", 2) == splits(tmp_path / "out", 1)


def test_a_near_duplicate_of_what_is_published_under_another_id_names_that_one(tmp_path, monkeypatch):
    """A rebuild that redacts otherwise reads eval's records again under other ids; what repeats them there names those of eval."""
    monkeypatch.setenv("CORPUSMILL_KEY", "k" * 32)
    chooser = random.Random(8)
    records = []
    for number in range(60):
        words = [word for _ in range(20) for word in (*chooser.choices(WORDS, k=2), "{}@example.org")]
        for twin in range(2):
            told = " ".join(words).format(*(f"a{number}b{twin}c{place}" for place in range(20)))
            records.append(chat(told + f" {WORDS[twin]}", "It is on its way."))
    logs = write_lines(tmp_path / "a.jsonl", records)
    again = ["run", "--input", logs, "--output", tmp_path / "out", *FAST, "--set", "split.eval=0.3"]
    assert mill(*again) == 0
    before = splits(tmp_path / "out", 1)
    assert len(before) == len(records)
    assert mill(*again, "--rebuild", "--set", "redact.enabled=true") == 0
    after = splits(tmp_path / "out", 2)
    assert {one for one in after if after[one] == "eval"} == {one for one in before if before[one] == "eval"}
    near = [one for one in fates(tmp_path / "out", 2) if one["reasons"] == ["near"]]
    assert {one["kept_id"] for one in near} <= after.keys()
    assert sum(after[one["kept_id"]] == "eval" for one in near) > 5


def corrected_night(tmp_path: Path, count: int = 40) -> tuple[list[Any], list[dict[str, Any]]]:
    """A night with a source of corrections, published; the arguments of the next, and what is in train."""
    chooser = random.Random(9)
    write_lines(tmp_path / "logs" / "a.jsonl", [said(chooser, user=number) for number in range(count)])
    config = tmp_path / "nightly.yaml"
    config.write_text(
        f"sources:\n  - input: {tmp_path}/logs/*.jsonl\n"
        f"  - {{input: {tmp_path}/corrected, corrected: true}}\noutput: {tmp_path}/out\n"
    )
    (tmp_path / "corrected").mkdir()
    assert mill("run", config, *GROUPED) == 0
    write_lines(tmp_path / "logs" / "b.jsonl", [said(chooser, user=99)])
    dataset = Dataset(Storage(), str(tmp_path / "out"))
    rows = [
        row for uri in dataset.files(dataset.manifest(), "parquet", "train") for row in pq.read_table(uri).to_pylist()
    ]
    return ["run", config, *GROUPED], sorted(rows, key=lambda row: str(row["id"]))


def test_a_night_that_is_not_committed_tells_of_its_corrections(tmp_path, capsys, monkeypatch):
    nightly, train = corrected_night(tmp_path)
    stand = "the corrections before this run were committed, as snapshot {:06d}"
    for number, (error, code) in enumerate(
        ((RunFailed, 4), (OvertakenError, 5), (UsageError, 2), (KeyboardInterrupt, 130), (PermissionError, 2)), 2
    ):

        def ends(*_: Any, error: Any = error, **__: Any) -> None:
            raise error("so it ended")

        write_lines(tmp_path / "corrected" / f"{number}.jsonl", [{"id": train[number]["id"], "decision": "cut"}])
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.run.execute", ends)
            assert mill(*nightly) == code
            told = " ".join(capsys.readouterr().err.split())
            assert stand.format(number) in told
            assert "as it was" not in told
            assert mill(*nightly) == code
            assert "the corrections" not in capsys.readouterr().err
    write_lines(tmp_path / "corrected" / "c.jsonl", [{"id": train[0]["id"], "decision": "cut"}])
    (tmp_path / "logs" / "b.jsonl").write_text("{}\n")
    assert mill(*nightly) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert stand.format(7) in told
    assert "the run was not committed: " in told
    assert "nothing was committed" not in told
    assert manifest(tmp_path / "out", 7)["operation"] == "apply"
    assert not (tmp_path / "out" / "snapshots" / "000008.json").exists()


def test_all_files_of_corrections_are_applied_or_none(tmp_path, capsys):
    nightly, train = corrected_night(tmp_path)
    folder = tmp_path / "corrected"

    def fixed(row: dict[str, Any], answer: str) -> dict[str, Any]:
        return {"corrects": row["id"], "messages": [*row["messages"][:-1], {"role": "assistant", "content": answer}]}

    first = [fixed(train[0], "First."), fixed(train[1], "Second."), {"id": train[2]["id"], "decision": "cut"}]
    write_lines(folder / "a" / "x.jsonl", [*first, fixed(train[3], "Third.")])
    for wrong, told in (
        (fixed(train[4], " "), "b/x.jsonl, line 2: empty_turn"),
        ({"corrects": "0" * 32, "messages": []}, "b/x.jsonl, line 2: the dataset has no record"),
        (
            {**fixed(train[0], "First."), "corrects": train[4]["id"]},
            f"says the same as that of {folder}/a/x.jsonl, line 1",
        ),
    ):
        write_lines(folder / "b" / "x.jsonl", [fixed(train[5], "Fifth."), wrong])
        capsys.readouterr()
        assert mill(*nightly) == 2
        assert told in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out" / "snapshots" / "000002.json").exists()
    second = [fixed(train[0], "Later."), fixed(train[2], "Gone."), {"id": train[3]["id"], "decision": "keep"}]
    write_lines(folder / "b" / "x.jsonl", [*second, fixed(train[5], "Fifth.")])
    assert mill(*nightly) == 0
    assert "3 records corrected, 1 cut" in capsys.readouterr().err
    assert [manifest(tmp_path / "out", number)["operation"] for number in (2, 3)] == ["apply", "refresh"]
    dataset = Dataset(Storage(), str(tmp_path / "out"))
    rows = [row for uri in dataset.files(dataset.manifest(), "parquet") for row in pq.read_table(uri).to_pylist()]
    said_of = {json.loads(row["metadata"]).get("replaces"): row["messages"][-1]["content"] for row in rows}
    del said_of[None]
    assert said_of == {train[0]["id"]: "Later.", train[1]["id"]: "Second.", train[5]["id"]: "Fifth."}
    assert train[2]["id"] not in {row["id"] for row in rows}
    assert train[3]["id"] in {row["id"] for row in rows}
    places = {(one["shard"], one["line"]) for one in fates(tmp_path / "out", 2)}
    assert places == {
        ("000002-corrections:x.jsonl", 2),
        ("000002-corrections:x.jsonl#2", 1),
        ("000002-corrections:x.jsonl#2", 4),
    }
    assert mill("verify", tmp_path / "out") == 0
    assert mill(*nightly) == 0
    assert "nothing new" in capsys.readouterr().err
    assert mill(*nightly, "--set", "dedupe.threshold=0.9", "--rebuild") == 0
    assert mill("verify", tmp_path / "out") == 0


def test_corrections_are_unpacked_as_logs_are(tmp_path, capsys):
    nightly, train = corrected_night(tmp_path)
    packers: list[Any] = [gzip.compress, zstandard.ZstdCompressor().compress, bz2.compress]
    for number, (suffix, pack) in enumerate(zip(("gz", "zst", "bz2"), packers, strict=True)):
        lines = [{"id": train[2 * number + one]["id"], "decision": "cut"} for one in range(2)]
        plain = write_lines(tmp_path / "plain.jsonl", lines).read_bytes()
        (tmp_path / "corrected" / f"{number}.jsonl.{suffix}").write_bytes(pack(plain))
    array = json.dumps([{"id": train[6]["id"], "decision": "cut"}])
    (tmp_path / "corrected" / "3.json").write_text(array)
    cut = gzip.compress(random.Random(1).randbytes(3000).hex().encode())[:-20]
    (tmp_path / "corrected" / "4.jsonl.gz").write_bytes(cut)
    assert mill(*nightly) == 2
    assert "4.jsonl.gz, line 1: corrupt_shard" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "corrected" / "4.jsonl.gz").unlink()
    assert mill(*nightly) == 0
    assert "7 cut" in capsys.readouterr().err
    assert not {row["id"] for row in train[:7]} & splits(tmp_path / "out", 3).keys()


def test_corrected_records_have_any_shape_of_logs(tmp_path, capsys):
    nightly, train = corrected_night(tmp_path)
    asked = [
        "Where is my parcel?",
        "Why was it late?",
        "Who signed for it?",
        "When did it leave?",
        "What does it weigh?",
    ]
    tools = [{"type": "function", "function": {"name": "track"}}]
    records: list[dict[str, Any]] = [
        {"prompt": asked[0], "completion": "So.", "reviewer": "A."},
        {"question": asked[1], "answer": "So.", "tools": tools},
        {"instruction": asked[2], "output": "So.", "functions": [{"name": "track"}]},
        {"conversations": [{"from": "human", "value": asked[3]}, {"from": "gpt", "value": "So."}], "tools": None},
        {"messages": [{"role": "user", "content": asked[4]}, {"role": "assistant", "content": "So.", "name": None}]},
    ]
    lines = [{"corrects": row["id"], **record} for row, record in zip(train, records, strict=False)]
    for wrong in ({"text": "So."}, {"prompt": "Why?", "chosen": "So.", "rejected": "No."}, {"question": "Why?"}):
        write_lines(tmp_path / "corrected" / "a.jsonl", [*lines, {"corrects": train[5]["id"], **wrong}])
        assert mill(*nightly) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "a.jsonl, line 6: preference_record" in told if "chosen" in wrong else "line 6: unknown_shape" in told
    write_lines(tmp_path / "corrected" / "a.jsonl", lines)
    assert mill(*nightly) == 0
    dataset = Dataset(Storage(), str(tmp_path / "out"))
    rows = [
        row for uri in dataset.files(dataset.manifest(), "parquet", "train") for row in pq.read_table(uri).to_pylist()
    ]
    found = {json.loads(row["metadata"]).get("replaces"): row for row in rows}
    for row, question, declared in zip(train, asked, (None, tools, tools, None, None), strict=False):
        new = found[row["id"]]
        assert [one["content"] for one in new["messages"]] == [question, "So."]
        assert new["tools"] == (declared and json.dumps(declared, separators=(",", ":"), sort_keys=True))
        assert "reviewer" not in new["metadata"]


def test_a_correction_that_holds_an_item_of_a_benchmark_is_refused(tmp_path, capsys):
    nightly, train = corrected_night(tmp_path)
    told = "A train leaves Lyon at noon and another one leaves Paris an hour later, so where do they meet?"
    other = "Which of the seven rivers that flow through the old town was the last one to be bridged?"
    exam = write_lines(tmp_path / "exam.jsonl", [{"question": told, "answer": "In Beaune."}])
    fixed = [
        {
            "corrects": row["id"],
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "So."}],
        }
        for row, asked in zip(train, (other, told), strict=False)
    ]
    path = write_lines(tmp_path / "corrected" / "a.jsonl", fixed)
    config = tmp_path / "exam.yaml"
    config.write_text(f"{nightly[1].read_text()}redact: {{enabled: false}}\ndecontaminate: {exam}\n")
    for command in ([*nightly, "--decontaminate", exam], ["apply", tmp_path / "out", path, "--config", config]):
        capsys.readouterr()
        assert mill(*command) == 2
        said_of_it = " ".join(capsys.readouterr().err.split())
        assert "line 2: the fix holds an item of a benchmark" in said_of_it
        assert ("corrected/a.jsonl, line 2" in said_of_it) == (command[0] == "run")
        assert "line 1" not in said_of_it
        assert "Lyon" not in said_of_it
        assert not (tmp_path / "out" / "snapshots" / "000002.json").exists()
    write_lines(path, fixed[:1])
    assert mill(*nightly, "--decontaminate", exam) == 0
    assert "1 records corrected" in capsys.readouterr().err


def test_verify_compares_short_texts_by_their_characters(tmp_path, capsys):
    """As the dataset does: no near-duplicate of it is one in words alone, and none is missed for being short."""
    chooser = random.Random(4)
    names = [["".join(chooser.choices("bcdfghklmnprstvz", k=14)) for _ in range(4)] for _ in range(300)]
    pairs = [(" ".join(one), " ".join([*one[:3], f"{one[3][:-1]}q"])) for one in names]
    alike = write_lines(tmp_path / "alike.jsonl", [chat(said, said[:4]) for pair in pairs for said in pair])
    cut = ["split.val=0.3", "split.eval=0.3", "split.min_val=1"]
    options = [*FAST, *(flag for one in cut for flag in ("--set", one))]
    blind = ["--set", "dedupe.near=false"]
    assert mill("run", "--input", alike, "--output", tmp_path / "blind", *options, *blind) == 0
    dataset = Dataset(Storage(), str(tmp_path / "blind"))
    manifest_ = dataset.manifest()
    assert any("near-duplicates" in one for one in _check_leaks(dataset, manifest_, manifest_["config"], None, print))
    # Between the two thresholds a few are told and no finding, as the search misses some; many are one.
    between = {**manifest_["config"], "dedupe": {**manifest_["config"]["dedupe"], "threshold": 0.999}}
    assert any(
        "val and eval records looked at" in one for one in _check_leaks(dataset, manifest_, between, None, print)
    )
    few = write_lines(tmp_path / "few.jsonl", [chat(said, said[:4]) for one, pair in enumerate(pairs) for said in pair[: 1 + (one < 3)]])  # fmt: skip
    assert mill("run", "--input", few, "--output", tmp_path / "few", *options, *blind) == 0
    dataset, told = Dataset(Storage(), str(tmp_path / "few")), list[str]()
    assert list(_check_leaks(dataset, dataset.manifest(), between, None, told.append)) == []
    assert "as many as the search is known to miss" in " ".join(told)
    assert mill("run", "--input", alike, "--output", tmp_path / "out", *options) == 0
    assert mill("verify", tmp_path / "out") == 0
    capsys.readouterr()


def index_rows(output: Path, number: int) -> dict[str, list[str]]:
    """All rows of the index of a snapshot by kind, sorted; each owner once."""
    found: dict[str, list[str]] = {}
    parts = parts_of(one["path"] for one in manifest(output, number)["files"] if one["kind"] == "index")
    for kind in SCHEMAS:
        rows = [str(row) for table in Index(Storage(), str(output), parts).all(kind) for row in table.to_pylist()]
        assert len(rows) == len(set(rows)) or kind == "owners"
        found[kind] = sorted(set(rows))
    return found


def index_paths(output: Path, number: int) -> set[str]:
    return {one["path"] for one in manifest(output, number)["files"] if one["kind"] == "index"}


def test_small_parts_of_the_index_are_merged_and_say_the_same(tmp_path, monkeypatch):
    chooser = random.Random(9)
    records = [said(chooser, user=number % 50) for number in range(150)]
    nights = [records[:80], records[80:100], records[100:130], [*records[130:], *records[:5]]]
    for number, made in enumerate(nights, 1):
        write_lines(tmp_path / "logs" / f"2026-11-0{number}.jsonl", made)
        assert night(tmp_path / "out", tmp_path / "logs", f"2026-11-0{number}", *WHOLE) == 0
    with monkeypatch.context() as patched:
        patched.setattr(refresh, "SMALL_BYTES", 0)
        for number in range(1, len(nights) + 1):
            assert night(tmp_path / "apart", tmp_path / "logs", f"2026-11-0{number}", *WHOLE) == 0
    out, apart = tmp_path / "out", tmp_path / "apart"
    assert len(index_paths(apart, 4)) == 4 * len(SCHEMAS)
    assert index_rows(out, 4) == index_rows(apart, 4)
    assert splits(out, 4) == splits(apart, 4)
    # The first night stays as it is; the two after it, about as large, are in the part of the fourth.
    assert {path.split("/")[1][:6] for path in index_paths(out, 4)} == {"000001", "000004"}
    assert index_paths(out, 2) < index_paths(out, 3)
    # Who goes back finds the old parts; the snapshot that is gone back over is remembered.
    assert mill("rollback", out, "3") == 0
    assert night(out, tmp_path / "logs", "2026-11-04", *WHOLE) == 0
    assert index_rows(out, 6) == index_rows(out, 4)
    assert mill("expire", out, "--keep", "1", "--older-than", "0") == 0
    listed = {one["path"] for one in manifest(out, 6)["files"]}
    assert {str(path.relative_to(out)) for path in (out / "index").rglob("*.parquet")} <= listed
    assert mill("forget", out, "--group", "3") == 0
    assert mill("verify", out) == 0


def test_a_rebuild_by_a_lower_leak_threshold_takes_look_alikes_apart(tmp_path):
    """As a build by it would have: what was published in train and val goes where it resembles eval or val now."""
    chooser = random.Random(4)
    pairs = []
    for number in range(150):
        one = said(chooser, number)
        other = {**json.loads(json.dumps(one)), "user_id": 1000 + number}
        answer = other["messages"][1]["content"].split()
        other["messages"][1]["content"] = " ".join([*answer[:-20], *chooser.choices(WORDS, k=20)])  # 0.65 alike
        pairs += [one, other]
    write_lines(tmp_path / "logs" / "2026-11-01.jsonl", pairs)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    lower = ["--set", "dedupe.leak_threshold=0.6", "--set", "dedupe.bands=32", "--set", "dedupe.rows=4"]
    assert night(out, tmp_path / "logs", "2026-11-01") == 0
    assert night(out, tmp_path / "logs", "2026-11-01", *lower, "--rebuild") == 0
    assert night(fresh, tmp_path / "logs", "2026-11-01", *lower) == 0
    before, after = splits(out, 1), splits(out, 2)
    assert after == splits(fresh, 1)
    gone = Counter(before[one] for one in before.keys() - after.keys())
    assert gone["train"] > 10
    assert gone["val"] > 0
    assert not gone["eval"]
    assert mill("verify", out) == 0
