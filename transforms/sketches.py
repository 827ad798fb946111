"""Sketches: what a pair of shingle sets is compared by once they are candidates; about 100 bytes a record.

A set of up to `EXACT` shingles is kept whole, as sorted 32-bit hashes, and two such sets are compared exactly.
A larger one is an odd sketch: `BITS` bits, each the parity of the shingles that fall on it. The bits in which
two sketches differ tell how many shingles are in one set only (Mitzenmacher, Pagh, Pham: *Efficient
estimation for high similarities using odd sketches*, WWW 2014, section 3; applied to the sets themselves).
At 90 to 1,000 shingles the Jaccard index near 0.8 comes out with a standard error of 0.008 to 0.015, where a
bottom-256 sketch of eight times the size gives up to 0.022. What is said of a pair is the upper end of its index:
`ERRORS` standard errors above the estimate, so that a pair which reaches a threshold is hardly ever missed, for
nothing else would find it again, and one that is let in by chance is a few hundredths below.

Larger sets are thinned: level s keeps the shingles whose hash begins with s zero bits. A set is kept at the first
level with at most `CAP` shingles, and at as many more as make it comparable with every set that may be alike.

    uint32 list:  up to 32 hashes              the whole set
                  level, (count, 32 words)+    level s, s + 1, …
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.compiled import compiled, signed

EXACT = 32  # shingles
BITS = 1024
CAP = 1024  # shingles a level
LEVEL_WORDS = 1 + BITS // 32
ERRORS = 2.0  # standard errors
ALMOST = 1 - 2.0**-20  # the most that is said of sketches that are not the same


class Sketches(NamedTuple):
    """Sketches end to end: sketch `i` is `values[offsets[i]:offsets[i + 1]]`; empty where there is none."""

    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint32]

    @staticmethod
    def of(lengths: npt.NDArray[np.int64], values: npt.NDArray[np.uint32]) -> Sketches:
        return Sketches(np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64))), values)


def least_count(threshold: float) -> int:
    """The shingles down to which a sketch adds levels, so that sets alike by `threshold` have one in common."""
    return int(CAP * max(threshold, 0.05) * 0.9)


def most_words(least: int) -> int:
    """uint32 values of the longest sketch: how often a full level may be halved, and two more for chance."""
    return 1 + LEVEL_WORDS * (3 + math.ceil(math.log2(CAP / max(least, 1))))


def _apart() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """float64[BITS + 1] each: the shingles that are in one set only, by bits that differ: the number to be expected,
    and the fewest, `ERRORS` standard errors below it.

    Mean and variance of the odd ones among BITS bins after d balls.
    """
    expected, fewest = [], []
    for differ in range(BITS // 2):
        balls = math.log(1 - 2 * differ / BITS) / math.log(1 - 2 / BITS)
        once, twice = (1 - 2 / BITS) ** balls, (1 - 4 / BITS) ** balls
        mean = BITS * (1 - once) / 2
        variance = mean + BITS * (BITS - 1) * (1 - 2 * once + twice) / 4 - mean**2
        slope = -BITS / 2 * math.log(1 - 2 / BITS) * once
        expected.append(balls)
        fewest.append(max(float(differ), balls - ERRORS * math.sqrt(max(variance, 0.0)) / slope))
    full = [math.inf] * (BITS + 1 - len(fewest))
    return np.array(expected + full), np.array(fewest + full)


EXPECTED, FEWEST = _apart()


@compiled
def sketch_set(
    hashes: npt.NDArray[np.uint32], count: int, least: int, out: npt.NDArray[np.uint32], place: int, most: int
) -> int:
    """Puts the sketch of `count` distinct hashes at `place`, not beyond `most`; returns where it ends."""
    if count <= EXACT:
        for one in range(count):
            value, at = hashes[one], place + one
            while at > place and out[at - 1] > value:
                out[at] = out[at - 1]
                at -= 1
            out[at] = value
        return place + count
    level, within = 0, count
    while within > CAP:
        level += 1
        within = 0
        for one in range(count):
            within += signed(hashes[one]) >> (32 - level) == 0
    out[place] = level
    place += 1
    while True:
        within = 0
        out[place : place + LEVEL_WORDS] = 0
        for one in range(count):
            if signed(hashes[one]) >> (32 - level) == 0:
                within += 1
                bit = signed(hashes[one]) & (BITS - 1)
                out[place + 1 + (bit >> 5)] ^= np.uint32(1 << (bit & 31))
        out[place] = within
        place += LEVEL_WORDS
        level += 1
        if within <= least or place + LEVEL_WORDS > most:
            return place


@compiled
def _ones(word: np.uint32) -> np.uint32:
    """Bits that are set (Warren, *Hacker's Delight*, section 5-1), which compilers know as one instruction."""
    word = word - ((word >> np.uint32(1)) & np.uint32(0x55555555))
    word = (word & np.uint32(0x33333333)) + ((word >> np.uint32(2)) & np.uint32(0x33333333))
    word = (word + (word >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
    return np.uint32(np.uint32(word * np.uint32(0x01010101)) >> np.uint32(24))


@compiled
def estimate(
    left: npt.NDArray[np.uint32], start: int, end: int, right: npt.NDArray[np.uint32], first: int, last: int
) -> float:
    """The Jaccard index of the sets whose sketches are left[start:end] and right[first:last], its upper end where estimated.

    0 where either is empty, or where they have no level in common, as only sets do that are not alike.
    """
    if end == start or last == first:
        return 0.0
    if end - start <= EXACT and last - first <= EXACT:
        return _exact(left, start, end, right, first, last)
    if end - start <= EXACT:
        return _mixed(left, start, end, right, first)
    if last - first <= EXACT:
        return _mixed(right, first, last, left, start)
    level = max(left[start], right[first])
    a = start + 1 + LEVEL_WORDS * signed(level - left[start])
    b = first + 1 + LEVEL_WORDS * signed(level - right[first])
    if a >= end or b >= last:
        return 0.0
    differ = np.uint32(0)
    mine, theirs = left[a + 1 : a + LEVEL_WORDS], right[b + 1 : b + LEVEL_WORDS]  # from 0: several words at a time
    for word in range(LEVEL_WORDS - 1):
        differ += _ones(mine[word] ^ theirs[word])
    index = _index(signed(left[a]), signed(right[b]), signed(differ), signed(level))
    return index if left[start] == right[first] else min(index, ALMOST)


@compiled
def _exact(
    left: npt.NDArray[np.uint32], start: int, end: int, right: npt.NDArray[np.uint32], first: int, last: int
) -> float:
    """The Jaccard index of two whole sets."""
    i, j, both = start, first, 0
    while i < end and j < last:
        if left[i] == right[j]:
            both += 1
            i += 1
            j += 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    return both / (end - start + last - first - both)


@compiled
def _mixed(whole: npt.NDArray[np.uint32], start: int, end: int, odd: npt.NDArray[np.uint32], first: int) -> float:
    """The Jaccard index of a whole set and an odd sketch; 0 for one that was thinned, which is over 32 times as large."""
    if odd[first] != 0:
        return 0.0
    words = np.zeros(LEVEL_WORDS - 1, np.uint32)
    for one in range(start, end):
        bit = signed(whole[one]) & (BITS - 1)
        words[bit >> 5] ^= np.uint32(1 << (bit & 31))
    differ = np.uint32(0)
    for word in range(LEVEL_WORDS - 1):
        differ += _ones(words[word] ^ odd[first + 2 + word])
    return _index(signed(end - start), signed(odd[first + 1]), signed(differ), 0)


@compiled
def _index(left: int, right: int, differ: int, level: int) -> float:
    """The upper end of the Jaccard index of sets with `left` and `right` shingles at a level, `differ` bits apart."""
    total = left + right
    apart = max(FEWEST[differ], np.float64(abs(left - right)))
    if apart >= total:
        return 0.0
    index = (total - apart) / (total + apart)
    if level:  # the shingles of a level are a sample of all: two errors that don't depend on each other
        expected = max(EXPECTED[differ], apart)
        middle = max(total - expected, 0.0) / (total + min(expected, np.float64(total)))
        sampling = ERRORS * ERRORS * middle * (1 - middle) * 2 / (total + apart) * (1 - 0.5**level)
        index = middle + math.sqrt((index - middle) ** 2 + sampling)
    return 1.0 if differ == 0 and left == right else min(index, ALMOST)
