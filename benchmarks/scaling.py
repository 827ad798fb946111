"""What pipeline/scale.py rests on: bytes and CPU seconds of each stage of whole runs, and how well the model foretells them.

.venv/bin/python benchmarks/scaling.py --sizes 1024 4096     # MiB, redaction off, one process
.venv/bin/python benchmarks/scaling.py --sizes 64 --redact   # for the rate of redaction
.venv/bin/python benchmarks/scaling.py --sizes 128 --segment-mib 128    # what a task holds of one segment
.venv/bin/python benchmarks/scaling.py --read RESULTS.jsonl  # compare kept results with the model again

CPU seconds, since other work on the machine stretches the clock's. A stage's are those between its tasks' results in
the work folder, which one process writes one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.corpus import make_corpus
from pipeline.scale import Corpus, estimate_stages
from pipeline.shape import shape_of

SHARD_BYTES = 256 << 20  # of the default config

# The command, with segments of text of another size than the mill's own.
_MILL = "import sys; from pipeline import shape; shape.SEGMENT_BYTES = int(sys.argv.pop(1)); from pipeline.cli import main; main()"


def run_once(corpus: Path, output: Path, redact: bool, segment_bytes: int) -> dict[str, Any]:
    """One run in one process: samples of time, CPU seconds and resident bytes; and the records read."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", _MILL, str(segment_bytes), "run", "--input", str(corpus), "--output", str(output), "--json",
               "--keep-work", "--set", f"work={output}/work", "--set", f"redact.enabled={str(redact).lower()}", "--", "--direct_num_workers=1"]  # fmt: skip
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    samples = []
    while process.poll() is None:
        try:
            spent, held = process.cpu_times(), process.memory_info().rss
        except psutil.NoSuchProcess:
            break
        samples.append((time.time(), spent.user + spent.system, held))
        time.sleep(0.1)
    assert process.stdout is not None
    accounting = json.loads(process.stdout.read())["accounting"]
    return {"samples": samples, "records": accounting["read"]}


def measure(output: Path, samples: list[tuple[float, float, int]]) -> dict[str, Any]:
    """CPU seconds, tasks and peak memory of each stage, bytes and non-empty segments of each kind of run, of a kept work folder."""
    marks = sorted((path.stat().st_mtime, path.parent.name) for path in output.glob("work/*/done/*/*.json"))
    clock, spent, held = np.array(samples).T
    seconds: dict[str, float] = defaultdict(float)
    tasks: dict[str, int] = defaultdict(int)
    peaks: dict[str, float] = defaultdict(float)
    (started,) = (path.stat().st_mtime for path in output.glob("work/*/plan.json"))
    for (before, _), (after, stage) in pairwise([(started, ""), *marks, (float(clock[-1]), "commit")]):
        low, high = np.interp([before, after], clock, spent)
        seconds[stage] += float(high - low)
        tasks[stage] += 1
        during = held[(clock >= before) & (clock <= after)]
        peaks[stage] = max(peaks[stage], float(during.max(initial=0)))
    run_bytes: dict[str, int] = defaultdict(int)
    for path in output.glob("work/*/*/*.run"):
        run_bytes[path.parent.name] += path.stat().st_size
    reads: dict[str, int] = defaultdict(int)
    for path in output.glob("work/*/done/*/*.json"):
        for kind, offsets in json.loads(path.read_bytes()).get("runs", {}).items():
            reads[kind] += sum(end > begin for begin, end in pairwise(offsets))
    written = {
        folder: sum(path.stat().st_size for path in (output / folder).rglob("*") if path.is_file())
        for folder in ("data", "jsonl", "lineage")
    }
    index = [path for path in (output / "index").rglob("*") if path.is_file()]
    bands = sum(path.stat().st_size for path in index if path.name.startswith("bands"))
    written |= {"index_ids": sum(path.stat().st_size for path in index) - bands, "index_bands": bands}
    return {"seconds": seconds, "tasks": tasks, "peaks": peaks, "bytes": {**run_bytes, **written}, "reads": reads}


def compare(found: dict[str, Any]) -> None:
    """Prints what was measured beside what the model says."""
    size, tasks = found["input_bytes"], found["tasks"]
    shape = shape_of(size, tasks["mill"], SHARD_BYTES)
    corpus = Corpus(size, tasks["mill"], tasks["merge"], shape, redact=found["redact"])
    stages = {stage.name: stage for stage in estimate_stages(corpus)}
    print(f"\n{size / 1e6:,.0f} MB, {found['records']:,} records, {sum(found['seconds'].values()):,.0f} CPU s, "
          "measured and said")  # fmt: skip
    print(f"{'stage':<12} {'tasks':>11} {'CPU s':>17} {'ratio':>6} {'s/MB':>8} {'peak MB':>11}")
    for name, seconds in found["seconds"].items():
        stage = stages.get(name)
        if stage is None:  # not in the model: small, or of a refresh
            print(
                f"{name:<12} {found['tasks'][name]:>5,} {seconds:>14.1f} {seconds / size * 1e6:>24.5f} {found['peaks'][name] / 1e6:>5,.0f}"
            )
            continue
        print(f"{name:<12} {found['tasks'][name]:>5,} {stage.tasks:>5,} {seconds:>8.1f} {stage.seconds:>8.1f} "
              f"{seconds / stage.seconds:>6.2f} {seconds / size * 1e6:>8.5f} "
              f"{found['peaks'][name] / 1e6:>5,.0f} {stage.held / 1e6:>5,.0f}")  # fmt: skip
    print(f"{'kind':<12} {'MB':>17} {'ratio':>6} {'of input':>8}")
    wrote: dict[str, float] = {}
    for stage in stages.values():
        wrote |= stage.wrote
    for kind, measured in found["bytes"].items():
        if measured > size / 10_000:
            said = wrote.get(kind, 0.0)
            print(
                f"{kind:<12} {measured / 1e6:>8.1f} {said / 1e6:>8.1f} {measured / max(said, 1):>6.2f} {measured / size:>8.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="MiB")
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--segment-mib", type=int, default=32, help="MiB of text a segment")
    parser.add_argument("--read", type=Path, help="results kept from an earlier run")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpusmill-bench"))
    options = parser.parse_args()
    kept = options.folder / "scaling.jsonl"
    if options.read:
        for line in options.read.read_text().splitlines():
            compare(json.loads(line))
    for size in options.sizes:
        corpus = make_corpus(options.folder, size << 20)
        output = options.folder / f"scaling-{size}"
        ran = run_once(corpus, output, options.redact, options.segment_mib << 20)
        found = {"input_bytes": sum(path.stat().st_size for path in corpus.glob("*.jsonl")), "redact": options.redact,
                 **measure(output, ran.pop("samples")), **ran}  # fmt: skip
        shutil.rmtree(output)
        with kept.open("a") as out:
            out.write(json.dumps(found) + "\n")
        compare(found)


if __name__ == "__main__":
    main()
