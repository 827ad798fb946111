"""Numbers told without a parse are those that phonenumbers tells."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import phonenumbers
import pytest
from phonenumbers import phonenumbermatcher as upstream

from transforms.phones import (
    PhoneFinder,
    _hold_none,
    _numbers,
    _region,
    _signed,
    _verified,
    is_written,
    longest_written,
    phone_windows,
    valid_number,
)

_verify: Any = upstream._verify
REGIONS = ["US", "GB", "DE", "IN", "AU", "FR", "IT", "MX", "AR", "CA", "IM", "KZ", "RU", "JP"]


def by_parse(text: str, region: str) -> tuple[bool, str | None]:
    """What the matcher says of the text as a candidate, and the number in E.164 if it is valid."""
    try:
        number = phonenumbers.parse(text, region, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return False, None
    written = upstream._MATCHING_BRACKETS.fullmatch(text) is not None and not upstream._PUB_PAGES.search(text)
    stands = written and _verify(phonenumbers.Leniency.VALID, number, text, None)
    if not phonenumbers.is_valid_number(number):
        return bool(stands), None
    return bool(stands), phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def written(text: str, region: str) -> bool:
    """What `is_written` says, by a parse."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    digits = re.sub(r"\D", "", text)
    named = any(int(digits[:end]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE for end in (1, 2, 3) if digits[:1] != "0")
    possible = text[0] == "+" and named and phonenumbers.is_possible_number(number)
    fiction = (number.country_code, number.national_number // 1000) == (44, 7700900)
    return possible or fiction or phonenumbers.is_valid_number(number)


SCRIPTS = ["٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "0١2٣4٥6٧8٩"]


def drawn(chooser: Random, region: str) -> str:
    example = phonenumbers.example_number(region if chooser.random() < 0.7 else chooser.choice(REGIONS))
    assert example is not None
    digits = chooser.choice([str(example.national_number)] * 9 + ["7700900123"])
    digits = digits[: chooser.choice([3, 6, chooser.randint(1, 11)])]
    digits += "".join(chooser.choices("0123456789", k=max(0, chooser.choice([7, 9, 10, 10, 11]) - len(digits))))
    prefixed = (
        chooser.choice(["", "", "", "0", "1", "00", "44", "11", "15", "+", "+1", "011", "0044", "00447"]) + digits
    )
    marked = "".join(digit + (chooser.choice(" -./()") if chooser.random() < 0.2 else "") for digit in prefixed)
    return "(" * (chooser.random() < 0.2) + marked


@pytest.mark.parametrize("seed", range(4))
def test_plain_numbers_are_told_as_by_a_parse(seed: int) -> None:
    chooser = Random(seed)
    told = valid = 0
    for _ in range(500):
        region = chooser.choice([*REGIONS, *["US", "GB"] * 5])
        text = drawn(chooser, region)
        assert (_verified(text, region), valid_number(text, region)) == by_parse(text, region), (text, region)
        assert is_written(text, region) == written(text, region), (text, region)
        national = _region(region).national(text)
        told += national is not None
        valid += bool(national)
    assert told > 100
    assert valid > 10


@pytest.mark.parametrize("seed", range(4))
def test_numbers_after_a_sign_are_told_as_by_a_parse(seed: int) -> None:
    chooser, told, valid = Random(seed), 0, 0
    codes = [str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE]
    for _ in range(600):
        region = chooser.choice([*REGIONS, "US", "GB"])
        code = chooser.choice([*codes, *codes, "0", "00", "999", ""])
        example = phonenumbers.example_number(chooser.choice(REGIONS))
        if code in codes and chooser.random() < 0.7:
            numbers = [phonenumbers.example_number_for_type(one, kind) for kind in range(11)
                       for one in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]]  # fmt: skip
            example = chooser.choice([one for one in numbers if one] or [example])
        digits = str(example.national_number)[: chooser.choice([3, 6, 20, 20])]
        digits += "".join(chooser.choices("0123456789", k=chooser.choice([0, 0, 0, 1, 4])))
        digits = chooser.choice(["", "", "", "", "0", "1", code]) + digits
        text = "+" + "".join(one + chooser.choice(" -./()") * (chooser.random() < 0.1) for one in code + digits)
        assert (_verified(text, region), valid_number(text, region)) == by_parse(text, region), (text, region)
        assert is_written(text, region) == written(text, region), (text, region)
        told += _signed(text, region) is not None
        valid += bool(_signed(text, region))
    assert told > 200
    assert valid > 50


@pytest.mark.parametrize("seed", range(2))
def test_what_is_told_to_hold_none_holds_none(seed: int) -> None:
    chooser, told, held = Random(seed), 0, 0
    for _ in range(1000):
        region = chooser.choice([*REGIONS, "US", "GB"])
        text = drawn(chooser, region)[chooser.choice([0, 0, 1, 4]) :]
        text = chooser.choice(["", "", "203.0.113.7 ", "1234 "]) + text
        regions = (region, chooser.choice(["US", "GB", "FR"]))
        none, numbers = _hold_none(text, regions), [one for name in regions for one in _numbers(text, name, 6)]
        assert not (none and numbers), (text, regions)
        told += none
        held += bool(numbers)
    assert told > 50
    assert held > 50


@pytest.mark.parametrize("seed", range(2))
def test_the_longest_number_is_the_first_that_is_written_from_the_end(seed: int) -> None:
    chooser, found = Random(seed), 0
    for _ in range(300):
        regions = tuple(chooser.sample([*REGIONS, "US", "GB"], 2))
        text = " ".join(drawn(chooser, chooser.choice(regions)).replace("(", "") for _ in range(2))
        text = text.translate(dict(zip(b"0123456789", SCRIPTS[2], strict=True))) if chooser.random() < 0.2 else text
        groups = [match.span() for match in re.finditer(r"\d+", text)]
        ends = [end for _, end in groups[::-1] if any(written(text[:end], region) for region in regions)]
        assert longest_written(text, groups, 0, regions) == next(iter(ends), 0), (text, regions)
        found += bool(ends)
    assert found > 100


def listed(chooser: Random, regions: tuple[str, ...]) -> str:
    """Numbers and what is none, of digits and few marks, long enough that candidates are cut within."""
    marks = chooser.choice(["0123456789 .-", "0123456789 .-/()+", "0123456789  ", "0123456789-"])
    parts = []
    for _ in range(chooser.choice([1, 3, 10, 40])):
        kind = chooser.randrange(8)
        if kind < 4:
            number = drawn(chooser, chooser.choice(regions))
            parts.append(number if kind < 2 else number.strip("(+").replace("(", "-").replace(")", "-"))
        elif kind == 4:
            parts.append("".join(chooser.choices(marks, k=chooser.randint(1, 40))))
        elif kind == 5:
            parts.append("".join(chooser.choices("0123456789", k=chooser.choice([3, 9, 20, 21, 60]))))
        elif kind == 6:
            parts.append(chooser.choice(" .-") * chooser.randint(1, 6))
        elif chooser.random() < 0.2:
            parts.append(chooser.choice(["2012-01-02 08", ":00", "3/10/2011", *"a%$é(x#,", " "]))
    text = chooser.choice([" ", " ", "-", "", ". "]).join(parts)
    if chooser.random() < 0.3:
        text = text.translate(dict(zip(b"0123456789", chooser.choice(SCRIPTS), strict=True)))
    return text


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_lists_are_those_of_phonenumbers(seed: int) -> None:
    chooser = Random(seed)
    found = 0
    for _ in range(120):
        regions = chooser.choice([("US", "GB"), ("US", "GB"), ("DE", "IN"), ("AR", "MX", "IT"), ("FR", "AT"), ("CA",)])
        text = listed(chooser, regions)
        expected = [
            (match.start, match.end)
            for region in regions
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=1)
        ]
        assert PhoneFinder(regions).spans(text) == expected, (text, regions)
        found += len(expected)
    assert found > 50


def test_dates_are_of_ascii_digits_alone() -> None:
    """As phonenumbers takes them: what it passes over for a date is a number in other digits."""
    found = {}
    for text in ("2012-01-02 08", f"5 {'212-555-0199 ' * 9}2012-01-02 08"):
        other = text.translate(dict(zip(b"0123456789", SCRIPTS[1], strict=True)))
        for said in (f"{text}:00", f"{other}:00"):
            matches = phonenumbers.PhoneNumberMatcher(said, "US", leniency=1)
            found[said] = [(match.start, match.end) for match in matches]
            assert PhoneFinder(["US"]).spans(said) == found[said]
    assert list(map(len, found.values())) == [0, 1, 4, 10]


@pytest.mark.parametrize("mark", ["x", "X", " ext. "])
def test_extensions_are_of_ascii_digits_alone(mark: str) -> None:
    """As phonenumbers takes them where it looks at what follows an `x`; digits of the number may be any."""
    number, extension = "1 838 572 6932", "3698"
    other = dict(zip(b"0123456789", SCRIPTS[1], strict=True))
    spans = {}
    for said in (f"{number}{mark}{extension}", f"{number}{mark}{extension.translate(other)}", number.translate(other)):
        spans[said] = [(one.start, one.end) for one in phonenumbers.PhoneNumberMatcher(said, "US", leniency=1)]
        assert PhoneFinder(["US"]).spans(said) == spans[said]
    assert list(map(len, spans.values())) == [1, 0, 1]


def test_windows_hold_whole_candidates() -> None:
    text = "3 to 12 kg: 212-555-0199 ext. 5, then 44 (20) 7946\n0958 and v2"
    windows = [text[start:end] for start, end in phone_windows(text, ("US", "GB"))]
    assert windows == ["212-555-0199 ext. 5, t", "44 (20) 7946"]
