import json

import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.records import conversations, texts
from transforms.canonical import canonical_json, conversation_dict, conversation_lines
from transforms.schema import MESSAGES


@given(conversations, st.booleans(), st.data())
def test_lines_are_what_the_oracle_writes(drawn, weight, data):
    said = pa.array([one for one, _ in drawn], MESSAGES)
    tools = pa.array([one for _, one in drawn], pa.string())
    start = data.draw(st.integers(0, len(drawn)))
    lines = conversation_lines(said[start:], tools[start:], weight=weight).to_pylist()
    expected = [canonical_json(conversation_dict(one, tool, weight=weight)).decode() for one, tool in drawn[start:]]
    assert lines == expected


def test_every_character_is_escaped_as_orjson_does():
    every = "".join(chr(code) for code in range(0x250)) + "\u2028\U0001f600"
    said = pa.array([[{"role": "user", "content": every + character}] for character in every], MESSAGES)
    for line, character in zip(
        conversation_lines(said, pa.nulls(len(every), pa.string()), weight=True), every, strict=True
    ):
        assert orjson.loads(line.as_py())["messages"][0]["content"] == every + character
        assert "\\u2028" not in line.as_py()


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts,
                    lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))  # fmt: skip
def test_canonical_json_is_pythons_but_for_floats(value):
    assert (
        canonical_json(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


def test_absent_keys_are_omitted_and_null_is_never_written():
    said = pa.array([[{"role": "assistant", "content": None, "weight": 1.0}]], MESSAGES)
    tools = pa.nulls(1, pa.string())
    assert conversation_lines(said, tools, weight=True).to_pylist() == [
        '{"messages":[{"role":"assistant","weight":1}]}'
    ]
    assert conversation_lines(said, tools, weight=False).to_pylist() == ['{"messages":[{"role":"assistant"}]}']
