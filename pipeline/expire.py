"""Expire: old manifests go, then the files that no kept manifest lists, and what runs left that came to nothing.

Manifests go first, oldest first, so a crash at any moment leaves the kept ones whole, and files that another
expire finds again. What is still of use is told without locks:

* the newest manifest always stays, so the files that a run in progress will list again stay too;
* a folder numbered above the newest belongs to a run in progress, or to one that came to nothing: it goes with its
  work folder, which may lie elsewhere (`commit.note_work`), when the newest file of both is older than `older_than`; without a work
  folder it stays until its number is taken;
* a rollback pins the snapshot that it lists again (`history.pinned`).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.commit import stop_uri, work_elsewhere
from pipeline.errors import UsageError
from pipeline.history import kept_snapshots, pinned_numbers
from pipeline.plan import plan_uri
from pipeline.snapshots import Dataset
from transforms.storage import Stored, join

DAY = 86_400.0  # seconds

_NUMBERED = ("data", "jsonl", "lineage", "report", "index")
_FOLDER = re.compile(r"(\d{6})-([0-9a-f]{12})", re.ASCII)
_INPUTS = re.compile(r"snapshots/(\d{6})-[^/]*\.parquet", re.ASCII)
_PLAN = re.compile(r"[0-9a-f]{12}", re.ASCII)


@dataclass
class Expired:
    """What goes, or went: numbers of snapshots, paths of files below the dataset, bytes of files and work.

    `postponed` where a rollback was in progress: files stay until the next time.
    """

    snapshots: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)  # plans
    n_bytes: int = 0
    postponed: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"snapshots": self.snapshots, "files": self.files, "work": self.work, "bytes": self.n_bytes,
                "postponed": self.postponed}  # fmt: skip


def expire_snapshots(
    dataset: Dataset, keep: int, older_than: float = DAY, *, dry_run: bool = False, now: float | None = None
) -> Expired:
    """Keeps the newest `keep` snapshots and removes what only older ones or abandoned runs need; says what.

    `older_than` is in seconds, and for what was never committed; `now` in seconds since 1970. Raises UsageError where
    there is no dataset, or a store kept what was to go.
    """
    dataset.manifest()  # raises UsageError where there is none
    now = time.time() if now is None else now
    gone = Expired()
    pins = _pins(dataset)
    pinned = pinned_numbers(pins, now - older_than)
    for number in dataset.numbers()[:-keep]:
        if number in pinned:
            break
        gone.snapshots.append(number)
        if not dry_run:
            _remove(dataset, dataset.manifest_uri(number))
    if pinned_numbers(_pins(dataset), now - older_than) - set(dataset.numbers()):
        gone.postponed = True  # that rollback may or may not have read the manifest before it went
        return gone
    listed = {
        one["path"]
        for number, manifest in kept_snapshots(dataset).items()
        for one in manifest["files"]
        if number not in gone.snapshots
    }
    oldest = min((one for one in dataset.numbers() if one not in gone.snapshots), default=0)
    for plan, files in _stale_work(dataset, now - older_than):
        gone.work.append(plan)
        gone.n_bytes += sum(one.size for one in files)
        if not dry_run:
            _remove_work(dataset, plan)
    for one, path in _unlisted(dataset, listed, oldest, now - older_than, set(gone.work)):
        gone.files.append(path)
        gone.n_bytes += one.size
        if not dry_run:
            _remove(dataset, one.uri)
    if not dry_run:
        for one in pins:
            if one.modified < now - older_than:  # of a rollback that was killed
                dataset.storage.remove(one.uri)
        _remove_empty_folders(dataset)
        manifests = map(dataset.manifest_uri, gone.snapshots)
        _check_gone(dataset, {*manifests, *(dataset.uri(path) for path in gone.files)})
    return gone


def remove_uncommitted(dataset: Dataset) -> int:
    """Removes what no manifest lists of numbers that are taken, at once; returns how many files.

    A run that still writes such files is not hurt: it can't commit any more.
    """
    listed = {one["path"] for manifest in kept_snapshots(dataset).values() for one in manifest["files"]}
    left = [one for one, _ in _unlisted(dataset, listed, 0, math.inf, set())]
    for one in left:
        _remove(dataset, one.uri)
    _remove_empty_folders(dataset)
    _check_gone(dataset, {one.uri for one in left})
    return len(left)


def _remove(dataset: Dataset, uri: str) -> None:
    """Removes a file, or leaves it to `_check_gone` to tell how many are kept."""
    with contextlib.suppress(PermissionError):
        dataset.storage.remove(uri)


def _check_gone(dataset: Dataset, removed: set[str]) -> None:
    """Raises UsageError where a store kept what was to go."""
    folders = ("snapshots", *_NUMBERED) if removed and not dataset.storage.is_local(dataset.root) else ()
    there = {one.uri for folder in folders for one in dataset.storage.below(dataset.uri(folder))}
    if kept := len(removed & there):
        raise UsageError(
            f"the store kept {kept:,} of {len(removed):,} files that were to be removed",
            "give the credentials the right to delete them, as deploy/policies/s3-forget.json does, and run it again",
        )


def _pins(dataset: Dataset) -> list[Stored]:
    return [one for one in dataset.storage.below(dataset.uri("snapshots")) if one.uri.endswith(".pin")]


def _stale_work(dataset: Dataset, before: float) -> Iterator[tuple[str, list[Stored]]]:
    """(plan, files) of the work folders that can come to nothing more."""
    latest = dataset.latest()
    by_plan: dict[str, list[Stored]] = defaultdict(list)
    root = dataset.uri("work")
    for one in dataset.storage.below(root):
        plan = one.uri[len(root) + 1 :].split("/")[0]
        if _PLAN.fullmatch(plan):
            by_plan[plan].append(one)
    for plan, files in sorted(by_plan.items()):
        for elsewhere in work_elsewhere(dataset, plan):
            files += dataset.storage.below(elsewhere)
        newest = max(one.modified for one in files)
        if _number_of(dataset, plan) > latest:
            # Its data files may be younger than what its work folder has.
            newest = max([newest, *(one.modified for one in _of_plan(dataset, plan))])
        if newest < before:
            yield plan, files


def _number_of(dataset: Dataset, plan: str) -> float:
    """The snapshot that a plan would commit; infinite where its work folder doesn't say."""
    try:
        return int(orjson.loads(dataset.storage.read(plan_uri(dataset.uri("work", plan))))["number"])
    except (FileNotFoundError, ValueError, KeyError):
        return math.inf


def _of_plan(dataset: Dataset, plan: str) -> Iterable[Stored]:
    number = dataset.latest() + 1
    for folder in _NUMBERED:
        yield from dataset.storage.below(dataset.uri(folder, f"{number:06d}-{plan}"))


def _remove_work(dataset: Dataset, plan: str) -> None:
    """Removes a work folder so that a run of the plan that is still going on somewhere doesn't commit."""
    for work in (*work_elsewhere(dataset, plan), dataset.uri("work", plan)):
        dataset.storage.put(stop_uri(work), b"")
        for one in dataset.storage.below(join(work, "done")):  # what says that files are there goes before the files
            dataset.storage.remove(one.uri)
        dataset.storage.remove(work)


def _unlisted(
    dataset: Dataset, listed: set[str], oldest: int, before: float, stale: set[str]
) -> Iterator[tuple[Stored, str]]:
    """Files of numbered folders that no manifest lists and no run can commit any more, with their paths."""
    latest = dataset.latest()
    for folder in ("snapshots", *_NUMBERED):
        for one in dataset.storage.below(dataset.uri(folder)):
            path = one.uri[len(dataset.root.rstrip("/")) + 1 :]
            found = _INPUTS.fullmatch(path) or _FOLDER.match(path[len(folder) + 1 :])
            if path in listed or not found:
                continue
            number, plan = int(found[1]), found[2] if found.re is _FOLDER else ""
            if number < oldest or (number <= latest and one.modified < before) or plan in stale:
                yield one, path


def _remove_empty_folders(dataset: Dataset) -> None:
    """Removes the folders of expired snapshots on a disk; stores have none."""
    if not dataset.storage.is_local(dataset.root):
        return
    latest = dataset.latest()
    for folder in _NUMBERED:
        root = dataset.uri(folder)
        for name in os.listdir(root) if os.path.isdir(root) else ():
            found = _FOLDER.match(name)
            if not found or int(found[1]) > latest:
                continue
            for place, _, _ in os.walk(join(root, name), topdown=False):
                with contextlib.suppress(OSError):  # not empty, or gone
                    os.rmdir(place)
