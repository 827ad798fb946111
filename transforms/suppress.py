"""Suppress: records of people who were forgotten go no further than Parse, and leave nothing but their line's place."""

from __future__ import annotations

import functools
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.reasons import Drop
from transforms.schema import REASONS, RECORDS
from transforms.storage import Storage

_CONTENT = ("messages", "tools", "metadata", "group")


@functools.lru_cache(maxsize=4)
def load_suppressed(storage: Storage, uris: tuple[str, ...]) -> pa.Array:
    """The groups in the lists of forgotten groups; read once a worker."""
    tables = [pq.read_table(io.BytesIO(storage.read(uri))).column("group") for uri in uris]
    groups = pa.chunked_array([chunk for column in tables for chunk in column.chunks], pa.binary(16))
    return groups.unique()


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
