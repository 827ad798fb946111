"""Labelled chat: turns with values planted in phrasings, and turns that only look as if they held one.

Everything is drawn from a seeded generator. `evasions` are values written so that a pattern misses them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple
from urllib.parse import quote

from benchmarks.quality import phrasings, phrasings_held_out
from benchmarks.quality.values import ABROAD, MAKERS, PREFIXED, Maker

Span = tuple[int, int, str]  # start, end, entity type
SETS = {"development": phrasings, "held-out": phrasings_held_out}


class Document(NamedTuple):
    """A turn, what is planted in it, and the country that the redactor is set to (None: the default ones)."""

    text: str
    spans: tuple[Span, ...]
    country: str | None = None
    evasion: str = ""


def make_documents(which: str, each: int, seed: int = 0) -> list[Document]:
    """`each` documents for each entity type, twice as many that hold nothing for each decoy, and the evasions."""
    source = SETS[which]
    chooser = Random(f"{which} {seed}")
    documents = []
    for entity, make in MAKERS.items():
        group = "ABROAD" if entity in ABROAD else "TOKEN" if entity in PREFIXED else entity
        country = entity[:2] if entity in ABROAD else None
        documents += [_document(chooser, which, source.PHRASINGS[group], entity, make, country) for _ in range(each)]
    for decoy in source.DECOYS:
        documents += [Document(_surround(chooser, which, _filled(chooser, decoy))[0], ()) for _ in range(2 * each // 5)]
    for name, (entity, disguise) in EVASIONS.items():
        for _ in range(each // 2):
            made = _document(chooser, which, source.PHRASINGS[entity], entity, disguise, None)
            documents.append(made._replace(evasion=name))
    return documents


def _document(
    chooser: Random, which: str, templates: tuple[str, ...], entity: str, make: Maker, country: str | None
) -> Document:
    value = make(chooser)
    before, _, after = chooser.choice(templates).partition("§")
    if entity == "IP_ADDRESS" and ":" in value and (before.endswith("//") or after.startswith(":")):
        before, after = before + "[", "]" + after  # RFC 3986, 3.2.2
    text, offset = _surround(chooser, which, before + value + after)
    start = offset + len(before)
    return Document(text, ((start, start + len(value), entity),), country)


def _surround(chooser: Random, which: str, phrase: str) -> tuple[str, int]:
    """The phrase with other sentences, at times with a decoy, before and after it; and where it starts."""
    source = SETS[which]

    def other() -> str:
        return (
            chooser.choice(source.FILLER) if chooser.random() < 0.7 else _filled(chooser, chooser.choice(source.DECOYS))
        )

    before = [other() for _ in range(chooser.choice((0, 0, 1, 2)))]
    after = [other() for _ in range(chooser.choice((0, 1, 1)))]
    joined = chooser.choice(("\n", "\n", "\n\n"))
    head = "".join(one + joined for one in before)
    return head + phrase + "".join(joined + one for one in after), len(head)


def _filled(chooser: Random, decoy: str) -> str:
    choices = {"#": "0123456789", "%": "123456789", "@": "0123456789abcdef"}
    return "".join(chooser.choice(choices[one]) if one in choices else one for one in decoy)


# ------------------------------------------------------------------------------------------- evasions

_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_ARABIC = {ord("0") + digit: 0x660 + digit for digit in range(10)}
_DEVANAGARI = {ord("0") + digit: 0x966 + digit for digit in range(10)}
_LOOK_ALIKE = str.maketrans("aeopcx", "аеорсх")


def _plain_email(chooser: Random) -> str:
    return f"{MAKERS['EMAIL_ADDRESS'](chooser).lower().partition('@')[0]}@example.com"


def _internal_email(chooser: Random) -> str:
    host = chooser.choice(["mail.internal", "build.local", "localhost", "hq.corp", "files.lan"])
    return _plain_email(chooser).replace("example.com", host)


def _spelled(at: str, dot: str) -> Maker:
    def make(chooser: Random) -> str:
        local, _, domain = _plain_email(chooser).partition("@")
        return local.split(".")[0] + at + domain.replace(".", dot)

    return make


def _zero_width(chooser: Random) -> str:
    value = _plain_email(chooser)
    place = chooser.randrange(1, len(value))
    return value[:place] + chooser.choice("\u200b\u200c\u200d\u2060\ufeff\u00ad") + value[place:]


def _disguised(entity: str, disguise: Callable[[str], str]) -> tuple[str, Maker]:
    return entity, lambda chooser: disguise(MAKERS[entity](chooser))


def _escaped_phone(chooser: Random) -> str:
    while not (value := MAKERS["PHONE_NUMBER"](chooser)).startswith("+"):
        pass
    return quote(value)


def _json_escaped(value: str) -> str:
    return json.dumps(value)[1:-1].replace("@", "\\u0040").replace(".", "\\u002e")


EVASIONS: dict[str, tuple[str, Maker]] = {
    "full-width card": _disguised("CREDIT_CARD", lambda value: value.translate(_FULL_WIDTH).replace(" ", "\u3000")),
    "full-width e-mail": ("EMAIL_ADDRESS", lambda chooser: _plain_email(chooser).translate(_FULL_WIDTH)),
    "Arabic digits, phone": _disguised("PHONE_NUMBER", lambda value: value.translate(_ARABIC)),
    "Arabic digits, SSN": _disguised("US_SSN", lambda value: value.translate(_ARABIC)),
    "Devanagari digits, card": _disguised("CREDIT_CARD", lambda value: value.translate(_DEVANAGARI)),
    "zero-width in e-mail": ("EMAIL_ADDRESS", _zero_width),
    "zero-width in card": _disguised("CREDIT_CARD", lambda value: f"{value[:6]}\u200b{value[6:]}"),
    "Cyrillic look-alikes": ("EMAIL_ADDRESS", lambda chooser: _plain_email(chooser).translate(_LOOK_ALIKE)),
    "no-break spaces and hyphens": _disguised(
        "US_SSN", lambda value: value.replace("-", "\u2011")
    ),
    "(at) dot": ("EMAIL_ADDRESS", _spelled(" (at) ", " dot ")),
    "[at] [dot]": ("EMAIL_ADDRESS", _spelled(" [at] ", " [dot] ")),
    "at … dot": ("EMAIL_ADDRESS", _spelled(" at ", " dot ")),
    "internal host": ("EMAIL_ADDRESS", _internal_email),
    "percent-escaped e-mail": ("EMAIL_ADDRESS", lambda chooser: quote(_plain_email(chooser), safe="")),
    "percent-escaped phone": ("PHONE_NUMBER", _escaped_phone),
    "JSON-escaped e-mail": ("EMAIL_ADDRESS", lambda chooser: _json_escaped(_plain_email(chooser))),
}  # fmt: skip
