"""The project's own stages over a benchmark corpus: one process, everything on disk, as tasks of the DAG.

    .venv/bin/python benchmarks/dedupe_engine.py CORPUS WORK RESULT

Writes RESULT/result.json and RESULT/kept_for.npy (int64[N]: the record that each gives way to, -1 for the kept).
Identities are given, so what is timed is the search alone: fingerprints to verdicts.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.dedupe_corpus import BATCH, bodies_of, make_corpus, open_corpus
from pipeline.config import load_config
from pipeline.plan import load_plan, make_plan, plan_uri
from pipeline.shape import shape_of
from pipeline.tasks import Job, Tasks
from transforms.bands import BandRows
from transforms.cluster import VERDICTS
from transforms.exact import id_words, ids_of
from transforms.fingerprints import fingerprint_texts
from transforms.hashing import Keys
from transforms.mill import MillOptions, _put_bands, _write_signed, runs_of
from transforms.options import DedupeOptions, ReadOptions, RedactOptions, SplitOptions, ValidateOptions, WriteOptions
from transforms.runs import Runs, RunWriter, Segment
from transforms.shingles import SHORT, mix
from transforms.sign import SIGNED
from transforms.sketches import estimate
from transforms.storage import Storage

KEYS = Keys("benchmark")
UNIT_RECORDS = 65_536
_NOBODY = pa.array([], pa.binary(16))  # no group is left out
BYTES_EACH = 1200  # of a line, by which a plan cuts segments


def run_engine(corpus: Path, work: Path) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """What it cost, and the record that each gives way to."""
    shutil.rmtree(work, ignore_errors=True)
    storage = Storage()
    reader = open_corpus(corpus, mapped=False)
    count = sum(reader.get_batch(one).num_rows for one in range(reader.num_record_batches))
    options = _options(count)
    tasks = Tasks(Job(storage, str(work / "out"), str(work), options, SplitOptions(), WriteOptions()))
    plan = make_plan(load_config(None, ["redact.enabled=false"], {}), KEYS, [])  # of a first run: no index
    load_plan.cache_clear()
    storage.put(plan_uri(str(work)), plan.to_json())
    cpu: dict[str, float] = {}

    def timed(stage: str, make: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = make()
        cpu[stage] = time.process_time() - start
        return result

    signed, reading = _sign(corpus, options, storage, str(work))
    cpu["sign"] = signed.pop()
    found = timed("candidates", lambda: _each(tasks.candidates, bands=signed))
    kinds = {"pairs": found, "calls": found, "crowds": found, "sketches": signed}
    attached = timed("attach", lambda: _each(tasks.attach, **kinds))
    kinds = {"met": attached, "sides": attached, "crowds": found, "heads": found, "sketches": signed}
    verified = timed("verify", lambda: _each(tasks.verify, **kinds))
    edges = [(number, reference) for result in verified for number, reference in _references(result, "edges")]
    clustered = timed("cluster", lambda: tasks.cluster(edges, [count]))
    verdicts = Runs(storage, str(work), "verdicts", VERDICTS).table(
        Segment(*reference) for _, reference in _references(clustered, "verdicts")
    )
    result = {
        "records": count,
        "cpu": cpu,
        "cpu_seconds": sum(cpu.values()),
        "reading": reading,
        "disk_bytes": sum(one.stat().st_size for one in work.rglob("*") if one.is_file()),
        "edges": clustered["edges"],
        "look_alikes": clustered.get("look_alikes"),
        "peak_bytes": peak_bytes(),
    }
    return result, _kept_for(corpus, verdicts, count)


def _options(count: int) -> MillOptions:
    shape = shape_of(count * BYTES_EACH, -(-count // UNIT_RECORDS), WriteOptions().shard_bytes)
    return MillOptions(
        ReadOptions(),
        ValidateOptions(),
        RedactOptions(enabled=False),
        DedupeOptions(),
        None,
        KEYS,
        shape.segments,
        shape.band_segments,
        shape.text_segments,
        shape.unit_segments,
    )


class _Nowhere:
    """A writer of what this benchmark is not about: texts, facts, rejects."""

    def append(self, *_: object) -> None: ...


def _sign(corpus: Path, options: MillOptions, storage: Storage, work: str) -> tuple[list[Any], float]:
    """The results of the units, with the CPU seconds of signing last; and those of reading the corpus."""
    results: list[Any] = []
    spent = reading = 0.0
    start = time.process_time()
    reader = open_corpus(corpus, mapped=False)
    per_unit = UNIT_RECORDS // BATCH
    for unit, first in enumerate(range(0, reader.num_record_batches, per_unit)):
        runs = runs_of(storage, work)
        sizes = {"sketches": options.segments, "bands": options.band_segments}
        writers: dict[str, Any] = {kind: _Nowhere() for kind in runs} | {
            kind: RunWriter(runs[kind].schema, size, storage.spool(work)) for kind, size in sizes.items()
        }
        rows = BandRows()
        for number in range(first, min(first + per_unit, reader.num_record_batches)):
            signed = signed_records(reader.get_batch(number))
            now = time.process_time()
            reading += now - start
            _write_signed(signed, signed, _NOBODY, unit, options, writers, rows)
            start = time.process_time()
            spent += start - now
        now = time.process_time()
        _put_bands(rows, options, writers)
        offsets = {kind: writers[kind].finish(runs[kind], unit) for kind in sizes}
        start = time.process_time()
        spent += start - now
        results.append({"unit": unit, "runs": offsets})
    return [*results, spent], reading


def signed_records(batch: pa.RecordBatch) -> pa.RecordBatch:
    """SIGNED for records of a corpus, with ids that tell their number: the second word."""
    numbers = batch.column("same_as").to_numpy().astype(np.uint64)
    words = np.column_stack([mix(numbers * np.uint64(0x9E3779B97F4A7C15)), numbers])
    count = batch.num_rows
    columns: dict[str, pa.Array] = {
        "messages": batch.column("messages"),
        "id": ids_of(words),
        "key": pa.array(words[:, 0]),
        "rank": pa.array([b"\0"] * count, pa.binary()),
        "tie": pa.array([bytes(16)] * count, pa.binary(16)),
        "n_bytes": pa.array(np.full(count, 1000)),
        "reasons": pa.array([[]] * count, SIGNED.field("reasons").type),
        **{name: pa.array(np.arange(count)) for name in ("line", "offset", "length", "n_chars")},
    }
    arrays = [columns.get(one.name, pa.nulls(count, one.type)) for one in SIGNED]
    return pa.RecordBatch.from_arrays(arrays, names=SIGNED.names)


def estimates_of(corpus: Path, pairs: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """float64[N, 2]: how alike pairs are by MinHash values, and by the sketches that verify candidates."""
    reader, options = open_corpus(corpus), DedupeOptions()
    found = []
    for start in range(0, len(pairs), 4096):
        part = pairs[start : start + 4096]
        prints = []
        for side in "ab":
            bodies = bodies_of(reader, np.array([one[side] for one in part]))
            texts = pa.array([bodies[one[side]] for one in part])
            prints.append(fingerprint_texts(texts, options, KEYS, signatures=True))
        for row, one in enumerate(part):
            grams = int(one["tokens"] < SHORT)
            left, right = (side.signatures[row, grams] for side in prints)  # type: ignore[index]
            sketches = [(side.words, side.grams)[grams] for side in prints]
            ends = [(side.values, side.offsets[row], side.offsets[row + 1]) for side in sketches]
            found.append(((left == right).mean(), estimate(*ends[0], *ends[1])))
    return np.array(found)


def _references(result: dict[str, Any], kind: str) -> Iterator[tuple[int, tuple[int, int, int]]]:
    for writer, number, start, end in Tasks.references(result, kind):
        yield number, (writer, start, end)


def _each(task: Callable[..., dict[str, Any]], **kinds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of a task over every segment that one of the kinds of runs has."""
    grouped: dict[int, dict[str, list[Any]]] = defaultdict(lambda: {kind: [] for kind in kinds})
    for kind, results in kinds.items():
        for result in results:
            for number, reference in _references(result, kind):
                grouped[number][kind].append(reference)
    return [task((number, grouped[number])) for number in sorted(grouped)]


def _kept_for(corpus: Path, verdicts: pa.Table, count: int) -> npt.NDArray[np.int64]:
    """int64[N]: verdicts by number; who repeats another's content gives way to it, or to what that gave way to."""
    dropped = verdicts.filter(verdicts.column("kept_id").is_valid())
    kept_for = np.full(count, -1, np.int64)
    kept_for[id_words(dropped.column("id"))[:, 1].astype(np.int64)] = id_words(dropped.column("kept_id"))[:, 1]
    reader = open_corpus(corpus, mapped=False)
    same_as = np.concatenate(
        [reader.get_batch(one).column("same_as").to_numpy().copy() for one in range(reader.num_record_batches)]
    )
    copies = same_as != np.arange(count)
    leader = kept_for[same_as[copies]]
    kept_for[copies] = np.where(leader >= 0, leader, same_as[copies])
    return kept_for


def main() -> None:
    corpus, work, target = (Path(one) for one in sys.argv[1:4])
    run_engine(make_corpus(work.parent, "chat", 300), work)  # compiled code is loaded
    base = peak_bytes()
    result, kept_for = run_engine(corpus, work)
    result |= {"base_bytes": base}
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "kept_for.npy", kept_for)
    (target / "result.json").write_text(json.dumps(result))
    shutil.rmtree(work, ignore_errors=True)


def peak_bytes() -> int:
    """The most memory this process has held (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
