"""Why: the fate of a line or a record, from the lineage. Never its text."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.snapshots import Dataset
from transforms.reasons import MEANING, SPLITS, Drop, Outcome, Reason

_ID = re.compile(r"[0-9a-f]{32}")
MOST = 100  # fates shown


def find_fates(dataset: Dataset, what: str) -> list[dict[str, Any]]:
    """The lineage rows of an id, or of a line given as SHARD:LINE, each with an explanation.

    Of an id its own lines come first, then those that gave way to it, `MOST` at most in all; a kept record
    says in `gave_way` how many did. Raises UsageError where there is no row.
    """
    manifest = dataset.manifest()
    by_id = bool(_ID.fullmatch(what))
    shard, colon, line = what.rpartition(":")
    if not by_id and not (colon and line.isdigit() and shard):
        raise UsageError(f"{what!r} is neither an id (32 hex digits) nor SHARD:LINE")
    fates: list[dict[str, Any]] = []
    followers: list[dict[str, Any]] = []
    for table in _lineage(dataset, manifest):
        if by_id:
            fates += _rows(table, pc.equal(table.column("id"), what), MOST - len(fates))
            others = pc.and_(pc.equal(table.column("kept_id"), what), pc.not_equal(table.column("id"), what))
            followers += _rows(table, others, MOST - len(followers))
        else:
            mask = pc.and_(
                pc.equal(table.column("line"), int(line)), pc.ends_with(table.column("shard"), pattern=shard)
            )
            fates += _rows(table, mask, MOST - len(fates))
    if not by_id:
        fates = [one for one in fates if one["shard"] == shard or one["shard"].endswith("/" + shard.lstrip("/"))]
    fates.sort(key=lambda one: one["outcome"] not in SPLITS)  # a kept record before its copies
    fates = [*fates, *followers][:MOST]
    if not fates:
        raise UsageError(
            f"the lineage of snapshot {manifest['snapshot']:06d} has no {'record' if by_id else 'line'} {what}",
            None if by_id else "blank lines have no fate; names of inputs: corpusmill report",
        )
    counts = count_followers(_lineage(dataset, manifest), {one["id"] for one in fates if one["outcome"] in SPLITS})
    told = ({**one, "gave_way": counts.get(one["id"]) if one["outcome"] in SPLITS else None} for one in fates)
    return [{"snapshot": manifest["snapshot"], **one, "explanation": explain(one)} for one in told]


def count_followers(tables: Iterable[pa.Table], kept: Collection[str]) -> dict[str, dict[str, Any]]:
    """For each of the ids the lines that gave way to it: `exact` and `near` ones, and the least `similarity`."""
    found: dict[str, dict[str, Any]] = {one: {"exact": 0, "near": 0, "similarity": None} for one in kept}
    wanted = pa.array(sorted(kept), pa.string())
    for table in tables if kept else ():
        mine = table.filter(pc.is_in(table.column("kept_id"), value_set=wanted))
        for one in mine.select(["kept_id", "reasons", "similarity"]).to_pylist():
            tally = found[one["kept_id"]]
            tally["exact" if one["reasons"] == ["exact"] else "near"] += 1
            tally["similarity"] = min(one["similarity"], tally["similarity"] or 1.0)
    return found


def explain(fate: Mapping[str, Any]) -> str:
    """What a lineage row, with the `gave_way` of a kept one, says in a sentence."""
    outcome, reasons = fate["outcome"], fate["reasons"]
    if outcome == Outcome.QUARANTINED:
        return "quarantined: " + "; ".join(MEANING[Reason(reason)] for reason in reasons)
    if outcome == Outcome.DROPPED:
        return "left out: " + "; ".join(MEANING[Drop(reason)] for reason in reasons)
    if outcome == Outcome.DUPLICATE:
        if reasons == ["exact"]:
            return f"gave way to {fate['kept_id']}, of which it is an exact copy"
        return f"gave way to {fate['kept_id']}, of which it is a near-duplicate (similarity {fate['similarity']:.3f})"
    return f"kept, in {outcome}" + _followed(fate["gave_way"])


def _followed(gave_way: Mapping[str, Any]) -> str:
    """Who gave way to a kept record."""
    exact, near = gave_way["exact"], gave_way["near"]
    parts = [f"{exact:,} exact {'copy' if exact == 1 else 'copies'}"] if exact else []
    if near:
        how = f"similarity {gave_way['similarity']:.3f}" + ("" if near == 1 else " and more")
        parts.append(f"{near:,} near-duplicate{'' if near == 1 else 's'} ({how})")
    total = exact + near
    return f"; {total:,} line{'' if total == 1 else 's'} gave way to it: {' and '.join(parts)}" if total else ""


def _rows(table: pa.Table, mask: pa.ChunkedArray, most: int) -> list[dict[str, Any]]:
    """The first rows for which the mask holds."""
    return list(table.filter(pc.fill_null(mask, False)).slice(0, max(most, 0)).to_pylist())


def _lineage(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[pa.Table]:
    for uri in dataset.files(manifest, "lineage"):
        try:
            yield pq.read_table(io.BytesIO(dataset.storage.read(uri)))
        except (FileNotFoundError, pa.ArrowInvalid):
            raise UsageError(f"{uri} is missing or damaged", f"corpusmill verify {dataset.root}") from None
