"""Why: the fate of a line or a record, from the lineage. Never its text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.snapshots import Dataset
from transforms.reasons import MEANING, Drop, Outcome, Reason

_ID = re.compile(r"[0-9a-f]{32}")
MOST = 100  # fates shown


def find_fates(dataset: Dataset, what: str) -> list[dict[str, Any]]:
    """The lineage rows of an id, or of a line given as SHARD:LINE. Raises UsageError where there are none."""
    manifest = dataset.manifest()
    by_id = bool(_ID.fullmatch(what))
    shard, colon, line = what.rpartition(":")
    if not by_id and not (colon and line.isdigit() and shard):
        raise UsageError(f"{what!r} is neither an id (32 hex digits) nor SHARD:LINE")
    fates: list[dict[str, Any]] = []
    for table in _lineage(dataset, manifest):
        if by_id:
            mask = pc.or_kleene(pc.equal(table.column("id"), what), pc.equal(table.column("kept_id"), what))
        else:
            mask = pc.and_(
                pc.equal(table.column("line"), int(line)), pc.ends_with(table.column("shard"), pattern=shard)
            )
        fates += table.filter(pc.fill_null(mask, False)).slice(0, MOST - len(fates)).to_pylist()
        if len(fates) >= MOST:
            break
    if not by_id:
        fates = [one for one in fates if one["shard"] == shard or one["shard"].endswith("/" + shard.lstrip("/"))]
    if not fates:
        raise UsageError(
            f"the lineage of snapshot {manifest['snapshot']:06d} has no {'record' if by_id else 'line'} {what}",
            None if by_id else "blank lines have no fate; names of inputs: corpusmill report",
        )
    return [{"snapshot": manifest["snapshot"], **one, "explanation": explain(one)} for one in fates]


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


def _lineage(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[pa.Table]:
    for uri in dataset.files(manifest, "lineage"):
        try:
            yield pq.read_table(io.BytesIO(dataset.storage.read(uri)))
        except (FileNotFoundError, pa.ArrowInvalid):
            raise UsageError(f"{uri} is missing or damaged", f"corpusmill verify {dataset.root}") from None
