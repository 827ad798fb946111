"""Why: the fate of a line or a record, from the lineage. Never its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.history import ancestors, kept_snapshots
from pipeline.snapshots import Dataset
from transforms.reasons import MEANING, Drop, Outcome, Reason

_ID = re.compile(r"[0-9a-f]{32}")
MOST = 100  # fates shown


def find_fates(dataset: Dataset, what: str) -> list[dict[str, Any]]:
    """The lineage rows of an id, or of a line given as SHARD:LINE, with the snapshot that took the line in.

    Raises UsageError, which says why, where there are none.
    """
    manifest = dataset.manifest()
    by_id = bool(_ID.fullmatch(what))
    shard, colon, line = what.rpartition(":")
    if not by_id and not (colon and line.isdigit() and shard):
        raise UsageError(f"{what!r} is neither an id (32 hex digits) nor SHARD:LINE")
    fates: list[dict[str, Any]] = []
    for number, batch in _lineage(dataset, manifest):
        if by_id:
            mask = pc.or_kleene(pc.equal(batch.column("id"), what), pc.equal(batch.column("kept_id"), what))
        else:
            mask = pc.and_(
                pc.equal(batch.column("line"), int(line)), pc.ends_with(batch.column("shard"), pattern=shard)
            )
        found = batch.filter(pc.fill_null(mask, False)).to_pylist()
        fates += [{"snapshot": number, **one} for one in found if by_id or _is_named(one["shard"], shard)]
        if len(fates) >= MOST:
            break
    if not fates:
        raise _unknown_id(dataset, manifest, what) if by_id else _unknown_line(dataset, manifest, shard, int(line))
    return [{**one, "explanation": explain(one)} for one in fates[:MOST]]


def _is_named(name: str, shard: str) -> bool:
    """Whether SHARD, or the end of a path, names an input."""
    return name == shard or name.endswith("/" + shard.lstrip("/"))


def _unknown_id(dataset: Dataset, manifest: dict[str, Any], what: str) -> UsageError:
    for other in _undone(dataset, manifest):
        for _, batch in _lineage(dataset, other):
            if pc.any(pc.equal(batch.column("id"), what)).as_py():
                return UsageError(
                    f"record {what} is not in snapshot {manifest['snapshot']:06d}: it came with snapshot "
                    f"{other['snapshot']:06d}, which was rolled back"
                )
    return UsageError(f"the lineage of snapshot {manifest['snapshot']:06d} has no record {what}")


def _unknown_line(dataset: Dataset, manifest: dict[str, Any], shard: str, line: int) -> UsageError:
    """Why the lineage has no such line, from the accounts of the inputs."""
    known = [one for one in _inputs(dataset, manifest) if _is_named(one["shard"], shard)]
    if known:
        lines = sum(one["read"] + one["blank"] for one in known)
        return UsageError(
            f"{shard} was taken in, but its lineage has no line {line}",
            f"it has {lines:,} lines, {sum(one['blank'] for one in known):,} of them blank; blank ones have no fate",
        )
    for other in _undone(dataset, manifest):
        if any(_is_named(one["shard"], shard) for one in _inputs(dataset, other)):
            return UsageError(
                f"{shard} came with snapshot {other['snapshot']:06d}, which was rolled back: line {line} has no fate now",
                "the next run takes it in again where its patterns match it",
            )
    return UsageError(
        f"no input named {shard} was taken in, so there is no line {line} of it",
        f"names of inputs: corpusmill files {dataset.root} --kind inputs",
    )


def _undone(dataset: Dataset, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Kept snapshots that the newest one does not continue, newest first."""
    current = {one["snapshot"] for one in ancestors(dataset, manifest)}
    return [one for number, one in sorted(kept_snapshots(dataset).items(), reverse=True) if number not in current]


def _inputs(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for uri in dataset.files(manifest, "inputs"):
        with dataset.storage.open(uri) as stream:
            yield from pq.read_table(stream, columns=["shard", "read", "blank"]).to_pylist()


def explain(fate: Mapping[str, Any]) -> str:
    """What a lineage row says, in a sentence."""
    outcome, reasons = fate["outcome"], fate["reasons"]
    if outcome == Outcome.QUARANTINED:
        return "quarantined: " + "; ".join(MEANING[Reason(reason)] for reason in reasons)
    if outcome == Outcome.DROPPED:
        return "left out: " + "; ".join(MEANING[Drop(reason)] for reason in reasons)
    if outcome == Outcome.DUPLICATE:
        how = "an exact copy" if reasons == ["exact"] else f"a near-duplicate (Jaccard {fate['similarity']:.3f})"
        return f"{how} of {fate['kept_id']}, which is kept or gave way itself"
    return f"kept, in {outcome}"


def _lineage(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of the snapshot that wrote it, record batch) of the lineage, the newest snapshot's first."""
    files = [one["path"] for one in manifest["files"] if one["kind"] == "lineage"]
    for path in sorted(files, key=lambda one: one.split("/")[1][:6], reverse=True):
        try:
            with dataset.storage.open(dataset.uri(path)) as stream:
                for batch in pq.ParquetFile(stream).iter_batches():
                    yield int(path.split("/")[1][:6]), batch
        except (FileNotFoundError, pa.ArrowInvalid):
            raise UsageError(f"{path} is missing or damaged", f"corpusmill verify {dataset.root}") from None
