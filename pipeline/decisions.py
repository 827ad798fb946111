"""Decisions: the human corrections and cuts that a rebuild takes over.

Corrected records go into files of the new snapshot as they are, in their splits, and what resembles them gives way to
them as to eval. What was replaced or cut is read again with the logs, and left out again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.members import id_of_line
from pipeline.plan import Plan, corrected_path, decided_uri
from pipeline.rewrite import is_among, read_columns, row_groups, weights_of
from pipeline.snapshots import Dataset
from transforms.decided import DECIDED, find_decided, stands
from transforms.decontaminate import Benchmarks
from transforms.hashing import Keys
from transforms.index import Index, parts_of
from transforms.published import read_published
from transforms.reasons import SPLITS, Outcome
from transforms.schema import DATA
from transforms.write import FileWriter, ParquetShard, hex_ids

MOST = 10  # ids shown

Entry = Mapping[str, Any]


def put_decisions(dataset: Dataset, plan: Plan, work: str, keys: Keys) -> None:
    """Writes what the tasks of a rebuild must know of decisions, and the files of corrected records."""
    parent = dataset.manifest(plan.number - 1)
    decided, _ = find_decided(Index(dataset.storage, dataset.root, parts_of(plan.base.index)))
    ids = set(hex_ids(stands(decided).column("owner")).to_pylist())
    groups = [row for one in parent["files"] if one["kind"] == "lineage" for row in _groups(dataset, one, ids)]
    known = pa.table([pa.array([bytes.fromhex(group) for group, _ in groups], pa.binary(16)),
                      pa.array([SPLITS.index(split) for _, split in groups], pa.int8()),
                      pa.nulls(len(groups), pa.binary(16))], schema=DECIDED)  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.concat_tables([decided, known]), out)
    dataset.storage.put(decided_uri(work), out.getvalue())
    spool = dataset.storage.spool(work)
    for split in plan.corrected_splits:
        files = [one for one in parent["files"] if one.get("split") == split]
        _put_parquet(dataset, plan, split, [one for one in files if one["kind"] == "parquet"], ids, keys, spool)
        _put_jsonl(dataset, plan, split, [one for one in files if one["kind"] == "jsonl"], ids, keys, spool)


def check_decontaminated(dataset: Dataset, benchmarks: Benchmarks) -> None:
    """Raises UsageError where corrected records of the newest snapshot, which a rebuild takes over, hold items of benchmarks."""
    manifest = dataset.manifest()
    index = parts_of(one["path"] for one in manifest["files"] if one["kind"] == "index")
    decided, _ = find_decided(Index(dataset.storage, dataset.root, index))
    ids = stands(decided).column("owner").combine_chunks()
    kind = "parquet" if any(one["kind"] == "parquet" for one in manifest["files"]) else "jsonl"
    held: set[str] = set()
    for split in (Outcome.TRAIN, Outcome.VAL) if len(ids) else ():
        for uri in dataset.files(manifest, kind, split):
            for said in read_published(dataset.storage, uri):
                mine = said.filter(pc.is_in(said.column("id"), value_set=ids))
                if mine.num_rows:
                    holds = pa.array(benchmarks.search(mine.column("messages")).records)
                    held.update(hex_ids(mine.column("id").filter(holds)).to_pylist())
    if held:
        raise UsageError(
            f"{len(held)} corrected records hold an item of a benchmark, as {', '.join(sorted(held)[:MOST])}",
            f"""cut them: a line {{"id": "…", "decision": "cut"}} each in FILE, corpusmill apply {dataset.root} FILE; then run again""",
        )


def _groups(dataset: Dataset, lineage: Entry, ids: set[str]) -> Iterator[tuple[str, str]]:
    """(group, split) of the records with these ids that have a group."""
    rows = read_columns(dataset, dict(lineage), ["id", "outcome", "group"])
    mine = is_among(rows.column("id"), ids) & is_among(rows.column("outcome"), SPLITS)
    for row in rows.filter(pa.array(mine)).to_pylist():
        if row["group"]:
            yield row["group"], row["outcome"]


def _put_parquet(
    dataset: Dataset, plan: Plan, split: str, files: list[Entry], ids: set[str], keys: Keys, spool: str | None
) -> None:
    found = [DATA.empty_table()]
    for one in files:
        if is_among(read_columns(dataset, dict(one), ["id"]).column("id"), ids).any():
            with dataset.storage.open(dataset.uri(one["path"])) as stream:
                found += [rows.filter(pa.array(is_among(rows.column("id"), ids))) for rows in row_groups(stream, DATA)]
    if not files:
        return
    rows = pa.concat_tables(found).combine_chunks()
    order = _order(rows.column("id").to_pylist(), keys)
    rows = rows.take(pa.array(order, pa.int64())).combine_chunks()
    path = corrected_path(plan, split, "parquet")
    shard = ParquetShard(FileWriter(dataset.storage, dataset.root, path, "parquet", split, spool), DATA)
    shard.append(rows, weights_of(rows))
    shard.put()


def _put_jsonl(
    dataset: Dataset, plan: Plan, split: str, files: list[Entry], ids: set[str], keys: Keys, spool: str | None
) -> None:
    if not files:
        return
    found: dict[str, bytes] = {}
    for one in files:
        with dataset.storage.open(dataset.uri(one["path"])) as stream:
            found |= {identity: line for line in stream if (identity := id_of_line(line)) in ids}
    out = FileWriter(dataset.storage, dataset.root, corrected_path(plan, split, "jsonl"), "jsonl", split, spool)
    names = list(found)
    for place in _order(names, keys):
        out.stream.write(found[names[place]])
    out.put()


def _order(ids: list[str], keys: Keys) -> list[int]:
    """Rows in the order of every shard: by shuffle key, then id."""
    said = [bytes.fromhex(one) for one in ids]
    return sorted(range(len(said)), key=lambda row: (keys.shuffle_key(said[row]), said[row]))
