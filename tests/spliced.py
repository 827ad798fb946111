"""Datasets of several snapshots for tests of what is done with them, put together from single runs.

A night is milled into an output of its own, then its folders get the next number and a manifest that lists the old
files too. The nights must have nothing in common: here nobody looks for duplicates between them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline.snapshots import Dataset, add_accounts
from tests.records import chat, write_lines
from tests.test_run import FAST, mill
from transforms.storage import Storage


def made_night(number: int, records: int = 30) -> list[Any]:
    """Records that no other night has, with a copy and a broken line among them."""
    words = [f"night{number} question{n} parcel{n * n} of box{n * 7} by van{n * 13}" for n in range(records)]
    made: list[Any] = [
        chat(text, f"Answer {number}-{n}.", user_id=f"{number}-{n // 2}") for n, text in enumerate(words)
    ]
    return [*made, made[0], b"{"]


def mill_nights(folder: Path, nights: int, *options: str, records: int = 30) -> Dataset:
    """A dataset of so many snapshots in FOLDER/out; eval is filled by the first. Logs are FOLDER/logs/N.jsonl."""
    dataset = Dataset(Storage(), str(folder / "out"))
    for number in range(1, nights + 1):
        logs = write_lines(folder / "logs" / f"{number}.jsonl", made_night(number, records))
        output = folder / ("out" if number == 1 else f"night-{number}")
        later = () if number == 1 else ("--set", "split.eval=0")
        assert mill("run", "--input", logs, "--output", output, *FAST, "--set", "dedupe.near=false",
                    "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=4096", *options, *later) == 0  # fmt: skip
        if number > 1:
            splice(dataset, Dataset(Storage(), str(output)))
    return dataset


def splice(dataset: Dataset, night: Dataset, operation: str = "run") -> dict[str, Any]:
    """Commits the only snapshot of `night` as the next one of `dataset`; returns the manifest."""
    old, new = dataset.manifest(), night.manifest()
    number = old["snapshot"] + 1

    def moved(path: str) -> str:
        return path.replace("000001-", f"{number:06d}-", 1)

    files = [one for one in old["files"] if one["kind"] != "report"]
    for one in new["files"]:
        target = Path(dataset.uri(moved(one["path"])))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(night.uri(one["path"]), target)
        files.append({**one, "path": moved(one["path"])})
    manifest = {
        **new,
        "snapshot": number,
        "parent": old["snapshot"],
        "operation": operation,
        "files": files,
        "accounting": add_accounts([old["accounting"], new["accounting"]]),
        "added": new["accounting"],
        "config": old["config"],
        "config_fingerprint": old["config_fingerprint"],
    }
    del manifest["digest"]
    assert dataset.commit(manifest)
    dataset.derive()
    return dataset.manifest()


def commit_changed(dataset: Dataset, **changes: Any) -> dict[str, Any]:
    """Commits the newest manifest once more as the next snapshot, with changed keys."""
    old = dataset.manifest()
    number = old["snapshot"] + 1
    manifest = {**old, "snapshot": number, "parent": old["snapshot"], "plan": f"{number:012x}", **changes}
    del manifest["digest"]
    assert dataset.commit(manifest)
    dataset.derive()
    return dataset.manifest()


def every_file(dataset: Dataset) -> dict[str, bytes]:
    """Content of each file of a local dataset by its path."""
    root = Path(dataset.root)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
