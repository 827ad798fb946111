"""What "alike" means in the mill: the Jaccard index of two texts' sets of shingles.

A token is a run of letters, marks and numbers after NFKC and case folding; in scripts that put no space
between words (Han, kana, Thai, Lao, Khmer, Burmese) every character is a token of its own. A shingle is
`size` tokens in a row; a shorter text that has a token is one shingle.

One changed word costs a short text most of its shingles, so a pair of which either text has fewer than
`SHORT` tokens is compared by its grams instead: `GRAM` characters in a row of the text's tokens with one
space where anything else stood. Which of the two measures a pair gets depends on the pair alone. A text of
`BRIDGE` tokens and more is never like one below `SHORT`.

The functions here are the plain definition; `transforms.fingerprints` gives the same sets faster. Hashes
are keyed: whoever knows neither the key nor, without one, the salt cannot craft texts that collide.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from transforms.hashing import Keys
from transforms.letters import ALONE, LETTER

SHINGLES = 2  # version: raise it with any change to tokens or hashes

SHORT = 15  # tokens
BRIDGE = 24  # tokens: a gram index of 0.7, the least that is looked for by default, allows 14 / 0.7 = 20 on average
GRAM = 5  # characters

_TOKEN = regex.compile(rf"(?V1)[{ALONE}]|[[{LETTER}]--[{ALONE}]]+")
_GAP = regex.compile(rf"[^{LETTER}{ALONE}]+")
_BESIDE = regex.compile(rf"(?<=[{ALONE}]) | (?=[{ALONE}])")
_WORD = (1 << 64) - 1


class Ragged(NamedTuple):
    """Lists of uint64 end to end: list `i` is `values[offsets[i]:offsets[i + 1]]`."""

    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint64]


class ShingleKeys(NamedTuple):
    """What keys the hashes: of tokens (`seed`, `factor`), of shingles uint64[size], of grams (uint64[GRAM], `gram_seed`)."""

    seed: np.uint64
    factor: np.uint64
    windows: npt.NDArray[np.uint64]
    grams: npt.NDArray[np.uint64]
    gram_seed: np.uint64


def shingle_keys(size: int, keys: Keys) -> ShingleKeys:
    """The dataset's keys for shingles of `size` tokens; all factors are odd."""
    drawn = np.array(keys.seeds(b"shingles", 3 + GRAM + size), np.uint64)
    factors = drawn | np.uint64(1)
    return ShingleKeys(drawn[0], factors[1], factors[3 + GRAM :], factors[3 : 3 + GRAM], drawn[2])


def fold(text: str) -> str:
    """The text as tokens are cut from it: NFKC, then case folding."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def tokenize(text: str) -> list[str]:
    """The tokens of a text.

    >>> tokenize("The QUICK fox, 2 × 東京!")
    ['the', 'quick', 'fox', '2', '東', '京']
    """
    found: list[str] = _TOKEN.findall(fold(text))
    return found


def spell(text: str) -> str:
    """What grams are cut from: a space between words, none beside a character of a script that puts none.

    >>> spell("Yes — OK, 東京, です!")
    'yes ok東京です'
    """
    spelt: str = _BESIDE.sub("", _GAP.sub(" ", fold(text)).strip(" "))
    return spelt


def token_hash(token: str, shingle: ShingleKeys) -> int:
    """The 64-bit hash of a token: of each of its characters in turn."""
    value, factor = int(shingle.seed), int(shingle.factor)
    for one in token:
        value = ((value ^ ord(one)) * factor) & _WORD
        value ^= value >> 32
    return value


def shingle_texts(texts: Sequence[str], size: int, keys: Keys) -> Ragged:
    """Sorted, distinct hashes of the shingles of each text."""
    return shingle_tokens([tokenize(text) for text in texts], size, keys)


def shingle_tokens(tokens: Sequence[Sequence[str]], size: int, keys: Keys) -> Ragged:
    """The same of texts that are tokenized already."""
    shingle = shingle_keys(size, keys)
    flat = [token for one in tokens for token in one]
    known = {token: token_hash(token, shingle) for token in dict.fromkeys(flat)}
    words = np.fromiter(map(known.__getitem__, flat), np.uint64, len(flat))
    return _distinct_windows(words, [len(one) for one in tokens], shingle.windows, np.uint64(0))


def gram_texts(texts: Sequence[str], keys: Keys) -> Ragged:
    """Sorted, distinct hashes of the grams of each text."""
    spelt = [spell(text) for text in texts]
    shingle = shingle_keys(1, keys)
    points = np.array([ord(one) for text in spelt for one in text], np.uint64)
    return _distinct_windows(points, [len(text) for text in spelt], shingle.grams, shingle.gram_seed)


def _distinct_windows(
    values: npt.NDArray[np.uint64], lengths: Sequence[int], factors: npt.NDArray[np.uint64], seed: np.uint64
) -> Ragged:
    """Sorted, distinct hashes of the windows of `len(factors)` values that lie within one list.

    A list that is shorter than a window is padded with zeros, so it is one window; an empty one has none.
    """
    counts, size = np.array(lengths, np.int64), len(factors)
    padded_counts = np.where(counts > 0, np.maximum(counts, size), 0)
    starts = np.concatenate(([0], np.cumsum(padded_counts)))
    padded = np.zeros(starts[-1], np.uint64)
    owner_of_value = np.repeat(np.arange(len(counts)), counts)
    first_value = np.concatenate(([0], np.cumsum(counts)))[:-1]
    padded[starts[owner_of_value] + np.arange(len(values)) - first_value[owner_of_value]] = values
    owners = np.repeat(np.arange(len(counts)), padded_counts)
    last = max(len(padded) - size + 1, 0)
    hashes = np.full(last, seed, np.uint64)
    for offset in range(size if last else 0):
        hashes += padded[offset : offset + last] * factors[offset]
    within = owners[:last] == owners[size - 1 :] if last else np.empty(0, bool)
    owners, hashes = owners[:last][within], mix(hashes[within])
    order = np.lexsort((hashes, owners))
    owners, hashes = owners[order], hashes[order]
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
    owners, hashes = owners[fresh], hashes[fresh]
    return Ragged(np.searchsorted(owners, np.arange(len(counts) + 1)), hashes)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """MurmurHash3's 64-bit finalizer (Appleby, public domain), element by element."""
    mixed = values ^ (values >> np.uint64(33))
    mixed = mixed * np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed = mixed * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(mixed ^ (mixed >> np.uint64(33)))


def jaccard(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> float:
    """Jaccard index of two sorted sets of hashes; 0 where both are empty."""
    both = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - both
    return both / union if union else 0.0
