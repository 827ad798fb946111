"""The checks of benchmarks/nightly.py find what they are for, and thirty nights none of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import nightly
from benchmarks.nightly import Writer, check_night, compare_with_full, find_leaks
from benchmarks.nightly_cases import Fate, Judge
from pipeline.snapshots import Dataset
from tests.nights import commit_changed
from tests.test_run import mill
from transforms.hashing import Keys
from transforms.split import bin_of


@pytest.fixture
def dataset(dataset_of_nights: Dataset) -> Dataset:
    return dataset_of_nights


def published(dataset: Dataset, split: str) -> list[dict]:
    return [one for one in dataset.manifest()["files"] if one["kind"] == "parquet" and one["split"] == split]


def test_right_nights_have_no_findings(dataset):
    assert [*check_night(dataset, 1), *check_night(dataset, 2)] == []
    leaks = find_leaks(dataset, dataset.manifest())
    assert (leaks.strong, leaks.weak) == ([], 0)
    assert leaks.looked_at == dataset.manifest()["accounting"]["val"] + dataset.manifest()["accounting"]["eval"]


def test_wrong_nights_are_told(dataset):
    manifest = dataset.manifest()
    (val, *_), (train, later), (eval_, *_) = (published(dataset, split) for split in ("val", "train", "eval"))
    copied = pa.concat_tables([pq.read_table(dataset.uri(one["path"])) for one in (val, train)])
    grown = {**val, "path": val["path"].replace("000001", "000003")}
    Path(dataset.uri(grown["path"])).parent.mkdir()
    pq.write_table(copied, dataset.uri(grown["path"]))
    instead = {val["path"]: [grown], eval_["path"]: [{**eval_, "digest": "changed"}], later["path"]: []}
    files = [file for one in manifest["files"] for file in instead.get(one["path"], [one])]
    assert len(find_leaks(dataset, {"files": files}).strong) == train["rows"]
    read = manifest["added"]["read"] + 1
    commit_changed(dataset, files=files, added={**manifest["added"], "read": read})
    said = " ".join(check_night(dataset, 3))
    for finding in (f"{read} lines read", "other numbers than the accounts", "groups are in several splits",
                    "records moved", "published records went", "files of eval changed", "not those of the night before"):  # fmt: skip
        assert finding in said, finding


def test_sampled_leaks_look_at_a_sample(dataset):
    assert find_leaks(dataset, dataset.manifest(), sample=3).looked_at == 3


def test_a_dataset_fares_as_itself(dataset, nights, tmp_path):
    logs = nights.parent / "logs"
    assert compare_with_full(dataset, dataset, logs) == ([], [])
    other = Dataset(dataset.storage, str(tmp_path / "other"))
    shutil.copytree(dataset.root, other.root)
    path = next(Path(other.root).glob("lineage/000002-*/*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array([number > 2 for number in range(table.num_rows)])), path)
    cases, findings = compare_with_full(other, dataset, logs)
    assert not any(one["cause"] for one in cases)
    assert findings[0].endswith("ids are in the lineage of only one of the two")


GROUP = "ab" * 16


def fate(
    outcome: str, reason: str = "", kept_id: str | None = None, snapshot: int = 2, group: str | None = GROUP
) -> Fate:
    return Fate(outcome, reason, kept_id, group, snapshot)


@pytest.mark.parametrize(
    ("mine", "other", "why"),
    [
        (fate("dropped", "near_eval"), fate("train"), "resembles eval, published before"),
        (fate("dropped", "near_val"), fate("train"), None),  # it resembles nothing in val
        (fate("dropped", "group_in_eval", group="e"), fate("train"), "its group was in eval"),
        (fate("dropped", "group_in_eval", group="f"), fate("train"), None),
        (fate("dropped", "decontaminated"), fate("train"), None),
        (fate("duplicate", "near", "old"), fate("train"), "another, published before"),
        (fate("duplicate", "near", "late"), fate("train"), None),
        (fate("duplicate", "near", "unlike"), fate("train"), None),
        (fate("train"), fate("duplicate", "near", "old"), None),
        (fate("train"), fate("duplicate", "near", "gone"), "came later, or gave way"),
        (fate("train"), fate("dropped", "near_val"), "not held out night by night"),
        (fate("train"), fate("dropped", "near_eval", group="x"), "not held out night by night"),
        (fate("val", snapshot=3), fate("train"), "its group was published there"),
        (fate("train", snapshot=1, group=None), fate("eval"), "cut elsewhere"),
        (fate("eval", snapshot=1, group=None), fate("train"), None),  # no cut puts it there
    ],
)
def test_other_fates_have_a_cause_that_shows_or_none(mine, other, why):
    keys, one = Keys("x"), "0" * 32
    place = bin_of(bytes.fromhex(one), keys)
    nights = {
        "old": fate("train", snapshot=1), "late": fate("train", snapshot=9), "gone": fate("dropped", "near_val"),
        "unlike": fate("train", snapshot=1), "held": fate("eval", snapshot=1, group="e"),
        "loose": fate("train", snapshot=1, group="z"), "member": fate("val", snapshot=2),
    }  # fmt: skip
    full = {**dict.fromkeys(nights, fate("train")), "loose": fate("val", group="z")}
    alike = {"old": 0.9, "late": 0.9, "gone": 0.85, "held": 0.75, "loose": 0.72}
    if other.outcome == "train" and mine.reason == "near_val":
        nights["loose"] = fate("train", snapshot=1)
    judge = Judge(
        {**nights, one: mine}, {**full, one: other}, lambda _: alike if _ == one and mine.group else {}, keys,
        {number: (place, place, number > 1) for number in range(1, 10)}, (place + 1, place + 1, False), 0.8, 0.7,
    )  # fmt: skip
    found = judge.cause(one)
    assert found is None if why is None else why in (found or "")


@pytest.mark.parametrize(("night_cut", "found"), [((1, 0), True), ((1, 1), False), ((0, 0), False)])
def test_a_look_alike_in_the_same_split_is_no_leak(night_cut, found):
    """Only if the cut of its night, and that of no other, put it into the split of what it gave way to."""
    keys, one, peer = Keys("x"), "0" * 32, "1" * 32
    place = bin_of(bytes.fromhex(one), keys)
    fates = {peer: fate("val", snapshot=2, group=None)}
    night, full = (place, place + night_cut[0]), (place, place + night_cut[1])
    judge = Judge(
        {**fates, one: fate("val", group=None)}, {**fates, one: fate("dropped", "near_val", group=None)},
        lambda id_: {peer: 0.75} if id_ == one else {}, keys, {2: (*night, True)}, (*full, True), 0.8, 0.7,
    )  # fmt: skip
    assert (judge.cause(one) is not None) == found


@pytest.mark.parametrize(("night", "found"), [(9, True), (2, False)])
def test_what_gives_way_to_a_later_record_may_resemble_eval_before(night, found):
    one, leader, held = "0" * 32, "1" * 32, "2" * 32
    nights = {held: fate("eval"), leader: fate("train", snapshot=night)}
    judge = Judge(
        {**nights, one: fate("dropped", "near_eval")}, {**nights, one: fate("duplicate", "near", leader)},
        lambda _: {leader: 0.9, held: 0.75}, Keys("x"), {}, (0, 0, False), 0.8, 0.7,
    )  # fmt: skip
    assert (judge.cause(one) is not None) == found


@pytest.mark.parametrize(("similarity", "found"), [(0.9, True), (0.75, False)])
def test_what_repeats_a_record_goes_for_its_cause(similarity, found):
    """Its leader resembles eval that was published before; it itself does not."""
    one, leader, held = "0" * 32, "1" * 32, "2" * 32
    nights = {
        held: fate("eval", snapshot=1),
        leader: fate("dropped", "near_eval"),
        one: fate("dropped", "near_eval", leader),
    }
    alike = {one: {leader: similarity}, leader: {one: similarity, held: 0.75}, held: {leader: 0.75}}
    judge = Judge(
        nights, dict.fromkeys(nights, fate("train")), alike.__getitem__, Keys("x"), {}, (0, 0, False), 0.8, 0.7
    )
    assert (judge.cause(one) is not None) == found


def test_thirty_nights_reach_what_the_benchmark_asks_of_them(tmp_path, monkeypatch):
    """All of `benchmarks/nightly.py --cost 0`, small and in this process."""
    monkeypatch.setattr(nightly, "command", lambda *arguments: float(mill(*arguments)))
    found = nightly.simulate(tmp_path, nights=30, first=400, share=0.05, seed=1, sample=None)
    assert found["findings"] == []
    assert found["leaks"]["looked_at"] > 60
    assert (found["leaks"]["strong"], found["leaks"]["weak"]) == (0, 0)
    cases = json.loads((tmp_path / "cases.json").read_bytes())
    assert len(cases) == sum(found["other_fates_than_in_a_full_build"].values()) > 10
    assert all(case["cause"] for case in cases)
    # Nights are so small here that their parts of the index would weigh two fifths more, were they not merged.
    weights = found["index_bytes_a_record"]
    assert weights["after_the_nights"] < 1.06 * weights["compacted"]


def test_made_nights_are_the_same_again():
    one, other = Writer(3), Writer(3)
    assert [one.night(200), one.night(50)] == [other.night(200), other.night(50)]
    assert one.night(50) != other.night(49)
