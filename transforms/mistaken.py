"""Numbers that have the shape of personal data and are none, as what stands around them tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9A-Za-z])")
_UUID_LENGTH = 36
_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0?[1-9]|1[0-2])", "(?:0?[1-9]|[12][0-9]|3[01])"
_DATED = re.compile(
    rf"(?<![^ (])(?:{_DAY}([./-]){_MONTH}\1{_YEAR}|{_MONTH}([./-]){_DAY}\2{_YEAR}|{_YEAR}([./-]){_MONTH}\3{_DAY})(?![0-9])"
)

_SECONDS = re.compile(r"[0-9]:[0-5][0-9][.,][0-9]")
_OF_MONTH = re.compile(rf"{_YEAR}-(?:0[1-9]|1[0-2])-[0-9]{{3,6}}")

# What names a host, as the last word of a name: an address stands after it, and no version.
_HOST = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z0-9])(?=[A-Z]))(?i:"
    "ip|ipv4|ips|tcp|udp|icmp|https?|ssh|ftp|host|hostname|server|addr|address|net|subnet|src|dst|source|"
    "destination|from|to|for|client|dns|via|node|worker|gateway|gw|router|vpn|proxy|peer|remote|local|"
    "public|private|db|web|backup|logs?|ban|banned|block|blocked|allow|allowed|deny|denied|user|root|"
    "admin|origin|endpoint|bind|listen|mask"
    r")[0-9]*\Z"
)
_BEFORE_VERSION = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.\-]*)(?:\[[\w,\-]*\])?(?:(?P<glued>-)| ?(?:===?|~=|>=|<=|!=) ?)"  # pkg-, pkg==, pkg[extra] >=
    r"|[0-9],(?: ?[~=!<>]=|<)"  # pkg>=1.2.3.4,<
    r"|(?:@[\w.\-]+/|\buses: [\w.\-/]+/|\b(?:install|npx|upgrade|yarn add|pnpm add|go get) )[\w.\-]+@"
    r"|(?P<low>\b(?:com|org|net|io|dev|edu|javax?|jakarta|androidx)\.[a-z0-9_.\-]+:[a-z0-9_.\-]+:(?:(?:jar|pom|war|ear|aar|bundle):)?"  # Maven's
    r"|\b(?i:openssl|git|kernel|dpkg|glibc|gettext|jdk|jre|oracle|chrome|chromium|firefox)(?: version)? ))\Z"
)
_VERSION_MARKS = frozenset("-=<>@ :")
_LOW = re.compile(r"(?!10\.)[12]?[0-9]\.")  # versions begin with a small number, where addresses seldom do
_PACKET = re.compile(r"(?:\bIP |> )\Z")  # a packet's source and destination, with the port as a fifth number
_PORT = re.compile(r"\.[0-9]{1,5}(?![.\w])(?=[:,]? |:?$| >)", re.MULTILINE)


def is_version(text: str, first: int, start: int) -> bool:
    """What starts there is the version of a package that is named before it, looked at from `first` on.

    >>> is_version("opencv-python==4.9.0.80", 0, 15), is_version("ip.src==203.0.113.7", 0, 8)
    (True, False)
    """
    if text[start - 1 : start] not in _VERSION_MARKS:
        return False
    before = _BEFORE_VERSION.search(text, first, start)
    if before is None or (before["low"] and not _LOW.match(text, start)):
        return False
    if before["glued"] and text[start : start + 3].isdigit():  # versions are seldom above 99: `frankfurt-203.0.113.7`
        return False
    return before["name"] is None or _HOST.search(before["name"]) is None


def is_longer(text: str, start: int, end: int) -> bool:
    """The four numbers are part of more with dots between them, and no packet's address and port.

    >>> is_longer("1.3.6.1.2", 0, 7), is_longer("IP 203.0.113.7.443 > ", 3, 14)
    (True, False)
    """
    if start > 1 and text[start - 1] == "." and text[start - 2].isdigit():
        return True
    more = text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
    return more and not (_PACKET.search(text, max(0, start - 4), start) and _PORT.match(text, end))


def is_within_uuid(text: str, start: int, end: int) -> bool:
    """Some of what stands there is part of a UUID.

    >>> is_within_uuid("6826d030-8477-4936-91ce-0123456789ab", 5, 18)
    True
    """
    first, last = max(0, start - _UUID_LENGTH), end + _UUID_LENGTH
    if text.count("-", first, last) < 4:
        return False
    return any(one.start() < end and start < one.end() for one in _UUID.finditer(text, first, last))


def is_dated(value: str, before: str) -> bool:
    """A number with a date in it, before or after an hour, or the seconds of an hour; `before`: what it follows.

    Or the number of something in a month, as invoices have: no phone number has such groups.

    >>> is_dated("27.03.2003 14", ""), is_dated("00.954548113", "55:"), is_dated("212-555-0199", "at: ")
    (True, True, False)
    >>> is_dated("2024-11-0001", "invoice ")
    True
    """
    if _OF_MONTH.fullmatch(value):
        return True
    return _DATED.search(value) is not None or (before[-1:] == ":" and _SECONDS.match(before[-2:] + value) is not None)


_SUMMAND = re.compile(r"[+\uff0b] [0-9]+(?:[.,][0-9]+)?\Z")
_DIFFERENCE = re.compile(r"[1-9][0-9]*(?: - [0-9]+)+")
_WRITTEN_APART = re.compile(r"(?:1 - )?[0-9]{3} - [0-9]{3} - [0-9]{4}")


def is_sum(value: str, before: str) -> bool:
    """A number that is added to the one that it follows, or several that are subtracted, in no groups of a phone number.

    Or the exponent of one.

    >>> is_sum("+ 2125551234", "563 "), is_sum("658 - 4168415", ""), is_sum("212 - 555 - 0199", "")
    (True, True, False)
    >>> is_sum("+12458010678", "6.26e"), is_sum("+12458010678", "tel. e")
    (True, False)
    """
    if value[0] in "+\uff0b":
        if before[-1:] in ("e", "E") and before[-2:-1].isdigit():
            return True
        return before[-2:-1].isdigit() and before[-1] == " " and _SUMMAND.match(value) is not None
    return _DIFFERENCE.fullmatch(value) is not None and _WRITTEN_APART.fullmatch(value) is None


def is_decimal(value: str, before: str) -> bool:
    """A decimal number, or one in which the value begins right after the point.

    >>> is_decimal("2447.387582370878", "= "), is_decimal("438 2329", "0."), is_decimal("4111.1111.1111.1111", "")
    (True, True, False)
    """
    return _AFTER_POINT.search(before) is not None or _DECIMAL.fullmatch(value) is not None


_AFTER_POINT, _DECIMAL = re.compile(r"[0-9]\.\Z"), re.compile(r"[0-9]+[.,][0-9]+")

_ROW_BEFORE, _ROW_AFTER = re.compile(r"[0-9][ \t]\Z"), re.compile(r"[ \t][0-9]")


def is_in_row(value: str, before: str, after: str) -> bool:
    """Groups of digits with spaces between them, in a row of more numbers.

    >>> is_in_row("536 22 8726", "12 ", ""), is_in_row("536-22-8726", "12 ", ""), is_in_row("536 22 8726", "is ", " now")
    (True, False, False)
    """
    spaced = " " in value and value.replace(" ", "").isdigit()
    return spaced and (_ROW_BEFORE.search(before) is not None or _ROW_AFTER.match(after) is not None)


_LOOKED_AT = 48  # characters before a bare number
_UNITS = re.compile(
    r" ?(?:[kKMGTP]i?[Bb]|[kMG]?Hz|[mnuµ]s|px|k[mg]"
    r"|bytes?|bits?|tokens?|seconds?|secs?|milliseconds?|microseconds?|nanoseconds?|rows?|records?|lines?|iterations?|pixels?"
    r"|requests|queries|connections|qps|steps|items|points|dollars|euros|people|users|years)\b"
)
_KEYED = re.compile(r"\\{0,3}([\"'])([a-z_][\w\-.]*)\\{0,3}\1\s?:\s?\Z")  # `"key": `, no name of a person
_VALUE_END = re.compile(r"\s*(?:[,}\]]|\Z)")
_CALLED = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*)\(\Z")
_FUNCTION = re.compile(
    r".*(?:[_.]|[a-z][A-Z]).*"
    r"|(?:int|float|str|bool|print|range|len|hash|seed|sleep|sqrt|hex|bin|oct|abs|round|chr|f|factorial|fibonacci|fib|log|id)"
)
_DIALLED = re.compile(
    r"(?i)phone|tel|mob|cell|fax|contact|call|sms|text|whats|msisdn|number|num|dial|ring|line"
    r"|(?:\b|_|(?-i:(?<=[a-z])(?=[A-Z])))(?:ph|no|nr|to|from)(?:\b|_)"
)


def has_unit(text: str, end: int) -> bool:
    """What ends there is so many of something.

    >>> has_unit("1234567 rows", 7)
    True
    """
    return _UNITS.match(text, end) is not None


def is_counted(text: str, start: int, end: int) -> bool:
    """What stands around a bare number says that it is no phone number: a unit, a key of JSON, the function called with it,
    the address of a commit.

    >>> [is_counted(one, one.index("6"), one.index("2") + 1) for one in ("f(612)", "tel(612)", "612 kB", '{"x": 612}')]
    [True, False, True, True]
    """
    if has_unit(text, end):
        return True
    if text.endswith("commit/", 0, start):
        return True
    first = max(0, start - _LOOKED_AT)
    if text[start - 1 : start] == "(" and text[end : end + 1] == ")" and (called := _CALLED.search(text, first, start)):
        return _FUNCTION.fullmatch(called[1]) is not None and _DIALLED.search(called[1]) is None
    keyed = _KEYED.search(text, first, start) if _VALUE_END.match(text, end) else None
    return keyed is not None and _DIALLED.search(keyed[2]) is None


_OF_WORK = re.compile(r"\b10\.[0-9]{4,9}/[^\s\"'<>]*\Z")


def is_of_work(text: str, start: int) -> bool:
    """What starts there is part of a DOI, which names a publication.

    >>> is_of_work("doi:10.1111/0081-1750.00098", 12)
    True
    """
    first = max(0, start - _LOOKED_AT)
    return text.find("/", first, start) >= 0 and _OF_WORK.search(text, first, start) is not None


_GLUED = re.compile(r"([A-Za-z]+)-\Z")
_ACCOUNTS = frozenset(("account", "acct", "acc", "bank", "no", "number", "iban", "checking", "savings"))
_CLOUD_DIGITS = 12  # of an account at Amazon


def is_of_cloud(text: str, start: int, end: int, words: Iterable[str]) -> bool:
    """A bank's number that is an account at Amazon, as words before it tell, or part of the name of something.

    >>> is_of_cloud("AWS account 123456789012", 12, 24, ("aws",)), is_of_cloud("acct-12345678", 5, 13, ())
    (True, False)
    """
    if end - start == _CLOUD_DIGITS and not {"aws", "amazon", "arn", "iam"}.isdisjoint(words):
        return True
    glued = _GLUED.search(text, max(0, start - _LOOKED_AT), start) if text[start - 1 : start] == "-" else None
    return glued is not None and glued[1].lower() not in _ACCOUNTS
