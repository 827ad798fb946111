"""The rules, one by one; then all together against a plain reading of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import records_batch
from transforms.options import ValidateOptions, metadata_value
from transforms.reasons import Reason
from transforms.schema import RECORDS, ROLES
from transforms.validate import validate_records

Conversation = list[dict[str, Any]]


def system(content: str | None = "S") -> dict[str, Any]:
    return {"role": "system", "content": content}


def user(content: str | None = "Q") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str | None = "A", *calls: str | None, **fields: Any) -> dict[str, Any]:
    made = [{"id": identity, "type": "function", "function": {"name": "f", "arguments": "{}"}} for identity in calls]
    return {"role": "assistant", "content": content, "tool_calls": made or None, **fields}


def tool(identity: str | None, content: str | None = "T") -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": identity}


def other(content: str = "O") -> dict[str, Any]:
    return {"role": "martian", "content": content}


def validate(records: pa.RecordBatch, options: ValidateOptions) -> pa.RecordBatch:
    checked = validate_records(records, options)
    checked.validate(full=True)
    assert checked.schema == RECORDS
    return checked


def reasons_of(*messages: dict[str, Any], metadata: dict[str, Any] | None = None, **options: Any) -> list[str]:
    records = records_batch([list(messages)], metadata=[metadata or {}])
    return validate(records, ValidateOptions(**options)).column("reasons").to_pylist()[0]


def test_min_messages() -> None:
    assert reasons_of(user(), assistant()) == []
    assert reasons_of(assistant()) == ["too_few_messages", "no_user_turn"]
    assert reasons_of(user(), assistant(), min_messages=3) == ["too_few_messages"]
    assert reasons_of(system(), user(), assistant(), min_messages=3) == []
    assert reasons_of() == ["too_few_messages", "last_not_assistant", "no_user_turn"]
    assert reasons_of(min_messages=0) == ["last_not_assistant", "no_user_turn"]


def test_last_is_assistant() -> None:
    for last in (user(), tool("a"), system(), other()):
        assert "last_not_assistant" in reasons_of(user(), assistant("A", "a"), last)
    assert reasons_of(user(), assistant("A", "a"), tool("a"), assistant()) == []


@pytest.mark.parametrize("content", ["", " ", "\n\t\r\f\v", "\u00a0", "\u2003\u3000", "\u2028\x85", "\x1c", None])
def test_empty_turn(content: str | None) -> None:
    assert reasons_of(user(), assistant(content)) == ["empty_turn"]
    assert reasons_of(user(), assistant(content), allow_empty_user=True) == ["empty_turn"]
    assert reasons_of(user(content), assistant()) == ["empty_turn"]
    assert reasons_of(user(content), assistant(), allow_empty_user=True) == []
    assert reasons_of(system(content), user(), assistant()) == ["empty_turn"]
    assert reasons_of(user(), assistant(content, "a"), tool("a", content), assistant()) == []
    assert reasons_of(user(), assistant(content, reasoning="So.")) == ["empty_turn"]


@pytest.mark.parametrize("content", ["\0", "\u200b", "\ufeff", "\u2060", "\N{BRAILLE PATTERN BLANK}"])
def test_what_is_no_white_space_is_no_empty_turn(content: str) -> None:
    assert reasons_of(user(content), assistant(content)) == []


def test_turn_too_long() -> None:
    assert reasons_of(user("x" * 8000), assistant()) == []
    assert reasons_of(user("x" * 8001), assistant()) == ["turn_too_long"]
    assert reasons_of(user("  " + "\N{GRINNING FACE}" * 9 + "\n"), assistant(), max_chars=9) == []
    assert reasons_of(user(), assistant("e\u0301" * 5), max_chars=9) == ["turn_too_long"]
    assert reasons_of(user(), assistant("A", reasoning="x" * 99), max_chars=9) == []
    for long in (system("x" * 10), tool("a", "x" * 10)):
        assert "turn_too_long" in reasons_of(long, user(), assistant("A", "a"), max_chars=9)


def test_unknown_role() -> None:
    assert reasons_of(user(), other(), assistant()) == ["unknown_role"]
    assert reasons_of(user(), {"role": None, "content": "x"}, assistant()) == ["unknown_role"]
    assert reasons_of(user(), {"role": "User", "content": "x"}, assistant()) == ["unknown_role"]


def test_system_only_first() -> None:
    assert reasons_of(system(), user(), assistant()) == []
    assert reasons_of(user(), system(), assistant()) == ["system_not_first"]
    assert reasons_of(system(), system(), user(), assistant()) == ["system_not_first"]


def test_user_speaks() -> None:
    assert reasons_of(system(), assistant()) == ["no_user_turn"]


def test_tool_results_answer_calls() -> None:
    orphan = ["orphan_tool_result"]
    assert reasons_of(user(), tool("a"), assistant()) == orphan
    assert reasons_of(user(), tool(None), assistant()) == orphan
    assert reasons_of(user(), assistant("A", "a"), tool("b"), assistant()) == orphan
    assert reasons_of(user(), tool("a"), assistant("A", "a")) == orphan
    assert reasons_of(user(), assistant("A", None), tool("a"), assistant()) == orphan
    assert reasons_of(user(), assistant("A", "a", "b"), tool("b"), tool("a"), tool("a"), assistant()) == []
    assert reasons_of(user(), assistant("A", None), tool(None), assistant()) == []
    assert reasons_of(user(), assistant("A", "a"), assistant(), user(), tool("a"), assistant()) == []
    assert reasons_of(user(), assistant("A", "a")) == []
    # A call in one conversation is none in the next.
    records = records_batch([[user(), assistant("A", "a")], [user(), tool("a"), assistant()]])
    assert validate(records, ValidateOptions()).column("reasons").to_pylist() == [[], orphan]


def test_alternate() -> None:
    def alternates(*messages: dict[str, Any]) -> bool:
        assert "not_alternating" not in reasons_of(*messages)
        return "not_alternating" not in reasons_of(*messages, alternate=True)

    assert alternates(user(), assistant(), user(), assistant())
    assert alternates(system(), user(), assistant())
    assert alternates(
        user(), assistant("A", "a", "b"), tool("a"), tool("b"), assistant("A", "c"), tool("c"), assistant()
    )
    assert alternates(user(), assistant("A", "a"), tool("a"), user(), assistant())
    assert not alternates(user(), user(), assistant())
    assert not alternates(user(), assistant(), assistant())
    assert not alternates(assistant(), user(), assistant())
    assert not alternates(system(), assistant(), user(), assistant())
    assert not alternates(user(), tool("a"), user(), assistant())
    assert not alternates(user(), other(), user(), assistant())


def test_max_turns() -> None:
    messages = [system(), user(), assistant("A", "a"), tool("a"), assistant()]
    assert reasons_of(*messages, max_turns=3) == []
    assert reasons_of(*messages, max_turns=2) == ["too_many_turns"]


def test_require() -> None:
    paths = ("metadata.user_id", "metadata.a.b")

    def lacks(metadata: dict[str, Any]) -> bool:
        return reasons_of(user(), assistant(), metadata=metadata, require=paths) == ["missing_metadata"]

    assert not lacks({"user_id": 0, "a": {"b": ""}})
    assert lacks({"user_id": None, "a": {"b": 1}})
    assert lacks({"user_id": 1, "a": {}})
    assert lacks({"user_id": 1, "a": 2})
    assert lacks({})


def test_all_broken_rules_in_order_each_once() -> None:
    messages = [other(""), tool("x", "y" * 10), tool("x"), system(), assistant(""), assistant(""), other("")]
    options = {"min_messages": 9, "max_chars": 9, "alternate": True, "max_turns": 1, "require": ("metadata.a",)}
    expected = [reason.value for reason in list(Reason)]
    expected = expected[expected.index("too_few_messages") : expected.index("redaction_failed")]
    assert reasons_of(*messages, **options) == expected


def test_reasons_that_came_stay_alone() -> None:
    records = records_batch([None, [user(), assistant()], [user()]])
    reasons = pa.array([["line_too_long"], ["unknown_shape"], []], RECORDS.field("reasons").type)
    records = records.set_column(RECORDS.get_field_index("reasons"), RECORDS.field("reasons"), reasons)
    checked = validate(records, ValidateOptions())
    assert checked.column("reasons").to_pylist() == [
        ["line_too_long"],
        ["unknown_shape"],
        ["too_few_messages", "last_not_assistant"],
    ]
    assert checked.slice(0, 2).equals(records.slice(0, 2))
    assert validate(records.slice(0, 2), ValidateOptions()).equals(records.slice(0, 2))


def test_the_content_of_broken_records_is_gone() -> None:
    marked = [user(" "), user("Q-content"), assistant("A-content", "call-content", name="name-content")]
    records = records_batch(
        [[user("Hi"), assistant("Hello")], marked],
        tools=["[]", '["tools-content"]'],
        metadata=[{"a": 1}, {"b": "metadata-content"}],
        groups=[b"g" * 16, b"group-contents!!"],
        kinds=["expert", "public"],
    )
    checked = validate(records, ValidateOptions())
    assert checked.slice(0, 1).equals(records.slice(0, 1))
    broken = checked.to_pylist()[1]
    assert [broken[name] for name in ("messages", "tools", "metadata", "group")] == [None] * 4
    assert (broken["kind"], broken["line"], broken["n_redactions"]) == ("public", 1, 0)
    assert broken["reasons"] == ["empty_turn"]
    assert b"-content" in _written(records)
    assert b"-content" not in _written(checked)


def _written(records: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, records.schema) as writer:
        writer.write_batch(records)
    return sink.getvalue().to_pybytes()


def test_white_space_is_what_python_strips() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(pa.array(characters))).to_pylist()
    assert lengths == [len(character.strip()) for character in characters]


# ------------------------------------------------------------------------------------------------- laws

_CONTENTS = st.sampled_from(["", " ", "Hi", "x" * 10, "\u2003é\n", "  " + "\N{GRINNING FACE}" * 9])
_IDS = st.sampled_from(["a", "b", None])
_MESSAGES = st.one_of(
    st.builds(user, _CONTENTS),
    st.builds(assistant, _CONTENTS),
    st.builds(lambda content, ids: assistant(content, *ids), st.none() | _CONTENTS, st.lists(_IDS, max_size=2)),
    st.builds(tool, _IDS, _CONTENTS),
    st.builds(system, _CONTENTS),
    st.builds(other, _CONTENTS),
)
_SOUND = st.lists(
    st.sampled_from([[user(), assistant()], [user(), assistant("A", "a"), tool("a"), assistant()]]), max_size=2
)
_CONVERSATIONS = st.lists(_MESSAGES, max_size=5) | _SOUND.map(lambda parts: [one for part in parts for one in part])
_METADATA = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([None, 0, {"b": 1}, {}]), max_size=2)
_OPTIONS = st.builds(
    ValidateOptions,
    min_messages=st.integers(0, 3),
    max_chars=st.sampled_from([9, 10, 8000]),
    allow_empty_user=st.booleans(),
    alternate=st.booleans(),
    max_turns=st.none() | st.integers(1, 4),
    require=st.sampled_from([(), ("metadata.a",), ("metadata.a.b", "metadata.b")]),
)
_GIVEN = st.sampled_from([[], [], [], ["corrupt_shard"]])
_BATCHES = st.lists(st.tuples(_CONVERSATIONS, _METADATA, _GIVEN), max_size=6)


def batch_of(rows: Sequence[tuple[Conversation, dict[str, Any], list[str]]]) -> pa.RecordBatch:
    records = records_batch([row[0] for row in rows], metadata=[row[1] for row in rows])
    reasons = pa.array([row[2] for row in rows], RECORDS.field("reasons").type)
    return records.set_column(RECORDS.get_field_index("reasons"), RECORDS.field("reasons"), reasons)


def plainly_broken(said: Conversation, metadata: dict[str, Any], options: ValidateOptions) -> list[str]:
    """The rules read one after the other: the oracle."""
    roles = [message["role"] for message in said]
    lengths = [len((message["content"] or "").strip()) for message in said]
    may_be_empty = [
        message["role"] == "tool"
        or (message["role"] == "assistant" and bool(message.get("tool_calls")))
        or (message["role"] == "user" and options.allow_empty_user)
        for message in said
    ]
    calls: list[str | None] = []
    orphan = False
    for message in said:
        calls += [call["id"] for call in message.get("tool_calls") or ()]
        if message["role"] == "tool":
            answer = message["tool_call_id"]
            orphan |= not calls if answer is None else answer not in calls
    turn, alternates = "assistant", True
    for role in roles:
        if role == "tool":
            turn = "tool" if turn == "assistant" else turn
        elif role == "user":
            alternates &= turn != "user"
            turn = "user"
        elif role == "assistant":
            alternates &= turn != "assistant"
            turn = "assistant"
    spoken = sum(role in ("user", "assistant") for role in roles)
    broken = {
        Reason.TOO_FEW_MESSAGES: len(said) < options.min_messages,
        Reason.LAST_NOT_ASSISTANT: roles[-1:] != ["assistant"],
        Reason.EMPTY_TURN: any(not length and not may for length, may in zip(lengths, may_be_empty, strict=True)),
        Reason.TURN_TOO_LONG: any(length > options.max_chars for length in lengths),
        Reason.UNKNOWN_ROLE: not set(roles) <= set(ROLES),
        Reason.SYSTEM_NOT_FIRST: "system" in roles[1:],
        Reason.NO_USER_TURN: "user" not in roles,
        Reason.ORPHAN_TOOL_RESULT: orphan,
        Reason.NOT_ALTERNATING: options.alternate and not alternates,
        Reason.TOO_MANY_TURNS: options.max_turns is not None and spoken > options.max_turns,
        Reason.MISSING_METADATA: any(metadata_value(metadata, path) is None for path in options.require),
    }
    return [reason.value for reason, found in broken.items() if found]


@settings(max_examples=250)
@given(_BATCHES, _OPTIONS)
def test_kernel_agrees_with_the_plain_reading(rows: list[Any], options: ValidateOptions) -> None:
    records = batch_of(rows)
    checked = validate(records, options)
    expected = [given or plainly_broken(said, metadata, options) for said, metadata, given in rows]
    assert checked.column("reasons").to_pylist() == expected
    for place, (before, after) in enumerate(zip(records.to_pylist(), checked.to_pylist(), strict=True)):
        if rows[place][2] or not expected[place]:
            assert after == before
        else:
            gone = dict.fromkeys(("messages", "tools", "metadata", "group"))
            assert after == {**before, **gone, "reasons": expected[place]}
    assert validate(checked, options).equals(checked)


@settings(max_examples=100)
@given(_BATCHES, _OPTIONS, st.integers(0, 6))
def test_batches_may_be_cut_anywhere(rows: list[Any], options: ValidateOptions, cut: int) -> None:
    records = batch_of(rows)
    whole = validate(records, options).to_pylist()
    assert [
        row for part in (records.slice(0, cut), records.slice(cut)) for row in validate(part, options).to_pylist()
    ] == whole


@pytest.mark.parametrize(
    "options", [ValidateOptions(), ValidateOptions(require=("metadata.a",), alternate=True, max_turns=1)]
)
def test_empty_batch(options: ValidateOptions) -> None:
    assert validate(records_batch([]), options).num_rows == 0
