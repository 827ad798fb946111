"""Merge: one range of shuffle keys becomes one shard of each split, in Parquet and JSONL, and its lineage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.canonical import conversation_lines
from transforms.index import OWNERS, PUBLISHED, key_words, put_part
from transforms.mill import TEXTS, runs_of
from transforms.options import WriteOptions
from transforms.reasons import SPLITS, Outcome
from transforms.runs import Runs, RunWriter, Segment, segment_of
from transforms.schema import DATA, LINEAGE
from transforms.settle import DROPPED, DROPS_BY_CODE, DUPLICATE, FOLLOWERS, OPEN, SETTLED
from transforms.split import DROPS, EVAL, Cut
from transforms.storage import Storage, join
from transforms.write import FileWriter, JsonlShard, ParquetShard, Written, data_table, hex_ids, shard_name

_OUTCOMES = pa.array([*SPLITS, Outcome.DUPLICATE, Outcome.DROPPED], pa.string())
_REASONS = pa.array([str(reason) for reason in DROPS_BY_CODE], pa.string())
_LINE_BITS = 40

# What a merge tells the tasks that write the index: kept records by id, owners by owner.
PUBLISHED_RUNS = {"published": PUBLISHED, "owners": OWNERS}


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
    index_segments: int  # of the runs of which the index is made


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
    shard: Shard,
    references: References,
    segments: int,
    cut: Cut,
    options: WriteOptions,
    places: Places,
    published: pa.Table,
    watched: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the shard's files, and the runs of which the index is made; returns them, the accounting of each
    input shard, and of those `watched` ids that it meets where they are from and what became of them.

    `published` (PUBLISHED) is what the shard's part of the index takes over.
    """
    splits = [split for split in range(len(SPLITS)) if not (cut.frozen and split == EVAL)]
    out = _ShardFiles(shard, options, places, splits, published, watched)
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
            "runs": out.put_runs(),
            "writer": shard.index,
            "seen": out.seen,
            "accounting": {str(number): dict(counts) for number, counts in sorted(accounting.items())},
        }
    finally:
        out.discard()


class _ShardFiles:
    """The open files of one shard, of the splits that are written: a frozen eval gets no more files."""

    def __init__(
        self,
        shard: Shard,
        options: WriteOptions,
        places: Places,
        splits: Sequence[int],
        published: pa.Table,
        watched: Sequence[str],
    ) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self._watched = pa.array(watched, pa.string())
        self._shard, self._places = shard, places
        self._published = [published]
        self._splits = splits
        self._files: list[FileWriter] = []
        self._parquet: dict[int, ParquetShard] = {}
        self._jsonl: dict[int, JsonlShard] = {}

        spool = places.storage.spool(places.folder)
        self._runs = {kind: RunWriter(schema, places.index_segments, spool) for kind, schema in PUBLISHED_RUNS.items()}

        def file(folder: str, name: str, kind: str, split: str | None = None) -> FileWriter:
            path = join(folder, places.name, name)
            self._files.append(FileWriter(places.storage, places.output, path, kind, split, spool))
            return self._files[-1]

        for code in splits:
            split = SPLITS[code]
            if options.parquet:
                name = shard_name(split, shard.index, shard.count, "parquet")
                self._parquet[code] = ParquetShard(file("data", name, "parquet", split), DATA)
            if options.jsonl:
                name = shard_name(split, shard.index, shard.count, "jsonl")
                self._jsonl[code] = JsonlShard(file("jsonl", name, "jsonl", split))
        name = shard_name("part", shard.index, shard.count, "parquet")
        self._lineage = ParquetShard(file("lineage", name, "lineage"), LINEAGE)

    def rows(self, texts: pa.Table, splits: npt.NDArray[np.int8]) -> None:
        """Adds kept TEXTS, in order, to the split of each."""
        for split in self._splits:
            mine = texts.filter(pa.array(splits == split)).combine_chunks()
            if self._parquet:
                self._parquet[split].append(data_table(mine), mine.column("n_bytes").to_numpy())
            if self._jsonl and mine.num_rows:
                messages, tools = (_one_chunk(mine.column(name)) for name in ("messages", "tools"))
                self._jsonl[split].append(conversation_lines(messages, tools, weight=True))
        self._index(texts, pa.array(splits, pa.int8()))

    def _index(self, texts: pa.Table, splits: pa.Array) -> None:
        """Notes what the next refresh must know of kept TEXTS."""
        none = pa.nulls(texts.num_rows, pa.binary(16))
        published = pa.table([texts.column("key"), texts.column("id"), splits, none], schema=PUBLISHED)
        self._published.append(published)
        for kind, rows in (("published", published), ("owners", owners_of(texts, splits))):
            keys = key_words("sketches" if kind == "published" else kind, rows)
            for batch, targets in _batches(rows, segment_of(keys, self._places.index_segments)):
                self._runs[kind].append(batch, targets)

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
        for one in rows.filter(pc.is_in(rows.column("id"), value_set=self._watched)).to_pylist():
            if one["reasons"] != ["exact"]:  # copies tell nothing that the record they copy does not
                self.seen[one["id"]] = {"outcome": one["outcome"], "place": f"{one['shard']}:{one['line']}"}
        reasons = [one[0] if one else "" for one in fates.column("reasons").to_pylist()]
        for number, outcome, reason in zip(
            shard_numbers.tolist(), fates.column("outcome").to_pylist(), reasons, strict=True
        ):
            detailed = outcome in (Outcome.QUARANTINED, Outcome.DROPPED)
            accounting[number][f"{outcome}.{reason}" if detailed else outcome] += 1

    def put(self) -> list[Written]:
        written = [part.put() for part in self._parquet.values()] + [part.put() for part in self._jsonl.values()]
        places, shard = self._places, self._shard
        published = pa.concat_tables(self._published)
        part = put_part(places.storage, places.output, places.name, "records", shard.index, shard.count, published)
        return [*written, self._lineage.put(), part]

    def put_runs(self) -> dict[str, list[int]]:
        """Puts the runs of which the rest of the index is made; returns their segments' offsets."""
        storage, folder = self._places.storage, self._places.folder
        return {
            kind: run.finish(Runs(storage, folder, kind, PUBLISHED_RUNS[kind]), self._shard.index)
            for kind, run in self._runs.items()
        }

    def discard(self) -> None:
        for run in self._runs.values():
            run.__exit__()
        for part in (*self._parquet.values(), self._lineage):
            part.close()
        for file in self._files:
            file.discard()


def owners_of(texts: pa.Table, splits: pa.Array) -> pa.Table:
    """OWNERS of kept TEXTS: every source id with its record, and every group once."""
    none = pa.nulls(texts.num_rows, pa.binary(16))
    columns = {"split": splits, "id": texts.column("id"), "replaced_by": none}
    sources = pa.table({"owner": texts.column("source_id"), **columns})
    groups = pa.table({"owner": texts.column("group"), **columns, "id": none}).group_by(OWNERS.names).aggregate([])
    return pa.concat_tables(
        one.filter(pc.is_valid(one.column("owner"))).cast(OWNERS).combine_chunks() for one in (sources, groups)
    )


def _batches(rows: pa.Table, targets: npt.NDArray[np.int64]) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
    """Record batches, with their part of `targets`."""
    position = 0
    for batch in rows.to_batches():
        yield batch, targets[position : position + batch.num_rows]
        position += batch.num_rows


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
    renamed = Runs(places.storage, places.folder, "renamed", FOLLOWERS).table(references["renamed"].get(segment, ()))
    settled = _name_look_alikes(_rename(settled, renamed), drops)
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


def _rename(settled: pa.Table, renamed: pa.Table) -> pa.Table:
    """SETTLED in which near-duplicates name the record that is published instead of the one that it is known by."""
    place = pc.index_in(settled.column("id"), value_set=renamed.column("id").combine_chunks())
    meant = renamed.column("kept_id").take(place)
    now = pc.and_(settled.column("near"), pc.is_valid(place))
    number = settled.schema.get_field_index("kept_id")
    return settled.set_column(number, SETTLED.field(number), pc.if_else(now, meant, settled.column("kept_id")))


def _name_look_alikes(settled: pa.Table, drops: pa.Table) -> pa.Table:
    """SETTLED in which records that are left out, and their copies, name the one that they resemble, where DROPS do."""
    named = drops.filter(pc.is_valid(drops.column("kept_id")))
    place = pc.index_in(settled.column("id"), value_set=named.column("id").combine_chunks())
    now = pc.and_(pc.is_valid(place), pa.array(settled.column("fate").to_numpy() < DROPPED))
    for name in ("kept_id", "similarity"):
        number = settled.schema.get_field_index(name)
        column = pc.if_else(now, named.column(name).take(place), settled.column(name))
        settled = settled.set_column(number, SETTLED.field(number), column)
    return settled


def _decide(settled: pa.Table, drops: pa.Table, cut: Cut) -> tuple[npt.NDArray[np.int8], pa.Array]:
    """int8[N] outcome of each settled record; list<string>[N] why a dropped or duplicate one is not there."""
    fates = settled.column("fate").to_numpy()
    fates = np.where(fates == OPEN, cut.splits(settled.column("bin").to_numpy().astype(np.int64)), fates)
    place = pc.index_in(settled.column("id"), value_set=drops.column("id"))
    looks_alike = np.asarray(pc.is_valid(place).to_numpy(), bool) & (fates < DROPPED)  # copies of it too
    codes = np.where(fates >= DROPPED, fates - DROPPED, 0)
    why = _REASONS.take(pa.array(codes, pa.int32()))
    how = pc.if_else(settled.column("near"), "near", "exact")
    why = pc.if_else(pa.array(fates == DUPLICATE), how, why)
    why = pc.if_else(pa.array(looks_alike), drops.column("reason").take(place), why)
    outcomes = np.where(looks_alike, DROPPED, np.minimum(fates, DROPPED)).astype(np.int8)
    has = outcomes >= DUPLICATE
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
    """_FATES of the lines of a segment that the shard covers and that came no further than the mill."""
    tables = [_FATES.empty_table()]
    for _, batch in runs_of(places.storage, places.folder)["rejects"].read(references["rejects"].get(segment, ())):
        batch = batch.filter(pa.array(shard.covers(batch.column("key").to_numpy())))
        count = batch.num_rows
        columns: dict[str, Any] = {
            "outcome": pc.if_else(
                pc.is_in(pc.list_element(batch.column("reasons"), 0), value_set=_REASONS),
                str(Outcome.DROPPED),
                str(Outcome.QUARANTINED),
            ),
            **{name: hex_ids(batch.column(name)) for name in ("id", "source_id", "group")},
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
