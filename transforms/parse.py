"""Parse: lines to conversations in one schema, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

import transforms.coder  # noqa: F401  (registers the coder of record batches)
from transforms.canonical import canonical_json
from transforms.hashing import Keys
from transforms.options import metadata_value
from transforms.schema import MESSAGE, RECORDS, TOOL_CALL
from transforms.shapes import Fields, Message, read_record
from transforms.strict_json import Refused, loads_fast


def parse_records(lines: pa.RecordBatch, *, shape: str, kind: str, group_by: str | None, keys: Keys) -> pa.RecordBatch:
    """RECORDS of LINES, a row for a row: a conversation, or the one reason why the line is none."""
    conversations: list[list[Message] | None] = []
    tools: list[str | None] = []
    metadata: list[str | None] = []
    groups: list[bytes | None] = []
    reasons: list[list[str]] = lines.column("reasons").to_pylist()
    known: dict[bytes, bytes] = {}
    for row, text in enumerate(lines.column("text").to_pylist()):
        messages = schemas = fields = group = None
        if text is not None and not reasons[row]:
            try:
                messages, schemas, left = read_record(loads_fast(text), shape)
            except Refused as refused:
                reasons[row] = [refused.reason.value]
            else:
                if group_by is not None:
                    group = _take_group(left, group_by, keys, known)
                fields = canonical_json(left).decode() if left else "{}"
        conversations.append(messages)
        tools.append(schemas)
        metadata.append(fields)
        groups.append(group)
    count = lines.num_rows
    columns = {
        "line": lines.column("line"),
        "offset": lines.column("offset"),
        "length": lines.column("length"),
        "reasons": pa.array(reasons, RECORDS.field("reasons").type),
        "messages": messages_array(conversations),
        "tools": pa.array(tools, pa.string()),
        "kind": pa.repeat(pa.scalar(kind, pa.string()), count),
        "metadata": pa.array(metadata, pa.string()),
        "group": pa.array(groups, pa.binary(16)),
        "source_id": pa.nulls(count, pa.binary(16)),
        "n_redactions": pa.repeat(pa.scalar(0, pa.int32()), count),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in RECORDS.names], schema=RECORDS)


def _take_group(metadata: Fields, path: str, keys: Keys, known: dict[bytes, bytes]) -> bytes | None:
    """The group of the value at `path`, in whose place it puts the group's hex digits; None where there is none."""
    value = metadata_value(metadata, path)
    if value is None:
        return None
    raw = canonical_json(value)
    group = known.get(raw)
    if group is None:
        group = known[raw] = keys.group(raw)
    *way, last = path.split(".")[1:]
    holder: Fields = metadata
    for key in way:
        holder = holder[key]
    holder[last] = group.hex()
    # Where the record's own metadata said something else there, that stays under `metadata`: a raw value too.
    inner = metadata.get("metadata")
    if path != "metadata.metadata" and isinstance(inner, dict):
        _take_group(inner, path, keys, known)
    return group


def messages_array(conversations: Sequence[list[Message] | None]) -> pa.ListArray:
    """list<MESSAGE>[N] from messages as `shapes` makes them: flat columns and offsets, no Python object a row."""
    flat = [message for messages in conversations if messages is not None for message in messages]
    rich = any(len(message) > 2 or "content" not in message for message in flat)

    def column(name: str) -> pa.Array:
        kind = MESSAGE.field(name).type
        if not rich and name not in ("role", "content"):
            return pa.nulls(len(flat), kind)
        values = [message.get(name) for message in flat]
        return _tool_calls_array(values) if name == "tool_calls" else pa.array(values, kind)

    fields = list(MESSAGE)
    values = pa.StructArray.from_arrays([column(field.name) for field in fields], fields=fields)
    return _lists(conversations, values)


def _tool_calls_array(lists: Sequence[list[dict[str, Any]] | None]) -> pa.ListArray:
    """list<TOOL_CALL>[N]."""
    calls = [call for listed in lists if listed is not None for call in listed]
    functions = [call["function"] for call in calls]
    called = pa.StructArray.from_arrays(
        [pa.array([function[name] for function in functions], pa.string()) for name in ("name", "arguments")],
        fields=list(TOOL_CALL.field("function").type),
    )
    columns = [pa.array([call[name] for call in calls], pa.string()) for name in ("id", "type")]
    return _lists(lists, pa.StructArray.from_arrays([*columns, called], fields=list(TOOL_CALL)))


def _lists(lists: Sequence[list[Any] | None], values: pa.Array) -> pa.ListArray:
    """The values cut as the lists are."""
    offsets = pa.array(accumulate((len(one) if one is not None else 0 for one in lists), initial=0), pa.int32())
    absent = pa.array([one is None for one in lists], pa.bool_())
    return pa.ListArray.from_arrays(offsets, values, mask=absent)


@dataclass
class ParseRecords(beam.PTransform[Any, Any]):
    """PCollection of LINES batches to RECORDS batches."""

    keys: Keys
    shape: str = "auto"
    kind: str = "production"
    group_by: str | None = None

    def expand(self, lines: PCollection[pa.RecordBatch]) -> PCollection[pa.RecordBatch]:
        parse = beam.Map(  # type: ignore[no-untyped-call, unused-ignore]
            parse_records, shape=self.shape, kind=self.kind, group_by=self.group_by, keys=self.keys
        )
        records: PCollection[pa.RecordBatch] = lines | "Parse" >> parse.with_output_types(pa.RecordBatch)
        return records
