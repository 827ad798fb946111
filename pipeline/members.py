"""Who is in a snapshot: record ids and their splits, compared in memory that does not grow with the dataset.

Ids are dealt by their first bits into partitions in a temporary folder on this machine, 20 bytes each, and looked
at a partition at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.snapshots import Dataset
from transforms.canonical import id_of_said
from transforms.exact import id_words, ids_of
from transforms.runs import Runs, RunWriter, Segment, segment_of, segments_of
from transforms.storage import Storage

PARTITION_ROWS = 1 << 20
MOST_PARTITIONS = 4096

_MEMBERS = pa.schema([pa.field("id", pa.binary(16), nullable=False), pa.field("code", pa.int32(), nullable=False)])
_NIBBLES = np.full(256, 16, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Members:
    """A set of (id, code) pairs on disk. Use as a context manager; add first, then look at `partitions`."""

    def __init__(self, rows: int) -> None:
        """`rows` is about how many will come."""
        self._partitions = min(MOST_PARTITIONS, 1 << max(0, (rows // PARTITION_ROWS)).bit_length())
        self._folder = tempfile.TemporaryDirectory(prefix="corpusmill-")
        self._writer = RunWriter(_MEMBERS, self._partitions, self._folder.name)

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__()
        self._folder.cleanup()

    def add(self, ids: npt.NDArray[np.uint64], codes: int | npt.NDArray[np.int32]) -> None:
        """Adds ids as uint64[N, 2] with their codes (int32[N], or one for all)."""
        codes = np.broadcast_to(np.asarray(codes, np.int32), len(ids))
        rows = pa.RecordBatch.from_arrays([ids_of(ids), pa.array(codes)], schema=_MEMBERS)
        self._writer.append(rows, segment_of(np.ascontiguousarray(ids[:, 0]), self._partitions))

    def partitions(self) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]]:
        """(uint64[N, 2] ids, int32[N] codes) of each partition, sorted by id, then code."""
        runs = Runs(Storage(), self._folder.name, "members", _MEMBERS)
        for _, segment in segments_of(0, self._writer.finish(runs, 0)):
            yield _sorted(runs, segment)


def _sorted(runs: Runs, segment: Segment) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    table = runs.table([segment])
    words, codes = id_words(table.column("id")), table.column("code").to_numpy()
    order = np.lexsort((codes, words[:, 1], words[:, 0]))
    return words[order], np.asarray(codes[order], np.int32)


def firsts(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """int64[D]: where each distinct id of sorted ids starts."""
    new = np.ones(len(ids), bool)
    new[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    return np.flatnonzero(new)


def read_ids(dataset: Dataset, entry: Mapping[str, Any]) -> Iterator[npt.NDArray[np.uint64]]:
    """uint64[N, 2] ids of the records of a data file, some thousand at a time; only its id column is read.

    Raises ValueError where an id is not 32 hex digits.
    """
    with dataset.storage.open(dataset.uri(entry["path"])) as stream:
        if entry["kind"] == "parquet":
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=1 << 16, columns=["id"]):
                yield unhex(batch.column("id"))
        else:
            lines: list[str] = []
            for line in stream:
                lines.append(id_of_line(line))
                if len(lines) == 1 << 12:
                    yield unhex(pa.array(lines))
                    lines = []
            yield unhex(pa.array(lines, pa.string()))


def unhex(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """uint64[N, 2] of ids in hex. Raises ValueError where one is not 32 hex digits.

    >>> unhex(pa.array(["0" * 31 + "a"])).tolist()
    [[0, 10]]
    """
    digits = np.frombuffer("".join(ids.to_pylist()).encode("ascii", "replace"), np.uint8)
    nibbles = _NIBBLES[digits]
    lengths = np.array([len(one) for one in ids.to_pylist()])
    if (lengths != 32).any() or (nibbles > 15).any():
        raise ValueError("an id is not 32 hex digits")
    packed = (nibbles[::2] << 4 | nibbles[1::2]).astype(np.uint8)
    return packed.view(">u8").astype(np.uint64).reshape(-1, 2)


def id_of_line(line: bytes) -> str:
    """The id of a JSONL line."""
    return id_of_said(orjson.loads(line)).hex()


def data_files(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files that hold each record once, the newest snapshot's first: Parquet where it is written, else JSONL."""
    kind = "parquet" if any(one["kind"] == "parquet" for one in manifest["files"]) else "jsonl"
    files = [one for one in manifest["files"] if one["kind"] == kind]
    return sorted(files, key=lambda one: one["path"].split("/")[1], reverse=True)
