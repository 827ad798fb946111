"""What was published until somebody went back over its snapshot keeps its split when it comes in again."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import refresh
from pipeline.history import compare_snapshots, left_index
from pipeline.snapshots import Dataset
from tests.records import write_lines
from tests.test_index import one_id, owners, published
from tests.test_refresh import fates, like, night, said, splits
from tests.test_run import mill
from tests.test_settle import settle, verdict
from transforms.cluster import LIKE_TRAIN
from transforms.left import Left, match_left, newest_of
from transforms.reasons import Drop
from transforms.settle import OPEN, drop_code
from transforms.split import EVAL, PINNED, TRAIN, VAL
from transforms.storage import Storage

LATER = ["2026-11-02", "2026-11-03"]


def records(chooser: random.Random, count: int, users: int) -> list[dict[str, Any]]:
    made = [said(chooser, user=chooser.randrange(users)) for _ in range(count)]
    for one in made[::3]:
        del one["user_id"]
    return made


@pytest.fixture(scope="module")
def gone_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights, of which the later two were gone back over: 3 is what somebody trained on, 4 lists the files of 1."""
    folder = tmp_path_factory.mktemp("left")
    chooser = random.Random(5)
    first = records(chooser, 200, 60)
    second = [*records(chooser, 150, 90), *(like(one, chooser, 500 + n) for n, one in enumerate(first[:20]))]
    third = [
        *records(chooser, 150, 120),
        *second[:20],
        *(like(one, chooser, 600 + n) for n, one in enumerate(second[20:50])),
    ]
    # Said by somebody else too, who comes in with another night.
    third += [{**one, "user_id": 700 + n} for n, one in enumerate(second[60:70])]
    for day, made in enumerate((first, second, third), 1):
        write_lines(folder / "logs" / f"2026-11-0{day}.jsonl", made)
        assert night(folder / "out", folder / "logs", f"2026-11-0{day}") == 0
    assert mill("rollback", folder / "out", "1") == 0
    return folder


@pytest.fixture
def folder(gone_back: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    shutil.copytree(gone_back / "out", tmp_path / "out")
    return tmp_path


def moved(output: Path) -> dict[str, int]:
    dataset = Dataset(Storage(), str(output))
    return dict(compare_snapshots(dataset, 3, dataset.latest())["moved"])


def test_without_it_records_move(gone_back, folder, monkeypatch):
    monkeypatch.setattr(refresh, "left_index", lambda *_: ())
    assert mill_all(folder / "out", gone_back / "logs") == 0
    assert moved(folder / "out")


def mill_all(output: Path, logs: Path, *more: str) -> int:
    return mill("run", "--input", logs / "*.jsonl", "--output", output, "--set", "redact.enabled=false",
                "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000", *more)  # fmt: skip


@pytest.mark.parametrize("way", ["backwards", "other shares", "forget", "twice", "rebuild"])
def test_what_is_taken_in_again_keeps_its_split(way, gone_back, folder):
    output, logs = folder / "out", gone_back / "logs"
    before = splits(output, 3)
    more = ["--set", "split.val=0.25", "--accept"] if way == "other shares" else []
    if way == "forget":
        assert mill("forget", output, "--group", "3", "4", "5") == 0
    if way == "backwards":
        assert night(output, logs, LATER[1]) == 0
        assert night(output, logs, LATER[0]) == 0
    else:
        assert mill_all(output, logs, *more) == 0
    if way == "twice":
        assert mill("rollback", output, "1") == 0
        assert night(output, logs, LATER[1]) == 0
        assert night(output, logs, LATER[0]) == 0
    if way == "rebuild":
        assert mill_all(output, logs, "--set", "dedupe.threshold=0.85", "--rebuild") == 0
    assert moved(output) == {}
    newest = Dataset(Storage(), str(output)).latest()
    again = splits(output, newest).items() & before.items()
    assert {split for one, split in again if one not in splits(output, 1)} == {"train", "val"}
    assert len(again) > 0.9 * len(before) or way == "forget"
    assert mill("verify", output) == 0


def test_what_a_rebuild_lost_keeps_its_split_when_it_is_back(gone_back, tmp_path):
    output, logs = tmp_path / "out", gone_back / "logs"
    assert mill_all(output, logs) == 0
    number = Dataset(Storage(), str(output)).latest()
    before = splits(output, number)
    assert (
        mill_all(output, logs, "--set", "validate.max_chars=349", "--set", "gates.max_quarantined=0.95", "--rebuild")
        == 0
    )
    assert len(splits(output, number + 1)) < 0.8 * len(before)
    assert mill_all(output, logs, "--set", "split.val=0.3", "--rebuild", "--accept") == 0
    after = splits(output, number + 2)
    both = before.keys() & after.keys()
    assert len(both) > 0.9 * len(before)
    assert {one for one in both if before[one] != after[one]} == set()
    assert mill("diff", output, str(number), str(number + 2)) == 0
    assert mill("verify", output) == 0


def test_it_is_remembered_until_it_expires(gone_back, folder):
    output = folder / "out"
    dataset = Dataset(Storage(), str(output))
    assert dataset.manifest()["left"] == [2, 3]
    left = left_index(dataset, dataset.manifest())
    assert {path.split("/")[1][:6] for path in left} == {"000002", "000003"}
    assert night(output, gone_back / "logs", LATER[1]) == 0
    assert dataset.manifest()["left"] == [2, 3]
    assert mill("expire", output, "--keep", "2", "--older-than", "0") == 0
    assert left_index(dataset, dataset.manifest()) == ()
    assert night(output, gone_back / "logs", LATER[0]) == 0
    # Who undoes a rollback has left what came after it.
    assert mill("rollback", output, "5") == 0
    assert dataset.manifest()["left"] == [2, 3, 6]


def test_somebody_new_says_it_and_no_group_is_divided(gone_back, folder):
    """Records of val and train come in first by users who are new, and who say more."""
    chooser = random.Random(7)
    output = folder / "out"
    logs = gone_back / "logs" / "2026-11-02.jsonl"
    known = splits(output, 3)
    rows = [one for one in fates(output, 2) if one["outcome"] in ("train", "val")]
    assert {known[one["id"]] for one in rows} == {"train", "val"}
    lines = logs.read_bytes().splitlines()
    made = []
    for number, one in enumerate(rows):
        made.append({**json.loads(lines[one["line"] - 1]), "user_id": 2000 + number})
        made += [said(chooser, user=2000 + number) for _ in range(2)]
    write_lines(folder / "new" / "2026-11-04.jsonl", made)
    assert night(output, folder / "new", "2026-11-04") == 0
    assert moved(output) == {}
    told = {one["id"]: one for one in fates(output, 5) if one["id"] in known}
    reasons = {(known[one], tuple(row["reasons"]), row["outcome"]) for one, row in told.items()}
    assert ("val", ("near_val",), "dropped") in reasons
    assert ("train", (), "train") in reasons
    assert ("train", ("near_train",), "dropped") in reasons
    assert night(output, gone_back / "logs", LATER[0]) == 0
    assert moved(output) == {}
    assert mill("verify", output) == 0


def left(numbers: list[int] = [], owned: list[Any] = []) -> Left:  # noqa: B006
    """3, 4 and 5 in train, val and eval, as `published` has them."""
    return Left(published(numbers), owners(owned))


def test_who_has_no_group_goes_where_it_was():
    for number, split in ((3, TRAIN), (4, VAL)):
        told = settle({"id": number}, left=left([number]))
        assert (told["fate"], told["bin"]) == (split, PINNED + split)
    assert settle({"id": 5}, left=left([5]))["fate"] == drop_code(Drop.NEAR_EVAL)
    assert settle({"id": 9, "source": 1}, left=left(owned=[(1, VAL, 3)]))["fate"] == VAL
    assert settle({"id": 4}, [verdict(4, like=LIKE_TRAIN)], left=left([4]))["fate"] == drop_code(Drop.NEAR_VAL)


@pytest.mark.parametrize(
    ("number", "group", "fate"),
    [
        (3, TRAIN, TRAIN),
        (3, VAL, drop_code(Drop.NEAR_TRAIN)),
        (3, EVAL, drop_code(Drop.GROUP_IN_EVAL)),
        (4, VAL, VAL),
        (4, TRAIN, drop_code(Drop.NEAR_VAL)),
        (4, EVAL, drop_code(Drop.NEAR_VAL)),
        (4, None, drop_code(Drop.NEAR_VAL)),
    ],
)
def test_a_group_stays_whole(number, group, fate):
    for where in ("owned", "left"):
        known = [] if group is None else [(6, group, None)]
        more = {"owned": owners(known)} if where == "owned" else {}
        told = settle({"id": number, "group": 6}, left=left([number], known if where == "left" else []), **more)
        assert told["fate"] == fate
    told = settle({"id": 3, "group": 6}, left=left([3]))
    assert (told["fate"], told["torn"]) == (OPEN, 1)


def test_what_is_published_is_not_asked_for():
    told = settle({"id": 3, "source": 1}, published=published([3]), left=left([], [(1, VAL, 3)]))
    assert told["kept_id"] == one_id(3)
    assert settle({"id": 3}, published=published([3]), left=left([4]), rebuild=True)["fate"] == TRAIN
    claims = pa.table(
        {"owner": pa.array([one_id(n) for n in (6, 7, 8)], pa.binary(16)), "key": pa.array([1, 2, 3], pa.uint64())}
    )
    found, keys = match_left(
        claims, owners([(6, VAL, None), (7, TRAIN, None), (7, VAL, None)]), owners([(6, TRAIN, None)])
    )
    assert [(row["owner"], row["split"]) for row in found.to_pylist()] == [(one_id(7), VAL)]  # of the newest
    assert keys.tolist() == [2]


def test_the_newest_of_each_is_the_last():
    table = pa.table({"id": [1, 2, 1, 3, 2], "n": np.arange(5)})
    assert {row["id"]: row["n"] for row in newest_of(table, "id").to_pylist()} == {1: 2, 2: 4, 3: 3}
    assert newest_of(table.slice(0, 0), "id").num_rows == 0
