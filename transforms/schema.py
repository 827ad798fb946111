"""Columns and schemas of the record batches between stages, and of the files that come out.

Three forms, in the order of the flow:

* `LINES`: what the reader gives: where a line is and its bytes, or the reason it could not be read.
* `RECORDS`: what Parse makes of it and Validate and Redact pass on: one conversation a row, nested,
  so that all message bodies of a block lie in one buffer. A row whose `reasons` is not empty is
  quarantined; its content columns are null.
* `DATA`: the columns of `data/` in the dataset.
"""

from __future__ import annotations

import pyarrow as pa

ROLES = ("system", "user", "assistant", "tool")

REASONS = pa.list_(pa.string())

# Where a line is: `line` counts from 0 within its work unit, blank lines included (absolute lines are
# filled in when all units are known); offset and length in bytes of the unpacked file, newline excluded.
PLACE = [
    pa.field("line", pa.int64(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("length", pa.int64(), nullable=False),
]

LINES = pa.schema(
    [
        *PLACE,
        pa.field("text", pa.large_binary()),  # null where the reader has a reason
        pa.field("reasons", REASONS, nullable=False),
    ]
)

TOOL_CALL = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("type", pa.string()),
        pa.field("function", pa.struct([pa.field("name", pa.string()), pa.field("arguments", pa.string())])),
    ]
)

MESSAGE = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("content", pa.string()),
        pa.field("reasoning", pa.string()),
        pa.field("name", pa.string()),
        pa.field("tool_calls", pa.list_(TOOL_CALL)),
        pa.field("tool_call_id", pa.string()),
        pa.field("weight", pa.float64()),
    ]
)

MESSAGES = pa.list_(MESSAGE)

RECORDS = pa.schema(
    [
        *PLACE,
        pa.field("reasons", REASONS, nullable=False),
        pa.field("messages", MESSAGES),
        pa.field("tools", pa.string()),  # canonical JSON of the list of tools; null where there are none
        pa.field("kind", pa.string()),
        pa.field("metadata", pa.string()),  # canonical JSON object of all other fields; "{}" where there are none
        pa.field("group", pa.binary(16)),
        pa.field("source_id", pa.binary(16)),  # null without a secret key
        pa.field("n_redactions", pa.int32()),
    ]
)

KINDS = ("production", "expert", "synthetic", "public")  # in the order of preference among duplicates

DATA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("tools", pa.string()),
        pa.field("chosen", MESSAGES),
        pa.field("rejected", MESSAGES),
        pa.field("label", pa.bool_()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("language", pa.string()),
        pa.field("n_chars", pa.int64(), nullable=False),
        pa.field("n_redactions", pa.int32(), nullable=False),
    ]
)

LINEAGE = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # from 1
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reasons", REASONS, nullable=False),
        pa.field("id", pa.string()),
        pa.field("source_id", pa.string()),
        pa.field("group", pa.string()),
        pa.field("kept_id", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)
