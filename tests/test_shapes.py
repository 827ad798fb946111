"""Every shape in, one form out, and nothing lost on the way."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.canonical import canonical_json
from transforms.options import SHAPES
from transforms.reasons import Reason
from transforms.schema import MESSAGE
from transforms.shapes import Conversation, read_record, shape_of
from transforms.strict_json import Refused

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def reason_of(record: Any, shape: str = "auto") -> Reason:
    with pytest.raises(Refused) as caught:
        read_record(record, shape)
    return caught.value.reason


def messages_of(*messages: Any, **fields: Any) -> list[dict[str, Any]]:
    return read_record({"messages": list(messages), **fields}).messages


# ------------------------------------------------------------------------------------------- the shapes

MINIMAL: dict[str, dict[str, Any]] = {
    "messages": {"messages": [USER, ASSISTANT]},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello"},
    "question_answer": {"question": "Hi", "answer": "Hello"},
    "alpaca": {"instruction": "Hi", "output": "Hello"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
}


def test_every_shape_is_tried() -> None:
    assert set(MINIMAL) == set(SHAPES)


@pytest.mark.parametrize("name", MINIMAL)
def test_shapes_say_the_same(name: str) -> None:
    assert shape_of(MINIMAL[name]) == name
    assert read_record(MINIMAL[name]) == Conversation([USER, ASSISTANT], None, {})
    assert read_record({**MINIMAL[name], "user_id": 7}, name).metadata == {"user_id": 7}


@pytest.mark.parametrize("name", MINIMAL)
def test_one_shape_accepts_only_that_one(name: str) -> None:
    for other, record in MINIMAL.items():
        if other == name:
            assert read_record(record, name).messages == [USER, ASSISTANT]
        else:
            assert reason_of(record, name) is Reason.UNKNOWN_SHAPE


def test_the_first_shape_of_several_is_read() -> None:
    everything = {key: value for record in MINIMAL.values() for key, value in record.items()}
    order = ["messages", "sharegpt", "prompt_completion", "question_answer", "alpaca"]
    for name in order:
        assert shape_of(everything) == name
        conversation = read_record(everything)
        assert conversation.messages == [USER, ASSISTANT]
        assert conversation.metadata == {key: everything[key] for key in everything if key not in MINIMAL[name]}
        for key in MINIMAL[name]:
            del everything[key]
    assert shape_of(everything) is None


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"text": "Hi"},
        {"messages": None},
        {"messages": "Hi"},
        {"messages": {"role": "user"}},
        {"messages": ["Hi"]},
        {"messages": [[]]},
        {"messages": [None]},
        {"messages": [{"content": "Hi"}]},
        {"messages": [{"role": None, "content": "Hi"}]},
        {"messages": [{"role": 1, "content": "Hi"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "text": "Hi"}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": [{"role": "user", "content": {"text": "Hi"}}]},
        {"messages": [{"role": "user", "content": ["Hi"]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        {"messages": [{"role": "user", "content": "Hi", "name": 1}]},
        {"messages": [{"role": "user", "content": "Hi", "weight": "1"}]},
        {"messages": [{"role": "user", "content": "Hi", "weight": True}]},
        {"messages": [{"role": "user", "content": "Hi", "weight": 4111111111111111}]},
        {"messages": [{"role": "assistant", "content": "Hi", "reasoning": ["so"]}]},
        {"prompt": "Hi"},
        {"prompt": "Hi", "completion": None},
        {"prompt": "Hi", "completion": 1},
        {"prompt": ["Hi"], "completion": "Hello"},
        {"question": "Hi", "answer": 42},
        {"instruction": "Hi", "output": ["Hello"]},
        {"instruction": "Hi", "output": "Hello", "input": 1},
        {"instruction": "Hi", "output": "Hello", "system": 1},
        {"instruction": "Hi", "output": "Hello", "history": "Hi"},
        {"instruction": "Hi", "output": "Hello", "history": [["Hi"]]},
        {"instruction": "Hi", "output": "Hello", "history": [["Hi", None]]},
        {"conversations": "Hi"},
        {"conversations": ["Hi"]},
        {"conversations": [{"value": "Hi"}]},
        {"conversations": [{"from": "human"}]},
        {"conversations": [{"from": "human", "value": 1}]},
        {"conversations": [{"role": "user", "content": "Hi"}]},
        {"conversations": [], "system": []},
    ],
    ids=lambda record: json.dumps(record)[:60],
)
def test_unknown_shape(record: Any) -> None:
    assert reason_of(record) is Reason.UNKNOWN_SHAPE


@pytest.mark.parametrize("value", [None, True, 1, 0.5, "messages", [], [MINIMAL["messages"]]])
def test_not_an_object(value: Any) -> None:
    assert reason_of(value) is Reason.NOT_AN_OBJECT


@pytest.mark.parametrize("key", ["label", "kto_tag", "chosen", "rejected", "preferred_output", "non_preferred_output"])
@pytest.mark.parametrize("name", MINIMAL)
def test_preferences(name: str, key: str) -> None:
    assert reason_of({**MINIMAL[name], key: False}) is Reason.PREFERENCE_RECORD
    assert read_record({**MINIMAL[name], key: None}).metadata == {key: None}


def test_preference_answers_need_no_shape_but_labels_do() -> None:
    assert reason_of({"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}) is Reason.PREFERENCE_RECORD
    openai = {"input": {"messages": [USER]}, "preferred_output": [ASSISTANT], "non_preferred_output": [ASSISTANT]}
    assert reason_of(openai) is Reason.PREFERENCE_RECORD
    assert reason_of({"text": "Hi", "label": 3}) is Reason.UNKNOWN_SHAPE


def test_prompt_and_completion_of_messages() -> None:
    assert messages_of(USER, ASSISTANT) == read_record({"prompt": [USER], "completion": [ASSISTANT]}).messages
    assert messages_of(USER, ASSISTANT) == read_record({"prompt": [USER], "completion": "Hello"}).messages
    assert messages_of(USER, ASSISTANT) == read_record({"prompt": "Hi", "completion": [ASSISTANT]}).messages


def test_alpaca() -> None:
    record = {
        "system": "Be kind.",
        "history": [["One?", "1"], ["Two?", "2"]],
        "instruction": "Add",
        "input": "1 2",
        "output": "3",
    }
    assert read_record(record).messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Add\n1 2"},
        {"role": "assistant", "content": "3"},
    ]
    bare = {**record, "system": None, "history": None, "input": None}
    assert read_record(bare) == read_record({"instruction": "Add", "input": "", "output": "3"})
    assert read_record({**bare, "instruction": "", "input": "1 2"}).messages[0]["content"] == "1 2"


def test_sharegpt_roles() -> None:
    roles = {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "chatgpt": "assistant",
        "bing": "assistant",
        "observation": "tool",
        "tool": "tool",
        "martian": "martian",
    }
    record = {"conversations": [{"from": role, "value": role} for role in roles]}
    said = read_record(record).messages
    assert [(message["role"], message["content"]) for message in said] == [(roles[role], role) for role in roles]


def test_sharegpt_system() -> None:
    turns = MINIMAL["sharegpt"]["conversations"]
    first = {"role": "system", "content": "Be kind."}
    assert read_record({"conversations": turns, "system": "Be kind."}).messages == [first, USER, ASSISTANT]
    assert read_record({"conversations": turns, "system": ""}).messages == [USER, ASSISTANT]
    spoken = [{"from": "system", "value": "Be kind."}, *turns]
    assert read_record({"conversations": spoken, "system": "Be kind."}).messages == [first, USER, ASSISTANT]
    both = read_record({"conversations": spoken, "system": "Be brief."}).messages
    assert [message["role"] for message in both] == ["system", "system", "user", "assistant"]


def test_sharegpt_function_calls() -> None:
    value = '{"name": "f", "arguments": {"b": 1, "a": "é"}}'
    turns = [
        {"from": "human", "value": "Hi"},
        {"from": "function_call", "value": value},
        {"from": "observation", "value": "1"},
        {"from": "function_call", "value": f'[{value}, {{"name": "g"}}]'},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Hello", "weight": 1},
    ]

    def call(identity: str, name: str, arguments: str) -> dict[str, Any]:
        return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert read_record({"conversations": turns}).messages == [
        USER,
        {"role": "assistant", "tool_calls": [call("call_1", "f", '{"a":"é","b":1}')]},
        {"role": "tool", "content": "1", "tool_call_id": "call_1"},
        {"role": "assistant", "tool_calls": [call("call_2", "f", '{"a":"é","b":1}'), call("call_3", "g", "{}")]},
        {"role": "tool", "content": "2", "tool_call_id": "call_2"},
        {**ASSISTANT, "weight": 1.0},
    ]


# ----------------------------------------------------------------------------------------- the messages


def test_roles_of_other_names() -> None:
    roles = ["developer", "function", "tool", "User", ""]
    said = messages_of(*({"role": role, "content": "x"} for role in roles))
    assert [message["role"] for message in said] == ["system", "tool", "tool", "User", ""]


def test_content_parts() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "text", "value": "b"},
        {"text": "c"},
        {"type": "input_text", "text": "d"},
    ]
    assert messages_of({"role": "user", "content": parts}) == [{"role": "user", "content": "a\nb\nc\nd"}]
    assert messages_of({"role": "user", "content": []}) == [{"role": "user", "content": ""}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "input_audio"},
        {"type": "refusal", "refusal": "no"},
        {"type": None},
        {"type": ["text"], "text": "a"},
        {"image": "x"},
        {},
    ],
)
def test_unsupported_content(part: Any) -> None:
    record = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]}
    assert reason_of(record) is Reason.UNSUPPORTED_CONTENT


def test_reasoning() -> None:
    parts = [
        {"type": "reasoning", "value": "a"},
        {"type": "text", "value": "Hello"},
        {"type": "reasoning", "text": "b"},
    ]
    assert messages_of({"role": "assistant", "content": parts}) == [{**ASSISTANT, "reasoning": "a\nb"}]
    for key in ("reasoning", "reasoning_content"):
        assert messages_of({**ASSISTANT, key: "a"}) == [{**ASSISTANT, "reasoning": "a"}]
        assert messages_of({**ASSISTANT, key: ""}) == [ASSISTANT]
    said = messages_of({**ASSISTANT, "reasoning": "a", "reasoning_content": "a"})
    assert said == [{**ASSISTANT, "reasoning": "a"}]
    said = messages_of({**ASSISTANT, "reasoning": "a", "reasoning_content": "b"})
    assert said == [{**ASSISTANT, "reasoning": "a\nb"}]


def test_null_content_is_none_only_with_tool_calls() -> None:
    assert messages_of({"role": "assistant", "content": None}) == [{"role": "assistant", "content": ""}]
    for message in (
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "assistant", "content": []},
    ):
        assert messages_of({**message, "tool_calls": [CALL]}) == [{"role": "assistant", "tool_calls": [CALL]}]
    said = messages_of({"role": "assistant", "content": "", "tool_calls": [CALL]})
    assert said == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    assert messages_of({"role": "user", "content": None, "tool_calls": [CALL]})[0]["content"] == ""


def test_weights() -> None:
    assert messages_of({**USER, "weight": 0}) == [{**USER, "weight": 0.0}]
    assert messages_of({**USER, "loss_weight": 0.5}) == [{**USER, "weight": 0.5}]
    assert messages_of({**USER, "weight": None, "loss_weight": 1}) == [{**USER, "weight": 1.0}]
    assert messages_of({**USER, "weight": None}) == [USER]
    both = read_record({"messages": [{**USER, "weight": 0, "loss_weight": 1}]})
    assert both.messages == [{**USER, "weight": 0.0}]
    assert both.metadata == {"messages": {"0": {"loss_weight": 1}}}


# ------------------------------------------------------------------------------------------------ tools


def test_tool_calls_of_every_form() -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    expected = [{"id": "call_1", "type": "function", "function": function}]
    forms = [
        {"type": "function", "function": {"name": "f", "arguments": '{ "a": 1 }'}},
        {"id": None, "type": None, "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "", "function": {"name": "f", "parameters": {"a": 1}}},
        {"name": "f", "arguments": {"a": 1}},
        {"name": "f", "arguments": '{"a": 1}'},
        {"type": "function", "name": "f", "arguments": {"a": 1}},
    ]
    for form in forms:
        assert messages_of({"role": "assistant", "content": None, "tool_calls": [form]})[0]["tool_calls"] == expected
    for value in (json.dumps(forms[3]), forms[3]):
        part = {"type": "tool_call", "value": value}
        assert messages_of({"role": "assistant", "content": [part]}) == [{"role": "assistant", "tool_calls": expected}]
    legacy = {"role": "assistant", "content": None, "function_call": function}
    assert messages_of(legacy) == [{"role": "assistant", "tool_calls": expected}]


@pytest.mark.parametrize("arguments", [None, "", " ", "{}", " { } ", {}])
def test_no_arguments(arguments: Any) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    assert messages_of({"role": "assistant", "tool_calls": [call]})[0]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": "f"},
        {"tool_calls": {"name": "f"}},
        {"tool_calls": ["f"]},
        {"tool_calls": [{}]},
        {"tool_calls": [{"name": ""}]},
        {"tool_calls": [{"name": 1}]},
        {"tool_calls": [{"id": 1, "name": "f"}]},
        {"tool_calls": [{"type": 1, "name": "f"}]},
        {"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x"}}]},
        {"tool_calls": [{"function": "f"}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "{'a': 1}"}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "[" * 100_000}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": [1]}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": 1}}]},
        {"function_call": "f"},
        {"tool_call_id": 1},
        {"content": [{"type": "tool_call", "value": "f"}]},
        {"content": [{"type": "tool_call"}]},
    ],
    ids=lambda message: json.dumps(message)[:60],
)
def test_bad_tool_calls(message: Any) -> None:
    assert reason_of({"messages": [{"role": "assistant", "content": "x", **message}]}) is Reason.BAD_TOOL_CALL


@pytest.mark.parametrize("value", ["f", 1, '{"name": 1}', '["f"]', None])
def test_bad_sharegpt_function_calls(value: Any) -> None:
    assert reason_of({"conversations": [{"from": "function_call", "value": value}]}) is Reason.BAD_TOOL_CALL


def calling(*ids: str | None) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{**CALL, "id": identity} for identity in ids]}


def answering(identity: str | None = None) -> dict[str, Any]:
    return {"role": "tool", "content": "x", "tool_call_id": identity}


def ids_of(*messages: Any) -> list[list[str | None]]:
    return [
        [call["id"] for call in message["tool_calls"]] if "tool_calls" in message else [message.get("tool_call_id")]
        for message in messages_of(*messages)
    ]


def test_missing_ids() -> None:
    said = ids_of(calling(None, None), answering(), answering(), calling(None), answering())
    assert said == [["call_1", "call_2"], ["call_1"], ["call_2"], ["call_3"], ["call_3"]]
    # Names that are taken, wherever, are passed over.
    said = ids_of(calling(None, "call_2"), calling(None), answering("call_1"))
    assert said == [["call_3", "call_2"], ["call_4"], ["call_1"]]
    # A result answers the first call that waits; where none waits, the last; where there is none, nothing.
    said = ids_of(answering(), calling("a", "b", "c"), answering("b"), answering(), answering(), answering())
    assert said == [[None], ["a", "b", "c"], ["b"], ["a"], ["c"], ["c"]]
    # The same id twice is two calls.
    said = ids_of(calling("a"), calling("a", "b"), answering(), answering(), answering())
    assert said == [["a"], ["a", "b"], ["a"], ["a"], ["b"]]
    legacy = [{"role": "assistant", "content": None, "function_call": {"name": "f"}}]
    assert ids_of(*legacy, {"role": "function", "name": "f", "content": "x"}) == [["call_1"], ["call_1"]]


def test_many_calls_cost_what_they_weigh() -> None:
    count = 5_000
    ids = [str(number) for number in range(count)]
    messages = messages_of(calling(*ids), *(answering(identity) for identity in reversed(ids)), answering())
    assert messages[-1]["tool_call_id"] == ids[-1]


FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOLS = '[{"function":{"name":"f","parameters":{"type":"object"}},"type":"function"}]'


@pytest.mark.parametrize("key", ["tools", "functions"])
@pytest.mark.parametrize(
    "tool",
    [FUNCTION, {"type": "function", "function": FUNCTION}, {"function": FUNCTION}, {"type": "function", **FUNCTION}],
)
@pytest.mark.parametrize("name", MINIMAL)
def test_tools(name: str, tool: Any, key: str) -> None:
    for value in ([tool], json.dumps([tool])):
        conversation = read_record({**MINIMAL[name], key: value})
        assert conversation.tools == TOOLS
        assert conversation.metadata == {}


@pytest.mark.parametrize("tools", [None, [], "", " ", "[]", "null"])
def test_no_tools(tools: Any) -> None:
    assert read_record({**MINIMAL["messages"], "tools": tools}) == Conversation([USER, ASSISTANT], None, {})


@pytest.mark.parametrize(
    "tools",
    [
        "f",
        1,
        {},
        ["f"],
        [{}],
        [[]],
        [{"name": 1}],
        [{"name": ""}],
        [{"type": "web_search"}],
        [{"function": "f"}],
        '{"a":1}',
    ],
)
def test_bad_tools(tools: Any) -> None:
    assert reason_of({**MINIMAL["messages"], "tools": tools}) is Reason.BAD_TOOL_CALL


def test_tools_and_functions_are_joined() -> None:
    other = {**FUNCTION, "name": "g"}
    both = read_record({**MINIMAL["messages"], "tools": [FUNCTION], "functions": [FUNCTION, other]})
    assert both == read_record({**MINIMAL["messages"], "tools": [FUNCTION, other]})


# --------------------------------------------------------------------------------------------- metadata


def test_metadata_is_lifted() -> None:
    def metadata(**fields: Any) -> dict[str, Any]:
        return read_record({**MINIMAL["messages"], **fields}).metadata

    assert metadata(metadata={"user_id": 1}) == metadata(user_id=1) == {"user_id": 1}
    assert metadata(metadata={"a": 1, "b": {"c": 2}}, d=3) == {"a": 1, "b": {"c": 2}, "d": 3}
    assert metadata(metadata={"a": 1}, a=1) == {"a": 1}
    assert metadata(metadata={"a": 1, "b": 2}, a=2) == {"a": 2, "b": 2, "metadata": {"a": 1}}
    assert metadata(metadata={"a": 1}, a=True) == {"a": True, "metadata": {"a": 1}}
    assert metadata(metadata={"metadata": {"a": 1}}) == {"metadata": {"metadata": {"a": 1}}}
    assert metadata(metadata={}) == {}
    for value in (None, "x", 1, [{"a": 1}]):
        assert metadata(metadata=value) == {"metadata": value}


def test_unknown_fields_of_messages_are_metadata() -> None:
    call = {**CALL, "index": 0, "function": {"name": "f", "arguments": "{}", "strict": True}}
    record = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache": 1}, {"type": "text", "text": "", "n": None}],
            },
            {**ASSISTANT, "timestamp": 5, "refusal": None},
            {"role": "assistant", "content": None, "tool_calls": [CALL, call, {"name": "g", "index": 2}]},
        ],
        "metadata": {"messages": 3},
    }
    assert read_record(record).metadata == {
        "messages": {
            "0": {"content": {"0": {"cache": 1}}},
            "1": {"timestamp": 5},
            "2": {"tool_calls": {"1": {"index": 0, "function": {"strict": True}}, "2": {"index": 2}}},
        },
        "metadata": {"messages": 3},
    }
    # The index is that of the message as it comes out; a field that has the name already keeps it.
    shared = {"conversations": [{"from": "human", "value": "Hi", "role": "x"}], "system": "S", "messages": 0}
    assert read_record(shared).metadata == {"messages": 0, "messages_": {"1": {"role": "x"}}}


# ------------------------------------------------------------------------------------------------- laws

_TOKENS = st.from_regex(r"\At[0-9]{1,3}\Z")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TOKENS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TOKENS, inner, max_size=2),
    max_leaves=4,
)


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of the fields, which now and then hold anything."""
    free = {key: st.integers(0, 39).flatmap(lambda n, s=value: s if n else _VALUES) for key, value in fields.items()}
    return st.fixed_dictionaries({}, optional=free)


_ARGUMENTS = st.dictionaries(_TOKENS, _TOKENS, max_size=2)
_FUNCTIONS = sometimes(name=_TOKENS, arguments=_ARGUMENTS | _ARGUMENTS.map(json.dumps) | st.none())
_CALLS = st.tuples(_TOKENS, _FUNCTIONS).map(lambda both: {"name": both[0], **both[1]}) | sometimes(
    id=_TOKENS | st.none(), type=st.just("function"), function=_FUNCTIONS, index=st.integers(0, 3)
)
_PARTS = st.tuples(st.sampled_from(["text", "reasoning"]), st.sampled_from(["text", "value"]), _TOKENS).map(
    lambda part: {"type": part[0], part[1]: part[2]}
)
_CONTENTS = _TOKENS | st.none() | st.lists(_PARTS, max_size=3)
_MESSAGES = st.tuples(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]), "content": _CONTENTS}
    ),
    sometimes(
        name=_TOKENS,
        tool_calls=st.lists(_CALLS, max_size=2),
        tool_call_id=_TOKENS | st.none(),
        reasoning=_TOKENS,
        reasoning_content=_TOKENS,
        weight=st.integers(0, 1),
        loss_weight=st.integers(0, 1),
        extra=_VALUES,
    ),
).map(lambda both: {**both[0], **both[1]})
_TURNS = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "observation", "system"]), "value": _TOKENS}, optional={"extra": _VALUES}
)
_RECORDS = st.tuples(
    st.one_of(
        st.fixed_dictionaries({"messages": st.lists(_MESSAGES, max_size=4)}),
        st.fixed_dictionaries({"conversations": st.lists(_TURNS, max_size=4)}),
        st.fixed_dictionaries({"prompt": _TOKENS, "completion": _TOKENS}),
        st.fixed_dictionaries({"instruction": _TOKENS, "input": _TOKENS, "output": _TOKENS}),
    ),
    sometimes(
        tools=st.lists(st.fixed_dictionaries({"name": _TOKENS}), max_size=2),
        functions=st.lists(st.fixed_dictionaries({"name": _TOKENS}), max_size=2),
        system=_TOKENS,
        history=st.lists(st.lists(_TOKENS, min_size=2, max_size=2), max_size=2),
        metadata=st.dictionaries(st.sampled_from(["a", "metadata", "messages", "tools"]), _VALUES, max_size=3),
        a=_VALUES,
    ),
).map(lambda both: {**both[0], **both[1]})


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for one in inner for text in _strings(one)]


@settings(max_examples=200)
@given(_RECORDS)
def test_laws(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    try:
        conversation = read_record(record)
    except Refused:
        return
    finally:
        assert record == before  # the record is left as it is
    names = {field.name for field in MESSAGE}
    for message in conversation.messages:
        assert message.keys() <= names
        assert None not in message.values()
        assert message["role"] != "developer"
    # No text is lost: what is neither said nor declared is metadata.
    whole = canonical_json([conversation.messages, conversation.tools, conversation.metadata]).decode()
    roles = {"developer", "human", "gpt", "observation", "text", "reasoning", "function"}
    for text in set(_strings(record)) - roles:
        for token in json.loads(text) if text.startswith("{") else [text]:
            assert token in whole
    # The form is itself a record, which says the same.
    tools = [] if conversation.tools is None else json.loads(conversation.tools)
    again = read_record({"messages": conversation.messages, "tools": tools}, "messages")
    assert again == Conversation(conversation.messages, conversation.tools, {})


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([*(key for record in MINIMAL.values() for key in record), "tools", "system"]), _VALUES
    )
)
def test_anything_is_read_or_refused(record: dict[str, Any]) -> None:
    try:
        conversation = read_record(record)
    except Refused as refused:
        assert refused.args == (refused.reason.value,)  # noqa: PT017
    else:
        canonical_json(list(conversation))
