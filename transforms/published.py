"""Published: records of a dataset's own files, signed anew for a run that must not come near them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.bands import BANDS, refs_of
from transforms.canonical import id_of_said
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.options import DedupeOptions
from transforms.schema import DATA, MESSAGES
from transforms.sign import fingerprint_records
from transforms.storage import Storage
from transforms.verify import SKETCHES, sketch_lists

ROWS = 4096  # at a time

_SAID = pa.schema(
    [pa.field("id", pa.binary(16), nullable=False), pa.field("messages", MESSAGES), pa.field("group", pa.binary(16))]
)


def read_published(storage: Storage, uri: str) -> Iterator[pa.RecordBatch]:
    """Id, messages and group of the rows of a Parquet or JSONL file of a dataset. JSONL has no groups."""
    content = storage.read(uri)
    if uri.endswith(".parquet"):
        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=ROWS, columns=_SAID.names):
            ids, groups = (_bytes_of(batch.column(name)) for name in ("id", "group"))
            messages = batch.column("messages").cast(DATA.field("messages").type)
            yield pa.RecordBatch.from_arrays([ids, messages, groups], schema=_SAID)
        return
    lines = content.split(b"\n")[:-1]
    for start in range(0, len(lines), ROWS):
        said = [orjson.loads(line) for line in lines[start : start + ROWS]]
        messages = pa.array([one["messages"] for one in said], MESSAGES)
        ids = pa.array([id_of_said(one) for one in said], pa.binary(16))
        yield pa.RecordBatch.from_arrays([ids, messages, pa.nulls(len(said), pa.binary(16))], schema=_SAID)


def sign_published(
    said: pa.RecordBatch, split: int, options: DedupeOptions, keys: Keys
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """(BANDS, SKETCHES) of rows of `read_published`, as published in a split."""
    prints = fingerprint_records(said, options, keys)
    ids, owners = said.column("id"), prints.owners
    refs = refs_of(id_words(ids)[:, 0])[owners]
    bands = [prints.bands, refs, np.zeros(len(owners), np.uint32), np.full(len(owners), split, np.int8)]
    rows, words, grams = sketch_lists(prints)
    zeros = np.zeros(len(rows), np.int64)
    sketches = [
        ids.take(pa.array(rows)),
        pa.array([b""] * len(rows), pa.binary()),
        said.column("group").take(pa.array(rows)),
        pa.array(zeros),
        pa.array(np.full(len(rows), split, np.int8)),
        pa.array(zeros.astype(np.uint64)),
        words,
        grams,
    ]
    return (
        pa.RecordBatch.from_arrays([pa.array(one) for one in bands], schema=BANDS),
        pa.RecordBatch.from_arrays(sketches, schema=SKETCHES),
    )


def _bytes_of(column: pa.Array) -> pa.FixedSizeBinaryArray:
    values = [None if one is None else bytes.fromhex(one) for one in column.to_pylist()]
    return pa.array(values, pa.binary(16))
