"""Presidio's recognizers under the policy: what is found, what is left, and that bounds change nothing."""

from __future__ import annotations

import ipaddress
import itertools
import logging
import re
import socket
import time
from random import Random
from typing import Any

import presidio_analyzer.pattern_recognizer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from presidio_analyzer import Pattern, PatternRecognizer

from transforms.analyzer import (
    _LONGEST_ADDRESS,
    Analyzer,
    RedactionTimeout,
    _addresses,
    _Compiled,
    check_entities,
    known_entities,
)
from transforms.options import CustomRecognizer, RedactOptions
from transforms.phones import PhoneFinder
from transforms.placeholders import interface, merge_findings
from transforms.policy import (
    _CARD,
    _NAMING,
    _NO_ADDRESS,
    _STOP_WORDS,
    LocalTokens,
    RegexTokenizer,
    _checked,
    _is_card,
    _supported,
    _words_before,
    context_of,
    curated_recognizers,
    default_entities,
)
from transforms.presidio import predefined_recognizers
from transforms.redact import Redactor

LONG = 4096  # characters of a text that is long for a message

POSITIVE = [
    ("write to jane.doe@example.com.", "EMAIL_ADDRESS", "jane.doe@example.com"),
    ("see jane@example.com.gz", "EMAIL_ADDRESS", "jane@example.com.gz"),
    ("see jane@example.com-1", "EMAIL_ADDRESS", "jane@example.com-1"),
    ("我的邮箱是jane@example.com请回复", "EMAIL_ADDRESS", "jane@example.com"),
    ("order: 4777 7777 7777 7778", "CREDIT_CARD", "4777 7777 7777 7778"),  # a card all the same: it is written as one
    ("my card for the order: 4777777777777778", "CREDIT_CARD", "4777777777777778"),
    ("order paid with 4777777777777778", "CREDIT_CARD", "4777777777777778"),
    ("transaction 4777777777777778", "CREDIT_CARD", "4777777777777778"),
    ("卡号4111111111111111。", "CREDIT_CARD", "4111111111111111"),
    ("地址203.0.113.7吗", "IP_ADDRESS", "203.0.113.7"),
    ("write to jane@host.internal please", "EMAIL_ADDRESS", "jane@host.internal"),
    ("call 212-555-0199 now", "PHONE_NUMBER", "212-555-0199"),
    ("call me at (212) 555-0199", "PHONE_NUMBER", "(212) 555-0199"),
    ("reach me on +44 20 7946 0958", "PHONE_NUMBER", "+44 20 7946 0958"),
    ("+44 20 7946 0958 1.5 kg", "PHONE_NUMBER", "+44 20 7946 0958"),
    ("dial 212-555-0199 2 times", "PHONE_NUMBER", "212-555-0199"),
    ("07911 123456 07911 123457", "PHONE_NUMBER", "07911 123456"),
    ("it is 07911 123456", "PHONE_NUMBER", "07911 123456"),
    ("call 2147483647", "PHONE_NUMBER", "2147483647"),
    ("we run version 2\n203.0.113.7 is down", "IP_ADDRESS", "203.0.113.7"),
    ("the host in that section at 203.0.113.7", "IP_ADDRESS", "203.0.113.7"),
    ("my cell is 2125550199", "PHONE_NUMBER", "2125550199"),
    ("card 4111 1111 1111 1111, exp 04/27", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("amex 3782 822463 10005", "CREDIT_CARD", "3782 822463 10005"),
    ("mastercard 2223003122003222", "CREDIT_CARD", "2223003122003222"),
    ("GB82 WEST 1234 5698 7654 32 is my iban", "IBAN_CODE", "GB82 WEST 1234 5698 7654 32"),
    ("iban de89370400440532013000", "IBAN_CODE", "de89370400440532013000"),
    ("from 203.0.113.7.", "IP_ADDRESS", "203.0.113.7"),
    ("from 2001:db8:85a3::8a2e:370:7334", "IP_ADDRESS", "2001:db8:85a3::8a2e:370:7334"),
    ("mac 00:1A:2B:3C:4D:5E", "MAC_ADDRESS", "00:1A:2B:3C:4D:5E"),
    ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("0x52908400098527886E0F7030069857D2E4169EE7", "CRYPTO", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ("my ssn is 536-22-8726", "US_SSN", "536-22-8726"),
    ("ssn 536228726", "US_SSN", "536228726"),
    ("my bank account number is 123456789012", "US_BANK_NUMBER", "123456789012"),
    ("accounts: 12345678", "US_BANK_NUMBER", "12345678"),
    ("driver's license D12345678", "US_DRIVER_LICENSE", "D12345678"),
    ("my NHS number is 943 476 5919", "UK_NHS", "943 476 5919"),
    ("NI number QQ123456C no, AB123456C", "UK_NINO", "AB123456C"),
    ("https://example.com/?a=b&email=jane@example.com", "EMAIL_ADDRESS", "jane@example.com"),
    ("see example.com/home/jane@example.com", "EMAIL_ADDRESS", "jane@example.com"),
    ("user_email=jane@example.com", "EMAIL_ADDRESS", "jane@example.com"),
    ("bounce+jane=example.com@example.org", "EMAIL_ADDRESS", "bounce+jane=example.com@example.org"),
    ("r&d@example.com: hello", "EMAIL_ADDRESS", "r&d@example.com"),
    ("jane@example.com:files/x, git@example.com", "EMAIL_ADDRESS", "jane@example.com"),
    ("(4155552671)", "PHONE_NUMBER", "4155552671"),
    ('{"userPhone":4155552671}', "PHONE_NUMBER", "4155552671"),
    ("see http://203.0.113.7/x", "IP_ADDRESS", "203.0.113.7"),
    ("ip/203.0.113.7, /etc/hosts/203.0.113.8", "IP_ADDRESS", "203.0.113.7"),
    ("see /etc/hosts/203.0.113.8", "IP_ADDRESS", "203.0.113.8"),
    ('"browserVersion":"124.0.0.0","ip":"203.0.113.7"', "IP_ADDRESS", "203.0.113.7"),
    ("6826d030-8477-4936-91ce-b2b0a2c1d3e4 212-555-0199", "PHONE_NUMBER", "212-555-0199"),
    ("2026-11-22 212-555-0199", "PHONE_NUMBER", "212-555-0199"),
    ("call 658 - 4168415", "PHONE_NUMBER", "658 - 4168415"),
    ("212 - 555 - 0199", "PHONE_NUMBER", "212 - 555 - 0199"),
    ("at home + 44 20 7946 0958", "PHONE_NUMBER", "+ 44 20 7946 0958"),
    ("DEA bb1388568", "MEDICAL_LICENSE", "bb1388568"),
    ("I saw BB1388568", "MEDICAL_LICENSE", "BB1388568"),
    ("driver permit GH24988", "US_DRIVER_LICENSE", "GH24988"),
    ("jane(4155552671)", "PHONE_NUMBER", "4155552671"),
    ("send_sms(4155552671)", "PHONE_NUMBER", "4155552671"),
    ('{"home_tel": 4155552671}', "PHONE_NUMBER", "4155552671"),
    ('{"Jane": 4155552671}', "PHONE_NUMBER", "4155552671"),
    ('{"x": "4155552671"}', "PHONE_NUMBER", "4155552671"),
    ("4155552671 seems right", "PHONE_NUMBER", "4155552671"),
    ("acct-12345678901", "US_BANK_NUMBER", "12345678901"),
    ("my 4111.1111.1111.1111 card", "CREDIT_CARD", "4111.1111.1111.1111"),
    ("ssh root@203.0.113.7", "IP_ADDRESS", "203.0.113.7"),
    ("psexec corp/root@203.0.113.7, <203.0.113.8>", "IP_ADDRESS", "203.0.113.8"),
    ("ssh://git/root@203.0.113.7", "IP_ADDRESS", "203.0.113.7"),
    ("ip.src==203.0.113.7 or remoteHost == 203.0.113.8", "IP_ADDRESS", "203.0.113.7"),
    ("if host == 203.0.113.8", "IP_ADDRESS", "203.0.113.8"),
    ("host-203.0.113.7, 203.0.113.1-203.0.113.9", "IP_ADDRESS", "203.0.113.9"),
    ("to <203.0.113.7>, > 203.0.113.8", "IP_ADDRESS", "203.0.113.8"),
    ("IP 203.0.113.7.443 > 203.0.113.9.52344: Flags", "IP_ADDRESS", "203.0.113.9"),
    ("frankfurt-203.0.113.7.log", "IP_ADDRESS", "203.0.113.7"),
    ("we saw 203.0.113.7.", "IP_ADDRESS", "203.0.113.7"),
    ("mac-00-1A-2B-3C-4D-5E", "MAC_ADDRESS", "00-1A-2B-3C-4D-5E"),
]

NEGATIVE = [
    "device 357777777777774 is on",  # an IMEI
    "number 437777777777778 is open",  # Visa has no 15 digits
    "order 4777777777777778 shipped",  # passes every check of a card, as one number in fifty does
    "tracking number is 4777777777777778, parcel no. 47777777-77777778",
    "order 4155552671 has shipped",
    "ticket #2125550199",
    "epoch 1699999999, in ms 1699999999999",
    "1 2 3 4 5 6 7 8 9 0",
    "pi is 3.14159265358979 and e 2.718281828459045",
    "275.43397884615385",
    "95808 + 3036165596 = 3036261404",
    "28980-18480=10500",
    "10)**(-4342944813)",
    "2147483647, INT_MIN = -2147483648",
    "from +1980-02-29 on",
    "see section 1.2.3.4, sections 1.2.3.4 and 1.2.3.5; chapter no. 3.10.2.1",
    "gcc 3.7.4455, python 3.11.7, numpy 1.26",
    "version 1.2.3.4 of the driver, firmware version is now: 1.2.3.4, VERSION='1.2.3.4', release notes for 1.2.3.4",
    "np.array, os.path.join, main.py, x86, H2, 1699, 16807",
    "127.0.0.1, 0.0.0.0, ::1, 169.254.1.1, fe80::1, 255.255.255.0",
    "x[1::2], y[::2], std::vector",
    "public 12345678 published under a licence",
    "check the save file 12345678",
    "d41d8cd98f00b204e9800998ecf8427e aab1234563d98f00b204e9800998ecf8427",
    "2026-11-22T10:11:12Z, 11/22/2026, 10:30:00",
    "$1,234,567.89 and 12345678901 items",
    "https://example.com/a/b?c=d",
    "123e4567-e89b-12d3-a456-426614174000",
    "@app.route('/') and x @ y",
    "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
    '"browser_version":"124.0.0.0", "browserVersion": "124.0.0.0", Server: nginx/1.25.3.1',
    "SHA1 Fingerprint=AF:A2:8B:C0:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:E2:70",
    "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48, AF-A2-8B-C0-11-22-33-44",
    "git clone git@example.com:foo/bar.git or git+https://git@example.com/foo",
    '{"heapSizeLimit": 4345298944, \\"heapTotal\\": 4345298944, "orderNumber":"4345298944"}',
    "27.03.2003 14:55, 27-03-2003 14:55:10, 24-05-2014 14:07 and 2023-02-01  12, 13:19:00.954548113",
    "call after 27.03.2003 14:55",
    "6826d030-8477-4936-91ce-b2b0a2c1d3e4 and 6826d030-8477-4936-91ce-123456789012",
    "account 12345678-8477-4936-91ce-123456789012",
    "opencv-python==4.9.0.80 pkg[extra]>=1.2.3.4,<1.2.3.9 foo ~= 2.31.0.6 foo == 2.31.0.6 @scope/pkg@1.2.3.4 npm install pkg@1.2.3.4",
    "section-6.3.2.7, pkg-1.2.3.4.tar.gz, docs/section-6.3.2.7.html",
    "658 - 4168415, 367924563 + 2125551234, 1115 + 49510442 = x",
    "0.857 438 2329 and 2447.387582370878",
    "tt0068646 sql drivers (GH24988), driver HV0003 request 1549008086000",
    "default_rng(6823616729), sleep(6728032728), random.seed(6823616729)",
    "6728032728 bytes, 6728032728 kB, after 4155552671 tokens",
    '{"order_id":4155552671, "max_tokens": 4155552671, "x": 4155552671}, {\\"x\\":4155552671}',
    "token count 4155552671, max_tokens=4155552671",
    "AWS account 123456789012, account-settings-1549524548115",
    "1.3.6.1.2.1.1.1.0 and .1.3.6.1.4.1.80.79.71.42, 203.0.113.7.5",
]


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer(RedactOptions())


@pytest.fixture(scope="module")
def exact() -> Analyzer:
    return Analyzer(RedactOptions(exact=True))


def found(analyzer: Analyzer, text: str) -> list[tuple[str, str]]:
    return [(one.entity, text[one.start : one.end]) for one in merge_findings(analyzer.find(text))]


@pytest.mark.parametrize(("text", "entity", "value"), POSITIVE, ids=lambda value: value[:16])
def test_what_is_found(analyzer: Analyzer, exact: Analyzer, text: str, entity: str, value: str) -> None:
    assert (entity, value) in found(analyzer, text)
    assert found(exact, text) == found(analyzer, text)


@pytest.mark.parametrize("text", NEGATIVE)
def test_what_is_left(analyzer: Analyzer, exact: Analyzer, text: str) -> None:
    assert found(analyzer, text) == []
    assert found(exact, text) == []


fragments = st.sampled_from(
    [
        *(value for _, _, value in POSITIVE),
        *NEGATIVE,
        *(
            "my",
            "account",
            "passport",
            "call",
            "licence",
            "ssn",
            "version",
            " ",
            "\n",
            ".",
            ",",
            "-",
            "@",
            ":",
            "+",
            "ı",
            "ſ",
        ),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
texts = st.lists(fragments, max_size=12).flatmap(
    lambda parts: st.sampled_from([" ", "", "\n"]).map(lambda gap: gap.join(parts))
)


WORDS = st.sampled_from([*"7x²é_-.,()+٣", "42", "123", "2024", "the", "bank", "x7", "7x"])


@settings(max_examples=150)
@given(st.lists(WORDS, max_size=60), st.data())
def test_numbers_among_numbers_have_no_words_before_them(parts: list[str], data: st.DataObject) -> None:
    text = "".join(part + data.draw(st.sampled_from(["", " ", " ", "  -  "])) for part in parts)
    local, artifacts = LocalTokens(text), RegexTokenizer().process_text(text, "en")
    for start in [place for place, letter in enumerate(text) if not letter.isspace()] * 2:
        words, whole = local.words_before(start), _words_before(artifacts, start)
        assert words == whole or (not words and all(map(str.isdecimal, whole)))


@settings(max_examples=200)
@given(texts | st.text(max_size=40))
def test_tokens_of_a_whole_text_are_those_of_the_tokenizer(text: str) -> None:
    artifacts = RegexTokenizer().process_text(text, "en")
    starts, words, counts = LocalTokens(text)._whole
    said = [lemma[0].isalnum() and lemma not in _STOP_WORDS for lemma in artifacts.lemmas]
    assert starts == artifacts.tokens_indices
    assert list(words) == [lemma for lemma, one in zip(artifacts.lemmas, said, strict=True) if one]
    assert counts == [0, *itertools.accumulate(said)]


NAMES = [
    "version",
    "versions",
    "ver",
    "v",
    "release",
    "build",
    "firmware",
    "rev",
    "revision",
    "section",
    "chapter",
    "clause",
    "paragraph",
    "article",
    "appendix",
    "exhibit",
    "requirement",
    "\u00a7",
]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_names_a_number_is_looked_at(name: str) -> None:
    spellings = itertools.product(
        *({"i": "iI\u0131\u0130", "s": "sS\u017f", "k": "kK\u212a"}.get(one, one + one.upper()) for one in name)
    )
    named = [said for one in itertools.islice(spellings, 2000) if _NO_ADDRESS.search(said := f"{''.join(one)} ")]
    assert named
    assert all(map(_NAMING.search, map(str.lower, named)))


@given(st.text("0127a:.%/x", max_size=16) | st.ip_addresses().map(str) | st.ip_addresses().map(lambda one: f"{one}/8"))
@example("fe80::1%eth0")
@example("::ffff:10.0.0.1")
def test_an_address_is_read_as_an_interface(text: str) -> None:
    try:
        expected = ipaddress.ip_interface(text).ip
    except ValueError:
        expected = None
    assert interface(text) == expected
    assert str(interface(text)) == str(expected)


CONTEXT = context_of(("ssn", "social security", "national health service", "driver's license"))


@given(
    st.lists(
        st.sampled_from(
            [
                "ssn",
                "ssns",
                "social",
                "socials",
                "security",
                "national",
                "health",
                "healths",
                "service",
                "s",
                "driver",
                "a",
            ]
        )
    )
)
def test_a_phrase_of_context_stands_among_the_words(words: list[str]) -> None:
    singular = [word.removesuffix("s") for word in words]
    said = f" {' '.join(words)} | {' '.join(singular)} "
    expected = bool(CONTEXT.words & {*words, *singular}) or any(phrase in said for phrase in CONTEXT.phrases)
    assert _supported(words, CONTEXT) == expected


@given(st.from_regex(r"(?i)[A-Z\]]{0,4}[0-9]{0,9}[A-Z]{0,3}[0-9]{0,9}[A-Z]?", fullmatch=True))
def test_a_licence_holds_what_it_must(text: str) -> None:
    (licence,) = curated_recognizers(["US_DRIVER_LICENSE"], RedactOptions())
    flags = int(licence.global_regex_flags)
    for match in (match for one in licence.patterns for match in re.finditer(one.regex, text, flags)):
        assert licence.invalidate_result(match.group()) or re.search(licence.HOLDS, match.group(), flags)


@given(st.from_regex(r"[0-9]{3}[- ]?[0-9]{3}[- ]?[0-9]{4}", fullmatch=True))
def test_an_nhs_number_is_checked_as_presidio_checks_it(number: str) -> None:
    ours = next(one for one in curated_recognizers(["UK_NHS"], RedactOptions()))
    assert ours.validate_result(number) == predefined_recognizers.NhsRecognizer().validate_result(number)


@given(st.from_regex(r"(?a)[A-Za-z]{2}[0-9]{2}([ -]?[A-Za-z0-9]){8,31}", fullmatch=True))
def test_an_iban_is_checked_as_its_number_says(said: str) -> None:
    passing = []
    for length in range(15, len(said) + 1):
        plain = re.sub("[ -]", "", said[:length])
        number = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
        if said[length - 1].isalnum() and int(number) % 97 == 1:
            passing.append(length)
    assert _checked(said) == passing


@given(st.from_regex(r"[3-6][0-9]{3}([ ._-]?[0-9]{4}){2}[ ._-]?[0-9]{1,7}", fullmatch=True))
def test_a_card_number_passes_luhns_check(number: str) -> None:
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    passes = sum(doubled + digits[-1::-2]) % 10 == 0 and len(set(digits)) > 1
    plain = "".join(map(str, digits))
    assert _is_card(number) == (passes and _CARD.fullmatch(plain) is not None)
    assert _is_card(number) == _is_card(plain)


_IN_WORDS = ["a", "b.c", "john", "@", "@@", ".", "-", "--", "+", "_", "!", "中", "文字", "。", "，", '"', ":", "é", "ı", "~",
             "=", "x" * 30, "@acme.com", "@a-b.co.uk", "1", "\u0661", "|", "\u200b", "&amp;", "/"]  # fmt: skip


@settings(max_examples=150)
@given(texts)
def test_gates_and_regions_change_nothing(text: str) -> None:
    plain, bounded = _pair("default")
    assert merge_findings(plain.find(text)) == merge_findings(bounded.find(text))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_IN_WORDS), min_size=300, max_size=400), st.sampled_from(["", "。" * _LONGEST_ADDRESS]))
def test_addresses_in_long_words_are_those_of_the_whole_word(parts: list[str], rest: str) -> None:
    recognizer = predefined_recognizers.EmailRecognizer()
    compiled = _Compiled(recognizer, recognizer.patterns[0])
    word = "".join(parts) + rest
    whole = [match.span() for match in compiled._plain.finditer(word)]
    assert list(compiled._in_regions(word, _addresses(word, 0, len(word)))) == whole
    assert list(compiled.spans(f"é {word}")) == [(start + 2, end + 2) for start, end in whole]


@settings(max_examples=50)
@given(texts)
def test_nor_with_all_that_presidio_has_on(text: str) -> None:
    plain, bounded = _pair("presidio")
    text = text.replace(".", " . ") if text.count(".") > 20 else text
    assert merge_findings(plain.find(text)) == merge_findings(bounded.find(text))


_PAIRS: dict[str, tuple[Analyzer, Analyzer]] = {}


def _pair(entities: Any) -> tuple[Analyzer, Analyzer]:
    if entities not in _PAIRS:
        _PAIRS[entities] = (
            Analyzer(RedactOptions(entities=entities, exact=True)),
            Analyzer(RedactOptions(entities=entities)),
        )
    return _PAIRS[entities]


def test_windows_find_what_the_whole_text_holds(analyzer: Analyzer, exact: Analyzer) -> None:
    prose = "nothing to see here, move along " * 40
    text = prose.join(text for text, _, _ in POSITIVE)
    assert len(text) > 5 * LONG
    assert merge_findings(analyzer.find(text)) == merge_findings(exact.find(text))


colons = st.sampled_from(
    ["::", ":", "1", "fe80:", ":a1", "2001:db8::7", " ", "\n", "\x0b", "\x1c", "%eth0", "/64", ".5", "std::", "x"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(colons, max_size=12).map("".join))
@example("a::\x0bfe80::1%eth0 ::1")
def test_windows_of_words_find_what_the_whole_text_holds(analyzer: Analyzer, text: str) -> None:
    (known,) = (one for one in analyzer._known if one.entity == "IP_ADDRESS")
    for compiled in known._compiled:
        assert list(compiled.spans(text)) == [match.span() for match in compiled._plain.finditer(text)]


@pytest.mark.parametrize("offset", range(LONG - 30, LONG + 30, 7))
def test_a_value_across_the_edge_of_a_window(analyzer: Analyzer, offset: int) -> None:
    text = "x" * offset + " jane@example.com " + "y" * LONG * 2
    assert found(analyzer, text) == [("EMAIL_ADDRESS", "jane@example.com")]


SHAPES = [
    "a.",
    ".",
    "12 ",
    "12-",
    "a:",
    "1:",
    "a@",
    "@",
    "a@b.",
    "ab@cd.com ",
    "4",
    "GB82",
    "+1",
    "(2",
    "1.",
    "1.2.3.4 ",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_hostile_shapes_come_to_an_end(analyzer: Analyzer, shape: str) -> None:
    analyzer.find(shape * (16384 // len(shape)))


def test_url_is_bounded_and_nothing_of_a_hostile_one_stays() -> None:
    analyzer = Analyzer(RedactOptions(entities=("URL",)))
    assert found(analyzer, "see https://example.com/a.html now") == [("URL", "https://example.com/a.html")]
    text = "é " + "a." * 4000 + "com"
    assert sum(len(value) for _, value in found(analyzer, text)) == 8003
    assert found(analyzer, "a." * 4000) == []


def test_a_tuple_of_entities_is_just_these() -> None:
    analyzer = Analyzer(RedactOptions(entities=("EMAIL_ADDRESS", "DATE_TIME")))
    assert found(analyzer, "a@b.com on 2026-11-22, call 212-555-0199") == [
        ("EMAIL_ADDRESS", "a@b.com"),
        ("DATE_TIME", "2026-11-22"),
    ]


def test_countries_choose_phones_and_identifiers() -> None:
    text = "aadhaar 2345 6789 0124, tel 089 123456 78"
    assert found(Analyzer(RedactOptions(countries=())), text) == []
    for exact in (False, True):
        nowhere = Analyzer(RedactOptions(countries=(), exact=exact))
        text = "tel +49 30 23456 789, 030 23456 789, +1 212 555 0199 1.5 kg; (212) 555-0199"
        assert [value for _, value in found(nowhere, text)] == ["+49 30 23456 789", "+1 212 555 0199"]
    german = Analyzer(RedactOptions(countries=("DE", "IN")))
    assert [entity for entity, _ in found(german, "tel 089 12345678")] == ["PHONE_NUMBER"]


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\t", " ", ", ", ",", ";"])
@pytest.mark.parametrize("form", ["+1 212555{}", "212-555-{}", "(212) 555-{}", "+44 20 7946 {}", "212555{}"])
def test_numbers_one_after_the_other_are_all_found(analyzer: Analyzer, exact: Analyzer, mark: str, form: str) -> None:
    numbers = [form.format(last) for last in range(1234, 1243)]
    text = mark.join(numbers)
    if (mark, form) in ((" ", "212555{}"), (",", "212555{}")):
        return  # a row of numbers, or decimals
    expected = [("PHONE_NUMBER", number) for number in numbers]
    assert sorted(found(analyzer, text)) == sorted(expected)
    assert sorted(found(exact, text)) == sorted(expected)


@pytest.mark.parametrize("mark", [" ", ".", ",", ", ", " - ", "\n", "/"])
def test_nothing_is_found_in_what_a_list_of_numbers_leaves(analyzer: Analyzer, exact: Analyzer, mark: str) -> None:
    chooser, many, redactor = Random(8), 0, Redactor(RedactOptions())
    forms = ("212-555-%04d", "(415) 555-%04d", "+44 20 7946 0%03d", "646 555 %04d", "415267%04d", "+1 415 555 %04d")
    for _ in range(20):
        text = mark.join(chooser.choice(forms) % chooser.randrange(1000) for _ in range(20))
        numbers = merge_findings(analyzer.find(text))
        assert numbers == merge_findings(exact.find(text))
        places = [0, *itertools.chain.from_iterable((one.start, one.end) for one in numbers), len(text)]
        left = [text[start:end] for start, end in zip(places[::2], places[1::2], strict=True)]
        again = [piece for piece in left if analyzer.find(piece)]
        assert again == [] or mark == "."  # there a number may wait for another kind of value to go
        redactor.template(text)  # settles
        many += len(numbers)
    assert many > 250


def test_long_lists_of_numbers_take_time_in_proportion() -> None:
    """Rounds of looking again are as many for a long list as for a short one."""
    recognizer = next(one for one in curated_recognizers(["PHONE_NUMBER"], RedactOptions()))
    looked: list[int] = []
    matched = PhoneFinder(recognizer.supported_regions).spans

    def counted(text: str, windows: Any) -> list[tuple[int, int]]:
        looked.append(len(text))
        return matched(text, windows)

    recognizer.matched = counted
    text = ".".join(["646 555 0199", "+44 20 7946 0958 646 555 0123", "4152670123"] * 300)
    assert len(recognizer.spans(text)) >= 1200
    assert sum(looked) <= 2 * len(text)


def test_numbers_in_tables_are_found(analyzer: Analyzer) -> None:
    text = "id,phone\n1001,2125551234,x\n1002,212-555-1235,y\n1003,+442079460958,z\n"
    assert [value for _, value in found(analyzer, text)] == ["2125551234", "212-555-1235", "+442079460958"]
    assert found(analyzer, "0,2125551234 and 1.2125551234 and x=5+2125551234") == []


def test_thirteen_digits_are_an_identifier_before_a_card() -> None:
    """Visa's of long ago have as many digits as identifiers of South Africa, and the same check."""
    text = "identity card 4001015009081"
    assert found(Analyzer(RedactOptions(countries=("ZA",))), text) == [("ZA_ID_NUMBER", "4001015009081")]
    assert found(Analyzer(RedactOptions()), text) == [("CREDIT_CARD", "4001015009081")]


def test_numbers_of_companies_and_vehicles_are_nobodys_identity() -> None:
    australian = Analyzer(RedactOptions(countries=("AU",)))
    both = "400 000 071"  # passes both checks
    assert found(australian, f"my tax id is {both}") == [("AU_TFN", both)]
    assert found(australian, f"ACN {both}") == [("AU_ACN", both)]
    turkish = Analyzer(RedactOptions(countries=("TR",)))
    assert found(turkish, "between 12 and 2023, 34 ABC 123") == []
    assert found(turkish, "plate: 34 ABC 123") == [("TR_LICENSE_PLATE", "34 ABC 123")]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("M\u00fcller", "Mu\u0308ller M\u00fcller MU\u0308LLER"),
        ("Mu\u0308ller", "Mu\u0308ller M\u00fcller M\u00dcLLER"),
        ("Jos\u00e9 Garc\u00eda", "Jose\u0301_Garci\u0301a JOS\u00c9-GARC\u00cdA"),
        ("Strau\u00df", "Strau\u00df STRAUSS strauss"),
        ("STRAUSS", "Strau\u00df Strauss"),
        ("\u0130zmir", "\u0130ZMIR izmir Izmir"),
    ],
)
def test_denied_words_are_found_however_their_letters_are_written(word, said):
    options = RedactOptions(entities=("VIP",), custom=(CustomRecognizer(name="VIP", deny=(word,)),))
    for exact in (False, True):
        redacted = Redactor(options.model_copy(update={"exact": exact})).redact_text(said)
        assert set(redacted.split()) == {"<VIP_1>"}, exact


def test_a_denied_word_is_none_before_a_mark_of_its_last_letter():
    options = RedactOptions(entities=("VIP",), custom=(CustomRecognizer(name="VIP", deny=("Jose",)),))
    assert Redactor(options).redact_text("Jose\u0301 Jos\u00e9") == "Jose\u0301 Jos\u00e9"


def test_custom_patterns_and_deny_lists() -> None:
    custom = (
        CustomRecognizer(name="EMPLOYEE", pattern=r"E-\d{5}"),
        CustomRecognizer(name="PROJECT", deny=("Blue Moon", "Zed", "C++")),
    )
    analyzer = Analyzer(RedactOptions(entities=("EMPLOYEE", "PROJECT"), custom=custom))
    assert found(analyzer, "E-12345: zed zed, blue moon; Zedd c++") == [
        ("EMPLOYEE", "E-12345"),
        ("PROJECT", "zed"),
        ("PROJECT", "zed"),
        ("PROJECT", "blue moon"),
        ("PROJECT", "c++"),
    ]
    long = "zed " * 5000
    assert len(found(analyzer, long)) == 5000


DENIED = RedactOptions(
    entities=("PROJECT",),
    custom=(CustomRecognizer(name="PROJECT", deny=("Blue  Moon", "北京", "กรุงเทพ", "Acme", "O'Neil", "D’Arcy")),),
)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("blue moon, BLUE\u00a0\n moon; blue     moon, bluemoon", ["blue moon", "BLUE\u00a0\n moon"]),
        ("我在北京工作, 北京大学", ["北京", "北京"]),
        ("อยู่กรุงเทพมหานคร", ["กรุงเทพ"]),
        ("กรุงเทพ\u0e34", []),  # another syllable: a vowel follows above the last letter
        ("在Acme工作, Acmes, _Acme", ["Acme", "Acme"]),
        ("acme_plan.docx, my_acme2, v2_Acme_3", ["acme", "Acme"]),
        ("blue_moon-v2.pdf, Blue-Moon, blue/moon", ["blue_moon", "Blue-Moon"]),
        ("O’Neil, o'neil, O`NEIL, ONeil, O Neil; D'Arcy, dʼarcy", ["O’Neil", "o'neil", "O`NEIL", "D'Arcy", "dʼarcy"]),
        ("Acme公司, sAcme", ["Acme"]),
    ],
)
def test_denied_words_in_any_spelling(text: str, values: list[str], exact: bool) -> None:
    analyzer = Analyzer(DENIED.model_copy(update={"exact": exact}))
    assert found(analyzer, text) == [("PROJECT", value) for value in values]


def test_long_lists_of_words_are_ready_soon() -> None:
    """Hyperscan would take minutes."""
    words = tuple(f"Kessel{number} Strasse" for number in range(5_000))
    analyzer = Analyzer(RedactOptions(entities=("STREET",), custom=(CustomRecognizer(name="STREET", deny=words),)))
    start = time.process_time()
    text = "at kessel4999 strasse, KESSEL7\nSTRASSE, kessel7x strasse, kessel7 straße ſ"
    assert [value for _, value in found(analyzer, text)] == ["kessel4999 strasse", "KESSEL7\nSTRASSE"]
    assert time.process_time() - start < 10


def test_an_unknown_entity_names_the_near_miss() -> None:
    with pytest.raises(ValueError, match=r"'EMAIL_ADRESS' is no entity type; did you mean EMAIL_ADDRESS"):
        check_entities(RedactOptions(entities=("EMAIL_ADRESS",)))
    with pytest.raises(ValueError, match=r"'QQQQ' is no entity type; known are "):
        check_entities(RedactOptions(entities=("QQQQ",)))


def test_a_secret_among_the_entities_names_its_switch() -> None:
    with pytest.raises(ValueError, match=r"'JWT' is a secret; secrets are switched by redact\.secrets"):
        Analyzer(RedactOptions(entities=("JWT",)))


def test_known_entities_hold_the_custom_ones() -> None:
    known = known_entities(RedactOptions(custom=(CustomRecognizer(name="BADGE", deny=("x",)),)))
    assert {"BADGE", "EMAIL_ADDRESS", "IN_AADHAAR", "URL"} <= known


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("entity", ["EMAIL_ADDRESS", "IBAN_CODE"])
def test_a_time_out_is_raised_and_says_nothing_of_the_text(
    monkeypatch: pytest.MonkeyPatch, entity: str, exact: bool
) -> None:
    analyzer = Analyzer(RedactOptions(entities=(entity,), exact=exact))

    def time_out(*_: Any, **__: Any) -> None:
        raise TimeoutError("quotes canary")

    (recognizer,) = analyzer._engine.registry.recognizers if exact else [one.recognizer for one in analyzer._known]
    if entity == "IBAN_CODE":
        theirs = next(one for one in type(recognizer).__mro__ if one.__module__.startswith("presidio_analyzer"))
        module = __import__("sys").modules[theirs.__module__]
        monkeypatch.setattr(module.re, "finditer", time_out)
    else:
        pattern = recognizer.patterns[0]
        analyzer.find("a@b.com")
        slow = type("Slow", (), {"finditer": time_out})()
        if exact:
            monkeypatch.setattr(pattern, "compiled_regex", slow)
        else:
            monkeypatch.setattr(analyzer._known[0]._compiled[0], "_plain", slow)
    with pytest.raises(RedactionTimeout, match=r"^a recognizer's pattern timed out$") as caught:
        analyzer.find("é a@b.com GB82 WEST 1234 5698 7654 32")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_presidios_own_time_out_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio_analyzer.pattern_recognizer, "REGEX_TIMEOUT_SECONDS", 0.01)
    analyzer = Analyzer(RedactOptions(entities=("EMAIL_ADDRESS",), exact=True))
    evil = PatternRecognizer("EMAIL_ADDRESS", patterns=[Pattern("evil", r"(a?){40}(a+)+@", 0.5)])
    analyzer._engine.registry.add_recognizer(evil)
    with pytest.raises(RedactionTimeout):
        analyzer.find("a" * 4000 + "b @")


def test_presidios_loggers_are_mute(analyzer: Analyzer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        analyzer.find("my bank account number is 123456789012, mail a@b.com, GB82 WEST 1234 5698 7654 32")
        logging.getLogger("presidio-analyzer").error("canary")
    assert not [one for one in caplog.records if "presidio" in one.name or "tldextract" in one.name]


def test_nothing_touches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for entities in ("default", "presidio"):
        assert Analyzer(RedactOptions(entities=entities)).find("a@b.com")


@pytest.mark.parametrize(
    ("iban", "after"),
    [
        ("AT41 7460 7821 6003 2081", " please"),  # with `plea` the number passes its check too
        ("ES92 0513 6309 4599 5926 1741", " is my iban"),
        ("ES3802696652516956706489", " today"),
        ("BE77216313447936", " please"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_an_iban_is_as_long_as_its_country_says(iban: str, after: str, exact: bool) -> None:
    found = Analyzer(RedactOptions(exact=exact)).find(f"my account {iban}{after}")
    assert [(one.start, one.end) for one in found if one.entity == "IBAN_CODE"] == [(11, 11 + len(iban))]


@pytest.mark.parametrize("word", ["thanks", "please", "Bank", "is", "of them", "requested", "a b c"])
def test_a_word_after_an_iban_is_no_part_of_it(word: str) -> None:
    for iban in ("ES91 2100 0418 4502 0005 1332", "BE68539007547034", "de89370400440532013000"):
        text = f"use {iban} {word}"
        assert text[4 : 4 + len(iban)] in [text[one.start : one.end] for one in Analyzer(RedactOptions()).find(text)]


@pytest.mark.parametrize(
    ("before", "value", "after", "entity"),
    [
        ("**SSN:** ", "536228726", "", "US_SSN"),
        ("SSN: **", "536228726", "**", "US_SSN"),
        ("<td>SSN</td><td>", "536228726", "</td>", "US_SSN"),
        ("SSN -> ", "536228726", "", "US_SSN"),
        ("**NHS number:** ", "2631963539", "", "UK_NHS"),
        ('socialSecurityNumber: "', "536228726", '"', "US_SSN"),
        ('"routingNumber":', "054986073", "", "ABA_ROUTING_NUMBER"),
        ('bankAccount: "', "1582806790", '"', "US_BANK_NUMBER"),
        ("<passportNumber>", "C48957944", "</passportNumber>", "US_PASSPORT"),
        ("", "536989763", " is my SSN", "US_SSN"),
        ("", "713857323", " (SSN)", "US_SSN"),
        ("", "965198899", " is my checking account number", "US_BANK_NUMBER"),
        ("", "D2127719", " is my driver's license number", "US_DRIVER_LICENSE"),
        ("", "(212) 456-0199 ext 5", "", "PHONE_NUMBER"),
        ("[", "07549 016375", "]", "PHONE_NUMBER"),
        ("**", "2023257048", "**", "PHONE_NUMBER"),
        ("<td>", "4153200341", "</td>", "PHONE_NUMBER"),
        ("number = ", "07758641152", "", "PHONE_NUMBER"),
        ("Jo,", "07408080645", ",33", "PHONE_NUMBER"),
        ("kafka/", "10.1.2.3", ":9092", "IP_ADDRESS"),
        ("ssh -v ", "203.0.113.7", "", "IP_ADDRESS"),
        ("IP:", "2a00:1450:4009:80b::200e", "", "IP_ADDRESS"),
        ("value is:", "fd12:3456:789a::1", "", "IP_ADDRESS"),
        ("([IPv6:", "2a00:1450:4009:80b::200e", "])", "IP_ADDRESS"),
        ("v=spf1 ip6:", "2a00:1450:4009:80b::200e", " -all", "IP_ADDRESS"),
        ("src:", "2607:547c:1:2::3", "", "IP_ADDRESS"),
        ("IP6 ", "2001:db8:85a3::8a2e:370:7334", ".51234 > ", "IP_ADDRESS"),
        ("", "2607:f8b0:4005:80a::2004", ":51002", "IP_ADDRESS"),
        ("DB_SERVER=", "145.248.210.54", "", "IP_ADDRESS"),
        ("DNS SERVERS: ", "145.248.210.54", "", "IP_ADDRESS"),
        ("THE DRIVER IS ", "2001:db8::7", "", "IP_ADDRESS"),
        ("https://wa.me/", "919812345678", "", "PHONE_NUMBER"),
        ('{"phone": "', "4915123456789", '"}', "PHONE_NUMBER"),
        ("msisdn=", "447911123456", "", "PHONE_NUMBER"),
        ('{"wa_id": "', "919812345678", '"}', "PHONE_NUMBER"),
        ("caller_id: ", "2124567890", "", "PHONE_NUMBER"),
        ('setSsn("', "536228726", '")', "US_SSN"),
        ("Registrant Phone: ", "+1.4806242599", "", "PHONE_NUMBER"),
        ("my number ", "+1.4155552671", "", "PHONE_NUMBER"),
        ("Jo,", "+1.4155552671", ",33", "PHONE_NUMBER"),
        ("Téléphone", "+33612345678", "", "PHONE_NUMBER"),
        ("Acme Inc, p. ", "(415) 555-2671", "", "PHONE_NUMBER"),
        ("Kernel: ", "81.2.69.160", " dropped packet", "IP_ADDRESS"),
        ("ssh to git ", "10.0.0.4", "", "IP_ADDRESS"),
        ("Connect to oracle ", "203.12.114.54", "", "IP_ADDRESS"),
        ("com.example.host:server:", "81.2.69.160", "", "IP_ADDRESS"),
        ("account number ", "12345678", " messages", "US_BANK_NUMBER"),
        ("Transfer to account ", "123456789012", " people use", "US_BANK_NUMBER"),
        ("id,card\n1,", "4111111111111111", ",Jo", "CREDIT_CARD"),
        ("VALUES (1,", "4111111111111111", ")", "CREDIT_CARD"),
        ("id,ssn\n1,", "536228726", "", "US_SSN"),
        ("id,phone,age\n1,", "4155552671", ",33", "PHONE_NUMBER"),
        ("I have an issue: ", "4111111111111111", " was declined", "CREDIT_CARD"),
        ("867-5309 ", "4111 1111 1111 1111", "", "CREDIT_CARD"),
        ("payment for the order: ", "4111111111111111", "", "CREDIT_CARD"),
        ('{"phones": [', "2125550147", ", 4155552671]}", "PHONE_NUMBER"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_values_are_found_in_markup_fields_and_what_is_said_of_them(
    before: str, value: str, after: str, entity: str, exact: bool
) -> None:
    found = Analyzer(RedactOptions(exact=exact)).find(before + value + after)
    assert (len(before), len(before + value), entity) in [(one.start, one.end, one.entity) for one in found]


@pytest.mark.parametrize(
    "text",
    [
        "nginx/1.25.3.1, version 1.2.3.4, app v1.2.3.4",
        "2 * 536228726 + 5, x = 5 * 2125550199",
        "std::vector<int> a; foo::bar::baz; time 12:30:45:12; path:a:b:c:d; urn:isbn:0451450523",
        "under the license of ed25519",
        'ObjectIdentifier("2.5.29.14"), OID 2.5.29.14 and 1.3.6.1, <version>2.3.1.4</version>, OpenSSL 1.0.2.4',
        "Git 1.8.1.4 Release Notes, Oracle 12.2.0.1",
        "org.xerial.snappy:snappy-java:jar:1.1.10.4, org.xerial.snappy:snappy-java:1.1.10.4",
        "doi:10.1007/s00493-005-0003-8, https://doi.org/10.1111/0081-1750.00098 (pp. 274–928). 2015.",
        "x = +8.6245081536, [+53.15923781, +9.631940167], libstdc++6 (12.2.0-14)",
        "the license. (Closes: #1022096); does not permit more than 1000000 rows; checking took 12345678 ns",
        "Mobile app session 4917012345678, caller pid 4917012345678, phone sold, revenue 393331234567, mobil gtin 491701234567",
        "order 919812345678, id 919812345678, phone model 123456789012, timestamp 1700000000000",
        "order 4111111111111111 shipped, tracking 4111111111111111, x 0.4111111111111111, pi 3,14159265358979",
    ],
)
def test_what_only_looks_like_a_value_stays(text: str) -> None:
    assert Analyzer(RedactOptions()).find(text) == []


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("country", "entity", "text", "value"),
    [
        ("CA", "CA_SIN", "my SIN is 130-692-544", "130-692-544"),
        ("CA", "CA_SIN", "social insurance number: 130692544", "130692544"),
        ("CA", "", "population 130 692 544", ""),
        ("PH", "PH_TIN", "TIN 123-456-782", "123-456-782"),
        ("DE", "DE_TAX_ID", "Steuer-ID 65 929 970 489", "65 929 970 489"),
        ("TH", "TH_TNIN", "1-1017-00203-45-0", "1-1017-00203-45-0"),
        ("IT", "IT_FISCAL_CODE", "codice fiscale RSSMRA85T10A562S", "RSSMRA85T10A562S"),
        ("IT", "", "codice fiscale RSSMRA85T1\u0660A562S", ""),
    ],
)
def test_identifiers_of_countries(country: str, entity: str, text: str, value: str, exact: bool) -> None:
    analyzer = Analyzer(RedactOptions(countries=(country,), exact=exact))
    assert found(analyzer, text) == ([(entity, value)] if entity else [])


def test_every_country_with_recognizers_has_identifiers() -> None:
    for country in ("AU", "CA", "DE", "ES", "FI", "IN", "IT", "KR", "NG", "PH", "PL", "SE", "SG", "TH", "TR", "ZA"):
        assert len(default_entities(RedactOptions(countries=(country,)))) > len(
            default_entities(RedactOptions(countries=()))
        )
