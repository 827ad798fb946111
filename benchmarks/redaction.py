"""Speed of redaction, in one process: the whole stage, plain Presidio beside it, hostile texts, and what a start costs.

.venv/bin/python -m benchmarks.redaction                    all of it, in about three minutes
.venv/bin/python -m benchmarks.redaction --profile          where the stage's time goes

The corpus is made: conversations of four turns of about 550 characters, of which one in five holds a personal value or a
secret, one in ten something that only looks like one, and the rest ordinary prose with ordinary numbers; metadata on
each record, a tool call on some. The dense corpus holds values in one turn of three and look-alikes in one of six. Plain Presidio is its AnalyzerEngine with the same recognizers, called for each text, without JSON,
numbering or secrets.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from benchmarks.quality.documents import make_documents
from transforms.analyzer import Analyzer
from transforms.options import RedactOptions
from transforms.redact import redact_records
from transforms.schema import RECORDS

HOSTILE = {
    "a.a.a.": "a.",
    "12 12 12 ": "12 ",
    "12-12-12-": "12-",
    "digits": "1234567890",
    "1 2 3 ": "1 2 3 4 5 6 7 8 9 0 ",
    "a:a:a:": "a:",
    "::::": ":",
    "1.1.1.": "1.",
    "a@a@a@": "a@",
    "a@b.a@b.": "a@b.",
    "e-mails": "ab{n}@cd.com ",
    "phones": "212-{high}-{low:04} ",
    "+ phones": "+1 212-{high}-{low:04}\n",
    "diffstat": "+{n} -{low}\n",
    "numbers": "{n} ",
    "decimals": "{n}.",
    "cards": "4111 1111 1111 1111 ",
    "any cards": "4111 1111 {high}1 {low:04} ",
    "IP addresses": "203.{first}.{second}.{third} ",
    "base64": "QmFzZTY0IGlzIG5vdCBhIHNlY3JldDsg0x",
    "keys": "api_key=",
    "passwords": "password: hunter{n}! ",
    "brackets": "(((((",
    "plus": "+1",
    "IBANs": "GB82 WEST ",
    "any IBANs": "GB82 WEST 1234 {high}1 {low:04} ",
    "placeholders": "<EMAIL_ADDRESS_1> ",
    "é dots": "é.",
    "é digits": "é12 ",
    "% escapes": "%41%42",
    "US numbers": "{high}-45-{low:04} ",
    "GB numbers": "AB{n:06}C ",
    "NHS numbers": "943 {high} {low:04} ",
    "accounts": "account {n}0007 ",
    "GB phones": "020 7946 {low:04}, 07700 900{third:03} ",
    "other digits": "٢١٢{other} ",
    "IPv6": "2001:db8:{high}:{low}::1 ",
    "MAC addresses": "00:1a:2b:{first:02x}:{second:02x}:{third:02x} ",
    "log lines": '{{"ts":170{n}000,"ip":"203.{first}.{second}.{third}","status":200}}\n',
    "at, dot": "john at example dot com ",
    "(at), dot": "u{n} (at) h{n} dot com ",
}
_OTHER_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
SIZE = 64 << 10  # 64 KiB of each


def hostile_text(shape: str, first: int = 0, size: int = SIZE) -> str:
    """The shape again and again; where it holds numbers these count up from `first`."""
    parts, length, number = [], 0, first
    while length < size:
        digits = {"high": 200 + number // 10_000, "low": number % 10_000}
        octets = {"first": number // 40_000 % 200, "second": number // 200 % 200, "third": number % 200}
        other = f"{number:07}".translate(_OTHER_DIGITS)
        part = shape.format(n=number, other=other, **digits, **octets) if "{" in shape else shape
        parts.append(part)
        length += len(part)
        number += 1
    return "".join(parts)[:size]


_PROSE = (
    "the a to and of you it is in that for on with we can please this have your not are be will if order was just "
    "when out our any get time back one see but now from there like need help sure here would how what my me so "
    "update account page team issue question thank checking right after work today change data first use then "
    "weekend delivery option service setting screen button email message customer support reply yesterday version"
).split()
_NUMBERS = ("3", "12", "2024", "$5.99", "40%", "10:30", "v2.1", "7", "100", "1,250", "3/4", "24/7", "x2", "5 kg", "2nd")


def _prose(chooser: random.Random, length: int) -> str:
    words: list[str] = []
    count = 0
    while count < length:
        word = chooser.choice(_NUMBERS) if chooser.random() < 0.04 else chooser.choice(_PROSE)
        words.append(word + ("." if chooser.random() < 0.08 else ""))
        count += len(words[-1]) + 1
    return " ".join(words)


def make_batches(n_turns: int, seed: int = 0, share: float = 0.2) -> list[pa.RecordBatch]:
    """RECORDS batches of 2,000 turns each; no text is there twice. `share` of the turns hold a value."""
    chooser = random.Random(seed)
    documents = make_documents("development", 200, seed)
    values = [one.text for one in documents if one.spans and not one.evasion]
    decoys = [one.text for one in documents if not one.spans]
    batches = []
    for first in range(0, n_turns, 2000):
        rows = [
            _row(chooser, values, decoys, first + place, share) for place in range(0, min(2000, n_turns - first), 4)
        ]
        batches.append(pa.RecordBatch.from_pylist(rows, RECORDS))
    return batches


def _row(chooser: random.Random, values: list[str], decoys: list[str], number: int, share: float) -> dict[str, object]:
    messages: list[dict[str, object]] = []
    for turn in range(4):
        draw = chooser.random()
        planted = chooser.choice(values) if draw < share else chooser.choice(decoys) if draw < 1.5 * share else ""
        before = _prose(chooser, chooser.randrange(40, 500))
        text = f"{before} {planted} {_prose(chooser, max(40, 520 - len(before) - len(planted)))}"
        messages.append({"role": "assistant" if turn % 2 else "user", "content": text})
    if number % 40 == 0:
        arguments = json.dumps({"days": number % 9, "query": _prose(chooser, 60)}, separators=(",", ":"))
        call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": arguments}}
        messages[1]["tool_calls"] = [call]
    metadata = {"channel": chooser.choice(["web", "app"]), "locale": "en", "model": "m-2", "session": number}
    return {
        "line": number,
        "offset": 0,
        "length": 0,
        "reasons": [],
        "kind": "production",
        "messages": messages,
        "metadata": json.dumps(metadata, separators=(",", ":"), sort_keys=True),
    }


def texts_of(batch: pa.RecordBatch) -> list[str]:
    return [text for text in batch.column("messages").flatten().field("content").to_pylist() if text]


def measure_stage(n_turns: int, repeats: int, plain_share: int) -> float:
    """Prints MB/s of the stage and of plain Presidio and their ratio. CPU seconds a MB of the stage."""
    options = RedactOptions()
    batches = make_batches(n_turns)
    redact_records(make_batches(200, seed=9)[0], options)
    analyzers = {
        "Presidio, the same recognizers": Analyzer(RedactOptions(exact=True)),
        "Presidio, its defaults": Analyzer(RedactOptions(exact=True, entities="presidio")),
    }
    size = sum(len(text.encode()) for batch in batches for text in texts_of(batch)) / 1e6
    some = [text for batch in batches for text in texts_of(batch)][::plain_share]
    some_size = sum(len(text.encode()) for text in some) / 1e6
    dense = make_batches(n_turns // 4, 1, 1 / 3)
    dense_size = sum(len(text.encode()) for batch in dense for text in texts_of(batch)) / 1e6
    rates: dict[str, list[float]] = {
        "whole stage": [],
        "whole stage, dense corpus": [],
        **{name: [] for name in analyzers},
    }
    for _ in range(repeats):
        rates["whole stage"].append(size / seconds(lambda: [redact_records(batch, options) for batch in batches]))
        rates["whole stage, dense corpus"].append(
            dense_size / seconds(lambda: [redact_records(batch, options) for batch in dense])
        )
        for name, analyzer in analyzers.items():
            rates[name].append(some_size / seconds(lambda analyzer=analyzer: [analyzer.find(text) for text in some]))
    print(f"{size:.1f} MB of text in {n_turns} turns, {repeats} runs of each in turn, CPU time")
    print(f"{'':<34} {'MB/s':>7} {'lowest':>7} {'highest':>7}   {'stage is faster':>16}")
    for name, values in rates.items():
        ratios = [stage / other for stage, other in zip(rates["whole stage"], values, strict=True)]
        faster = (
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if name in analyzers else ""
        )
        print(f"{name:<34} {statistics.median(values):>7.2f} {min(values):>7.2f} {max(values):>7.2f}   {faster:>16}")
    return 1 / statistics.median(rates["whole stage"])


def measure_hostile(ordinary: float) -> None:
    """Prints what each hostile shape costs against ordinary text of its size, and twice the size against once.

    Values are new each time, so nothing of them is remembered; and then the same text is read again.
    """
    print(
        f"\n{SIZE >> 10} KiB of a hostile shape against as much ordinary text, new and again; and against half of it (2)"
    )
    whole = SIZE / 1e6 * ordinary
    for name, shape in HOSTILE.items():
        fresh = itertools.count(100_000, 100_000)
        texts = [[hostile_text(shape, next(fresh), size) for _ in range(3)] for size in (SIZE, SIZE // 2)]
        new, half = (min(map(_alone, some)) for some in texts)
        again = min(_alone(texts[0][0]) for _ in range(4))
        times = f"{new / whole:>6.1f} x ordinary {again / whole:>6.1f} x again {new / half:>6.1f} x half"
        print(f"{name:<14} {new * 1e3:>8.1f} ms {times}")
    large = _alone(hostile_text(HOSTILE["base64"], size=1 << 20))
    print(f"{'base64, 1 MiB':<14} {large * 1e3:>8.1f} ms {large / whole / 16:>6.1f} x ordinary")


def _alone(text: str) -> float:
    row = {"line": 0, "offset": 0, "length": 0, "reasons": [], "metadata": "{}"}
    batch = pa.RecordBatch.from_pylist([row | {"messages": [{"role": "user", "content": text}]}], RECORDS)
    return seconds(lambda: redact_records(batch, RedactOptions()))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


_START = """
import time
{imports}
began, cpu = time.perf_counter(), time.process_time()
{work}
took = time.perf_counter() - began, time.process_time() - cpu
memory = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(*took, int(memory.split()[1]) / 1024)
"""  # VmHWM, not getrusage: what that says of a process that was started here begins with the benchmark's own memory
_ENGINE = "from transforms.analyzer import Analyzer; from transforms.options import RedactOptions; "
STARTS = {
    "the engine, nothing imported before": ("", _ENGINE + "Analyzer(RedactOptions()).find('a@b.com 212-555-0199')"),
    "the redactor, in a worker that has imported Beam and Arrow": (
        "import transforms.redact; from transforms.options import RedactOptions",
        "redactor = transforms.redact.redactor_for(RedactOptions()); redactor.prepare()",
    ),
}


def measure_start() -> None:
    print("\nstart with a warm cache: seconds, CPU seconds, resident MiB (median of 5)")
    for name, (imports, work) in STARTS.items():
        script = _START.format(imports=imports, work=work)
        runs = [_run(script) for _ in range(6)][1:]
        middle = [statistics.median(column) for column in zip(*runs, strict=True)]
        print(f"{name:<60} {middle[0]:>6.2f} {middle[1]:>6.2f} {middle[2]:>6.0f}")


def _run(script: str) -> tuple[float, ...]:
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return tuple(map(float, done.stdout.split()))


def profile(batches: Iterator[pa.RecordBatch]) -> None:
    profiler = cProfile.Profile()
    for batch in batches:
        profiler.runcall(redact_records, batch, RedactOptions())
    pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=12_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--plain-share", type=int, default=20, help="plain Presidio gets one text in so many")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.profile:
        redact_records(make_batches(200, seed=9)[0], RedactOptions())
        profile(iter(make_batches(options.turns)))
        return
    ordinary = measure_stage(options.turns, options.repeat, options.plain_share)
    measure_hostile(ordinary)
    measure_start()


if __name__ == "__main__":
    main()
