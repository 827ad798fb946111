"""Where the matches of a pattern lie in ASCII texts, by RE2 and in linear time, at the least cost a match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import re2


def linear(pattern: str, flags: int = 0) -> Any:
    """The pattern with its flags of `re`, for `spans`; None where RE2 cannot have it."""
    options = re2.Options()
    options.max_mem = 64 << 20  # 64 MiB: the most RE2's caches may take
    options.log_errors = False
    options.never_capture = True  # the automaton alone finds where a match lies; groups take another run
    letters = "".join(letter for letter, flag in zip("ims", (re.I, re.M, re.S), strict=True) if flags & flag)
    try:
        return re2.compile(f"(?{letters}){pattern}".encode() if letters else pattern.encode(), options)
    except re2.error:
        return None


def matches(pattern: Any, text: bytes) -> Iterator[list[tuple[int, int]]]:
    """The spans of each match of `finditer` and of its groups, without the objects that it makes: these cost as much as the
    search."""
    search, anywhere, size = pattern._regexp.Match, re2._Anchor.UNANCHORED, len(text)
    position = 0
    while position <= size and (found := search(anywhere, text, position, size))[0][0] >= 0:
        yield found
        position = max(found[0][1], position + 1)


def spans(pattern: Any, text: bytes) -> Iterator[tuple[int, int]]:
    """The spans of each match."""
    return (found[0] for found in matches(pattern, text))
