"""Surrogates: made-up values in the place of real ones, from ranges that are reserved for examples.

    +1 (415) 867-5309  ──►  +14158675309  ──keyed hash──►  617-555-0142

| type | range |
|---|---|
| EMAIL_ADDRESS | example.com, example.org, example.net (RFC 2606) |
| PHONE_NUMBER | 555-0100 to 555-0199 of any area (NANPA); +44 7700 900000 to 900999 (Ofcom) |
| IP_ADDRESS | 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737); 2001:db8::/32 (RFC 3849) |
| MAC_ADDRESS | 00-00-5E-00-53-00 to FF (RFC 7042) |
| CREDIT_CARD | 4000 00…, where payment providers have their test numbers, with a valid check digit |
| IBAN_CODE | GB, the bank code TEST, which no bank has, with valid check digits |

Other types have no such range, and keep their placeholders. A surrogate says nothing of its value but the country of
a phone number (GB or other) and the version of an IP address. Within a conversation different values have different
surrogates; within a dataset two values may share one, since the ranges are small; and one that another value of its conversation
has already is another there.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyarrow as pa

from transforms.canonical import canonical_json
from transforms.hashing import Keys, content_digest
from transforms.options import RedactOptions
from transforms.placeholders import Numbering, Removed, Template
from transforms.redact import Row, Slot, kept_paths, one_at_a_time, redactor_for
from transforms.schema import MESSAGES

_FIRST = (
    *("alex", "sam", "robin", "kim", "lee", "max", "jo", "chris", "pat", "noa", "ari", "dana", "eli", "jules", "kai"),
    *("lou", "mika", "nico", "remy", "sasha", "toni", "uma", "val", "wren", "yael", "zoe", "ada", "ben", "cleo", "dev"),
)
_LAST = (
    *("abbott", "baker", "carter", "dixon", "ellis", "foster", "grant", "hayes", "irwin", "jensen", "keller", "lowe"),
    *("mason", "nolan", "owens", "porter", "quinn", "rivers", "stone", "turner", "usher", "vance", "wells", "young"),
)
_AREAS = (201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225, 228, 229, 231,
          234, 239, 240, 248, 251, 252, 253, 254, 256, 260, 262, 267, 269, 270, 276, 281, 301, 302, 303, 304, 305, 307,
          308, 309, 310, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 323, 330, 331, 334, 336, 337, 339, 347, 351,
          352, 360, 361, 386, 401, 402, 404, 405, 406, 407, 408, 409, 410, 412, 413, 414, 415, 417, 419, 423, 424, 425,
          501, 502, 503, 504, 505, 507, 508, 509, 510, 512, 513, 515, 516, 517, 518, 520, 530, 540, 541, 551, 559, 561,
          601, 602, 603, 605, 606, 607, 608, 609, 610, 612, 614, 615, 616, 617, 618, 619, 620, 623, 626, 630, 631, 636,
          701, 702, 703, 704, 706, 707, 708, 712, 713, 714, 715, 716, 717, 718, 719, 720, 724, 727, 732, 734, 740, 754,
          801, 802, 803, 804, 805, 806, 808, 810, 812, 813, 814, 815, 816, 817, 818, 828, 830, 831, 832, 843, 845, 847,
          901, 903, 904, 906, 907, 908, 909, 910, 912, 913, 914, 915, 916, 917, 918, 919, 920, 925, 928, 931, 936, 937)  # fmt: skip


class _Drawn:
    """Numbers drawn from a digest of 32 bytes, one after another."""

    def __init__(self, digest: bytes) -> None:
        self._number = int.from_bytes(digest, "big")

    def below(self, bound: int) -> int:
        self._number, drawn = divmod(self._number, bound)
        return drawn


def _email(_: str, drawn: _Drawn) -> str:
    first, last = _FIRST[drawn.below(len(_FIRST))], _LAST[drawn.below(len(_LAST))]
    return f"{first}.{last}{drawn.below(10_000)}@example.{('com', 'org', 'net')[drawn.below(3)]}"


def _phone(value: str, drawn: _Drawn) -> str:
    if value.startswith("+44"):
        return f"+44 7700 900{drawn.below(1000):03d}"
    return f"+1 {_AREAS[drawn.below(len(_AREAS))]}-555-01{drawn.below(100):02d}"


def _ip(value: str, drawn: _Drawn) -> str:
    if ":" in value:
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) + drawn.below(1 << 96)))
    return f"{('192.0.2', '198.51.100', '203.0.113')[drawn.below(3)]}.{1 + drawn.below(254)}"


def _mac(_: str, drawn: _Drawn) -> str:
    return f"00:00:5E:00:53:{drawn.below(256):02X}"


def _card(_: str, drawn: _Drawn) -> str:
    digits = f"400000{drawn.below(10**9):09d}"
    total = sum(sum(divmod(2 * int(one), 10)) if place % 2 == 0 else int(one) for place, one in enumerate(digits))
    number = digits + str(-total % 10)  # ISO/IEC 7812-1
    return " ".join(number[start : start + 4] for start in range(0, 16, 4))


def _iban(_: str, drawn: _Drawn) -> str:
    account = f"TEST{drawn.below(10**14):014d}"
    number = int("".join(str(int(one, 36)) for one in f"{account}GB00"))
    value = f"GB{98 - number % 97:02d}{account}"  # ISO 13616
    return " ".join(value[start : start + 4] for start in range(0, len(value), 4))


class _Kind(NamedTuple):
    make: Callable[[str, _Drawn], str]
    reserved: re.Pattern[str]


_KINDS = {
    "EMAIL_ADDRESS": _Kind(_email, re.compile(r"(?i)[a-z0-9.]+@example\.(?:com|org|net)")),
    "PHONE_NUMBER": _Kind(_phone, re.compile(r"\+1 [2-9]\d\d-555-01\d\d|\+44 7700 900\d{3}")),
    "IP_ADDRESS": _Kind(_ip, re.compile(r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d{1,3}|2001:db8:[0-9a-f:]+")),
    "MAC_ADDRESS": _Kind(_mac, re.compile(r"00:00:5E:00:53:[0-9A-F]{2}")),
    "CREDIT_CARD": _Kind(_card, re.compile(r"4000 00\d\d \d{4} \d{4}")),
    "IBAN_CODE": _Kind(_iban, re.compile(r"GB\d\d TEST \d{4} \d{4} \d{4} \d\d")),
}


def is_surrogate(removed: Removed) -> bool:
    """Whether a value that was found is written as surrogates are, in their range.

    >>> is_surrogate(Removed("PHONE_NUMBER", "+12125550199", "+1 212-555-0199"))
    True
    >>> is_surrogate(Removed("PHONE_NUMBER", "+12128675309", "+1 212-867-5309"))
    False
    """
    kind = _KINDS.get(removed.entity)
    return kind is not None and kind.reserved.fullmatch(removed.raw) is not None


_TRIES = 64


class Surrogates(Numbering):
    """A numbering that writes surrogates where there are any, and placeholders else.

    `scope`: what the surrogates are the same within; empty for the whole dataset.
    """

    def __init__(self, taken: Iterable[tuple[str, int]], keys: Keys, scope: bytes) -> None:
        super().__init__(taken)
        self._keys, self._scope = keys, scope
        self._chosen: dict[str, str] = {}
        self._used: set[str] = set()

    def placeholder(self, removed: Removed) -> str:
        place = super().placeholder(removed)
        if place not in self._chosen:
            entity = place[1:].rpartition("_")[0]
            self._chosen[place] = self._surrogate(entity, removed.value) or place
            self._used.add(self._chosen[place])
        return self._chosen[place]

    def _surrogate(self, entity: str, value: str) -> str | None:
        """The first of the value's surrogates that no other value of the conversation has."""
        kind = _KINDS.get(entity)
        if kind is None:
            return None
        for attempt in range(_TRIES):
            seed = b"\0".join((entity.encode(), value.encode(), str(attempt).encode(), self._scope))
            made = kind.make(value, _Drawn(self._keys.surrogate(seed)))
            if made not in self._used:
                return made
        return None


# ------------------------------------------------------------------------------------------- records

_SAID = {"messages": MESSAGES, "tools": pa.string(), "metadata": pa.string()}


@one_at_a_time
def write_surrogates(
    records: pa.RecordBatch,
    redacted: pa.RecordBatch,
    options: RedactOptions,
    keys: Keys,
    keep_paths: tuple[str, ...] = (),
) -> pa.RecordBatch:
    """`redacted`, the placeholder form of `records`, with surrogates in the place of placeholders.

    A record that would not turn into its placeholder form again when redacted keeps its placeholders: so the id of
    whatever is written can be computed from it.
    """
    redactor, kept = redactor_for(options), kept_paths(keep_paths)
    known: dict[Slot, Template] = {}
    columns = {name: redacted.column(name).to_pylist() for name in (*_SAID, "n_redactions", "reasons")}
    before = {name: records.column(name).to_pylist() for name in (*_SAID, "n_redactions")}
    redactor.read_names(records.select(list(before)).to_pylist(), kept)  # read already, unless others were since
    for index, reasons in enumerate(columns["reasons"]):
        if reasons or columns["n_redactions"][index] == (before["n_redactions"][index] or 0):
            continue
        placeholders = {name: columns[name][index] for name in _SAID}
        scope = content_digest(canonical_json(placeholders)) if options.scope == "conversation" else b""
        row = {name: values[index] for name, values in before.items()}
        made = functools.partial(Surrogates, keys=keys, scope=scope)
        written, _ = redactor.redact_row(row, kept, known, made)
        again, _ = redactor.redact_row(written, kept, {})
        if all(again[name] == placeholders[name] for name in _SAID):
            for name in _SAID:
                columns[name][index] = written[name]
    arrays = [
        pa.array(columns[field.name], _SAID[field.name]) if field.name in _SAID else redacted.column(field.name)
        for field in redacted.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=redacted.schema)


class _Census(Numbering):
    """A numbering that counts the values that are no surrogates."""

    def __init__(self, taken: Iterable[tuple[str, int]], strangers: Counter[str]) -> None:
        super().__init__(taken)
        self._strangers = strangers

    def placeholder(self, removed: Removed) -> str:
        if not is_surrogate(removed):
            self._strangers[removed.entity] += 1
        return super().placeholder(removed)


@one_at_a_time
def without_surrogates(row: Row, options: RedactOptions, keep_paths: tuple[str, ...] = ()) -> tuple[Row, Counter[str]]:
    """The placeholder form of a written row, and by type the values in it that are no surrogates."""
    strangers: Counter[str] = Counter()
    redacted, _ = redactor_for(options).redact_row(
        row, kept_paths(keep_paths), {}, lambda taken: _Census(taken, strangers)
    )
    return redacted, strangers
