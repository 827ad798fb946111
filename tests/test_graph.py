"""The pipeline as a graph: what is grouped, what is fused with what, and that elements stay small as records grow."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.portability.fn_api_runner import translations
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipeline import shape as shapes
from pipeline.config import load_config
from pipeline.dag import build
from pipeline.plan import mill_options, plan_uri
from pipeline.run import prepare
from pipeline.tasks import Job
from tests.records import WORDS, chat, write_lines

GROUP = common_urns.primitives.GROUP_BY_KEY.urn
MOST_ELEMENT = 1 << 20  # 1 MiB: what any element may weigh
MOST_SIDE = 16 << 20  # 16 MiB
REFERENCE = 32  # bytes that a reference to a segment weighs at most, encoded in a group


def job_of(folder: Path, records: list[Any], files: int, *settings: str) -> Job:
    """A job over `files` files of the records, as `execute` makes it; its plan is put."""
    for number in range(files):
        write_lines(folder / "logs" / f"{number:03d}.jsonl", records[number::files])
    config = load_config(
        None, ["redact.enabled=false", *settings], {"input": [str(folder / "logs")], "output": str(folder / "out")}
    )
    prepared = prepare(config, lambda _: None)
    assert prepared is not None
    prepared.storage.put(plan_uri(prepared.work), prepared.plan.to_json())
    options = mill_options(config, prepared.keys, prepared.plan, prepared.dataset.root, prepared.work)
    return Job(prepared.storage, prepared.dataset.root, prepared.work, options, config.split, config.write)


def made(count: int, words: int) -> list[Any]:
    """Distinct records and a fifth of near-copies."""
    chooser = random.Random(7)
    records = []
    for number in range(count):
        text = " ".join(chooser.choices(WORDS, k=words))
        records.append(chat(f"{text} {number}", "Certainly."))
        if number % 5 == 0:
            records.append(chat(f"{text} {number} indeed", "Certainly."))
    return records


@pytest.fixture(scope="module", params=[shapes.PART_BYTES, 1024], ids=["whole", "parts"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> protos.Pipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "PART_BYTES", request.param)
        job = job_of(tmp_path_factory.mktemp("graph"), made(20, 20), 4)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline, job, range(len(job.plan.units)))
    return pipeline.to_runner_api()


def coders_of(graph: protos.Pipeline, coder: str) -> Iterator[str]:
    """The URNs of a coder and all that it is made of."""
    found = graph.components.coders[coder]
    yield found.spec.urn
    for part in found.component_coder_ids:
        yield from coders_of(graph, part)


def test_what_is_grouped_are_numbers_references_and_counts(graph):
    """No record, and nothing pickled, which could be of any size."""
    pickled = set()
    for transform in graph.components.transforms.values():
        if transform.spec.urn != GROUP:
            continue
        (name,) = transform.inputs.values()
        _, value = graph.components.coders[graph.components.pcollections[name].coder_id].component_coder_ids
        if any("pickled" in urn for urn in coders_of(graph, value)):
            pickled.add(transform.unique_name.split("/")[0])
    assert pickled <= {"Deal"}  # the window of a unit's number
    urns = {coder.spec.urn for coder in graph.components.coders.values()}
    assert not [urn for urn in urns if "RecordBatchCoder" in urn]


def test_side_inputs_are_what_one_task_made_or_a_number_a_task(graph, request):
    sides = set()
    for transform in graph.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = protos.ParDoPayload.FromString(transform.spec.payload)
            for tag in payload.side_inputs:
                name = graph.components.pcollections[transform.inputs[tag]].unique_name
                sides.add(name.lstrip("0123456789").split("/")[0].split(".")[0])
    edges, parts = ("forests", {"Parts"}) if "parts" in request.node.name else ("edges", set())
    references = {f"References to {kind}" for kind in (edges, "held", "torn", "refs")} | parts
    one_task = {"Cluster", "Cut", "Resolve", "LookAlikes", "Line bases"}
    a_task = {"Lines", "Count", "Sizes", "Add counts", "Told", "Numbers", "Index ids", "Index bands"}
    assert sides == references | one_task | a_task


def stages_of(graph: protos.Pipeline) -> list[set[str]]:
    """The stages after fusion, each as the labels of its transforms."""
    _, stages = translations.create_and_optimize_stages(
        copy.deepcopy(graph),
        phases=translations.standard_optimize_phases(),
        known_runner_urns=frozenset([common_urns.primitives.FLATTEN.urn, GROUP]),
        use_state_iterables=False,
    )
    return [{transform.unique_name for transform in stage.transforms} for stage in stages]


def test_stages_fuse_as_intended(graph):
    stages = stages_of(graph)

    def stage_of(label: str) -> set[str]:
        (stage,) = [one for one in stages if any(name == label or name.startswith(f"{label}/") for name in one)]
        return stage

    mill = stage_of("Mill")
    assert not any(name.startswith("Units/") for name in mill)  # a listing that is fused with its work is one worker's
    assert {
        "Candidates/References to bands",
        "Settle/References to facts",
        "Owners/References to claims",
        "Lines",
    } <= mill
    assert stage_of("Merge/Run") is not mill
    assert stage_of("Commit/Run") not in (mill, stage_of("Merge/Run"))


class _Outputs(PipelineVisitor):
    """Collects every PCollection of a pipeline by the label of what makes it; of a combiner only its result."""

    def __init__(self) -> None:
        self.found: dict[str, beam.PCollection[Any]] = {}
        self._combiners: list[AppliedPTransform] = []

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        if isinstance(node.transform, beam.CombinePerKey | beam.CombineGlobally):
            self._combiners.append(node)

    def leave_composite_transform(self, node: AppliedPTransform) -> None:
        if node in self._combiners:
            self._combiners.remove(node)
            if not self._combiners:
                self._note(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        if not self._combiners:
            self._note(node)

    def _note(self, node: AppliedPTransform) -> None:
        for tag, out in node.outputs.items():
            if isinstance(out, beam.PCollection):
                self.found[f"{node.full_label} {tag}"] = out


def _weigh(element: Any, label: str, coder: Any) -> None:
    Metrics.distribution("weight", label).update(len(coder.encode(_as_lists(element))))


def _as_lists(element: Any) -> Any:
    """Groups as lists, which every coder takes."""
    if isinstance(element, tuple) and len(element) == 2:
        key, value = element
        if isinstance(value, dict):
            return key, {name: list(one) if hasattr(one, "__iter__") else one for name, one in value.items()}
        if not isinstance(value, str | bytes | tuple | int) and hasattr(value, "__iter__"):
            return key, list(value)
    return element


def weights(job: Job) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of the heaviest element, and of all elements, of every PCollection of a run of the job."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline, job, range(len(job.plan.units)))
    outputs = _Outputs()
    pipeline.visit(outputs)
    coder = beam.coders.registry.get_coder(Any)
    for label, out in outputs.found.items():
        if "Impulse" not in label:
            _ = out | f"Weigh {label}" >> beam.Map(_weigh, label, coder)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()["distributions"]
    mine = {one.key.metric.name: one.committed for one in found if one.key.metric.namespace == "weight"}
    assert len(mine) > 40
    return {label: one.max for label, one in mine.items()}, {label: one.sum for label, one in mine.items()}


SMALL = ("write.shard_bytes=4000000",)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SEGMENT_BYTES", 8_000)
        patch.setattr(shapes, "MOST_SEGMENTS", 8)
        job = job_of(tmp_path_factory.mktemp("light"), made(200, 20), 4, *SMALL)
    return job, weights(job)[0]


def test_elements_weigh_the_same_when_records_grow(light, tmp_path, monkeypatch):
    """Eight times the bytes in as many units and segments: no element may know of it, but by wider numbers."""
    before, lighter = light
    monkeypatch.setattr(shapes, "SEGMENT_BYTES", 8_000)
    monkeypatch.setattr(shapes, "MOST_SEGMENTS", 8)
    job = job_of(tmp_path, made(1600, 20), 4, *SMALL)
    assert job.plan.shape == before.plan.shape
    assert job.plan.input_bytes > 7 * before.plan.input_bytes
    heavier, _ = weights(job)
    was = {label: lighter.get(label, 0) for label in heavier}  # nothing crowds among few records
    grown = {label: (was[label], heavier[label]) for label in heavier if heavier[label] > 1.5 * was[label] + 64}
    # Counts by bin grow until all of the 2^20 bins have some: 1.4 MB in the result of Settle, 64 parts in a group.
    assert {label for label in grown if not label.startswith(("Settle", "Counts", "Add counts"))} == set(), grown


def test_groups_grow_by_a_reference_a_unit(light, tmp_path, monkeypatch):
    """Eight times the units: what grows grows by references, so a plan's shape bounds it."""
    before, lighter = light
    monkeypatch.setattr(shapes, "SEGMENT_BYTES", 8_000)
    monkeypatch.setattr(shapes, "MOST_SEGMENTS", 8)
    job = job_of(tmp_path, made(200, 20), 32, *SMALL)
    assert job.plan.shape == before.plan.shape
    more = len(job.plan.units) - len(before.plan.units)
    heavier, _ = weights(job)
    steepest = max((heavier[label] - lighter.get(label, 0)) / more for label in heavier)
    assert steepest <= job.plan.shape.text_segments * REFERENCE  # one shard reads all segments here


@pytest.mark.parametrize("terabytes", [0.01, 0.1, 0.5, 1, 3, 10])
def test_plans_bound_what_is_grouped(terabytes):
    """The most references that a task is given: those of texts and rejects to Merge, or a segment's of three kinds."""
    weight = int(terabytes * 1e12)
    units = shards = weight // (256 << 20) + 1
    shape = shapes.shape_of(weight, units, 256 << 20)
    runs = shape.blocks(units)
    assert 2 * runs * (-(-shape.text_segments // shards) + 1) * REFERENCE <= MOST_ELEMENT
    assert 3 * max(runs, shape.segments) * REFERENCE <= MOST_ELEMENT
    assert 6 * shape.block * REFERENCE <= MOST_ELEMENT
    assert units * 2 * 8 <= MOST_SIDE  # a number and a count of lines for each unit
