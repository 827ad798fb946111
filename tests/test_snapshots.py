"""Commands on datasets whose files lie in the folders of several snapshots: verify, why, report, the card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.history import roll_back
from pipeline.snapshots import Dataset, add_accounts, manifest_digest
from tests.nights import commit_changed
from tests.test_run import mill
from transforms.reasons import SPLITS
from transforms.write import file_digest


@pytest.fixture
def dataset(dataset_of_nights: Dataset) -> Dataset:
    return dataset_of_nights


def path_of(dataset: Dataset, number: int, kind: str, split: str | None = None) -> Path:
    (found,) = (
        one["path"]
        for one in dataset.manifest()["files"]
        if one["kind"] == kind and one.get("split") == split and f"/{number:06d}" in one["path"]
    )
    return Path(dataset.uri(found))


def sign_again(dataset: Dataset) -> None:
    """Makes the newest manifest agree with the files as they are, as a forger would."""
    path = Path(dataset.manifest_uri(dataset.latest()))
    manifest = orjson.loads(path.read_bytes())
    for one in manifest["files"]:
        with open(dataset.uri(one["path"]), "rb") as content:
            one["digest"] = file_digest(content)
        if one["kind"] == "jsonl":
            one["rows"] = Path(dataset.uri(one["path"])).read_bytes().count(b"\n")
        elif one["kind"] == "parquet":
            one["rows"] = pq.ParquetFile(dataset.uri(one["path"])).metadata.num_rows
    for split in SPLITS:
        manifest["accounting"][split] = sum(
            one["rows"] for one in manifest["files"] if one["kind"] == "parquet" and one["split"] == split
        )
    read = manifest["accounting"]
    read["read"] = sum(read[name] for name in (*SPLITS, "duplicate")) + sum(read["quarantined"].values())
    manifest["digest"] = manifest_digest(manifest)
    path.write_bytes(orjson.dumps(manifest))


def publish_again_as_val(dataset: Dataset) -> None:
    """The first record of train of the first night stands in val of the second too, in both forms."""
    for kind in ("parquet", "jsonl"):
        train, val = path_of(dataset, 1, kind, "train"), path_of(dataset, 2, kind, "val")
        if kind == "parquet":
            pq.write_table(pa.concat_tables([pq.read_table(train).slice(0, 1), pq.read_table(val)]), val)
        else:
            val.write_bytes(train.read_bytes().split(b"\n")[0] + b"\n" + val.read_bytes())


def publish_again_as_train(dataset: Dataset) -> None:
    for kind in ("parquet", "jsonl"):
        first, second = (path_of(dataset, number, kind, "train") for number in (1, 2))
        if kind == "parquet":
            pq.write_table(pa.concat_tables([pq.read_table(first).slice(0, 1), pq.read_table(second)]), second)
        else:
            second.write_bytes(first.read_bytes().split(b"\n")[0] + b"\n" + second.read_bytes())


def tear_a_group(dataset: Dataset) -> None:
    """A group of the first night's train stands in the lineage of the second night's val."""
    path = path_of(dataset, 2, "lineage")
    rows = pq.read_table(path).to_pylist()
    group = next(
        one["group"] for one in pq.read_table(path_of(dataset, 1, "lineage")).to_pylist() if one["outcome"] == "train"
    )
    next(one for one in rows if one["outcome"] == "val")["group"] = group
    pq.write_table(pa.Table.from_pylist(rows, pq.read_table(path).schema), path)


def swap_fates(dataset: Dataset) -> None:
    """Two inputs keep the sum of their fates, but not each its own."""
    for number, change in ((1, 1), (2, -1)):
        path = next(Path(dataset.uri("snapshots")).glob(f"{number:06d}*.parquet"))
        rows = pq.read_table(path).to_pylist()
        rows[0]["train"] += change
        rows[0]["duplicate"] -= change
        pq.write_table(pa.Table.from_pylist(rows, pq.read_table(path).schema), path)


def test_verify_passes_two_nights(dataset):
    assert mill("verify", dataset.root) == 0
    assert mill("verify", dataset.root, "--sample", "2") == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (publish_again_as_val, "1 records are in several splits"),
        (publish_again_as_train, "1 records are there twice"),
        (tear_a_group, "1 groups are in several splits"),
        (swap_fates, "2 of 2 inputs have other fates in the lineage than in their accounts"),
    ],
)
def test_verify_looks_across_snapshots(dataset, damage, said, capsys):
    damage(dataset)
    sign_again(dataset)
    assert mill("verify", dataset.root) == 3
    assert said in capsys.readouterr().out


def test_verify_finds_a_changed_eval(dataset, capsys):
    files = dataset.manifest()["files"]
    evals = [one for one in files if one.get("split") == "eval" and one["rows"]]
    assert len(evals) == 2
    # Consistent in itself, but without what snapshot 2 had in eval.
    for one in evals:
        target = Path(dataset.uri(one["path"].replace("000001", "000003")))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dataset.uri(one["path"]), target)
    moved = [{**one, "path": one["path"].replace("000001", "000003")} if one in evals else one for one in files]
    commit_changed(dataset, files=moved, operation="compact")
    assert mill("verify", dataset.root) == 3
    assert "000003 lost or changed 2 files of eval that 000002 had published" in capsys.readouterr().out
    Path(dataset.manifest_uri(3)).unlink()
    commit_changed(dataset, files=moved, operation="forget")
    assert mill("verify", dataset.root) == 0


def test_verify_finds_an_altered_ancestor(dataset, capsys):
    path = Path(dataset.manifest_uri(1))
    path.write_bytes(path.read_bytes().replace(b'"train": 18', b'"train": 19'))
    assert mill("verify", dataset.root) == 3
    assert "manifest of snapshot 000001 was altered" in capsys.readouterr().out


def test_verify_checks_the_accounts_of_the_night(dataset, capsys):
    added = dataset.manifest()["added"]
    commit_changed(dataset, operation="refresh", added=add_accounts([added, added]))
    assert mill("verify", dataset.root) == 3
    assert "accounts of what the snapshot took in" in capsys.readouterr().out


def test_verify_and_diff_read_lines_where_there_is_no_parquet(dataset, capsys):
    lines = [one for one in dataset.manifest()["files"] if one["kind"] != "parquet"]
    first = [one for one in lines if "/000002" not in one["path"]]
    commit_changed(dataset, files=lines, operation="compact", parent=None)
    assert mill("verify", dataset.root) == 0
    commit_changed(dataset, files=first, operation="compact", parent=None)
    capsys.readouterr()
    assert mill("diff", dataset.root, "3", "4", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["out"].values()) == 30 == sum(found["stayed"].values())


def test_why_tells_the_snapshot_of_a_line(dataset, capsys):
    for number in (1, 2):
        assert mill("why", dataset.root, f"logs/{number}.jsonl:3", "--json") == 0
        (fate,) = json.loads(capsys.readouterr().out)
        assert (fate["snapshot"], fate["line"]) == (number, 3)
        assert mill("why", dataset.root, fate["id"], "--json") == 0
        assert json.loads(capsys.readouterr().out) == [fate]
    assert mill("why", dataset.root, "2.jsonl:32") == 0
    said = capsys.readouterr().out
    assert "000002" in said
    assert "the line is not JSON" in said


def test_why_says_why_there_is_no_such_line(dataset, capsys):
    def asked(what):
        assert mill("why", dataset.root, what) == 2
        return capsys.readouterr().err

    assert "it has 32 lines, 0 of them blank" in asked("2.jsonl:33")
    assert "no input named 3.jsonl was taken in" in asked("3.jsonl:1")
    assert mill("why", dataset.root, "2.jsonl:1", "--json") == 0
    (fate,) = json.loads(capsys.readouterr().out)
    roll_back(dataset, 1)
    assert "came with snapshot 000002, which was rolled back" in asked("2.jsonl:1")
    assert "came with snapshot 000002, which was rolled back" in asked(fate["id"])


def test_report_is_that_of_the_newest_night(dataset, capsys):
    page = next(Path(dataset.uri("report")).glob("000002-*/index.html"))
    page.unlink()
    assert mill("report", dataset.root) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.exists()


def test_load_dataset_reads_all_nights(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    found = load_dataset(dataset.root, cache_dir=str(tmp_path / "cache"))
    accounting = dataset.manifest()["accounting"]
    assert {split: len(found[split]) for split in found} == {split: accounting[split] for split in SPLITS}
    ids = [one for split in found for one in found[split]["id"]]
    assert len(set(ids)) == len(ids) == 60
