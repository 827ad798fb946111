"""Measure: small counts of a block of records, by which a night is compared with those before it.

Counts add up over blocks, units and nights, and there are fewer than a hundred of them however many records:

    records            sound records, before duplicates are told
    length.K           of them with K <= 2 log2(characters + 1) < K + 1
    turns, refusals    turns of assistants, and those that begin like a refusal
    script.NAME        letters of all contents by Unicode script
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import regex

from transforms.letters import ASSIGNED

SCRIPTS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu", "Thai", "Han",
           "Hiragana", "Katakana", "Hangul", "Armenian", "Georgian", "Ethiopic", "Khmer", "Myanmar", "Other")  # fmt: skip
REFUSAL_CHARS = 64  # of a turn's beginning that are looked at

# English only. It need not be right about a turn, only alike from night to night.
_SORRY = (
    r"(?:(?:i'm |i am )?(?:so |very |really )?sorry[,.]? (?:but )?|i apologi[sz]e[,.]? (?:but )?|unfortunately,? )?"
)
_REFUSES = r"(?:i can't|i cannot|i can not|i'm unable|i am unable|i'm not able|i am not able|i won't|i must decline|as an ai\b)"
_REFUSAL = rf"^\W*{_SORRY}{_REFUSES}"


def measure_records(messages: pa.ListArray, n_chars: pa.Int64Array) -> Counter[str]:
    """The counts of sound records with these messages and lengths in code points."""
    flat = messages.flatten()
    contents = flat.field("content")
    counts = Counter({"records": len(messages)})
    bins, sizes = np.unique(np.floor(2 * np.log2(n_chars.to_numpy() + 1.0)).astype(np.int64), return_counts=True)
    counts.update({f"length.{one}": size for one, size in zip(bins.tolist(), sizes.tolist(), strict=True)})
    answers = contents.filter(pc.fill_null(pc.equal(flat.field("role"), "assistant"), False)).drop_null()
    counts["turns"] += len(answers)
    counts["refusals"] += count_refusals(answers)
    letters = count_letters(contents.drop_null())
    counts.update({f"script.{name}": int(count) for name, count in zip(SCRIPTS, letters, strict=True) if count})
    return counts


def count_refusals(turns: pa.StringArray) -> int:
    """How many turns begin like a refusal, in English.

    >>> count_refusals(pa.array(["I’m sorry, but I can't help with that.", "As an AI, I …", "I can help."]))
    2
    """
    starts = pc.replace_substring(pc.utf8_slice_codeunits(turns, 0, REFUSAL_CHARS), "’", "'")
    return pc.sum(pc.match_substring_regex(starts, _REFUSAL, ignore_case=True)).as_py() or 0


def count_letters(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """int64[S]: letters of the texts in each of SCRIPTS; digits, signs and blanks are none."""
    _, offsets, content = texts.buffers()
    if not len(texts) or content is None:
        return np.zeros(len(SCRIPTS), np.int64)
    bounds = np.frombuffer(offsets, np.int32)[[texts.offset, texts.offset + len(texts)]]
    said = memoryview(content)[bounds[0] : bounds[1]]
    octets = np.frombuffer(said, np.uint8)
    counts = np.zeros(len(SCRIPTS) + 1, np.int64)
    # ASCII letters are Latin, and octets below 128 are nothing but ASCII; upper and lower case differ in one bit.
    counts[1 + SCRIPTS.index("Latin")] = np.count_nonzero((octets | 32) - np.uint8(ord("a")) < 26)
    if len(octets) and octets.max() >= 128:
        points = np.frombuffer(str(said, "utf-8").encode("utf-32-le"), np.uint32)
        counts += np.bincount(_scripts()[points[points >= 128]], minlength=len(SCRIPTS) + 1)
    return counts[1:]


@functools.lru_cache(maxsize=1)
def _scripts() -> npt.NDArray[np.uint8]:
    """uint8[0x110000]: 1 + the place in SCRIPTS of each letter's code point, 0 for all others."""
    points = [*itertools.chain(*ASSIGNED)]
    every = "".join(map(chr, points))
    table = np.zeros(0x110000, np.uint8)
    for script in ("Other", *SCRIPTS[:-1]):
        wanted = r"\p{L}+" if script == "Other" else rf"(?V1)[\p{{L}}&&\p{{Script={script}}}]+"
        for found in regex.finditer(wanted, every):
            start, end = points[found.start()], points[found.end() - 1] + 1
            table[start:end] = SCRIPTS.index(script) + 1
    return table
