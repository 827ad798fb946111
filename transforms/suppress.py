"""Suppress: records of people who were forgotten go no further than Parse, and leave nothing but their line's place.

What somebody else says as they did in eval or val leaves no more: what was once there is in no other split later. What
somebody says as they did in train goes to train (`transforms.left`).
"""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.hashing import Keys
from transforms.reasons import Drop
from transforms.schema import REASONS, RECORDS
from transforms.storage import Storage

_CONTENT = ("messages", "tools", "metadata", "group")


class Suppressed(NamedTuple):
    """What is forgotten: digests of groups, and keyed digests of the ids and source ids of records that were in eval or val,
    and of those that were in train."""

    groups: pa.Array
    records: pa.Array
    trained: pa.Array


@functools.lru_cache(maxsize=4)
def load_suppressed(storage: Storage, uris: tuple[str, ...]) -> Suppressed:
    """The lists of what is forgotten; read once a worker."""
    chunks: dict[str, list[pa.Array]] = {"group": [], "record": [], "trained": []}
    for uri in uris:
        table = pq.read_table(io.BytesIO(storage.read(uri)))
        for name in table.column_names:
            chunks[name] += table.column(name).chunks
    return Suppressed(*(pa.chunked_array(found, pa.binary(16)).unique() for found in chunks.values()))


@functools.lru_cache(maxsize=4)
def load_groups(storage: Storage, uris: tuple[str, ...]) -> pa.Array:
    """The groups of the records in files of a dataset, Parquet, each once; read once a worker."""
    found = []
    for uri in uris:
        with storage.open(uri) as stream:
            found += pq.ParquetFile(stream).read(["group"]).column("group").unique().drop_null().to_pylist()
    return pa.array([bytes.fromhex(one) for one in sorted(set(found))], pa.binary(16))


def is_suppressed(records: pa.RecordBatch | pa.Table, suppressed: pa.Array, keys: Keys) -> pa.BooleanArray:
    """bool[N]: which of the records, with `id` and `source_id`, say what is on a list of forgotten ones."""
    if not len(suppressed):
        return pa.array(np.zeros(records.num_rows, bool))
    digests = [
        pa.array([one and keys.value(one) for one in records.column(name).to_pylist()], pa.binary(16))
        for name in ("id", "source_id")
    ]
    return pc.or_(*(pc.is_in(one, value_set=suppressed) for one in digests))


def leave_out_groups(records: pa.RecordBatch, suppressed: pa.Array) -> pa.RecordBatch:
    """RECORDS in which those of suppressed groups have the reason `forgotten` alone, and no content any more."""
    if not len(suppressed) or not records.num_rows:
        return records
    gone = np.asarray(pc.is_in(records.column("group"), value_set=suppressed).to_numpy(zero_copy_only=False), bool)
    if not gone.any():
        return records
    # take(), not a mask: the bytes of the content must be gone, not merely hidden behind a null.
    left = pa.array(np.arange(records.num_rows), mask=gone)
    reasons = pa.array(
        [[str(Drop.FORGOTTEN)] if one else reasons
         for one, reasons in zip(gone, records.column("reasons").to_pylist(), strict=True)],
        REASONS,
    )  # fmt: skip
    columns = [
        reasons if name == "reasons" else records.column(name).take(left) if name in _CONTENT else records.column(name)
        for name in RECORDS.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def with_reasons(records: pa.RecordBatch, reason: Drop) -> pa.RecordBatch:
    """The records, each with one reason to be left out."""
    reasons = pa.array([[str(reason)]] * records.num_rows, REASONS)
    place = records.schema.get_field_index("reasons")
    return records.set_column(place, records.schema.field(place), reasons)


def forgotten(records: pa.RecordBatch) -> pa.RecordBatch:
    """The places of records that are forgotten, and no more: neither ids nor whose they are."""
    return with_reasons(records.select(["line", "offset", "length", "reasons"]), Drop.FORGOTTEN)
