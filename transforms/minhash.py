"""MinHash signatures and their LSH bands.

The signature is datasketch's (scheme `affine32`: Murmur3's 32-bit finalizer, then `a * h + b mod 2**32`,
`a` odd), with permutations drawn from the dataset's key instead of its public default seed, which can
be searched for texts that collide. `datasketch.MinHash` is the oracle of `sign`.
Bands: Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, section 3.4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.hashing import Keys
from transforms.shingles import Ragged, mix

EMPTY = np.uint32(0xFFFFFFFF)


class Permutations(NamedTuple):
    """uint32[P] multipliers (odd) and uint32[P] offsets."""

    a: npt.NDArray[np.uint32]
    b: npt.NDArray[np.uint32]


def permutations(count: int, keys: Keys) -> Permutations:
    """`count` permutations of the 32-bit integers, from the key."""
    drawn = np.array(keys.seeds(b"minhash", count), np.uint64)
    return Permutations((drawn >> np.uint64(32)).astype(np.uint32) | np.uint32(1), drawn.astype(np.uint32))


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


def band_hashes(signatures: npt.NDArray[np.uint32], bands: int, rows: int, keys: Keys) -> npt.NDArray[np.uint64]:
    """uint64[N, B]: one hash for each band of `rows` values; equal where all its values are."""
    factors = np.array(keys.seeds(b"bands", rows), np.uint64) | np.uint64(1)
    shaped = signatures[:, : bands * rows].reshape(len(signatures), bands, rows).astype(np.uint64)
    seeds = np.array(keys.seeds(b"band", bands), np.uint64)
    folded = np.broadcast_to(seeds, shaped.shape[:2]).copy()
    for row in range(rows):
        folded = mix(folded + shaped[:, :, row] * factors[row])
    return folded


def _finalize(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer, element by element."""
    mixed = values ^ (values >> np.uint32(16))
    mixed = mixed * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed = mixed * np.uint32(0xC2B2AE35)
    return np.asarray(mixed ^ (mixed >> np.uint32(16)))
