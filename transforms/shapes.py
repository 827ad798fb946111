"""From one parsed record to one conversation: every known shape of chat logs in the same form.

    {"messages": [...], "tools": [...], "user_id": 7}        Conversation(
    {"prompt": ..., "completion": ...}                  ─►       messages=[{"role", "content", ...}, ...],
    {"question": ..., "answer": ...}                             tools='[{"function": ..., "type": "function"}]',
    {"instruction": ..., "input": ..., "output": ...}            metadata={"user_id": 7})
    {"conversations": [{"from", "value"}, ...]}

Told apart by themselves in the order of `_MATCHES`: `messages`, then `conversations`, then the others. A record
that matches several is read as the first; the fields of the others are metadata, like all that is left over.

Nothing is lost: unknown fields of a message go to metadata under `messages`, by the index of the message, and of
its tool calls or content parts within it. Nulls there say nothing and are left out, as is an empty `tools`.
A record's own `metadata` object is lifted: `{"metadata": {"user_id": 7}}` and `{"user_id": 7}` say the same. Where
a field stands in both with different values, the outer one is taken and the inner one stays under `metadata`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

from transforms.canonical import canonical_json
from transforms.reasons import Reason
from transforms.strict_json import Refused, loads_fast

Message = dict[str, Any]  # keys of schema.MESSAGE; absent ones are omitted, `role` never is
Fields = dict[str, Any]


class Conversation(NamedTuple):
    """What a record says, and all else that it holds."""

    messages: list[Message]
    tools: str | None  # canonical JSON of a list that is not empty
    metadata: Fields


def read_record(record: Any, shape: str = "auto") -> Conversation:
    """The conversation of a parsed record, which is left as it is. Raises Refused."""
    if type(record) is not dict:
        raise Refused(Reason.NOT_AN_OBJECT)
    marked = not _PREFERENCE_MARKS.isdisjoint(record)
    if marked and any(record.get(key) is not None for key in _PREFERENCE_ANSWERS):
        raise Refused(Reason.PREFERENCE_RECORD)
    name = shape_of(record, shape)
    if name is None:
        raise Refused(Reason.UNKNOWN_SHAPE)
    if marked and any(record.get(key) is not None for key in _LABELS):
        raise Refused(Reason.PREFERENCE_RECORD)
    messages, unknown = _READERS[name](record)
    tools = _tools(record)
    return Conversation(messages, tools, _metadata(record, _FIELDS[name], unknown))


def shape_of(record: Fields, allowed: str = "auto") -> str | None:
    """The first shape that a record matches and that is allowed.

    >>> shape_of({"question": "Why?", "answer": "Because.", "level": 2})
    'question_answer'
    """
    for name, matches in _MATCHES.items():
        if allowed in ("auto", name) and matches(record):
            return name
    return None


def _has(one: str, other: str) -> Callable[[Fields], bool]:
    return lambda record: record.get(one) is not None and record.get(other) is not None


_MATCHES: dict[str, Callable[[Fields], bool]] = {
    "messages": lambda record: type(record.get("messages")) is list,
    "sharegpt": lambda record: type(record.get("conversations")) is list,
    "prompt_completion": _has("prompt", "completion"),
    "question_answer": _has("question", "answer"),
    "alpaca": _has("instruction", "output"),
}

# The fields that a shape reads; all others are metadata.
_FIELDS = {
    "messages": frozenset({"tools", "functions", "messages"}),
    "sharegpt": frozenset({"tools", "functions", "conversations", "system"}),
    "prompt_completion": frozenset({"tools", "functions", "prompt", "completion"}),
    "question_answer": frozenset({"tools", "functions", "question", "answer"}),
    "alpaca": frozenset({"tools", "functions", "instruction", "input", "output", "system", "history"}),
}

_PREFERENCE_ANSWERS = frozenset({"chosen", "rejected", "preferred_output", "non_preferred_output"})
_LABELS = frozenset({"label", "kto_tag"})
_PREFERENCE_MARKS = _PREFERENCE_ANSWERS | _LABELS


# ------------------------------------------------------------------------------------------- the shapes

_Read = tuple[list[Message], Fields]  # messages, and the unknown fields of each by its index


def _read_messages(record: Fields) -> _Read:
    return _conversation([_said(message) for message in record["messages"]])


def _read_sharegpt(record: Fields) -> _Read:
    turns = [_shared(turn) for turn in record["conversations"]]
    system = _system(record)
    if system and turns[:1] != system:
        turns = system + turns
    return _conversation(turns)


def _read_prompt_completion(record: Fields) -> _Read:
    turns: list[_Turn] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        if type(record[key]) is list:
            turns += [_said(message) for message in record[key]]
        else:
            turns.append((role, _text(record[key]), {}))
    return _conversation(turns)


def _read_question_answer(record: Fields) -> _Read:
    return _conversation([("user", _text(record["question"]), {}), ("assistant", _text(record["answer"]), {})])


def _read_alpaca(record: Fields) -> _Read:
    turns = _system(record)
    for pair in _list(record.get("history")):
        if type(pair) is not list or len(pair) != 2:
            raise Refused(Reason.UNKNOWN_SHAPE)
        turns += [("user", _text(pair[0]), {}), ("assistant", _text(pair[1]), {})]
    asked = [_text(record["instruction"]), _text(record.get("input", ""), null="")]
    turns += [("user", "\n".join(filter(None, asked)), {}), ("assistant", _text(record["output"]), {})]
    return _conversation(turns)


_READERS: dict[str, Callable[[Fields], _Read]] = {
    "messages": _read_messages,
    "sharegpt": _read_sharegpt,
    "prompt_completion": _read_prompt_completion,
    "question_answer": _read_question_answer,
    "alpaca": _read_alpaca,
}


def _system(record: Fields) -> list[_Turn]:
    text = _text(record.get("system"), null="")
    return [("system", text, {})] if text else []


def _text(value: Any, null: str | None = None) -> str:
    """A string, or what stands for null. Raises Refused over anything else."""
    if value is None:
        value = null
    if type(value) is not str:
        raise Refused(Reason.UNKNOWN_SHAPE)
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if type(value) is not list:
        raise Refused(Reason.UNKNOWN_SHAPE)
    return value


# ----------------------------------------------------------------------------------------- the messages

_Turn = tuple[Any, Any, Fields]  # role, content, other fields
_ABSENT = object()

_ROLES = {"developer": "system", "function": "tool"}
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}


def _said(message: Any) -> _Turn:
    """The turn of `{"role", "content", …}`."""
    if type(message) is not dict:
        raise Refused(Reason.UNKNOWN_SHAPE)
    if len(message) == 2 and "role" in message and "content" in message:
        return message["role"], message["content"], {}
    rest = dict(message)
    return rest.pop("role", None), rest.pop("content", _ABSENT), rest


def _shared(turn: Any) -> _Turn:
    """The turn of ShareGPT's `{"from", "value", …}`; the value of a `function_call` is the call, or a list of them."""
    if type(turn) is not dict:
        raise Refused(Reason.UNKNOWN_SHAPE)
    rest = dict(turn)
    role, value = rest.pop("from", None), rest.pop("value", _ABSENT)
    if type(role) is not str:
        raise Refused(Reason.UNKNOWN_SHAPE)
    if role == "function_call":
        calls = _from_json(value)
        if rest.get("tool_calls") is not None:
            raise Refused(Reason.BAD_TOOL_CALL)
        rest["tool_calls"] = calls if type(calls) is list else [calls]
        value = None
    return _SHAREGPT_ROLES.get(role, role), value, rest


def _conversation(turns: list[_Turn]) -> _Read:
    """Messages in schema form, their tool calls named and their tool results tied to them."""
    messages: list[Message] = []
    unknown: Fields = {}
    rich = False
    for role, content, rest in turns:
        if type(content) is str and not rest and type(role) is str:
            role = _ROLES.get(role, role)
            rich = rich or role == "tool"
            messages.append({"role": role, "content": content})
            continue
        rich = True
        message, left = _message(role, content, rest)
        if left:
            unknown[str(len(messages))] = left
        messages.append(message)
    if rich:
        _tie_tool_calls(messages)
    return messages, unknown


def _message(role: Any, content: Any, rest: Fields) -> tuple[Message, Fields]:
    """A message in schema form, and its unknown fields. Takes `rest` apart."""
    if type(role) is not str:
        raise Refused(Reason.UNKNOWN_SHAPE)
    thoughts = (_text(rest.pop(key, None), null="") for key in ("reasoning", "reasoning_content"))
    reasoning = list(dict.fromkeys(thoughts))  # many logs say it under both names
    calls = _calls(rest)
    unknown: Fields = {}
    if type(content) is list:
        content = _content_parts(content, reasoning, calls, unknown)
    message: Message = {"role": _ROLES.get(role, role)}
    said = _content(content, message["role"], bool(calls))
    if said is not None:
        message["content"] = said
    if thought := "\n".join(filter(None, reasoning)):
        message["reasoning"] = thought
    if (name := rest.pop("name", None)) is not None:
        message["name"] = _text(name)
    if calls:
        message["tool_calls"] = [_tool_call(call, index, unknown) for index, call in enumerate(calls)]
    if answered := _identity(rest.pop("tool_call_id", None)):
        message["tool_call_id"] = answered
    if (weight := _weight(rest)) is not None:
        message["weight"] = weight
    unknown.update((key, value) for key, value in rest.items() if value is not None and key not in unknown)
    return message, unknown


def _content(content: Any, role: str, calls: bool) -> str | None:
    """The text of a message; none only where an assistant calls tools. A null elsewhere is an empty turn."""
    if content is _ABSENT and not calls:
        raise Refused(Reason.UNKNOWN_SHAPE)
    if content is None or content is _ABSENT:
        return None if calls and role == "assistant" else ""
    return _text(content)


_TEXTS = ("text", "input_text", "output_text")  # types of content parts that are text


def _content_parts(parts: list[Any], reasoning: list[str], calls: list[Any], unknown: Fields) -> str | None:
    """The texts of content parts, one a line; adds to `reasoning`, `calls` and `unknown`. None without a text."""
    texts: list[str] = []
    left: Fields = {}
    for index, part in enumerate(parts):
        if type(part) is not dict:
            raise Refused(Reason.UNKNOWN_SHAPE)
        rest = dict(part)
        kind = rest.pop("type", "text" if type(part.get("text")) is str else None)
        if kind not in (*_TEXTS, "reasoning", "tool_call"):
            raise Refused(Reason.UNSUPPORTED_CONTENT)
        key = "text" if rest.get("text") is not None else "value"
        value = rest.pop(key, None)
        if kind == "tool_call":
            calls.append(_from_json(value))
        else:
            (texts if kind in _TEXTS else reasoning).append(_text(value))
        rest = {key: value for key, value in rest.items() if value is not None}
        if rest:
            left[str(index)] = rest
    if left:
        unknown["content"] = left
    return "\n".join(texts) if texts else None


def _weight(rest: Fields) -> float | None:
    """`weight`, or `loss_weight` where there is none; where they differ, the latter is left."""
    weight = rest.pop("weight", None)
    if weight is None:
        weight = rest.pop("loss_weight", None)
    elif rest.get("loss_weight") == weight:
        del rest["loss_weight"]
    if weight is None:
        return None
    if type(weight) not in (int, float) or not abs(weight) <= _MOST_WEIGHT:
        raise Refused(Reason.UNKNOWN_SHAPE)
    return float(weight)


_MOST_WEIGHT = 100  # weights are not redacted: a larger number may be somebody's


# ------------------------------------------------------------------------------------------------ tools


def _calls(rest: Fields) -> list[Any]:
    """The raw tool calls of a message, of both generations."""
    calls = rest.pop("tool_calls", None)
    if calls is None:
        calls = []
    elif type(calls) is not list:
        raise Refused(Reason.BAD_TOOL_CALL)
    if (legacy := rest.pop("function_call", None)) is not None:
        calls = [*calls, legacy]
    return list(calls)


def _tool_call(raw: Any, index: int, unknown: Fields) -> Fields:
    """A call in schema form, its id null where it has none; adds what it does not know to `unknown`."""
    if type(raw) is not dict:
        raise Refused(Reason.BAD_TOOL_CALL)
    rest = dict(raw)
    identity, kind = _identity(rest.pop("id", None)), rest.pop("type", None) or "function"
    function = rest.pop("function", None)
    bare = function is None
    if bare:
        function, rest = rest, {}
    if type(function) is not dict or type(kind) is not str:
        raise Refused(Reason.BAD_TOOL_CALL)
    left = dict(function)
    name = left.pop("name", None)
    arguments = left.pop("arguments", None)
    if arguments is None:
        arguments = left.pop("parameters", None)
    if type(name) is not str or not name:
        raise Refused(Reason.BAD_TOOL_CALL)
    left = {key: value for key, value in left.items() if value is not None}
    rest = {key: value for key, value in rest.items() if value is not None}
    if left and not bare:
        rest["function"] = left
    if rest or left:
        unknown.setdefault("tool_calls", {})[str(index)] = left if bare else rest
    return {"id": identity, "type": kind, "function": {"name": name, "arguments": _arguments(arguments)}}


def _arguments(value: Any) -> str:
    """Canonical JSON of an object, given as an object, as its JSON, or not at all."""
    if value is None or (type(value) is str and not value.strip()):
        return "{}"
    value = _from_json(value)
    if type(value) is not dict:
        raise Refused(Reason.BAD_TOOL_CALL)
    return canonical_json(value).decode()


def _from_json(value: Any) -> Any:
    """What a string says as JSON; other values are as they are."""
    if type(value) is not str:
        return value
    try:
        return loads_fast(value.encode())
    except Refused:
        raise Refused(Reason.BAD_TOOL_CALL) from None


def _identity(value: Any) -> str | None:
    """An id of a tool call; an empty one is none."""
    if value is not None and type(value) is not str:
        raise Refused(Reason.BAD_TOOL_CALL)
    return value or None


def _tie_tool_calls(messages: list[Message]) -> None:
    """Gives calls without an id the next free of call_1, call_2 …, and results without one the id of the call
    they answer: the first that has no answer yet, or the last where all have."""
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    taken = {call["id"] for call in calls} | {message.get("tool_call_id") for message in messages}
    fresh: Iterator[str] = (name for name in map("call_{}".format, count(1)) if name not in taken)
    waiting: OrderedDict[str, int] = OrderedDict()  # id of a call: how many such calls have no answer yet
    latest: str | None = None
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["id"] = latest = call["id"] or next(fresh)
            waiting[latest] = waiting.get(latest, 0) + 1
        if message["role"] != "tool":
            continue
        answered = message.get("tool_call_id") or next(iter(waiting), latest)
        if answered is None:
            continue
        message["tool_call_id"] = answered
        if answered in waiting:
            waiting[answered] -= 1
            if not waiting[answered]:
                del waiting[answered]


def _tools(record: Fields) -> str | None:
    """Canonical JSON of the tools a record declares; none where it declares none."""
    if "tools" not in record and "functions" not in record:
        return None
    tools = [_tool(tool) for tool in _declared(record.get("tools"))]
    if more := [_tool(tool) for tool in _declared(record.get("functions"))]:
        declared = {canonical_json(tool) for tool in tools}
        tools += [tool for tool in more if canonical_json(tool) not in declared]
    return canonical_json(tools).decode() if tools else None


def _declared(value: Any) -> list[Any]:
    """A list of tools, given as a list, as its JSON, or not at all."""
    if value is None or (type(value) is str and not value.strip()):
        return []
    value = _from_json(value)
    if value is None:
        return []
    if type(value) is not list:
        raise Refused(Reason.BAD_TOOL_CALL)
    return value


def _tool(tool: Any) -> Fields:
    """`{"type": "function", "function": …}`, around a bare function schema where it is one."""
    if type(tool) is not dict or tool.get("type", "function") != "function":
        raise Refused(Reason.BAD_TOOL_CALL)
    schema = tool.get("function")
    if schema is None:
        schema = {key: value for key, value in tool.items() if key not in ("type", "function")}
        tool = {"type": "function", "function": schema}
    if type(schema) is not dict or type(schema.get("name")) is not str or not schema["name"]:
        raise Refused(Reason.BAD_TOOL_CALL)
    return {"type": "function", **tool}


# --------------------------------------------------------------------------------------------- metadata


def _metadata(record: Fields, read: frozenset[str], unknown: Fields) -> Fields:
    """All fields that the shape does not read, the record's own `metadata` lifted among them."""
    if not unknown and record.keys() <= read:
        return {}
    left = {key: value for key, value in record.items() if key not in read}
    if unknown:
        bucket = "messages"
        while bucket in left:
            bucket += "_"
        left[bucket] = unknown
    inner = left.get("metadata")
    if type(inner) is not dict:
        return left
    del left["metadata"]
    stay = {}
    for key, value in inner.items():
        if key == "metadata" or (key in left and canonical_json(left[key]) != canonical_json(value)):
            stay[key] = value
        else:
            left[key] = value
    if stay:
        left["metadata"] = stay
    return left
