"""Which records of a batch may hold something to redact, seen from their Arrow columns.

The gate scans each string of the messages where it lies, without a Python object of its own. JSON columns are walked
for their keys, strings and numbers, which are scanned together. A record that passes keeps its bytes: most do.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.adjacent import may_answer, may_join
from transforms.assigned import mixed, names_secret
from transforms.canonical import canonical_json
from transforms.contents import within
from transforms.gate import Gate
from transforms.schema import ROLES
from transforms.shadow import may_differ

Mask = NDArray[np.bool_]
Path = tuple[str, ...]


_AT_ONCE = 16  # texts of JSON that are scanned together


class Screened(NamedTuple):
    """What of a batch may hold something: `rows` bool[N], `json` bool[N] of tools and metadata, `beside` bool[N] of all
    but contents; and the bits of the sources that may fire on each of the `contents` of the M messages of all rows.
    `turns` bool[N]: what several turns say may be a value only together."""

    rows: Mask
    json: Mask
    beside: Mask
    contents: Sequence[int]
    turns: Mask


class Clean(NamedTuple):
    """Whether tools and metadata of a row hold nothing to redact, and what may fire on the content of each message."""

    json: bool
    contents: Sequence[int]


class Screen:
    """Looks over batches with a gate; `secrets`: a value may also be one for the key that it is kept under.

    `disguise` is the bit of the source that fires on texts that may be other than their shadows.
    """

    def __init__(self, gate: Gate, secrets: bool, disguise: int) -> None:
        self._gate, self._secrets, self._disguise = gate, secrets, disguise

    def look(self, records: pa.RecordBatch, kept: frozenset[Path]) -> Screened:
        """What of the batch may hold something.

        `kept` are paths of the metadata at which a digest stays.
        """
        marked = self._json(records.column("tools"), frozenset()) | self._json(records.column("metadata"), kept)
        messages = records.column("messages")
        flat = messages.flatten()
        role, content, reasoning, name, calls, call_id, _ = flat.flatten()
        other = pc.if_else(pc.is_in(role, pa.array(ROLES)), None, role)
        contents = self._fired(content)
        more = self._calls(calls)
        for texts in (other, reasoning, name, call_id):
            more |= self._texts(texts)
        beside = marked | within(messages, more)
        turns = may_join(messages) | may_answer(messages)
        return Screened(beside | turns | within(messages, _any(contents)), marked, beside, contents, turns)

    def _calls(self, calls: pa.ListArray) -> Mask:
        identity, kind, function = calls.flatten().flatten()
        called, arguments = function.flatten()
        inside = self._json(arguments, frozenset())
        for texts in (identity, kind, called):
            inside |= self._texts(texts)
        return within(calls, inside)

    def _texts(self, texts: pa.StringArray) -> Mask:
        return _any(self._fired(texts)) if texts.null_count < len(texts) else np.zeros(len(texts), np.bool_)

    def _fired(self, texts: pa.StringArray) -> list[int]:
        """The bits of the sources that may fire on each text."""
        fired = [0] * len(texts)
        lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        places = np.flatnonzero(lengths)
        if not len(places):
            return fired
        plain = pc.fill_null(pc.string_is_ascii(texts), True).to_numpy(zero_copy_only=False)
        _, offsets, content = texts.buffers()
        starts = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
        view = memoryview(content)
        for only_ascii in (True, False):
            some = places[plain[places] == only_ascii]
            bounds = zip(starts[some].tolist(), starts[some + 1].tolist(), strict=True)
            views = [view[start:end] for start, end in bounds]
            seen = zip(
                some.tolist(), views, self._gate.scan(views, only_ascii=only_ascii) if views else (), strict=True
            )
            for place, text, bits in seen:
                differs = not only_ascii and may_differ(str(text, "utf-8"))
                fired[place] = bits | self._disguise if differs else bits
        return fired

    def _json(self, texts: pa.StringArray, kept: frozenset[Path]) -> Mask:
        marked = np.zeros(len(texts), np.bool_)
        if texts.null_count == len(texts):
            return marked
        said: dict[int, str] = {}
        for place, text in enumerate(texts.to_pylist()):
            if text and text != "{}":
                strings = self._said(text, kept)
                if strings is None:
                    marked[place] = True
                else:
                    said[place] = strings
        marked[list(said)] = list(self._hold(list(said.values())))
        return marked

    def _said(self, text: str, kept: frozenset[Path]) -> str | None:
        """All that the JSON says, a line each; None where it is marked whatever the gate says of that."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        try:
            if canonical_json(value) != text.encode():
                return None  # what the parser did not see, as an earlier duplicate key, must not pass
            said: list[str] = []
            keys: set[str] = set()
            _say(value, "", (), kept, said, keys)
        except (ValueError, OverflowError, RecursionError):
            return None  # whoever redacts the row sees to it
        if self._secrets and any(map(names_secret, keys)):
            return None
        return "\n".join(said)

    def _hold(self, texts: Sequence[str]) -> Iterator[bool]:
        """Whether each text may hold something: some at a time, of which mostly none does."""
        for first in range(0, len(texts), _AT_ONCE):
            some = texts[first : first + _AT_ONCE]
            yield from map(self._text, some) if self._text("\n".join(some)) else [False] * len(some)

    def _text(self, text: str) -> bool:
        return bool(self._gate.scan_str(text)) or (not text.isascii() and may_differ(text))


def _any(fired: Sequence[int]) -> Mask:
    return np.fromiter(map(bool, fired), np.bool_, len(fired))


def _say(value: Any, key: str, path: Path, kept: frozenset[Path], said: list[str], keys: set[str]) -> None:
    """Adds what a JSON value says, as `redact` walks it: its names, its texts and the digits of its numbers, each behind the
    key that it is kept under, as context; and these `keys`."""
    if isinstance(value, str):
        if value and not (path in kept and is_digest(value)):
            keys.add(key)
            said.append(as_context(key) + value)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name:
                said.append(name)
            context = key_within(value, name, key) if name in _OF_SETTINGS else name  # saves most of them a call
            _say(one, context, (*path, name) if kept else path, kept, said, keys)
    elif isinstance(value, list):
        for place, one in enumerate(value):
            _say(one, key_at(value, place, key), (*path, "") if kept else path, kept, said, keys)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        keys.add(key)
        said.append(as_context(key) + str(int(value)))


_OF_SETTINGS = {"value": ("name", "key"), "Value": ("Name", "Key")}


def key_within(value: dict[str, Any], name: str, key: str) -> str:
    """The key that what `value` keeps under `name` has as context: in lists of settings the name that stands beside it.

    An object that wraps a value passes on the `key` that it is kept under itself.

    >>> key_within({"name": "DB_PASSWORD", "value": "x"}, "value", ""), key_within({"name": 1, "value": 2}, "value", "")
    ('DB_PASSWORD', 'value')
    >>> key_within({"value": 536221234}, "value", "ssn")
    'ssn'
    """
    for beside in _OF_SETTINGS.get(name, ()):
        if isinstance(value.get(beside), str):
            return str(value[beside])
    return key if key and name in _OF_SETTINGS else name


def key_at(value: list[Any], place: int, key: str) -> str:
    """The key that the item at `place` has as context: in a pair of a secret's name and itself the name, else the list's.

    >>> key_at(["Authorization", "Token a1b2"], 1, "headers"), key_at(["password", "email"], 1, "required")
    ('Authorization', 'required')
    """
    if place == 1 and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str):
        name, said = value
        return name if names_secret(name) and mixed(said) else key
    return key


_DIGEST = re.compile(r"[0-9a-f]{32}")


def is_digest(text: str) -> bool:
    """32 hexadecimal digits, as Parse writes in place of a group's value."""
    return _DIGEST.fullmatch(text) is not None


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLAIN_KEY = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)*")


@functools.lru_cache(maxsize=4096)
def as_context(key: str) -> str:
    """A JSON key as the words that stand before its value; nothing for a key that may itself be a value.

    >>> as_context("homePhone_1"), as_context("a@b.com")
    ('home Phone: ', '')
    """
    words = _CAMEL.sub(" ", re.sub(r"[_\-. ]+", " ", key)).rstrip("0123456789").strip()
    return f"{words}: " if len(words) <= 40 and _PLAIN_KEY.fullmatch(words) else ""
