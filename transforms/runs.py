"""Runs: what one task hands to the tasks of the next stage, by reference instead of through the shuffle.

A run is one file, cut into segments; a task reads the same segment of many runs. Rows are routed to
segments by the top bits of a 64-bit key, so any stage finds them without an index.

    run  = segment 0 | segment 1 | …          offsets travel with the reference
    segment = piece*      piece = length (4 bytes, little endian) | zstd frame of one Arrow IPC record batch

Pieces follow the buffer's flushes; their cut changes nothing that is read. Memory is bounded by
`FLUSH_BYTES`, whatever the run weighs.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zstandard

from transforms.storage import Storage, join

FLUSH_BYTES = 32 << 20  # 32 MiB of Arrow buffers
_LEVEL = 1
_LENGTH = struct.Struct("<I")


class Segment(NamedTuple):
    """One segment of one run: who wrote it, and bytes [start, end) of its file."""

    writer: int
    start: int
    end: int


@dataclass(frozen=True)
class Runs:
    """A folder of runs of one kind: `FOLDER/KIND/WRITER.run`."""

    storage: Storage
    folder: str
    kind: str
    schema: pa.Schema

    def uri(self, writer: int) -> str:
        return join(self.folder, self.kind, f"{writer:06d}.run")

    def read(self, segments: Iterable[Segment]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(writer, record batch) for every piece of the segments, writers in order."""
        unpack = zstandard.ZstdDecompressor()
        for segment in sorted(segments):
            content = self.storage.read(self.uri(segment.writer), segment.start, segment.end)
            if len(content) != segment.end - segment.start:
                raise RuntimeError(f"run {self.kind}/{segment.writer} is shorter than its reference says")
            position = 0
            while position < len(content):
                (length,) = _LENGTH.unpack_from(content, position)
                position += _LENGTH.size
                piece = unpack.decompress(content[position : position + length])
                position += length
                yield segment.writer, pa.ipc.read_record_batch(pa.py_buffer(piece), self.schema)

    def rows(self, segments: Iterable[Segment]) -> Rows:
        """All rows of the segments, some at a time."""
        return Rows(self, tuple(segments))

    def table(self, segments: Iterable[Segment]) -> pa.Table:
        """All rows of the segments, writers in order."""
        return pa.Table.from_batches((batch for _, batch in self.read(segments)), self.schema)


@dataclass(frozen=True)
class Rows:
    """The rows of segments, writers in order, read anew each time that one goes through them."""

    runs: Runs
    segments: tuple[Segment, ...]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (batch for _, batch in self.runs.read(self.segments))


def segment_of(keys: npt.NDArray[np.uint64], segments: int) -> npt.NDArray[np.int64]:
    """int64[N] segment of each uint64 key: its top bits. `segments` is a power of two.

    >>> segment_of(np.array([0, 2**63, 2**64 - 1], np.uint64), 4).tolist()
    [0, 2, 3]
    """
    bits = segments.bit_length() - 1
    if segments != 1 << bits:
        raise ValueError(f"segments = {segments} is not a power of two")
    if bits == 0:
        return np.zeros(len(keys), np.int64)
    return (keys >> np.uint64(64 - bits)).astype(np.int64)


class RunWriter:
    """Takes rows in any order and puts the run whole at the end; until then it is in the folder `spool`.

    Use as a context manager.
    """

    def __init__(self, schema: pa.Schema, segments: int, spool: str | None = None) -> None:
        self._schema = schema
        self._folder = spool
        self._segments = segments
        self._pending: list[pa.RecordBatch] = []
        self._targets: list[npt.NDArray[np.int64]] = []
        self._pending_bytes = 0
        self._spool = tempfile.TemporaryFile(prefix="corpusmill-", dir=spool)  # noqa: SIM115
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(segments)]
        self._pack = zstandard.ZstdCompressor(level=_LEVEL)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def append(self, rows: pa.RecordBatch, targets: npt.NDArray[np.int64]) -> None:
        """Adds rows; `targets` int64[N] is the segment of each."""
        if rows.num_rows == 0:
            return
        self._pending.append(rows)
        self._targets.append(targets)
        self._pending_bytes += rows.get_total_buffer_size()
        if self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = pa.Table.from_batches(self._pending, self._schema)
        targets = np.concatenate(self._targets)
        order = np.argsort(targets, kind="stable")
        if self._segments > 1:
            rows = rows.take(pa.array(order))
        bounds = np.searchsorted(targets[order], np.arange(self._segments + 1))
        for number in np.flatnonzero(np.diff(bounds)):
            piece = rows.slice(bounds[number], bounds[number + 1] - bounds[number]).combine_chunks()
            for batch in piece.to_batches():
                packed = self._pack.compress(batch.serialize())
                start = self._spool.tell()
                self._spool.write(_LENGTH.pack(len(packed)))
                self._spool.write(packed)
                self._pieces[number].append((start, self._spool.tell()))
        self._pending, self._targets, self._pending_bytes = [], [], 0

    def finish(self, runs: Runs, writer: int) -> list[int]:
        """Puts the run at its place; returns its segments' offsets, `segments + 1` of them. Of no rows nothing is put."""
        self._flush()
        if not any(self._pieces):
            return [0] * (self._segments + 1)
        offsets = [0]
        handle, target = tempfile.mkstemp(prefix="corpusmill-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as out:
                for pieces in self._pieces:
                    for start, end in pieces:
                        self._spool.seek(start)
                        out.write(self._spool.read(end - start))
                    offsets.append(out.tell())
            runs.storage.put_file(runs.uri(writer), target)
        finally:
            if os.path.exists(target):
                os.unlink(target)
        return offsets


def segments_of(writer: int, offsets: list[int]) -> Iterator[tuple[int, Segment]]:
    """(segment number, reference) for the segments of a run that are not empty."""
    for number, (start, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        if end > start:
            yield number, Segment(writer, start, end)
