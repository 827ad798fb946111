"""Candidates: pairs of records that share a band of their signatures."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.exact import id_words, ids_of

# One row for each band of each distinct record of a block.
BANDS = pa.schema(
    [
        pa.field("band", pa.uint64(), nullable=False),
        pa.field("rank", pa.binary(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
    ]
)

# a < b, as bytes.
PAIRS = pa.schema([pa.field("a", pa.binary(16), nullable=False), pa.field("b", pa.binary(16), nullable=False)])

LEADERS = 16  # records of equal bands that every other one is compared with: pairs stay linear in records


def find_candidates(bands: pa.Table) -> pa.Table:
    """Distinct PAIRS of ids that share a band; each record meets the first `LEADERS` of its band by rank and id.

    Takes all rows of the bands it is given: equal bands must not be spread over calls.
    """
    bands = bands.sort_by([(name, "ascending") for name in ("band", "rank", "id")]).combine_chunks()
    values = bands.column("band").to_numpy()
    ids = id_words(bands.column("id"))
    fresh = np.ones(len(values), bool)
    fresh[1:] = (values[1:] != values[:-1]) | (ids[1:] != ids[:-1]).any(axis=1)
    values, ids = values[fresh], ids[fresh]
    start_of_run = np.ones(len(values), bool)
    start_of_run[1:] = values[1:] != values[:-1]
    starts = np.flatnonzero(start_of_run)
    first = np.repeat(starts, np.diff(np.append(starts, len(values))))
    place = np.arange(len(values)) - first
    found = []
    for leader in range(LEADERS):
        follower = np.flatnonzero(place > leader)
        if len(follower) == 0:
            break
        found.append(np.hstack([ids[first[follower] + leader], ids[follower]]))
    pairs = np.concatenate(found) if found else np.empty((0, 4), np.uint64)
    return pair_table(pairs)


def pair_table(pairs: np.ndarray[tuple[int, int], np.dtype[np.uint64]]) -> pa.Table:
    """Distinct PAIRS, sorted, the smaller id first, of uint64[N, 4] words; a pair of one id is left out."""
    left, right = pairs[:, :2], pairs[:, 2:]
    swap = (left[:, 0] > right[:, 0]) | ((left[:, 0] == right[:, 0]) & (left[:, 1] > right[:, 1]))
    ordered = np.where(swap[:, None], np.hstack([right, left]), pairs)
    ordered = ordered[(ordered[:, :2] != ordered[:, 2:]).any(axis=1)]
    distinct = np.unique(ordered, axis=0)
    return pa.table([ids_of(distinct[:, :2]), ids_of(distinct[:, 2:])], schema=PAIRS)
