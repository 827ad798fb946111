r"""A text as it would be if nobody had disguised it, with the way back: what patterns read beside the text itself.

    text     ｊohn\u200b＠example．com   ２１２-５５５-０１９９   jane%40example.com   john (at) example dot com
    shadow   john@example.com          212-555-0199         jane@example.com     john@example.com

Undone are: percent, JSON and HTML escapes of ASCII and of line ends; full-width and other compatibility forms (Unicode's
NFKC, one character at a time), digits of other scripts, characters without width, dashes and spaces that only look like
those of ASCII, Cyrillic and Greek letters that pass for Latin ones within a Latin word; `(at)` and `dot` in addresses;
underscores beside cards and US social security numbers.
`shadow_of` says None for a text that holds none of these, which a search for what each must hold finds out cheaply.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import re2

from transforms.gate import Source

# What stands from start to end becomes this: character by character where it is as long, else all of it.
Edit = tuple[int, int, str]
Span = tuple[int, int]


class Shadow:
    """`text`, and where each of its characters starts and ends in the text that it is the shadow of.

    `edits` made the one of the other, one list after the other.
    """

    def __init__(self, text: str, length: int, edits: Sequence[Sequence[Edit]]) -> None:
        self.text = text
        self._length, self._edits = length, edits

    @functools.cached_property
    def places(self) -> tuple[list[int], list[int]]:
        """Where the characters start, and where they end: many texts are told to hold nothing before this is asked."""
        starts, ends = list(range(self._length)), list(range(1, self._length + 1))
        for edits in self._edits:
            starts, ends = _moved(starts, ends, edits)
        return starts, ends

    def source(self, start: int, end: int) -> tuple[int, int]:
        """The span of the disguised text that `text[start:end]` stands for; `start` is less than `end`."""
        starts, ends = self.places
        return starts[start], ends[end - 1]


def shadow_of(text: str) -> Shadow | None:
    """The shadow of `text`; None where it would be the text itself.

    >>> shadow_of("write to john (at) example dot com").text
    'write to john@example.com'
    >>> shadow_of("caf\u00e9 at 10")
    """
    if not text.isascii() and not may_differ(text):  # of ASCII the edits below change what `may_differ` looks for
        return None
    plain, made = text, []
    for find in _EDITS:
        if edits := list(find(plain)):
            made.append(edits)
            plain = _replaced(plain, edits)
    return None if plain == text else Shadow(plain, len(text), made)


@functools.lru_cache(maxsize=4096)
def undisguised(text: str) -> str:
    """The text of the shadow, or the text itself where it has none."""
    if may_differ(text):
        for edits in _EDITS:
            text = _replaced(text, edits(text))
    return text


def _replaced(text: str, edits: Iterable[Edit]) -> str:
    parts: list[str] = []
    position = 0
    for start, end, replacement in edits:
        parts += (text[position:start], replacement)
        position = end
    return "".join(parts) + text[position:] if parts else text


def _moved(starts: list[int], ends: list[int], edits: Iterable[Edit]) -> tuple[list[int], list[int]]:
    """Where characters stand, after `edits`."""
    new_starts: list[int] = []
    new_ends: list[int] = []
    position = 0
    for start, end, replacement in edits:
        if len(replacement) == end - start:
            new_starts += starts[position:end]
            new_ends += ends[position:end]
        else:
            new_starts += starts[position:start] + [starts[start]] * len(replacement)
            new_ends += ends[position:start] + [ends[end - 1]] * len(replacement)
        position = end
    return new_starts + starts[position:], new_ends + ends[position:]


# ------------------------------------------------------------------------------------------- is there anything to do

_PERCENT = r"%(?:[2-7][0-9A-Fa-f]|0[9AaDd])"
_ESCAPED_CODE = "(?:(?:u00|x)(?:[2-7][0-9A-Fa-f]|0[9AaDd])|[nrt])"
_NAMED = {"quot": '"', "apos": "'", "lt": "<", "gt": ">", "amp": "&", "nbsp": " ", "commat": "@", "period": ".", "colon": ":",
          "equals": "=", "lowbar": "_", "plus": "+", "Tab": "\t", "NewLine": "\n"}  # fmt: skip
_HEXADECIMAL = "[xX]0{0,4}(?:[2-7][0-9A-Fa-f]|[9AaDd]|[aA]0)"
_DECIMAL = "0{0,4}(?:9|1[03]|3[2-9]|[4-9][0-9]|1[01][0-9]|12[0-6]|160)"
_ENTITY = rf"&(?:amp;){{0,3}}(?:#(?:{_HEXADECIMAL}|{_DECIMAL})|{'|'.join(_NAMED)});"  # `&amp;quot;` too: escaped twice
_ESCAPE = rf"{_PERCENT}|\\{_ESCAPED_CODE}|{_ENTITY}"
# Of the values in names of files those that are neither versions nor numbers of variables.
_IN_NAMES = "(?:[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{4}(?:[0-9]{12}|(?:[ -][0-9]{4}){3}))"
_AT = r"\s{0,2}[(\[{<]\s?(?:at|@)\s?[)\]}>]\s{0,2}"
_DOT = r"\s{0,2}[(\[{<]\s?(?:dot|\.)\s?[)\]}>]\s{0,2}"


class _Linear:
    """A pattern for RE2, which reads ASCII texts as bytes: turning its places into a string's costs as much again."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._text, self._ascii = re2.compile(pattern), re2.compile(pattern.encode())

    def search(self, text: str) -> Any:
        return self._ascii.search(text.encode()) if text.isascii() else self._text.search(text)

    def finditer(self, text: str) -> Iterator[Any]:
        """Matches, of which only the spans may be asked."""
        found: Iterator[Any] = self._ascii.finditer(text.encode()) if text.isascii() else self._text.finditer(text)
        return found


_ASCII_MARK = _Linear(rf"{_ESCAPE}|_{_IN_NAMES}|{_IN_NAMES}_|(?i:{_AT}| dot [a-z])")


def shadow_sources() -> list[Source]:
    """One: what a gate needs to know of ASCII texts that have a shadow."""
    return [Source(((_ASCII_MARK.pattern, 0),))]


def may_differ(text: str) -> bool:
    """False where the shadow would show nothing that the text does not, in less time than making it takes."""
    if _ASCII_MARK.search(text) is not None:
        return True
    return not text.isascii() and _disguises().search(text) is not None


@functools.cache
def _disguises() -> re.Pattern[str]:
    """What a disguised value holds, and texts in other scripts rarely do.

    Digits and letters that pass for others, anywhere; whatever else passes for ASCII, or for nothing, between ASCII
    characters, or where a line of dashes begins. That full stops and commas of Chinese pass for others between
    Chinese characters hides nothing.
    """
    digits = _class(code for code in range(128, 0x20000) if unicodedata.category(chr(code)) == "Nd")
    passing = _class(code for code in range(128, 0x10000) if _passes(chr(code)))
    raised = "\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089"
    hidden = f"[{_HIDDEN}]"
    return re.compile(
        f"[{digits}\uff10-\uff19\uff20-\uff3a\uff41-\uff5a\u2460-\u24ff\U0001d400-\U0001d7ff]"
        f"|[!-~][{passing}]+[ -~]|[{passing}]--|[{raised}][0-9.]"
        f"|[!-~]{hidden}+[ -~]| {hidden}+[!-~]"
        f"|[A-Za-z@.][{_FOREIGN}]|[{_FOREIGN}][A-Za-z@]"
    )


def _passes(character: str) -> bool:
    """It passes for one of ASCII, or for nothing."""
    plain = _plain.__wrapped__(character)
    return plain != character and plain.isascii() and len(plain) < 2


def _class(codes: Iterable[int]) -> str:
    """Code points as the inside of a character class."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


_HIDDEN = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
_DASHES = "\u2010-\u2015\u2212\ufe58\ufe63"
_SPACES = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_LATIN = dict(zip("асеорхуіјѕһԁԛԝАВСЕНІЈКМОРЅТХУαορνικΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aceopxyijshdqwABCEHIJKMOPSTXYaopvikABEZHIKMNOPTYX", strict=True))  # fmt: skip
_FOREIGN = "".join(sorted(_LATIN))


# ------------------------------------------------------------------------------------------- the edits

_BACKSLASH = rf"(?<!\\)\\++{_ESCAPED_CODE}"  # with all that stand before it, in linear time
_ESCAPED = re.compile(f"{_PERCENT}|{_BACKSLASH}|{_ENTITY}")
_MISREAD = re.compile(f"%0[9AaDd]|{_BACKSLASH}|{_ENTITY}")
_LINE = {"n": "\n", "r": "\r", "t": "\t"}


def _escapes(text: str) -> Iterator[Edit]:
    for match in _ESCAPED.finditer(text):
        if (plain := _unescaped(match.group().lstrip("\\"))) != "\x7f":
            yield (*match.span(), plain)


@functools.lru_cache(maxsize=4096)
def _unescaped(escape: str) -> str:
    r"""The character that an escape stands for, given without its backslashes.

    >>> [_unescaped(one) for one in ("%40", "&#64;", "&#x40;", "u0040", "&commat;", "n", "&amp;#10;")]
    ['@', '@', '@', '@', '@', '\n', '\n']
    """
    if escape[0] != "&":
        return _LINE.get(escape[-1]) or chr(int(escape[-2:], 16))
    name = escape[:-1].rpartition(";")[2].lstrip("&")
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    return " " if code == 160 else chr(code)  # no-break


def escapes(text: str) -> list[Span]:
    r"""Where `text` holds backslash escapes and entities, which patterns may read as parts of what adjoins.

    >>> escapes(r"one\ntwo&#64;three%40four")
    [(3, 5), (8, 13)]
    """
    return [match.span() for match in _MISREAD.finditer(text)]


_OTHERS = re.compile(r"[^\x00-\x7f]+")
_IS_HIDDEN, _IS_DASH, _IS_SPACE = (re.compile(f"[{one}]") for one in (_HIDDEN, _DASHES, _SPACES))


def _characters(text: str) -> Iterator[Edit]:
    if text.isascii():
        return
    for match in _OTHERS.finditer(text):
        others = match.group()
        plain = list(map(_plain, others))
        said = "".join(plain)
        if len(said) == len(others) and "" not in plain:  # one for each
            yield (*match.span(), said)
            continue
        for at, (other, one) in enumerate(zip(others, plain, strict=True), match.start()):
            if one != other:
                yield at, at + 1, one


@functools.lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    """What a character passes for.

    >>> _plain("\uff14"), _plain("\u0664"), _plain("\u2011"), _plain("\u200b"), _plain("\u00e9") == "\u00e9"
    ('4', '4', '-', '', True)
    """
    if _IS_HIDDEN.match(character):
        return ""
    if _IS_DASH.match(character):
        return "-"
    if _IS_SPACE.match(character):
        return " "
    digit = unicodedata.decimal(character, None)
    return unicodedata.normalize("NFKC", character) if digit is None else str(digit)


_MIXED = re.compile(rf"[A-Za-z0-9@._%+\-{_FOREIGN}]{{2,}}")
_IS_LATIN = re.compile("[A-Za-z@]")


def _look_alikes(text: str) -> Iterator[Edit]:
    """Letters of other scripts in words that hold Latin ones and nothing that couldn't be Latin."""
    if text.isascii():
        return
    for word in _MIXED.finditer(text):
        if not word.group().isascii() and _IS_LATIN.search(word.group()):
            for offset, letter in enumerate(word.group(), word.start()):
                if letter in _LATIN:
                    yield offset, offset + 1, _LATIN[letter]


_JOINED = re.compile(rf"(?<![A-Za-z0-9]){_IN_NAMES}(?![A-Za-z0-9])")


def _joins(text: str) -> Iterator[Edit]:
    """Underscores beside values."""
    reached = 0
    for match in _JOINED.finditer(text) if "_" in text else ():
        for place in (match.start() - 1, match.end()):
            if place >= reached and text[place : place + 1] == "_":
                yield place, place + 1, " "
                reached = place + 1


# A spelled address: brackets around `at`, or `at` and `dot` as words. RE2: linear on any text.
_LABEL = "[A-Za-z0-9_+\\-]{1,64}"
_SOME_DOT = rf"(?:{_DOT}| dot |\.)"
_BRACKETED = _Linear(
    rf"(?i)({_LABEL}(?:{_SOME_DOT}{_LABEL}){{0,3}})({_AT})((?:{_LABEL}{_SOME_DOT}){{1,4}}[a-z]{{2,24}})"
)
_WORDS = _Linear(
    rf"(?i)({_LABEL}(?:{_SOME_DOT}{_LABEL}){{0,3}})( at )((?:{_LABEL}(?: dot |{_DOT})){{1,4}}[a-z]{{2,24}})"
)
_A_DOT = re.compile(rf"(?i){_DOT}| dot ")
# Before `at`, no name of anybody's: "look at example dot com".
_NO_NAME = re.compile(
    "(?i)(?:look|is|are|was|were|be|available|me|us|it|page|site|website|found|here|there|now|live|hosted|read|see|"
    "visit|go|stay|work|works|working|online|out|up|back|and|or|in|on|store|shop|app|forum)$"
)


def _spelled(text: str) -> Iterator[Edit]:
    position = 0
    for match in sorted(_spelled_matches(text), key=lambda one: one.span()):
        if match.start() < position:
            continue
        yield from _dots(text, *match.span(1))
        yield (*match.span(2), "@")
        yield from _dots(text, *match.span(3))
        position = match.end()


_BRACKET = re.compile(r"(?i)[(\[{<]\s?(?:at|@)")


def _spelled_matches(text: str) -> Iterator[Any]:
    if _BRACKET.search(text) is not None:
        yield from _BRACKETED.finditer(text)
    for match in _WORDS.finditer(text) if " at " in text.lower() else ():
        if not _NO_NAME.match(text, *match.span(1)):
            yield match


def _dots(text: str, start: int, end: int) -> Iterator[Edit]:
    said = text[start:end].lower()
    for match in _A_DOT.finditer(text, start, end) if "dot" in said or "." in said else ():
        yield (*match.span(), ".")


_EDITS = (_escapes, _characters, _look_alikes, _joins, _spelled)
