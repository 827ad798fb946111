"""What stands in the place of a removed value: typed, numbered, the same for the same value in a conversation.

    "call 212-555-0199 or mail a@b.com"  ──►  "call <PHONE_NUMBER_1> or mail <EMAIL_ADDRESS_1>"

A *template* is a text as a list of pieces, kept ones as `str` and removed ones as `Removed`. It depends on the
text alone and can be remembered; `Numbering` fills in the numbers for one conversation.
"""

from __future__ import annotations

import bisect
import functools
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import re2

from transforms.phones import valid_number

LAST_NUMBER = 999_999  # more digits than these could carry a value of their own: such a text is no placeholder

_NOT_ALNUM = re.compile(r"[\W_]+")
_NOT_DIGIT = re.compile(r"\D+")


class RedactionTimeout(RuntimeError):
    """A recognizer gave up on a text: nothing is known of it, and the run fails."""


class Finding(NamedTuple):
    """`text[start:end]` is an `entity`. Secrets win over personal data that they overlap."""

    start: int
    end: int
    entity: str
    score: float
    secret: bool = False


class Removed(NamedTuple):
    """A removed value: its type, what is the same in all its spellings, and how it was spelled."""

    entity: str
    value: str
    raw: str


Template = tuple[str | Removed, ...]


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Findings without overlaps, in order: where some overlap, the union of their characters goes as one.

    Its type is that of the strongest: secrets first, then the highest score, the longest, the leftmost, the name.

    >>> [tuple(one) for one in merge_findings([Finding(0, 5, "A", 0.5), Finding(3, 9, "B", 0.4)])]
    [(0, 9, 'A', 0.5, False)]
    """
    findings = sorted(findings)
    if len(findings) < 2:
        return findings
    hosts = sorted((one.end, one.start) for one in findings if one.entity == "URL_CREDENTIALS")
    if hosts:  # `https://user:password@host`: what seems an address `password@host` is none
        findings = [one for one in findings if one.entity != "EMAIL_ADDRESS" or not _at_host(one, hosts)]
    if all(one.end <= other.start for one, other in zip(findings, findings[1:], strict=False)):
        return findings
    groups: list[list[Finding]] = []
    end = -1
    for finding in findings:
        if finding.start < end:
            groups[-1].append(finding)
        else:
            groups.append([finding])
        end = max(end, finding.end)
    return [group[0] if len(group) == 1 else _union(group) for group in groups]


def _at_host(address: Finding, hosts: Sequence[tuple[int, int]]) -> bool:
    """Whether one of the credentials, by where they end and start, sorted, ends within an address that starts in them."""
    for place in range(bisect.bisect_right(hosts, address.start, key=lambda one: one[0]), len(hosts)):
        end, start = hosts[place]
        if end >= address.end:
            return False
        if start <= address.start < end:
            return True
    return False


def _union(group: Sequence[Finding]) -> Finding:
    strongest = min(group, key=lambda one: (not one.secret, -one.score, one.start - one.end, one.start, one.entity))
    return strongest._replace(start=group[0].start, end=max(one.end for one in group))


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


@functools.lru_cache(maxsize=4096)
def interface(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in `text`, written with or without the length of its network; None where it is none."""
    try:
        if "/" in text or "%" in text:
            return ipaddress.ip_interface(text).ip
        return ipaddress.IPv6Address(text) if ":" in text else ipaddress.IPv4Address(text)
    except ValueError:
        return None


def canonical_value(entity: str, text: str, regions: Sequence[str]) -> str:
    """What two spellings of one value share; a phone number in E.164 where a region of `regions` makes it valid.

    >>> canonical_value("PHONE_NUMBER", "(212) 555-0199", ["US"])
    '+12125550199'
    >>> canonical_value("CREDIT_CARD", "4111 1111-11111111", [])
    '4111111111111111'
    """
    if entity == "EMAIL_ADDRESS":
        return text.casefold()
    if entity == "PHONE_NUMBER":
        return _phone(text, tuple(regions))
    if entity == "IP_ADDRESS":
        return _address(text)
    if entity in ("CREDIT_CARD", "IBAN_CODE", "MAC_ADDRESS") or entity[2:3] == "_":
        return _NOT_ALNUM.sub("", text).upper()
    return text


def _address(text: str) -> str:
    if IPV4.fullmatch(text):
        return text
    address = interface(text)
    return text.casefold() if address is None else str(address)


def _phone(text: str, regions: tuple[str, ...]) -> str:
    for region in regions or (None,):
        number = valid_number(text, region)
        if number is not None:
            return number
    return _NOT_DIGIT.sub("", text)


class TooManyValues(ValueError):
    """A conversation holds more values of one type than placeholders count."""


class Numbering:
    """The placeholders of one conversation, numbered for each type in order of first appearance.

    Numbers that the conversation already held as literal placeholders are passed over.
    """

    def __init__(self, taken: Iterable[tuple[str, int]] = ()) -> None:
        self._taken = frozenset(taken)
        self._last: dict[str, int] = {}
        self._by_value: dict[tuple[str, str], tuple[str, str]] = {}
        self._by_raw: dict[str, tuple[str, str]] = {}
        self.spans: Counter[str] = Counter()  # replaced spans by type

    def placeholder(self, removed: Removed) -> str:
        """The same for all spellings of a value, and for one spelling that was taken for two types.

        Raises TooManyValues after `LAST_NUMBER` of a type.
        """
        entity, value, raw = removed
        meant = entity, value
        known = self._by_value.get(meant) or self._by_raw.get(raw)
        if known is None:
            known = entity, self._next(entity)
        self._by_value[meant] = self._by_raw[raw] = known
        self.spans[known[0]] += 1
        return known[1]

    def _next(self, entity: str) -> str:
        number = self._last.get(entity, 0) + 1
        while (entity, number) in self._taken:
            number += 1
        if number > LAST_NUMBER:
            raise TooManyValues
        self._last[entity] = number
        return f"<{entity}_{number}>"

    def fill(self, template: Template) -> str:
        return "".join(piece if isinstance(piece, str) else self.placeholder(piece) for piece in template)


class Placeholders:
    """Finds the placeholders of the known entity types in a text."""

    def __init__(self, entities: Iterable[str]) -> None:
        names = "|".join(sorted(entities, key=lambda name: (-len(name), name)))
        self._pattern = re.compile(rf"(<(?:{names})_[1-9][0-9]{{0,5}}>)")

    def split(self, text: str) -> list[str]:
        """Texts and placeholders in turn: the odd ones are placeholders."""
        return self._pattern.split(text) if "_" in text else [text]

    def taken(self, text: str) -> list[tuple[str, int]]:
        """Type and number of each literal placeholder.

        >>> Placeholders(["EMAIL_ADDRESS"]).taken("<EMAIL_ADDRESS_7>, <EMAIL_ADDRESS_x>")
        [('EMAIL_ADDRESS', 7)]
        """
        if "_" not in text:
            return []
        found = (one[1:-1].rpartition("_") for one in self._pattern.findall(text))
        return [(entity, int(number)) for entity, _, number in found]


_EDGE = r"[^\pL\pM\pN_]"
_IS_EDGE = re2.compile(_EDGE)
_PART = 4096  # characters searched at once, so that what one match costs is bounded


class Words:
    """Finds words or phrases; `whole` ones only where no letter, digit or underscore adjoins."""

    def __init__(self, words: Iterable[str], *, whole: bool, ignore_case: bool) -> None:
        ordered = sorted(set(words), key=lambda word: (-len(word), word))
        options = re2.Options()
        options.max_mem = 256 << 20  # 256 MiB: room for long lists
        options.case_sensitive = not ignore_case
        either = "|".join(map(re2.escape, ordered))
        self._whole, self._longest = whole, len(ordered[0])
        self._pattern = re2.compile(rf"(?:^|{_EDGE})({either})(?:$|{_EDGE})" if whole else f"({either})", options)
        # Where a match lies costs RE2 memory that grows with the words, for each text; that there is none costs none.
        options.never_capture = True
        self._any = re2.compile(either, options)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Spans without overlaps, in order.

        >>> list(Words(["Acme", "Acme Inc"], whole=True, ignore_case=True).spans("ACME acme inc, acmes"))
        [(0, 4), (5, 13)]
        """
        reached = 0
        for base in range(0, len(text), _PART):
            first = max(base - 1, reached, 0)
            part = text[first : base + _PART + self._longest + 1]
            if self._any.search(part) is None:
                continue
            position = 0
            while (match := self._pattern.search(part, position)) is not None:
                start, end = (first + offset for offset in match.span(1))
                if start >= base + _PART:
                    break
                if not self._whole or (_edge(text, start - 1) and _edge(text, end)):
                    yield start, end
                    position, reached = end - first, end
                else:
                    position = start - first + 1


def _edge(text: str, index: int) -> bool:
    return not 0 <= index < len(text) or _IS_EDGE.fullmatch(text[index]) is not None
