"""Values that are split over two turns of one speaker: `my number is 212-555`, then `1234`.

The first turn must end with the one part, and the other must stand alone on the first line of the next turn of the
same role (with at most one other turn between). Put together, with what may have stood between them, they must be
what the recognizers find: nothing is taken for a part that doesn't make a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_TAIL = re.compile(r"(?<![0-9A-Za-z.])[+(]?[0-9A-Z][0-9A-Z ().\-]{1,40}(?<=[0-9A-Z)])(?=[\s.…\-,]{0,4}$)")
_HEAD = re.compile(r"[ \t\r\n.…\-,]{0,4}([0-9A-Z(][0-9A-Z ().\-]{0,30}[0-9A-Z])(?=[ \t\r\n.!,]{0,3}(?:$|\n))")
_MAIL_TAIL = re.compile(r"(?<![\w.+\-@])[\w.+\-]{1,64}(?:@[\w.\-]{0,64})?$")
_MAIL_HEAD = re.compile(r"([@.]?[\w\-]{1,64}(?:\.[\w\-]{1,64}){0,4}(?:@[\w.\-]{1,64})?)(?=[\s.!,]{0,3}(?:$|\n))")
_DIGITS = re.compile(r"[0-9]")
_LAST = 96  # characters at the end of a turn that are looked at: the part, and words of context before it


class Parts(NamedTuple):
    """`tail[start:end]` and `head[first:last]` may be one value; `wholes` are ways it may have been written."""

    start: int
    end: int
    first: int
    last: int
    wholes: tuple[str, ...]


def same_speaker(turns: Sequence[tuple[str, int]]) -> Iterator[tuple[int, int]]:
    """Slots of contents that follow each other, of (role, slot) in order: the next turn, or the one after it.

    >>> list(same_speaker([("user", 0), ("assistant", 1), ("user", 3)]))
    [(0, 3)]
    """
    for place, (role, slot) in enumerate(turns):
        for other, later in turns[place + 1 : place + 3]:
            if other == role:
                yield slot, later
                break


def adjacent_parts(tail: str, head: str) -> Parts | None:
    """What may be the two parts of one value.

    >>> adjacent_parts("my number is 212-555", "1234")
    Parts(start=13, end=20, first=0, last=4, wholes=('212-555-1234', '212-555 1234', '212-5551234'))
    """
    tail_start = max(0, len(tail) - _LAST)
    head = head[:_LAST]
    number = _HEAD.match(head)
    if number and _DIGITS.search(number.group(1)):
        ends = [match for match in _TAIL.finditer(tail, tail_start) if len(_DIGITS.findall(match.group())) >= 2]
        if ends:
            return _parts(ends[-1].span(), number.span(1), tail, head, ("-", " ", ""))
    mail = _MAIL_HEAD.match(head) if "@" in head or "@" in tail[tail_start:] else None
    if mail and (head[0] in "@." or tail[-1:] in ("@", ".")):
        end = _MAIL_TAIL.search(tail, tail_start)
        if end and (end.group() + mail.group(1)).count("@") == 1:
            return _parts(end.span(), mail.span(1), tail, head, ("",))
    return None


def _parts(one: tuple[int, int], other: tuple[int, int], tail: str, head: str, between: Sequence[str]) -> Parts:
    wholes = tuple(tail[slice(*one)] + joint + head[slice(*other)] for joint in between)
    return Parts(*one, *other, wholes)


_STARTS = r"^[ \t\r\n.…\-,]{0,4}[0-9A-Z(][0-9A-Z ().\-]{0,31}[ \t\r\n.!,]{0,3}(?:$|\n)"  # whatever _HEAD matches
_FIRST_DIGIT = r"^[^0-9]{0,40}[0-9]"
_ENDS = r"@[^\s@]*\n?$"  # to RE2 `$` is the end, to Python also before a line end there


def may_join(messages: pa.ListArray) -> NDArray[np.bool_]:
    """bool[N]: false where no two turns of a conversation can hold the parts of one value."""
    contents = pc.fill_null(messages.flatten().field("content"), "")
    number = pc.match_substring_regex(contents, _STARTS)
    if pc.any(number).as_py():
        number = pc.and_(number, pc.match_substring_regex(contents, _FIRST_DIGIT))
    mail = pc.match_substring(contents, "@")
    if pc.any(mail).as_py():
        part = pc.or_(pc.starts_with(contents, "@"), pc.starts_with(contents, "."))
        mail = pc.and_(mail, pc.or_(part, pc.match_substring_regex(contents, _ENDS)))
    part = np.asarray(pc.or_(number, mail).to_numpy(zero_copy_only=False), bool)
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    counts = np.concatenate(([0], np.cumsum(part)))
    ends = np.cumsum(lengths)
    return np.asarray(counts[ends] > counts[ends - lengths], bool)
