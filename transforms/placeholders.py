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
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    if are_apart(findings):
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


def are_apart(findings: Sequence[Finding]) -> bool:
    """No two of the findings, which are sorted, overlap."""
    reached = 0
    for start, end, _, _, _ in findings:
        if start < reached:
            return False
        reached = end
    return True


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
    >>> canonical_value("CRYPTO", "0x52908400098527886E0F7030069857D2E4169EE7", [])
    '0x52908400098527886e0f7030069857d2e4169ee7'
    """
    if entity == "EMAIL_ADDRESS":
        return text.casefold()
    if entity == "PHONE_NUMBER":
        return _phone(text, tuple(regions))
    if entity == "IP_ADDRESS":
        return _address(text)
    if entity in ("CREDIT_CARD", "IBAN_CODE", "MAC_ADDRESS") or entity[2:3] == "_":
        return _NOT_ALNUM.sub("", text).upper()
    if entity == "CRYPTO" and text[:2].casefold() == "0x":
        return text.casefold()  # capitals in it are a check, not the address
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
    digits = _NOT_DIGIT.sub("", text)
    return valid_number(f"+{digits}", None) or digits  # as it may be written without its sign


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
        return "".join([piece if isinstance(piece, str) else self.placeholder(piece) for piece in template])


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


_LENGTHS = range(9, 33)  # digits of values that are looked for in other spellings: fewer say the same by chance
_BETWEEN = b" ().-"
_GROUP, _GAP = re.compile("[0-9]+"), re.compile(rf"[{re.escape(_BETWEEN.decode())}]{{1,3}}")
_NO_WORD = re.compile(r"(?:(?<![A-Za-z])|(?<=\\[nrt]))"), re.compile("(?![A-Za-z])")
_NO_DIGITS = bytes(byte for byte in range(256) if not 0x30 <= byte < 0x3A)


class Digits:
    """Finds removed values in another spelling: their digits, however they are grouped, and none beside them."""

    def __init__(self, removed: Iterable[Removed]) -> None:
        numbers = ((one.value.removeprefix("+"), one) for one in removed)
        self._numbers = [(value, one) for value, one in numbers if len(value) in _LENGTHS and value.isdecimal()]
        self.least = _LENGTHS.start if self._numbers else sys.maxsize  # characters of a text that may hold one

    @functools.cached_property
    def _values(self) -> dict[bytes, Removed]:
        """The values by their digits, as they are written and as they were spelled."""
        values: dict[bytes, Removed] = {}
        for value, one in self._numbers:
            values.setdefault(value.encode(), one)
            spelled = one.raw.encode().translate(None, _NO_DIGITS)
            if len(spelled) in _LENGTHS:
                values.setdefault(spelled, one)
        return values

    @functools.cached_property
    def _longest(self) -> int:
        return max(map(len, self._values), default=0)

    def are_in(self, text: str) -> bool:
        """Whether `said` finds any, mostly told in less time."""
        if not self._numbers:
            return False
        closed = text.encode().translate(None, _BETWEEN)
        return any(digits in closed for digits in self._values) and any(self.said(text))

    def said(self, text: str) -> Iterator[tuple[int, int, Removed]]:
        """Where the values are, without overlaps, in order, each as it is spelled there.

        >>> card = Removed("CREDIT_CARD", "4111111111111111", "4111 1111 1111 1111")
        >>> [(start, end) for start, end, _ in Digits([card]).said("4111-1111-1111-1111 14111111111111111 scan_4111111111111111")]
        [(0, 19), (43, 59)]
        """
        groups = [one.span() for one in _GROUP.finditer(text)] if self._numbers else []
        reached = 0
        for place, (start, _) in enumerate(groups):
            if start < reached or not _NO_WORD[0].match(text, start):
                continue
            found = self._from(text, groups[place : place + self._longest])
            if found is None:
                continue
            end, removed = found
            opened = text[start - 1 : start] == "(" and ")" in text[start:end]
            start -= opened
            start -= text[start - 1 : start] == "+"
            yield start, end, removed._replace(raw=text[start:end])
            reached = end

    def _from(self, text: str, groups: Sequence[tuple[int, int]]) -> tuple[int, Removed] | None:
        """The longest of the values that begins with the groups: where it ends, and which it is."""
        found, digits, reached = None, b"", groups[0][0]
        for start, end in groups:
            if (digits and not _GAP.fullmatch(text, reached, start)) or len(digits) + end - start > self._longest:
                break
            digits, reached = digits + text[start:end].encode(), end
            if digits in self._values and _NO_WORD[1].match(text, end):
                found = end, self._values[digits]
        return found


# Letters of scripts that put no space between words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30fb\u30fd-\u30ff\u3400-\u9fff\uac00-\ud7ff\U00020000-\U0003ffff"
)
_SPACE = r"[\s_\-\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
_MOST_SPACE = 4  # characters of white space, or that stand for it in names of files, between the words of a phrase
_APOSTROPHES = "'`\u00b4\u02bc\u2018\u2019\u2032\uff07"
_EDGE = rf"[^\pL\pM\pN]|[{UNSPACED}]"
_ESCAPED_LINE = r"\\[nrt]"  # in JSON within a text a line may end before a word so
_IS_EDGE, _IS_UNSPACED, _IS_MARK = re2.compile(_EDGE), re2.compile(f"[{UNSPACED}]"), re2.compile(r"\pM")
_IS_ESCAPED = re2.compile(_ESCAPED_LINE)
_IS_APOSTROPHE, _IS_SPACE = re.compile(f"[{_APOSTROPHES}]"), re.compile(r"[\s_\-]+")
_PART = 4096  # characters searched at once, so that what one match costs is bounded
_AT_ONCE = 4096  # words of an automaton: RE2's grow with the words that a text begins


class Words:
    """Finds words or phrases; `whole` ones only where no letter or digit adjoins, but of an escaped line end.

    In scripts without spaces between words, words are whole wherever they stand. `spelled` in any way: in any case, with
    letters and their marks as one character or several, with any apostrophe where they hold one, and with any white space,
    `_` or `-` where they hold white space.
    """

    def __init__(self, words: Iterable[str], *, whole: bool, spelled: bool) -> None:
        if spelled:
            words = (form for word in words for form in _forms(" ".join(word.split())))
        ordered = sorted(set(words), key=lambda word: (-len(word), word))
        within = [word for word in ordered if _IS_UNSPACED.search(word[0] + word[-1]) is not None] if whole else []
        apart = [word for word in ordered if word not in set(within)] if within else ordered
        self._some = [
            _Some(some[first : first + _AT_ONCE], whole=whole, apart=whole and some is apart, spelled=spelled)
            for some in (apart, within)
            for first in range(0, len(some), _AT_ONCE)
        ]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Spans without overlaps, in order.

        >>> list(Words(["Acme", "Acme Inc"], whole=True, spelled=True).spans("ACME acme  inc, acmes"))
        [(0, 4), (5, 14)]
        >>> list(Words(["Acme Inc"], whole=True, spelled=True).spans("my_acme-inc_plan.docx"))
        [(3, 11)]
        >>> list(Words(["\u5317\u4eac"], whole=True, spelled=True).spans("\u6211\u5728\u5317\u4eac\u5de5\u4f5c"))
        [(2, 4)]
        >>> list(Words(["Stra\u00dfe", "M\u00fcller"], whole=True, spelled=True).spans("STRASSE, Mu\u0308ller, Muller"))
        [(0, 7), (9, 16)]
        """
        if len(self._some) == 1:
            yield from self._some[0].spans(text)
            return
        reached = 0
        for start, end in sorted(
            (span for some in self._some for span in some.spans(text)), key=lambda span: (span[0], -span[1])
        ):
            if start >= reached:
                yield start, end
                reached = end


class _Some:
    """Some of the words, longest first; `apart`: with an edge on either side."""

    def __init__(self, words: Sequence[str], *, whole: bool, apart: bool, spelled: bool) -> None:
        options = re2.Options()
        options.max_mem = 256 << 20  # 256 MiB: room for long lists
        options.case_sensitive = not spelled
        either = "|".join(_in_any_way(word, _SPACE, re2.escape) if spelled else re2.escape(word) for word in words)
        self._whole = whole
        self._longest = max(len(word) + word.count(" ") * (_MOST_SPACE - 1) for word in words)
        self._pattern = re2.compile(
            rf"(?:^|{_EDGE}|{_ESCAPED_LINE})({either})(?:$|{_EDGE})" if apart else f"({either})", options
        )
        # Where a match lies costs RE2 memory that grows with the words, for each text; that there is none costs none.
        options.never_capture = True
        self._any = re2.compile(either, options)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        reached = 0
        for base in range(0, len(text), _PART):
            first = max(base - 2, reached, 0)
            part = text[first : base + _PART + self._longest + 1]
            if self._any.search(part) is None:
                continue
            position = 0
            while (match := self._pattern.search(part, position)) is not None:
                start, end = (first + offset for offset in match.span(1))
                if start >= base + _PART:
                    break
                if not self._whole or _is_whole(text, start, end):
                    yield start, end
                    position, reached = end - first, end
                else:
                    position = start - first + 1


def _is_whole(text: str, start: int, end: int) -> bool:
    """An edge on either side; a letter of a script without spaces is one, but before a mark that belongs to it."""
    before = text[start - 2 : start] if start > 1 else text[:start]
    if start and not (_is_edge(text[start - 1]) or _IS_UNSPACED.match(text[start]) or _IS_ESCAPED.fullmatch(before)):
        return False
    if end == len(text):
        return True
    return _IS_MARK.match(text[end]) is None and bool(_is_edge(text[end]) or _IS_UNSPACED.match(text[end - 1]))


def _is_edge(character: str) -> bool:
    return _IS_EDGE.fullmatch(character) is not None


def _in_any_way(word: str, space: str, escape: Callable[[str], str]) -> str:
    said = (f"[{_APOSTROPHES}]".join(map(escape, _IS_APOSTROPHE.split(part))) for part in word.split())
    return f"{space}{{1,{_MOST_SPACE}}}".join(said)


def _forms(word: str) -> Iterable[str]:
    """The word as engines that fold letters one by one find it in any case, with letters and marks composed, and apart;
    `\u00df` and `ss` are the same, and the Turkish `\u0130` is `i` too."""
    folded = word.casefold()
    said = (word, folded, folded.replace("ss", "\u00df"), word.upper(), word.replace("\u0130", "I"))
    forms = (unicodedata.normalize(form, one) for one in said for form in ("NFC", "NFD"))
    return {one.lower() if one.isascii() else one: one for one in (word, *forms)}.values()


def spelled_patterns(word: str) -> tuple[str, ...]:
    """Patterns of Python's `re`, in any case, one of which is found wherever `Words` finds a word `spelled` in any way."""
    return tuple(_in_any_way(form, r"[\s_\-\u1680]", re.escape) for form in _forms(word))


def spelled_alike(word: str) -> str:
    """What is the same in all ways to spell a word.

    >>> spelled_alike("O\u2019Neil  INC"), spelled_alike("o'neil_inc")
    ("o'neil inc", "o'neil inc")
    >>> spelled_alike("Mu\u0308ller Stra\u00dfe") == spelled_alike("M\u00dcLLER STRASSE")
    True
    """
    folded = _IS_SPACE.sub(" ", _IS_APOSTROPHE.sub("'", word.replace("\u0130", "I"))).casefold()
    return unicodedata.normalize("NFC", folded)
