"""What a dataset looks like from outside: its folder, manifests, the commit, and what is derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from pipeline.errors import UsageError
from pipeline.templates import render
from transforms.canonical import canonical_json
from transforms.hashing import content_digest
from transforms.reasons import SPLITS
from transforms.storage import Storage, join

SCHEMA_VERSION = 2
CORRECTIONS = "corrections"  # kind of the input that corrected records come from
_MANIFEST = re.compile(r"\d{6}\.json", re.ASCII)
FOLDERS = ("snapshots", "data", "jsonl", "lineage", "report", "index", "work", "trial")


@dataclass(frozen=True)
class Dataset:
    """The folder of a dataset."""

    storage: Storage
    root: str

    def uri(self, *parts: str) -> str:
        return join(self.root, *parts)

    def manifest_uri(self, number: int) -> str:
        return self.uri("snapshots", f"{number:06d}.json")

    def numbers(self) -> list[int]:
        """The numbers of the snapshots that are kept, in order."""
        names = self.storage.names(self.uri("snapshots"))
        return sorted(int(name[:6]) for name in names if _MANIFEST.fullmatch(name))

    def latest(self) -> int:
        """The number of the newest snapshot; 0 where there is none."""
        return max(self.numbers(), default=0)

    def manifest(self, number: int | None = None) -> dict[str, Any]:
        """A manifest, the newest without a number. Raises UsageError where there is none, or it is no manifest."""
        number = number or self.latest()
        if not number:
            raise UsageError(
                f"there is no dataset at {self.root}", "make one with: corpusmill run --input … --output …"
            )
        try:
            content = self.storage.read(self.manifest_uri(number))
        except FileNotFoundError:
            raise UsageError(f"{self.root} has no snapshot {number}") from None
        try:
            manifest = orjson.loads(content)
            if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
                raise ValueError
        except ValueError:
            raise UsageError(f"{self.manifest_uri(number)} is not a manifest: it was altered or cut") from None
        return manifest

    def commit(self, manifest: dict[str, Any]) -> bool:
        """Creates the manifest; False where another of its number is there. The commit is this and nothing else."""
        signed = {**manifest, "digest": manifest_digest(manifest)}
        content = orjson.dumps(signed, option=orjson.OPT_INDENT_2) + b"\n"
        return self.storage.create(self.manifest_uri(manifest["snapshot"]), content)

    def derive(self) -> None:
        """Writes CURRENT and the dataset card for the newest manifest, where they are missing or stale."""
        manifest = self.manifest()
        for name, content in (
            ("README.md", render("card.md", **_card(manifest)).encode()),
            ("CURRENT", f"{manifest['snapshot']:06d}\n".encode()),
        ):
            uri = self.uri(name)
            if not self.storage.exists(uri) or self.storage.read(uri) != content:
                self.storage.put(uri, content)

    def files(self, manifest: Mapping[str, Any], kind: str | None = None, split: str | None = None) -> list[str]:
        """URIs of the files of a snapshot."""
        return [
            self.uri(one["path"])
            for one in manifest["files"]
            if (kind is None or one["kind"] == kind) and (split is None or one.get("split") == split)
        ]


def origin_of(path: str) -> str:
    """The number of the snapshot that first wrote a file, of which this one may be a copy (see `rewrite`).

    >>> origin_of("data/000001-0123456789ab/train-00000-of-00001.parquet")
    '000001'
    >>> origin_of("data/000003-0123456789ab/000001/train-00000-of-00001.parquet")
    '000001'
    >>> origin_of("snapshots/000003-0123456789ab-inputs-000001.parquet")
    '000001'
    """
    *folders, name = path.split("/")
    if folders == ["snapshots"]:
        found = re.fullmatch(r"(\d{6})(?:-[0-9a-f]{12})?-[a-z]+(?:-(\d{6}))?\.parquet", name, re.ASCII)
        return found[2] or found[1] if found else name[:6]
    return folder_of_origin(path)[:6]


def folder_of_origin(path: str) -> str:
    """The folder that a copy of a file goes to, below that of the new snapshot; of a copy, the one that it is in.

    A snapshot may have written files of one name to several folders; they stay apart.

    >>> folder_of_origin("lineage/000002-0123456789ab-eval/part-00000-of-00001.parquet")
    '000002-eval'
    >>> folder_of_origin("lineage/000003-0123456789ab/000002-eval/part-00000-of-00001.parquet")
    '000002-eval'
    """
    _, snapshot, *within, _ = path.split("/")
    number, _, rest = snapshot.partition("-")
    return within[0] if within else number + rest[12:]


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of all that a manifest says but its digest."""
    content = canonical_json({key: value for key, value in manifest.items() if key != "digest"})
    return "blake2b:" + content_digest(content, 32).hex()


def total(accounting: Mapping[str, Any]) -> int:
    """Lines whose fate is known: what `read` must equal."""
    counted = sum(accounting[name] for name in (*SPLITS, "duplicate"))
    return int(counted + sum(accounting["quarantined"].values()) + sum(accounting["dropped"].values()))


def kept(accounting: Mapping[str, Any]) -> int:
    """Records in any split."""
    return sum(int(accounting[name]) for name in SPLITS)


def add_accounts(accounts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of accountings."""
    added: dict[str, Any] = dict.fromkeys(("read", "blank", *SPLITS, "duplicate"), 0)
    added |= {"quarantined": {}, "dropped": {}}
    for account in accounts:
        for name, value in account.items():
            if isinstance(value, Mapping):
                for reason, count in value.items():
                    added[name][reason] = added[name].get(reason, 0) + count
            else:
                added[name] += value
    for name in ("quarantined", "dropped"):
        added[name] = dict(sorted(added[name].items()))
    return added


def _card(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the dataset card's template needs."""
    kind = "parquet" if any(one["kind"] == "parquet" for one in manifest["files"]) else "jsonl"
    data_files = []
    for split in SPLITS:
        mine = [one for one in manifest["files"] if one["kind"] == kind and one.get("split") == split]
        if sum(one["rows"] for one in mine):
            data_files.append({"split": str(split), "path": [one["path"] for one in mine]})
    configs = [{"config_name": "default", "data_files": data_files}]
    front = yaml.safe_dump({"configs": configs}, sort_keys=False, width=1000)
    return {"front": front, "manifest": manifest, "accounting": manifest["accounting"], "splits": SPLITS, "kind": kind}
