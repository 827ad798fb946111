"""Log, diff, rollback and expire on a dataset of several snapshots."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import history
from pipeline.errors import OvertakenError, UsageError
from pipeline.expire import DAY, expire_snapshots
from pipeline.history import compare_snapshots, freed_inputs, list_snapshots, pinned, roll_back
from pipeline.members import Members, firsts, unhex
from pipeline.plan import plan_uri
from pipeline.snapshots import Dataset
from tests.nights import commit_changed, every_file, made_night, take_in
from tests.records import write_lines
from tests.test_run import mill
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.storage import Storage


def test_what_a_store_kept_is_told(dataset, monkeypatch):
    """Clients of stores remove many at once, and don't tell of those that they may not remove."""
    monkeypatch.setattr(Storage, "remove", lambda *_: None)
    monkeypatch.setattr(Storage, "is_local", lambda _, uri: uri != dataset.root)
    monkeypatch.setattr("pipeline.expire._remove_empty_folders", lambda _: None)
    with pytest.raises(UsageError, match=r"the store kept [1-9]"):
        expire_snapshots(dataset, 1)
    assert dataset.numbers() == [1, 2]


@pytest.fixture
def dataset(dataset_of_nights: Dataset) -> Dataset:
    return dataset_of_nights


def move_a_record(dataset: Dataset) -> None:
    """A third snapshot, whose night publishes a record of train as val: what no refresh may do."""
    manifest = dataset.manifest()
    (train,) = [one for one in manifest["files"] if one["kind"] == "parquet" and "000001" in one["path"] and one["split"] == "train"]  # fmt: skip
    stolen = {**train, "path": train["path"].replace("000001", "000003").replace("train", "val"), "split": "val"}
    target = Path(dataset.uri(stolen["path"]))
    target.parent.mkdir(parents=True)
    shutil.copy(dataset.uri(train["path"]), target)
    commit_changed(dataset, files=[*manifest["files"], stolen])


def test_log_lists_what_came_and_went(dataset, capsys):
    assert mill("log", dataset.root, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["read"], first["duplicate"], first["quarantined"]) == (32, 1, 1)
    assert sum(first["kept"].values()) == 30 == sum(second["in"].values())
    assert sum(second["kept"].values()) == 60
    assert second["out"] == dict.fromkeys(("train", "val", "eval"), 0)
    assert second["parent"] == 1
    assert abs(second["written"] - time.time()) < 3600
    roll_back(dataset, 1)
    expire_snapshots(dataset, 2)
    assert mill("log", dataset.root) == 0
    said = capsys.readouterr().out
    assert "000001" in said
    assert "expired" in said
    assert "refresh, undone" in said
    assert "rollback to 000001" in said


def test_diff_counts_records_and_files(dataset, capsys):
    assert mill("diff", dataset.root, "1", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["in"].values()) == 30
    assert sum(found["stayed"].values()) == 30
    assert not any(found["out"].values())
    assert found["moved"] == {}
    assert found["files"]["out"]["files"] == 2  # the report of the first
    back = compare_snapshots(dataset, 2, 1)
    assert (back["in"], back["out"], back["stayed"]) == (found["out"], found["in"], found["stayed"])
    assert compare_snapshots(dataset, 2, 2)["files"]["out"]["files"] == 0
    assert mill("diff", dataset.root, "1", "7") == 2
    assert "no snapshot 7" in capsys.readouterr().err


def test_diff_finds_a_record_that_moved(dataset, capsys):
    move_a_record(dataset)
    assert mill("diff", dataset.root, "2", "3") == 3
    said = capsys.readouterr().out
    assert "train→train+val" in said
    assert "18 records moved" in said


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3), st.integers(0, 2)), max_size=60))
def test_sides_are_those_of_sets(triples):
    ids = np.array([[number, number * 7] for number, _, _ in triples], np.uint64).reshape(-1, 2)
    with Members(10) as members:
        members.add(ids, np.array([sides << 4 | code for _, sides, code in triples], np.int32))
        found = {}
        for words, codes in members.partitions():
            before, after = history._sides(words, codes)
            found |= dict(zip(words[firsts(words)][:, 0].tolist(), zip(before.tolist(), after.tolist(), strict=True), strict=True))  # fmt: skip
    expected: dict[int, list[int]] = {}
    for number, sides, code in triples:
        one = expected.setdefault(number, [0, 0])
        one[0] |= (1 << code) * (sides & 1)
        one[1] |= (1 << code) * (sides >> 1)
    assert found == {number: tuple(one) for number, one in expected.items()}


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_ids_come_back_from_hex(ids):
    assert (
        unhex(pa.array([one.hex() for one in ids], pa.string())).tolist()
        == id_words(pa.array(ids, pa.binary(16))).tolist()
    )


@pytest.mark.parametrize("wrong", ["", "0" * 31, "0" * 33, "g" * 32, "É" * 32, "A" * 32])
def test_what_is_no_id_is_told(wrong):
    with pytest.raises(ValueError, match="32 hex digits"):
        unhex(pa.array(["0" * 32, wrong]))


def test_members_are_the_same_in_many_partitions(monkeypatch):
    monkeypatch.setattr("pipeline.members.PARTITION_ROWS", 8)
    words = np.random.default_rng(0).integers(0, 2**64, (500, 2), np.uint64)
    with Members(500) as members:
        members.add(words, 1)
        members.add(words[:100], 0)
        parts = list(members.partitions())
    assert len(parts) > 32
    assert sum(len(firsts(ids)) for ids, _ in parts) == 500
    assert sum(int((codes == 0).sum()) for _, codes in parts) == 100


def test_rollback_lists_the_old_files_and_frees_the_inputs(dataset, capsys):
    before = every_file(dataset)
    assert mill("rollback", dataset.root, "1") == 0
    assert "1 inputs taken in since then count as new again" in capsys.readouterr().err
    first, third = dataset.manifest(1), dataset.manifest()
    assert (third["snapshot"], third["parent"], third["operation"]) == (3, 1, "rollback")
    assert third["files"] == first["files"]
    assert third["accounting"] == first["accounting"]
    assert third["plan"] not in (first["plan"], dataset.manifest(2)["plan"])
    changed = {name for name, content in every_file(dataset).items() if before.get(name) != content}
    assert changed == {"snapshots/000003.json", "CURRENT", "README.md"}
    assert mill("verify", dataset.root) == 0
    # Again is nothing to do; and a rollback can be undone.
    assert mill("rollback", dataset.root, "1") == 0
    assert dataset.latest() == 3
    assert mill("rollback", dataset.root, "2") == 0
    assert dataset.manifest()["files"] == dataset.manifest(2)["files"]
    assert [one["undone"] for one in list_snapshots(dataset)] == [False, False, True, False]


def test_what_was_rolled_back_can_be_taken_in_again(dataset, nights):
    before = dataset.manifest()
    roll_back(dataset, 1)
    assert take_in(nights.parent / "logs", Path(dataset.root)) == 0
    after = dataset.manifest()
    assert (after["snapshot"], after["parent"], after["operation"]) == (4, 3, "refresh")
    assert after["accounting"] == before["accounting"]
    assert after["added"] == before["added"]
    found = compare_snapshots(dataset, 2, 4)
    assert sum(found["stayed"].values()) == 60
    assert not found["moved"]
    expire_snapshots(dataset, 1)
    assert mill("verify", dataset.root) == 0


def test_rollback_does_not_bring_back_the_forgotten_or_free_eval(dataset, capsys):
    manifest = commit_changed(dataset, operation="forget")
    commit_changed(dataset, operation="run")
    assert mill("rollback", dataset.root, "2") == 2
    assert "snapshot 000003 forgets people" in capsys.readouterr().err
    assert roll_back(dataset, 3)[1]
    train = next(one for one in manifest["files"] if one.get("split") == "train")
    grown = {**train, "split": "eval", "path": "data/000006-x/eval-00000-of-00001.parquet"}
    commit_changed(dataset, files=[*manifest["files"], grown], operation="run")
    assert mill("rollback", dataset.root, "5") == 2
    assert "does not have all of eval" in capsys.readouterr().err
    assert mill("rollback", dataset.root, "9") == 2


def test_a_rollback_beside_a_commit_gives_way(dataset, monkeypatch):
    real = Dataset.commit

    def overtaken(self, manifest):
        monkeypatch.setattr(Dataset, "commit", real)
        commit_changed(self, operation="run")
        return real(self, manifest)

    monkeypatch.setattr(Dataset, "commit", overtaken)
    with pytest.raises(OvertakenError):
        roll_back(dataset, 1)
    assert dataset.latest() == 3
    assert not list(Path(dataset.uri("snapshots")).glob("*.pin"))


def test_two_rollbacks_at_once_make_one_snapshot(dataset):
    made = []
    threads = [threading.Thread(target=lambda: made.append(roll_back(dataset, 1)[0]["snapshot"])) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(made) == {3}
    assert dataset.latest() == 3


def test_expire_keeps_what_kept_snapshots_list(dataset, capsys):
    before = every_file(dataset)
    report = {name for name in before if name.startswith("report/000001")}
    assert mill("expire", dataset.root, "--keep", "1", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert every_file(dataset) == before
    assert (told["snapshots"], set(told["files"])) == ([1], report)
    assert mill("expire", dataset.root, "--keep", "1") == 0
    assert before.keys() - every_file(dataset).keys() == {"snapshots/000001.json", *report}
    assert not Path(dataset.uri("report", dataset.manifest()["files"][0]["path"].split("/")[1])).exists()
    assert mill("verify", dataset.root) == 0
    assert expire_snapshots(dataset, 1).as_dict() == {
        "snapshots": [],
        "files": [],
        "work": [],
        "bytes": 0,
        "postponed": False,
    }
    assert mill("expire", dataset.root, "--keep", "1", "--older-than", "soon") == 2
    assert mill("expire", dataset.root) == 2


def test_expire_removes_what_an_undone_snapshot_wrote(dataset):
    roll_back(dataset, 1)
    expire_snapshots(dataset, 1)
    assert not [name for name in every_file(dataset) if "/000002" in name]
    assert mill("verify", dataset.root) == 0


@pytest.mark.parametrize("keep", [1, 2])
def test_an_expire_that_is_killed_leaves_a_whole_dataset(dataset, keep, monkeypatch):
    commit_changed(dataset, operation="run")
    roll_back(dataset, 1)
    commit_changed(dataset, operation="run")
    left_work(dataset, 1, age=2 * DAY)
    kept = dataset.manifest()["files"]
    start = every_file(dataset)
    expire_snapshots(dataset, keep)
    finished = every_file(dataset)
    real = Storage.remove
    for step in range(1000):
        shutil.rmtree(dataset.root)
        for name, content in start.items():
            path = Path(dataset.uri(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        age_work(dataset, 2 * DAY)
        left = [step]

        def remove(self, uri, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(self, uri)

        monkeypatch.setattr(Storage, "remove", remove)
        killed = False
        try:
            expire_snapshots(dataset, keep)
        except KeyboardInterrupt:
            killed = True
        monkeypatch.setattr(Storage, "remove", real)
        if not killed:
            assert step > 6
            break
        for number in dataset.numbers()[-keep:]:
            assert all(Path(dataset.uri(one["path"])).exists() for one in dataset.manifest(number)["files"])
        assert dataset.manifest()["files"] == kept
        expire_snapshots(dataset, keep, older_than=0, now=time.time() + 1)
        assert every_file(dataset) == finished


def left_work(dataset: Dataset, number: int, age: float, plan: str = "abcdefabcdef") -> None:
    """What a run that would have committed `number` left, as if `age` seconds ago."""
    for path in (f"work/{plan}/texts/000000.run", f"data/{number:06d}-{plan}/train-00000-of-00001.parquet",
                 f"work/{plan}/done/merge/000000.json"):  # fmt: skip
        dataset.storage.put(dataset.uri(path), b"left")
    dataset.storage.put(plan_uri(dataset.uri("work", plan)), json.dumps({"number": number}).encode())
    age_work(dataset, age, plan)


def age_work(dataset: Dataset, age: float, plan: str = "abcdefabcdef") -> None:
    for path in Path(dataset.root).rglob("*"):
        if plan in str(path) and path.is_file():
            os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize(
    ("number", "age", "touched", "goes"),
    [
        (3, 2 * DAY, None, True),  # would have been the next, and nobody has worked on it for days
        (3, DAY / 2, None, False),  # may still be going on
        (3, 2 * DAY, "work/abcdefabcdef/done/merge/000001.json", False),
        (3, 2 * DAY, "data/000003-abcdefabcdef/val-00000-of-00001.parquet", False),
        (2, 2 * DAY, None, True),  # another run committed that number
        (2, DAY / 2, None, False),
    ],
)
def test_what_runs_left_goes_when_none_can_need_it(dataset, number, age, touched, goes):
    before = every_file(dataset)
    left_work(dataset, number, age)
    if touched:
        dataset.storage.put(dataset.uri(touched), b"now")
    gone = expire_snapshots(dataset, 5)
    assert gone.work == (["abcdefabcdef"] if goes else [])
    left = every_file(dataset).keys() - before.keys()
    assert bool(left) != goes
    if not goes:
        assert any(name.startswith("data/") for name in left)
        expire_snapshots(dataset, 5, older_than=0, now=time.time() + 1)
    assert every_file(dataset) == before


def test_files_whose_work_folder_is_elsewhere_stay_until_their_number_is_taken(dataset):
    before = every_file(dataset)
    left_work(dataset, 3, 2 * DAY)
    shutil.rmtree(dataset.uri("work"))
    expire_snapshots(dataset, 5)
    assert every_file(dataset).keys() - before.keys() == {"data/000003-abcdefabcdef/train-00000-of-00001.parquet"}
    commit_changed(dataset, operation="run")
    expire_snapshots(dataset, 5)
    assert not Path(dataset.uri("data", "000003-abcdefabcdef")).exists()


def test_expire_leaves_alone_what_is_not_the_mills(dataset):
    for path in ("data/notes.txt", "mine/a.txt", "data/000001-mine/a.txt", "snapshots/notes.txt", "work/mine/a.txt",
                 "trial/data/000001-abcdefabcdef/a.parquet"):  # fmt: skip
        dataset.storage.put(dataset.uri(path), b"mine")
        os.utime(dataset.uri(path), (0, 0))
    before = every_file(dataset)
    gone = expire_snapshots(dataset, 1, older_than=0, now=time.time() + 1)
    assert not [name for name in before.keys() - every_file(dataset).keys() if before[name] == b"mine"]
    assert gone.snapshots == [1]


def test_expire_does_not_take_files_from_under_a_rollback(dataset, monkeypatch):
    with pinned(dataset, 1):
        assert expire_snapshots(dataset, 1).snapshots == []
    # The pin comes after expire looked for pins: the rollback may have read the manifest, so files stay.
    real = Storage.remove

    def remove(self, uri):
        if uri.endswith("000001.json"):
            self.put(dataset.uri("snapshots", "rollback-000001-late.pin"), b"")
        real(self, uri)

    monkeypatch.setattr(Storage, "remove", remove)
    gone = expire_snapshots(dataset, 1)
    assert gone.postponed
    assert gone.files == []
    with pytest.raises(UsageError, match="no snapshot 1"):
        roll_back(dataset, 1)
    # A pin of a rollback that was killed grows old, and goes.
    gone = expire_snapshots(dataset, 1, now=time.time() + 2 * DAY)
    assert gone.files
    assert not list(Path(dataset.uri("snapshots")).glob("*.pin"))


def test_two_expires_and_a_commit_at_once(dataset):
    failures = []

    def attempt(step):
        try:
            step()
        except Exception as error:
            failures.append(error)

    for number in range(3, 8):
        commit_changed(dataset, operation="run")
        threads = [threading.Thread(target=attempt, args=(lambda: expire_snapshots(dataset, 2),)) for _ in range(3)]
        for one in threads:
            one.start()
        if number % 2:
            attempt(lambda: commit_changed(dataset, operation="run"))
        for one in threads:
            one.join()
    assert failures == []
    assert len(dataset.numbers()) in (2, 3)
    assert mill("verify", dataset.root) == 0


def test_files_of_an_older_snapshot(dataset, capsys):
    assert mill("files", dataset.root, "--split", "train", "--kind", "parquet") == 0
    assert len(capsys.readouterr().out.split()) == 2
    assert mill("files", dataset.root, "--split", "train", "--kind", "parquet", "--snapshot", "1") == 0
    (only,) = capsys.readouterr().out.split()
    assert "/000001-" in only


def test_inputs_count_once_however_their_accounts_were_rewritten(dataset_of_nights):
    """A rewrite lists the accounts of the same inputs in other files: nothing counts as new for that."""
    before = dataset_of_nights.manifest()
    (old, *others) = [one for one in before["files"] if one["kind"] == "inputs"]
    copy = {**old, "path": "snapshots/000003-0123456789ab-inputs-000001.parquet"}
    shutil.copy(dataset_of_nights.uri(old["path"]), dataset_of_nights.uri(copy["path"]))
    files = [copy if one == old else one for one in before["files"]]
    rewritten = commit_changed(dataset_of_nights, files=files)
    assert freed_inputs(dataset_of_nights, rewritten, before) == 0
    fewer = commit_changed(dataset_of_nights, files=[one for one in files if one not in others])
    assert freed_inputs(dataset_of_nights, rewritten, fewer) == 1


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, ["split.salt=another"], ("split.salt: was 'corpusmill', is 'another'", "--set split.salt=corpusmill")),
        (
            {},
            ["dedupe.threshold=0.9"],
            ("dedupe.threshold: was 0.8, is 0.9", "--set dedupe.threshold=0.8", "--rebuild"),
        ),
        ({}, ["dedupe.leak_threshold=0.6"], ("was 0.7, is 0.6", "--set dedupe.leak_threshold=0.7", "--rebuild")),
        ({}, ["dedupe.signature=datasketch"], ("was 'corpusmill', is 'datasketch'", "--rebuild")),
        ({}, ["split.val=0.2"], ("split.val: was 0.1, is 0.2", "--set split.val=0.1", "--accept")),
        ({}, ["split.val=0.2", "dedupe.rows=4"], ("split.val: was 0.1, is 0.2", "put it back: --set dedupe.rows=5,")),
        ({}, ["split.group_by=null"], ("group_by: was 'metadata.user_id', is None", "split.group_by=metadata.user_id")),
        ({"schema_version": 1}, [], ("has schema 1, this version writes 2", "the version that made it: ")),
    ],
)
def test_what_may_not_change_is_told_with_both_values(changed, options, said, dataset_of_nights, tmp_path, capsys):
    if changed:
        commit_changed(dataset_of_nights, **changed)
    write_lines(tmp_path / "new" / "3.jsonl", made_night(3))
    assert take_in(tmp_path / "new", tmp_path / "out", *(word for one in options for word in ("--set", one))) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(one in told for one in said), told
    if said[0] != "split.val: was 0.1, is 0.2" or len(options) > 1:
        assert f"start a new dataset: --output {dataset_of_nights.root}-2" in told


@pytest.mark.parametrize(
    "changed",
    [
        ["split.salt=another"],
        ["dedupe.threshold=0.9", "validate.require=[metadata.user_id]", "redact.countries=[DE]"],
    ],
)
def test_what_is_said_to_be_typed_does(changed, dataset_of_nights, tmp_path, capsys):
    write_lines(tmp_path / "new" / "3.jsonl", made_night(3))
    changes = [word for one in changed for word in ("--set", one)]
    assert take_in(tmp_path / "new", tmp_path / "out", *changes) == 2
    told = capsys.readouterr().err.replace("\n", " ")
    back, output = told[told.index("put it back: ") + 13 :].split("start a new dataset: ")
    put_back, folder = shlex.split(back.rstrip(", or")), shlex.split(output)[1].rstrip(",")
    assert take_in(tmp_path / "new", tmp_path / "out", *changes, *put_back) == 0
    assert dataset_of_nights.latest() == 3
    assert take_in(tmp_path / "new", tmp_path / "out", *changes, "--output", folder) == 0
    assert Dataset(Storage(), folder).latest() == 1


KEY, OTHER = "k" * 32, "l" * 32


@pytest.mark.parametrize(
    ("made", "now", "said"),
    [
        (None, KEY, ("was made without a secret key", "unset CORPUSMILL_KEY CORPUSMILL_KEY_FILE")),
        (KEY, None, ("was made with a secret key", "CORPUSMILL_KEY is not set", "set it: export CORPUSMILL_KEY_FILE")),
        (KEY, OTHER, ("was made with another secret key", "set the key that it was made with: export")),
    ],
)
def test_another_key_is_told_with_both_check_values(made, now, said, dataset_of_nights, tmp_path, capsys, monkeypatch):
    secrets = [None if one is None else one.encode() for one in (made, now)]
    checks = [Keys("corpusmill", one).check for one in secrets]
    commit_changed(dataset_of_nights, key_check=checks[0])
    monkeypatch.delenv("CORPUSMILL_KEY_FILE", raising=False)
    monkeypatch.setenv("CORPUSMILL_KEY", now or "")
    write_lines(tmp_path / "new" / "3.jsonl", made_night(3))
    assert take_in(tmp_path / "new", tmp_path / "out") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(one in told for one in (*said, *checks, f"--output {dataset_of_nights.root}-2")), told
    assert KEY not in told
    assert mill("apply", dataset_of_nights.root, tmp_path / "new" / "3.jsonl") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(one in told for one in checks), told
