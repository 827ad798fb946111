"""Beam's runners: the in-process one by name, and whatever the user names after `--`."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import logging
import os
import shlex
import sys
import weakref
from collections.abc import Hashable, Sequence
from typing import Any, TypeVar, cast

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import _RUNNER_MAP, PipelineResult
from apache_beam.runners.worker import statesampler
from apache_beam.transforms import userstate
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.commit import stop_uri
from pipeline.dag import build
from pipeline.dataflow import is_dataflow, submit
from pipeline.errors import NotTaken, UsageError
from pipeline.tasks import Job

_JOB_SERVER_SECONDS = 15.0
View = TypeVar("View", bound=PipelineOptions)
_SAMPLING_MS = 5
_KEEP_WORKERS_MS = (
    60_000  # between the stages of a job: by default a cluster starts workers anew for each of dozens, in seconds
)
ONE_PROCESS_BYTES = 64 << 20  # 64 MiB: below it starting workers costs more than it gains


class _Options(PipelineOptions):
    """Options whose views are made once: Beam asks for a few of them at each step of a pipeline, and makes each anew."""

    def view_as(self, cls: type[View]) -> View:
        views = self.__dict__.setdefault("_views", {})  # as an attribute it would be an option
        if cls not in views:
            views[cls] = super().view_as(cls)
        return cast(View, views[cls])


def beam_options(arguments: Sequence[str], input_bytes: int, units: int) -> PipelineOptions:
    """Beam's options of the arguments after `--`, with workers for a local run.

    Raises UsageError on unknown ones, and where there is no job server.
    """
    options = _Options(list(arguments))
    options.view_as(StandardOptions).runner = _runner_name(options)
    _check_known(arguments, _job_server_options(options))
    if (
        options.view_as(StandardOptions).runner == "PortableRunner"
        and not options.view_as(PortableOptions).job_endpoint
    ):
        raise UsageError("--runner=PortableRunner needs a job server", "add --job_endpoint=HOST:8099: deploy/README.md")
    named = {argument.split("=")[0] for argument in arguments}
    if "--environment_cache_millis" not in named:
        options.view_as(PortableOptions).environment_cache_millis = _KEEP_WORKERS_MS
    if is_local(options):
        direct = options.view_as(DirectOptions)
        if "--direct_running_mode" not in named:
            if "--direct_num_workers" not in named and input_bytes >= ONE_PROCESS_BYTES:
                direct.direct_num_workers = min(cores(), units)
            if direct.direct_num_workers != 1:
                direct.direct_running_mode = "multi_processing"
    return options


def _runner_name(options: PipelineOptions) -> str | None:
    """The name of one of Beam's runners for whatever Beam takes for it: `dataflow`, or the path of its class."""
    name: str | None = options.view_as(StandardOptions).runner
    said = (name or "").rpartition(".")[2].lower()
    known = _RUNNER_MAP.get(said) or _RUNNER_MAP.get(f"{said}runner")
    return known.rpartition(".")[2] if known else name


_CPU_QUOTA = "/sys/fs/cgroup/cpu.max"


def cores() -> int:
    """Cores that this process may use: of the machine, by its affinity and by the limit of its container (cgroup v2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError), open(_CPU_QUOTA, encoding="ascii") as told:
        quota, period = map(int, told.read().split())  # `max` is no number: no limit
        count = min(count, max(1, round(quota / period)))
    return count


def is_local(options: PipelineOptions) -> bool:
    """Whether the run stays on this machine, in Beam's in-process runner."""
    return (options.view_as(StandardOptions).runner or "DirectRunner") in ("DirectRunner", "FnApiRunner")


def waiting_for(options: PipelineOptions) -> str | None:
    """What a run on a cluster may be waiting for where nothing gets done."""
    if is_local(options):
        return None
    if is_dataflow(options):
        return "nothing is done yet: Dataflow takes some minutes to start workers"
    parallelism = int(options.get_all_options(retain_unknown_options=True).get("parallelism") or 0)
    slots = f"--parallelism={parallelism} needs {parallelism} free slots" if parallelism > 0 else "it needs free slots"
    return f"nothing is done yet: workers are starting, or the job waits for slots ({slots})"


def is_left(options: PipelineOptions) -> bool:
    """Whether the job is submitted and left to itself, or only written down as a template."""
    left = options.view_as(StandardOptions).no_wait_until_finish
    return not is_local(options) and bool(left or options.view_as(GoogleCloudOptions).template_location)


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline for the runner of the options. Raises UsageError with all that they lack."""
    _look_once_for_state()
    _end_steps_at_once()
    for name in ("apache_beam", None):  # its tracebacks are ours to tell; those of a job server come to the root
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    runner = _local_runner(options) if is_local(options) else None
    try:
        return beam.Pipeline(runner=runner, options=options)
    except ValueError as error:  # all that a runner's options lack, a line each
        first, *more = str(error).splitlines() or [""]
        raise UsageError(f"Beam refuses the options after `--`: {'; '.join(more) or first}") from None


@functools.cache
def _look_once_for_state() -> None:
    """Lets Beam look for the state and timers of a DoFn once: it does so eight times a step, through the signatures of all
    methods, which was a third of what a small night takes."""
    look = userstate.get_dofn_specs
    found: weakref.WeakKeyDictionary[Hashable, Any] = weakref.WeakKeyDictionary()

    def look_once(dofn: beam.DoFn) -> Any:
        if not isinstance(dofn, Hashable):
            return look(dofn)
        specs = found.get(dofn)
        if specs is None:
            specs = found[dofn] = look(dofn)
        return specs

    userstate.get_dofn_specs = look_once


def _end_steps_at_once() -> None:
    """Lets Beam, in this process, look every 5 ms at what a step is doing: at the end of each it waits for the next look,
    and looks ever less often, every 200 ms in the end."""
    statesampler.StateSampler.__init__.__defaults__ = (_SAMPLING_MS,)


def run_pipeline(job: Job, pipeline: beam.Pipeline, options: PipelineOptions) -> None:
    """Runs the job to its end, or leaves it once submitted. Errors are the runner's own.

    Raises UsageError where a runner that is not local does not take the job, KeyboardInterrupt with a message where
    such a job could not be told to end.
    """
    build(pipeline, job, _dealt(job))
    running: PipelineResult | None = None
    try:
        running = submit(pipeline) if is_dataflow(options) else _started(pipeline, options)
        if is_left(options):
            return
        running.wait_until_finish()
    except KeyboardInterrupt:
        if not is_local(options):
            # First, as a cluster may go on in spite of being told to end (seen on Flink).
            job.storage.put(stop_uri(job.work), b"")
            if running is not None:
                _cancel(running)
        raise


def _started(pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
    """The job on its way; a local one at its end."""
    try:
        return pipeline.run()
    except Exception as error:
        if is_local(options):
            raise
        raise NotTaken(
            f"the runner did not take the job: {type(error).__name__}",
            "look at --runner, --job_endpoint and what is at that address: deploy/README.md",
        ) from None


def _cancel(running: PipelineResult) -> None:
    """Ends a job that would go on without us. Raises KeyboardInterrupt with what to do where that can't be done."""
    try:
        running.cancel()
    except Exception as error:
        raise KeyboardInterrupt(
            f"the job was not cancelled ({type(error).__name__}): end it where it runs, as it costs its workers' time"
        ) from None


def _job_server_options(options: PipelineOptions) -> list[beam_job_api_pb2.PipelineOptionDescriptor]:
    """The options that the job server at `--job_endpoint` knows; none without one.

    Raises UsageError where none answers: Beam would wait for five minutes.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint or ""
    if endpoint in ("", "embed"):
        return []
    with grpc.insecure_channel(endpoint) as channel:
        server = beam_job_api_pb2_grpc.JobServiceStub(channel)
        try:
            request = beam_job_api_pb2.DescribePipelineOptionsRequest()
            return list(server.DescribePipelineOptions(request, timeout=_JOB_SERVER_SECONDS).options)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return []
            raise UsageError(
                f"no job server answers at {endpoint}: {error.code().name.lower().replace('_', ' ')}",
                "start it, or put --job_endpoint right",
            ) from None


def _local_runner(options: PipelineOptions) -> FnApiRunner:
    """Beam's in-process runner; its worker processes, where it has some, write nothing to the terminal.

    What they have to say comes to the driver through Beam; what Python prints as they end may quote a record.
    """
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner()
    direct.direct_running_mode = "in_memory"  # else Beam sets a command line of its own
    command = f"exec {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main 2>/dev/null"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def _dealt(job: Job) -> list[int]:
    """Work units, largest first: where the split over workers is static, that evens it out."""
    units = job.plan.units
    return sorted(range(len(units)), key=lambda number: (units[number].start - units[number].end, number))


def _check_known(arguments: Sequence[str], described: Sequence[beam_job_api_pb2.PipelineOptionDescriptor]) -> None:
    """Raises UsageError for an argument that no option of Beam's and of the job server takes, or whose value is wrong."""
    parser = _BeamArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve", exit_on_error=False)
    for one in described:
        if one.type == beam_job_api_pb2.PipelineOptionType.BOOLEAN:
            parser.add_argument(f"--{one.name}", action="store_true")
        else:
            parser.add_argument(f"--{one.name}", action="append")
    for options in _all_subclasses(PipelineOptions):
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(f"Beam's {error}") from None
    wrong = [one.split("=")[0] for one in unknown if one.startswith("-")]
    if not wrong:
        if unknown:
            raise UsageError(f"no option of Beam's takes {unknown[0]!r}", "write --option=value")
        return
    near = difflib.get_close_matches(wrong[0].replace("-", "_").replace("__", "--", 1), parser._option_string_actions)
    raise UsageError(f"Beam knows no option {wrong[0]}", f"perhaps {' or '.join(near)}" if near else None)


def _all_subclasses(kind: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    found: list[type[PipelineOptions]] = kind.__subclasses__()
    return [one for child in found for one in (child, *_all_subclasses(child))]
