"""The whole flow on one screen. Elements are numbers and references; records travel in runs.

    units ─ Mill ─┬─ bands ──── Candidates ─ pairs ─┐
                  ├─ sketches ──────────── Attach ──┴─ Verify ─ edges ─ Cluster ─ verdicts ─┐
                  ├─ facts ─── Count (distinct) ────────────────────────┘                   │
                  │    └──────────────────────────────────────────── Settle ────────────────┘
                  │                                                    ├─ counts ─ Cut ─ LookAlikes ─ drops
                  └─ texts, rejects ──────────────────────────────── Merge (a task a shard) ─ Commit

Every grouping is a barrier and holds references (a segment of a run: three integers) or counts. A task
whose result is in the work folder is skipped, so a retry or a second run of the plan resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipeline.tasks import Job, Tasks

Reference = tuple[int, int, int]  # transforms.runs.Segment as a plain tuple
Keyed = tuple[int, Reference]
Grouped = tuple[int, dict[str, Iterable[Reference]]]

_KINDS = ("bands", "sketches", "facts", "texts", "rejects")  # that units write


def build(root: beam.Pipeline, job: Job, units: Iterable[int]) -> None:
    """Adds the run of a plan to a pipeline: its work units in, a committed snapshot out."""
    tasks = Tasks(job)
    milled = (
        root
        | "Units" >> beam.Create(list(units), reshuffle=False)
        | "Deal" >> beam.Reshuffle()
        | _map("Mill", tasks.mill)
    )

    runs = milled if not job.plan.shape.is_regrouped else milled | _regroup(tasks)
    bands, sketches, facts, texts, rejects = (runs | _references(kind) for kind in _KINDS)
    distinct = {"facts": facts} | _task("Count", tasks.count, result=int) | "Distinct" >> beam.CombineGlobally(sum)

    found = {"bands": bands} | _task("Candidates", tasks.candidates)
    pairs = found | _references("pairs")
    attached = {"pairs": pairs, "sketches": sketches} | _task("Attach", tasks.attach)
    sides, met = attached | _references("sides"), attached | _references("met")
    verified = {"met": met, "sides": sides, "sketches": sketches} | _task("Verify", tasks.verify)
    edges = verified | _references("edges")

    clustered = root | _once("Cluster", tasks.cluster, AsIter(edges), AsSingleton(distinct))
    verdicts = clustered | _references("verdicts")
    settled = {"facts": facts, "verdicts": verdicts} | _task("Settle", tasks.settle)
    totals = settled | _map("Sums", tasks.sums) | "Totals" >> beam.CombineGlobally(_add_totals)
    counts = (
        settled
        | "Counts" >> beam.FlatMap(tasks.counts).with_output_types(tuple[int, bytes])
        | "Add counts" >> beam.CombinePerKey(tasks.add_counts)
    )
    cut = root | _once("Cut", tasks.cut, AsIter(counts), AsSingleton(totals))
    looked = cut | "LookAlikes" >> beam.Map(tasks.look_alikes, AsSingleton(clustered)).with_output_types(dict)

    size = AsSingleton(looked)
    spread = {
        kind: references
        | f"Spread {kind}" >> beam.FlatMap(tasks.spread, size).with_output_types(tuple[int, tuple[int, Reference]])
        for kind, references in {
            "texts": texts,
            "rejects": rejects,
            "settled": settled | _references("settled"),
            "drops": looked | _references("drops"),
        }.items()
    }
    spread["every"] = looked | "Shards" >> beam.FlatMap(tasks.shards).with_output_types(
        tuple[int, tuple[int, Reference]]
    )
    bases = root | _once("Line bases", tasks.line_bases, AsIter(milled | "Lines" >> beam.Map(tasks.lines)), result=list)
    merged = spread | _task("Merge", tasks.merge, size, AsSingleton(bases), result=int)
    count = merged | "Merged" >> beam.combiners.Count.Globally()
    _ = root | _once("Commit", tasks.commit, AsSingleton(count), size, result=int)


def _map(label: str, task: Callable[[Any], dict[str, Any]]) -> beam.ParDo:
    return cast(beam.ParDo, label >> beam.Map(task).with_output_types(dict))


def _references(kind: str) -> beam.ParDo:
    """The references in results to runs of a kind, each keyed by its segment."""

    def references(result: dict[str, Any]) -> Iterator[Keyed]:
        for writer, number, start, end in Tasks.references(result, kind):
            yield number, (writer, start, end)

    label = f"References to {kind}"
    return cast(beam.ParDo, label >> beam.FlatMap(references).with_output_types(tuple[int, tuple[int, int, int]]))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _group_and_run(
    kinds: dict[str, beam.PCollection[Keyed]], task: Callable[..., Any], result: type, *sides: Any
) -> beam.PCollection[Any]:
    """A task a segment, over the references of all kinds to it."""
    return kinds | beam.CoGroupByKey() | beam.Map(task, *sides).with_output_types(result)


def _task(label: str, task: Callable[..., Any], *sides: Any, result: type = dict) -> beam.PTransform:
    return cast(beam.PTransform, label >> _group_and_run(task, result, *sides))


def _regroup(tasks: Tasks) -> beam.PTransform:
    """For very many units: the runs of blocks of them as fewer runs, cut finer."""
    return cast(beam.PTransform, "Regroup" >> _group_blocks(tasks))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _group_blocks(milled: beam.PCollection[dict[str, Any]], tasks: Tasks) -> beam.PCollection[dict[str, Any]]:
    kinds = {
        kind: milled
        | f"Blocks of {kind}" >> beam.FlatMap(tasks.blocks, kind).with_output_types(tuple[int, tuple[int, int, int]])
        for kind in _KINDS
    }
    return kinds | _task("Runs", tasks.regroup)


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _create_and_run(root: beam.Pipeline, task: Callable[..., Any], result: type, *sides: Any) -> beam.PCollection[Any]:
    """One task, over side inputs. Each has a source of its own: one for all would tie them into a circle."""
    return root | beam.Create([0], reshuffle=False) | beam.Map(task, *sides).with_output_types(result)


def _once(label: str, task: Callable[..., Any], *sides: Any, result: type = dict) -> beam.PTransform:
    return cast(beam.PTransform, label >> _create_and_run(task, result, *sides))


def _add_totals(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Kept records and their bytes, over segments; associative."""
    kept, n_bytes = 0, 0
    for result in results:
        kept, n_bytes = kept + result["kept"], n_bytes + result["n_bytes"]
    return {"kept": kept, "n_bytes": n_bytes}
