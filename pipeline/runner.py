"""Beam's runners: the in-process one by name, and whatever the user names after `--`."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import socket
import sys
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.dag import build
from pipeline.dataflow import is_dataflow, submit
from pipeline.errors import RunFailed, UsageError
from pipeline.tasks import Job

ONE_PROCESS_BYTES = 64 << 20  # 64 MiB: below it starting workers costs more than it gains


def beam_options(arguments: Sequence[str], input_bytes: int, units: int) -> PipelineOptions:
    """Beam's options of the arguments after `--`, with workers for a local run.

    Raises UsageError on unknown ones, and where there is no job server.
    """
    options = PipelineOptions(list(arguments))
    unknown = _unknown(arguments)
    if unknown:
        raise UsageError(f"Beam knows no option {unknown[0]}")
    _check_job_server(options)
    if is_local(options):
        direct = options.view_as(DirectOptions)
        named = {argument.split("=")[0] for argument in arguments}
        if "--direct_num_workers" not in named and "--direct_running_mode" not in named:
            workers = min(os.cpu_count() or 1, units)
            if input_bytes >= ONE_PROCESS_BYTES and workers > 1:
                direct.direct_num_workers = workers
                direct.direct_running_mode = "multi_processing"
    return options


def is_local(options: PipelineOptions) -> bool:
    """Whether the run stays on this machine, in Beam's in-process runner."""
    return (options.view_as(StandardOptions).runner or "DirectRunner") in ("DirectRunner", "FnApiRunner")


def is_left(options: PipelineOptions) -> bool:
    """Whether the job is submitted and left to itself, or only written down as a template."""
    left = options.view_as(StandardOptions).no_wait_until_finish
    return not is_local(options) and bool(left or options.view_as(GoogleCloudOptions).template_location)


def run_pipeline(job: Job, options: PipelineOptions) -> None:
    """Runs the job's pipeline to its end, or leaves it once submitted. Errors are the runner's own."""
    for name in ("apache_beam", None):  # its tracebacks are ours to tell; those of a job server come to the root
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    runner = _local_runner(options) if is_local(options) else None
    try:
        pipeline = beam.Pipeline(runner=runner, options=options)
    except ValueError as error:  # all that a runner's options lack, a line each
        raise UsageError(f"Beam refuses the options after `--`: {'; '.join(str(error).splitlines()[1:])}") from None
    build(pipeline, job, _dealt(job))
    running = submit(pipeline) if is_dataflow(options) else pipeline.run()
    if is_left(options):
        return
    try:
        running.wait_until_finish()
    except KeyboardInterrupt:
        _cancel(running)
        raise


def _cancel(running: PipelineResult) -> None:
    """Ends a job that would go on, and commit, without us. Raises RunFailed where that can't be done."""
    try:
        running.cancel()
    except Exception as error:
        raise RunFailed(
            f"interrupted, but the job was not cancelled: {type(error).__name__}",
            "end it where it runs; else it goes on and commits",
        ) from None


def _check_job_server(options: PipelineOptions) -> None:
    """Raises UsageError where nothing listens at `--job_endpoint`: Beam would wait for five minutes."""
    endpoint = options.view_as(PortableOptions).job_endpoint or ""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or ":" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UsageError(
            f"no job server answers at {endpoint}: {error.strerror or type(error).__name__}",
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


def _unknown(arguments: Sequence[str]) -> list[str]:
    """Arguments that no Beam option takes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        try:
            options._add_argparse_args(parser)
        except (argparse.ArgumentError, AttributeError):
            continue
    _, unknown = parser.parse_known_args(list(arguments))
    return [one for one in unknown if one.startswith("-")]
