r"""Passwords told by the heading of their column: in CSV and other tables of text, in Markdown, in rows that SQL inserts.

user,password       | user | password |       INSERT INTO users (name, password)
jo,hUnter2!x9       |------|----------|       VALUES ('jo', 'hUnter2!x9')
                    | jo   | hUnter2! |

A table of text begins with its heading and goes on as long as its lines have as many cells. A cell must look like a
secret, more than what is linked loosely (see `assigned`); what SQL inserts may be any word in quotes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from transforms.assigned import SecretPattern, is_loose_secret, is_quoted_secret, scrambled
from transforms.placeholders import Finding

Span = tuple[int, int]
_NAME = (
    r"(?:[\w .\-]{0,24}(?:password|passwd|passphrase|passcode|passwort)|(?:[\w .\-]{0,24}[ _.\-])?(?:pwd|senha)"
    r"|(?:(?:user|login|db|admin|root)[ _]?)?pass)"
)
_OF_PASSWORD = re.compile(f"(?i:{_NAME})")
_WRITTEN = r"[ \"'`*]{0,4}"
HEADING = SecretPattern(
    rf"(?i)(?:(?:^|[\n,;|\t(]){_WRITTEN}{_NAME}{_WRITTEN}[,;|\t]|[,;|\t]{_WRITTEN}{_NAME}{_WRITTEN}(?:[\r\n)]|$))"
)
_INSERTED = re.compile(r"(?i)\binsert\s{1,9}(?:\w{1,9}\s{1,9})?into\s{1,9}[^()]{1,100}\Z")
_VALUES = re.compile(r"(?i)\s{0,40}values\s{0,40}(?=\()")
_STRING = r"'(?:[^'\\]|''|\\.)*+'|\"(?:[^\"\\]|\\.)*+\""
_ROW = re.compile(rf"\((?:{_STRING}|\([^()'\"]*+\)|[^()'\"])*+\)\s{{0,40}},?\s{{0,40}}")
_FIELD = re.compile(rf"\s*+(?P<string>{_STRING})?(?:\([^()'\"]*+\)|[^,()'\"])*+")
_RULE = re.compile(r"[\s|:\-]+")  # between the heading of a table in Markdown and its rows
_CODE = re.compile(r"^[A-Za-z_.]+[=(]|[({\[]$")  # `statement=None`, `call(`
_OF_TYPE = re.compile(
    r"(?i)(?:str|string|text|varchar|char|int|integer|number|bool|boolean|required|optional|yes|no)\b.*"
)
_SHORT_NAME = re.compile(r"[\w.\-]{1,40}(?: [\w.\-]{1,40}){0,2}")
_VERSION = re.compile(r"[0-9]\.[0-9]")
_LEAST = 8  # characters of a password without signs
_AROUND = " \t\r\"'`*"
_LONGEST = 2_000  # characters of a line, or of the names of columns


def find_columns(text: str) -> Iterator[Finding]:
    """The passwords in the columns of all tables."""
    reached = 0
    for (start, end), *_ in HEADING.spans(text):
        if start < reached:
            continue
        opened = text.rfind("(", max(0, start - _LONGEST), end)
        inserted = opened >= 0 and _INSERTED.search(text, max(0, opened - 128), opened) is not None
        values, reached = _inserted(text, opened) if inserted else _below(text, start + 1)
        for first, last in values:
            value = text[first:last]
            if is_quoted_secret(value) if inserted else is_loose_secret(value) and _is_secret(value):
                yield Finding(first, last, "PASSWORD", 0.8, True)


def _inserted(text: str, opened: int) -> tuple[list[Span], int]:
    """Where the values are in the rows that follow the names of the columns, which a bracket opens; and where these end."""
    closed = text.find(")", opened, opened + _LONGEST)
    values = _VALUES.match(text, closed + 1) if closed >= 0 else None
    if values is None:
        return [], opened
    columns = [_names_password(name) for name in text[opened + 1 : closed].split(",")]
    found, reached = [], values.end()
    while (row := _ROW.match(text, reached)) is not None:
        reached, place = row.end(), row.start() + 1
        for wanted in columns:
            field = _FIELD.match(text, place, reached)
            if field is None:
                break
            if wanted and field["string"]:
                found.append((field.start("string") + 1, field.end("string") - 1))
            place = field.end() + 1
    return found, reached


def _below(text: str, within: int) -> tuple[list[Span], int]:
    """Where the cells are below the names in the heading that lies on the line of a place; and where the table ends."""
    start, end = _line(text, within)
    heading = text[start:end]
    mark = next((one for one in "|\t;," if one in heading), None)
    if mark is None:
        return [], end
    cells = _cells(mark)
    names = [heading[slice(*span)].strip(_AROUND) for span in _spans(cells, heading)]
    before = text[_line(text, start - 1)[0] : start - 1] if start else ""
    if before and len(_spans(cells, before)) == len(names):
        return [], end  # a row of a table
    if mark in ",;" and (heading[0].isspace() or not all(map(_SHORT_NAME.fullmatch, names))):
        return [], end  # arguments on lines of their own, or a sentence
    if any(map(_OF_TYPE.fullmatch, names)):
        return [], end  # a table of parameters
    columns = list(map(_names_password, names))
    found = []
    while end < len(text):
        start, last = _line(text, end + 1)
        line = text[start:last]
        spans = _spans(cells, line)
        if len(spans) != len(columns):
            break
        end = last
        for wanted, (first, beyond) in zip(columns, spans, strict=True) if not _RULE.fullmatch(line) else ():
            cell = line[first:beyond]
            value = cell.strip(_AROUND)
            if wanted and value and not _CODE.search(value):
                first += len(cell) - len(cell.lstrip(_AROUND))
                found.append((start + first, start + first + len(value)))
    return found, end


def _is_secret(value: str) -> bool:
    """No name, version or length, which other tables hold.

    >>> [_is_secret(one) for one in ("u2NZW8@A", "XHwl1tfU", "remember_me2", "OAuth2.0")]
    [True, True, False, False]
    """
    if _VERSION.search(value):
        return False
    both = any(map(str.isupper, value)) and any(map(str.islower, value))
    return scrambled(value) or (both and len(value) >= _LEAST)


def _names_password(name: str) -> bool:
    """What has the name is a password.

    >>> [_names_password(one) for one in ("user_password", "`pass`", "Ski Pass", "lowpass")]
    [True, True, False, False]
    """
    return _OF_PASSWORD.fullmatch(name.strip(_AROUND)) is not None


def _line(text: str, place: int) -> tuple[int, int]:
    """Where the line of a place starts and ends, as far as is looked."""
    last = min(len(text), place + _LONGEST)
    end = text.find("\n", place, last)
    return max(text.rfind("\n", max(0, place - _LONGEST), place) + 1, place - _LONGEST), end if end >= 0 else last


@functools.cache
def _cells(mark: str) -> re.Pattern[str]:
    return re.compile(rf"[ ]*+\"(?:[^\"]|\"\")*+\"[ \r]*+(?=[{mark}]|\Z)|[^{mark}]*+")


def _spans(cells: re.Pattern[str], line: str) -> list[tuple[int, int]]:
    """Where the cells of a line are."""
    spans, place = [], 0
    while place <= len(line):
        cell = cells.match(line, place)
        assert cell is not None
        spans.append(cell.span())
        place = cell.end() + 1
    return spans
