"""Compact: the many small files of many nights become few of about `write.shard_bytes`.

Files of half that size and more, and all of eval, stay as they are. Of train and val the small ones are merged by
shuffle key: part `i` of `n` holds the keys of `Shard(i, n)`, in order, as a run would have written them. Small parts
of the index are merged by kind; of snapshots whose lineage is small, lineage and accounts become one. Records, fates
and accounts are the same before and after, which is checked before the commit.

A part is put together in memory: `write.shard_bytes` of records at a time, whatever the dataset weighs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.members import id_of_line
from pipeline.rewrite import Entry, Rewrite, outcomes_of, read_columns, row_groups, weights_of
from pipeline.snapshots import Dataset, origin_of
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.index import SCHEMAS, Index, key_words, parts_of, put_part
from transforms.merge import Shard
from transforms.reasons import Outcome
from transforms.schema import DATA, LINEAGE
from transforms.storage import join
from transforms.write import ParquetShard, shard_name

INDEX_BYTES = 32 << 20  # 32 MiB a part of the index
LINEAGE_ROWS = 1 << 20  # a part of the lineage
MIN_FILES = 8

Words = npt.NDArray[np.uint64]


class Census(NamedTuple):
    """What must be the same before and after: records of each split with a sum over their ids, lines by outcome, and
    rows of the index by kind."""

    records: dict[str, tuple[int, int]]
    lines: dict[str, int]
    parts: dict[str, int]


def compact_dataset(dataset: Dataset, keys: Keys, min_files: int = MIN_FILES) -> dict[str, Any]:
    """Commits a snapshot with fewer files; returns what was merged. Kinds with fewer small files stay as they are."""
    with Rewrite(dataset, "compact", min_files) as rewrite:
        return _compact(rewrite, keys, min_files)


def _compact(rewrite: Rewrite, keys: Keys, min_files: int) -> dict[str, Any]:
    before = take_census(rewrite)
    merged: Counter[str] = Counter()
    size = int(rewrite.parent["config"]["write"]["shard_bytes"])
    for split in (Outcome.TRAIN.value, Outcome.VAL.value):
        merged[split] = _merge_split(rewrite, split, size, keys, min_files)
    for kind in SCHEMAS:
        merged[f"index_{kind}"] = _merge_index(rewrite, kind, min_files)
    merged["lineage"] = _merge_lineage(rewrite, size, min_files)
    done = {name: count for name, count in merged.items() if count}
    if done and take_census(rewrite) != before:
        raise RuntimeError("what was merged is not what there was; nothing was committed")
    files = len(rewrite.files)
    manifest = rewrite.commit({f"merged_{name}": count for name, count in done.items()}) if done else rewrite.parent
    return {
        "dataset": rewrite.dataset.root,
        "snapshot": manifest["snapshot"],
        "plan": manifest["plan"],
        "committed": bool(done),
        "merged": done,
        "files_before": sum(one["kind"] != "report" for one in rewrite.parent["files"]),
        "files_after": files,
        "bytes_written": sum(one["bytes"] for one in rewrite.files if rewrite.name in one["path"]),
    }


def _merge_split(rewrite: Rewrite, split: str, size: int, keys: Keys, min_files: int) -> int:
    """Merges the small shards of a split; returns how many there were."""
    small = []
    weight = 0
    for parquet, jsonl in rewrite.twins(split):
        n_bytes = jsonl["bytes"] - jsonl["rows"] if jsonl else _unpacked_bytes(rewrite, parquet or {})
        if n_bytes < size // 2:
            small.append((parquet, jsonl))
            weight += n_bytes
    count = max(1, -(-weight // size))
    if len(small) < max(min_files, 2) or count >= len(small):
        return 0
    sources = [_Source(rewrite, parquet, jsonl, count, keys) for parquet, jsonl in small]
    for number in range(count):
        if small[0][0] is not None:
            path = join("data", rewrite.name, shard_name(split, number, count, "parquet"))
            shard = ParquetShard(rewrite.writer(path, "parquet", split), DATA)
            rows, found = _gather([(source.rows(number), source.keys_of(number)) for source in sources])
            for start in range(0, rows.num_rows, 4096):
                block = rows.take(pa.array(found[start : start + 4096])).combine_chunks()
                shard.append(block, weights_of(block))
            rewrite.add(shard.put())
        if small[0][1] is not None:
            path = join("jsonl", rewrite.name, shard_name(split, number, count, "jsonl"))
            out = rewrite.writer(path, "jsonl", split)
            lines = [line for source in sources for line in source.lines(number)]
            for place in _order([source.keys_of(number) for source in sources]).tolist():
                out.stream.write(lines[place])
                out.rows += 1
            rewrite.add(out.put())
    _unlist(rewrite, [one for pair in small for one in pair if one is not None])
    return len(small)


class _Source:
    """A small shard: where each part of the merged ones starts in it."""

    def __init__(self, rewrite: Rewrite, parquet: Entry | None, jsonl: Entry | None, count: int, keys: Keys) -> None:
        self._rewrite, self._parquet, self._jsonl = rewrite, parquet, jsonl
        if parquet is not None:
            ids = read_columns(rewrite.dataset, parquet, ["id"]).column("id").to_pylist()
        else:
            ids = [id_of_line(line) for line in self._all_lines()]
        said = [bytes.fromhex(one) for one in ids]
        found = np.array([keys.shuffle_key(one) for one in said], np.uint64)
        self._keys = np.column_stack([found, id_words(pa.array(said, pa.binary(16)))])
        if len(found) and (found[1:] < found[:-1]).any():
            raise RuntimeError("a shard is not in the order of its keys")
        self._bounds = np.append(
            np.searchsorted(found, [Shard(number, count).first for number in range(count)]), len(found)
        )

    def _slice(self, number: int) -> tuple[int, int]:
        return int(self._bounds[number]), int(self._bounds[number + 1])

    def keys_of(self, number: int) -> Words:
        """uint64[N, 3]: key and id of the rows of a part."""
        first, last = self._slice(number)
        return self._keys[first:last]

    def rows(self, number: int) -> pa.Table:
        """DATA rows of a part; row groups without any stay unread."""
        first, last = self._slice(number)
        tables, start = [DATA.empty_table()], 0
        assert self._parquet is not None
        with self._rewrite.dataset.storage.open(self._rewrite.uri(self._parquet)) as stream:
            source = pq.ParquetFile(stream)
            for group in range(source.num_row_groups):
                size = source.metadata.row_group(group).num_rows
                if start < last and first < start + size:
                    table = source.read_row_group(group).cast(DATA)
                    tables.append(table.slice(max(0, first - start), min(last, start + size) - max(first, start)))
                start += size
        return pa.concat_tables(tables)

    def lines(self, number: int) -> list[bytes]:
        """JSONL lines of a part."""
        first, last = self._slice(number)
        return [line for place, line in enumerate(self._all_lines()) if first <= place < last]

    def _all_lines(self) -> Iterator[bytes]:
        assert self._jsonl is not None
        with self._rewrite.dataset.storage.open(self._rewrite.uri(self._jsonl)) as stream:
            yield from stream


def _gather(parts: Sequence[tuple[pa.Table, Words]]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Rows of several shards end to end, and the order of their keys."""
    return pa.concat_tables(rows for rows, _ in parts), _order([keys for _, keys in parts])


def _order(keys: Sequence[Words]) -> npt.NDArray[np.int64]:
    words = np.concatenate(keys)
    return np.lexsort((words[:, 2], words[:, 1], words[:, 0])).astype(np.int64)


def _unpacked_bytes(rewrite: Rewrite, parquet: Entry) -> int:
    """Bytes of a Parquet shard before compression."""
    with rewrite.dataset.storage.open(rewrite.uri(parquet)) as stream:
        found = pq.ParquetFile(stream).metadata
        return sum(found.row_group(group).total_byte_size for group in range(found.num_row_groups))


def _unlist(rewrite: Rewrite, entries: Sequence[Entry]) -> None:
    gone = {one["path"] for one in entries}
    rewrite.files = [one for one in rewrite.files if one["path"] not in gone]


def _merge_index(rewrite: Rewrite, kind: str, min_files: int) -> int:
    """Merges the small parts of a kind of the index; returns how many there were."""
    of_kind = [one for one in rewrite.of_kind("index") if parts_of([one["path"]])[0].kind == kind]
    small = [one for one in of_kind if one["bytes"] < INDEX_BYTES // 2]
    count = max(1, -(-sum(one["bytes"] for one in small) // INDEX_BYTES))
    if len(small) < max(min_files, 2) or count >= len(small):
        return 0
    storage, root = rewrite.dataset.storage, rewrite.dataset.root
    parts = parts_of(one["path"] for one in small)
    for number in range(count):
        tables = [SCHEMAS[kind].empty_table()]
        for part in parts:
            if part.overlaps(number, count):
                (rows,) = Index(storage, root, (part,)).all(kind)
                tables.append(rows.filter(pa.array(Shard(number, count).covers(key_words(kind, rows)))))
        rows = pa.concat_tables(tables).combine_chunks()
        rewrite.add(put_part(storage, root, rewrite.name, kind, number, count, rows))
    _unlist(rewrite, small)
    return len(small)


def _merge_lineage(rewrite: Rewrite, size: int, min_files: int) -> int:
    """Merges lineage and accounts of those snapshots whose files of it are all small; returns how many there were."""
    by_origin: dict[str, list[Entry]] = {}
    for one in sorted(rewrite.of_kind("lineage"), key=lambda one: str(one["path"])):
        by_origin.setdefault(origin_of(one["path"]), []).append(one)
    small = {origin: files for origin, files in by_origin.items() if all(one["bytes"] < size // 2 for one in files)}
    files = [one for origin in sorted(small) for one in small[origin]]
    rows = sum(one["rows"] for one in files)
    count = max(1, -(-rows // LINEAGE_ROWS))
    if len(files) < max(min_files, 2) or count >= len(files):
        return 0
    blocks = _Lines(rewrite, files)
    for number in range(count):
        path = join("lineage", rewrite.name, shard_name("part", number, count, "parquet"))
        shard = ParquetShard(rewrite.writer(path, "lineage"), LINEAGE)
        room = rows * (number + 1) // count - rows * number // count
        for block in blocks.take(room):
            shard.append(block, np.ones(block.num_rows, np.int64))
        rewrite.add(shard.put())
    inputs = [one for one in rewrite.of_kind("inputs") if origin_of(one["path"]) in small]
    table = pa.concat_tables(
        pq.read_table(io.BytesIO(rewrite.dataset.storage.read(rewrite.uri(one))))
        for one in sorted(inputs, key=lambda one: origin_of(one["path"]))
    )
    rewrite.add(rewrite.put_table(join("snapshots", f"{rewrite.name}-inputs.parquet"), "inputs", table))
    _unlist(rewrite, [*files, *inputs])
    return len(files)


class _Lines:
    """The rows of lineage files end to end, to be taken some at a time."""

    def __init__(self, rewrite: Rewrite, files: Sequence[Entry]) -> None:
        self._blocks = self._read(rewrite, files)
        self._left = LINEAGE.empty_table()

    @staticmethod
    def _read(rewrite: Rewrite, files: Sequence[Entry]) -> Iterator[pa.Table]:
        for one in files:
            with rewrite.dataset.storage.open(rewrite.uri(one)) as stream:
                yield from row_groups(stream, LINEAGE)

    def take(self, rows: int) -> Iterator[pa.Table]:
        """The next so many rows, in blocks."""
        while rows:
            if not self._left.num_rows:
                self._left = next(self._blocks)
            block = self._left.slice(0, rows)
            self._left = self._left.slice(block.num_rows)
            rows -= block.num_rows
            if block.num_rows:
                yield block


def take_census(rewrite: Rewrite) -> Census:
    """What the live files hold: ids and fates are read."""
    records: dict[str, tuple[int, int]] = {}
    kind = "parquet" if rewrite.of_kind("parquet") else "jsonl"
    for entry in rewrite.of_kind(kind):
        count, total = records.get(entry["split"], (0, 0))
        ids = _ids(rewrite, entry)
        records[entry["split"]] = count + len(ids), (total + sum(int(one, 16) for one in ids)) % (1 << 128)
    lines: Counter[str] = Counter()
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["outcome", "reasons"])
        lines.update(outcomes_of(rows))
    index: Counter[str] = Counter()
    for entry in rewrite.of_kind("index"):
        index[parts_of([entry["path"]])[0].kind] += entry["rows"]
    return Census(records, dict(lines), dict(index))


def _ids(rewrite: Rewrite, entry: Entry) -> list[str]:
    if entry["kind"] == "parquet":
        return list(read_columns(rewrite.dataset, entry, ["id"]).column("id").to_pylist())
    with rewrite.dataset.storage.open(rewrite.uri(entry)) as stream:
        return [id_of_line(line) for line in stream]
