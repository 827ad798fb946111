"""Decontaminate: reads the benchmarks that records must not hold, and tells what was found. Never their text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.places import usable
from pipeline.plan import Plan, benchmarks_uri
from pipeline.signatures import SIGNATURE
from transforms.decontaminate import (
    METHODS,
    Benchmarks,
    build_benchmarks,
    items_digest,
    save_benchmarks,
    texts_of_item,
    unpack_bits,
)
from transforms.hashing import Keys
from transforms.read import LineReader, cut_units
from transforms.storage import Found, Storage
from transforms.strict_json import Refused, loads_fast

Item = tuple[list[str], str]


@dataclass(frozen=True)
class BenchmarkFile:
    """A benchmark: its place, the (texts, whole) of each item, the digest, and signatures uint32[N, P] where it has
    those in place of texts."""

    uri: str
    items: list[Item]
    digest: str
    signatures: npt.NDArray[np.uint32] | None = None


def read_benchmarks(config: Config, storage: Storage) -> list[BenchmarkFile]:
    """The benchmarks of `decontaminate`, in the order of their URIs. Raises UsageError."""
    found: dict[str, Found] = {}
    for pattern in config.decontaminate:
        with usable(pattern, "read the benchmark"):
            storage.reach(pattern)
            files = storage.find(pattern)
        if not files:
            raise UsageError(f"no benchmark matches {pattern}", "name JSONL or Parquet files")
        found |= {one.uri: one for one in files}
    benchmarks = []
    for uri in sorted(found):
        signatures = None
        if uri.endswith(".parquet"):
            items, signatures = _parquet_items(storage, uri, config)
        else:
            items = _json_items(storage, found[uri], config)
        if signatures is None and not any(whole for _, whole in items):
            raise UsageError(f"the benchmark {uri} holds no text", "name JSONL or Parquet files with an item a row")
        benchmarks.append(BenchmarkFile(uri, items, items_digest(items, signatures), signatures))
    return benchmarks


def _json_items(storage: Storage, file: Found, config: Config) -> list[Item]:
    items: list[Item] = []
    for unit in cut_units(file.uri, 0, file.size, config.read):
        with storage.open(file.uri) as stream:
            for lines in LineReader(unit, stream, config.read).blocks():
                for text, reasons in zip(
                    lines.column("text").to_pylist(), lines.column("reasons").to_pylist(), strict=True
                ):
                    try:
                        items.append(texts_of_item(loads_fast(text if text is not None else b"")))
                    except Refused as refused:
                        why = reasons[0] if reasons else refused.reason.value
                        raise UsageError(f"item {len(items) + 1} of the benchmark {file.uri} can't be read: {why}") from None  # fmt: skip
    return items


def _parquet_items(storage: Storage, uri: str, config: Config) -> tuple[list[Item], npt.NDArray[np.uint32] | None]:
    """The items of a Parquet file; where it has a column `signature`, those, and no texts."""
    try:
        rows = pq.read_table(io.BytesIO(storage.read(uri)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UsageError(f"the benchmark {uri} is not a Parquet file") from None
    if SIGNATURE not in rows.column_names:
        return [texts_of_item(row) for row in rows.to_pylist()], None
    count = config.dedupe.num_perm
    try:
        lists = rows.column(SIGNATURE).cast(pa.list_(pa.uint64())).combine_chunks()
        values = lists.flatten().to_numpy().reshape(len(lists), -1 if len(lists) else count)
        whole = lists.null_count == 0 and bool(pc.all(pc.equal(pc.list_value_length(lists), values.shape[1])).as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        whole = False
    if not whole or not len(values) or values.max() > np.iinfo(np.uint32).max:
        raise UsageError(
            f"the column {SIGNATURE} of {uri} does not hold signatures",
            "write those that datasketch.MinHash has in hashvalues, one a row, as `corpusmill signatures` does",
        )
    if values.shape[1] != count:
        raise UsageError(
            f"the signatures in {uri} have {values.shape[1]} values, and dedupe.num_perm is {count}",
            f"sign them with num_perm={count}, or start a new dataset with --set dedupe.num_perm={values.shape[1]}",
        )
    return [([], "") for _ in range(len(values))], values.astype(np.uint32)


def put_benchmarks(
    benchmarks: Sequence[BenchmarkFile], config: Config, keys: Keys, storage: Storage, work: str
) -> None:
    """Puts what is looked for into the work folder, where each worker loads it."""
    save_benchmarks(hashed_benchmarks(benchmarks, config, keys), storage, benchmarks_uri(work))


def hashed_benchmarks(benchmarks: Sequence[BenchmarkFile], config: Config, keys: Keys) -> Benchmarks:
    """What is looked for, as hashes."""
    signatures = {number: one.signatures for number, one in enumerate(benchmarks) if one.signatures is not None}
    return build_benchmarks([one.items for one in benchmarks], config.dedupe, keys, signatures)


def contamination_of(plan: Plan, units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For the report: of each benchmark the items, those found, the records dropped by method, and where the first was."""
    told = []
    for number, benchmark in enumerate(plan.benchmarks):
        results = [unit["benchmarks"][number] for unit in units]
        found = np.zeros(benchmark.items, bool)
        for result in results:
            found |= unpack_bits(result["items"], benchmark.items)
        told.append(
            {
                "benchmark": benchmark.name,
                "digest": benchmark.digest,
                "items": benchmark.items,
                "items_found": int(found.sum()),
                "records": sum(result["records"] for result in results),
                **{method: sum(result[method] for result in results) for method in METHODS},
                "first": _first_place(plan, units, [result["first"] for result in results]),
            }
        )
    return told


def _first_place(plan: Plan, units: Sequence[Mapping[str, Any]], lines: Sequence[int | None]) -> str | None:
    """SHARD:LINE of the first record that was found."""
    base = 0
    for number, (unit, line) in enumerate(zip(units, lines, strict=True)):
        base = 0 if number == 0 or units[number - 1]["shard"] != unit["shard"] else base
        if line is not None:
            return f"{plan.inputs[unit['shard']].name}:{base + line + 1}"
        base += unit["lines"]
    return None


def benchmark_warnings(before: Mapping[str, Any], benchmarks: Sequence[BenchmarkFile], *, rebuild: bool) -> list[str]:
    """What to say where a run on a dataset looks for other benchmarks than the last one."""
    known = {one["digest"] for one in before.get("benchmarks", [])}
    new = [one for one in benchmarks if one.digest not in known]
    gone = known - {one.digest for one in benchmarks}
    warnings = []
    if new and not rebuild:
        warnings.append(
            f"{len(new)} benchmarks are new: they are looked for in new records only; --rebuild looks in all but eval"
        )
    if gone:
        warnings.append(f"{len(gone)} benchmarks that the last run looked for are not given: new records may hold them")
    return warnings
