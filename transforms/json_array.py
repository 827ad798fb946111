"""A JSON array cut into its elements while it streams by: `[{…}, {…}]` as rows, without parsing them.

Only what separates elements is looked at: strings, brackets, and the commas between elements. An element that is
balanced but no JSON goes on to Parse, which says why it is refused. Where the array itself is broken (a missing
element, something after its end) everything from there on is the tail.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

SPACE = b" \t\n\r"

_SPACE = re.compile(rb"[ \t\n\r]*+")
# Up to the next byte that matters: whole strings are passed over, a string that the chunk cuts is not.
_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)  # outside brackets, a comma matters
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

_QUOTE, _COMMA, _BACKSLASH = b'",\\'
_OPENING, _CLOSING, _ARRAY_OPEN, _ARRAY_CLOSE = frozenset(b"[{"), frozenset(b"]}"), *b"[]"


class Element(NamedTuple):
    """An element without the white space around it; `text` is None where it is longer than allowed."""

    offset: int
    length: int
    text: bytes | None


class _State(Enum):
    BEFORE = auto()  # the opening bracket
    FIRST = auto()  # an element, or the end
    NEXT = auto()  # an element
    ELEMENT = auto()
    AFTER = auto()  # the end of the array: white space only
    BROKEN = auto()


class ArraySplitter:
    """Takes the bytes of a file in chunks and gives the elements that each completes.

    It holds at most `max_bytes` of an element. `offset` is where the first chunk starts in the file.
    """

    def __init__(self, max_bytes: int, offset: int = 0) -> None:
        self._max_bytes = max_bytes
        self._state = _State.BEFORE
        self._base = offset  # of the chunk
        self._tail = offset  # where the array broke
        # The element under way: where it starts, where its last byte that is no space ends, its first bytes.
        self._start = self._solid = self._held = 0
        self._parts: list[bytes] = []
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def seen(self) -> int:
        """Offset of the end of what was fed."""
        return self._base

    def feed(self, chunk: bytes) -> list[Element]:
        """The elements that end in this chunk."""
        elements: list[Element] = []
        place, end = 0, len(chunk)
        while place < end and self._state is not _State.BROKEN:
            if self._state is _State.ELEMENT:
                start, place = place, self._scan(chunk, place)
                self._hold(chunk[start:place], self._base + start)
                if place < end:  # at what ends the element: a comma, the array's end, or a brace that closes nothing
                    if chunk[place] in b",]":
                        elements.append(self._close())
                        self._state = _State.NEXT if chunk[place] == _COMMA else _State.AFTER
                        place += 1
                    else:
                        self._break(self._start)
                continue
            match = _SPACE.match(chunk, place)
            assert match is not None
            place = match.end()
            if place < end:
                place = self._between(chunk[place], place)
        self._base += end
        return elements

    def finish(self) -> int | None:
        """After the last chunk: where the tail starts that is in no element, or None of a whole array."""
        if self._state is _State.AFTER:
            return None
        if self._state is _State.BROKEN:
            return self._tail
        return self._start if self._state is _State.ELEMENT else self._base

    def _break(self, offset: int) -> None:
        self._state, self._tail, self._parts = _State.BROKEN, offset, []

    def _between(self, byte: int, place: int) -> int:
        """Takes one byte that is no space, between elements; the place after it, or of the element that starts."""
        if self._state is _State.BEFORE and byte == _ARRAY_OPEN:
            self._state = _State.FIRST
            return place + 1
        if self._state is _State.FIRST and byte == _ARRAY_CLOSE:
            self._state = _State.AFTER
            return place + 1
        if self._state in (_State.FIRST, _State.NEXT) and byte not in b",]}":
            self._state = _State.ELEMENT
            self._start = self._solid = self._base + place
            self._held = 0
            return place
        self._break(self._base + place)
        return place

    def _scan(self, chunk: bytes, place: int) -> int:
        """The place in `chunk` of the byte that ends the element, or the chunk's end."""
        end = len(chunk)
        depth = self._depth
        while place < end:
            if self._in_string:
                place = self._string(chunk, place)
                continue
            match = (_INSIDE if depth else _BETWEEN).match(chunk, place)
            assert match is not None
            place = match.end()
            if place == end:
                break
            byte = chunk[place]
            if byte in _OPENING:
                depth += 1
            elif byte in _CLOSING and depth:
                depth -= 1
            elif byte == _QUOTE:
                self._in_string = True
            else:
                break
            place += 1
        self._depth = depth
        return place

    def _string(self, chunk: bytes, place: int) -> int:
        """The place after the end of the string that is under way, or the chunk's end."""
        if self._escaped:
            self._escaped = False
            place += 1
        match = _STRING.match(chunk, place)
        assert match is not None
        place = match.end()
        if place == len(chunk):
            return place
        if chunk[place] == _QUOTE:
            self._in_string = False
        else:  # a backslash that is the chunk's last byte
            self._escaped = True
        return place + 1

    def _hold(self, piece: bytes, offset: int) -> None:
        solid = len(piece.rstrip(SPACE))
        if solid:
            self._solid = offset + solid
        room = self._max_bytes - self._held
        if room > 0:
            self._parts.append(piece[:room])
            self._held += len(self._parts[-1])
        elif self._solid - self._start > self._max_bytes:
            self._parts = []

    def _close(self) -> Element:
        length = self._solid - self._start
        text = b"".join(self._parts)[:length] if length <= self._max_bytes else None
        self._parts = []
        return Element(self._start, length, text)
