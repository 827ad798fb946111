"""Merge: one range of shuffle keys becomes one shard of each split, in Parquet and JSONL, and its lineage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.canonical import conversation_lines
from transforms.mill import TEXTS, runs_of
from transforms.options import WriteOptions
from transforms.reasons import SPLITS, Outcome
from transforms.runs import Runs, Segment
from transforms.schema import DATA, LINEAGE
from transforms.settle import SETTLED
from transforms.split import DROPS, Cut
from transforms.storage import Storage, join
from transforms.write import FileWriter, JsonlShard, ParquetShard, Written, data_table, hex_ids, shard_name

DUPLICATE, DROPPED = len(SPLITS), len(SPLITS) + 1
_OUTCOMES = pa.array([*SPLITS, Outcome.DUPLICATE, Outcome.DROPPED], pa.string())
_LINE_BITS = 40


@dataclass(frozen=True)
class Places:
    """Where a merge finds and puts things. `shards` are the names of inputs as the lineage gives them."""

    storage: Storage
    folder: str
    output: str
    name: str  # of the snapshot's folders: 000001-<plan>
    shards: tuple[str, ...]
    units: tuple[int, ...]  # the shard of each work unit
    bases: tuple[int, ...]  # the line that each work unit starts after


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`: the keys whose product with `count` has `index` in its upper 64 bits."""

    index: int
    count: int

    @property
    def first(self) -> int:
        return -(-(self.index << 64) // self.count)

    @property
    def last(self) -> int:
        return -(-((self.index + 1) << 64) // self.count) - 1

    def covers(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return (keys >= np.uint64(self.first)) & (keys <= np.uint64(self.last))

    def segments(self, segments: int) -> range:
        """The segments of keys that the shard reads."""
        return range(self.first * segments >> 64, (self.last * segments >> 64) + 1)


def shards_of(segment: int, segments: int, count: int) -> range:
    """The shards that read a segment of keys.

    >>> list(shards_of(1, 4, 3))
    [0, 1]
    """
    return range((segment * count) // segments, -(-((segment + 1) * count) // segments))


References = Mapping[str, Mapping[int, Iterable[Segment]]]  # kind, segment


def merge_shard(
    shard: Shard, references: References, segments: int, cut: Cut, options: WriteOptions, places: Places
) -> dict[str, Any]:
    """Writes the shard's files; returns them, and the accounting of each input shard."""
    out = _ShardFiles(shard, options, places)
    try:
        accounting: dict[int, Counter[str]] = defaultdict(Counter)
        for segment in shard.segments(segments):
            lineage = [
                *_merge_sound(segment, shard, references, cut, places, out),
                _rejected(segment, shard, references, places),
            ]
            out.lineage(pa.concat_tables(lineage), accounting, places)
        return {
            "files": [written.as_dict() for written in out.put()],
            "accounting": {str(number): dict(counts) for number, counts in sorted(accounting.items())},
        }
    finally:
        out.discard()


class _ShardFiles:
    """The open files of one shard."""

    def __init__(self, shard: Shard, options: WriteOptions, places: Places) -> None:
        self._files: list[FileWriter] = []
        self._parquet: list[ParquetShard] = []
        self._jsonl: list[JsonlShard] = []

        spool = places.storage.spool(places.folder)

        def file(folder: str, name: str, kind: str, split: str | None = None) -> FileWriter:
            path = join(folder, places.name, name)
            self._files.append(FileWriter(places.storage, places.output, path, kind, split, spool))
            return self._files[-1]

        for split in SPLITS:
            if options.parquet:
                name = shard_name(split, shard.index, shard.count, "parquet")
                self._parquet.append(ParquetShard(file("data", name, "parquet", split), DATA))
            if options.jsonl:
                name = shard_name(split, shard.index, shard.count, "jsonl")
                self._jsonl.append(JsonlShard(file("jsonl", name, "jsonl", split)))
        name = shard_name("part", shard.index, shard.count, "parquet")
        self._lineage = ParquetShard(file("lineage", name, "lineage"), LINEAGE)

    def rows(self, texts: pa.Table, splits: npt.NDArray[np.int8]) -> None:
        """Adds kept TEXTS, in order, to the split of each."""
        for split in range(len(SPLITS)):
            mine = texts.filter(pa.array(splits == split)).combine_chunks()
            if self._parquet:
                self._parquet[split].append(data_table(mine), mine.column("n_bytes").to_numpy())
            if self._jsonl and mine.num_rows:
                messages, tools = (_one_chunk(mine.column(name)) for name in ("messages", "tools"))
                self._jsonl[split].append(conversation_lines(messages, tools, weight=True))

    def lineage(self, fates: pa.Table, accounting: dict[int, Counter[str]], places: Places) -> None:
        """Adds the fates of a segment's lines, sorted by place, and counts them."""
        fates = fates.sort_by([("writer", "ascending"), ("line", "ascending")]).combine_chunks()
        writers = fates.column("writer").to_numpy()
        shard_numbers = np.array(places.units, np.int64)[writers]
        names = pa.array([places.shards[number] for number in shard_numbers], pa.string())
        lines = fates.column("line").to_numpy() + np.array(places.bases, np.int64)[writers] + 1
        columns = {"shard": names, "line": pa.array(lines, pa.int64())}
        arrays = [columns[name] if name in columns else fates.column(name) for name in LINEAGE.names]
        rows = pa.table(arrays, schema=LINEAGE)
        self._lineage.append(rows, np.full(len(lines), 1, np.int64))
        reasons = [one[0] if one else "" for one in fates.column("reasons").to_pylist()]
        for number, outcome, reason in zip(
            shard_numbers.tolist(), fates.column("outcome").to_pylist(), reasons, strict=True
        ):
            detailed = outcome in (Outcome.QUARANTINED, Outcome.DROPPED)
            accounting[number][f"{outcome}.{reason}" if detailed else outcome] += 1

    def put(self) -> list[Written]:
        written = [part.put() for part in self._parquet] + [part.put() for part in self._jsonl]
        return [*written, self._lineage.put()]

    def discard(self) -> None:
        for part in (*self._parquet, self._lineage):
            part.close()
        for file in self._files:
            file.discard()


# Lineage before places are absolute.
_FATES = pa.schema(
    [pa.field("writer", pa.int32(), nullable=False), *(field for field in LINEAGE if field.name != "shard")]
)


def _merge_sound(
    segment: int, shard: Shard, references: References, cut: Cut, places: Places, out: _ShardFiles
) -> list[pa.Table]:
    """Writes the kept records of a segment that the shard covers; returns the fates of all sound ones."""
    settled_runs = Runs(places.storage, places.folder, "settled", SETTLED)
    settled = settled_runs.table(references["settled"].get(segment, ()))
    settled = settled.filter(pa.array(shard.covers(settled.column("key").to_numpy()))).combine_chunks()
    drops = Runs(places.storage, places.folder, "drops", DROPS).table(references["drops"].get(segment, ()))
    outcomes, reasons = _decide(settled, drops, cut)
    identity = _places_of(settled.column("writer").to_numpy(), settled.column("line").to_numpy())
    order = np.argsort(identity)
    fates, kept, kept_rows = [], [], []
    texts = runs_of(places.storage, places.folder)["texts"]
    for _, batch in texts.read(references["texts"].get(segment, ())):
        batch = batch.filter(pa.array(shard.covers(batch.column("key").to_numpy())))
        if batch.num_rows == 0:
            continue
        wanted = _places_of(batch.column("writer").to_numpy(), batch.column("line").to_numpy())
        found = order[np.searchsorted(identity, wanted, sorter=order)]
        if not np.array_equal(identity[found], wanted):
            raise RuntimeError(f"segment {segment} of texts and settled records don't agree")
        fates.append(_fates(batch, settled.take(pa.array(found)), outcomes[found], reasons.take(pa.array(found))))
        stays = outcomes[found] < len(SPLITS)
        kept.append(batch.filter(pa.array(stays)))
        kept_rows.append(found[stays])
    if sum(len(one) for one in fates) != settled.num_rows:
        raise RuntimeError(f"segment {segment} has settled records without a text")
    if kept:
        rows = np.concatenate(kept_rows)
        by_key = np.argsort(rows, kind="stable")  # settled rows are in the order of key and id
        out.rows(pa.Table.from_batches(kept, TEXTS).take(pa.array(by_key)), outcomes[rows[by_key]])
    return fates


def _decide(settled: pa.Table, drops: pa.Table, cut: Cut) -> tuple[npt.NDArray[np.int8], pa.Array]:
    """int8[N] outcome of each settled record; list<string>[N] why a dropped or duplicate one is not there."""
    bins = settled.column("bin").to_numpy().astype(np.int64)
    outcomes = cut.splits(bins)
    outcomes[bins < 0] = DUPLICATE
    place = pc.index_in(settled.column("id"), value_set=drops.column("id"))
    dropped = np.asarray(pc.is_valid(place).to_numpy(), bool) & (bins >= 0)
    outcomes[dropped] = DROPPED
    how = pc.if_else(settled.column("near"), "near", "exact")
    why = pc.if_else(pa.array(dropped), drops.column("reason").take(place), how)
    has = (outcomes == DUPLICATE) | dropped
    offsets = np.concatenate(([0], np.cumsum(has))).astype(np.int32)
    return outcomes, pa.ListArray.from_arrays(pa.array(offsets), _one_chunk(why.filter(pa.array(has))))


def _fates(texts: pa.RecordBatch, settled: pa.Table, outcomes: npt.NDArray[np.int8], reasons: pa.Array) -> pa.Table:
    """_FATES of sound records."""
    columns: dict[str, Any] = {
        "outcome": _OUTCOMES.take(pa.array(outcomes)),
        "reasons": reasons,
        "kept_id": hex_ids(settled.column("kept_id")),
        "similarity": settled.column("similarity"),
        **{name: hex_ids(texts.column(name)) for name in ("id", "source_id", "group")},
    }
    return pa.table([columns[name] if name in columns else texts.column(name) for name in _FATES.names], schema=_FATES)


def _rejected(segment: int, shard: Shard, references: References, places: Places) -> pa.Table:
    """_FATES of the quarantined lines of a segment that the shard covers."""
    tables = [_FATES.empty_table()]
    for _, batch in runs_of(places.storage, places.folder)["rejects"].read(references["rejects"].get(segment, ())):
        batch = batch.filter(pa.array(shard.covers(batch.column("key").to_numpy())))
        count = batch.num_rows
        columns: dict[str, Any] = {
            "outcome": pa.array([str(Outcome.QUARANTINED)] * count, pa.string()),
            **{name: batch.column(name) for name in ("writer", "line", "offset", "length", "reasons")},
        }
        arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in _FATES]
        tables.append(pa.table(arrays, schema=_FATES))
    return pa.concat_tables(tables)


def _places_of(writers: npt.NDArray[Any], lines: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64[N]: unit and line in one number."""
    return np.asarray((writers.astype(np.int64) << _LINE_BITS) | lines, np.int64)


def _one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece, as kernels over buffers want it."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
