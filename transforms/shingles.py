"""Word shingles of texts as sets of 64-bit hashes: what "alike" means in the mill.

A token is a run of letters, marks and numbers after NFKC and case folding; in scripts that put no space
between words (Han, kana, Thai, Lao, Khmer, Burmese) every character is a token of its own. A shingle is
`size` tokens in a row; a shorter text that has a token is one shingle. Hashes are keyed, so that nobody
outside can craft texts that collide.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from transforms.hashing import Keys

SHINGLES = 1  # version: raise it with any change to tokens or hashes

_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(rf"(?V1)[{_ALONE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_ALONE}]]+")


class Ragged(NamedTuple):
    """Lists of uint64 end to end: list `i` is `values[offsets[i]:offsets[i + 1]]`."""

    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint64]


def tokenize(text: str) -> list[str]:
    """The tokens of a text.

    >>> tokenize("The QUICK fox, 2 × 東京!")
    ['the', 'quick', 'fox', '2', '東', '京']
    """
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    found: list[str] = _TOKEN.findall(folded)
    return found


def shingle_texts(texts: Sequence[str], size: int, keys: Keys) -> Ragged:
    """Sorted, distinct shingle hashes of each text."""
    tokens = [tokenize(text) for text in texts]
    counts = np.fromiter(map(len, tokens), np.int64, len(tokens))
    seed, *factors = keys.seeds(b"shingles", size + 1)
    key = seed.to_bytes(8, "big")
    flat = [token for one in tokens for token in one]
    known = {
        token: int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8, key=key).digest(), "little")
        for token in dict.fromkeys(flat)
    }
    words = np.fromiter(map(known.__getitem__, flat), np.uint64, len(flat))
    owners, hashes = _windows(words, counts, np.array(factors, np.uint64) | np.uint64(1))
    order = np.lexsort((hashes, owners))
    owners, hashes = owners[order], hashes[order]
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
    owners, hashes = owners[fresh], hashes[fresh]
    return Ragged(np.searchsorted(owners, np.arange(len(texts) + 1)), hashes)


def _windows(
    words: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], factors: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """(owner, hash) of every window of `len(factors)` words that lies within one text.

    A text that is shorter than a window is padded with zero words, so it is one window.
    """
    size = len(factors)
    padded_counts = np.where(counts > 0, np.maximum(counts, size), 0)
    starts = np.concatenate(([0], np.cumsum(padded_counts)))
    padded = np.zeros(starts[-1], np.uint64)
    owner_of_word = np.repeat(np.arange(len(counts)), counts)
    first_word = np.concatenate(([0], np.cumsum(counts)))[:-1]
    padded[starts[owner_of_word] + np.arange(len(words)) - first_word[owner_of_word]] = words
    owners = np.repeat(np.arange(len(counts)), padded_counts)
    if len(padded) < size:
        return owners[:0], padded[:0]
    last = len(padded) - size + 1
    hashes = np.zeros(last, np.uint64)
    for offset in range(size):
        hashes += padded[offset : offset + last] * factors[offset]
    within = owners[:last] == owners[size - 1 :]
    return owners[:last][within], mix(hashes[within])


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
