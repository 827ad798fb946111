"""One JSON text to one value, or the reason it is refused: RFC 8259 without what would be lost or misread.

Refused beyond the grammar: duplicate keys (the last would win and the rest be lost), integers beyond 64 bits
(they would become floats), numbers beyond a double, NaN and Infinity, halves of surrogate pairs (no UTF-8 text
holds them), nesting deeper than 64.

`loads_strict` is the plain one, which says what is right. `loads_fast` gives the same value or the same reason
at the speed of orjson; it goes to the plain one wherever it cannot prove that they agree.

A text that breaks several rules has one reason: invalid UTF-8 first, then nesting (which is judged by brackets
before anything is parsed), then the grammar, then the others in the order of `Reason`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from transforms.reasons import Reason

MAX_DEPTH = 64  # objects and arrays within each other

_I64_MIN, _U64_MAX = -(1 << 63), (1 << 64) - 1
_ORDER = {reason: place for place, reason in enumerate(Reason)}


class Refused(ValueError):
    """Why a record is refused. It carries the reason and nothing of the record."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


# --------------------------------------------------------------------------------------- the plain one


_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def loads_strict(line: bytes) -> Any:
    """The value of one JSON text. Raises Refused."""
    value, reason = _decode(line)
    if reason is not None:
        raise Refused(reason)  # here, where no other error is at hand: theirs hold the text
    return value


def _decode(line: bytes) -> tuple[Any, Reason | None]:
    """The value, or why there is none."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None, Reason.INVALID_UTF8
    if _bracket_depth(text) > MAX_DEPTH:
        return None, Reason.TOO_DEEP
    found: set[Reason] = set()
    try:
        value = _decoder(found).decode(text)
    except ValueError:
        return None, Reason.MALFORMED_JSON
    if _HALF_PAIR.search(text) and _holds_half_pair(value):
        found.add(Reason.LONE_SURROGATE)
    return value, min(found, key=_ORDER.__getitem__, default=None)


def _decoder(found: set[Reason]) -> json.JSONDecoder:
    """A decoder that goes on after a refusal and notes it in `found`, so that the grammar is judged first."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            found.add(Reason.DUPLICATE_KEY)
        return value

    def integer(digits: str) -> int:
        # No JSON integer has leading zeros, so 21 characters are always beyond 64 bits; int() is never given more.
        value = int(digits) if len(digits) <= 20 else _U64_MAX + 1
        if not _I64_MIN <= value <= _U64_MAX:
            found.add(Reason.INTEGER_OVERFLOW)
        return value

    def real(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            found.add(Reason.NON_FINITE_NUMBER)
        return value

    def constant(_: str) -> None:
        found.add(Reason.NON_FINITE_NUMBER)

    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=constant)


def _bracket_depth(text: str) -> int:
    """How deep brackets outside strings go; stops counting one above the limit."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # whatever it is, it is not too deep
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif first in "]}":
            depth -= 1
    return deepest


def _holds_half_pair(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, list):
        return any(map(_holds_half_pair, value))
    if isinstance(value, dict):
        return any(map(_holds_half_pair, value)) or any(map(_holds_half_pair, value.values()))
    return False


# ---------------------------------------------------------------------------------------- the fast one


_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"[ \t\r\n]*+(:?)', re.DOTALL)
_BEYOND_64_BITS = float(1 << 63)


def loads_fast(line: bytes) -> Any:
    """What `loads_strict` gives or raises, for most texts many times as fast."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    else:
        # orjson has checked grammar, UTF-8, surrogates and the range of floats. It is silent about three things:
        # a duplicate key, an integer that it made a float, and depth up to its own limit.
        keys, depth, suspect = _survey(value)
        if not suspect and depth <= MAX_DEPTH and _all_keys_counted(line, keys):
            return value
    return loads_strict(line)  # names the reason; where it finds none, it is right


def _survey(value: Any) -> tuple[int, int, bool]:
    """How many keys a value holds, how deep it is, and whether a number may have been an integer beyond 64 bits."""
    keys = depth = 0
    suspect = False
    level: list[Any] = [value] if type(value) in (dict, list) else []
    if type(value) is float:
        suspect = not -_BEYOND_64_BITS < value < _BEYOND_64_BITS
    while level:
        depth += 1
        below: list[Any] = []
        for container in level:
            values = container
            if type(container) is dict:
                keys += len(container)
                values = container.values()
            for inner in values:
                kind = type(inner)
                if kind is dict or kind is list:
                    below.append(inner)
                elif kind is float and not -_BEYOND_64_BITS < inner < _BEYOND_64_BITS:
                    suspect = True
        level = below
    return keys, depth, suspect


def _all_keys_counted(line: bytes, keys: int) -> bool:
    r"""Whether a valid text says exactly `keys` keys, so that none was said twice.

    Each key ends in `":`, or in `"`, white space and `:`. Where the latter occurs nowhere, the text says at most as
    many keys as it has `":` (a string may hold `\":` and begin with `:`), and at least as many as the value holds; if
    these are equal, it is settled. A `\":` is within a string unless a key ends in a backslash, as `\\":`; where that
    occurs nowhere either, those with a backslash need not be counted: so texts that hold JSON in strings are settled.
    Otherwise the keys are told from other strings one by one.
    """
    if _SPACED_COLON.search(line) is None:
        ends = line.count(b'":')
        if ends == keys or (ends - line.count(b'\\":') == keys and b'\\\\":' not in line):
            return True
    return _STRINGS.findall(line).count(b":") == keys
