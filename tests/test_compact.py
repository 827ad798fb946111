"""Compaction of some nights: fewer files, and nothing else changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.compact import take_census
from pipeline.rewrite import Rewrite
from pipeline.snapshots import Dataset
from tests.records import chat, write_lines
from tests.test_apply import OPTIONS, of_split, said
from tests.test_forget import live
from tests.test_run import mill
from transforms.hashing import Keys
from transforms.storage import Storage


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    for night in range(2):
        records = [
            chat(said(n + 40 * night), f"Answer {n} of night {night}.", user_id=n + 40 * night) for n in range(40)
        ]
        logs = write_lines(folder / "logs" / f"{night}.jsonl", [*records, records[0], b"{"])
        assert mill("run", "--input", logs, "--output", folder / "out", *OPTIONS) == 0
    return folder


def test_compaction_changes_the_files_and_nothing_in_them(nights, tmp_path, capsys):
    output = Path(shutil.copytree(nights / "out", tmp_path / "out"))
    dataset = Dataset(Storage(), str(output))
    before, census = dataset.manifest(), take_census(Rewrite(dataset, "compact", 2))
    rows = {split: of_split(output, split) for split in ("train", "val", "eval")}
    lines = sorted(map(str, live(output, "lineage")))
    capsys.readouterr()
    assert mill("compact", output, "--min-files", 2, "--json") == 0
    done = json.loads(capsys.readouterr().out)
    after = dataset.manifest()
    assert done["committed"] is True
    assert done["files_after"] < done["files_before"]
    assert after["operation"] == "compact"
    assert {split: of_split(output, split) for split in rows} == rows
    assert sorted(map(str, live(output, "lineage"))) == lines
    assert take_census(Rewrite(dataset, "compact", 2)) == census
    assert after["accounting"] == before["accounting"]

    def held(manifest):
        return [(one["path"], one["digest"]) for one in manifest["files"] if one.get("split") == "eval"]

    assert held(after) == held(before)
    keys = Keys("corpusmill")
    for uri in dataset.files(after, "parquet", "train"):
        ids = pq.read_table(uri, columns=["id"]).column("id").to_pylist()
        found = [keys.shuffle_key(bytes.fromhex(one)) for one in ids]
        assert found == sorted(found)
    assert mill("verify", output) == 0
    capsys.readouterr()
    assert mill("compact", output, "--min-files", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["committed"] is False
    for number in (1, 2):  # the snapshot that took a line in is told as before
        capsys.readouterr()
        assert mill("why", output, f"logs/{number - 1}.jsonl:3", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert {one["snapshot"] for one in (told if isinstance(told, list) else told["fates"])} == {number}
    # The same again elsewhere gives the same bytes.
    other = Path(shutil.copytree(nights / "out", tmp_path / "other"))
    assert mill("compact", other, "--min-files", 2) == 0
    assert Dataset(Storage(), str(other)).manifest() == after


def test_nights_go_on_after_a_compaction(nights, tmp_path):
    output = Path(shutil.copytree(nights / "out", tmp_path / "out"))
    assert mill("compact", output, "--min-files", 2) == 0
    person = 45
    assert mill("forget", output, "--group", str(person)) == 0
    records = [chat(said(n), f"Answer {n % 40} of night {n // 40}.", user_id=n) for n in range(80)]
    night = write_lines(
        tmp_path / "night.jsonl", [*records, chat("Never asked before in this shop", "So.", user_id=500)]
    )
    assert mill("run", "--input", night, "--output", output, *OPTIONS) == 0
    added = Dataset(Storage(), str(output)).manifest()["added"]
    assert (added["train"] + added["val"] + added["eval"], added["dropped"]) == (1, {"forgotten": 1})
    assert mill("verify", output) == 0
    assert mill("run", "--input", nights / "logs", night, "--output", output, *OPTIONS, "--rebuild") == 0
    assert mill("verify", output) == 0


def test_a_dataset_of_jsonl_alone_is_compacted_too(tmp_path):
    for night in range(2):
        logs = write_lines(
            tmp_path / f"{night}.jsonl", [chat(said(n + 40 * night), "Yes.", user_id=n) for n in range(40)]
        )
        assert mill("run", "--input", logs, "--output", tmp_path / "out", *OPTIONS, "--set", "write.parquet=false") == 0
    dataset = Dataset(Storage(), str(tmp_path / "out"))
    before = take_census(Rewrite(dataset, "compact", 2))
    assert mill("compact", tmp_path / "out", "--min-files", 2) == 0
    assert take_census(Rewrite(dataset, "compact", 2)) == before
    assert mill("verify", tmp_path / "out") == 0
