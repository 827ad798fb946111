"""Numbers that have the shape of personal data and are none, as what stands around them tells."""

from __future__ import annotations

import re

_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9A-Za-z])")
_UUID_LENGTH = 36
_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0?[1-9]|1[0-2])", "(?:0?[1-9]|[12][0-9]|3[01])"
_DATED = re.compile(
    rf"(?<![^ (])(?:{_DAY}([./-]){_MONTH}\1{_YEAR}|{_MONTH}([./-]){_DAY}\2{_YEAR}|{_YEAR}([./-]){_MONTH}\3{_DAY})(?![0-9])"
)

_SECONDS = re.compile(r"[0-9]:[0-5][0-9][.,][0-9]")


def is_within_uuid(text: str, start: int, end: int) -> bool:
    """Some of what stands there is part of a UUID.

    >>> is_within_uuid("6826d030-8477-4936-91ce-0123456789ab", 5, 18)
    True
    """
    first, last = max(0, start - _UUID_LENGTH), end + _UUID_LENGTH
    if text.find("-", first, last) < 0:
        return False
    return any(one.start() < end and start < one.end() for one in _UUID.finditer(text, first, last))


def is_dated(value: str, before: str) -> bool:
    """A number with a date in it, before or after an hour, or the seconds of an hour; `before`: what it follows.

    >>> is_dated("27.03.2003 14", ""), is_dated("00.954548113", "55:"), is_dated("212-555-0199", "at: ")
    (True, True, False)
    """
    return _DATED.search(value) is not None or (before[-1:] == ":" and _SECONDS.match(before[-2:] + value) is not None)
