"""Bytes to lines: ranges of plain files, archives, JSON arrays.

A plain file is cut into byte ranges, and a range owns the lines that start in it:

    range      |0 …………………………………… |1 …………………………… |2 ……………
    file       {…}⏎{…}⏎{…………………………………}⏎{…}⏎{…………………}⏎{…}⏎
    owned by    0    0    0             1    1           2

Lines split on the byte `\\n` only. An archive cannot be entered in the middle: it is one unit, as is a JSON array.
At any time about `block_bytes` and one line are held; a line above `max_line_bytes` is measured, not held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection

import transforms.coder  # noqa: F401  (registers the coder of record batches)
from transforms.json_array import SPACE, ArraySplitter
from transforms.options import ReadOptions
from transforms.reasons import Note, Reason
from transforms.schema import LINES, REASONS
from transforms.storage import Storage
from transforms.unpack import Compression, Damaged, unpack

Form = Literal["lines", "array"]

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_CHUNK = 256 << 10  # 256 KiB read at a time: what a block can go over its bytes, and 131,072 lines of one byte
_REST = 64 << 10  # 64 KiB read at a time for the end of a range's last line
_ROW_BYTES = 64  # what a row weighs at least when blocks are measured, so that short lines don't pile up
_PEEK = 64 << 10  # a file that begins with 64 KiB of space is read as lines

_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst", ".zstd": "zst", ".bz2": "bz2"}


class InputChanged(RuntimeError):
    """An input is shorter than it was when the run was planned."""


# ------------------------------------------------------------------------------------------ work units


@dataclass(frozen=True)
class WorkUnit:
    """What one worker reads: bytes [start, end) of a stored file of `size` bytes."""

    uri: str
    shard: int  # place of the input in the sorted listing
    start: int
    end: int
    size: int
    compression: Compression
    form: Form


def form_of(name: str) -> tuple[Compression, Form]:
    """How a file is packed, and whether it may be a JSON array, by its name.

    >>> form_of("a.jsonl"), form_of("logs/a.JSON.gz"), form_of("a.zstd")
    (('', 'lines'), ('gz', 'array'), ('zst', 'lines'))
    """
    path = PurePosixPath(name.lower())
    compression = _COMPRESSIONS.get(path.suffix, "")
    suffix = PurePosixPath(path.stem).suffix if compression else path.suffix
    return compression, "array" if suffix == ".json" else "lines"


def cut_units(uri: str, shard: int, size: int, options: ReadOptions) -> list[WorkUnit]:
    """The units of one file: ranges of `unit_bytes` of plain lines, else one. An empty file has one too."""
    compression, form = form_of(uri)
    step = options.unit_bytes if form == "lines" and not compression else max(size, 1)
    return [
        WorkUnit(uri, shard, start, min(start + step, size), size, compression, form)
        for start in range(0, max(size, 1), step)
    ]


# ---------------------------------------------------------------------------------------------- blocks


@dataclass
class ReadStats:
    """What a reader met: `lines - blank` is the number of rows it gave."""

    lines: int = 0  # physical lines, or elements; a corrupt tail counts as one
    blank: int = 0
    notes: Counter[Note] = field(default_factory=Counter)
    corrupt: bool = False


class _Block:
    """Rows on their way into a record batch."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.lines: list[int] = []
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.texts: list[bytes | None] = []
        self.refused: list[tuple[int, Reason]] = []  # row and why
        self.held = 0  # bytes

    def add(self, line: int, offset: int, length: int, text: bytes | None, reason: Reason | None = None) -> None:
        if reason is not None:
            self.refused.append((len(self.lines), reason))
        self.lines.append(line)
        self.offsets.append(offset)
        self.lengths.append(length)
        self.texts.append(text)
        self.held += length if text is not None else 0

    def take(self) -> pa.RecordBatch:
        """The rows so far as LINES; the block is empty afterwards."""
        starts = np.zeros(len(self.lines) + 1, np.int32)
        for row, _ in self.refused:
            starts[row + 1] = 1
        reasons = pa.ListArray.from_arrays(
            pa.array(np.cumsum(starts, dtype=np.int32)),
            pa.array([reason.value for _, reason in self.refused], pa.string()),
            type=REASONS,
        )
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array(self.lines, pa.int64()),
                pa.array(self.offsets, pa.int64()),
                pa.array(self.lengths, pa.int64()),
                pa.array(self.texts, pa.large_binary()),
                reasons,
            ],
            schema=LINES,
        )
        self._clear()
        return batch


class LineSplitter:
    """Bytes to lines."""

    def __init__(self, block: _Block, stats: ReadStats, max_bytes: int, offset: int) -> None:
        self._block, self._stats, self._max_bytes = block, stats, max_bytes
        self._offset = offset  # where the line under way starts
        # The line under way: its length so far, its first bytes (no more than count), what cannot be told from these.
        self._length = self._held = 0
        self._parts: list[bytes] = []
        self._last = b""
        self._rest_blank = True

    @property
    def pending(self) -> bool:
        """A line has begun and not ended."""
        return self._length > 0

    def feed(self, chunk: bytes) -> None:
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        if pieces:
            self._hold(pieces[0])
            self._close(newline=True)
            self._whole(pieces)
        self._hold(rest)

    def finish(self, *, damaged: bool) -> None:
        """After the last chunk: the line without newline, or the tail of a damaged archive."""
        if damaged:
            self._block.add(self._stats.lines, self._offset, self._length, None, Reason.CORRUPT_SHARD)
            self._stats.lines += 1
            self._stats.corrupt = True
        elif self.pending:
            self._stats.notes[Note.NO_FINAL_NEWLINE] += 1
            self._close(newline=False)

    def _whole(self, pieces: list[bytes]) -> None:
        """All lines but the first, which may have begun in an earlier chunk."""
        block, max_bytes = self._block, self._max_bytes
        line, offset = self._stats.lines, self._offset
        blank = crlf = 0
        first = line
        for place in range(1, len(pieces)):
            text = pieces[place]
            raw = length = len(text)
            if text[:1] in _BLANK and not text.strip(_BLANK):
                blank += 1
                crlf += text[-1:] == b"\r"
            else:
                if text[-1] == 13:
                    crlf += 1
                    length -= 1
                    text = text[:-1]
                if length <= max_bytes:
                    block.lines.append(line)
                    block.offsets.append(offset)
                    block.lengths.append(length)
                    block.texts.append(text)
                    block.held += length
                else:
                    block.add(line, offset, length, None, Reason.LINE_TOO_LONG)
            line += 1
            offset += raw + 1
        self._stats.lines += line - first
        self._stats.blank += blank
        if crlf:
            self._stats.notes[Note.CRLF] += crlf
        self._offset = offset

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._length += len(piece)
        self._last = piece[-1:]
        room = self._max_bytes + len(_BOM) + 1 - self._held  # one more for a carriage return
        if room > 0:
            self._parts.append(piece[:room])
            self._held += min(room, len(piece))
        if len(piece) > room:
            self._rest_blank = self._rest_blank and not piece[max(room, 0) :].strip(_BLANK)

    def _close(self, *, newline: bool) -> None:
        """Ends the line under way."""
        text = b"".join(self._parts)
        offset, length, line = self._offset, self._length, self._stats.lines
        self._offset += self._length + 1
        self._stats.lines += 1
        if offset == 0 and text.startswith(_BOM):
            self._stats.notes[Note.BOM] += 1
            text = text[len(_BOM) :]
            offset += len(_BOM)
            length -= len(_BOM)
        if self._last == b"\r":
            length -= 1
            if newline:
                self._stats.notes[Note.CRLF] += 1
        if self._rest_blank and not text.strip(_BLANK):
            self._stats.blank += 1
        elif length > self._max_bytes:
            self._block.add(line, offset, length, None, Reason.LINE_TOO_LONG)
        else:
            self._block.add(line, offset, length, text[:length])
        self._length = self._held = 0
        self._parts = []
        self._last = b""
        self._rest_blank = True


class ElementSplitter:
    """Bytes to the elements of a JSON array; `line` is an element's ordinal."""

    def __init__(self, block: _Block, stats: ReadStats, max_bytes: int, offset: int) -> None:
        self._block, self._stats = block, stats
        self._array = ArraySplitter(max_bytes, offset)

    def feed(self, chunk: bytes) -> None:
        offsets, lengths, texts = self._array.feed(chunk)
        block, first, row = self._block, self._stats.lines, len(self._block.lines)
        block.lines.extend(range(first, first + len(offsets)))
        block.offsets.extend(offsets)
        block.lengths.extend(lengths)
        block.texts.extend(texts)
        block.held += sum(lengths)
        for place, text in enumerate(texts):
            if text is None:
                block.refused.append((row + place, Reason.LINE_TOO_LONG))
                block.held -= lengths[place]
        self._stats.lines += len(offsets)

    def finish(self, *, damaged: bool) -> None:
        tail = self._array.finish()
        if tail is None and damaged:
            tail = self._array.seen
        if tail is not None:
            self._block.add(self._stats.lines, tail, self._array.seen - tail, None, Reason.CORRUPT_SHARD)
            self._stats.lines += 1
            self._stats.corrupt = True


class LineReader:
    """The lines of one unit, from a seekable stream of the stored bytes."""

    def __init__(self, unit: WorkUnit, stream: IO[bytes], options: ReadOptions) -> None:
        self._unit, self._stream, self._options = unit, stream, options
        self._block = _Block()
        self._place = 0  # in the stored file
        self.stats = ReadStats()  # complete when `blocks` is exhausted

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Batches of LINES, each of about `block_bytes`; never an empty one.

        Offsets are those of the unpacked file. Raises InputChanged.
        """
        whole = self._unit.compression or self._unit.form == "array"
        most, most_rows = self._options.block_bytes, max(self._options.block_bytes // _ROW_BYTES, 1)
        for _ in self._feed_file() if whole else self._feed_range():
            if self._block.held >= most or len(self._block.lines) >= most_rows:
                yield self._block.take()
        if self._block.lines:
            yield self._block.take()

    def _feed_range(self) -> Iterator[None]:
        """Feeds the lines that start in a range of a plain file, one chunk a step."""
        unit, step = self._unit, min(self._options.block_bytes, _CHUNK)
        head = b""
        if unit.start:
            # The line that the range begins in is the range's before, unless the byte before it is a newline.
            self._seek(unit.start - 1)
            while (cut := head.find(b"\n")) < 0:
                if self._place == unit.end:
                    return
                head = self._read(step, unit.end)
            head = head[cut + 1 :]
        splitter = LineSplitter(self._block, self.stats, self._options.max_line_bytes, self._place - len(head))
        splitter.feed(head)
        yield
        while self._place < unit.end:
            splitter.feed(self._read(step, unit.end))
            yield
        while splitter.pending and self._place < unit.size:
            piece = self._read(min(step, _REST), unit.size)
            cut = piece.find(b"\n")
            splitter.feed(piece if cut < 0 else piece[: cut + 1])
            yield
        splitter.finish(damaged=False)

    def _feed_file(self) -> Iterator[None]:
        """Feeds an archive or a JSON array, one chunk a step."""
        unit, damaged = self._unit, False
        self._seek(0)
        chunks = unpack(partial(self._read, end=unit.size), unit.compression, self._options.max_unpacked_bytes)
        form: Form = "lines"
        head, offset = b"", 0
        try:
            if unit.form == "array":
                while _undecided(head) and (piece := next(chunks, b"")):
                    head += piece
                if head.removeprefix(_BOM).lstrip(SPACE)[:1] == b"[":
                    form = "array"
        except Damaged:
            damaged = True
        if form == "array" and head.startswith(_BOM):
            self.stats.notes[Note.BOM] += 1
            head, offset = head[len(_BOM) :], len(_BOM)
        make: type[LineSplitter | ElementSplitter] = LineSplitter if form == "lines" else ElementSplitter
        splitter = make(self._block, self.stats, self._options.max_line_bytes, offset)
        try:
            for chunk in chain([head], chunks):
                splitter.feed(chunk)
                yield
        except Damaged:
            damaged = True
        splitter.finish(damaged=damaged)

    def _seek(self, place: int) -> None:
        self._stream.seek(place)
        self._place = place

    def _read(self, length: int, end: int) -> bytes:
        """Exactly `length` bytes, or those up to `end`: what lies there does not depend on the stream's whims."""
        length = min(length, end - self._place)
        parts: list[bytes] = []
        missing = length
        while missing > 0:
            part = self._stream.read(missing)
            if not part:
                raise InputChanged("an input became shorter while it was read")
            parts.append(part)
            missing -= len(part)
        self._place += length
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _undecided(head: bytes) -> bool:
    """Whether the first byte that is no space may be still to come."""
    return len(head) < len(_BOM) or (not head.removeprefix(_BOM).strip(SPACE) and len(head) < _PEEK)


# ------------------------------------------------------------------------------------------- transform


@dataclass
class ReadLines(beam.PTransform[Any, Any]):
    """WorkUnit to LINES batches; the notes and counts of the readers are metrics `read/NAME`."""

    options: ReadOptions
    storage: Storage = field(default_factory=Storage)

    def expand(self, units: PCollection[WorkUnit]) -> PCollection[pa.RecordBatch]:
        read = beam.FlatMap(read_unit, self.options, self.storage)  # type: ignore[no-untyped-call, unused-ignore]
        lines: PCollection[pa.RecordBatch] = units | "Read" >> read.with_output_types(pa.RecordBatch)
        return lines


def read_unit(unit: WorkUnit, options: ReadOptions, storage: Storage) -> Iterator[pa.RecordBatch]:
    """The LINES batches of a unit."""
    with storage.open(unit.uri, unit.size, unit.end) as stream:
        reader = LineReader(unit, stream, options)
        yield from reader.blocks()
    stats = reader.stats
    counts = {"lines": stats.lines, "blank": stats.blank, "corrupt": int(stats.corrupt)}
    counts.update((note.value, count) for note, count in stats.notes.items())
    for name, count in counts.items():
        Metrics.counter("read", name).inc(count)  # type: ignore[no-untyped-call, unused-ignore]
