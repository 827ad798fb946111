"""How to break a sound conversation, once for every reason; and what looks odd in a log but is sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from conversations import Conversation, device_log

MARK = "@@MARK@@"  # stands where a record must say what JSON can't, until the record is text
CUT = b"\0cut"  # in place of the mark: the line ends there

ALL = ("messages", "sharegpt", "prompt_completion")
CHATS = ("messages", "sharegpt")
LABELLED = ("messages", "prompt_completion")
MESSAGES = ("messages",)


@dataclass(frozen=True)
class Twist:
    """A change to a conversation. `reasons` is what the mill should say of it, in its order: none if it is sound."""

    name: str
    change: Callable[[Conversation, Random], None]
    reasons: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ALL
    raw: bytes = b""  # what replaces the mark; a shard that is one JSON array has none of these
    turns: int = 1  # fewest questions that leave no other rule broken


# ------------------------------------------------------------------------------------------------- changes


def mark_end(said: Conversation, _: Random) -> None:
    said.messages[-1]["content"] += MARK


def mark_field(name: str, said: Conversation, _: Random) -> None:
    said.fields[name] = MARK


def mark_role(said: Conversation, _: Random) -> None:
    said.messages[-1]["role"] = MARK


def set_field(name: str, value: Any, said: Conversation, _: Random) -> None:
    said.fields[name] = value


def say_instead(value: Any, said: Conversation, _: Random) -> None:
    said.instead = value


def list_instead(said: Conversation, _: Random) -> None:
    said.instead = list(said.messages)


def choose_instead(said: Conversation, _: Random) -> None:
    """A preference record as DPO trainers read it."""
    asked, answered = said.messages[-2]["content"], said.messages[-1]["content"]
    said.instead = {"prompt": asked, "chosen": answered, "rejected": "I don't know."}


def show_part(part: dict[str, Any], said: Conversation, _: Random) -> None:
    first = first_user(said)
    first["content"] = [{"type": "text", "text": first["content"]}, part]


def call_tool(calls: Any, said: Conversation, _: Random) -> None:
    said.messages.insert(len(said.messages) - 1, {"role": "assistant", "content": None, "tool_calls": calls})


def keep_question(said: Conversation, _: Random) -> None:
    said.messages = [first_user(said)]


def keep_answer(said: Conversation, _: Random) -> None:
    said.messages = said.messages[-1:]


def drop_answer(said: Conversation, _: Random) -> None:
    said.messages.pop()


def ask_nothing(said: Conversation, _: Random) -> None:
    said.messages.append({"role": "user", "content": "\n"})


def blank_question(said: Conversation, _: Random) -> None:
    first_user(said)["content"] = " \u3000"


def blank_answer(said: Conversation, _: Random) -> None:
    said.messages[-1]["content"] = ""


def paste_log(length: int, said: Conversation, rng: Random) -> None:
    first_user(said)["content"] = device_log(rng, length)


def dictate_log(length: int, said: Conversation, rng: Random) -> None:
    said.messages[-1]["content"] = device_log(rng, length)


def moderate(said: Conversation, _: Random) -> None:
    said.messages.insert(-1, {"role": "moderator", "content": "This conversation was handed to the evening shift."})


def instruct_late(said: Conversation, _: Random) -> None:
    said.messages.insert(-1, {"role": "system", "content": "From now on, answer in one sentence."})


def drop_questions(said: Conversation, _: Random) -> None:
    said.messages = [{"role": "system", "content": "Greet the customer."}, said.messages[-1]]


def answer_no_call(said: Conversation, _: Random) -> None:
    said.messages.insert(-1, {"role": "tool", "tool_call_id": "call_gone", "content": '{"status": "ok"}'})


def rename_system(said: Conversation, _: Random) -> None:
    said.messages = [{"role": "developer", "content": "Answer politely."}, *without_system(said)]


def part_contents(key: str, said: Conversation, _: Random) -> None:
    for message in said.messages:
        message["content"] = [{"type": "text", key: message["content"]}]


def weigh(key: str, said: Conversation, _: Random) -> None:
    answers = [message for message in said.messages if message["role"] == "assistant"]
    for message in answers:
        message[key] = 1 if message is answers[-1] else 0


def name_user(said: Conversation, _: Random) -> None:
    first_user(said)["name"] = "customer"


def end_question(text: str, said: Conversation, _: Random) -> None:
    first_user(said)["content"] += text


def first_user(said: Conversation) -> dict[str, Any]:
    return next(message for message in said.messages if message["role"] == "user")


def without_system(said: Conversation) -> list[dict[str, Any]]:
    return [message for message in said.messages if message["role"] != "system"]


# ------------------------------------------------------------------------------------------------ the lists

IMAGE = {"type": "image_url", "image_url": {"url": "https://cdn.example.com/lamp.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
NAMELESS = [{"id": "call_1", "type": "function", "function": {"arguments": "{}"}}]
EVENT = {"event": "session_closed", "session": "s-4411", "seconds": 312}
DEEP = b'{"parent":' * 80 + b"null" + b"}" * 80


def _in_field(reason: str, name: str, raw: bytes) -> Twist:
    return Twist(f"{reason}: {name}", partial(mark_field, name), (reason,), ALL, raw)


def _in_text(reason: str, name: str, raw: bytes) -> Twist:
    return Twist(f"{reason}: {name}", mark_end, (reason,), ALL, raw)


DEFECTS = (
    _in_text("malformed_json", "line cut short", CUT),
    _in_field("malformed_json", "resolved", b"True"),
    _in_field("malformed_json", "closed_by", b"'agent'"),
    _in_text("invalid_utf8", "Latin-1", b" Caf\xe9"),
    _in_text("invalid_utf8", "no such byte", b"\xff"),
    _in_text("lone_surrogate", "first half", b"\\ud83d"),
    _in_text("lone_surrogate", "second half", b"\\udc4d"),
    _in_field("non_finite_number", "csat", b"NaN"),
    _in_field("non_finite_number", "wait_seconds", b"-Infinity"),
    _in_field("non_finite_number", "cost", b"1e999"),
    _in_field("integer_overflow", "trace_id", b"340282366920938463463374607431768211456"),
    _in_field("integer_overflow", "ticket", b"-9223372036854775809"),
    _in_field("duplicate_key", "source", b'"web", "source": "app"'),
    Twist("duplicate_key: role", mark_role, ("duplicate_key",), MESSAGES, b'"user", "role": "assistant"'),
    _in_field("too_deep", "trace", DEEP),
    Twist("not_an_object: list", list_instead, ("not_an_object",), MESSAGES),
    Twist("not_an_object: string", partial(say_instead, "log rotated"), ("not_an_object",)),
    Twist("unknown_shape: event", partial(say_instead, EVENT), ("unknown_shape",)),
    Twist("unknown_shape: empty", partial(say_instead, {}), ("unknown_shape",)),
    Twist("unsupported_content: image", partial(show_part, IMAGE), ("unsupported_content",), MESSAGES),
    Twist("unsupported_content: audio", partial(show_part, AUDIO), ("unsupported_content",), MESSAGES),
    Twist("bad_tool_call: no name", partial(call_tool, NAMELESS), ("bad_tool_call",), MESSAGES),
    Twist("bad_tool_call: a string", partial(call_tool, "get_order"), ("bad_tool_call",), MESSAGES),
    Twist("preference_record: label", partial(set_field, "label", True), ("preference_record",), LABELLED),
    Twist("preference_record: chosen", choose_instead, ("preference_record",)),
    Twist("too_few_messages: question", keep_question, ("too_few_messages", "last_not_assistant"), CHATS),
    Twist("too_few_messages: answer", keep_answer, ("too_few_messages", "no_user_turn"), CHATS),
    Twist("last_not_assistant", drop_answer, ("last_not_assistant",), CHATS, turns=2),
    Twist("last_not_assistant: and empty", ask_nothing, ("last_not_assistant", "empty_turn"), CHATS),
    Twist("empty_turn: question", blank_question, ("empty_turn",)),
    Twist("empty_turn: answer", blank_answer, ("empty_turn",)),
    Twist("turn_too_long: question", partial(paste_log, 8_001), ("turn_too_long",)),
    Twist("turn_too_long: answer", partial(dictate_log, 8_400), ("turn_too_long",), MESSAGES),
    Twist("unknown_role", moderate, ("unknown_role",), MESSAGES),
    Twist("system_not_first", instruct_late, ("system_not_first",), CHATS),
    Twist("no_user_turn", drop_questions, ("no_user_turn",), CHATS),
    Twist("orphan_tool_result", answer_no_call, ("orphan_tool_result",), MESSAGES),
)

ODDITIES = (
    Twist("developer for system", rename_system, shapes=MESSAGES),
    Twist("content as text parts", partial(part_contents, "text"), shapes=MESSAGES),
    Twist("content as text parts with value", partial(part_contents, "value"), shapes=MESSAGES),
    Twist("weights", partial(weigh, "weight"), shapes=MESSAGES),
    Twist("loss weights", partial(weigh, "loss_weight"), shapes=MESSAGES),
    Twist("a name beside the role", name_user, shapes=MESSAGES),
    Twist("a turn of 8,000 characters", partial(paste_log, 8_000), shapes=MESSAGES),
    Twist("line separator U+2028", partial(end_question, "\u2028Thanks!"), shapes=CHATS),
    Twist("emoji of several code points", partial(end_question, " 👩🏽‍🔧🇬🇧"), shapes=ALL),
)
