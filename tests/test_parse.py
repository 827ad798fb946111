"""Lines to records: a row for a row, whatever the line holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import records as made
from transforms.canonical import canonical_json
from transforms.hashing import Keys
from transforms.options import ValidateOptions
from transforms.parse import ParseRecords, messages_array, parse_records
from transforms.reasons import Reason
from transforms.schema import LINES, MESSAGES, RECORDS
from transforms.shapes import read_record
from transforms.strict_json import Refused, loads_strict
from transforms.validate import ValidateRecords, validate_records

KEYS = Keys("salt", b"secret")
SOUND = (
    b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "user_id": "ann"}'
)


def lines_of(texts: Sequence[bytes | None], reasons: Sequence[list[str]] | None = None) -> pa.RecordBatch:
    count = len(texts)
    columns = [
        pa.array(range(count), pa.int64()),
        pa.array(range(100, 100 + count), pa.int64()),
        pa.array([len(text or b"") for text in texts], pa.int64()),
        pa.array(texts, pa.large_binary()),
        pa.array(reasons or [[]] * count, LINES.field("reasons").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=LINES)


def parse(texts: Sequence[bytes | None] | pa.RecordBatch, **options: Any) -> pa.RecordBatch:
    lines = texts if isinstance(texts, pa.RecordBatch) else lines_of(texts)
    defaults: dict[str, Any] = {"shape": "auto", "kind": "production", "group_by": None, "keys": KEYS}
    records = parse_records(lines, **{**defaults, **options})
    records.validate(full=True)
    assert records.schema == RECORDS
    assert records.num_rows == lines.num_rows
    return records


def test_columns() -> None:
    lines = lines_of([SOUND, b"{", None], [[], [], ["line_too_long"]])
    records = parse(lines, kind="expert")
    for name in ("line", "offset", "length"):
        assert records.column(name).equals(lines.column(name))
    assert records.column("reasons").to_pylist() == [[], ["malformed_json"], ["line_too_long"]]
    assert records.column("kind").to_pylist() == ["expert"] * 3
    assert records.column("n_redactions").to_pylist() == [0] * 3
    assert records.column("metadata").to_pylist() == ['{"user_id":"ann"}', None, None]
    for name in ("tools", "group", "source_id"):
        assert records.column(name).null_count == 3
    said = records.column("messages").to_pylist()
    assert [(one["role"], one["content"]) for one in said[0]] == [("user", "Hi"), ("assistant", "Hello")]
    assert said[1:] == [None, None]
    assert parse([b'{"question": "a", "answer": "b"}']).column("metadata").to_pylist() == ["{}"]


def test_a_reason_of_the_reader_stands() -> None:
    records = parse(lines_of([SOUND, SOUND], [["corrupt_shard"], []]))
    assert records.column("reasons").to_pylist() == [["corrupt_shard"], []]
    assert records.column("messages").is_null().to_pylist() == [True, False]


BROKEN = {
    b'{"messages": "\xff"}': Reason.INVALID_UTF8,
    b"}": Reason.MALFORMED_JSON,
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}': Reason.LONE_SURROGATE,
    b'{"messages": [], "score": NaN}': Reason.NON_FINITE_NUMBER,
    b'{"messages": [], "id": 99999999999999999999}': Reason.INTEGER_OVERFLOW,
    b'{"messages": [{"role": "user", "role": "assistant", "content": ""}]}': Reason.DUPLICATE_KEY,
    b'{"messages": ' + b"[" * 64 + b"]" * 64 + b"}": Reason.TOO_DEEP,
    b"[]": Reason.NOT_AN_OBJECT,
    b"{}": Reason.UNKNOWN_SHAPE,
    b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}': Reason.UNSUPPORTED_CONTENT,
    b'{"messages": [], "tools": "x"}': Reason.BAD_TOOL_CALL,
    b'{"messages": [], "label": true}': Reason.PREFERENCE_RECORD,
}


def test_every_reason_of_parse() -> None:
    reasons = list(Reason)
    parse_reasons = reasons[reasons.index(Reason.INVALID_UTF8) : reasons.index(Reason.TOO_FEW_MESSAGES)]
    assert list(BROKEN.values()) == parse_reasons
    records = parse(list(BROKEN))
    assert records.column("reasons").to_pylist() == [[reason.value] for reason in BROKEN.values()]
    assert records.column("messages").null_count == len(BROKEN)


# ------------------------------------------------------------------------------------------------ group


def grouped(*fields: Any, path: str = "metadata.user_id", **options: Any) -> list[tuple[bytes | None, Any]]:
    lines = [json.dumps({"question": "a", "answer": "b", **one}).encode() for one in fields]
    records = parse(lines, group_by=path, **options)
    metadata = [json.loads(text) for text in records.column("metadata").to_pylist()]
    return list(zip(records.column("group").to_pylist(), metadata, strict=True))


def test_group_takes_the_place_of_its_value() -> None:
    ann = KEYS.group(b'"ann"')
    said = grouped({"user_id": "ann", "x": 1}, {"metadata": {"user_id": "ann"}}, {"user_id": None}, {"x": 1})
    assert said == [
        (ann, {"user_id": ann.hex(), "x": 1}),
        (ann, {"user_id": ann.hex()}),
        (None, {"user_id": None}),
        (None, {"x": 1}),
    ]
    assert grouped({"user_id": 7})[0][0] == KEYS.group(b"7") != grouped({"user_id": "7"})[0][0]
    assert grouped({"user_id": "ann"}, keys=Keys("salt"))[0][0] != ann


def test_group_lies_deep_or_is_no_scalar() -> None:
    [(group, metadata)] = grouped({"user": {"org": {"b": 1, "a": 2}, "x": 1}}, path="metadata.user.org")
    assert group == KEYS.group(b'{"a":2,"b":1}')
    assert metadata == {"user": {"org": group.hex(), "x": 1}}
    assert grouped({"user": "ann"}, path="metadata.user.org") == [(None, {"user": "ann"})]


# ------------------------------------------------------------------------------------------------- laws

_HARD = [*BROKEN, SOUND, None, b'{"prompt": "a", "completion": "b", "tools": [{"name": "f"}], "user_id": 7}']


@settings(max_examples=60)
@given(st.lists(st.sampled_from(_HARD), max_size=6), st.integers(0, 6))
def test_batches_may_be_cut_anywhere(texts: list[bytes | None], cut: int) -> None:
    lines = lines_of(texts)
    whole = parse(lines, group_by="metadata.user_id").to_pylist()
    parts = [parse(part, group_by="metadata.user_id") for part in (lines.slice(0, cut), lines.slice(cut))]
    assert [row for part in parts for row in part.to_pylist()] == whole


def test_empty_batch() -> None:
    assert parse([]).num_rows == 0


def present(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


@settings(max_examples=100)
@given(st.lists(st.none() | made.messages, max_size=5))
def test_columns_hold_what_dicts_say(conversations: list[Any]) -> None:
    sparse = [None if one is None else [present(message) for message in one] for one in conversations]
    built = messages_array(sparse)
    built.validate(full=True)
    assert built.equals(pa.array(conversations, MESSAGES))


@settings(max_examples=150)
@given(made.texts, made.texts, st.dictionaries(made.texts, made.texts, max_size=2))
def test_texts_come_out_as_they_went_in(question: str, answer: str, fields: dict[str, str]) -> None:
    record = {**made.chat(question, answer), **{"x" + key: value for key, value in fields.items()}}
    for ascii_only in (True, False):
        records = parse([json.dumps(record, ensure_ascii=ascii_only).encode()])
        assert [one["content"] for one in records.column("messages")[0].as_py()] == [question, answer]
        assert records.column("metadata")[0].as_py().encode() == canonical_json(
            {"x" + key: value for key, value in fields.items()}
        )


@settings(max_examples=150)
@given(st.binary(max_size=30) | st.sampled_from(_HARD[:-2]))
def test_the_kernel_says_what_the_plain_path_says(text: bytes) -> None:
    records = parse([text])
    try:
        conversation = read_record(loads_strict(text))
    except Refused as refused:
        expected: Any = ([refused.reason.value], None, None)
    else:
        expected = ([], conversation.messages, canonical_json(conversation.metadata).decode())
    row = records.to_pylist()[0]
    said = None if row["messages"] is None else [present(message) for message in row["messages"]]
    assert (row["reasons"], said, row["metadata"]) == expected


# ------------------------------------------------------------------------------------------ public data


def test_json_test_suite(shared: Path) -> None:
    files = sorted((shared / "json-test-suite" / "test_parsing").glob("*.json"))
    assert len(files) == 318
    accepted = {Reason.DUPLICATE_KEY, Reason.NOT_AN_OBJECT, Reason.UNKNOWN_SHAPE}
    reasons = parse([file.read_bytes() for file in files]).column("reasons").to_pylist()
    for file, found in zip(files, reasons, strict=True):
        assert len(found) == 1, file.name  # none of them is a chat
        if file.name.startswith("y_"):
            assert found[0] in accepted, file.name
        elif file.name.startswith("n_"):
            assert found[0] not in accepted, file.name


def test_naughty_strings(shared: Path) -> None:
    strings = [text for text in json.loads((shared / "naughty-strings" / "blns.json").read_bytes()) if text.strip()]
    assert len(strings) == 513
    for ascii_only in (True, False):
        lines = [json.dumps(made.chat(text, text, note=text), ensure_ascii=ascii_only).encode() for text in strings]
        records = validate_records(parse(lines), ValidateOptions())
        assert set(map(tuple, records.column("reasons").to_pylist())) == {()}
        said = [[message["content"] for message in one] for one in records.column("messages").to_pylist()]
        assert said == [[text, text] for text in strings]
        assert [json.loads(text) for text in records.column("metadata").to_pylist()] == [{"note": t} for t in strings]


def test_public_data_is_understood(shared: Path) -> None:
    counts: Counter[tuple[str, ...]] = Counter()
    for file in sorted([*(shared / "llama-factory").glob("*.json*"), *(shared / "gsm8k").glob("*.jsonl")]):
        if file.suffix == ".jsonl":
            lines: list[bytes] = file.read_bytes().splitlines()
        else:
            lines = [json.dumps(record, ensure_ascii=False).encode() for record in json.loads(file.read_bytes())]
        records = validate_records(parse(lines), ValidateOptions())
        counts.update(map(tuple, records.column("reasons").to_pylist()))
    assert counts == {(): 10_322, ("preference_record",): 300}


def test_tools_and_reasoning_of_public_data(shared: Path) -> None:
    [line, *_] = [
        line
        for line in (shared / "llama-factory" / "reason_tool_use_demo_50.jsonl").read_bytes().splitlines()
        if b"tool_call" in line
    ]
    row = parse([line]).to_pylist()[0]
    raw = json.loads(line)
    calling = next(index for index, one in enumerate(raw["messages"]) if one["content"][-1]["type"] == "tool_call")
    message, answer = row["messages"][calling : calling + 2]
    assert message["content"] is None
    assert message["reasoning"] == raw["messages"][calling]["content"][0]["value"]
    assert message["tool_calls"][0]["id"] == answer["tool_call_id"] == "call_1"
    said = json.loads(raw["messages"][calling]["content"][1]["value"])
    assert message["tool_calls"][0]["function"]["name"] == said["name"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == said["arguments"]
    assert row["tools"].encode() == canonical_json(json.loads(raw["tools"]))


# ------------------------------------------------------------------------------------------------- Beam


def test_transforms() -> None:
    lines = lines_of([SOUND, b"{", b'{"question": "a", "answer": " "}'])
    expected = validate_records(parse(lines, kind="public", group_by="metadata.user_id"), ValidateOptions())

    def check(batches: list[pa.RecordBatch]) -> None:
        assert [batch.to_pylist() for batch in batches] == [expected.to_pylist()]

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        checked = (
            pipeline
            | beam.Create([lines])
            | ParseRecords(KEYS, kind="public", group_by="metadata.user_id")
            | ValidateRecords(ValidateOptions())
        )
        assert_that(checked, check)


@pytest.mark.parametrize("name", ["ParseRecords", "ValidateRecords"])
def test_labels(name: str) -> None:
    transform = ParseRecords(KEYS) if name == "ParseRecords" else ValidateRecords(ValidateOptions())
    assert transform.default_label() == name
