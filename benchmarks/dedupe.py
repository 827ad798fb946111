"""De-duplication beside the truth and beside other tools: speed, memory, wrong drops, missed pairs.

    make bench-dedupe                                  # 100,000 conversations, the engine alone
    make bench-dedupe SIZE=1000000                     # the same of a million
    make bench-dedupe SIZE=50000 PEERS=1               # with the peers, on the same corpus
    .venv/bin/python benchmarks/dedupe.py --corpora template identical path bad --size 30000
    .venv/bin/python benchmarks/dedupe.py --estimator  # error of the estimate against theory, by length

Every tool runs in a process of its own. CPU seconds are those of the work: imports, compiling and reading
the corpus are left out. A drop is wrong where the exact similarity to the record named as kept is below
0.7 (those below the threshold of 0.8 are told too); a planted pair is missed where it is at least 0.8 alike and both are kept. Copies of one content, which
share an id, count for neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.dedupe_corpus import BATCH, KINDS, bodies_of, make_corpus, open_corpus
from benchmarks.dedupe_truth import similarity, tokens_of

HERE = Path(__file__).parent
THRESHOLD, SLACK, VALUES = 0.8, 0.1, 128
MOST_DROPS = 30_000  # whose similarity to the kept record is computed
PEERS = ("rensa", "datasketch", "text-dedup", "datatrove")
MOST_RECORDS = {"datatrove": 20_000}  # it does some 300 a second
LENGTHS = ((0, 15), (15, 40), (40, 128), (128, 400), (400, 1 << 40))  # tokens of the shorter text
_OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def measure_engine(corpus: Path, work: Path) -> dict[str, Any]:
    """The engine's outcome on a corpus."""
    return _measure([sys.executable, str(HERE / "dedupe_engine.py"), str(corpus), str(work / "run")], work / "engine")


def measure_peer(tool: str, python: str, corpus: Path, size: int, work: Path) -> dict[str, Any]:
    """A peer's outcome on the first `size` records of a corpus."""
    bodies = work / f"bodies-{size}.parquet"
    if not bodies.exists():
        found = bodies_of(open_corpus(corpus), np.arange(size))
        pq.write_table(pa.table({"number": list(found), "body": list(found.values())}), bodies)
    return _measure([python, str(HERE / "dedupe_peers.py"), tool, str(bodies), str(work / "run")], work / tool)


def _measure(command: list[str], target: Path) -> dict[str, Any]:
    """Runs a tool; its result with `kept_for`, or `failed` with the last line that it said."""
    done = subprocess.run([*command, str(target)], capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
    return {**json.loads((target / "result.json").read_text()), "kept_for": np.load(target / "kept_for.npy")}


def score(corpus: Path, kept_for: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Wrong drops and missed pairs of the first `len(kept_for)` records, in all, by language and by length."""
    reader, count = open_corpus(corpus), len(kept_for)
    batches = [reader.get_batch(one) for one in range(-(-count // BATCH))]
    same_as = np.concatenate([one.column("same_as").to_numpy() for one in batches])[:count]
    drops = np.flatnonzero((kept_for >= 0) & (same_as == np.arange(count)))
    drops = drops[:: -(-len(drops) // MOST_DROPS) if len(drops) else 1]
    tallies: dict[str, dict[str, int]] = {}

    def add(kind: str, language: str, tokens: int, bad: bool, low: bool = False) -> None:
        for name in ("all", language, _length(tokens)):
            tally = tallies.setdefault(name, dict.fromkeys(("drops", "wrong", "low", "pairs", "missed"), 0))
            tally[kind] += 1
            tally["low"] += low
            tally["wrong" if kind == "drops" else "missed"] += bad

    for place in range(0, len(drops), 4096):
        part = drops[place : place + 4096]
        bodies = bodies_of(reader, np.concatenate([part, kept_for[part]]))
        for number in part.tolist():
            dropped, kept = bodies[number], bodies[int(kept_for[number])]
            language = batches[number // BATCH].column("language")[number % BATCH].as_py()
            tokens = min(len(tokens_of(dropped)), len(tokens_of(kept)))
            index = similarity(dropped, kept)
            add("drops", language, tokens, index < THRESHOLD - SLACK, index < THRESHOLD)
    for pair in pq.read_table(corpus / "pairs.parquet").to_pylist():
        if pair["similarity"] >= THRESHOLD and max(pair["a"], pair["b"]) < count:
            both = kept_for[pair["a"]] < 0 and kept_for[pair["b"]] < 0
            add("pairs", pair["language"], pair["tokens"], bool(both))
    order = ["all", *sorted(name for name in tallies if name.isalpha() and name != "all"), *map(_span, LENGTHS)]
    return {"kept": int((kept_for < 0).sum()), "by": {name: tallies[name] for name in order if name in tallies}}


def _span(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]}+ tokens" if bounds[1] > 1 << 30 else f"{bounds[0]}-{bounds[1] - 1} tokens"


def _length(tokens: int) -> str:
    return next(_span(one) for one in LENGTHS if one[0] <= tokens < one[1])


def measure_estimator(corpus: Path) -> list[dict[str, Any]]:
    """For each length: pairs, the root mean square error of the MinHash estimate over sqrt(J (1 - J) / 128), and
    that of the sketches, with its mean and what one pair in a thousand exceeds, near the threshold (0.7 to 0.9)."""
    from benchmarks.dedupe_engine import estimates_of

    pairs = [one for one in pq.read_table(corpus / "pairs.parquet").to_pylist() if 0.1 < one["similarity"] < 0.98]
    truth = np.array([one["similarity"] for one in pairs])
    by_hash, by_sketch = (estimates_of(corpus, pairs) - truth[:, None]).T
    by_hash /= (truth * (1 - truth) / VALUES) ** 0.5
    lengths = np.array([_length(one["tokens"]) for one in pairs])
    found = []
    for name in dict.fromkeys(map(_span, LENGTHS)):
        mine = lengths == name
        near = by_sketch[mine & (truth > 0.7) & (truth < 0.9)]
        if len(near):
            found.append(
                {
                    "length": name,
                    "pairs": int(mine.sum()),
                    "ratio": float(np.sqrt(np.mean(by_hash[mine] ** 2))),
                    "sketch": float(np.sqrt(np.mean(near**2))),
                    "bias": float(np.mean(near)),
                    "sketch_999": float(np.quantile(np.abs(near), 0.999)),
                }
            )
    return found


def run_corpus(options: argparse.Namespace, kind: str) -> list[dict[str, Any]]:
    """The outcome of every tool asked for on one corpus."""
    corpus = make_corpus(options.folder, kind, options.size)
    work = options.folder / f"work-{kind}-{options.size}"
    work.mkdir(parents=True, exist_ok=True)
    size = sum(open_corpus(corpus).get_batch(one).num_rows for one in range(open_corpus(corpus).num_record_batches))
    runs: list[tuple[str, Callable[[], dict[str, Any]]]] = [("corpusmill", lambda: measure_engine(corpus, work))]
    for tool in PEERS if options.peers and kind == "chat" else ():
        most = min(size, MOST_RECORDS.get(tool, size))
        runs.append((tool, lambda tool=tool, most=most: measure_peer(tool, options.peers, corpus, most, work)))  # type: ignore[misc]
    found = []
    for tool, run in runs:
        result = {"tool": tool, "corpus": kind, "size": size, **run()}
        if "failed" not in result:
            result |= score(corpus, result.pop("kept_for"))
        found.append(result)
        _OUT.print(
            f"{kind} {tool}: " + (result.get("failed") or f"{result['cpu_seconds']:.1f} CPU seconds"), markup=False
        )
    return found


def print_results(results: Iterable[dict[str, Any]]) -> None:
    """A table of costs and outcomes, and one of quality by language and length."""
    done = [one for one in results if "failed" not in one]
    costs = _table(
        "corpus",
        "tool",
        "records",
        "a CPU-second",
        "CPU s",
        "peak MiB",
        "disk B/record",
        "edges/record",
        "kept",
        "drops below 0.8",
        "wrong drops",
        "missed",
    )
    for one in done:
        whole = one["by"].get("all", {})
        per = [
            f"{one[key] / one['records']:.{digits}f}" if key in one else ""
            for key, digits in (("disk_bytes", 0), ("edges", 2))
        ]
        costs.add_row(
            one["corpus"], one["tool"], f"{one['records']:,}", f"{one['records'] / one['cpu_seconds']:,.0f}", f"{one['cpu_seconds']:.1f}",
            f"{one['peak_bytes'] / 2**20:,.0f}", *per, f"{one['kept']:,}", _share(whole, "low", "drops"), _share(whole, "wrong", "drops"),
            _share(whole, "missed", "pairs"),
        )  # fmt: skip
    _OUT.print(costs)
    for one in done:
        if "cpu" in one:
            _OUT.print(
                f"{one['corpus']}: CPU seconds by stage: "
                + ", ".join(f"{stage} {spent:.1f}" for stage, spent in one["cpu"].items())
            )
        if one.get("look_alikes"):
            _OUT.print(f"{one['corpus']}: look-alikes: {one['look_alikes']}")
    for kind in dict.fromkeys(one["corpus"] for one in done):
        mine = [one for one in done if one["corpus"] == kind]
        names = list(dict.fromkeys(name for one in mine for name in one["by"] if name != "all"))
        if len(names) < 3:
            continue
        quality = _table(kind, *(f"{one['tool']}: {what}" for one in mine for what in ("wrong", "missed")))
        for name in names:
            cells = [
                _share(one["by"].get(name, {}), *which)
                for one in mine
                for which in (("wrong", "drops"), ("missed", "pairs"))
            ]
            quality.add_row(name, *cells)
        _OUT.print(quality)


def _share(tally: dict[str, int], what: str, of: str) -> str:
    return f"{tally[what] / tally[of]:.2%} of {tally[of]:,}" if tally.get(of) else "-"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 or column in ("corpus", "tool") else "right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="records")
    parser.add_argument("--corpora", nargs="+", choices=KINDS, default=["chat"])
    parser.add_argument("--peers", metavar="PYTHON", help="the interpreter of an environment with dedupe_peers.txt")
    parser.add_argument("--estimator", action="store_true", help="compare estimates with exact similarities instead")
    parser.add_argument(
        "--folder", type=Path, default=Path("/tmp/corpusmill-bench"), help="kept corpora and work files"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if options.estimator:
        found = measure_estimator(make_corpus(options.folder, "chat", options.size))
        table = _table("length", "pairs", "error / theory", "sketch, J near 0.8", "mean", "1 in 1000")
        for one in found:
            errors = (f"{one[key]:.4f}" for key in ("sketch", "bias", "sketch_999"))
            table.add_row(one["length"], f"{one['pairs']:,}", f"{one['ratio']:.3f}", *errors)
        _OUT.print(table)
    else:
        found = [one for kind in options.corpora for one in run_corpus(options, kind)]
        print_results(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if any("failed" in one for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
