"""Phone numbers as phonenumbers finds them, without its second look at what cannot be one.

`PhoneFinder.spans` is `PhoneNumberMatcher` for each region: the same spans, found in one pass over the text. Where a
candidate begins and ends does not depend on the region, so candidates are found once; a candidate whose digits are too
few or too many for any number that could be valid there is not parsed; a parse is remembered.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import phonenumbers
from phonenumbers import phonenumbermatcher as upstream
from phonenumbers import phonenumberutil
from phonenumbers.phonemetadata import PhoneMetadata

from transforms.linear import linear, spans
from transforms.relax import characters, digits_beyond_ascii

REMEMBERED = 1 << 14  # candidates whose parse is remembered
_LEAST_ABROAD = 6  # digits of the shortest number with its country's code: +43, +49 and +98 have four more

_START = re.compile(r"[(\[\uff08\uff3b+\uff0b\d]")  # what a candidate may start with
_MARKS = (
    b" ()./-"  # what stands between the digits of a plain candidate: no plus sign, no extension, nothing beyond ASCII
)
_PUNCTUATION = upstream._PUNCTUATION  # at most four marks, between digits
_PLAIN = re.compile(r"[0-9 .\-]+")
_PLAIN_CANDIDATE = re.compile(r"[0-9]{1,20}+(?:[ .\-]{0,4}+[0-9]{1,20}+){0,20}+")  # upstream's _PATTERN in plain text
_IN_PARTS = re.compile("[()/]| -|- ")  # what a plain candidate is divided at, beside full stops and spaces
_LONG_ONE = 32  # characters of a candidate whose parts are looked at anyhow
_MIXED = re.compile(r"\.| -|- ")
# A word in a list that goes on for as many digits as no candidate has that is a number as a whole: the first part of its own.
_LISTED = re.compile(r" *+([0-9]{1,20}+(?:-[0-9]{1,20}+){0,5}+)(?= )(?=(?:[ \-]{1,4}[0-9]{3,20}){8})")
_LONG = 100  # characters of a window that is worth a look whether it is plain
_SECOND_NUMBER: re.Pattern[str] = phonenumberutil._SECOND_NUMBER_START_PATTERN
_UNWANTED_END: re.Pattern[str] = phonenumberutil._UNWANTED_END_CHAR_PATTERN
_AT_DOTS: re.Pattern[str] = upstream._INNER_MATCHES[4]
_verify: Any = upstream._verify


# What may stand within one candidate, its extension included, beside what is beyond ASCII. A line end may not.
_WITHIN = r"0-9+()\[\]./~\-\x20\t,;:=#" + "aAeEiInNoOsStTxX"
_WINDOW = re.compile(rf"[+\d(\[\uff08\uff3b\uff0b][{_WITHIN}\x80-\U0010ffff]*+")


def phone_patterns(regions: Sequence[str]) -> tuple[str, str]:
    """A pattern that is found wherever `PhoneFinder(regions)` or a parse in these regions finds a number.

    The digits of a valid national number follow each other in the text, with punctuation between them, whatever
    prefixes stand before them; what a sign or a prefix for calls abroad stands before may be of any country. And before
    it a quick one, which is found there too: so many digits as there are at least, or a sign.
    """
    shapes: set[_Shape] = set()
    for region in regions:
        metadata: Any = PhoneMetadata.metadata_for_region(region, None)
        abroad = _shapes(parser.parse(getattr(metadata, "international_prefix", None) or ""))
        shapes |= {shape + (_ANY,) * _LEAST_ABROAD for shape in abroad.values()}
        if getattr(metadata, "national_prefix_transform_rule", None):  # puts digits where there were none
            shapes.add((_ANY,) * min(_lengths(region)))
        else:
            shapes |= set(_national_shapes(phonenumbers.country_code_for_region(region)).values())
    ordered = sorted(shapes, key=lambda shape: (len(shape), *map(sorted, shape)))
    kept = [one for place, one in enumerate(ordered) if not any(_holds(one, other) for other in ordered[:place])]
    sign = rf"[+\uff0b]{_PUNCTUATION}\d"
    quick = _spaced((_ANY,) * min(map(len, kept), default=_LEAST_ABROAD))
    return f"{sign}|{quick}", "|".join([rf"{sign}(?:{_PUNCTUATION}\d){{2}}", *map(_spaced, kept)])


_Shape = tuple[frozenset[str], ...]  # of digits that follow each other: which may stand at each place
_ANY = frozenset("0123456789")


def _holds(long: _Shape, short: _Shape) -> bool:
    """Digits of the one shape hold some of the other."""
    starts = range(len(long) - len(short) + 1)
    return any(all(map(frozenset.issuperset, short, long[start:])) for start in starts)


def _spaced(shape: _Shape) -> str:
    first, *rest = (f"[{''.join(sorted(digits))}{_OTHER_DIGITS}]" for digits in shape)
    runs = ((f"(?:{_PUNCTUATION}{digit})", len(list(run))) for digit, run in itertools.groupby(rest))
    return first + "".join(f"{digit}{{{count}}}" if count > 1 else digit for digit, count in runs)


_OTHER_DIGITS = "".join(f"{chr(first)}-{chr(last)}" for first, last in digits_beyond_ascii())


@functools.cache
def _national_shapes(code: int) -> dict[int, _Shape]:
    """Of the national numbers that are valid in some region of a country code, by their length."""
    shapes: dict[int, _Shape] = {}
    for pattern in _national_patterns(code):
        shapes = _either(shapes, _shapes(parser.parse(pattern)))
    return shapes


def _shapes(parsed: Any) -> dict[int, _Shape]:
    """What the digits that a pattern matches may be, by their number: assertions and what goes with what forgotten."""
    shapes: dict[int, _Shape] = {0: ()}
    for kind, argument in parsed:
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, body = argument
            once = _shapes(body)
            some: dict[int, _Shape] = {0: ()}
            repeated = some if least == 0 else {}
            for count in range(1, int(most) + 1):
                some = _both(some, once)
                repeated = _either(repeated, some) if count >= least else repeated
            shapes = _both(shapes, repeated)
        elif kind is op.BRANCH:
            shapes = _both(shapes, functools.reduce(_either, map(_shapes, argument[1])))
        elif kind is op.SUBPATTERN:
            shapes = _both(shapes, _shapes(argument[3]))
        elif kind not in (op.AT, op.ASSERT, op.ASSERT_NOT):
            shapes = _both(shapes, {1: (frozenset(map(chr, characters(kind, argument, False).ascii)),)})
    return shapes


def _either(one: dict[int, _Shape], other: dict[int, _Shape]) -> dict[int, _Shape]:
    met = {length: tuple(map(frozenset.union, one[length], other[length])) for length in one.keys() & other.keys()}
    return one | other | met


def _both(one: dict[int, _Shape], other: dict[int, _Shape]) -> dict[int, _Shape]:
    """One after the other."""
    followed: dict[int, _Shape] = {}
    for first, second in itertools.product(one.values(), other.values()):
        followed = _either(followed, {len(first) + len(second): first + second})
    return followed


@functools.cache
def _lengths(region: str) -> frozenset[int]:
    """How many digits a national number may have that is valid in the region, or one of the same country code."""
    code = phonenumbers.country_code_for_region(region)
    lengths: set[int] = set()
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        metadata = PhoneMetadata.metadata_for_region(name, None)
        if metadata is not None and metadata.general_desc is not None:
            lengths |= {length for length in metadata.general_desc.possible_length if length > 0}
    return frozenset(lengths) or frozenset(range(2, 18))


_TYPES = (
    *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan"),
    "voicemail",
)


_FICTION = r"7700900\d{3}"  # mobile numbers that Ofcom keeps for drama: not valid, but `policy` takes them for numbers


_IS_FICTION = re.compile(_FICTION.encode())


@functools.cache
def _national_patterns(code: int) -> list[str]:
    """Patterns of the national numbers that are valid in some region of a country code, or pass for valid ones."""
    patterns = {_FICTION} if code == 44 else set()
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, name)
        descriptions = [getattr(metadata, kind, None) for kind in _TYPES]
        patterns |= {one.national_number_pattern for one in descriptions if one and one.national_number_pattern}
    return sorted(patterns)


@functools.cache
def _national(code: int) -> str:
    """A pattern of the same."""
    return f"(?:{'|'.join(_national_patterns(code)) or '(?!)'})"


class _Region:
    """What of a region's metadata tells of digits whether they are a number there."""

    def __init__(self, region: str) -> None:
        metadata: Any = PhoneMetadata.metadata_for_region(region, None)
        least = self.least = min(_lengths(region))
        self.parts = (".", re.compile(rf"[^. ][^.]{{{least - 1},}}")), (" ", re.compile(rf"[^ ]{{{least},}}"))
        code = phonenumbers.country_code_for_region(region)
        self.code, self._coded = str(code), str(code).encode()
        abroad = getattr(metadata, "international_prefix", None) or ""
        prefix = getattr(metadata, "national_prefix_for_parsing", None) or "(?!)"
        first = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ("",))[0]
        own = first == region and metadata is not None and metadata.leading_digits is None
        valid = _valid_in(code) if own else "(?!)"
        self._transforms = bool(getattr(metadata, "national_prefix_transform_rule", None))
        self._prefix, self._abroad, self._valid = map(_of_digits, (prefix, abroad, valid))
        self._national = _of_digits(_national(code))
        self.bare = own and not self._transforms and all(map(_needs_no_prefix, metadata.number_format))
        plain = f"(?!(?:{abroad})|{code}|(?:{prefix})|0)"
        self._sure = _of_digits(f"{plain}(?:{valid})" if own and not self._transforms else "(?!)")
        self._needing = _of_digits(plain + _needing_pattern(metadata) if own and not self._transforms else "(?!)")
        # A parse takes a prefix from what follows the country's code too, and once more.
        home = f"(?:{code})?(?:{prefix}){{0,2}}{_national(code)}"
        self._home = _of_digits(home)
        self._perhaps = _of_digits(".*" if self._transforms else f"(?:{abroad}).*|{home}")
        self.patterns = self._perhaps.pattern, self._sure.pattern
        a_line = f"(?m)^(?:{self._perhaps.pattern.decode()})$"
        self._a_line = linear(a_line) or _of_digits(a_line)  # RE2 has no look-around
        self._parsed_lengths = frozenset(metadata.general_desc.possible_length) if own else frozenset()

    def national(self, candidate: str) -> str | None:
        """The national number of a valid number of the region; "" where it is none; None where a parse must tell."""
        return self.told(_plain_digits(candidate))

    def told(self, digits: bytes) -> str | None:
        """`national` of a plain candidate's digits."""
        if not digits:
            return None
        if self._sure.fullmatch(digits):
            return digits.decode()
        if len(digits) < self.least or self._perhaps.fullmatch(digits) is None:
            return ""
        if self._transforms:
            return None
        if abroad := self._abroad.match(digits):
            return None if self._may_be_called(digits, abroad.end()) else ""
        if digits.startswith(self._coded):
            return None
        prefixed = self._prefix.match(digits)
        if prefixed and self._national.fullmatch(digits) is None:
            rest = digits[prefixed.end() :]
            if self.code == "44" and _IS_FICTION.fullmatch(rest):
                return ""
            if len(rest) in self._parsed_lengths and rest[0] != _ZERO and self._valid.fullmatch(rest):
                return rest.decode()
        return None

    def _may_be_called(self, digits: bytes, end: int) -> bool:
        """Digits with a prefix for calls abroad, which ends there, may be a number of some country."""
        if digits[end : end + 1] == b"0":  # then it is no such prefix
            return self._home.fullmatch(digits) is not None
        code = _code_of(digits, end)
        if code == self._coded:
            return self._home.fullmatch(digits, end) is not None
        return bool(code) and _abroad(int(code)).perhaps.fullmatch(digits, end + len(code)) is not None

    def may_be_british(self, digits: bytes) -> bool:
        """Without a plus sign, as numbers of this or another country."""
        return self.code == "44" or self._abroad.match(digits) is not None

    def is_number(self, candidate: str) -> bool:
        """Certainly; what it says no to may be one all the same."""
        return self._sure.fullmatch(_plain_digits(candidate)) is not None

    def may_hold(self, plain: str) -> bool:
        """Not told by the number of its digits that the candidate is no number."""
        digits = _plain_digits(plain)
        return len(digits) <= _MOST_DIGITS or digits.startswith(self._coded)

    def may_hold_among(self, plain: str, mark: str) -> bool:
        """Some of the parts of a plain candidate between marks, a space or a full stop, may be a number."""
        within = _MARKS.replace(mark.encode(), b"")
        parts = plain.encode().translate(None, within).replace(mark.encode(), b"\n")
        return self._a_line.search(parts) is not None and max(map(len, parts.split())) >= self.least

    def lacks_prefix(self, candidate: str) -> bool:
        """The candidate is no number as it stands: it lacks the prefix that all numbers of its shape are written with."""
        return self._needing.fullmatch(_plain_digits(candidate)) is not None


class _Abroad(NamedTuple):
    """What digits after a country's code are like: of numbers, which may have prefixes there that need not stand; of those
    that certainly are valid as they stand; that begin with such a prefix; how many those of a possible number are."""

    perhaps: re.Pattern[bytes]
    sure: re.Pattern[bytes]
    prefixed: re.Pattern[bytes]
    possible: frozenset[int]


@functools.cache
def _abroad(code: int) -> _Abroad:
    main = phonenumbers.region_code_for_country_code(code)
    metadata: Any = PhoneMetadata.metadata_for_region_or_calling_code(code, main)
    if metadata is None or getattr(metadata, "national_prefix_transform_rule", None):
        return _Abroad(_of_digits(".*"), _of_digits("(?!)"), _of_digits(""), frozenset())
    prefix = getattr(metadata, "national_prefix_for_parsing", None) or "(?!)"
    general = metadata.general_desc
    return _Abroad(
        _of_digits(f"(?:{prefix}){{0,2}}{_national(code)}"),
        _of_digits(f"(?!(?:{prefix})|0)(?:{_valid_in(code)})"),
        _of_digits(prefix),
        frozenset((*general.possible_length, *general.possible_length_local_only)),
    )


def _code_of(digits: bytes, start: int = 0) -> bytes:
    """The country's code that digits begin with; none where there is no such country."""
    if digits[start : start + 1] == b"0":
        return b""
    codes = (digits[start:end] for end in range(start + 1, start + 4))
    return next((code for code in codes if int(code or 0) in _COUNTRIES), b"")


def _signed(text: str, region: str | None) -> bytes | None:
    """The digits of a valid number with its country's code, from a plain candidate after a plus sign; none where it is no
    number; None where a parse must tell."""
    digits = _plain_digits(text[1:])
    code = _code_of(digits)
    if not code:  # then a parse reads it without the sign
        return b"" if region and len(digits) >= _LEAST_VIABLE and _region(region).told(digits) == "" else None
    abroad = _abroad(int(code))
    if abroad.perhaps.fullmatch(digits, len(code)) is None:
        return b""
    return digits if abroad.sure.fullmatch(digits, len(code)) else None


_COUNTRIES = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
_ZERO = ord("0")
_MOST_DIGITS = 24  # more than any number has with the prefixes that a parse may take from it


def _of_digits(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def _plain_digits(candidate: str) -> bytes:
    """The digits of a plain candidate; none of another."""
    digits = candidate.encode("utf-8", "replace").translate(None, _MARKS)
    return digits if digits.isdigit() else b""


def _valid_in(code: int) -> str:
    """A pattern of the valid national numbers of a country code: each is asked about in the first region that it may be of."""
    either, before = [], ""
    for name in _COUNTRIES[code]:
        metadata: Any = PhoneMetadata.metadata_for_region_or_calling_code(code, name)
        if metadata is None:
            continue
        leading = metadata.leading_digits if len(_COUNTRIES[code]) > 1 else None
        either.append(f"{before}(?={leading or ''})(?:{_valid_pattern(metadata)})")
        before += f"(?!{leading})" if leading else ""
    return "|".join(either)


def _valid_pattern(metadata: Any) -> str:
    """A pattern of the national numbers that phonenumbers gives a type in the region."""
    types = [getattr(metadata, kind, None) for kind in _TYPES]
    either = "|".join(_described(one) for one in types if one is not None and one.national_number_pattern)
    return f"(?={_described(metadata.general_desc)}$)(?:{either})"


def _described(description: Any) -> str:
    lengths = "|".join(f"[0-9]{{{length}}}" for length in description.possible_length if length > 0)
    return f"(?=(?:{lengths or '[0-9]+'})$)(?:{description.national_number_pattern})"


def _needs_no_prefix(written: Any) -> Any:
    rule = written.national_prefix_formatting_rule
    optional = written.national_prefix_optional_when_formatting
    return not rule or optional or phonenumberutil._formatting_rule_has_first_group_only(rule)


def _needing_pattern(metadata: Any) -> str:
    """A pattern of the national numbers that are not written without a prefix."""
    needing, free = ["(?!)"], ["(?!)"]
    for one in metadata.number_format:
        leading = f"(?={one.leading_digits_pattern[-1]})" if one.leading_digits_pattern else ""
        (free if _needs_no_prefix(one) else needing).append(f"{leading}(?:{one.pattern})$")
    return f"(?!{'|'.join(free)})(?:{'|'.join(needing)})"


@functools.cache
def _region(region: str) -> _Region:
    return _Region(region)


def valid_number(text: str, region: str | None) -> str | None:
    """The number in E.164 where `text` is one that is valid in `region`, or written with its country's code.

    >>> valid_number("(212) 555-0199", "US"), valid_number("212-555-01", "US")
    ('+12125550199', None)
    """
    if text.startswith("+") and (signed := _signed(text, region)) is not None:
        return f"+{signed.decode()}" if signed else None
    one = None if region is None else _region(region)
    national = None if one is None else one.national(text)
    if one is None or national is None:
        return _valid_by_parse(text, region)
    return f"+{one.code}{national}" if national else None


@functools.lru_cache(maxsize=REMEMBERED)
def _valid_by_parse(text: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def is_written(text: str, region: str) -> bool:
    """`text` is a number that is valid in `region`, may be one of the country that it names, or is kept for drama."""
    return _is_written(text, _plain_digits(_in_ascii(text)), region)


def _is_written(text: str, digits: bytes, region: str) -> bool:
    """`is_written`, of which the digits are known: none where it is not plain."""
    coded, fiction = text[0] == "+", _IS_FICTION.fullmatch(digits[-10:]) is not None
    if fiction and _region(region).code == "44" and digits[:-10] in (b"", b"0"):
        return True
    if not coded and not (fiction and _region(region).may_be_british(digits)):
        national = _region(region).told(digits)
        return bool(national) if national is not None else _valid_by_parse(text, region) is not None
    if coded and (told := _is_possible(_plain_digits(_in_ascii(text[1:])), text, region)) is not None:
        return told
    number = _parsed(text, region)
    if number is None:
        return False
    if coded and phonenumbers.is_possible_number(number):
        return True
    return phonenumbers.is_valid_number(number) or (
        number.country_code == 44 and _IS_FICTION.fullmatch(b"%d" % number.national_number) is not None
    )


def _is_possible(digits: bytes, text: str, region: str) -> bool | None:
    """After a plus sign: the country named has numbers of as many digits, or, where none is, the number is valid without
    the sign; None where a parse must tell."""
    if len(digits) < _LEAST_VIABLE:
        return None
    code = _code_of(digits)
    if not code:
        return _region(region).told(digits) != "" and _valid_by_parse(text, region) is not None
    abroad = _abroad(int(code))
    if abroad.prefixed.match(digits, len(code)):
        return None
    return len(digits) - len(code) in abroad.possible


_LEAST_VIABLE = 3  # digits of what a parse takes for a number at all


def longest_written(text: str, groups: Sequence[tuple[int, int]], start: int, regions: tuple[str, ...]) -> int:
    """Where the longest number ends that starts there and ends with one of the groups of digits; 0 for none.

    >>> longest_written("212-555-0199 5", [(0, 3), (4, 7), (8, 12), (13, 14)], 0, ("US", "GB"))
    12
    """
    digits = _plain_digits(_in_ascii(text[start : groups[-1][1]]))
    perhaps, sure, _ = _perhaps_in(regions)
    count = len(digits)
    for first, last in reversed(groups):
        if digits and sure.fullmatch(digits, 0, count):
            return last
        if not digits or perhaps.fullmatch(digits, 0, count):
            said = text[start:last]
            known = digits[:count] or _plain_digits(_in_ascii(said))
            if any(_is_written(said, known, one) for one in regions):
                return last
        count -= last - first
    return 0


@functools.cache
def _perhaps_in(regions: tuple[str, ...]) -> tuple[re.Pattern[bytes], re.Pattern[bytes], int]:
    """Patterns of digits that may be a number in some region, and of those that certainly are one; the least digits of one."""
    perhaps, sure = (b"|".join(some) for some in zip(*(_region(one).patterns for one in regions), strict=True))
    return re.compile(perhaps), re.compile(sure), min(_region(one).least for one in regions)


@functools.lru_cache(maxsize=REMEMBERED)
def _parsed(candidate: str, region: str) -> Any:
    try:
        return phonenumbers.parse(candidate, region)
    except phonenumbers.NumberParseException:
        return None


def _verified(candidate: str, region: str) -> bool:
    """The matcher takes `candidate` for a number, whatever stands around it."""
    if candidate.startswith("+") and (signed := _signed(candidate, region)) is not None:
        return bool(signed) and _well_written(candidate)
    national = _region(region).national(candidate)
    if national == "":
        return False
    if national is None or (not _region(region).bare and len(national) == len(_plain_digits(candidate))):
        return _verified_by_parse(candidate, region)
    return ("(" not in candidate and ")" not in candidate) or _well_written(candidate)


def _well_written(candidate: str) -> bool:
    """With brackets in pairs, and no reference to pages."""
    return upstream._MATCHING_BRACKETS.fullmatch(candidate) is not None and not upstream._PUB_PAGES.search(candidate)


@functools.lru_cache(maxsize=REMEMBERED)
def _verified_by_parse(candidate: str, region: str) -> bool:
    if not _well_written(candidate) or _region(region).lacks_prefix(candidate):
        return False
    try:
        number = phonenumbers.parse(candidate, region, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return False
    return bool(_verify(phonenumbers.Leniency.VALID, number, candidate, None))  # it asks no matcher at this leniency


class PhoneFinder:
    """Finds phone numbers of some regions, and international ones.

    Unlike phonenumbers it does not give up after 65,535 candidates that are none.
    """

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)
        self._fewest = fewest_digits(self._regions)
        self._enough = _digits(self._fewest)

    def spans(self, text: str, windows: Sequence[tuple[int, int]] | None = None) -> list[tuple[int, int]]:
        """Spans of the first region, in order, then those of the next: with repeats. `windows`: those of the text.

        >>> PhoneFinder(["US"]).spans("call 212-555-0199 or +44 20 7946 0958")
        [(5, 17), (21, 37)]
        """
        windows = list(phone_windows(text, self._regions)) if windows is None else windows
        candidates: dict[int, tuple[int, str] | None] = {}
        digits = _in_ascii(text)
        return [span for region in self._regions for span in self._of_region(text, digits, windows, region, candidates)]

    def _of_region(
        self,
        text: str,
        digits: str,
        windows: Sequence[tuple[int, int]],
        region: str,
        candidates: dict[int, tuple[int, str] | None],
    ) -> Iterator[tuple[int, int]]:
        for index, end in windows:
            if end - index > _LONG and _PLAIN.fullmatch(digits, index, end):
                yield from self._in_list(text, digits, index, end, region)
                continue
            while True:
                if index not in candidates:
                    candidates[index] = self._candidate(text, index, end)
                found = candidates[index]
                if found is None:
                    break
                start, candidate = found
                span = _match(text, start, candidate, region, self._fewest)
                if span is not None:
                    yield span
                index = span[1] if span is not None else start + len(candidate)

    def _in_list(self, text: str, digits: str, first: int, last: int, region: str) -> Iterator[tuple[int, int]]:
        """Spans in a window that is plain in `digits`, the text with ASCII digits.

        Within it nothing adjoins a candidate that would keep it from being a number.
        """
        index, one = first, _region(region)
        simple = one.bare and _MIXED.search(digits, first, last) is None
        while True:
            if (
                simple
                and (word := _LISTED.match(digits, index, last))
                and one.is_number(word[1])
                and word.start(1) > first
            ):
                yield word.span(1)
                index = word.end()
                continue
            match = _PLAIN_CANDIDATE.search(digits, index, last)
            if match is None:
                return
            start, index = match.span()
            if start == first or index == last:
                span = _match(text, start, text[start:index], region, self._fewest)
            else:
                inner = _first_number(match.group(), region, self._fewest)
                span = inner and (start + inner[0], start + inner[1])
            if span is not None:
                yield span
                index = span[1]

    def _candidate(self, text: str, index: int, end: int) -> tuple[int, str] | None:
        """The next candidate between `index` and `end` that may hold a number: where it starts, and its text."""
        while (mark := _START.search(text, index, end)) is not None:
            match = upstream._PATTERN.match(text, mark.start())
            if match is None:
                index = mark.start() + 1
                continue
            candidate: str = match.group()
            if "/" in candidate or "\\" in candidate:
                second = _SECOND_NUMBER.search(candidate)
                candidate = candidate[: second.start()] if second else candidate
            if (
                len(candidate) >= self._fewest
                and self._enough.match(candidate)
                and not _hold_none(_in_ascii(candidate), self._regions)
            ):
                return match.start(), candidate
            index = match.start() + len(candidate)
        return None


@functools.cache
def fewest_digits(regions: tuple[str, ...]) -> int:
    """The least digits of a number that is valid when it is dialled in one of the regions."""
    return min([_LEAST_ABROAD, *(min(_lengths(region)) for region in regions)])


def phone_windows(text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where candidates lie that may hold a number of the regions, whole ones; no candidate reaches over their borders."""
    fewest = fewest_digits(regions)
    if text.isascii():
        encoded = text.encode()
        for start, end in spans(_ascii_windows(fewest), encoded):
            said = encoded[start:end].rstrip(_BEYOND_DIGITS)
            if not (said.isdigit() and _BEFORE_FICTION not in said and _hold_none(said.decode(), regions)):
                yield start, end
        return
    enough = _digits(fewest)
    for window in _WINDOW.finditer(text):
        start, end = window.span()
        if end - start >= fewest and enough.match(text, start, end):
            yield start, end


_BEYOND_DIGITS = bytes(set(range(128)) - set(b"0123456789"))
_BEFORE_FICTION = b"7700900"


@functools.cache
def _ascii_windows(fewest: int) -> Any:
    """A pattern of the windows of an ASCII text: from a character that a candidate may start with, all that one may hold."""
    other = f"[{_WITHIN.removeprefix('0-9')}]"
    return linear(rf"(?:[0-9]|[+(\[]{other}*[0-9])(?:{other}*[0-9]){{{fewest - 1}}}[{_WITHIN}]*")


@functools.cache
def _digits(count: int) -> re.Pattern[str]:
    """So many digits, whatever stands between them."""
    return re.compile(rf"(?:\D*+\d){{{count}}}")


def _match(text: str, start: int, candidate: str, region: str, fewest: int) -> tuple[int, int] | None:
    """The number that a candidate is, or the first within it, of at least `fewest` digits."""
    if "/" in candidate and upstream._SLASH_SEPARATED_DATES.search(candidate):
        return None
    end = start + len(candidate)
    if upstream._TIME_STAMPS_SUFFIX.match(text, end) and upstream._TIME_STAMPS.search(candidate):
        return None
    if "x" not in candidate.lower():  # what follows it, and dates above, the matcher takes in ASCII digits alone
        candidate = _in_ascii(candidate)
    first = _first_number(candidate, region, fewest)
    if first is None:
        return None
    if _stands(text, start + first[0], start + first[1]):
        return start + first[0], start + first[1]
    for one, other in _numbers(candidate, region, fewest):
        if _stands(text, start + one, start + other):
            return start + one, start + other
    return None


@functools.lru_cache(maxsize=REMEMBERED)
def _first_number(candidate: str, region: str, fewest: int) -> tuple[int, int] | None:
    return None if _hold_none(candidate, (region,)) else next(_numbers(candidate, region, fewest), None)


@functools.lru_cache(maxsize=REMEMBERED)
def _hold_none(candidate: str, regions: tuple[str, ...]) -> bool:
    """Its digits tell that neither the candidate nor a part of it is a number in any of the regions.

    Others may hold none all the same.
    """
    if len(candidate) > _LONG_ONE or _IN_PARTS.search(candidate):
        return False
    perhaps, _, least = _perhaps_in(regions)
    if any(mark in candidate and max(map(len, candidate.split(mark))) >= least for mark in " ."):
        return False
    digits = _plain_digits(candidate)
    return bool(digits) and (len(digits) < least or perhaps.fullmatch(digits) is None)


def _numbers(candidate: str, region: str, fewest: int) -> Iterator[tuple[int, int]]:
    """Where `candidate` is a number, whatever stands around it: all of it, then parts in the matcher's order."""
    if _PLAIN.fullmatch(candidate):
        yield from _plain_numbers(candidate, region, fewest)
        return
    if _verified(candidate, region):
        yield 0, len(candidate)
    yield from _inner_numbers(candidate, region, fewest)


def _plain_numbers(candidate: str, region: str, fewest: int) -> Iterator[tuple[int, int]]:
    """`_numbers` of a plain candidate."""
    one = _region(region)
    if one.may_hold(candidate) and _verified(candidate, region):
        yield 0, len(candidate)
    if " -" in candidate or "- " in candidate:
        yield from _inner_numbers(candidate, region, fewest)
        return
    for mark, part in one.parts:
        for match in part.finditer(candidate) if mark in candidate and one.may_hold_among(candidate, mark) else ():
            inner = match.group().rstrip(" -.")
            if _verified(inner, region):
                yield match.start(), match.start() + len(inner)


def _inner_numbers(candidate: str, region: str, fewest: int) -> Iterator[tuple[int, int]]:
    """Parts of `candidate` that are numbers, in the matcher's order."""
    for pattern in upstream._INNER_MATCHES:
        if pattern is _AT_DOTS and max(map(len, candidate.split("."))) < fewest:
            continue  # a part of it ends at the next full stop
        group = pattern.search(candidate)
        if group is None:
            continue
        if group.start() >= fewest:
            before = _without_end(candidate[: group.start()])
            if before and _verified(before, region):
                yield 0, len(before)
        while group is not None:
            first, last = group.span(1)
            if last - first >= fewest:
                inner = _without_end(group.group(1))
                if inner and _verified(inner, region):
                    yield first, first + len(inner)
            group = pattern.search(candidate, group.start() + 1)


def _without_end(candidate: str) -> str:
    unwanted = _UNWANTED_END.search(candidate)
    return candidate[: unwanted.start()] if unwanted else candidate


def _stands(text: str, start: int, end: int) -> bool:
    """No letter or sign of a sum adjoins a number."""
    lone = start == 0 or not _joins(text[start - 1]) or upstream._LEAD_PATTERN.match(text, start) is not None
    return lone and (end >= len(text) or not _joins(text[end]))


_OTHER_DIGIT = re.compile(r"(?![0-9])\d")


def _in_ascii(text: str) -> str:
    """The text with ASCII digits for those of other scripts: a parse reads both alike, and takes longer than looking."""
    return text if text.isascii() or _OTHER_DIGIT.search(text) is None else text.translate(_ascii_digits())


@functools.cache
def _ascii_digits() -> dict[int, str]:
    codes = (code for first, last in digits_beyond_ascii() for code in range(first, last + 1))
    return {code: str(unicodedata.decimal(chr(code))) for code in codes if chr(code).isdecimal()}


def _joins(letter: str) -> bool:
    if letter.isascii():
        return letter.isalpha() or letter in "%$"
    matcher = upstream.PhoneNumberMatcher
    return bool(matcher._is_invalid_punctuation_symbol(letter) or matcher._is_latin_letter(letter))
