"""Contents of messages as one column: most records say nothing else, and are not made anew where these change.

messages   [user "a", assistant "b"]   [user "c"]
contents         "a"            "b"         "c"      ──►   "a"  "b"  "<EMAIL_ADDRESS_1>"   ──►   messages
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.schema import ROLES

_NOT_PLAIN = r"\\|[0-9][eE]"  # JSON with escapes, or numbers that are read as other digits


def as_they_are(records: pa.RecordBatch) -> NDArray[np.bool_]:
    """bool[N]: the strings and numbers in the JSON of a row stand in it as they are."""
    messages = records.column("messages")
    calls = messages.flatten().field("tool_calls")
    arguments = _escaped(calls.flatten().field("function").field("arguments"))
    escaped = within(messages, within(calls, arguments))
    return ~(escaped | _escaped(records.column("tools")) | _escaped(records.column("metadata")))


def _escaped(texts: pa.StringArray) -> NDArray[np.bool_]:
    found = pc.fill_null(pc.match_substring_regex(texts, _NOT_PLAIN), False)
    return np.asarray(found.to_numpy(zero_copy_only=False))


def says_more(messages: pa.ListArray) -> NDArray[np.bool_]:
    """bool[N]: the messages of a row have text beside contents and the names of roles."""
    role, _, *others, _ = messages.flatten().flatten()
    other = pc.invert(pc.fill_null(pc.is_in(role, pa.array(ROLES)), False))
    for column in others:
        other = pc.or_(other, column.is_valid())
    return within(messages, other.to_numpy(zero_copy_only=False))


def more_said(messages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What messages say beside their contents and the names of roles; arguments as they are written."""
    for message in messages:
        calls = [call for call in message["tool_calls"] or () if call is not None]
        functions = [call["function"] for call in calls if call["function"] is not None]
        said = [message["role"] if message["role"] not in ROLES else None]
        said += [message[name] for name in ("reasoning", "name", "tool_call_id")]
        said += [call[name] for call in calls for name in ("id", "type")]
        said += [function[name] for function in functions for name in ("name", "arguments")]
        yield from filter(None, said)


def within(lists: pa.ListArray, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[N]: a list holds something marked. `inside` are marks of its flattened values."""
    counts = message_counts(lists)
    ends = np.cumsum(counts)
    total = np.concatenate([[0], np.cumsum(inside)])
    return np.asarray(total[ends] > total[ends - counts])


def message_counts(messages: pa.ListArray) -> NDArray[np.int64]:
    """int64[N]: the messages of each row, or what else the lists hold."""
    return np.asarray(pc.fill_null(pc.list_value_length(messages), 0), np.int64)


def with_contents(messages: pa.ListArray, texts: Mapping[int, str]) -> pa.ListArray:
    """The messages with other contents: `texts` by their places among the messages of all rows."""
    flat = messages.flatten()
    fields = list(flat.type)
    columns = [flat.field(number) for number in range(len(fields))]
    number = flat.type.get_field_index("content")
    order = np.arange(len(flat))
    order[list(texts)] = len(flat) + np.arange(len(texts))
    new = pa.array(texts.values(), columns[number].type)
    columns[number] = pa.concat_arrays([columns[number], new]).take(pa.array(order))
    struct = pa.StructArray.from_arrays(columns, fields=fields, mask=flat.is_null())
    ends = np.cumsum(message_counts(messages), dtype=np.int32)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, struct, type=messages.type, mask=messages.is_null())
