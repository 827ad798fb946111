"""MinHash signatures and their LSH bands.

The signature is datasketch's (scheme `affine32`: Murmur3's 32-bit finalizer, then `a * h + b mod 2**32`,
`a` odd), with permutations drawn from the dataset's key instead of its public default seed, which can be searched
for texts that collide. The functions here are the plain definition; `transforms.fingerprints` gives the
same values faster.
Bands: Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, section 3.4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.hashing import Keys
from transforms.shingles import Ragged, mix, tokenize

EMPTY = np.uint32(0xFFFFFFFF)
BAND_BITS = 40  # at a billion records, unrelated bands that are equal add half a candidate a record


class Permutations(NamedTuple):
    """uint32[P] multipliers (odd) and uint32[P] offsets."""

    a: npt.NDArray[np.uint32]
    b: npt.NDArray[np.uint32]


class BandKeys(NamedTuple):
    """uint64[B] seeds, one a band, and uint64[R] odd factors, one a value."""

    seeds: npt.NDArray[np.uint64]
    factors: npt.NDArray[np.uint64]


def permutations(count: int, keys: Keys) -> Permutations:
    """`count` permutations of the 32-bit integers, from the key."""
    drawn = np.array(keys.seeds(b"minhash", count), np.uint64)
    return Permutations((drawn >> np.uint64(32)).astype(np.uint32) | np.uint32(1), drawn.astype(np.uint32))


def band_keys(bands: int, rows: int, keys: Keys, scheme: bytes = b"") -> BandKeys:
    """The keys of band hashes; those of another `scheme` of shingles never meet."""
    factors = np.array(keys.seeds(b"bands", rows), np.uint64) | np.uint64(1)
    return BandKeys(np.array(keys.seeds(b"band" + scheme, bands), np.uint64), factors)


def sign(shingles: Ragged, permuted: Permutations) -> npt.NDArray[np.uint32]:
    """uint32[N, P]: the least value of each permutation over each set; `EMPTY` for the empty set."""
    count = len(shingles.offsets) - 1
    signatures = np.full((count, len(permuted.a)), EMPTY, np.uint32)
    filled = np.flatnonzero(np.diff(shingles.offsets) > 0)
    if len(filled) == 0:
        return signatures
    hashes = _finalize(shingles.values.astype(np.uint32))
    starts = shingles.offsets[filled]
    values = np.empty_like(hashes)
    for index, (a, b) in enumerate(zip(permuted.a, permuted.b, strict=True)):
        np.multiply(hashes, a, out=values)
        np.add(values, b, out=values)
        signatures[filled, index] = np.minimum.reduceat(values, starts)
    return signatures


def datasketch_signatures(texts: list[str], size: int, count: int) -> npt.NDArray[np.uint32]:
    """uint32[N, P]: what `datasketch.MinHash(count)` says of each text's shingles of words, joined by spaces.

    Its default seed and hash, so that signatures made elsewhere compare with these. Slow, and its seed is public.
    """
    import datasketch  # here, as it imports much that nobody else needs

    signatures = np.full((len(texts), count), EMPTY, np.uint32)
    for row, text in enumerate(texts):
        tokens = tokenize(text)
        if tokens:
            windows = {" ".join(tokens[at : at + size]) for at in range(max(1, len(tokens) - size + 1))}
            made = datasketch.MinHash(count)
            made.update_batch([one.encode() for one in sorted(windows)])
            signatures[row] = made.hashvalues
    return signatures


def band_hashes(signatures: npt.NDArray[np.uint32], banded: BandKeys) -> npt.NDArray[np.uint64]:
    """uint64[N, B]: a hash for each band of R values, equal where all its values are; the low 24 bits are 0."""
    bands, rows = len(banded.seeds), len(banded.factors)
    shaped = signatures[:, : bands * rows].reshape(len(signatures), bands, rows).astype(np.uint64)
    folded = np.broadcast_to(banded.seeds, shaped.shape[:2]).copy()
    for row in range(rows):
        folded += shaped[:, :, row] * banded.factors[row]
    return mix(folded) >> np.uint64(64 - BAND_BITS) << np.uint64(64 - BAND_BITS)


def _finalize(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer, element by element."""
    mixed = values ^ (values >> np.uint32(16))
    mixed = mixed * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed = mixed * np.uint32(0xC2B2AE35)
    return np.asarray(mixed ^ (mixed >> np.uint32(16)))
