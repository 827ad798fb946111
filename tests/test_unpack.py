"""Unpack: archives of every make, cut and damaged, against the content they were made of."""

from __future__ import annotations

import bz2
import gzip
import io
import tracemalloc
from itertools import accumulate, pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from transforms.unpack import STEP_OUT, Compression, Damaged, unpack

SKIPPABLE = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
archives = pytest.mark.parametrize("compression", ["gz", "zst", "bz2"])
LOG = b"".join(b'{"number": %d, "text": "%s"}\n' % (number, b"word " * (number % 9)) for number in range(60))


def pack(content: bytes, compression: Compression) -> bytes:
    if compression == "gz":
        return gzip.compress(content, mtime=0)
    if compression == "bz2":
        return bz2.compress(content)
    if compression == "zst":
        return zstandard.ZstdCompressor(write_checksum=True).compress(content)
    return content


def unpacked(stored: bytes, compression: Compression, limit: int | None = None) -> tuple[bytes, bool]:
    """What came out, and whether the end was sound."""
    given: list[bytes] = []
    try:
        for piece in unpack(io.BytesIO(stored).read, compression, limit):
            assert 0 < len(piece) <= STEP_OUT
            given.append(piece)
    except Damaged:
        return b"".join(given), False
    return b"".join(given), True


@archives
def test_members_may_be_concatenated(compression: Compression) -> None:
    parts = [LOG[:100], b"", LOG[100:101], LOG[101:]]
    assert unpacked(b"".join(pack(part, compression) for part in parts), compression) == (LOG, True)
    assert unpacked(b"", compression) == (b"", True)


@archives
def test_large_archives_come_out_in_steps(compression: Compression) -> None:
    content = LOG * 400
    assert unpacked(pack(content, compression), compression) == (content, True)
    assert unpacked(pack(b"\0" * (8 << 20), compression), compression) == (b"\0" * (8 << 20), True)


def test_zstd_of_every_make() -> None:
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    flushed = b"".join(
        stream.compress(LOG[at : at + 700]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for at in range(0, len(LOG), 700)
    )
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_checksum=1, write_content_size=0)
    makes = [
        flushed + stream.flush(),
        zstandard.ZstdCompressor(compression_params=wide).compress(LOG),
        zstandard.ZstdCompressor(level=-5, write_content_size=False).compress(LOG),
        SKIPPABLE + pack(LOG, "zst") + SKIPPABLE,
    ]
    for stored in makes:
        assert unpacked(stored, "zst") == (LOG, True)
    assert unpacked(SKIPPABLE[:-1], "zst") == (b"", False)


def test_what_follows_an_archive() -> None:
    stored = pack(LOG, "gz")
    assert unpacked(stored + b"\0" * 100_000, "gz") == (LOG, True)
    assert unpacked(stored + b"\0" * 512 + stored, "gz") == (LOG * 2, True)
    tails: list[tuple[Compression, bytes]] = [
        ("gz", b"x"),
        ("gz", b"\0\0x"),
        ("bz2", b"x"),
        ("bz2", b"\0"),
        ("zst", b"\0"),
        ("zst", b"abcd"),
    ]
    for compression, tail in tails:
        assert unpacked(pack(LOG, compression) + tail, compression) == (LOG, False)


@archives
def test_what_is_raised_says_nothing(compression: Compression) -> None:
    for stored in (b"secret", pack(b"secret", compression)[:-1], pack(b"secret", compression) + b"secret"):
        with pytest.raises(Damaged) as raised:
            list(unpack(io.BytesIO(stored).read, compression))
        assert str(raised.value) == ""
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@archives
@given(cuts=st.sets(st.integers(1, len(LOG) - 1), max_size=4), stop=st.floats(0, 1))
def test_any_members_cut_anywhere(compression: Compression, cuts: set[int], stop: float) -> None:
    """What comes out is a beginning of the content, and ends with a member unless the end is said to be damaged."""
    bounds = [0, *sorted(cuts), len(LOG)]
    members = [pack(LOG[start:end], compression) for start, end in pairwise(bounds)]
    ends = [0, *accumulate(map(len, members))]
    stored = b"".join(members)
    for cut in (*ends, round(stop * ends[-1])):
        content, sound = unpacked(stored[:cut], compression)
        assert LOG.startswith(content)
        assert sound == (cut in ends)
        assert len(content) >= bounds[max(place for place, end in enumerate(ends) if end <= cut)]
        assert not sound or len(content) in bounds


@archives
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_archive_is_found_out(compression: Compression, place: int, flip: int) -> None:
    stored = bytearray(pack(LOG, compression))
    stored[place % len(stored)] ^= flip
    content, sound = unpacked(bytes(stored), compression)
    # Sound all the same: a byte that says nothing of the content, as the time in a gzip header.
    assert not sound or content == LOG


def test_tiny_members_and_blocks() -> None:
    assert unpacked(b"".join(pack(b"%d\n" % number, "gz") for number in range(3000)), "gz")[1]
    many = [pack(b"%d\n" % number, "zst") for number in range(3000)]
    assert unpacked(b"".join(many), "zst") == (b"".join(b"%d\n" % number for number in range(3000)), True)
    assert unpacked(pack(b"", "gz") * 5000, "gz") == (b"", True)


@archives
def test_a_bomb_takes_no_memory(compression: Compression) -> None:
    stored = pack(b"\0" * (64 << 20), compression)
    tracemalloc.start()
    try:
        size = sum(map(len, unpack(io.BytesIO(stored).read, compression)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 4 << 20
