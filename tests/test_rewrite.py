"""Rewrites beside another run: whoever commits first wins, and the other says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import compact, forget, rewrite
from pipeline.cli_rewrite import _lines
from pipeline.expire import remove_uncommitted
from pipeline.rewrite import Rewrite
from pipeline.snapshots import Dataset
from pipeline.tables_rewrite import forget_table
from tests.nights import commit_changed, made_night, take_in
from tests.records import write_lines
from tests.test_run import mill


@pytest.mark.parametrize("command", ["forget", "apply", "compact"])
def test_who_is_overtaken_says_so_whatever_was_removed_meanwhile(command, dataset_of_nights, tmp_path, monkeypatch, capsys):  # fmt: skip
    """Another run commits, and removes what this one had written: that is no damage."""
    dataset = dataset_of_nights
    (group, record) = _of_train(dataset)
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_text(json.dumps({"id": record, "decision": "cut"}))
    arguments = {"forget": ["--group", group], "apply": [decisions], "compact": ["--min-files", "2"]}[command]
    where, name = {
        "forget": (forget, "search_files"),
        "apply": (rewrite, "put_report"),
        "compact": (compact, "take_census"),
    }[command]
    real = getattr(where, name)

    def overtaken(made, *rest):
        if not isinstance(made, Rewrite) or any(made.name in one["path"] for one in made.files):
            monkeypatch.setattr(where, name, real)
            commit_changed(dataset, operation="run")
            assert remove_uncommitted(dataset) > 0
        return real(made, *rest)

    monkeypatch.setattr(where, name, overtaken)
    assert mill(command, dataset.root, *arguments) == 5
    assert "another run committed snapshot 000003 first" in capsys.readouterr().err
    assert dataset.latest() == 3
    assert mill("verify", dataset.root) == 0
    assert mill(command, dataset.root, *arguments) == 0
    assert dataset.latest() == 4


def test_what_is_damaged_is_told_as_such_where_nobody_else_committed(dataset_of_nights, capsys):
    (group, _) = _of_train(dataset_of_nights)
    (lineage, *_) = dataset_of_nights.files(dataset_of_nights.manifest(), "lineage")
    Path(lineage).write_bytes(b"")
    assert mill("forget", dataset_of_nights.root, "--group", group) == 2
    assert "is missing or damaged" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
@pytest.mark.parametrize("kind", ["records", "owners"])
def test_a_damaged_part_of_the_index_is_told_with_its_path(kind, damage, dataset_of_nights, nights, tmp_path, capsys):
    dataset = dataset_of_nights
    (group, _) = _of_train(dataset)
    (path, *_) = [one for one in dataset.files(dataset.manifest(), "index") if f"/{kind}-" in one]
    whole = Path(path).read_bytes()
    if damage == "gone":
        Path(path).unlink()
    else:
        Path(path).write_bytes(whole[: len(whole) // 2] if damage == "cut" else whole[:4] + b"?" * 60 + whole[64:])
    shutil.copytree(nights.parent / "logs", tmp_path / "logs")
    write_lines(tmp_path / "logs" / "3.jsonl", made_night(3))
    asked = (
        lambda: mill("forget", dataset.root, "--group", group),
        lambda: take_in(tmp_path / "logs", Path(dataset.root)),
    )
    for command in asked:
        capsys.readouterr()
        assert command() == 2
        told = capsys.readouterr().err
        assert f"{path.removeprefix(dataset.root + '/')} is missing or damaged" in told
        assert "corpusmill verify" in told
    Path(path).write_bytes(whole)
    assert take_in(tmp_path / "logs", Path(dataset.root)) == 0


def test_whom_only_older_snapshots_know_is_told_apart_from_whom_none_does(dataset_of_nights, capsys):
    dataset = dataset_of_nights
    known = [
        {row["group"] for uri in dataset.files(dataset.manifest(number), "lineage") for row in pq.read_table(uri).to_pylist()}
        for number in (1, 2)
    ]  # fmt: skip
    (group, *_) = sorted(known[1] - known[0] - {None})
    assert mill("rollback", dataset.root, "1") == 0
    capsys.readouterr()
    assert mill("forget", dataset.root, "--json", "--group", "nobody", group) == 0
    certificate = json.loads(capsys.readouterr().out)
    assert (certificate["unknown"], certificate["only_in_older"]) == ([1], {"given": [2], "snapshots": [2]})
    printed = "\n".join(str(one) for one in forget_table(certificate))
    assert "not known here, suppressed all the same: number 1 of those given" in printed
    assert "in snapshots that are kept (2): number 2 of those given" in printed


def test_a_file_of_groups_is_read_to_the_byte_but_for_line_ends_and_a_mark(tmp_path):
    file = tmp_path / "groups.txt"
    file.write_bytes("\ufefffirst\r\n alice\n\n\tbob \n  \nJosé\u2028x".encode())
    assert _lines(str(file)) == ["first", " alice", "\tbob ", "José\u2028x"]


def _of_train(dataset: Dataset) -> tuple[str, str]:
    """Group and id of a record of train."""
    (first, *_) = dataset.files(dataset.manifest(), "parquet", "train")
    row = pq.read_table(first, columns=["group", "id"]).slice(0, 1).to_pylist()[0]
    return row["group"], row["id"]
