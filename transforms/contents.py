"""Contents of messages as one column: most records say nothing else, and are not made anew where these change.

messages   [user "a", assistant "b"]   [user "c"]
contents         "a"            "b"         "c"      ──►   "a"  "b"  "<EMAIL_ADDRESS_1>"   ──►   messages
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.schema import ROLES

_NOT_PLAIN = r"\\|[0-9][eE]"  # JSON with escapes, or numbers that are read as other digits


def only_contents(records: pa.RecordBatch) -> NDArray[np.bool_]:
    """bool[N]: a row has no text but contents, the names of roles, and JSON whose strings stand in it as they are."""
    messages = records.column("messages")
    role, _, *others, _ = messages.flatten().flatten()
    other = pc.invert(pc.fill_null(pc.is_in(role, pa.array(ROLES)), False))
    for column in others:
        other = pc.or_(other, column.is_valid())
    more = np.concatenate([[0], np.cumsum(other.to_numpy(zero_copy_only=False))])
    ends = np.cumsum(message_counts(messages))
    plain = more[ends] == more[ends - message_counts(messages)]
    for name in ("tools", "metadata"):
        escaped = pc.fill_null(pc.match_substring_regex(records.column(name), _NOT_PLAIN), False)
        plain &= ~escaped.to_numpy(zero_copy_only=False)
    return np.asarray(plain)


def message_counts(messages: pa.ListArray) -> NDArray[np.int64]:
    """int64[N]: the messages of each row."""
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
