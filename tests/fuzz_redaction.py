"""Tries to make the fast path of redaction find anything else than Presidio's own AnalyzerEngine.

    .venv/bin/python -m tests.fuzz_redaction --seconds 600

Texts are made of strings drawn from the recognizers' own patterns, context words, values, marks and letters that fold
into ASCII, mutated and put together. For each text the findings of both are compared; for some, whole batches.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from random import Random
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pyarrow as pa

from transforms.analyzer import Analyzer
from transforms.options import CustomRecognizer, RedactOptions
from transforms.redact import redact_records
from transforms.schema import RECORDS

CUSTOM = (
    CustomRecognizer(name="EMPLOYEE", pattern=r"(?i)\bemp[- ]?\d{5}\b"),
    CustomRecognizer(name="PROJECT", deny=("Blue Kiss", "C++", "ısık", "x", "Öl Straße")),
)
OPTIONS = (
    RedactOptions(),
    RedactOptions(custom=CUSTOM, threshold=0.3),
    RedactOptions(countries=("DE", "IN", "AU", "ES", "SE")),
    RedactOptions(entities="presidio"),
    RedactOptions(entities=("URL", "DATE_TIME", "EMAIL_ADDRESS", "US_BANK_NUMBER", "IBAN_CODE"), threshold=0.01),
)
VALUES = (
    *("jane.doe@example.com", "212-555-0199", "+44 20 7946 0958", "(212) 555-0199", "07911 123456", "2125550199"),
    *(
        "4111 1111 1111 1111",
        "378282246310005",
        "GB82 WEST 1234 5698 7654 32",
        "203.0.113.7",
        "2001:db8::8a2e:370:7334",
    ),
    *(
        "00:1A:2B:3C:4D:5E",
        "536-22-8726",
        "943 476 5919",
        "AB123456C",
        "123456789012",
        "D12345678",
        "0x" + "5aAeb6" * 7,
    ),
    *("https://example.com/a.html?b=c", "ghp_" + "aB3dE6gH9j" * 4, "password: hunter2!", "AKIAIOSFODNN7EXAMPLE", "::"),
    *(
        "2026-11-22",
        "john (at) example dot com",
        "％４１",
        "&#64;",
        "٠١٢٣٤٥٦٧٨٩",
        "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "<EMAIL_ADDRESS_1>",
    ),
)
MARKS = (*" \n\t.,:;-_/\\()[]{}<>+=@#$%&'\"|~", " ", "\u200b", "。", "、", "\r\n", "\x1c", "\u2028", "٫")
LETTERS = "ıſKİéßЖ中かー٣९１ǅ𝟙😀\u0301\x00"
FOLDS = {"i": "ıİ", "s": "ſ", "k": "K"}


class Maker:
    """Draws texts, from the recognizers of some analyzers."""

    def __init__(self, chooser: Random, analyzers: Sequence[Analyzer]) -> None:
        self.chooser = chooser
        patterns = {pattern for one in analyzers for source in one.sources for pattern, _ in source.patterns}
        recognizers = [known.recognizer for one in analyzers for known in one._known]
        patterns |= {pattern.regex for one in recognizers for pattern in getattr(one, "patterns", ())}
        self._parsed = [parser.parse(pattern) for pattern in sorted(patterns) if len(pattern) < 2000]
        self._words = sorted({word for one in analyzers for source in one.sources for word in source.words})

    def text(self) -> str:
        """A text of one to ten parts."""
        joint = self.chooser.choice(
            [" ", " ", "", "\n", ": ", ", ", "。", f" {'so it was ' * 15}", "_" * 70, "a1" * 30]
        )
        return joint.join(self._part() for _ in range(self.chooser.choice([1, 1, 2, 3, 4, 6, 10])))

    def _part(self) -> str:
        choose = self.chooser
        kind = choose.random()
        if kind < 0.03:
            made = choose.choice(" -.").join(choose.choices([*VALUES[1:7], "44", "123-4567"], k=choose.randint(5, 12)))
        elif kind < 0.35:
            made = self._draw(choose.choice(self._parsed), {})
        elif kind < 0.55:
            made = choose.choice(VALUES)
        elif kind < 0.75:
            made = choose.choice(self._words) if self._words else "account"
        elif kind < 0.85:
            made = "".join(choose.choices("0123456789", k=choose.randint(1, 20)))
        else:
            made = "".join(choose.choices([*MARKS, *LETTERS, "a", "Z", "7"], k=choose.randint(0, 6)))
        return self._mutated(made) if choose.random() < 0.4 else made

    def _mutated(self, text: str) -> str:
        choose = self.chooser
        kind = choose.randrange(5)
        if kind == 0:
            return "".join(choose.choice([*FOLDS.get(one.lower(), ""), one]) for one in text)
        if kind == 1:
            return choose.choice([text.upper(), text.lower(), text.swapcase(), text.title()])
        if not text:
            return text
        place = choose.randrange(len(text))
        if kind == 2:
            return text[:place] + choose.choice([*MARKS, *LETTERS]) + text[place:]
        if kind == 3:
            return text[:place] + text[place + 1 :]
        return text[:place] + choose.choice("0123456789abkisKIS") + text[place + 1 :]

    def _draw(self, parsed: Any, groups: dict[int, str]) -> str:
        return "".join(self._draw_item(kind, argument, groups) for kind, argument in parsed)

    def _draw_item(self, kind: Any, argument: Any, groups: dict[int, str]) -> str:
        choose = self.chooser
        if kind is op.LITERAL:
            return chr(argument)
        if kind is op.IN:
            return self._draw_char(argument)
        if kind is op.BRANCH:
            return self._draw(choose.choice(argument[1]), groups)
        if kind is op.SUBPATTERN:
            made = self._draw(argument[3], groups)
            groups[argument[0]] = made
            return made
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            least, most, body = argument
            count = choose.randint(least, min(int(most), least + choose.choice([0, 1, 3, 12])))
            return "".join(self._draw(body, groups) for _ in range(count))
        if kind is op.GROUPREF:
            return groups.get(argument, "")
        if kind in (op.ANY, op.NOT_LITERAL):
            return choose.choice("aZ7 -é")
        return ""

    def _draw_char(self, members: Any) -> str:
        choose = self.chooser
        if members[0][0] is op.NEGATE:
            return choose.choice("aZ7 -é")
        kind, value = choose.choice(members)
        if kind is op.LITERAL:
            return chr(value)
        if kind is op.RANGE:
            return chr(choose.randint(*value))
        return {op.CATEGORY_DIGIT: choose.choice("0123456789٣"), op.CATEGORY_SPACE: " "}.get(
            value, choose.choice("aZ_é")
        )


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return type(error).__name__


CLEAN = ("hello there", "it was 5 to 12, or 3", "thanks, see you tomorrow!", "é ü", "{}", "ok", "user", "v2 of 2026")
SPLIT = (("my number is 212-555", "0199"), ("card: 4111 1111", "1111 1111"), ("jane.doe", "@example.com"))


def make_batch(chooser: Random, maker: Maker) -> pa.RecordBatch:
    """One to twelve rows, clean ones and others, whose parts are clean or not: turns, tools, arguments, metadata."""

    def text() -> str:
        made = chooser.choice(CLEAN) if chooser.random() < 0.6 else maker.text()
        return made if is_bounded(made) else ""

    def value(depth: int = 0) -> Any:
        kind = chooser.randrange(6 if depth < 2 else 4)
        if kind < 4:
            return (text(), text(), chooser.choice([True, None, 7, 2125550199, -4.5, 1e22]), chooser.choice(VALUES))[
                kind
            ]
        if kind == 4:
            return [value(depth + 1) for _ in range(chooser.randrange(3))]
        names = chooser.choices(["a", "phone", "password", "user_id", "note", text(), "pin"], k=chooser.randrange(4))
        return {name: value(depth + 1) for name in names}

    def some(made: Callable[[], Any], share: float) -> Any:
        return made() if chooser.random() < share else None

    def said(one: Any) -> str:
        return json.dumps(one, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def call() -> dict[str, Any]:
        return {"id": some(text, 0.5), "type": "function", "function": {"name": text(), "arguments": said(value())}}

    def message(content: str) -> dict[str, Any]:
        return {
            "role": chooser.choice(["user", "assistant", "user", "assistant", "tool", text()]),
            "content": content,
            "reasoning": some(text, 0.1),
            "name": some(text, 0.1),
            "tool_calls": some(lambda: [call() for _ in range(chooser.randrange(3))], 0.15),
            "tool_call_id": some(text, 0.1),
        }

    def row() -> dict[str, Any]:
        contents = [text() for _ in range(chooser.randrange(5))]
        if chooser.random() < 0.2:
            contents += chooser.choice(SPLIT)
        metadata = {"note": value(), "model": "m-2", chooser.choice(["b", "ssn", text()]): value()}
        return {
            "line": 0,
            "offset": 0,
            "length": 0,
            "kind": "production",
            "reasons": ["empty_turn"] if chooser.random() < 0.05 else [],
            "messages": [message(content) for content in contents],
            "tools": some(lambda: said([value()]), 0.2),
            "metadata": said(metadata) if chooser.random() < 0.6 else "{}",
        }

    return pa.RecordBatch.from_pylist([row() for _ in range(chooser.randint(1, 12))], RECORDS)


def is_bounded(text: str) -> bool:
    """Without the long words that are bounded on purpose."""
    return max(map(len, re.findall(r"\S+", text)), default=0) <= 300


def differing_rows(batch: pa.RecordBatch, options: RedactOptions) -> list[str]:
    """The rows of the batch that come out otherwise where the gate and its screen are used."""
    plain, fast = (
        outcome(lambda exact=exact: redact_records(batch, options.model_copy(update={"exact": exact})))
        for exact in (True, False)
    )
    if plain == fast:
        return []
    if isinstance(plain, str) or isinstance(fast, str):
        return [f"{plain} and {fast}"]
    rows = zip(batch.to_pylist(), plain.records.to_pylist(), fast.records.to_pylist(), strict=True)
    return [repr(row) for row, one, other in rows if one != other] or [f"{plain.entities} and {fast.entities}"]


def differences(
    seed: int, chosen: Sequence[RedactOptions] = OPTIONS, *, texts: int | None = None, seconds: float = 1e9
) -> tuple[int, list[tuple[int, str]]]:
    """How many texts were tried, and those on which the two disagree, with the number of the options."""
    pairs = [(Analyzer(one.model_copy(update={"exact": True})), Analyzer(one)) for one in chosen]
    maker = Maker(Random(seed), [fast for _, fast in pairs])
    tried, found = 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end and (texts is None or tried < texts):
        for text in [maker.text() for _ in range(3)]:
            number = tried % len(pairs)
            exact, fast = pairs[number]
            tried += 1
            if not is_bounded(text):
                continue
            if outcome(lambda: sorted(exact.find(text))) != outcome(lambda: sorted(fast.find(text))):  # noqa: B023
                found.append((number, text))
        if tried % 40 == 0:  # a batch takes as long as a hundred texts
            number = tried // 40 % len(chosen)
            found += [(number, row) for row in differing_rows(make_batch(maker.chooser, maker), chosen[number])]
    return tried, found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=None)
    options = arguments.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    tried, found = differences(seed, seconds=options.seconds)
    print(f"seed {seed}: {tried} texts, {len(found)} differ")
    for number, text in found[:10]:
        print(f"  options {number}: {text!r}")  # made texts, nobody's
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
