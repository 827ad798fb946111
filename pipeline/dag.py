"""The whole flow on one screen. Elements are numbers and references; records travel in runs.

    units ─ Mill ─┬─ bands ──── Candidates ─ pairs ─┐
                  ├─ sketches ──────────── Attach ──┴─ Verify ─ edges ─ Cluster ─ verdicts ─┐
                  ├─ facts ─── Count (distinct) ────────────────────────┘                   │
                  │    └──────────────────────────────────────────── Settle ────────────────┘
                  │                                                    ├─ counts ─ Cut ─ Hold ─ Resolve ─ Search ─┬─ LookAlikes
                  │                                                                                               └─ Follow
                  └─ texts, rejects ──────────────────────────────── Merge (a task a shard) ─ Commit

Of very many edges Cluster is Join (a label for each component), Route (edges by label) and a task a part, summed up.

Every grouping is a barrier and holds references (a segment of a run: three integers) or counts. A task
whose result is in the work folder is skipped, so a retry or a second run of the plan resumes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipeline.tasks import Job, Tasks

Results: TypeAlias = beam.PCollection[dict[str, Any]]
Reference = tuple[int, int, int]  # transforms.runs.Segment as a plain tuple
Keyed = tuple[int, Reference]
Tagged = tuple[int, tuple[str, Reference]]  # with the kind of run
Spread = tuple[int, tuple[str, tuple[int, Reference]]]  # by shard

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
    distinct = {"facts": runs} | _task("Count", tasks.count, result=int)

    guards = root | "Guards" >> beam.Create(range(len(job.plan.guards)), reshuffle=False) | _map("Guard", tasks.guard)
    sketches = {"sketches": runs, "eval_sketches": guards}
    found = {"bands": runs, "eval_bands": guards} | _task("Candidates", tasks.candidates)
    attached = {"pairs": found, "calls": found, "crowds": found, **sketches} | _task("Attach", tasks.attach)
    by_follower = {"met": attached, "sides": attached, "leads": attached, "crowds": found, "heads": found}
    verified = {**by_follower, **sketches} | _task("Verify", tasks.verify)

    clusters, clustered = _cluster(root, tasks, verified, distinct)
    owned = {"claims": runs} | _task("Owners", tasks.owners)
    settled = {"facts": runs, "verdicts": clusters, "owned": owned, "left": owned} | _task("Settle", tasks.settle)
    sizes = settled | _map("Sizes", tasks.sizes)
    counts = (
        settled
        | "Counts" >> beam.FlatMap(tasks.counts).with_output_types(tuple[int, bytes])
        | "Add counts" >> beam.CombinePerKey(tasks.add_counts)
    )
    cut = root | _once("Cut", tasks.cut, AsIter(counts), AsIter(sizes))
    in_crowds = {"crowds": found, "sketches": runs}
    held = {**in_crowds, "peers": attached, "seats": settled} | _task("Hold", tasks.hold, AsSingleton(cut))
    held_out = AsIter(held | _references("held"))
    barred = []
    if job.plan.base.index:
        newcomers = root | _once("Newcomers", tasks.newcomers, held_out)
        asked = {**in_crowds, "peers": attached} | _task("Bar", tasks.bar, AsSingleton(newcomers))
        barred.append(AsIter(asked | _references("barred")))
    resolved = cut | "Resolve" >> beam.Map(
        tasks.resolve,
        held_out,
        AsSingleton(clustered),
        AsIter(settled | _references("torn")),
        *barred,
    ).with_output_types(dict)
    searched = {**in_crowds, "seats": settled} | _task("Search", tasks.search, AsSingleton(resolved))
    left = {"followers": settled, "fallen": settled, "known": settled, "drops": (resolved, searched)}
    followed = left | _task("Follow", tasks.follow)
    told = searched | _map("Told", tasks.told)
    looked = resolved | "LookAlikes" >> beam.Map(tasks.look_alikes, AsIter(told)).with_output_types(dict)

    size = AsSingleton(looked)
    spread = [
        results | f"Spread {kinds[0]} {number}" >> beam.FlatMap(tasks.spread, kinds, size).with_output_types(Spread)
        for number, (results, kinds) in enumerate(
            [
                (runs, ("texts", "rejects")),
                (settled, ("settled",)),
                (resolved, ("drops",)),
                (searched, ("drops",)),
                (followed, ("drops", "renamed")),
            ]
        )
    ]
    every_shard = looked | "Shards" >> beam.FlatMap(tasks.shards).with_output_types(Spread)
    bases = root | _once("Line bases", tasks.line_bases, AsIter(milled | "Lines" >> beam.Map(tasks.lines)), result=list)
    merged = (
        (*spread, every_shard)
        | "For shards" >> beam.Flatten()
        | "Merge"
        >> _gather(
            ("texts", "rejects", "settled", "drops", "renamed", "every"), tasks.merge, dict, size, AsSingleton(bases)
        )
    )
    numbers = merged | "Numbers" >> beam.Map(tasks.number).with_output_types(int)

    noted = merged if not job.plan.shape.is_regrouped else merged | _regroup("Regroup index", tasks, INDEX_KINDS)
    every = root | "Every" >> beam.Create([tasks.carried_segments()], reshuffle=False).with_output_types(dict)
    refs = {"every": every, "published": noted} | _task("Kept refs", tasks.kept_refs) | _references("refs")
    by_id = {"every": every, "published": noted, "owners": noted, **sketches}
    ids = by_id | _task("Index ids", tasks.index_ids, result=int)
    by_band = {"bands": runs, "eval_bands": guards}
    banded = by_band | _task("Index bands", tasks.index_bands, AsIter(refs), result=int)
    _ = root | _once("Commit", tasks.commit, AsIter(numbers), size, AsIter(ids), AsIter(banded), result=int)


def _cluster(
    root: beam.Pipeline, tasks: Tasks, verified: Results, distinct: beam.PCollection[int]
) -> tuple[Results, Results]:
    """The clusters of all edges, and what is told of them; of very many edges in parts with whole components each."""
    if not tasks.job.plan.shape.is_parted:
        edges = verified | _references("edges")
        clustered = root | _once("Cluster", tasks.cluster, AsIter(edges), AsIter(distinct))
        return clustered, clustered
    joined = root | _once("Join", tasks.join, AsIter(verified | _references("forests")))
    routed = {"edges": verified, "labels": joined} | _task("Route", tasks.route)
    parts = {"routed": routed} | _task("Cluster parts", tasks.cluster_part, AsIter(distinct))
    numbers = parts | "Parts" >> beam.Map(tasks.number).with_output_types(int)
    return parts, root | _once("Cluster", tasks.add_clusters, AsIter(numbers), AsIter(distinct))


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
def _gather(
    tagged: beam.PCollection[Any], kinds: Sequence[str], task: Callable[..., Any], result: type, *sides: Any
) -> beam.PCollection[Any]:
    """A task a key, over what is tagged with each of the kinds.

    CoGroupByKey would do the same with a step more for each kind and three of its own, and a small run
    spends its time on steps.
    """

    run = "Run" >> beam.Map(lambda group, *sides: task(_by_kind(kinds, *group), *sides), *sides)
    return tagged | beam.GroupByKey() | run.with_output_types(result)


def _by_kind(kinds: Sequence[str], key: int, members: Iterable[tuple[str, Any]]) -> tuple[int, dict[str, list[Any]]]:
    of: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for kind, member in members:
        of[kind].append(member)
    return key, of


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _gather_references(
    of: dict[str, Results | tuple[Results, ...]], task: Callable[..., Any], result: type, *sides: Any
) -> beam.PCollection[Any]:
    """A task a segment, over the references to it in the results, or in several, that each kind of run is in.

    Results themselves are not flattened: on Flink tasks got None in place of them.
    """

    def references(result: dict[str, Any], kinds: Sequence[str]) -> Iterator[Tagged]:
        for kind in kinds:
            for writer, number, start, end in Tasks.references(result, kind):
                yield number, (kind, (writer, start, end))

    tagged = []
    sources = {kind: one if isinstance(one, tuple) else (one,) for kind, one in of.items()}
    for number, results in enumerate(dict.fromkeys(itertools.chain(*sources.values()))):
        kinds = [kind for kind, found in sources.items() if results in found]
        again = f" {number}" if any(len(sources[kind]) > 1 for kind in kinds) else ""
        label = f"References to {' and '.join(kinds)}{again}"
        tagged.append(results | label >> beam.FlatMap(references, kinds).with_output_types(Tagged))
    together = tagged | beam.Flatten() if len(tagged) > 1 else tagged[0]
    return together | _gather(tuple(of), task, result, *sides)


def _task(label: str, task: Callable[..., Any], *sides: Any, result: type = dict) -> beam.PTransform:
    return cast(beam.PTransform, label >> _gather_references(task, result, *sides))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _group_blocks(results: Results, tasks: Tasks, kinds: Sequence[str]) -> Results:
    blocks = results | "Blocks" >> beam.FlatMap(tasks.blocks, kinds).with_output_types(Tagged)
    return cast(Results, blocks | _gather(kinds, tasks.regroup, dict))


def _regroup(label: str, tasks: Tasks, kinds: Sequence[str]) -> beam.PTransform:
    """For very many runs of some kinds: those of a block of them as one, cut finer."""
    return cast(beam.PTransform, label >> _group_blocks(tasks, kinds))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def _start_and_run(root: beam.Pipeline, task: Callable[..., Any], result: type, *sides: Any) -> beam.PCollection[Any]:
    """One task, over side inputs. Each has a source of its own: one for all would tie them into a circle."""
    return root | beam.Impulse() | "Run" >> beam.Map(lambda _, *sides: task(*sides), *sides).with_output_types(result)


def _once(label: str, task: Callable[..., Any], *sides: Any, result: type = dict) -> beam.PTransform:
    return cast(beam.PTransform, label >> _start_and_run(task, result, *sides))
