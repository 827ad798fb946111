"""How a corpus is cut: the numbers that decide how many reads a run makes and what one task holds.

units      what is read at a time; each writes one run of a kind, cut into `unit_segments`
Regroup    where units x segments would be too many reads: the runs of `block` units become one run for each of
           their segments, cut finer; each byte is written and read once more, and so many times fewer reads are made
segments   what a later task reads: of ids and keys, of bands, and of texts, which are cut as fine as shards. Tasks of
           ids and of bands exchange pairs, a piece from each to each: their number grows with the root of the
           corpus, so that pieces grow with it, until a segment holds `HELD_BYTES`
parts      of clusters, where one task that holds all verified pairs would be too large: whole components each
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SEGMENT_BYTES = 32 << 20  # 32 MiB of text a segment
HELD_BYTES = 256 << 20  # 256 MiB of text a segment where reads are dear; above it units are regrouped
ROOT_BYTES = 512 << 10  # 512 KiB of text a piece that tasks of ids and bands exchange: 64 segments at 2 GiB
MOST_SEGMENTS = 4096  # of ids and of bands
MOST_TEXT_SEGMENTS = 65_536
MOST_UNIT_SEGMENTS = 256  # in a run that is regrouped: finer pieces pack badly
MAX_PAIRS = 4_000_000  # unit x segment pairs of a kind of run, each of which is a read
MAX_READS = 1 << 24  # the same after Regroup
PART_BYTES = 32 << 30  # 32 GiB of text, whose clusters one task finds
MOST_PARTS = 1024  # Route writes to each of them
BLOCK = 64  # units a block, at least


@dataclass(frozen=True)
class Shape:
    """The cut of a corpus. All counts of segments are powers of two; `block` is 1 without Regroup."""

    segments: int
    band_segments: int
    text_segments: int
    unit_segments: int  # at most, in the runs of a unit
    block: int
    parts: int  # of clusters; 1 where a single task finds all

    @property
    def is_regrouped(self) -> bool:
        return self.block > 1

    @property
    def is_parted(self) -> bool:
        return self.parts > 1

    def blocks(self, units: int) -> int:
        return -(-units // self.block)


def shape_of(weight: int, units: int, shard_bytes: int) -> Shape:
    """The cut of `weight` bytes of text in `units` work units, for shards of `shard_bytes`."""
    most = MAX_PAIRS // max(units, 1)
    parts = min(_above(weight, PART_BYTES), MOST_PARTS)
    if -(-weight // HELD_BYTES) <= most:
        exchanged = max(_above(weight, HELD_BYTES), 1 << round(math.log2(max(weight / ROOT_BYTES, 1)) / 2))
        texts = min(_above(weight, min(SEGMENT_BYTES, shard_bytes * 4)), MOST_SEGMENTS, _below(most))
        bands = min(_above(weight, SEGMENT_BYTES), exchanged, MOST_SEGMENTS, _below(most))
        return Shape(min(texts, exchanged), bands, texts, max(texts, bands), 1, parts)
    wanted = _above(weight, HELD_BYTES // 2)
    segments, texts = min(wanted, MOST_SEGMENTS), min(wanted, MOST_TEXT_SEGMENTS)
    block = BLOCK
    while -(-units // block) * texts > MAX_READS:
        block *= 2
    return Shape(segments, segments, texts, min(segments, MOST_UNIT_SEGMENTS, _below(most)), block, parts)


def _above(weight: int, target: int) -> int:
    """The least power of two of segments of at most `target` bytes."""
    return 1 << (max(1, -(-weight // target)) - 1).bit_length()


def _below(most: int) -> int:
    """The greatest power of two up to `most`, 1 at least."""
    return 1 << max(most, 1).bit_length() - 1
