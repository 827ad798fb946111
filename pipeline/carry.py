"""Carry: what a rebuild takes over from the snapshots before: eval and corrected records, their lines and accounts.

A rebuild reads all logs again, and finds copies of eval's records in them. Those lines are duplicates there; the lines
by which the records came in stay on record as they are, and so does every line of human decisions.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.plan import Plan, corrected_path
from pipeline.snapshots import CORRECTIONS, Dataset, add_accounts, origin_of
from transforms.reasons import SPLITS, Outcome
from transforms.schema import LINEAGE
from transforms.storage import join
from transforms.write import FileWriter, ParquetShard, Written, file_digest, shard_name


@dataclass(frozen=True)
class Carried:
    """Entries of the manifest; rows for the inputs file; the sum of their accounts."""

    files: list[dict[str, Any]]
    inputs: list[dict[str, Any]]
    accounting: dict[str, Any]


def carry_over(dataset: Dataset, plan: Plan, parent: Mapping[str, Any], spool: str | None) -> Carried:
    """Writes the lineage of eval's records as the parent has it into the new snapshot's folder."""
    kept = [one for one in parent["files"] if one.get("split") == Outcome.EVAL or one["kind"].startswith("suppressed")]
    kept += _corrected(dataset, plan)
    path = join("lineage", plan.name + "-eval", shard_name("part", 0, 1, "parquet"))
    file = FileWriter(dataset.storage, dataset.root, path, "lineage", None, spool)
    shard = ParquetShard(file, LINEAGE)
    inputs: list[dict[str, Any]] = []
    try:
        for number, lines in _carried_lines(dataset, parent):
            shard.append(lines, np.ones(lines.num_rows, np.int64))
            inputs += _inputs(dataset, parent, number)
        written = shard.put()
    finally:
        file.discard()
    names = ("read", "blank", *SPLITS, "duplicate")
    accounts = [
        {**{name: one[name] for name in names}, **{name: dict(one[name]) for name in ("quarantined", "dropped")}}
        for one in inputs
    ]
    return Carried([*kept, written.as_dict()], inputs, add_accounts(accounts))


def _corrected(dataset: Dataset, plan: Plan) -> list[dict[str, Any]]:
    """Entries of the files that `put_decisions` wrote."""
    entries = []
    for split in plan.corrected_splits:
        for kind in ("parquet", "jsonl"):
            path = corrected_path(plan, split, kind)
            if dataset.storage.exists(dataset.uri(path)):
                content = dataset.storage.read(dataset.uri(path))
                digest = file_digest(io.BytesIO(content))
                rows = plan.base.train if split == Outcome.TRAIN else plan.base.val
                entries.append(Written(path, kind, split, rows, len(content), digest).as_dict())
    return entries


def _carried_lines(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[tuple[str, pa.Table]]:
    """(name of the inputs file, LINEAGE of eval and of decisions) of each snapshot that the manifest lists lineage of."""
    decisions = [
        row["shard"]
        for uri in dataset.files(manifest, "inputs")
        for row in pq.read_table(io.BytesIO(dataset.storage.read(uri)), columns=["shard", "kind"]).to_pylist()
        if row["kind"] == CORRECTIONS
    ]
    mine = (pc.field("outcome") == Outcome.EVAL.value) | pc.field("shard").isin(pa.array(decisions, pa.string()))
    folders: dict[str, list[str]] = {}
    for one in manifest["files"]:
        if one["kind"] == "lineage":
            folders.setdefault(origin_of(one["path"]), []).append(one["path"])
    for number, paths in sorted(folders.items()):
        tables = []
        for path in sorted(paths):
            table = pq.read_table(io.BytesIO(dataset.storage.read(dataset.uri(path))), filters=mine)
            tables.append(table.cast(LINEAGE))
        yield number, pa.concat_tables(tables).combine_chunks()


def _inputs(dataset: Dataset, manifest: Mapping[str, Any], number: str) -> list[dict[str, Any]]:
    """Rows of an inputs file: of decisions as they are, of logs that lines of eval came from with those lines alone.

    A log has two rows where it grew, or where a rebuild read it again: each has its own lines. That of eval's lines has
    no digest, so a log that was not there for the rebuild counts as new when it is back.
    """
    listed = [one["path"] for one in manifest["files"] if one["kind"] == "inputs" and origin_of(one["path"]) == number]
    rows = []
    tables = (pq.read_table(io.BytesIO(dataset.storage.read(dataset.uri(path)))) for path in listed)
    for row in pa.concat_tables(tables).to_pylist():
        if row["kind"] == CORRECTIONS:
            rows.append(row)
        elif row[Outcome.EVAL]:
            known = {name: row[name] for name in ("shard", "size", "etag", "kind")}
            account = add_accounts([{"read": row[Outcome.EVAL], Outcome.EVAL.value: row[Outcome.EVAL]}])
            rows.append(
                {**account, "quarantined": [], "dropped": [], **known, "digest": "", "corrupt": False, "notes": []}
            )
    return rows
