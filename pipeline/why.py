"""Why: the fate of a line or a record, from the lineage. Never its text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.history import ancestors, kept_snapshots
from pipeline.snapshots import CORRECTIONS, Dataset, origin_of
from transforms.reasons import MEANING, SPLITS, Drop, Outcome, Reason

_NEAR = {Drop.NEAR_EVAL: "eval", Drop.NEAR_VAL: "val", Drop.NEAR_TRAIN: "train"}
_ID = re.compile(r"[0-9a-f]{32}")
MOST = 100  # fates shown


def find_fates(dataset: Dataset, what: str) -> list[dict[str, Any]]:
    """The lineage rows of an id, or of a line given as SHARD:LINE, with the snapshot that took the line in.

    Of an id its own lines come first, then those that gave way to it, `MOST` at most in all; a kept record
    says in `gave_way` how many did, one that is left out in `repeats` whether the record that it names is so too, one that
    is superseded in `decided` what human decisions came to. Raises UsageError, which says why, where there is no row.
    """
    manifest = dataset.manifest()
    by_id = bool(_ID.fullmatch(what))
    shard, colon, line = what.rpartition(":")
    if not by_id and not (colon and line.isdigit() and shard):
        raise UsageError(f"{what!r} is neither an id (32 hex digits) nor SHARD:LINE")
    fates: list[dict[str, Any]] = []
    followers: list[dict[str, Any]] = []
    for number, batch in _lineage(dataset, manifest):
        if by_id:
            fates += _rows(number, batch, pc.equal(batch.column("id"), what))
            others = pc.and_(pc.equal(batch.column("kept_id"), what), pc.not_equal(batch.column("id"), what))
            followers += _rows(number, batch, others)[: MOST - len(followers)]
        else:
            mask = pc.and_(
                pc.equal(batch.column("line"), int(line)), pc.ends_with(batch.column("shard"), pattern=shard)
            )
            fates += [one for one in _rows(number, batch, mask) if _is_named(one["shard"], shard)]
        if len(fates) >= MOST:
            break
    if not fates and not followers:
        raise _unknown_id(dataset, manifest, what) if by_id else _unknown_line(dataset, manifest, shard, int(line))
    fates.sort(key=lambda one: one["outcome"] not in SPLITS)  # a kept record before its copies
    fates = [*fates, *followers][:MOST]
    batches = (batch for _, batch in _lineage(dataset, manifest))
    counts = count_followers(batches, {one["id"] for one in fates if one["outcome"] in SPLITS})
    gone = _left_out(dataset, manifest, {one["kept_id"] for one in fates if _is_near(one) and one["kept_id"]})
    came_to = _came_to(dataset, manifest, [one for one in fates if _is_superseded(one)])
    took_in = _took_in(dataset, manifest)
    told = (
        {
            **one,
            "snapshot": took_in.get(one["shard"], one["snapshot"]),
            "gave_way": counts.get(one["id"]) if one["outcome"] in SPLITS else None,
            "repeats": one["kept_id"] in gone if _is_near(one) and one["kept_id"] else None,
            "decided": came_to[one["id"], one["kept_id"]] if _is_superseded(one) else None,
        }
        for one in fates
    )
    return [{**one, "explanation": explain(one)} for one in told]


def count_followers(batches: Iterable[pa.RecordBatch], kept: Collection[str]) -> dict[str, dict[str, Any]]:
    """For each of the ids the lines that gave way to it: `exact` and `near` ones, and the least `similarity`; and how many
    were `left_out` because they resemble it."""
    nobody = {"exact": 0, "near": 0, "similarity": None, "left_out": 0}
    found: dict[str, dict[str, Any]] = {one: dict(nobody) for one in kept}
    wanted = pa.array(sorted(kept), pa.string())
    for batch in batches if kept else ():
        mask = pc.is_in(batch.column("kept_id"), value_set=wanted)
        for one in batch.filter(mask).select(["outcome", "kept_id", "reasons", "similarity"]).to_pylist():
            tally = found[one["kept_id"]]
            tally["left_out"] += _is_near(one)
            if one["outcome"] != Outcome.DUPLICATE:
                continue
            tally["exact" if one["reasons"] == ["exact"] else "near"] += 1
            tally["similarity"] = min(one["similarity"], tally["similarity"] or 1.0)
    return found


def _is_near(fate: Mapping[str, Any]) -> bool:
    """Whether a line is left out because it resembles a record elsewhere, or repeats one that does."""
    return fate["outcome"] == Outcome.DROPPED and fate["reasons"][0] in _NEAR


def _left_out(dataset: Dataset, manifest: Mapping[str, Any], ids: Collection[str]) -> set[str]:
    """Those of the ids of which a line is left out because it resembles a record elsewhere."""
    wanted = pa.array(sorted(ids), pa.string())
    found: set[str] = set()
    for _, batch in _lineage(dataset, manifest) if ids else ():
        rows = batch.filter(pc.is_in(batch.column("id"), value_set=wanted)).select(["id", "outcome", "reasons"])
        found |= {one["id"] for one in rows.to_pylist() if _is_near(one)}
    return found


def _is_superseded(fate: Mapping[str, Any]) -> bool:
    """Whether a human decision replaced or cut the record of a line."""
    return bool(fate["reasons"] == [Drop.SUPERSEDED])


def _came_to(
    dataset: Dataset, manifest: Mapping[str, Any], fates: Iterable[Mapping[str, Any]]
) -> dict[tuple[str, str | None], dict[str, Any]]:
    """For the `id` and `kept_id` of each superseded line: `by`, the last record that human decisions put in its place, None
    for none or one that was forgotten; and whether that was `cut`, None where it can't be told.

    A record that was cut names itself or, by the line that it came in by, none; so does one whose successor was forgotten.
    """
    named = {(one["id"], one["kept_id"]) for one in fates}
    known: dict[str, str | None] = {}  # of each record that is superseded whom it names
    wanted = {by for _, by in named if by}
    while wanted:
        asked = pa.array(sorted(wanted), pa.string())
        found: dict[str, str | None] = {}
        for _, batch in _lineage(dataset, manifest):
            rows = batch.filter(pc.is_in(batch.column("id"), value_set=asked)).select(["id", "reasons", "kept_id"])
            found |= {one["id"]: one["kept_id"] for one in rows.to_pylist() if _is_superseded(one)}
        known |= found
        wanted = {by for by in found.values() if by} - known.keys()
    forgotten = any(one["kind"] == "suppressed" for one in manifest["files"])
    return {pair: _follow(*pair, known, forgotten) for pair in named}


def _follow(one: str, by: str | None, known: Mapping[str, str | None], forgotten: bool) -> dict[str, Any]:
    """`by` and `cut` of a superseded record that names `by`; `forgotten` where people were."""
    seen = [one]
    while by is not None and by not in seen:
        seen.append(by)
        if by not in known:
            return {"by": by, "cut": False}
        by = known[by]
    return {"by": seen[-1] if len(seen) > 1 else None, "cut": None if by is None and forgotten else True}


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
    """Why the lineage has no such line, from the accounts of the inputs: of a log that grew the longest, and none of eval's lines,
    which a rebuild takes over beside those of the log."""
    known = [one for one in _inputs(dataset, manifest) if _is_named(one["shard"], shard)]
    if known:
        whole = [one for one in known if one["digest"] or one["kind"] == CORRECTIONS]
        longest = max(whole, key=lambda one: one["read"] + one["blank"], default=None)
        return UsageError(
            f"{shard} was taken in, but its lineage has no line {line}",
            f"it has {longest['read'] + longest['blank']:,} lines, {longest['blank']:,} of them blank; blank ones have no fate"
            if longest
            else "a rebuild went on without it: only its lines that came into eval are known",
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
            yield from pq.ParquetFile(stream).read(use_threads=False).to_pylist()


def _took_in(dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, int]:
    """The snapshot that took each input in, of those of which one did: a compaction puts the lineage of many together."""
    found: dict[str, set[int | None]] = {}
    for row in _inputs(dataset, manifest):
        found.setdefault(row["shard"], set()).add(row.get("snapshot"))
    only = {shard: next(iter(numbers)) for shard, numbers in found.items() if len(numbers) == 1}
    return {shard: number for shard, number in only.items() if number is not None}


def explain(fate: Mapping[str, Any]) -> str:
    """What a lineage row, with `gave_way`, `repeats` and `decided`, says in a sentence."""
    outcome, reasons = fate["outcome"], fate["reasons"]
    if outcome == Outcome.QUARANTINED:
        return "quarantined: " + "; ".join(MEANING[Reason(reason)] for reason in reasons)
    if _is_superseded(fate):
        return "left out: " + _decision(**fate["decided"])
    if outcome == Outcome.DROPPED:
        said = "left out: " + "; ".join(MEANING[Drop(reason)] for reason in reasons)
        if fate["kept_id"] is None:
            return said
        named = f"{fate['kept_id']} (similarity {fate['similarity']:.3f})"
        if fate["repeats"] or not _is_near(fate):
            return f"left out ({reasons[0]}): it is a near-duplicate of {named}, which was left out"
        return f"left out ({reasons[0]}): it resembles {named}, which was put in {_NEAR[reasons[0]]}"
    if outcome == Outcome.DUPLICATE:
        named = fate["kept_id"] or "a record that was forgotten"
        if reasons == ["exact"]:
            return f"gave way to {named}, of which it is an exact copy"
        return f"gave way to {named}, of which it is a near-duplicate (similarity {fate['similarity']:.3f})"
    return f"kept, in {outcome}" + _followed(fate["gave_way"])


def _decision(by: str | None, cut: bool | None) -> str:
    """What human decisions came to."""
    if cut is False:
        return f"a human decision replaced it: {by} stands in its place"
    said = f"a human decision cut {by}, which stood in its place" if by else "a human decision cut it"
    return said if cut else f"{said}, or replaced it by a record that was forgotten"


def _followed(gave_way: Mapping[str, Any]) -> str:
    """Who gave way to a kept record."""
    exact, near = gave_way["exact"], gave_way["near"]
    parts = [f"{exact:,} exact {'copy' if exact == 1 else 'copies'}"] if exact else []
    if near:
        how = f"similarity {gave_way['similarity']:.3f}" + ("" if near == 1 else " and more")
        parts.append(f"{near:,} near-duplicate{'' if near == 1 else 's'} ({how})")
    total, left_out = exact + near, gave_way["left_out"]
    said = f"; {total:,} line{'' if total == 1 else 's'} gave way to it: {' and '.join(parts)}" if total else ""
    if left_out:
        return f"{said}; {left_out:,} line{' was' if left_out == 1 else 's were'} left out for resembling it"
    return said


def _rows(number: int, batch: pa.RecordBatch, mask: pa.Array) -> list[dict[str, Any]]:
    """The rows for which the mask holds, `MOST` at most, with the snapshot that they are of."""
    rows = batch.filter(pc.fill_null(mask, False)).slice(0, MOST).to_pylist()
    return [{"snapshot": number, **one} for one in rows]


def _lineage(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of the snapshot that took the lines in, record batch) of the lineage, the newest snapshot's first."""
    files = [one["path"] for one in manifest["files"] if one["kind"] == "lineage"]
    for path in sorted(files, key=origin_of, reverse=True):
        try:
            with dataset.storage.open(dataset.uri(path)) as stream:
                for batch in pq.ParquetFile(stream).iter_batches():
                    yield int(origin_of(path)), batch
        except (FileNotFoundError, pa.ArrowInvalid):
            raise UsageError(f"{path} is missing or damaged", f"corpusmill verify {dataset.root}") from None
