"""Canonical JSON: keys sorted, no spaces, UTF-8 unescaped, numbers as orjson writes them.

`canonical_json` writes one value and is the oracle. `conversation_lines` writes a whole block of
conversations from their Arrow columns without a Python object a record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from transforms.hashing import record_id

_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\b", "\\b"), ("\f", "\\f"))
_AS_THEY_ARE = bytes(code for code in range(0x20, 0x100) if code not in b'"\\')  # in a JSON string
_RARE_CONTROL = r"[\x00-\x07\x0b\x0e-\x1f]"


def canonical_json(value: Any) -> bytes:
    """The one way a value is written; the same value gives the same bytes.

    >>> canonical_json({"b": [1, 0.5, None], "a": "é"}).decode()
    '{"a":"é","b":[1,0.5,null]}'
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def conversation_lines(messages: pa.ListArray, tools: pa.StringArray, *, weight: bool) -> pa.StringArray:
    """string[N]: canonical JSON objects of `messages` and, where there are any, `tools`.

    Absent keys are omitted. With `weight` this is a line of the dataset's JSONL; without it, it is
    what a record says, from which its id is made.
    """
    flat = messages.flatten()
    role, content, reasoning, name, calls, call_id, weights = flat.flatten()
    before = [_member("content", content), _member("name", name), _member("reasoning", reasoning)]
    after = [_member("tool_call_id", call_id, before=","), _list_member("tool_calls", calls)]
    if weight:
        after.append(_join(',"weight":', _numbers(weights)))
    texts = _join("{", *before, _join('"role":', _quoted(role)), *after, "}", absent="")
    lists = _join_lists(messages, texts)
    return _join('{"messages":[', lists, "]", _join(',"tools":', tools), "}", absent="")


def _join(*parts: Any, absent: str | None = None) -> pa.StringArray:
    """Concatenation of columns and constants; null where a part is, or `absent` in its place."""
    if absent is None:
        return pc.binary_join_element_wise(*parts, "", null_handling="emit_null")
    return pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement=absent)


def _member(key: str, values: pa.StringArray, before: str = "") -> pa.StringArray:
    """`"key":"value",` (or with the comma `before`); null where the value is."""
    return _join(f'{before}"{key}":', _quoted(values), "" if before else ",")


def _list_member(key: str, calls: pa.ListArray) -> pa.StringArray:
    """`,"tool_calls":[…]`; null where there are none."""
    flat = calls.flatten()
    identity, kind, function = flat.flatten()
    called, arguments = function.flatten()
    texts = _join(
        '{"function":{',
        _join('"arguments":', _quoted(arguments), ","),
        '"name":',
        _quoted(called),
        "}",
        _join(',"id":', _quoted(identity)),
        _join(',"type":', _quoted(kind)),
        "}",
        absent="",
    )
    return _join(f',"{key}":[', _join_lists(calls, texts), "]")


def _join_lists(lists: pa.ListArray, texts: pa.StringArray) -> pa.StringArray:
    """The texts of each list, joined by commas; null where the list is."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), ",")
    return pc.if_else(pc.is_valid(lists), joined, pa.scalar(None, pa.string()))


def _numbers(values: pa.DoubleArray) -> pa.StringArray:
    """Numbers as JSON, whole ones without a fraction."""
    encoded = values.dictionary_encode()
    texts = [
        orjson.dumps(int(value) if value.is_integer() and abs(value) < 2**53 else value).decode()
        for value in encoded.dictionary.to_pylist()
    ]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _quoted(values: pa.StringArray) -> pa.StringArray:
    """Strings as JSON strings; null where the value is."""
    found = b""
    start, end = values.offset, values.offset + len(values)
    _, offsets, content = values.buffers()
    if content is not None and len(values):
        first, last = np.frombuffer(offsets, np.int32)[[start, end]].tolist()
        found = content[first:last].to_pybytes().translate(None, _AS_THEY_ARE)
    if not found:
        return _join('"', values, '"')
    escaped = values
    for character, replacement in _ESCAPES:
        if character.encode() in found:
            escaped = pc.replace_substring(escaped, character, replacement)
    quoted = _join('"', escaped, '"')
    if found.translate(None, b'\b\t\n\f\r"\\'):
        rare = pc.fill_null(pc.match_substring_regex(values, _RARE_CONTROL), False)
        slow = [orjson.dumps(text).decode() for text in values.filter(rare).to_pylist()]
        quoted = pc.replace_with_mask(quoted, rare, pa.array(slow, pa.string()))
    return quoted


def conversation_dict(messages: list[dict[str, Any]], tools: str | None, *, weight: bool) -> dict[str, Any]:
    """What `conversation_lines` writes for one record, as a Python value: the oracle, and for readers."""

    def present(mapping: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in mapping.items() if value is not None}

    said = []
    for message in messages:
        one = present(message)
        if "tool_calls" in one:
            one["tool_calls"] = [present({**call, "function": present(call["function"])}) for call in one["tool_calls"]]
        value = one.pop("weight", None)
        if weight and value is not None:
            one["weight"] = int(value) if value.is_integer() and abs(value) < 2**53 else value
        said.append(one)
    whole: dict[str, Any] = {"messages": said}
    if tools is not None:
        whole["tools"] = orjson.loads(tools)
    return whole


def id_of_said(said: dict[str, Any]) -> bytes:
    """The id of what a JSONL line says: that of the line without weights, which it loses here."""
    for message in said["messages"]:
        message.pop("weight", None)
    return record_id(canonical_json(said))
