"""What each character is to a tokenizer, as tables that compiled kernels read.

A character becomes the characters of its NFKC and case-folded form, each of which separates tokens, is a
letter of one, or is a token by itself. The tables are built from Python's Unicode data and the `regex`
package when they are first needed, so they agree with the plain definition in `transforms.shingles`.
"""

from __future__ import annotations

import functools
import itertools
import sys
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

# Scripts that put no space between words.
ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
LETTER = r"\p{L}\p{M}\p{N}"

SEPARATOR, WORD, SINGLE, SEVERAL = range(4)
# Where characters are that are neither unassigned nor for private use; all others part tokens and become themselves.
ASSIGNED = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE1000))

KIND_SHIFT, JOINS_BIT, POINT_MASK = 30, 1 << 29, (1 << 21) - 1


class Letters(NamedTuple):
    """`codes` uint32[0x110000]: a character's kind (2 bits), whether it joins what stands before it (1 bit),
    and what it becomes: a code point, or for `SEVERAL` its row in `bounds`.

    `several[bounds[row]:bounds[row + 1]]` are codes of the code points that it becomes. `leads` bool[256] tells of
    each byte whether a character that joins what stands before it may begin with it in UTF-8.
    """

    codes: npt.NDArray[np.uint32]
    bounds: npt.NDArray[np.int64]
    several: npt.NDArray[np.uint32]
    leads: npt.NDArray[np.bool_]


@functools.cache
def letters() -> Letters:
    """The tables of this Python's Unicode version; built once a process, in a fraction of a second."""
    points = [*itertools.chain(*ASSIGNED)]
    every = "".join(map(chr, points))
    # A line feed neither joins nor is joined, so one text holds every character by itself.
    folded = unicodedata.normalize("NFKC", "\n".join(every)).casefold().split("\n")
    folded[10:12] = ["\n"]  # the line feed itself
    kinds = _kinds(every, points)
    codes: npt.NDArray[np.uint32] = kinds.astype(np.uint32) << np.uint32(KIND_SHIFT)
    codes |= np.arange(sys.maxunicode + 1, dtype=np.uint32)
    codes[0xD800:0xE000] = 0
    bounds, several = [0], []
    for point, character, becomes in zip(points, every, folded, strict=True):
        if becomes == character:
            continue
        if len(becomes) == 1:
            codes[point] = int(kinds[ord(becomes)]) << KIND_SHIFT | ord(becomes)
        elif becomes:
            codes[point] = SEVERAL << KIND_SHIFT | len(bounds) - 1
            several += [int(kinds[ord(one)]) << KIND_SHIFT | ord(one) for one in becomes]
            bounds.append(len(several))
        else:  # nothing is left of it, and it parts nothing
            codes[point] = SEVERAL << KIND_SHIFT | len(bounds) - 1
            bounds.append(len(several))
    codes[_joining(every)] |= np.uint32(JOINS_BIT)
    joining = np.flatnonzero(codes & np.uint32(JOINS_BIT)).tolist()
    leads = np.zeros(256, bool)
    leads[[chr(point).encode()[0] for point in joining]] = True
    tables = Letters(codes, np.array(bounds, np.int64), np.array(several, np.uint32), leads)
    for table in tables:
        table.flags.writeable = False
    return tables


def _kinds(every: str, points: list[int]) -> npt.NDArray[np.uint8]:
    """uint8[0x110000]: the kind of each character as it stands; `every` are those of `points`."""
    kinds = np.full(sys.maxunicode + 1, SEPARATOR, np.uint8)
    places = np.array(points)
    for pattern, kind in ((f"[{LETTER}]+", WORD), (f"[{ALONE}]+", SINGLE)):
        for found in regex.finditer(pattern, every):
            kinds[places[found.start() : found.end()]] = kind
    return kinds


def _joining(every: str) -> npt.NDArray[np.int64]:
    """Characters that normalisation may join to, or move before, what stands before them.

    A text without them is normalised character by character (Unicode Standard Annex 15, section 9).
    """
    seconds = {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # Hangul vowels and finals
    marked = []
    for character in every:
        parts = unicodedata.decomposition(character)
        if parts and not parts.startswith("<"):
            _, _, second = parts.partition(" ")
            if second:
                seconds.add(chr(int(second, 16)))
        if parts or unicodedata.combining(character):
            marked.append(character)
    firsts = {one: unicodedata.normalize("NFKD", one)[0] for one in marked}
    joining = [one for one, first in firsts.items() if first in seconds or unicodedata.combining(first)]
    return np.array(sorted(map(ord, {*joining, *seconds})), np.int64)
