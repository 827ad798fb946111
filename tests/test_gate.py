"""The gate lets through whatever could match; the fast path finds what Presidio's own engine finds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from re import _parser as parser  # type: ignore[attr-defined]

import phonenumbers
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz_redaction import MARKS, OPTIONS, VALUES, Maker, differences, differing_rows, make_batch
from transforms import gate
from transforms.analyzer import Analyzer
from transforms.gate import Gate, Source, cache_folder
from transforms.options import RedactOptions
from transforms.phones import PhoneFinder, phone_patterns
from transforms.relax import Unknown, holds_digits, relax, same_in_re2
from transforms.screen import Screen
from transforms.secrets import find_secrets, secret_sources

ENGINES = ["hyperscan", "re2"]


@pytest.mark.parametrize(
    ("pattern", "flags", "relaxed"),
    [
        (r"\bx{2,9}(?=y)", 0, r"\bx{2}"),
        (r"(?:z|)[0-9]+[a-c]?$", 0, "(?:[0-9])"),
        (r"z?\bx{2,9}y?\b", 0, r"\bx{2,9}y?\b"),
        (r"(?<![^1])(?!z)z?2(?<!b)y{1,2}(?![^3])", 0, r"(?:\A|[\x{a}1])z?2y{1,2}(?:[\x{a}3]|\z)"),
        (r"(\bab)x\1y", 0, r"(?:\bab)x(?:[Aa][Bb])y"),
        (r"([:-])ab\1x", 0, r"(?:[\x{2d}\x{3a}])ab(?:[\x{2d}\x{3a}])x"),
        ("(?i:k)1", 0, "(?:[Kk])1"),
        ("com|community|org", 0, "(?:com|org)"),
        ("[a-z][0-9]{3}|[a-z][0-9]{5,7}|[0-9]{9}[a-z]", 0, "(?:[a-z][0-9]{3}|[0-9]{9}[a-z])"),
        ("é|x", 0, "x"),
    ],
)
def test_what_patterns_become(pattern: str, flags: int, relaxed: str) -> None:
    assert relax(pattern, flags, only_ascii=True) == relaxed


@pytest.mark.parametrize(
    "pattern", [r"\b[0-9]{8}\b", r"(1\d{3}|2[0-9]{4,9})(?=x)[0-9]{3,4}", r"x[0-9]{8,}", r"é?\d(?:\d{7})+z"]
)
def test_where_long_numbers_are_held(pattern: str) -> None:
    maker = Maker(Random(0), [])
    for _ in range(200):
        drawn = maker._draw(parser.parse(pattern), {})
        assert re.search(r"\d{7}", drawn)
    assert holds_digits(pattern, 7)


@pytest.mark.parametrize(
    "pattern", ["[0-9]{7}", "[0-9]{4}-?[0-9]{4}", "[0-9a]{8}", r"\w{9}", "[0-9]{8}|a", "(?:[0-9]{9})?", "("]
)
def test_where_no_long_numbers_need_be(pattern: str) -> None:
    assert not holds_digits(pattern, 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_sources_that_share_a_pattern_fire_together(engine: str) -> None:
    made = Gate([Source(((r"\d{8}", 0),), (word,)) for word in ("bank", "tax", "bank")], engine=engine)
    assert [made.scan_str(f"{text} 12345678") for text in ("the bank", "tax at the bank", "no")] == [5, 7, 0]
    assert made.scan_str("the bank 1234567") == 0


@pytest.mark.parametrize("pattern", ["a*", r"\p{L}", "[[:alpha:]]", "x{,3}y", "(?P<a", "a(?i)b", r"(?a:\w)x"])
def test_what_is_not_understood_is_not_guessed(pattern: str) -> None:
    with pytest.raises(Unknown):
        relax(pattern, 0, only_ascii=False)
    assert Gate([Source(((pattern, 0),))]).always == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_long_lists_fire_as_short_ones_do(engine: str) -> None:
    words = [f"word{number}s" for number in range(5000)]
    one = Source(tuple((word, re.IGNORECASE) for word in words))
    other = Source((("other", 0),))
    gate = Gate([one, other], engine=engine)
    assert [gate.scan_str(text) for text in ("WORD4999ſ", "word7s é", "word5000s", "another é", "word1s other")] == [
        *(1, 1, 0, 2, 3)
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("letter", ["ı", "ſ", "K", "i", "S"])
def test_letters_that_fold_into_ascii(engine: str, letter: str) -> None:
    pattern = "[A-Z]7"
    assert regex.search(pattern, f"{letter}7", regex.IGNORECASE)
    assert Gate([Source(((pattern, re.IGNORECASE),))], engine=engine).scan_str(f"- {letter}7") == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_words_are_needed_where_they_are_named(engine: str) -> None:
    made = Gate([Source((("[0-9]{9}", 0),), ("bank", "kiss")), Source((("[0-9]{9}", 0),)), Source(())], engine=engine)
    assert made.always == 0b100
    assert made.scan_str("123456789") == 0b110
    assert made.scan_str("my Banking 123456789") == 0b111
    assert made.scan_str("Kſiſs KİſS 123456789") == 0b111
    assert made.scan_str("bank 12345678") == 0b100
    assert made.scan_str("") == 0b100


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closer_pattern_is_asked_where_a_quick_one_matches(engine: str) -> None:
    made = Gate([Source((("[0-9]{3}", 0),), closer=((r"\b[0-9]{3}-[0-9]{3}\b", 0),))], engine=engine)
    assert [made.scan_str(text) for text in ("555-0199 123", "555-019", "555-019x", "٥٥٥-٠١٩", "no")] == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_a_pattern_matches_passes_the_gate(engine: str) -> None:
    """For each pattern on its own: where `regex` matches, the gate is open."""
    chooser = Random(1)
    for options in OPTIONS[:4:3]:
        analyzer = Analyzer(options)
        sources = [
            source._replace(words=(), closer=()) for source in analyzer.sources if len(str(source.patterns)) < 2000
        ]
        made, maker = Gate(sources, engine=engine), Maker(chooser, [analyzer])
        compiled = [[regex.compile(*one) for one in source.patterns] for source in sources]
        matched = 0
        for _ in range(120):
            text = maker.text()
            fired = made.scan_str(text)
            for number, patterns in enumerate(compiled):
                if any(pattern.search(text) for pattern in patterns):
                    matched += 1
                    assert fired >> number & 1, (sources[number], text)
        assert matched > 100


@pytest.mark.skipif(gate.hyperscan is None, reason="Hyperscan has no wheel here")
@pytest.mark.parametrize(
    ("expression", "once"),
    [
        (r"(?:[Bb][Cc]1|[13])[0-9A-Za-z]{25}", False),
        (r"sk-[0-9a-z]{20,48}", False),
        (r"\b[0-9]{19}", True),
        (r"[0-9](?:[\x{20}\x{28}-\x{29}]{0,4}[0-9]){2}", True),
    ],
)
def test_what_is_told_of_once_a_text(expression: str, once: bool) -> None:
    assert bool(gate._once(expression)) == once
    scanner = gate._Hyperscan([gate._Term(3, (expression,)), gate._Term(5, ("[a-z]{1,3}1",))], True)
    text = (
        b"sk-0123456789 0 (0) " + 50 * b"bc1aZ3sk-x0" + 40 * b"sk-a1b2c3d4e5f6a1b2c3d4e5f6 3aaaaaaaaaaaaaaaaaaaaaaaaaa "
    )
    assert (
        scanner.scan(text + 30 * b"0123456789 " + 5 * b"0123456789") == 1 << 3 | 1 << 5
    )  # told of many times or once: the same bits


def test_rules_for_secrets_behind_the_gate() -> None:
    made = Gate(secret_sources())
    maker = Maker(Random(2), [Analyzer(RedactOptions())])
    secrets = [value for value in VALUES if find_secrets(value)]
    for number in range(200):
        text = (
            maker.text() + Random(number).choice(["", " ", " token ", " password = "]) + secrets[number % len(secrets)]
        )
        assert sorted(find_secrets(text, made.scan_str(text))) == sorted(find_secrets(text)), text


def test_many_texts_are_scanned_as_each_is_alone() -> None:
    analyzer = Analyzer(RedactOptions())
    made = Gate(analyzer.sources)
    maker = Maker(Random(3), [analyzer])
    texts = [maker.text() for _ in range(60)]
    assert {text.isascii() for text in texts} == {True, False}
    assert made.scan_strs(texts) == [made.scan_str(text) for text in texts]
    assert made.scan_strs([]) == []


numbers = st.lists(
    st.sampled_from(
        [*VALUES[:6], *MARKS, "0", "00 44", "011", "ext. 5", "x12", ";ext=9", "3/10/2011", "2012-01-02 08:00"]
    )
    | st.text("0123456789 -./()+٣", max_size=12),
    max_size=8,
).map("".join)


@settings(max_examples=100)
@given(numbers, st.sampled_from([("US", "GB"), ("DE", "IN"), ("AR", "MX", "IT"), ("AT",)]))
@example("2012-01-02 08:00:15 6502530000", ("US", "GB"))
def test_phone_numbers_are_those_of_phonenumbers(text: str, regions: tuple[str, ...]) -> None:
    expected = [
        (match.start, match.end)
        for region in regions
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=1)
    ]
    assert PhoneFinder(regions).spans(text) == expected
    assert not expected or all(re.search(pattern, text) for pattern in phone_patterns(regions))


def test_the_fast_path_finds_what_presidios_engine_finds() -> None:
    tried, found = differences(16, OPTIONS[:4:3], texts=150)
    assert tried >= 150
    assert found == []


@pytest.mark.parametrize("number", range(3))
def test_whole_batches_come_out_as_without_the_gate(number: int) -> None:
    chooser, options = Random(number), OPTIONS[number]
    maker = Maker(chooser, [Analyzer(options)])
    for _ in range(6):
        assert differing_rows(make_batch(chooser, maker), options) == []


def test_the_fuzzer_notices_a_blind_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test: a gate that misses the letters that fold into ASCII, or lets nothing through."""
    monkeypatch.setattr(Gate, "scan_str", lambda *_: 0)
    assert differences(16, OPTIONS[:1], texts=30)[1]


def test_the_fuzzer_notices_a_blind_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Screen, "_fired", lambda _, texts: [0] * len(texts))
    maker = Maker(Random(0), [Analyzer(OPTIONS[0])])
    assert any(differing_rows(make_batch(maker.chooser, maker), OPTIONS[0]) for _ in range(4))


def test_same_in_re2() -> None:
    assert same_in_re2(r"\b[0-9]{8,17}\b", re.IGNORECASE)
    for pattern in (r"(?<!a)b", r"a\s", "^a", r"(a)\1", "a*", "a{2,2000}", r"\u00a0", "a++"):
        assert not same_in_re2(pattern, 0), pattern


def test_the_database_is_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = [Source((("kept[0-9]{3}", 0),))]
    assert Gate(sources, engine="hyperscan").scan_str("kept123") == 1
    (path,) = cache_folder().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(gate, "_keep", None)  # it would be called
        assert Gate(sources, engine="hyperscan").scan_str("kept123") == 1
    for spoiled in (b"", path.read_bytes()[:-1], b"x" * 5000):
        path.write_bytes(spoiled)
        assert Gate(sources, engine="hyperscan").scan_str("kept123") == 1
        assert len(path.read_bytes()) > 500
    assert len(list(cache_folder().iterdir())) == 1


def test_databases_that_nobody_reads_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read, left = ([Source(((f"{name}[0-9]{{3}}", 0),))] for name in ("read", "left"))
    for sources in (read, left):
        Gate(sources, engine="hyperscan").scan_str("x")
    for path in cache_folder().iterdir():
        os.utime(path, (0, 0))
    Gate(read, engine="hyperscan").scan_str("x")
    Gate([Source((("new[0-9]{3}", 0),))], engine="hyperscan").scan_str("x")
    assert len(list(cache_folder().iterdir())) == 2


_SCAN = """
import sys
from transforms.gate import Gate, Source
print(Gate([Source((("started[0-9]{3}", 0),))], engine="hyperscan").scan_str("started123"))
"""


def test_of_processes_that_start_at_once_one_compiles(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", _SCAN]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    told = [one.communicate(timeout=60) for one in started]
    assert [out for out, _ in told] == ["1\n"] * 3
    assert sum("once a machine" in err for _, err in told) == 1


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gate, "_PATIENCE", 0.1)
    with gate._alone(cache_folder()):  # a process that compiles, and goes on compiling
        assert Gate([Source((("waited[0-9]{3}", 0),))], engine="hyperscan").scan_str("waited123") == 1
    monkeypatch.setattr(gate, "_PATIENCE", 60.0)
    holds = "import os, time; from transforms.gate import _alone, cache_folder; held = _alone(cache_folder()); held.__enter__(); "
    with subprocess.Popen([sys.executable, "-c", holds + "print(1, flush=True); time.sleep(60)"], stdout=-1) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        owner.kill()
        assert Gate([Source((("killed[0-9]{3}", 0),))], engine="hyperscan").scan_str("killed123") == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Gate([Source((("none[0-9]{3}", 0),))]).scan_str("none123") == 1


def test_a_pattern_too_large_for_hyperscan_is_always_on() -> None:
    large = "|".join(f"{number:05}x" for number in range(4000))
    made = Gate([Source(((large, 0),)), Source((("small", 0),))], engine="hyperscan")
    assert made.scan_str("nothing") == 0b01
    assert made.scan_str("small") == 0b11
