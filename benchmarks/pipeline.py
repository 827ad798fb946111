"""Whole runs: wall time, MB/s, and the peak resident memory of each process, by corpus size and workers.

.venv/bin/python benchmarks/pipeline.py --sizes 2048 4096            # MiB, redaction off
.venv/bin/python benchmarks/pipeline.py --sizes 50 --redact
.venv/bin/python benchmarks/pipeline.py --sizes 256 --workers 1 2 --repeat 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.corpus import make_corpus


def run_once(corpus: Path, output: Path, workers: int, redact: bool, extra: list[str]) -> dict[str, float]:
    """One run in processes of its own; seconds, and peaks of resident memory in MiB."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline", "run", "--input", str(corpus), "--output", str(output), "--json",
               "--set", f"redact.enabled={str(redact).lower()}", *extra]  # fmt: skip
    if workers == 1:
        command += ["--", "--direct_num_workers=1"]
    elif workers:
        command += ["--", f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    start = time.monotonic()
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    peaks: dict[int, int] = {}
    work = 0
    while process.poll() is None:
        for one in [process, *_children(process)]:
            try:
                peaks[one.pid] = max(peaks.get(one.pid, 0), one.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        if int(time.monotonic() - start) % 5 == 0:
            work = max(work, _size(output / "work"))
        time.sleep(0.2)
    seconds = time.monotonic() - start
    assert process.stdout is not None
    accounting = json.loads(process.stdout.read())["accounting"]
    return {
        "seconds": seconds,
        "peak_process_mib": max(peaks.values()) / 2**20,
        "read": accounting["read"],
        "work_mib": work / 2**20,
        "output_mib": _size(output) / 2**20,
    }


def _size(folder: Path) -> int:
    """Bytes of the files below a folder that others write and remove."""
    total = 0
    for parent, _, names in os.walk(folder):  # what goes meanwhile is passed over
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="MiB")
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="0: what the mill chooses")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpusmill-bench"))
    parser.add_argument("extra", nargs="*", help="further options of `corpusmill run`, after --")
    options = parser.parse_args()
    print(
        f"{'MiB':>6} {'workers':>7} {'seconds':>8} {'MB/s':>6} {'records/s':>9} {'peak MiB':>8} {'work MiB':>8} {'out MiB':>8}"
    )
    for _ in range(options.repeat):
        for size in options.sizes:
            corpus = make_corpus(options.folder, size << 20)
            for workers in options.workers:
                found = run_once(corpus, options.folder / "out", workers, options.redact, options.extra)
                rate = (size << 20) / 1e6 / found["seconds"]
                print(
                    f"{size:>6} {workers or 'auto':>7} {found['seconds']:>8.1f} {rate:>6.1f} "
                    f"{found['read'] / found['seconds']:>9.0f} {found['peak_process_mib']:>8.0f} "
                    f"{found['work_mib']:>8.0f} {found['output_mib']:>8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
