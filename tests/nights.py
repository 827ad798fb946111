"""Datasets of several snapshots, small and soon made, for tests of what is done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.snapshots import Dataset
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


def mill_nights(folder: Path, nights: int) -> Dataset:
    """A dataset of so many snapshots in FOLDER/out; logs are FOLDER/logs/N.jsonl."""
    for number in range(1, nights + 1):
        write_lines(folder / "logs" / f"{number}.jsonl", made_night(number))
        assert take_in(folder / "logs", folder / "out") == 0
    return Dataset(Storage(), str(folder / "out"))


def take_in(logs: Path, output: Path, *more: str) -> int:
    """Runs the mill on all logs; returns the exit code."""
    return mill("run", "--input", logs, "--output", output, *FAST, "--set", "dedupe.near=false",
                "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=4096", *more)  # fmt: skip


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
