"""History: the snapshots of a dataset, what is between two of them, and going back to one.

A snapshot continues its `parent`. Numbers grow with every commit, whatever it continues:

    1 ◄── 2 ◄── 3          rolled back to 2, then two nights more:
          ▲
          └──── 4 ◄── 5    4 is a rollback and lists the files of 2; 3 is undone
"""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import OvertakenError, UsageError
from pipeline.members import Members, data_files, firsts, read_ids
from pipeline.snapshots import CORRECTIONS, Dataset, add_accounts, origin_of
from transforms.canonical import canonical_json
from transforms.exact import ids_of
from transforms.hashing import content_digest
from transforms.reasons import SPLITS, Drop
from transforms.storage import Stored

MOST_IDS = 20  # of moved records shown
_PIN = "rollback-"

Manifest = dict[str, Any]


def kept_snapshots(dataset: Dataset) -> dict[int, Manifest]:
    """The manifests that are there, by number. One that another process expires meanwhile is left out."""
    manifests = {}
    for number in dataset.numbers():
        with contextlib.suppress(UsageError):
            manifests[number] = dataset.manifest(number)
    return manifests


def ancestors(dataset: Dataset, manifest: Manifest) -> Iterator[Manifest]:
    """A manifest and those that it continues, newest first, as far back as they are kept."""
    there = set(dataset.numbers())
    while True:
        yield manifest
        parent = manifest["parent"]
        if parent not in there:
            return
        manifest = dataset.manifest(parent)


def list_snapshots(dataset: Dataset) -> list[dict[str, Any]]:
    """What `log` tells of each snapshot that is kept, oldest first."""
    newest = dataset.manifest()
    current = {one["snapshot"] for one in ancestors(dataset, newest)}
    before: dict[str, int] | None = None
    listed = []
    for number, manifest in kept_snapshots(dataset).items():
        total = {split: int(manifest["accounting"][split]) for split in SPLITS}
        if number == 1:
            before = dict.fromkeys(SPLITS, 0)
        listed.append(_entry(dataset, manifest, total, before, undone=number not in current))
        before = total
    return listed


def _entry(
    dataset: Dataset, manifest: Manifest, total: Mapping[str, int], before: Mapping[str, int] | None, *, undone: bool
) -> dict[str, Any]:
    added = manifest["added"]
    taken = {split: int(added[split]) for split in SPLITS}
    entry = {
        "snapshot": manifest["snapshot"],
        "parent": manifest["parent"],
        "operation": manifest["operation"],
        "date": manifest["date"],
        "plan": manifest["plan"],
        "written": dataset.storage.modified(dataset.manifest_uri(manifest["snapshot"])),
        "undone": undone,
        "read": added["read"],
        "duplicate": added["duplicate"],
        "quarantined": sum(added["quarantined"].values()),
        "dropped": sum(added["dropped"].values()),
        "in": taken,
        "out": None,  # unknown where the snapshot before is not kept
        "kept": dict(total),
    }
    if before is not None:
        # Of what neither came from logs nor stayed, only the balance is known; so of all that a rebuild reads again.
        came = dict.fromkeys(SPLITS, 0) if manifest["operation"] == "rebuild" else taken
        entry["in"] = {split: max(came[split], total[split] - before[split]) for split in SPLITS}
        entry["out"] = {split: before[split] + entry["in"][split] - total[split] for split in SPLITS}
    return entry


def compare_snapshots(dataset: Dataset, a: int, b: int) -> dict[str, Any]:
    """Records in, out and moved between splits from snapshot `a` to `b`, and the files they share.

    Every record id of both is looked at, in memory of fixed size.
    """
    old, new = dataset.manifest(a), dataset.manifest(b)
    files = {one["path"]: (one, 1) for one in data_files(old)}
    for one in data_files(new):
        files[one["path"]] = (one, 3 if one["path"] in files else 2)
    counts: dict[str, dict[str, int]] = {name: dict.fromkeys(SPLITS, 0) for name in ("in", "out", "stayed")}
    moved: dict[str, int] = {}
    moved_ids: list[str] = []
    with Members(sum(one["rows"] for one, _ in files.values())) as members:
        for one, sides in files.values():
            for ids in read_ids(dataset, one):
                members.add(ids, sides << 4 | SPLITS.index(one["split"]))
        for ids, codes in members.partitions():
            before, after = _sides(ids, codes)
            first = ids[firsts(ids)]
            came, went = np.where(before == 0, after, 0), np.where(after == 0, before, 0)
            for name, mask in (("in", came), ("out", went), ("stayed", before & after)):
                for code, split in enumerate(SPLITS):
                    counts[name][split] += int((mask >> code & 1).sum())
            # In both, but in a split that it was not in before: it moved, even where it is also still in the old one.
            astray = (before != 0) & (after & ~before != 0)
            for was, now in zip(before[astray].tolist(), after[astray].tolist(), strict=True):
                way = f"{_names(was)}→{_names(now)}"
                moved[way] = moved.get(way, 0) + 1
            room = MOST_IDS - len(moved_ids)
            moved_ids += [one.hex() for one in ids_of(first[astray][:room]).to_pylist()]
    return {"a": a, "b": b, **counts, "moved": moved, "moved_ids": moved_ids, "files": _shared_files(old, new)}


def _sides(ids: npt.NDArray[np.uint64], codes: npt.NDArray[np.int32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """uint8[D] bits of the splits that each distinct id is in, in the old and in the new snapshot."""
    starts = firsts(ids)
    bits = (1 << (codes & 15)).astype(np.uint8)
    before, after = (np.where(codes >> 4 & side, bits, 0).astype(np.uint8) for side in (1, 2))
    if not len(starts):
        return before, after
    return np.bitwise_or.reduceat(before, starts), np.bitwise_or.reduceat(after, starts)


def _names(bits: int) -> str:
    return "+".join(split for code, split in enumerate(SPLITS) if bits >> code & 1)


def _shared_files(old: Manifest, new: Manifest) -> dict[str, dict[str, int]]:
    """Files and bytes that both list, that only the new one does, and that only the old one does."""
    listed = [{one["path"]: one["bytes"] for one in manifest["files"]} for manifest in (old, new)]
    groups = {
        "shared": listed[0].keys() & listed[1].keys(),
        "in": listed[1].keys() - listed[0].keys(),
        "out": listed[0].keys() - listed[1].keys(),
    }
    sizes = listed[0] | listed[1]
    return {name: {"files": len(paths), "bytes": sum(sizes[path] for path in paths)} for name, paths in groups.items()}


def roll_back(dataset: Dataset, number: int) -> tuple[Manifest, bool]:
    """The manifest that goes back to a snapshot, and whether it is new: a snapshot that lists the old one's files.

    Raises UsageError where that snapshot may not come back, OvertakenError where another commit was first.
    """
    newest = dataset.manifest()
    if number == newest["snapshot"] or (newest["operation"] == "rollback" and newest["parent"] == number):
        return newest, False
    with pinned(dataset, number):
        target = dataset.manifest(number)
        _check_return(dataset, target, newest)
        after = newest["snapshot"] + 1
        identity = canonical_json(["rollback", newest["digest"], target["digest"]])
        manifest = {
            **{key: value for key, value in target.items() if key not in ("digest", "measures")},
            "snapshot": after,
            "parent": number,
            "plan": content_digest(identity, 6).hex(),
            "operation": "rollback",
            "added": add_accounts([]),
            "left": [*target.get("left", []), *range(number + 1, after)],
        }
        dataset.commit(manifest)
        there = dataset.manifest(after)
        if there["plan"] != manifest["plan"]:
            raise OvertakenError(
                f"another run committed snapshot {after:06d} first", "look at it, then roll back again"
            )
    dataset.derive()
    return there, True


def left_index(dataset: Dataset, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the index of the snapshots that were gone back over or rebuilt before a manifest, as far as they are kept.

    What they published keeps its split when it comes in again.
    """
    there = set(dataset.numbers())
    paths: set[str] = set()
    for number in there.intersection(manifest.get("left", [])):
        with contextlib.suppress(UsageError):  # another process expires it
            one = dataset.manifest(number)
            if one["schema_version"] == manifest["schema_version"]:
                paths.update(file["path"] for file in one["files"] if file["kind"] == "index")
    return tuple(sorted(paths - {one["path"] for one in manifest["files"]}))


def _check_return(dataset: Dataset, target: Manifest, newest: Manifest) -> None:
    """Raises UsageError where going back would bring back what was forgotten, or free what was eval."""
    for number in dataset.numbers():
        if number > target["snapshot"] and dataset.manifest(number)["operation"] == "forget":
            raise UsageError(
                f"snapshot {number:06d} forgets people whose records are in snapshot {target['snapshot']:06d}",
                f"roll back to {number} or later; the records of others stay forgotten",
            )
    there = {one["path"] for one in target["files"]}
    gone = [one for one in newest["files"] if one.get("split") == "eval" and one["rows"] and one["path"] not in there]
    if gone:
        raise UsageError(
            f"snapshot {target['snapshot']:06d} does not have all of eval ({len(gone)} files came later), and what was "
            "once in eval must not come back as train",
            "roll back to a snapshot that has it, or make a new dataset",
        )


@contextlib.contextmanager
def pinned(dataset: Dataset, number: int) -> Iterator[None]:
    """Keeps `expire` from the files of a snapshot while it is being listed again."""
    pin = dataset.uri("snapshots", f"{_PIN}{number:06d}-{uuid.uuid4().hex}.pin")
    dataset.storage.put(pin, b"")
    try:
        yield
    finally:
        dataset.storage.remove(pin)


def pinned_numbers(pins: Iterable[Stored], since: float) -> set[int]:
    """The snapshots that the pins put since then (seconds since 1970) hold; older ones are of killed rollbacks."""
    names = (one.uri.rsplit("/", 1)[1] for one in pins if one.modified >= since)
    return {int(name[len(_PIN) :][:6]) for name in names if name.startswith(_PIN)}


def consumed(dataset: Dataset, manifest: Mapping[str, Any], *, corrections: bool = True) -> set[str]:
    """Digests of the inputs that the live snapshots were made of, files of corrections among them or not."""
    rows = _inputs(dataset, manifest, ["digest", "kind"])
    return {one["digest"] for one in rows if one["digest"] and (corrections or one["kind"] != CORRECTIONS)}


def _inputs(dataset: Dataset, manifest: Mapping[str, Any], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of the inputs; decisions that were applied by hand, and logs of which only eval's lines are left, have no digest."""
    for uri in dataset.files(manifest, "inputs"):
        # Without threads: Arrow aborts a process that ends, as a rollback does then, while it starts some.
        parquet = pq.ParquetFile(io.BytesIO(dataset.storage.read(uri)))
        yield from parquet.read(columns, use_threads=False).to_pylist()


def empty_inputs(dataset: Dataset, manifest: Manifest) -> list[str]:
    """Names of the logs that a run took in, or read again, and that have no line or blank ones alone."""
    number = manifest["snapshot"]
    own = [one for one in manifest["files"] if one["kind"] == "inputs" and int(origin_of(one["path"])) == number]
    rows = _inputs(dataset, {"files": own}, ["shard", "digest", "read"])
    return [one["shard"] for one in rows if one["digest"] and not one["read"]]


def outgrown(dataset: Dataset, manifest: Mapping[str, Any], found: Collection[str]) -> set[str]:
    """Digests of the consumed logs that are not among `found`, but whose every line is in one that is: a log that grew is
    consumed once in each of its states, and only the newest is there.

    Lines are compared as the lineage knows them, since a log of the same name may be another by now: by the source of their
    records. The last line of the older state may have been cut then. Lines that were forgotten are not looked at.
    """
    rows = list(_inputs(dataset, manifest, ["shard", "digest", "kind", "read", "blank"]))
    there = {one["shard"]: one["read"] + one["blank"] for one in rows if one["digest"] in found}
    older = [
        one
        for one in rows
        if one["digest"] and one["digest"] not in found and one["kind"] != CORRECTIONS
        if one["read"] + one["blank"] <= there.get(one["shard"], -1)
    ]
    if not older:
        return set()
    names = pa.array(sorted({one["shard"] for one in older}), pa.string())
    tables = []
    for uri in dataset.files(manifest, "lineage"):
        with dataset.storage.open(uri) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["shard", "line", "reasons", "id", "source_id"]):
                tables.append(pa.Table.from_batches([batch.filter(pc.is_in(batch.column("shard"), value_set=names))]))
    lines = pa.concat_tables(tables)
    said = pc.coalesce(lines.column("source_id"), lines.column("id"))
    lines = pa.table({"shard": lines.column("shard"), "line": lines.column("line"), "said": said}).filter(
        pc.not_equal(pc.binary_join(lines.column("reasons"), ","), Drop.FORGOTTEN.value)
    )
    torn = _torn(lines)
    cut = torn - _torn(lines.filter(pc.is_valid(lines.column("said"))))
    last = {(one["shard"], one["read"] + one["blank"]) for one in older}
    return {
        one["digest"]
        for one in older
        if not any(shard == one["shard"] and (shard, line) not in cut & last for shard, line in torn)
    }


def _torn(lines: pa.Table) -> set[tuple[str, int]]:
    """(shard, line) of the lines that say several things."""
    every = pc.CountOptions(mode="all")
    counts = lines.group_by(["shard", "line"], use_threads=False).aggregate([("said", "count_distinct", every)])
    several = counts.filter(pc.greater(counts.column("said_count_distinct"), 1))
    return set(zip(several.column("shard").to_pylist(), several.column("line").to_pylist(), strict=True))


def freed_inputs(dataset: Dataset, before: Manifest, after: Manifest) -> int:
    """How many inputs the newer manifest no longer counts as consumed, whatever files their accounts lie in."""
    return len(consumed(dataset, before) - consumed(dataset, after))
