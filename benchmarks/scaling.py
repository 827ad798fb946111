"""What the model in pipeline/scale.py rests on: bytes and seconds of each stage of whole runs, and what it says of them.

.venv/bin/python benchmarks/scaling.py --sizes 1024 4096     # MiB, redaction off, one process

A stage's seconds are those between the task results of the work folder, which one process writes one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.corpus import make_corpus
from benchmarks.pipeline import run_once


def measure(work: Path, start: float) -> dict[str, Any]:
    """Seconds and tasks of each stage, bytes and non-empty segments of each kind of run below a kept work folder."""
    marks = sorted((path.stat().st_mtime, path.parent.name) for path in work.glob("*/done/*/*.json"))
    seconds: dict[str, float] = defaultdict(float)
    tasks: dict[str, int] = defaultdict(int)
    for (before, _), (after, stage) in pairwise([(start, ""), *marks]):
        seconds[stage] += after - before
        tasks[stage] += 1
    run_bytes: dict[str, int] = defaultdict(int)
    for path in work.glob("*/*/*.run"):
        run_bytes[path.parent.name] += path.stat().st_size
    segments: dict[str, int] = defaultdict(int)
    marker_bytes = 0
    for path in work.glob("*/done/*/*.json"):
        marker_bytes += path.stat().st_size
        for kind, offsets in json.loads(path.read_bytes()).get("runs", {}).items():
            segments[kind] += sum(end > begin for begin, end in pairwise(offsets))
    return {
        "seconds": dict(seconds),
        "tasks": dict(tasks),
        "run_bytes": dict(run_bytes),
        "segments": dict(segments),
        "marker_bytes": marker_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024], help="MiB")
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpusmill-bench"))
    options = parser.parse_args()
    for size in options.sizes:
        corpus = make_corpus(options.folder, size << 20)
        output = options.folder / f"scaling-{size}"
        whole = run_once(corpus, output, 1, options.redact, ["--keep-work"])
        started = min(path.stat().st_mtime for path in output.glob("work/*/plan.json"))
        found = measure(output / "work", started)
        found["output_bytes"] = {
            folder: sum(path.stat().st_size for path in (output / folder).rglob("*") if path.is_file())
            for folder in ("data", "jsonl", "lineage", "report", "snapshots")
        }
        shutil.rmtree(output)
        print(json.dumps({"input_bytes": size << 20, **whole, **found}), flush=True)


if __name__ == "__main__":
    main()
