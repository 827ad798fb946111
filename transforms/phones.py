"""Phone numbers as phonenumbers finds them, without its second look at what cannot be one.

`PhoneFinder.spans` is `PhoneNumberMatcher` for each region: the same spans, found in one pass over the text. Where a
candidate begins and ends does not depend on the region, so candidates are found once; a candidate whose digits are too
few or too many for any number that could be valid there is not parsed; a parse is remembered.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import phonenumbers
import re2
from phonenumbers import phonenumbermatcher as upstream
from phonenumbers import phonenumberutil
from phonenumbers.phonemetadata import PhoneMetadata

REMEMBERED = 1 << 14  # candidates whose parse is remembered
_LEAST_ABROAD = 6  # digits of the shortest number with its country's code: +43, +49 and +98 have four more

_START = re.compile(r"[(\[\uff08\uff3b+\uff0b\d]")  # what a candidate may start with
_PLAIN = re.compile(r"[0-9 ()./\-]+")  # no plus sign, no extension, no digits of other scripts: easily counted
_NOT_DIGIT = re.compile(r"\D+")
_PUNCTUATION = upstream._PUNCTUATION  # at most four marks, between digits
_SECOND_NUMBER: re.Pattern[str] = phonenumberutil._SECOND_NUMBER_START_PATTERN
_UNWANTED_END: re.Pattern[str] = phonenumberutil._UNWANTED_END_CHAR_PATTERN
_verify: Any = upstream._verify


def phone_pattern(regions: Sequence[str]) -> str:
    """A pattern that is found wherever `PhoneFinder(regions)` or a parse in these regions finds a number."""
    least = min([_LEAST_ABROAD + 1, *(min(_lengths(region)) for region in regions)])
    sign = rf"[+\uff0b]{_PUNCTUATION}\d(?:{_PUNCTUATION}\d){{2}}"
    return rf"{sign}|\d(?:{_PUNCTUATION}\d){{{least - 1}}}"


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


@functools.cache
def _national(code: int) -> Any:
    """RE2 of the national numbers that are valid in some region of a country code."""
    patterns = set()
    for name in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, name)
        descriptions = [getattr(metadata, kind, None) for kind in _TYPES]
        patterns |= {one.national_number_pattern for one in descriptions if one and one.national_number_pattern}
    return re2.compile("|".join(f"(?:{one})" for one in sorted(patterns)) or "[^\\x00-\\x{10FFFF}]")


class _Region:
    """What of a region's metadata tells that digits cannot be a number there."""

    def __init__(self, region: str) -> None:
        metadata = PhoneMetadata.metadata_for_region(region, None)
        self._least = min(_lengths(region))
        self._abroad = re.compile(getattr(metadata, "international_prefix", None) or "")
        code = phonenumbers.country_code_for_region(region)
        self._code = str(code)
        self._national = _national(code)
        prefix = getattr(metadata, "national_prefix_for_parsing", None)
        simple = prefix is None or (prefix.isdigit() and not getattr(metadata, "national_prefix_transform_rule", None))
        self._prefix = (prefix or "") if simple else None

    def possible(self, candidate: str) -> bool:
        """False only where `candidate` is no valid number of the region, whether its prefixes are stripped or not."""
        if _PLAIN.fullmatch(candidate) is None:
            return True
        digits = _NOT_DIGIT.sub("", candidate)
        if len(digits) < self._least:
            return False
        if self._prefix is None or self._abroad.match(digits):
            return True
        rests = {digits, digits.removeprefix(self._code)}
        rests |= {rest.removeprefix(self._prefix) for rest in rests}
        return any(self._national.fullmatch(rest) is not None for rest in rests)


@functools.cache
def _region(region: str) -> _Region:
    return _Region(region)


@functools.lru_cache(maxsize=REMEMBERED)
def parsed(candidate: str, region: str) -> Any:
    """The number that `candidate` is in `region`, valid or not (not to be changed); None where it is no number.

    Also None where its digits are too few or too many for a valid number, written without a plus sign.
    """
    if not _region(region).possible(candidate):
        return None
    try:
        return phonenumbers.parse(candidate, region)
    except phonenumbers.NumberParseException:
        return None


@functools.lru_cache(maxsize=REMEMBERED)
def _verified(candidate: str, region: str) -> bool:
    """The matcher takes `candidate` for a number, whatever stands around it."""
    if not _region(region).possible(candidate):
        return False
    if upstream._MATCHING_BRACKETS.fullmatch(candidate) is None or upstream._PUB_PAGES.search(candidate):
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
        self._fewest = min([_LEAST_ABROAD, *(min(_lengths(region)) for region in regions)])

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Spans of the first region, in order, then those of the next: with repeats.

        >>> PhoneFinder(["US"]).spans("call 212-555-0199 or +44 20 7946 0958")
        [(5, 17), (21, 37)]
        """
        candidates: dict[int, tuple[int, str] | None] = {}
        return [span for region in self._regions for span in self._of_region(text, region, candidates)]

    def _of_region(
        self, text: str, region: str, candidates: dict[int, tuple[int, str] | None]
    ) -> Iterator[tuple[int, int]]:
        index = 0
        while True:
            if index not in candidates:
                candidates[index] = self._candidate(text, index)
            found = candidates[index]
            if found is None:
                return
            start, candidate = found
            span = _match(text, start, candidate, region)
            if span is not None:
                yield span
            index = span[1] if span is not None else start + len(candidate)

    def _candidate(self, text: str, index: int) -> tuple[int, str] | None:
        """The next candidate at or after `index` that has digits enough: where it starts, and its text."""
        while (mark := _START.search(text, index)) is not None:
            match = upstream._PATTERN.match(text, mark.start())
            if match is None:
                index = mark.start() + 1
                continue
            candidate: str = match.group()
            if "/" in candidate or "\\" in candidate:
                second = _SECOND_NUMBER.search(candidate)
                candidate = candidate[: second.start()] if second else candidate
            if len(candidate) >= self._fewest and len(_NOT_DIGIT.sub("", candidate)) >= self._fewest:
                return match.start(), candidate
            index = match.start() + len(candidate)
        return None


def _match(text: str, start: int, candidate: str, region: str) -> tuple[int, int] | None:
    """The number that a candidate is, or the first within it."""
    if upstream._SLASH_SEPARATED_DATES.search(candidate):
        return None
    end = start + len(candidate)
    if upstream._TIME_STAMPS.search(candidate) and upstream._TIME_STAMPS_SUFFIX.match(text, end):
        return None
    if _stands(text, start, candidate, region):
        return start, end
    for pattern in upstream._INNER_MATCHES:
        group = pattern.search(candidate)
        if group is None:
            continue
        before = _without_end(candidate[: group.start()])
        if _stands(text, start, before, region):
            return start, start + len(before)
        while group is not None:
            inner = _without_end(group.group(1))
            first = start + group.start(1)
            if _stands(text, first, inner, region):
                return first, first + len(inner)
            group = pattern.search(candidate, group.start() + 1)
    return None


def _without_end(candidate: str) -> str:
    unwanted = _UNWANTED_END.search(candidate)
    return candidate[: unwanted.start()] if unwanted else candidate


def _stands(text: str, start: int, candidate: str, region: str) -> bool:
    """`candidate` is a number, and no letter or sign of a sum adjoins it."""
    if not candidate or not _verified(candidate, region):
        return False
    end = start + len(candidate)
    lone = start == 0 or upstream._LEAD_PATTERN.match(candidate) is not None or not _joins(text[start - 1])
    return lone and (end >= len(text) or not _joins(text[end]))


def _joins(letter: str) -> bool:
    matcher = upstream.PhoneNumberMatcher
    return bool(matcher._is_invalid_punctuation_symbol(letter) or matcher._is_latin_letter(letter))
