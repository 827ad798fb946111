"""The two parsers: the plain one against a table, the fast one against the plain one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms.reasons import Reason
from transforms.strict_json import MAX_DEPTH, Refused, loads_fast, loads_strict

SUITE = Path(__file__).parents[2] / "shared" / "data" / "json-test-suite" / "test_parsing"
needs_suite = pytest.mark.skipif(not SUITE.exists(), reason="../shared/data/json-test-suite is not there")


def typed(value: Any) -> Any:
    """A value that is equal only to one of the same types, keys in the same order, and the same zero."""
    if isinstance(value, dict):
        return ("object", *((key, typed(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return ("array", *map(typed, value))
    return (type(value).__name__, repr(value))


def outcome(loads: Callable[[bytes], Any], line: bytes) -> Any:
    try:
        return typed(loads(line))
    except Refused as refused:
        return refused.reason


def both(line: bytes) -> Any:
    """What both parsers say, which must be one thing."""
    plain = outcome(loads_strict, line)
    assert outcome(loads_fast, line) == plain
    return plain


def nested(depth: int, left: bytes = b"[", right: bytes = b"]") -> bytes:
    return left * depth + right * depth


REFUSED = {
    b'{"a": "\xff"}': Reason.INVALID_UTF8,
    b'{"a": "\xed\xa0\x80"}': Reason.INVALID_UTF8,  # a surrogate, encoded as if it were a character
    b'{"a": "\xc0\xaf"}': Reason.INVALID_UTF8,  # overlong
    b"\xff\xfe{\x00}\x00": Reason.INVALID_UTF8,  # UTF-16
    b"": Reason.MALFORMED_JSON,
    b" ": Reason.MALFORMED_JSON,
    b"{": Reason.MALFORMED_JSON,
    b"{'a': 1}": Reason.MALFORMED_JSON,
    b'{"a": 1,}': Reason.MALFORMED_JSON,
    b'{"a": 1} {}': Reason.MALFORMED_JSON,
    b'{"a": 01}': Reason.MALFORMED_JSON,
    b'{"a": .5}': Reason.MALFORMED_JSON,
    b'{"a": "\t"}': Reason.MALFORMED_JSON,
    b'{"a": "\x00"}': Reason.MALFORMED_JSON,
    b'{"a": "\\x41"}': Reason.MALFORMED_JSON,
    b'{"a": "\\u00g0"}': Reason.MALFORMED_JSON,
    b'\xef\xbb\xbf{"a": 1}': Reason.MALFORMED_JSON,  # a byte-order mark within a file
    b"nan": Reason.MALFORMED_JSON,
    b"-NaN": Reason.MALFORMED_JSON,
    '{"a": １}'.encode(): Reason.MALFORMED_JSON,  # a full-width digit
    '{"a":\xa01}'.encode(): Reason.MALFORMED_JSON,  # a no-break space
    b'{"a": "\\ud83d"}': Reason.LONE_SURROGATE,
    b'{"a": "\\ude00"}': Reason.LONE_SURROGATE,
    b'{"a": "\\ude00\\ud83d"}': Reason.LONE_SURROGATE,
    b'{"\\uD800": 1}': Reason.LONE_SURROGATE,
    b'[["\\uDFFFx"]]': Reason.LONE_SURROGATE,
    b"[NaN]": Reason.NON_FINITE_NUMBER,
    b"[-Infinity]": Reason.NON_FINITE_NUMBER,
    b"1e400": Reason.NON_FINITE_NUMBER,
    b"[-1e400]": Reason.NON_FINITE_NUMBER,
    b"1" * 400 + b".0": Reason.NON_FINITE_NUMBER,
    b"18446744073709551616": Reason.INTEGER_OVERFLOW,
    b"[-9223372036854775809]": Reason.INTEGER_OVERFLOW,
    b'{"a": 1000000000000000000000}': Reason.INTEGER_OVERFLOW,
    b'{"a": ' + b"9" * 100_000 + b"}": Reason.INTEGER_OVERFLOW,
    b'{"a": 1, "a": 1}': Reason.DUPLICATE_KEY,
    b'{"a": {"b": 1, "c": [], "b": 1}}': Reason.DUPLICATE_KEY,
    b'{"a" : 1, "\\u0061"\t: 1}': Reason.DUPLICATE_KEY,
    b'{"":0,"":0}': Reason.DUPLICATE_KEY,
    b'{"a\\\\":":)","a\\\\":0}': Reason.DUPLICATE_KEY,
    b'{"a":":","a":"\\":"}': Reason.DUPLICATE_KEY,
    nested(MAX_DEPTH + 1): Reason.TOO_DEEP,
    nested(MAX_DEPTH + 1, b'{"a":', b"}").replace(b":}", b":0}"): Reason.TOO_DEEP,
    nested(2_000): Reason.TOO_DEEP,
    nested(100_000): Reason.TOO_DEEP,
    nested(100_000, b'{"a":', b"}"): Reason.TOO_DEEP,
    b"[" * 100_000: Reason.TOO_DEEP,
    # Of several reasons, one.
    b"[NaN, \xff": Reason.INVALID_UTF8,
    b"[NaN, ": Reason.MALFORMED_JSON,
    b'[NaN, "\\ud800"]': Reason.LONE_SURROGATE,
    b'{"a": 1e400, "a": 99999999999999999999}': Reason.NON_FINITE_NUMBER,
    b'{"a": 0, "a": 99999999999999999999}': Reason.INTEGER_OVERFLOW,
}

ACCEPTED = {
    b"0": 0,
    b"-0": 0,
    b"-0.0": -0.0,
    b"1.0": 1.0,
    b"1e2": 100.0,
    b"1E-400": 0.0,
    b"-9223372036854775808": -(2**63),
    b"18446744073709551615": 2**64 - 1,
    b"9223372036854775808.0": 2.0**63,
    b"1e22": 1e22,
    b"1" * 300 + b".5": float("1" * 300),
    b' \r\n\t{ "a" : [ 1 , true , null ] } ': {"a": [1, True, None]},
    b'"\\ud83d\\ude00"': "\N{GRINNING FACE}",
    b'"\\u0000\\u2028"': "\0\u2028",
    '"\u2028\ufeff\x7f"'.encode(): "\u2028\ufeff\x7f",
    b'{"a\\\\": ":", "b": "\\": "}': {"a\\": ":", "b": '": '},
    b'{"x":"{\\"a\\":1,\\"a\\":2}"}': {"x": '{"a":1,"a":2}'},
    b'"' + b"[" * 1000 + b'"': "[" * 1000,
    b'["\\"' + b"[" * 1000 + b'"]': ['"' + "[" * 1000],
    nested(MAX_DEPTH): json.loads(nested(MAX_DEPTH)),
    b"[" + b"[]," * 1000 + b"[]]": [[]] * 1001,
}


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: ascii(line[:24]))
def test_refuses(line: bytes) -> None:
    assert both(line) is REFUSED[line]


@pytest.mark.parametrize("line", ACCEPTED, ids=lambda line: ascii(line[:24]))
def test_accepts(line: bytes) -> None:
    assert both(line) == typed(ACCEPTED[line])


@pytest.mark.parametrize("loads", [loads_strict, loads_fast])
@pytest.mark.parametrize("line", REFUSED, ids=lambda line: ascii(line[:24]))
def test_a_refusal_holds_nothing_of_the_line(loads: Callable[[bytes], Any], line: bytes) -> None:
    with pytest.raises(Refused) as caught:
        loads(line)
    assert caught.value.args == (REFUSED[line].value,)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # the libraries' errors carry the text


# JSON texts as text, so that they may say what no value can: keys twice, other spellings, numbers out of range.
_SPACE = st.text(" \t\r\n", max_size=2)
_PIECES = st.one_of(
    st.sampled_from(['\\"', "\\\\", '\\":', "\\\\\\\\", ":", "\\ud83d\\ude00", "\\ud83d", "\\u0061", "\\/", "{", "]"]),
    st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32), max_size=3),
)
_STRINGS = st.lists(_PIECES, max_size=3).map(lambda pieces: '"' + "".join(pieces) + '"')
_KEYS = st.one_of(st.sampled_from(['"a"', '"b"', '"a\\\\"', '":"', '"\\u0061"', '"\\""']), _STRINGS)
_NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z"),
    st.sampled_from(["-0", "-0.0", "0e0", "NaN", "Infinity", "-Infinity", "1e308", "1e309", "-1e309"]),
)
_SCALARS = st.one_of(_STRINGS, _NUMBERS, st.sampled_from(["null", "true", "false"]))


def _arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.tuples(_SPACE, inner, _SPACE).map("".join)
    return st.lists(items, max_size=4).map(lambda values: "[" + ",".join(values) + "]")


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.tuples(_SPACE, _KEYS, _SPACE, st.just(":"), _SPACE, inner, _SPACE).map("".join)
    return st.lists(items, max_size=4).map(lambda values: "{" + ",".join(values) + "}")


_TEXTS = st.recursive(_SCALARS, lambda inner: _arrays(inner) | _objects(inner), max_leaves=12)
_LINES = st.tuples(_SPACE, _TEXTS, _SPACE).map("".join).map(str.encode)


@settings(max_examples=300)
@given(_LINES)
@example(b'{"a":1}')
def test_fast_agrees_on_json(line: bytes) -> None:
    said = both(line)
    assert said is not Reason.INVALID_UTF8
    assert said is not Reason.TOO_DEEP


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    line = bytearray(draw(_LINES))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(line)))
        removed = draw(st.integers(0, 3))
        line[place : place + removed] = draw(st.one_of(st.binary(max_size=3), st.sampled_from(list(_GRIT))))
    return bytes(line)


_GRIT = (
    b'"',
    b"\\",
    b":",
    b'":',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\\u",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"0",
    b"e",
    b"-",
    b".",
)


@settings(max_examples=300)
@given(_damaged())
def test_fast_agrees_on_damaged_json(line: bytes) -> None:
    both(line)


@settings(max_examples=300)
@given(st.binary(max_size=40))
def test_fast_agrees_on_anything(line: bytes) -> None:
    both(line)


@settings(max_examples=60)
@given(
    st.integers(MAX_DEPTH - 2, MAX_DEPTH + 2),
    st.text("[{", min_size=1, max_size=9),
    _SCALARS,
)
def test_fast_agrees_on_depth(depth: int, pattern: str, scalar: str) -> None:
    brackets = (pattern * depth)[:depth]
    opened = "".join("[" if bracket == "[" else '{"a":' for bracket in brackets)
    closed = "".join("]" if bracket == "[" else "}" for bracket in reversed(brackets))
    said = both((opened + scalar + closed).encode())
    assert (said is Reason.TOO_DEEP) == (depth > MAX_DEPTH)


@settings(max_examples=150)
@given(_LINES)
def test_what_is_accepted_is_what_json_says(line: bytes) -> None:
    said = both(line)
    if not isinstance(said, Reason):
        assert said == typed(json.loads(line))


@needs_suite
def test_json_test_suite() -> None:
    files = sorted(SUITE.glob("*.json"))
    assert len(files) == 318
    for file in files:
        said = both(file.read_bytes())
        if file.name.startswith("y_"):
            assert not isinstance(said, Reason) or said is Reason.DUPLICATE_KEY, file.name
        elif file.name.startswith("n_"):
            assert isinstance(said, Reason), file.name
