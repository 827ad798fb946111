"""A run from the config to a committed snapshot, seen from the driver."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import grpc
import orjson
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from pipeline.commit import blind_bands, breach_uri, note_work, stop_uri
from pipeline.config import Config, load_keys
from pipeline.dataflow import check_dataflow, is_dataflow, reach_dataflow, suit_dataflow
from pipeline.decisions import check_decontaminated, put_decisions
from pipeline.decontaminate import (
    BenchmarkFile,
    benchmark_warnings,
    hashed_benchmarks,
    put_benchmarks,
    read_benchmarks,
)
from pipeline.errors import CorpusmillError, GateError, NotTaken, OvertakenError, RunFailed, UsageError
from pipeline.places import absolute, usable
from pipeline.plan import REBUILD, Plan, find_inputs, load_plan, make_plan, mill_options, plan_uri
from pipeline.progress import shown
from pipeline.refresh import File, is_rebuilt, start_refresh, with_date
from pipeline.runner import beam_options, is_left, is_local, new_pipeline, run_pipeline, waiting_for
from pipeline.scale import task_bytes
from pipeline.snapshots import FOLDERS, Dataset
from pipeline.tasks import Job
from pipeline.templates import human_bytes
from transforms.hashing import Keys, content_digest
from transforms.once import Work, place_of
from transforms.read import LineReader
from transforms.storage import DamageFault, Storage, join

# Bytes that a run holds at its peak, as a multiple of the unpacked input: measured 2.1 and less, see benchmarks/pipeline.py.
WORK_FACTOR = 1.0
WORK_FACTOR_NEAR = 2.3
OUTPUT_FACTOR = 1.2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    config: Config
    storage: Storage
    keys: Keys
    dataset: Dataset
    plan: Plan
    benchmarks: tuple[BenchmarkFile, ...] = ()

    @property
    def work(self) -> str:
        return join(self.config.work or self.dataset.uri("work"), self.plan.id)


def storage_of(config: Config) -> Storage:
    return Storage(config.storage.endpoint, config.storage.profile)


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a run beside its config."""

    limit: int | None = None
    require_input: bool = False
    date: str | None = None
    rebuild: bool = False
    accept: bool = False


def prepare(config: Config, say: Say, asked: Asked = Asked()) -> Prepared | None:
    """Plans a run without writing anything; None where there is nothing new. Raises UsageError."""
    limit = asked.limit
    if not config.inputs():
        raise UsageError("no input is given", "add --input logs/*.jsonl, or `input:` in the config")
    config = with_date(config, asked.date)
    if config.output is None:
        raise UsageError("no output is given", "add --output FOLDER, or `output:` in the config")
    storage, keys = storage_of(config), load_keys(config.split.salt)
    root = absolute(config.output)
    dataset = Dataset(storage, join(root, "trial") if limit else root)
    if storage.is_local(root) and os.path.exists(root) and not os.path.isdir(root):
        raise UsageError(f"the output {config.output} is a file; name a folder")
    for place in {root, config.work or root}:
        with usable(place, "reach"):
            storage.reach(place)
    with usable(root, "read"):
        latest = 0 if limit else dataset.latest()
    if not latest:
        _check_ours(dataset)
    files, unmatched = find_inputs(config, storage)
    if unmatched and (not latest or asked.require_input):
        raise UsageError(f"no file matches {', '.join(unmatched)}")
    for pattern in unmatched:
        say(f"warning: no file matches {pattern}")
    if not files:
        return None
    own = tuple(join(root, folder) + "/" for folder in FOLDERS)
    inside = [one.uri for one, _ in files if one.uri.startswith(own)]
    if inside:
        raise UsageError(
            f"{len(inside)} inputs lie in a folder that the output keeps for itself, as {inside[0]}",
            "write to another output, or move the inputs",
        )
    benchmarks = read_benchmarks(config, storage)
    for warning in blind_bands(config.dedupe) if config.dedupe.near else ():
        say(f"warning: {warning}")
    if latest:
        return _prepare_next(config, storage, keys, dataset, files, benchmarks, say, asked)
    if asked.rebuild:
        raise UsageError(f"there is nothing to rebuild at {config.output}", "run without --rebuild")
    looked_for = [(one.uri, len(one.items), one.digest) for one in benchmarks]
    operation = "trial" if limit else "run"
    plan = make_plan(config, keys, files, operation=operation, date=asked.date, benchmarks=looked_for)
    if limit:
        plan = limited(plan, storage, config, limit)
    return Prepared(config, storage, keys, dataset, plan, tuple(benchmarks))


def _prepare_next(
    config: Config,
    storage: Storage,
    keys: Keys,
    dataset: Dataset,
    files: Sequence[File],
    benchmarks: Sequence[BenchmarkFile],
    say: Say,
    asked: Asked,
) -> Prepared | None:
    """Plans a run on a dataset that is there."""
    start, warnings = start_refresh(
        config, dataset, files, keys, date=asked.date, accept=asked.accept, rebuild=asked.rebuild
    )
    for warning in [*warnings, *benchmark_warnings(dataset.manifest(), benchmarks, rebuild=asked.rebuild)]:
        say(f"warning: {warning}")
    if asked.rebuild and is_rebuilt(config, dataset, start, keys, [one.digest for one in benchmarks]):
        dataset.derive()
        say(f"nothing to do: snapshot {dataset.latest():06d} of {config.output} is this rebuild")
        return None
    if asked.rebuild and benchmarks and start.base.decided:
        check_decontaminated(dataset, hashed_benchmarks(benchmarks, config, keys))
    if not start.files:
        dataset.derive()
        say(f"nothing new: snapshot {dataset.latest():06d} of {config.output} holds all {len(files)} inputs")
        return None
    plan = make_plan(
        config,
        keys,
        start.files,
        number=dataset.latest() + 1,
        parent=start.parent,
        operation=REBUILD if asked.rebuild else "refresh",
        base=start.base,
        date=asked.date,
        benchmarks=[(one.uri, len(one.items), one.digest) for one in benchmarks],
    )
    return Prepared(config, storage, keys, dataset, plan, tuple(benchmarks))


def _check_ours(dataset: Dataset) -> None:
    """Raises UsageError where a run would write over, or a trial remove, what the mill did not make."""
    storage = dataset.storage
    for name in ("README.md", "CURRENT"):
        if storage.exists(dataset.uri(name)) and not dataset.latest():
            raise UsageError(
                f"{dataset.uri(name)} is there already, and not from the mill", "write to an output of its own"
            )
    if storage.is_local(dataset.root) and dataset.root.endswith("/trial") and os.path.isdir(dataset.root):
        strange = sorted(set(os.listdir(dataset.root)) - {*FOLDERS, "README.md", "CURRENT"})
        if strange:
            raise UsageError(
                f"{dataset.root} holds {strange[0]}, which is not from the mill, and a trial replaces that folder",
                "write to another output",
            )


def clear_trial(prepared: Prepared) -> None:
    """Removes the trial that the next one replaces."""
    for name in (*FOLDERS, "README.md", "CURRENT"):
        prepared.storage.remove(prepared.dataset.uri(name))


def limited(plan: Plan, storage: Storage, config: Config, limit: int) -> Plan:
    """The plan cut to its first `limit` rows, in the order of the inputs."""
    from dataclasses import replace

    limits: list[int | None] = []
    left = limit
    for unit in plan.units:
        if left <= 0:
            break
        rows = 0
        with storage.open(unit.uri, unit.size) as stream:
            for block in LineReader(unit, stream, config.read).blocks():
                rows += block.num_rows
                if rows >= left:
                    break
        limits.append(min(rows, left))
        left -= rows
    units = plan.units[: len(limits)]
    inputs = plan.inputs[: units[-1].shard + 1] if units else ()
    identity = content_digest(f"{plan.id} {limit}".encode(), 6).hex()
    return replace(plan, id=identity, inputs=inputs, units=units, limits=tuple(limits))


def space(prepared: Prepared) -> dict[str, int | None]:
    """Bytes that a run would hold and write, and that are free, in the work folder and the output."""
    near = prepared.config.dedupe.near
    unpacked = prepared.plan.unpacked_bytes
    return {
        "work": int(unpacked * (WORK_FACTOR_NEAR if near else WORK_FACTOR)),
        "output": int(unpacked * OUTPUT_FACTOR),
        "work_free": prepared.storage.free_bytes(prepared.work),
        "output_free": prepared.storage.free_bytes(prepared.dataset.root),
    }


def check_space(prepared: Prepared) -> None:
    """Raises UsageError where the run would not fit."""
    need = space(prepared)
    together = prepared.config.work is None
    for what, wanted, free in (
        ("output", (need["output"] or 0) + ((need["work"] or 0) if together else 0), need["output_free"]),
        ("work folder", need["work"] or 0, need["work_free"]),
    ):
        if free is not None and wanted > free:
            raise UsageError(
                f"too little space for the {what}: about {human_bytes(wanted)} are needed, {human_bytes(free)} are free",
                "free some, or put the work folder elsewhere: --set work=FOLDER",
            )


def execute(
    prepared: Prepared, arguments: Sequence[str], console: Console, *, accept: bool = False, keep_work: bool = False
) -> dict[str, Any] | None:
    """Runs a prepared run to its commit; returns the manifest, or None where the job was left to itself.

    Raises UsageError, GateError, RunFailed, OvertakenError.
    """
    storage, plan, work = prepared.storage, prepared.plan, prepared.work
    options = beam_options(arguments, plan.input_bytes, len(plan.units))
    if is_dataflow(options):
        check_dataflow(options, [*(one.uri for one in plan.inputs), prepared.dataset.root, work])
        suit_dataflow(options, arguments, plan, task_bytes(plan))
        reach_dataflow(options, storage)
    pipeline = new_pipeline(options)  # before anything is written: it says what the options lack
    _check_writable(storage, prepared.dataset.root)
    check_space(prepared)
    if prepared.benchmarks:
        put_benchmarks(prepared.benchmarks, prepared.config, prepared.keys, storage, work)
    if plan.base.decided:
        put_decisions(prepared.dataset, plan, work, prepared.keys)
    is_fresh = not storage.exists(plan_uri(work))
    storage.put(plan_uri(work), plan.to_json())
    note_work(prepared.dataset, plan, absolute(work))
    load_plan.cache_clear()
    for left in (breach_uri(work), stop_uri(work)):
        storage.remove(left)
    config = prepared.config
    job = Job(
        storage,
        prepared.dataset.root,
        work,
        mill_options(config, prepared.keys, plan, prepared.dataset.root, work),
        config.split,
        config.write,
        accept,
        keep_work,
    )
    failure: CorpusmillError | None = None
    try:
        _run(job, pipeline, options, Work(storage, work), console)
    except NotTaken:
        if is_fresh and not storage.names(join(work, "done"), "directory"):
            for place in {work, prepared.dataset.uri("work", plan.id)}:
                storage.remove(place)
        raise
    except (RunFailed, UsageError) as error:
        if not _is_number_taken(prepared):
            raise
        failure = (
            error  # another run committed, and took the work folder with it; or this one did, and what follows failed
        )
    if is_left(options):
        return None
    if prepared.dataset.latest() < plan.number and storage.exists(breach_uri(work)):
        found = orjson.loads(storage.read(breach_uri(work)))
        raise GateError(
            "the run was not committed: " + "; ".join(found["breaches"]),
            f"look at {found['report']}; put the input or the key right, or commit what was made as it is: add --accept",
        )
    manifest = prepared.dataset.manifest(plan.number)
    if manifest["plan"] != plan.id:
        raise OvertakenError(f"another run committed snapshot {plan.number:06d} first", "run again to catch up")
    if failure is not None:
        told = str(failure).removeprefix("the run failed: ")
        console.print(
            f"corpusmill: warning: snapshot {plan.number:06d} is committed, but what follows a commit failed: {told}\n"
            "  → run again, for CURRENT and the card; a work folder that is left goes with the next commit, or `corpusmill expire`",
            markup=False,
        )
    return manifest


def _is_number_taken(prepared: Prepared) -> bool:
    """Whether the number of the run is a snapshot's by now; not where the store does not tell."""
    try:
        return prepared.dataset.latest() >= prepared.plan.number
    except Exception:
        return False


def _run(job: Job, pipeline: beam.Pipeline, options: PipelineOptions, work: Work, console: Console) -> None:
    try:
        with shown(work, job.plan, console, waiting_for(options)):
            run_pipeline(job, pipeline, options)
    except KeyboardInterrupt as stopped:
        if not is_local(options):
            console.print(f"corpusmill: {str(stopped) or 'the job was told to end'}; if it goes on it will not commit")
        raise
    except CorpusmillError:
        raise
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        told = _told(error)
        if not is_local(options) and isinstance(error, grpc.RpcError):
            raise RunFailed(
                f"lost touch with the job server ({type(error).__name__.lstrip('_')}): the job may go on, and commit by itself",
                "look for it where it runs; when it has ended run again, which says what came of it",
            ) from None
        if "PermissionError" in told:
            raise UsageError(
                f"the run failed: {told}: a store, or a folder, denies access",
                "give the credentials the rights that deploy/policies names, and run again: it resumes",
            ) from None
        if told.endswith(DamageFault.SAID) and _is_there(job, told.removesuffix(DamageFault.SAID)):
            raise UsageError(f"the run failed: {told}", f"corpusmill verify {job.output}") from None
        raise RunFailed(
            f"the run failed: {told}", "the run committed nothing; what is done is kept, running again resumes"
        ) from None


def _is_there(job: Job, path: str) -> bool:
    """Whether a file of the dataset is there, or should be: not where `expire` took it, after which a run goes on."""
    dataset = Dataset(job.storage, job.output)
    listed = any(one["path"] == path for one in dataset.manifest()["files"])
    return listed or job.storage.exists(dataset.uri(path))


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Beam wraps what it meets in a worker thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


# Errors of ours, whose messages hold no content, as they stand in a runner's report.
_OURS = re.compile(r"(?:transforms|pipeline)\.\w+\.(?:\w+Fault|InputChanged|RedactionTimeout): ([^\n\\\[]{1,300})")

# A cluster's own trouble, as a portable runner tells it. One with a worker's traceback in it may quote a record.
_CLUSTERS = re.compile(r"\APipeline \S+ failed in state \w+: (?!.*(?:Traceback|SDK harness))([^\n]{1,300})", re.DOTALL)


def _told(error: BaseException) -> str:
    """What may be said of an error: messages of ours and of a cluster's own, of all others only the type."""
    if type(error).__module__.startswith("transforms."):
        return str(error).split(" [while running")[0]
    found = _OURS.findall(str(error)) or _CLUSTERS.findall(str(error))
    return str(found[-1]).strip() if found else type(error).__name__ + place_of(error)


def _check_writable(storage: Storage, root: str) -> None:
    """Raises UsageError unless a file can be put into the output folder."""
    probe = join(root, f".probe-{uuid.uuid4().hex}")
    fresh = storage.is_local(root) and not os.path.exists(root)
    with usable(root, "write to the output"):
        storage.put(probe, b"")
    with usable(root, "remove from the output"):
        storage.remove(probe)
        if fresh:
            with contextlib.suppress(OSError):
                os.rmdir(root)
