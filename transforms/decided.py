"""Decided: records that a human replaced or cut, and those that stand in their place, as a rebuild must know them.

DECIDED has a row for each id, source id and group: `replaced_by` says what stands in the place of the record, by its own
id where it was cut; it is null for a record that stands in another's place, which the rebuild takes over as it is.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.index import Index
from transforms.reasons import SPLITS
from transforms.storage import Storage

DECIDED = pa.schema(
    [
        pa.field("owner", pa.binary(16), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
        pa.field("replaced_by", pa.binary(16)),
    ]
)


@functools.lru_cache(maxsize=4)
def load_decided(storage: Storage, uri: str) -> pa.Table:
    """DECIDED of a file; read once a worker."""
    return pq.read_table(io.BytesIO(storage.read(uri))).cast(DECIDED)


def find_decided(index: Index) -> tuple[pa.Table, list[int]]:
    """DECIDED, without groups: what the index says of records that were replaced, and of those in their place, and
    how many of the latter are in each split."""
    replaced = _gather(rows.filter(pc.is_valid(rows.column("replaced_by"))) for rows in index.all("records"))
    if not replaced.num_rows:
        return DECIDED.empty_table(), [0] * len(SPLITS)
    ids, by = replaced.column("owner"), replaced.column("replaced_by")
    standing = by.filter(pc.invert(pc.is_in(by, value_set=ids.combine_chunks()))).combine_chunks()
    corrected = _gather(rows.filter(pc.is_in(rows.column("id"), value_set=standing)) for rows in index.all("records"))
    records = pa.concat_tables([replaced, corrected]).combine_chunks()
    tables = [records]
    for owners in index.all("owners"):
        place = pc.index_in(owners.column("id"), value_set=records.column("owner").combine_chunks(), skip_nulls=True)
        mine = owners.filter(pc.is_valid(place))
        by = records.column("replaced_by").take(place.drop_null())
        tables.append(pa.table([mine.column("owner"), mine.column("split"), by], schema=DECIDED))
    counts = np.bincount(corrected.column("split").to_numpy(), minlength=len(SPLITS)).tolist()
    return pa.concat_tables(tables).combine_chunks(), counts


def _gather(parts: Iterable[pa.Table]) -> pa.Table:
    columns = ["id", "split", "replaced_by"]
    tables = [part.select(columns).rename_columns(DECIDED.names).cast(DECIDED) for part in parts]
    return pa.concat_tables([DECIDED.empty_table(), *tables]).combine_chunks()


def is_replaced(decided: pa.Table) -> pa.Table:
    """The rows of what was replaced or cut."""
    return decided.filter(pc.is_valid(decided.column("replaced_by"))).combine_chunks()


def stands(decided: pa.Table) -> pa.Table:
    """The rows of what stands in another's place."""
    return decided.filter(pc.is_null(decided.column("replaced_by"))).combine_chunks()


def mark_sketches(sketches: pa.Table, decided: pa.Table) -> pa.Table:
    """SKETCHES in which those of records that were replaced count as published: what resembles them gives way."""
    place = pc.index_in(sketches.column("id"), value_set=decided.column("owner").combine_chunks())
    splits = decided.column("split").take(place)
    number = sketches.schema.get_field_index("published")
    marked = pc.coalesce(splits, sketches.column("published"))
    return sketches.set_column(number, sketches.schema.field(number), marked)


def of_decided(kind: str, rows: pa.Table, decided: pa.Table) -> pa.Array:
    """bool[N]: the rows of `records` or `owners` of an index that a rebuild takes over for what was decided."""
    found = pc.is_in(
        rows.column("id" if kind == "records" else "owner"), value_set=decided.column("owner").combine_chunks()
    )
    return pa.array(np.asarray(found.to_numpy(), bool))
