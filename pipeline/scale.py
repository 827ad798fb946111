"""What a run costs on paper: bytes, requests, memory and hours of each stage, from the corpus and the workers.

The formulas are those of docs/scaling.md. What was measured stands here, in one place: `benchmarks/scaling.py` measures
it and compares a run with what this says. Bytes and seconds are linear in the text; requests are runs x segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.plan import Plan
from pipeline.shape import Shape, shape_of

# Bytes in the work folder and the output for each byte of text, and CPU seconds for each MB of text (10^6 bytes), both of
# 16 GiB, where tasks have the most to exchange and memory holds no more than a part of what they read: made chat logs of
# 1.4 kB a record with a fifth of copies, redaction off, one process. `docs/scaling.md` has 1 and 4 GiB beside it.
KINDS = {
    "texts": 0.4576,
    "facts": 0.0313,
    "sketches": 0.0747,
    "bands": 0.1381,
    "pairs": 0.0163,
    "met": 0.0049,
    "sides": 0.0652,
    "edges": 0.0031,
    "leads": 0.0004,
    "forests": 0.0003,
    "labels": 0.0002,
    "routed": 0.0032,
    "verdicts": 0.0040,
    "settled": 0.0232,
    "seats": 0.0067,
    "followers": 0.0027,
    "published": 0.0137,
    "refs": 0.0019,
    "index_ids": 0.0706,
    "index_bands": 0.0789,
    "data": 0.2956,
    "jsonl": 0.7776,
    "lineage": 0.0238,
}
RATES = {
    "mill": 0.0401,
    "count": 0.0003,
    "candidates": 0.0019,
    "attach": 0.0021,
    "verify": 0.0018,
    "join": 0.0001,
    "route": 0.0005,
    "cluster": 0.0005,
    "settle": 0.0026,
    "hold": 0.0008,
    "search": 0.0071,
    "follow": 0.0001,
    "merge": 0.0396,
    "kept_refs": 0.0001,
    "index_ids": 0.0018,
    "index_bands": 0.0045,
}
REGROUP_RATE = 0.03  # CPU seconds for each MB of text
REDACT_RATE = (
    0.058  # CPU seconds for each MB of text: benchmarks/redaction.py, chat of which every fifth turn holds a value
)

# What a process holds: this as it is, and by stage so much more, and so many bytes for each byte of text of the segment
# that a task reads. Mill and Regroup hold buffers of one size, Cluster the edges of a part, Join the leaders that
# others join, of the whole corpus: 1,066 of 94,603 records in 134 MB.
BASE_BYTES = 600e6
KEPT_BYTES = 512e6  # of which refs are kept, at most: 4 bytes for each, or a bit for every one there can be
HELD = {"mill": (180e6, 0.0), "regroup": (180e6, 0.0), "merge": (255e6, 3.3), "candidates": (0.0, 1.5),
        "attach": (0.0, 0.5), "verify": (0.0, 0.5), "route": (0.0, 0.1), "settle": (0.0, 0.7), "count": (0.0, 0.1),
        "regroup_index": (180e6, 0.0), "hold": (0.0, 0.5), "search": (0.0, 0.5), "follow": (0.0, 0.1), "kept_refs": (0.0, 0.1),
        "index_ids": (0.0, 0.5), "index_bands": (0.0, 1.5)}  # fmt: skip
CLUSTER_HELD = 0.026  # bytes for each byte of text of the part: 350 for an edge of two records that meet nobody else
JOIN_HELD = 0.0004  # bytes for each byte of text: 50 for such a leader

MOST_BYTES = 16 << 40  # 16 TiB: beyond, segments hold more than 256 MiB each, and texts are read more than twice
REFERENCE_BYTES = 24  # of a reference to a segment, through Beam
READ_BYTES = 8 << 20  # that a request for an input asks for
SINGLE = ("cluster", "join")  # stages that may be of one task, which holds something of the whole corpus
OUTPUT_KINDS = ("data", "jsonl", "lineage", "index_ids", "index_bands")  # the other kinds are in the work folder
UNIT_KINDS = ("texts", "facts", "sketches", "bands")


@dataclass(frozen=True)
class Corpus:
    """What there is to do: bytes of text, work units, shards, and whether look-alikes and personal data are looked for."""

    size: int
    units: int
    shards: int
    shape: Shape
    near: bool = True
    redact: bool = False

    @staticmethod
    def of(plan: Plan) -> Corpus:
        """That of a plan."""
        config = plan.config
        shards = -(-int(plan.unpacked_bytes * KINDS["jsonl"]) // config["write"]["shard_bytes"])
        near, redact = config["dedupe"]["near"], config["redact"]["enabled"]
        return Corpus(plan.unpacked_bytes, len(plan.units), max(shards, 1), plan.shape, near, redact)

    @staticmethod
    def sized(size: int, unit_bytes: int, shard_bytes: int, *, near: bool = True, redact: bool = False) -> Corpus:
        """One of plain files that are cut into units of `unit_bytes`."""
        units = max(-(-size // unit_bytes), 1)
        shards = max(-(-int(size * KINDS["jsonl"]) // shard_bytes), 1)
        return Corpus(size, units, shards, shape_of(size, units, shard_bytes), near, redact)


@dataclass(frozen=True)
class Stage:
    """What a stage costs. Bytes and requests are those of all tasks; `held` is what one process holds at most."""

    name: str
    tasks: int
    read: float  # bytes
    wrote: Mapping[str, float]  # bytes by kind
    gets: int
    puts: int
    held: float
    seconds: float  # CPU

    @property
    def written(self) -> float:
        return sum(self.wrote.values())

    @property
    def is_single(self) -> bool:
        return self.name in SINGLE and self.tasks == 1

    def hours(self, workers: int) -> float:
        """On so many workers of one core: whole tasks, one after the other on each."""
        return -(-self.tasks // workers) * self.seconds / self.tasks / 3600


def estimate_stages(corpus: Corpus) -> list[Stage]:
    """The stages in the order of the flow."""
    shape, units = corpus.shape, corpus.units
    runs = shape.blocks(units) if shape.is_regrouped else units
    overlaps = shape.text_segments + corpus.shards - 1  # segments that shards read, the shared ones more than once
    kinds = UNIT_KINDS if corpus.near else ("texts", "facts")
    ids, bands = shape.segments, shape.band_segments
    again = overlaps / shape.text_segments

    def stage(name: str, tasks: int, reads: Mapping[str, tuple[float, int]], writes: tuple[str, ...]) -> Stage:
        """`reads` gives, for each kind, how often its bytes are read and in how many requests."""
        read = sum(_bytes(kind, corpus) * times for kind, (times, _) in reads.items())
        gets = sum(_requests(kind, requests, corpus) for kind, (_, requests) in reads.items())
        wrote = {kind: _bytes(kind, corpus) for kind in writes}
        puts = tasks * (len(writes) + 1)  # and the task's result, which each looks for first
        return Stage(name, tasks, read, wrote, gets + tasks, puts, _held(name, corpus), _seconds(name, corpus))

    def parts() -> Iterator[Stage]:
        yield stage("mill", units, {"input": (1, units + corpus.size // READ_BYTES)}, kinds)
        if shape.is_regrouped:
            coarse = shape.unit_segments
            yield stage("regroup", runs * coarse, dict.fromkeys(kinds, (1, units * coarse)), kinds)
        yield stage("count", ids, {"facts": (1, runs * ids)}, ())
        if corpus.near:
            yield stage("candidates", bands, {"bands": (1, runs * bands)}, ("pairs",))
            reads = {"pairs": (1.0, bands * ids), "sketches": (1.0, runs * ids)}
            yield stage("attach", ids, reads, ("met", "sides", "leads") if shape.is_parted else ("met", "sides"))
            reads = {"met": (1.0, ids * ids), "sides": (1.0, ids * ids), "sketches": (1.0, runs * ids)}
            if shape.is_parted:
                yield stage("verify", ids, {**reads, "leads": (1, ids)}, ("edges", "forests"))
                yield stage("join", 1, {"forests": (1, ids)}, ("labels",))
                yield stage("route", ids, {"edges": (1, ids * ids), "labels": (1, ids)}, ("routed",))
                yield stage("cluster", shape.parts, {"routed": (1, ids * shape.parts)}, ("verdicts",))
            else:
                yield stage("verify", ids, reads, ("edges",))
                yield stage("cluster", 1, {"edges": (1, ids)}, ("verdicts",))
        settles = ("settled", "seats", "followers") if corpus.near else ("settled",)
        yield stage("settle", ids, {"facts": (1, runs * ids), "verdicts": (1, ids * shape.parts)}, settles)
        if corpus.near:
            reads = {"sketches": (1.0, runs * ids), "seats": (1.0, ids * ids)}
            yield stage("hold", ids, reads, ())
            yield stage("search", ids, reads, ())
            yield stage("follow", ids, {"followers": (1, ids * ids)}, ())
        reads = {"texts": (again, runs * overlaps), "settled": (again, overlaps)}
        yield stage("merge", corpus.shards, reads, ("data", "jsonl", "lineage", "published"))
        noted = shape.blocks(corpus.shards) if shape.is_regrouped else corpus.shards
        if shape.is_regrouped:
            coarse = shape.unit_segments
            yield stage("regroup_index", noted * coarse, {"published": (1, corpus.shards * coarse)}, ("published",))
        yield stage("kept_refs", ids, {"published": (1, noted * ids)}, ("refs",))
        reads = {"published": (1.0, noted * ids)}
        reads |= {"sketches": (1.0, runs * ids)} if corpus.near else {}
        yield stage("index_ids", ids, reads, ("index_ids",))
        if corpus.near:  # each worker reads the refs once
            yield stage("index_bands", bands, {"bands": (1, runs * bands), "refs": (1, ids)}, ("index_bands",))

    return list(parts())


def shuffled(stages: list[Stage]) -> float:
    """Bytes of references through Beam: every read but those of the input is of a segment that one names."""
    return sum((stage.gets - stage.tasks) * REFERENCE_BYTES for stage in stages if stage.name != "mill")


def task_bytes(plan: Plan) -> int:
    """The most that a process holds, by the stages that every worker has."""
    return int(max(stage.held for stage in estimate_stages(Corpus.of(plan)) if not stage.is_single))


def _bytes(kind: str, corpus: Corpus) -> float:
    return corpus.size * KINDS.get(kind, 1.0)


def _requests(kind: str, most: int, corpus: Corpus) -> int:
    """Segments that are not empty: no more than there are rows, of 32 bytes at least."""
    return min(most, int(_bytes(kind, corpus) / 32) + 1)


def _seconds(name: str, corpus: Corpus) -> float:
    if name == "regroup_index":  # by the bytes that it moves: REGROUP_RATE is that of all that Mill writes
        rate = REGROUP_RATE * KINDS["published"] / sum(KINDS[kind] for kind in UNIT_KINDS)
    else:
        rate = REGROUP_RATE if name == "regroup" else RATES[name]
    if name == "mill" and corpus.redact:
        rate += REDACT_RATE
    return rate * corpus.size / 1e6


def _held(name: str, corpus: Corpus) -> float:
    if name == "cluster":
        return BASE_BYTES + CLUSTER_HELD * corpus.size / corpus.shape.parts
    if name == "join":
        return BASE_BYTES + JOIN_HELD * corpus.size
    shape = corpus.shape
    by_band = dict.fromkeys(("candidates", "index_bands"), shape.band_segments)
    segments = {"merge": shape.text_segments, **by_band}.get(name, shape.segments)
    fixed, factor = HELD[name]
    if name == "index_bands":
        fixed += min(KEPT_BYTES, _bytes("refs", corpus) * 2)  # packed on disk to half of what they are
    return BASE_BYTES + fixed + factor * corpus.size / segments


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def size_of(text: str) -> int:
    """Bytes of a size as people write it. Raises UsageError.

    >>> size_of("10TB"), size_of("1.5 GiB"), size_of("500")
    (10000000000000, 1610612736, 500)
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)(i?)B?\s*", text, re.IGNORECASE)
    if not found or (found[3] and not found[2]) or not float(found[1]):
        raise UsageError(f"{text!r} is no size", "write 10TB, 500GB or 64MiB")
    unit = found[2].upper()
    return int(float(found[1]) * (_BINARY[unit] if found[3] else _UNITS[unit]))


def estimate(corpus: Corpus, workers: int, price: float | None) -> dict[str, Any]:
    """The estimate as values. `price` is that of a worker of one core for an hour."""
    stages = estimate_stages(corpus)
    hours = sum(stage.hours(workers) for stage in stages)
    output = sum(size for stage in stages for kind, size in stage.wrote.items() if kind in OUTPUT_KINDS)
    moved = sum(stage.read + stage.written for stage in stages)
    return {
        "size": corpus.size,
        "workers": workers,
        "units": corpus.units,
        "shards": corpus.shards,
        "regrouped": corpus.shape.is_regrouped,
        "stages": [
            {
                "stage": stage.name,
                "tasks": stage.tasks,
                "read_bytes": int(stage.read),
                "written_bytes": int(stage.written),
                "gets": stage.gets,
                "puts": stage.puts,
                "held_bytes": int(stage.held),
                "cpu_hours": stage.seconds / 3600,
                "hours": stage.hours(workers),
            }
            for stage in stages
        ],
        "shuffled_bytes": int(shuffled(stages)),
        "work_bytes": int(sum(stage.written for stage in stages) - output),
        "output_bytes": int(output),
        "gets": sum(stage.gets for stage in stages),
        "puts": sum(stage.puts for stage in stages),
        "worker_bytes": int(max(stage.held for stage in stages if not stage.is_single)),
        "single_bytes": int(max((stage.held for stage in stages if stage.is_single), default=0)),
        "hours": hours,
        "bytes_per_second_a_worker": moved / (hours * 3600 * workers),
        "cost": None if price is None else price * workers * hours,
    }
