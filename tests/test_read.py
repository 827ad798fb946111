"""Read: lines against `bytes.split`, any cut of a file, archives cut and damaged, arrays against `json`."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from tests.test_unpack import LOG, archives, pack, unpacked
from transforms.options import ReadOptions
from transforms.read import InputChanged, LineReader, ReadLines, ReadStats, WorkUnit, cut_units, form_of
from transforms.reasons import Note
from transforms.schema import LINES
from transforms.unpack import Compression


class Row(NamedTuple):
    line: int
    offset: int
    length: int
    text: bytes | None
    reasons: tuple[str, ...] = ()


def options(block_bytes: int = 1 << 20, **others: Any) -> ReadOptions:
    """Options below the limits that users are held to, so that small texts span many blocks."""
    return ReadOptions().model_copy(update={"block_bytes": block_bytes, **others})


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    return [Row(**{**row, "reasons": tuple(row["reasons"])}) for row in batch.to_pylist()]


def read_stream(unit: WorkUnit, stream: IO[bytes], read: ReadOptions) -> tuple[list[Row], ReadStats]:
    reader = LineReader(unit, stream, read)
    rows: list[Row] = []
    for batch in reader.blocks():
        batch.validate(full=True)
        assert batch.schema == LINES
        assert batch.num_rows > 0
        rows += rows_of(batch)
    assert len(rows) == reader.stats.lines - reader.stats.blank
    return rows, reader.stats


def read_file(stored: bytes, name: str = "a.jsonl", read: ReadOptions | None = None) -> tuple[list[Row], ReadStats]:
    """Rows and stats of a file that is one unit."""
    (unit,) = cut_units(name, 0, len(stored), (read or options()).model_copy(update={"unit_bytes": 1 << 40}))
    return read_stream(unit, io.BytesIO(stored), read or options())


def read_ranges(stored: bytes, bounds: list[int], read: ReadOptions) -> tuple[list[Row], ReadStats]:
    """The same from ranges between `bounds`, put together as the lines' numbers are at the end of a run."""
    rows: list[Row] = []
    total = ReadStats()
    for start, end in pairwise(bounds):
        unit = WorkUnit("a.jsonl", 0, start, end, len(stored), "", "lines")
        some, stats = read_stream(unit, io.BytesIO(stored), read)
        rows += [row._replace(line=row.line + total.lines) for row in some]
        total.lines += stats.lines
        total.blank += stats.blank
        total.notes += stats.notes
    return rows, total


def expected(content: bytes, max_bytes: int = 1 << 30) -> tuple[list[Row], ReadStats]:
    """What a reader of lines is to give, from all bytes at once."""
    lines = content.split(b"\n")
    notes: Counter[Note] = Counter()
    if lines[-1]:
        notes[Note.NO_FINAL_NEWLINE] = 1
    else:
        lines.pop()
    rows = []
    offset = blank = 0
    for number, line in enumerate(lines):
        text, start = line, offset
        if start == 0 and line.startswith(b"\xef\xbb\xbf"):
            notes[Note.BOM] += 1
            text, start = line[3:], 3
        if text.endswith(b"\r"):
            notes[Note.CRLF] += number < len(lines) - 1 or content.endswith(b"\n")
            text = text[:-1]
        if not text.strip(b" \t\r"):
            blank += 1
        elif len(text) > max_bytes:
            rows.append(Row(number, start, len(text), None, ("line_too_long",)))
        else:
            rows.append(Row(number, start, len(text), text))
        offset += len(line) + 1
    return rows, ReadStats(len(lines), blank, +notes)


pieces = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b" ", b"\t", b"\xef\xbb\xbf", b"a", b"bcdefgh", b"\xff", b"\x85", b"{}", b"\0"]
)
contents = st.lists(pieces, max_size=40).map(b"".join)


# ----------------------------------------------------------------------------------------------- lines


@given(contents, st.integers(1, 12), st.integers(1, 12), st.lists(st.integers(0, 120), max_size=6))
def test_any_cut_gives_the_same_lines(content: bytes, block_bytes: int, max_bytes: int, cuts: list[int]) -> None:
    read = options(block_bytes, max_line_bytes=max_bytes)
    assert read_file(content, read=read) == expected(content, max_bytes)
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    assert read_ranges(content, bounds, read) == expected(content, max_bytes)


def test_every_pair_of_ranges() -> None:
    content = b"\xef\xbb\xbf{}\r\n\n  \r\nlonger line\nx\n\nlast"
    for cut in range(len(content) + 1):
        assert read_ranges(content, sorted({0, cut, len(content)}), options(4)) == expected(content)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\n\n", b" \t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b"a", b"\xef\xbb\xbfa"]
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_next_to_nothing(content: bytes, name: str) -> None:
    stored = gzip.compress(content) if name.endswith("gz") else content
    assert read_file(stored, name) == expected(content)


def test_lines_split_on_newline_only() -> None:
    content = "a\u2028b\u0085c\x0b\x0c\x1cd\n".encode()
    assert [row.text for row in read_file(content)[0]] == [content[:-1]]


def test_a_carriage_return_does_not_count_towards_the_limit() -> None:
    rows, _ = read_file(b"abcd\r\nabcde\r\nabcd", read=options(max_line_bytes=4))
    assert [row.text for row in rows] == [b"abcd", None, b"abcd"]
    assert [row.length for row in rows] == [4, 5, 4]


class Endless(io.RawIOBase):
    """A stored file of `size` bytes that is nowhere: a line of `a`, then `tail`."""

    def __init__(self, size: int, tail: bytes) -> None:
        self._size, self._tail, self._place = size, tail, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        self._place = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        body = self._size - len(self._tail)
        start, end = self._place, min(self._place + size, self._size)
        self._place = end
        if end <= body:
            return b"a" * (end - start)
        return b"a" * max(body - start, 0) + self._tail[max(start - body, 0) : end - body]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_long_line_is_measured_and_not_held(name: str) -> None:
    size, tail = 100 << 20, b'"]\n' if name == "a.json" else b"\n{}\n"
    stream: Any = Endless(size, tail)
    if name == "a.json":
        inner = stream.read
        stream.read = lambda length: b'["' + inner(length)[2:] if stream._place == 0 else inner(length)
    read = options(1 << 20, max_line_bytes=2 << 20, unit_bytes=1 << 40)
    (unit,) = cut_units(name, 0, size, read)
    tracemalloc.start()
    try:
        rows, stats = read_stream(unit, stream, read)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows[0][1:] == (
        (0, size - 4, None, ("line_too_long",)) if name == "a.jsonl" else (1, size - 3, None, ("line_too_long",))
    )
    assert len(rows) == (2 if name == "a.jsonl" else 1)
    assert not stats.corrupt
    assert peak < 12 << 20


def test_blocks_are_bounded_in_bytes_and_rows() -> None:
    read = options(1 << 16)
    many = b"1\n" * 200_000
    (unit,) = cut_units("a.jsonl", 0, len(many), read.model_copy(update={"unit_bytes": 1 << 40}))
    sizes = [batch.num_rows for batch in LineReader(unit, io.BytesIO(many), read).blocks()]
    assert sum(sizes) == 200_000
    assert max(sizes) <= (1 << 16) // 2 + (1 << 16) // 16
    long = b"x" * 10_000 + b"\n"
    (unit,) = cut_units("a.jsonl", 0, 100 * len(long), read.model_copy(update={"unit_bytes": 1 << 40}))
    held = [batch.column("text").nbytes for batch in LineReader(unit, io.BytesIO(long * 100), read).blocks()]
    assert len(held) > 5
    assert max(held) < 3 << 16


def test_a_giant_line_over_many_ranges() -> None:
    content = b"first\n" + b"x" * 50_000 + b"\nlast\n"
    for max_bytes in (10_000, 1 << 20):
        read = options(1000, max_line_bytes=max_bytes)
        bounds = [*range(0, len(content), 4096), len(content)]
        assert read_ranges(content, bounds, read) == expected(content, max_bytes)
        inner, _ = read_ranges(content, bounds[2:-2], read)
        assert inner == []


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        given = super().read(size)
        self.taken += len(given)
        return given


def test_a_range_reads_little_beyond_its_end() -> None:
    content = b"x" * 99 + b"\n"
    stored = content * 20_000
    read = options(1 << 16)
    for start, end in ((0, 1000), (500_000, 500_150), (1_000_000, 1_100_000)):
        stream = Counting(stored)
        rows, _ = read_stream(WorkUnit("a.jsonl", 0, start, end, len(stored), "", "lines"), stream, read)
        assert [row.offset for row in rows] == [at for at in range(0, len(stored), 100) if start <= at < end]
        assert stream.taken <= end - start + 1 + (64 << 10)


class Whimsical(io.BytesIO):
    """Gives fewer bytes than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 7) if size and size > 0 else size)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2"])
def test_short_reads_change_nothing(name: str) -> None:
    stored = pack(b"".join(b'{"n": %d}\n' % number for number in range(2000)), form_of(name)[0])
    for cut in (0, 40):
        whole = stored[: len(stored) - cut] if "l." in name else stored
        (unit,) = cut_units(name, 0, len(whole), ReadOptions())
        assert read_stream(unit, Whimsical(whole), options()) == read_file(whole, name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2"])
def test_an_input_that_became_shorter_stops_the_run(name: str) -> None:
    stored = pack(b'["secret"]\n["secret"]', form_of(name)[0])
    (unit,) = cut_units(name, 0, len(stored) + 1, ReadOptions())
    with pytest.raises(InputChanged, match=r"^an input became shorter while it was read$"):
        list(LineReader(unit, io.BytesIO(stored), options()).blocks())


def test_what_was_added_since_the_plan_is_not_read() -> None:
    unit = WorkUnit("a.jsonl", 0, 0, 4, 4, "", "lines")
    rows, _ = read_stream(unit, io.BytesIO(b"a\nb\nc\n"), options())
    assert [row.text for row in rows] == [b"a", b"b"]


# --------------------------------------------------------------------------------------------- archives


@archives
def test_an_archive_that_is_none(compression: Compression) -> None:
    assert unpacked(LOG, compression) == (b"", False)
    rows, stats = read_file(LOG, f"a.jsonl.{compression}")
    assert rows == [Row(0, 0, 0, None, ("corrupt_shard",))]
    assert stats == ReadStats(1, 0, Counter(), corrupt=True)


@archives
def test_an_archive_cut_anywhere_loses_no_line_silently(compression: Compression) -> None:
    stored = pack(LOG[:1500], compression) + pack(LOG[1500:], compression)
    seam = len(pack(LOG[:1500], compression))
    lines, _ = expected(LOG)
    for cut in range(1, len(stored)):
        rows, stats = read_file(stored[:cut], f"a.jsonl.{compression}")
        content, sound = unpacked(stored[:cut], compression)
        assert LOG.startswith(content)
        assert (sound, stats.corrupt) == (cut == seam, cut != seam)
        if stats.corrupt:
            whole, rest = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
            tail = Row(whole.count(b"\n"), len(whole), len(rest), None, ("corrupt_shard",))
            assert rows == [*lines[: whole.count(b"\n")], tail]


@archives
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_leaves_no_line_out(compression: Compression, place: int, flip: int) -> None:
    stored = bytearray(pack(LOG[:2000], compression) + pack(LOG[2000:], compression))
    stored[place % len(stored)] ^= flip
    rows, stats = read_file(bytes(stored), f"a.jsonl.{compression}")
    if stats.corrupt:
        assert rows.pop().reasons == ("corrupt_shard",)
        assert not any(row.reasons for row in rows)
        sound = place % len(stored) // len(pack(LOG[:2000], compression)) * 2000  # the first member, where it is whole
        lines = LOG[:sound].count(b"\n")
        assert rows[:lines] == expected(LOG)[0][:lines]
    else:
        assert rows == expected(LOG)[0]


def test_the_tail_does_not_depend_on_blocks() -> None:
    stored = bytearray(pack(LOG * 700, "gz"))
    stored[len(stored) // 2] ^= 255
    first, *others = [read_file(bytes(stored), "a.gz", options(size)) for size in (2000, 70_000, 1 << 24)]
    assert first[1].corrupt
    assert first[1].lines > 1
    assert all(other == first for other in others)


@archives
def test_unpacking_stops_at_the_limit(compression: Compression) -> None:
    stored = pack(LOG, compression)
    assert unpacked(stored, compression, len(LOG)) == (LOG, True)
    assert unpacked(stored, compression, len(LOG) - 1) == (LOG[:-1], False)
    rows, stats = read_file(stored, f"a.jsonl.{compression}", options(max_unpacked_bytes=40))
    assert stats.corrupt
    assert rows[-1].offset + rows[-1].length == 40


def test_plain_files_have_no_limit() -> None:
    assert not read_file(LOG, read=options(max_unpacked_bytes=40))[1].corrupt
    assert not read_file(b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "a.json", options(max_unpacked_bytes=4))[1].corrupt


# ----------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("content", "texts", "tail"),
    [
        (b"[]", [], None),
        (b" \n[ \t] \r\n", [], None),
        (b'\xef\xbb\xbf[{"a": 1}]', [b'{"a": 1}'], None),
        (b"[1,]", [b"1"], (3, 1)),
        (b"[,1]", [], (1, 3)),
        (b"[1,,2]", [b"1"], (3, 3)),
        (b"[1] x", [b"1"], (4, 1)),
        (b"[1][2]", [b"1"], (3, 3)),
        (b"[1, {", [b"1"], (4, 1)),
        (b"[1, ", [b"1"], (4, 0)),
        (b"[1", [], (1, 1)),
        (b"[", [], (1, 0)),
        (b"[}]", [], (1, 2)),
        (b"[1}, 2]", [], (1, 6)),
        (b'["a" "b", {"c"; 1}]', [b'"a" "b"', b'{"c"; 1}'], None),
        (b'[{"a": 1], 2]', [b'{"a": 1]', b"2"], None),
    ],
)
def test_arrays_and_their_tails(content: bytes, texts: list[bytes], tail: tuple[int, int] | None) -> None:
    rows, stats = read_file(content, "a.json")
    assert stats.corrupt == (tail is not None)
    assert stats.notes == ({Note.BOM: 1} if content.startswith(b"\xef") else {})
    if tail is not None:
        assert rows.pop() == Row(len(texts), *tail, None, ("corrupt_shard",))
    assert [row.text for row in rows] == texts
    assert [row.line for row in rows] == list(range(len(texts)))
    assert all(content[row.offset : row.offset + row.length] == row.text for row in rows)


@archives
def test_arrays_in_archives(compression: Compression) -> None:
    content = b"[\n" + LOG.strip().replace(b"\n", b",\n") + b"\n]\n"
    stored = pack(content, compression)
    rows, stats = read_file(stored, f"a.json.{compression}")
    assert [row.text for row in rows] == LOG.splitlines()
    assert not stats.corrupt
    rows, stats = read_file(stored[:-3], f"a.json.{compression}")
    assert stats.corrupt
    assert [row.text for row in rows[:-1]] == LOG.splitlines()[: len(rows) - 1]
    assert rows[-1].reasons == ("corrupt_shard",)


def test_json_files_that_hold_lines() -> None:
    for content in (LOG, b"\n \n" + LOG, b"\xef\xbb\xbf" + LOG, b" " * 70_000 + b"\n" + LOG, b"\x0b[1]"):
        assert read_file(content, "a.json") == expected(content)
        assert read_file(gzip.compress(content), "a.json.gz") == expected(content)


@pytest.mark.parametrize("path", ["llama-factory/*.json", "naughty-strings/blns.json"])
def test_shared_arrays(shared: Path, path: str) -> None:
    for file in sorted(shared.glob(path)):
        rows, stats = read_file(file.read_bytes(), file.name, options(5000))
        assert [json.loads(row.text or b"") for row in rows] == json.loads(file.read_bytes())
        assert not stats.corrupt


def test_shared_lines_in_any_archive(shared: Path) -> None:
    content = (shared / "gsm8k" / "train.jsonl").read_bytes()
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2"):
        rows, stats = read_file(pack(content, form_of(name)[0]), name, options(100_000))
        assert (rows, stats) == expected(content)
        assert stats.lines == 7473


# ------------------------------------------------------------------------------------------------ units


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", ("", "lines")),
        ("s3://b/x.y/a.ndjson.gz", ("gz", "lines")),
        ("a.JSON", ("", "array")),
        ("a.json.zstd", ("zst", "array")),
        ("a.json.bz2", ("bz2", "array")),
        ("a.json/part-0", ("", "lines")),
        ("logs.gz", ("gz", "lines")),
        ("noname", ("", "lines")),
    ],
)
def test_form_by_name(name: str, form: tuple[str, str]) -> None:
    assert form_of(name) == form


def test_units_cover_a_file_once() -> None:
    read = ReadOptions(unit_bytes=4096)
    assert [(unit.start, unit.end) for unit in cut_units("a.jsonl", 3, 10_000, read)] == [
        (0, 4096),
        (4096, 8192),
        (8192, 10_000),
    ]
    assert [(unit.start, unit.end) for unit in cut_units("a.jsonl", 3, 8192, read)] == [(0, 4096), (4096, 8192)]
    for name, size in (("a.jsonl", 0), ("a.jsonl.gz", 10_000), ("a.json", 10_000), ("a.jsonl.gz", 0)):
        assert cut_units(name, 3, size, read) == [WorkUnit(name, 3, 0, size, size, *form_of(name))]


def test_the_transform_reads_units(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LOG)
    units = cut_units(str(path), 0, len(LOG), options(unit_bytes=1000))
    assert len(units) > 1
    with test_pipeline.TestPipeline() as pipeline:
        texts = (
            pipeline
            | beam.Create(units)
            | ReadLines(options())
            | beam.FlatMap(lambda batch: batch.column("text").to_pylist())
        )
        assert_that(texts, equal_to(LOG.splitlines()))
