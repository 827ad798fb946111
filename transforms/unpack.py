"""gzip, zstd and bzip2 unpacked in steps, with the end mark and the checksum of every member checked.

Beam's and fsspec's own decompression is not used: a file cut in half reads short there without an error, because
nobody asks whether the end mark was seen. Here a file that does not end in one raises `Damaged`, after all that
could be decoded was given.

What is given before the damage depends on the stored bytes alone: the input is fed in steps of fixed length,
however the stream chooses to read. A checksum stands at the end of what it sums: where one is wrong, some of what
was given before may be wrong too, and only the count of corrupt shards tells.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

import zstandard

Compression = Literal["", "gz", "zst", "bz2"]
Read = Callable[[int], bytes]  # `read(n)` gives n bytes, fewer only at the end of the file

STEP_IN = 64 << 10  # 64 KiB of stored bytes
STEP_OUT = 256 << 10  # 256 KiB unpacked: what a step can give at most, so that no bomb takes memory

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_LARGEST_BLOCK = 128 << 10  # RFC 8878, 3.1.1.2.4


class Damaged(ValueError):
    """The archive is cut or corrupt from here on, or larger than it may be. It carries nothing of the content."""


def unpack(read: Read, compression: Compression, limit: int | None = None) -> Iterator[bytes]:
    """The unpacked bytes of a file, in pieces of at most STEP_OUT. Members may be concatenated.

    Raises Damaged after the last good piece; also where more than `limit` bytes come out. A file of no bytes
    unpacks to none. Zeros after the last gzip member are accepted, as tape and block padding leaves them.
    """
    pieces = {"": _stored, "gz": _gzip, "bz2": _bzip2, "zst": _zstd}[compression](read)
    if limit is None or not compression:
        yield from pieces
        return
    given = 0
    for piece in pieces:
        if given + len(piece) > limit:
            yield piece[: limit - given]
            raise Damaged
        given += len(piece)
        yield piece


def _stored(read: Read) -> Iterator[bytes]:
    while piece := read(STEP_OUT):
        yield piece


def _gzip(read: Read) -> Iterator[bytes]:
    fed = read(STEP_IN)
    while fed:
        member = zlib.decompressobj(wbits=31)  # 31: gzip with its header, CRC-32 and length (RFC 1952)
        while not member.eof:
            try:
                piece = member.decompress(fed, STEP_OUT)
            except zlib.error:
                raise Damaged from None
            if piece:
                yield piece
            fed = member.unconsumed_tail
            if not fed and not member.eof and len(piece) < STEP_OUT:
                fed = read(STEP_IN)
                if not fed:
                    raise Damaged
        # Whatever follows a member is zeros to the end, or the next member, perhaps after zeros.
        fed = member.unused_data.lstrip(b"\0")
        while not fed and (fed := read(STEP_IN)):
            fed = fed.lstrip(b"\0")


def _bzip2(read: Read) -> Iterator[bytes]:
    fed = read(STEP_IN)
    while fed:
        member = bz2.BZ2Decompressor()
        while not member.eof:
            if member.needs_input and not fed:
                fed = read(STEP_IN)
                if not fed:
                    raise Damaged
            try:
                piece = member.decompress(fed, STEP_OUT)
            except (OSError, ValueError):
                raise Damaged from None
            fed = b""
            if piece:
                yield piece
        fed = member.unused_data or read(STEP_IN)


def _zstd(read: Read) -> Iterator[bytes]:
    """Frames walked block by block (RFC 8878, 3.1.1): a block unpacks to 128 KiB at most, a step of bytes to any size.

    python-zstandard's stream reader bounds its output but does not tell a cut frame from a whole one.
    """
    stored, decompressor = _Window(read), zstandard.ZstdDecompressor()
    while magic := stored.take(4, or_end=True):
        if magic[1:] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F:  # a skippable frame
            stored.skip(int.from_bytes(stored.take(4), "little"))
            continue
        if magic != _ZSTD_MAGIC:
            raise Damaged
        descriptor = stored.take(1)
        single_segment = descriptor[0] >> 5 & 1
        checksum = descriptor[0] >> 2 & 1
        size_field = (single_segment, 2, 4, 8)[descriptor[0] >> 6]
        header = stored.take((0 if single_segment else 1) + (0, 1, 2, 4)[descriptor[0] & 3] + size_field)
        member = decompressor.decompressobj()
        yield from _fed(member, magic + descriptor + header)
        last = False
        while not last:
            block = stored.take(3)
            fields = int.from_bytes(block, "little")
            last, kind, size = bool(fields & 1), fields >> 1 & 3, fields >> 3
            if kind == 3 or size > _ZSTD_LARGEST_BLOCK:
                raise Damaged
            yield from _fed(member, block + stored.take(1 if kind == 1 else size))
        if checksum:
            yield from _fed(member, stored.take(4))
        if not member.eof:
            raise Damaged


def _fed(member: zstandard.ZstdDecompressionObj, stored: bytes) -> Iterator[bytes]:
    try:
        piece = member.decompress(stored)
    except zstandard.ZstdError:
        raise Damaged from None
    if piece:
        yield piece


class _Window:
    """The stored bytes, taken in exact lengths."""

    def __init__(self, read: Read) -> None:
        self._read, self._bytes, self._place = read, b"", 0

    def take(self, length: int, *, or_end: bool = False) -> bytes:
        """`length` bytes. Raises Damaged where there are fewer; none at all are given as none with `or_end`."""
        while len(self._bytes) - self._place < length:
            more = self._read(STEP_IN)
            if not more:
                if or_end and self._place == len(self._bytes):
                    return b""
                raise Damaged
            self._bytes = self._bytes[self._place :] + more
            self._place = 0
        self._place += length
        return self._bytes[self._place - length : self._place]

    def skip(self, length: int) -> None:
        """Passes over `length` bytes without holding them."""
        while length:
            step = min(length, STEP_IN)
            self.take(step)
            length -= step
