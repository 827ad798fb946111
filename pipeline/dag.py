"""The whole flow on one screen. Elements are numbers and references; records travel in runs.

    units ─ Mill ─┬─ bands ──── Candidates ─ pairs ─┐
                  ├─ sketches ──────────── Attach ──┴─ Verify ─ edges ─ Cluster ─ verdicts ─┐
                  ├─ facts ─── Count (distinct) ────────────────────────┘                   │
                  │    └──────────────────────────────────────────── Settle ────────────────┘
                  │                                                    ├─ counts ─ Cut ─ Hold ─ Resolve ─ Search ─ LookAlikes
                  └─ texts, rejects ──────────────────────────────── Merge (a task a shard) ─ Commit

Every grouping is a barrier and holds references (a segment of a run: three integers) or counts. A task
whose result is in the work folder is skipped, so a retry or a second run of the plan resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipeline.tasks import Job, Tasks

Reference = tuple[int, int, int]  # transforms.runs.Segment as a plain tuple
Keyed = tuple[int, Reference]
Grouped = tuple[int, dict[str, Iterable[Reference]]]

UNIT_KINDS = ("bands", "sketches", "facts", "claims", "texts", "rejects")
INDEX_KINDS = ("published", "owners")


def build(root: beam.Pipeline, job: Job, units: Iterable[int]) -> None:
    """Adds the run of a plan to a pipeline: its work units in, a committed snapshot out."""
    tasks = Tasks(job)
    milled = (
        root
        | "Units" >> beam.Create(list(units), reshuffle=False)
        | "Deal" >> beam.Reshuffle()
        | _map("Mill", tasks.mill)
    )

    runs = milled if not job.plan.shape.is_regrouped else milled | _regroup("Regroup", tasks, UNIT_KINDS)
    bands, sketches, facts, claims, texts, rejects = (runs | _references(kind) for kind in UNIT_KINDS)
    distinct = {"facts": facts} | _task("Count", tasks.count, result=int) | "Distinct" >> beam.CombineGlobally(sum)

    guards = root | "Guards" >> beam.Create(range(len(job.plan.guards)), reshuffle=False) | _map("Guard", tasks.guard)
    eval_bands, eval_sketches = guards | _references("eval_bands"), guards | _references("eval_sketches")
    found = {"bands": bands, "eval_bands": eval_bands} | _task("Candidates", tasks.candidates)
    pairs = found | _references("pairs")
    attached = {"pairs": pairs, "sketches": sketches, "eval_sketches": eval_sketches} | _task("Attach", tasks.attach)
    sides, met = attached | _references("sides"), attached | _references("met")
    verified = {"met": met, "sides": sides, "sketches": sketches, "eval_sketches": eval_sketches} | _task(
        "Verify", tasks.verify
    )
    edges = verified | _references("edges")

    clustered = root | _once("Cluster", tasks.cluster, AsIter(edges), AsSingleton(distinct))
    verdicts = clustered | _references("verdicts")
    owned = {"claims": claims} | _task("Owners", tasks.owners) | _references("owned")
    settled = {"facts": facts, "verdicts": verdicts, "owned": owned} | _task("Settle", tasks.settle)
    totals = settled | _map("Sizes", tasks.sums) | "Totals" >> beam.CombineGlobally(_add_totals)
    counts = (
        settled
        | "Counts" >> beam.FlatMap(tasks.counts).with_output_types(tuple[int, bytes])
        | "Add counts" >> beam.CombinePerKey(tasks.add_counts)
    )
    cut = root | _once("Cut", tasks.cut, AsIter(counts), AsSingleton(totals))
    crowds, seats = found | _references("crowds"), settled | _references("seats")
    members = {"crowds": crowds, "seats": seats, "sketches": sketches, "eval_sketches": eval_sketches}
    held = members | _task("Hold", tasks.hold, AsSingleton(cut))
    resolved = cut | "Resolve" >> beam.Map(
        tasks.resolve,
        AsIter(held | _references("held")),
        AsSingleton(clustered),
        AsIter(settled | _references("torn")),
    ).with_output_types(dict)
    searched = members | _task("Search", tasks.search, AsSingleton(resolved))
    sums = searched | "Sums" >> beam.CombineGlobally(tasks.add_searches)
    looked = resolved | "LookAlikes" >> beam.Map(tasks.look_alikes, AsSingleton(sums)).with_output_types(dict)

    size = AsSingleton(looked)
    spread = {
        kind: references
        | f"Spread {kind}"
        >> beam.FlatMap(tasks.spread, kind, size).with_output_types(tuple[int, tuple[int, Reference]])
        for kind, references in {
            "texts": texts,
            "rejects": rejects,
            "settled": settled | _references("settled"),
            "drops": (resolved | _references("drops"), searched | "Searched" >> _references("drops")) | beam.Flatten(),
        }.items()
    }
    spread["every"] = looked | "Shards" >> beam.FlatMap(tasks.shards).with_output_types(
        tuple[int, tuple[int, Reference]]
    )
    bases = root | _once("Line bases", tasks.line_bases, AsIter(milled | "Lines" >> beam.Map(tasks.lines)), result=list)
    merged = spread | _task("Merge", tasks.merge, size, AsSingleton(bases))
    count = (
        merged
        | "Numbers" >> beam.Map(tasks.number).with_output_types(int)
        | "Merged" >> beam.combiners.Count.Globally()
    )

    noted = merged if not job.plan.shape.is_regrouped else merged | _regroup("Regroup index", tasks, INDEX_KINDS)
    published, owners = (noted | _references(kind) for kind in INDEX_KINDS)
    every = root | "Every" >> beam.Create(tasks.carried_segments(), reshuffle=False).with_output_types(Keyed)
    refs = {"every": every, "published": published} | _task("Kept refs", tasks.kept_refs) | _references("refs")
    by_id = {
        "every": every,
        "published": published,
        "owners": owners,
        "sketches": sketches,
        "eval_sketches": eval_sketches,
    }
    ids = by_id | _task("Index ids", tasks.index_ids, result=int)
    by_band = {"bands": bands, "eval_bands": eval_bands}
    banded = by_band | _task("Index bands", tasks.index_bands, AsIter(refs), result=int)
    _ = root | _once("Commit", tasks.commit, AsSingleton(count), size, AsIter(ids), AsIter(banded), result=int)


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


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _group_blocks(
    results: beam.PCollection[dict[str, Any]], tasks: Tasks, kinds: Sequence[str]
) -> beam.PCollection[dict[str, Any]]:
    references = {
        kind: results
        | f"Blocks of {kind}" >> beam.FlatMap(tasks.blocks, kind).with_output_types(tuple[int, tuple[int, int, int]])
        for kind in kinds
    }
    return references | _task("Runs", tasks.regroup)


def _regroup(label: str, tasks: Tasks, kinds: Sequence[str]) -> beam.PTransform:
    """For very many runs of some kinds: those of a block of them as one, cut finer."""
    return cast(beam.PTransform, label >> _group_blocks(tasks, kinds))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _create_and_run(root: beam.Pipeline, task: Callable[..., Any], result: type, *sides: Any) -> beam.PCollection[Any]:
    """One task, over side inputs. Each has a source of its own: one for all would tie them into a circle."""
    return root | beam.Create([0], reshuffle=False) | beam.Map(task, *sides).with_output_types(result)


def _once(label: str, task: Callable[..., Any], *sides: Any, result: type = dict) -> beam.PTransform:
    return cast(beam.PTransform, label >> _create_and_run(task, result, *sides))


def _add_totals(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Kept records and their bytes, over segments; associative."""
    kept, n_bytes, pinned = 0, 0, [0, 0, 0]
    for result in results:
        kept, n_bytes = kept + result["kept"], n_bytes + result["n_bytes"]
        pinned = [one + more for one, more in zip(pinned, result["pinned"], strict=True)]
    return {"kept": kept, "n_bytes": n_bytes, "pinned": pinned}
