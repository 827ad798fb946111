"""Settle: what becomes of each sound record before the cut is known: kept in a bin, or a duplicate of whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.exact import elect_records
from transforms.hashing import Keys
from transforms.split import BINS, bin_of

# One row for each sound record, sorted by key, then id. `bin` is -1 for duplicates, whose `kept_id` and
# `similarity` say of whom; `writer` and `line` say where its text is.
SETTLED = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("writer", pa.int32(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("bin", pa.int32(), nullable=False),
        pa.field("kept_id", pa.binary(16)),
        pa.field("similarity", pa.float32()),
        pa.field("near", pa.bool_(), nullable=False),
    ]
)


class Settled(NamedTuple):
    """SETTLED rows, records kept by bin (int64[BINS]), and canonical JSON bytes of the kept records."""

    rows: pa.Table
    counts: npt.NDArray[np.int64]
    n_bytes: int


def settle_records(facts: pa.Table, verdicts: pa.Table, keys: Keys, *, exact: bool) -> Settled:
    """Settles the records of one segment of keys from their FACTS and the VERDICTS on some of them."""
    facts, elected = elect_records(facts, exact=exact)
    ids = facts.column("id")
    place = pc.index_in(ids, value_set=verdicts.column("id"))
    near_of = verdicts.column("kept_id").take(place)
    is_near = np.asarray(pc.is_valid(near_of).to_numpy(), bool)
    kept = elected & ~is_near
    # Copies of a near-duplicate are copies first: they name the id that they share.
    kept_id = pc.if_else(pa.array(kept), pa.scalar(None, pa.binary(16)), pc.if_else(pa.array(elected), near_of, ids))
    similarity = pc.if_else(pa.array(elected), verdicts.column("similarity").take(place), pa.scalar(1.0, pa.float32()))
    units = pc.coalesce(facts.column("group"), verdicts.column("unit").take(place), ids)
    bins = np.full(len(kept), -1, np.int32)
    bins[kept] = [bin_of(unit, keys) for unit in units.filter(pa.array(kept)).to_pylist()]
    rows = pa.table(
        [
            facts.column("key"),
            ids,
            facts.column("writer"),
            facts.column("line"),
            pa.array(bins),
            kept_id,
            pc.if_else(pa.array(kept), pa.scalar(None, pa.float32()), similarity),
            pa.array(elected & is_near),
        ],
        schema=SETTLED,
    )
    counts = np.bincount(bins[kept], minlength=BINS).astype(np.int64)
    return Settled(rows, counts, int(facts.column("n_bytes").to_numpy()[kept].sum()))
