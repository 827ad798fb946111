"""Tries to make the fast path of redaction find anything else than Presidio's own AnalyzerEngine.

    .venv/bin/python -m tests.fuzz_redaction --seconds 600

Texts are made of strings drawn from the recognizers' own patterns, context words, values, marks and letters that fold
into ASCII, mutated and put together. For each text the findings of both are compared; for some, whole batches.
"""

from __future__ import annotations

import argparse
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
    CustomRecognizer(name="PROJECT", deny=("Blue Kiss", "C++", "ısık", "x")),
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
        self._chooser = chooser
        patterns = {pattern for one in analyzers for source in one.sources for pattern, _ in source.patterns}
        self._parsed = [parser.parse(pattern) for pattern in sorted(patterns) if len(pattern) < 2000]
        self._words = sorted({word for one in analyzers for source in one.sources for word in source.words})

    def text(self) -> str:
        """A text of one to ten parts."""
        joint = self._chooser.choice(
            [" ", " ", "", "\n", ": ", ", ", "。", f" {'so it was ' * 15}", "_" * 70, "a1" * 30]
        )
        return joint.join(self._part() for _ in range(self._chooser.choice([1, 1, 2, 3, 4, 6, 10])))

    def _part(self) -> str:
        choose = self._chooser
        kind = choose.random()
        if kind < 0.35:
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
        choose = self._chooser
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
        choose = self._chooser
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
        choose = self._chooser
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


def batch_of(texts: Sequence[str]) -> pa.RecordBatch:
    """One row whose turns, arguments and metadata say the texts."""
    import json

    place = {"line": 0, "offset": 0, "length": 0, "reasons": [], "kind": "production"}
    messages = [{"role": "user", "content": text} for text in texts]
    said = {"note": texts[0], "phone": texts[-1], "n": 2125550199, "nested": [{"password": texts[0][:40]}]}
    metadata = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return pa.RecordBatch.from_pylist([place | {"messages": messages, "metadata": metadata}], RECORDS)


def differences(
    seed: int, chosen: Sequence[RedactOptions] = OPTIONS, *, texts: int | None = None, seconds: float = 1e9
) -> tuple[int, list[tuple[int, str]]]:
    """How many texts were tried, and those on which the two disagree, with the number of the options."""
    pairs = [(Analyzer(one.model_copy(update={"exact": True})), Analyzer(one)) for one in chosen]
    maker = Maker(Random(seed), [fast for _, fast in pairs])
    tried, found = 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end and (texts is None or tried < texts):
        recent = [maker.text() for _ in range(3)]
        for text in recent:
            number = tried % len(pairs)
            exact, fast = pairs[number]
            tried += 1
            if max(map(len, re.findall(r"\S+", text)), default=0) > 300:
                continue  # the long words that are bounded on purpose
            if outcome(lambda: sorted(exact.find(text))) != outcome(lambda: sorted(fast.find(text))):  # noqa: B023
                found.append((number, text))
        if tried % 4 == 0:
            number = tried // 4 % min(len(chosen), 3)
            options = chosen[number]
            batch = batch_of(recent)
            plain = outcome(lambda: redact_records(batch, options.model_copy(update={"exact": True})))  # noqa: B023
            if plain != outcome(lambda: redact_records(batch, options)):  # noqa: B023
                found.append((number, "\n---\n".join(recent)))
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
