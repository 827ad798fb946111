"""MB/s of each stage's kernel in one process, on one corpus, with the spread over repeats.

.venv/bin/python benchmarks/stages.py --size 32 --repeat 3
.venv/bin/python benchmarks/stages.py --size 4 --redact
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.corpus import make_corpus
from transforms.canonical import conversation_lines
from transforms.hashing import Keys
from transforms.mill import TEXTS
from transforms.options import DedupeOptions, ReadOptions, RedactOptions, ValidateOptions
from transforms.parse import parse_records
from transforms.read import LineReader, WorkUnit
from transforms.redact import redact_records
from transforms.runs import Runs, RunWriter
from transforms.schema import DATA
from transforms.sign import fingerprint_records, sign_records
from transforms.storage import Storage
from transforms.validate import validate_records
from transforms.write import FileWriter, JsonlShard, ParquetShard, data_table

KEYS = Keys("benchmark")


def measure(content: bytes, redact: bool, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each stage for the lines of `content`."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = clock()
        result = work()
        seconds[stage] += clock() - start
        return result

    unit = WorkUnit("memory", 0, 0, len(content), len(content), "", "lines")
    blocks = iter(LineReader(unit, io.BytesIO(content), ReadOptions()).blocks())
    options = RedactOptions(enabled=redact)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage()
        texts = RunWriter(TEXTS, 8)
        parquet = ParquetShard(FileWriter(storage, folder, "a.parquet", "parquet"), DATA)
        jsonl = JsonlShard(FileWriter(storage, folder, "a.jsonl", "jsonl"))
        while (lines := timed("read", lambda: next(blocks, None))) is not None:
            records = timed(
                "parse", lambda: parse_records(lines, shape="auto", kind="production", group_by=None, keys=KEYS)
            )
            records = timed("validate", lambda: validate_records(records, ValidateOptions()))
            records = timed("redact", lambda: redact_records(records, options).records)
            sound = records.filter(pc.equal(pc.list_value_length(records.column("reasons")), 0))
            signed = timed("sign", lambda: sign_records(sound, KEYS))
            timed("fingerprint", lambda: fingerprint_records(signed, DedupeOptions(), KEYS))
            numbers = pa.array(np.zeros(signed.num_rows, np.int32))
            columns = [numbers if name == "writer" else signed.column(name) for name in TEXTS.names]
            kept = pa.RecordBatch.from_arrays(columns, schema=TEXTS)
            timed("put runs", lambda: texts.append(kept, np.arange(kept.num_rows) % 8))
            table = pa.Table.from_batches([kept])
            timed("write parquet", lambda: parquet.append(data_table(table), table.column("n_bytes").to_numpy()))
            line = timed(
                "write jsonl", lambda: conversation_lines(kept.column("messages"), kept.column("tools"), weight=True)
            )
            timed("write jsonl", lambda: jsonl.append(line))
        timed("put runs", lambda: texts.finish(Runs(storage, folder, "texts", TEXTS), 0))
        timed("write parquet", parquet.put)
        timed("write jsonl", jsonl.put)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="MiB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--input", type=Path, help="a JSONL file instead of the made corpus")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpusmill-bench"))
    options = parser.parse_args()
    if options.input:
        content = options.input.read_bytes()[: options.size << 20]
    else:
        corpus = make_corpus(options.folder, options.size << 20)
        content = b"".join(path.read_bytes() for path in sorted(corpus.glob("*.jsonl")))
    runs = [measure(content, options.redact, time.process_time) for _ in range(options.repeat)]
    megabytes = len(content) / 1e6
    print(f"{megabytes:.1f} MB, CPU seconds, {options.repeat} runs")
    print(f"{'stage':<14} {'MB/s':>8} {'lowest':>8} {'highest':>8}")
    for stage in runs[0]:
        rates = sorted(megabytes / max(run[stage], 1e-9) for run in runs)
        print(f"{stage:<14} {statistics.median(rates):>8.1f} {rates[0]:>8.1f} {rates[-1]:>8.1f}")
    totals = sorted(megabytes / sum(run.values()) for run in runs)
    print(f"{'all':<14} {statistics.median(totals):>8.1f} {totals[0]:>8.1f} {totals[-1]:>8.1f}")


if __name__ == "__main__":
    main()
