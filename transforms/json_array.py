"""A JSON array cut into its elements while it streams by: `[{…}, {…}]` as rows, without parsing them.

Only what separates elements is looked at: strings, brackets, and the commas between elements. An element that is
balanced but no JSON goes on to Parse, which says why it is refused. Where the array itself is broken (a missing
element, something after its end) everything from there on is the tail.

    chunk      , {"a": "x\\", y"}, [1, 2] ]
    blanked    , {"a": "x__, y"}, [1, 2] ]      what a backslash escapes is neither a quote nor a backslash
    in string     ▔▔   ▔▔▔▔▔▔▔                  between an odd quote and the next
    depth      0 1               0 1    0 -1
    cuts       ▲               ▲        ▲       commas at depth 0, and what closes the array
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import numpy as np

SPACE = b" \t\n\r"

_COMMA_BYTE, _OPENING_BYTE = b",["

_COMMA, _QUOTE, _OPEN, _CLOSE = 1, 2, 3, 4
_CODES = bytes(
    {",": _COMMA, '"': _QUOTE, "[": _OPEN, "{": _OPEN, "]": _CLOSE, "}": _CLOSE}.get(chr(byte), 0)
    for byte in range(256)
)
_STEPS = np.array([0, 0, 0, 1, -1], np.int64)  # in depth, by code


class Elements(NamedTuple):
    """Elements without the white space around them; a text is None where it is longer than allowed."""

    offsets: list[int]
    lengths: list[int]
    texts: list[bytes | None]

    def add(self, offset: int, length: int, text: bytes | None) -> None:
        self.offsets.append(offset)
        self.lengths.append(length)
        self.texts.append(text)


class _State(Enum):
    BEFORE = auto()  # the opening bracket
    FIRST = auto()  # in the first element or before it, or before the end
    NEXT = auto()  # in an element or before it
    AFTER = auto()  # the end of the array: white space only
    BROKEN = auto()


class ArraySplitter:
    """Takes the bytes of a file in chunks and gives the elements that each completes.

    It holds at most `max_bytes` of an element and a chunk. `offset` is where the first chunk starts in the file.
    """

    def __init__(self, max_bytes: int, offset: int = 0) -> None:
        self._max_bytes = max_bytes
        self._state = _State.BEFORE
        self._base = offset  # of the chunk
        self._tail = offset  # where the array broke
        # The element under way: where it starts (None before its first byte that is no space), where its last such
        # byte ends, its first bytes.
        self._start: int | None = None
        self._solid = self._held = 0
        self._parts: list[bytes] = []
        # What the next chunk begins in.
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def seen(self) -> int:
        """Offset of the end of what was fed."""
        return self._base

    def feed(self, chunk: bytes) -> Elements:
        """The elements that end in this chunk."""
        elements = Elements([], [], [])
        place = self._open(chunk) if self._state is _State.BEFORE else 0
        if self._state in (_State.FIRST, _State.NEXT):
            for cut in self._cuts(chunk, place):
                if self._start is None and chunk[cut] == _COMMA_BYTE and (text := chunk[place:cut].lstrip(SPACE)):
                    # What most elements are, whole in a chunk: the same as below, in fewer steps.
                    offset = self._base + cut - len(text)
                    text = text.rstrip(SPACE)
                    length = len(text)
                    elements.add(offset, length, text if length <= self._max_bytes else None)
                    self._state = _State.NEXT
                    place = cut + 1
                    continue
                self._hold(chunk[place:cut], self._base + place)
                place = cut + 1
                if not self._separate(chunk[cut:place], self._base + cut, elements):
                    break
            if self._state in (_State.FIRST, _State.NEXT):
                self._hold(chunk[place:], self._base + place)
        if self._state is _State.AFTER and (rest := chunk[place:].lstrip(SPACE)):
            self._break(self._base + len(chunk) - len(rest))
        self._base += len(chunk)
        return elements

    def finish(self) -> int | None:
        """After the last chunk: where the tail starts that is in no element, or None of a whole array."""
        if self._state is _State.AFTER:
            return None
        if self._state is _State.BROKEN:
            return self._tail
        return self._base if self._start is None else self._start

    def _break(self, offset: int) -> None:
        self._state, self._tail, self._parts = _State.BROKEN, offset, []

    def _open(self, chunk: bytes) -> int:
        """The place after the opening bracket, or the chunk's end where it is still to come."""
        place = len(chunk) - len(chunk.lstrip(SPACE))
        if place < len(chunk):
            if chunk[place] == _OPENING_BYTE:
                self._state = _State.FIRST
                return place + 1
            self._break(self._base + place)
        return place

    def _cuts(self, chunk: bytes, place: int) -> list[int]:
        """Where elements end in `chunk` from `place` on; the last may be what closes the array."""
        text = self._blank_escapes(chunk[place:])
        codes = np.frombuffer(text.translate(_CODES), np.uint8)
        marks = np.flatnonzero(codes != 0)
        if not len(marks):
            return []
        codes = codes[marks]
        quotes = codes == _QUOTE
        in_string = (np.cumsum(quotes, dtype=np.uint8) & 1) != self._in_string  # a quote's own side does not matter
        outside = np.flatnonzero(~(in_string | quotes))
        self._in_string = bool(in_string[-1])
        marks, codes = marks[outside], codes[outside]
        depth = np.cumsum(_STEPS[codes]) + self._depth
        if len(depth):
            self._depth = int(depth[-1])
        cuts = np.flatnonzero(((codes == _COMMA) & (depth == 0)) | (depth < 0))
        beyond = np.flatnonzero(depth[cuts] < 0)[:1]  # what follows the end is not looked at
        if len(beyond):
            cuts = cuts[: beyond[0] + 1]
        found: list[int] = (marks[cuts] + place).tolist()
        return found

    def _blank_escapes(self, text: bytes) -> bytes:
        """`text` with `_` for every escaped quote and backslash and the backslash before it.

        Other bytes are left as they are: in a string they don't matter, and outside one nothing is escaped in JSON.
        """
        if self._escaped and text:
            if text[:1] in b'"\\':
                text = b"_" + text[1:]
            self._escaped = False
        if b"\\" in text:
            text = text.replace(b"\\\\", b"__")  # from the left, so of an odd run the last remains
            self._escaped = text.endswith(b"\\")
            text = text.replace(b'\\"', b"__")
        return text

    def _separate(self, byte: bytes, offset: int, elements: Elements) -> bool:
        """Ends the element before a separator; False where the array ends too, or breaks."""
        if self._start is None:
            if byte == b"]" and self._state is _State.FIRST:
                self._state = _State.AFTER
            else:
                self._break(offset)
        elif byte == b"}":
            self._break(self._start)
        else:
            length = self._solid - self._start
            text = b"".join(self._parts)[:length] if length <= self._max_bytes else None
            elements.add(self._start, length, text)
            self._start, self._held, self._parts = None, 0, []
            self._state = _State.NEXT if byte == b"," else _State.AFTER
        return self._state is _State.NEXT

    def _hold(self, piece: bytes, offset: int) -> None:
        if self._start is None:
            solid = piece.lstrip(SPACE)
            if not solid:
                return
            offset += len(piece) - len(solid)
            piece = solid
            self._start = offset
        solid = piece.rstrip(SPACE)
        if solid:
            self._solid = offset + len(solid)
        if self._solid - self._start > self._max_bytes:
            self._parts = []
        elif room := self._max_bytes - self._held:
            self._parts.append(piece[:room])
            self._held += len(self._parts[-1])
