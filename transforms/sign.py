"""Sign: identities of sound records, and the fingerprints by which look-alikes are found."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

import transforms.coder  # noqa: F401  (registers the coder of record batches)
from transforms.canonical import canonical_json, conversation_lines
from transforms.fingerprints import Fingerprints, fingerprint_messages
from transforms.hashing import Keys, content_digest, record_id
from transforms.options import DedupeOptions, metadata_value
from transforms.schema import KINDS, RECORDS

# What Sign adds: `key` orders the output, `rank` orders duplicates of different content (smaller is kept),
# `tie` those of the same content, `n_bytes` is the length of the canonical JSON.
SIGNED = pa.schema(
    [
        *RECORDS,
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("rank", pa.binary(), nullable=False),
        pa.field("tie", pa.binary(16), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("n_chars", pa.int64(), nullable=False),
    ]
)

# Bodies are what users and assistants say: prompts and tool results are shared by whole families of records.
_BODIES = pa.array(["user", "assistant"])


def identify_sources(records: pa.RecordBatch, keys: Keys) -> pa.RecordBatch:
    """RECORDS with `source_id` of what each record says before redaction; unchanged without a secret key."""
    if keys.secret is None or records.num_rows == 0:
        return records
    lines = conversation_lines(records.column("messages"), records.column("tools"), weight=False)
    sources = [keys.source_id(line.as_buffer().to_pybytes()) for line in lines]
    sound = [source if ok else None for source, ok in zip(sources, is_sound(records).to_pylist(), strict=True)]
    return records.set_column(
        RECORDS.get_field_index("source_id"), RECORDS.field("source_id"), pa.array(sound, pa.binary(16))
    )


def is_sound(records: pa.RecordBatch) -> pa.BooleanArray:
    """bool[N]: whether a record has no reason to be quarantined."""
    return pc.equal(pc.list_value_length(records.column("reasons")), 0)


def sign_records(
    records: pa.RecordBatch, keys: Keys, prefer: Sequence[str] = (), written: pa.RecordBatch | None = None
) -> pa.RecordBatch:
    """SIGNED for sound RECORDS: id, shuffle key and what decides among duplicates.

    `written` are the same records as they are to be written, where that is not what their ids are made from: with
    surrogates. Duplicates may differ there, so what decides among them is computed from it.
    """
    messages, tools = records.column("messages"), records.column("tools")
    lines = conversation_lines(messages, tools, weight=False)
    ids = [record_id(line.as_buffer().to_pybytes()) for line in lines]
    if written is not None:
        records = written
        messages, tools = records.column("messages"), records.column("tools")
        lines = conversation_lines(messages, tools, weight=False)
    kinds, metadata = records.column("kind").to_pylist(), records.column("metadata").to_pylist()
    ranks = [_rank(kind, text, prefer) for kind, text in zip(kinds, metadata, strict=True)]
    weights = conversation_lines(messages, tools, weight=True)
    groups = records.column("group").to_pylist()
    ties = [
        content_digest(canonical_json([weighted, text, (group or b"").hex(), kind, redactions]))
        for weighted, text, group, kind, redactions in zip(
            weights.to_pylist(), metadata, groups, kinds, records.column("n_redactions").to_pylist(), strict=True
        )
    ]
    columns = [
        *records.columns,
        pa.array(ids, pa.binary(16)),
        pa.array([keys.shuffle_key(one) for one in ids], pa.uint64()),
        pa.array(ranks, pa.binary()),
        pa.array(ties, pa.binary(16)),
        pc.cast(pc.binary_length(lines), pa.int64()),
        _count_chars(messages),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SIGNED)


def fingerprint_records(
    records: pa.RecordBatch, options: DedupeOptions, keys: Keys, rows: npt.NDArray[np.bool_] | None = None
) -> Fingerprints:
    """Fingerprints of what users and assistants say in N records; of the `rows` alone where they are given (bool[N])."""
    messages = records.column("messages")
    flat = messages.flatten()
    contents = flat.field("content")
    spoken = pc.and_(pc.is_in(flat.field("role"), _BODIES), pc.is_valid(contents)).to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy()
    if rows is not None:
        spoken &= np.repeat(rows, lengths)
    bounds = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return fingerprint_messages(contents, spoken, bounds, options, keys)


def bodies(messages: pa.ListArray) -> list[str]:
    """What users and assistants say in each conversation, a turn a line."""
    flat = messages.flatten()
    spoken = pc.and_(pc.is_in(flat.field("role"), _BODIES), pc.is_valid(flat.field("content")))
    texts = pc.if_else(spoken, flat.field("content"), "").to_pylist()
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_pylist()
    joined, position = [], 0
    for length in lengths:
        joined.append("\n".join(texts[position : position + length]))
        position += length
    return joined


def _count_chars(messages: pa.ListArray) -> pa.Int64Array:
    """int64[N]: code points of all contents of a conversation."""
    lengths = pc.fill_null(pc.utf8_length(messages.flatten().field("content")), 0).to_numpy(zero_copy_only=False)
    sums = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    bounds = np.concatenate(([0], np.cumsum(pc.fill_null(pc.list_value_length(messages), 0).to_numpy())))
    return pa.array(sums[bounds[1:]] - sums[bounds[:-1]], pa.int64())


def _rank(kind: str, metadata: str, prefer: Sequence[str]) -> bytes:
    """Bytes that sort as the preference does: the kind, then each preferred value, missing ones last."""
    rank = bytes([KINDS.index(kind)])
    values: dict[str, Any] = orjson.loads(metadata) if prefer else {}
    for path in prefer:
        value = metadata_value(values, path.removeprefix("-"))
        if isinstance(value, bool | int | float):
            number = float(value) if path.startswith("-") else -float(value)
            rank += b"\0" + _sortable(number + 0.0)
        else:
            rank += b"\1" + bytes(8)
    return rank


def _sortable(number: float) -> bytes:
    """8 bytes that sort as the numbers do: IEEE 754 with the sign turned."""
    bits: int = struct.unpack(">Q", struct.pack(">d", number))[0]
    return ((bits ^ (2**64 - 1)) if bits >> 63 else (bits | 1 << 63)).to_bytes(8, "big")


@dataclass
class SignRecords(beam.PTransform):
    """PCollection of RECORDS batches, unsound ones among them, to SIGNED batches of the sound ones."""

    keys: Keys
    prefer: tuple[str, ...] = ()

    def expand(self, records: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        return records | "Sign" >> beam.Map(
            lambda batch: sign_records(batch.filter(is_sound(batch)), self.keys, self.prefer)
        ).with_output_types(pa.RecordBatch)
