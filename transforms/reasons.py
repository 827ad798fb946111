"""Every reason a line is not in the dataset, and every counter. Spelled here and nowhere else.

*Quarantined*: the record is broken. *Dropped*: it is sound and left out on purpose.
The text beside a reason is what reports and the README's table say of it.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The fate of an input line that is not blank."""

    TRAIN = "train"
    VAL = "val"
    EVAL = "eval"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    DROPPED = "dropped"


SPLITS = (Outcome.TRAIN.value, Outcome.VAL.value, Outcome.EVAL.value)


class Reason(StrEnum):
    """Why a record is quarantined; in the order of the flow."""

    # Read
    LINE_TOO_LONG = "line_too_long"
    CORRUPT_SHARD = "corrupt_shard"
    # Parse
    INVALID_UTF8 = "invalid_utf8"
    MALFORMED_JSON = "malformed_json"
    LONE_SURROGATE = "lone_surrogate"
    NON_FINITE_NUMBER = "non_finite_number"
    INTEGER_OVERFLOW = "integer_overflow"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_SHAPE = "unknown_shape"
    UNSUPPORTED_CONTENT = "unsupported_content"
    BAD_TOOL_CALL = "bad_tool_call"
    PREFERENCE_RECORD = "preference_record"
    # Validate
    TOO_FEW_MESSAGES = "too_few_messages"
    LAST_NOT_ASSISTANT = "last_not_assistant"
    EMPTY_TURN = "empty_turn"
    TURN_TOO_LONG = "turn_too_long"
    UNKNOWN_ROLE = "unknown_role"
    SYSTEM_NOT_FIRST = "system_not_first"
    NO_USER_TURN = "no_user_turn"
    ORPHAN_TOOL_RESULT = "orphan_tool_result"
    NOT_ALTERNATING = "not_alternating"
    TOO_MANY_TURNS = "too_many_turns"
    MISSING_METADATA = "missing_metadata"
    # Redact
    REDACTION_FAILED = "redaction_failed"
    REDACTION_UNSTABLE = "redaction_unstable"


class Drop(StrEnum):
    """Why a sound record is left out."""

    NEAR_EVAL = "near_eval"
    NEAR_VAL = "near_val"
    NEAR_TRAIN = "near_train"
    GROUP_IN_EVAL = "group_in_eval"
    DECONTAMINATED = "decontaminated"
    SUPERSEDED = "superseded"
    FORGOTTEN = "forgotten"


MEANING: dict[Reason | Drop, str] = {
    Reason.LINE_TOO_LONG: "the line is longer than read.max_line_bytes",
    Reason.CORRUPT_SHARD: "the archive or array is cut or damaged from here on",
    Reason.INVALID_UTF8: "the line is not UTF-8",
    Reason.MALFORMED_JSON: "the line is not JSON (RFC 8259)",
    Reason.LONE_SURROGATE: "half of a surrogate pair is escaped, which no UTF-8 text can hold",
    Reason.NON_FINITE_NUMBER: "NaN, Infinity or a number beyond the range of a double",
    Reason.INTEGER_OVERFLOW: "an integer does not fit 64 bits",
    Reason.DUPLICATE_KEY: "an object says the same key twice",
    Reason.TOO_DEEP: "values are nested deeper than 64",
    Reason.NOT_AN_OBJECT: "the line is JSON but no object",
    Reason.UNKNOWN_SHAPE: "the object is in no shape that is known",
    Reason.UNSUPPORTED_CONTENT: "a message holds images, audio or other parts that are not text",
    Reason.BAD_TOOL_CALL: "a tool call or tool schema is not in a form that is known",
    Reason.PREFERENCE_RECORD: "the record has a label or preference answers, which are not read yet",
    Reason.TOO_FEW_MESSAGES: "fewer messages than validate.min_messages",
    Reason.LAST_NOT_ASSISTANT: "the last message is not the assistant's",
    Reason.EMPTY_TURN: "a turn is empty or only white space",
    Reason.TURN_TOO_LONG: "a turn is longer than validate.max_chars",
    Reason.UNKNOWN_ROLE: "a role is none of system, developer, user, assistant, tool",
    Reason.SYSTEM_NOT_FIRST: "a system message is not the first message",
    Reason.NO_USER_TURN: "the user never speaks",
    Reason.ORPHAN_TOOL_RESULT: "a tool result answers no tool call before it",
    Reason.NOT_ALTERNATING: "user and assistant don't take turns (validate.alternate)",
    Reason.TOO_MANY_TURNS: "more turns than validate.max_turns",
    Reason.MISSING_METADATA: "a field named in validate.require is missing",
    Reason.REDACTION_FAILED: "a text could not be analysed for personal data",
    Reason.REDACTION_UNSTABLE: "redacting the redacted text went on changing it",
    Drop.NEAR_EVAL: "resembles a record of eval at or above dedupe.leak_threshold, or repeats one that does",
    Drop.NEAR_VAL: "resembles a record of val at or above dedupe.leak_threshold, or repeats one that does",
    Drop.NEAR_TRAIN: "its group, or the cut, puts it in val or eval, and it resembles a record that was published in train",
    Drop.GROUP_IN_EVAL: "its group has records in eval, which is frozen",
    Drop.DECONTAMINATED: "matches or resembles a text of the benchmarks given with --decontaminate",
    Drop.SUPERSEDED: "a human decision replaced it, or cut it",
    Drop.FORGOTTEN: "its group was forgotten, or it says what a forgotten record of eval or val said",
}


class Note(StrEnum):
    """What the reader met and accepted: counted for each shard, never a reason."""

    BOM = "bom"
    CRLF = "crlf"
    NO_FINAL_NEWLINE = "no_final_newline"
