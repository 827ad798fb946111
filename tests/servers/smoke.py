"""A small job on the real servers, which shows that they work together.

Every key has numbers; a grouping sums them, a side input tells each sum the total of all numbers,
and a DoFn writes each sum to MinIO and counts it. The objects and the counter are read back.
"""

# Beam is typed in part.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import apache_beam as beam
import s3fs  # type: ignore[import-untyped]
from apache_beam.metrics.metric import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from tests.servers.flink import FlinkCluster, flink_cluster
from tests.servers.install import REPOSITORY, install
from tests.servers.minio import Endpoint, minio_server

BUCKET = "smoke"
PROCESS, LOOPBACK, KILLED = (f"{BUCKET}/{name}" for name in ("process", "loopback", "killed"))
KEYS = 24
NUMBERS = 960
WRITTEN = "objects_written"


class SmokeError(RuntimeError):
    """The job's result is not what it must be."""


class WriteSum(beam.DoFn):
    """Write one object for each key, through s3fs as the environment configures it."""

    def __init__(self, prefix: str, seconds: float) -> None:
        self.prefix = prefix
        self.seconds = seconds
        self.written = Metrics.counter("smoke", WRITTEN)

    def setup(self) -> None:
        self.store = s3fs.S3FileSystem()

    def process(self, element: tuple[int, Iterable[int]], total: int) -> Iterable[str]:
        key, numbers = element
        path = f"{self.prefix}/{key:02d}"
        time.sleep(self.seconds)
        self.store.pipe_file(path, f"{sum(numbers)} of {total}".encode())
        self.written.inc()
        yield path


def expected_objects() -> dict[str, bytes]:
    """Content by name of what the job writes."""
    total = sum(range(NUMBERS))
    sums = {key: sum(range(key, NUMBERS, KEYS)) for key in range(KEYS)}
    return {f"{key:02d}": f"{value} of {total}".encode() for key, value in sums.items()}


def start_job(options: list[str], prefix: str, seconds: float = 0.0) -> PipelineResult:
    """Submit the job and return at once; each key then takes `seconds`."""
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    numbers = pipeline | "Numbers" >> beam.Create(range(NUMBERS))
    total = numbers | "Total" >> beam.CombineGlobally(sum)
    _ = (
        numbers
        | "Key" >> beam.Map(lambda number: (number % KEYS, number))
        | "Group" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteSum(prefix, seconds), beam.pvalue.AsSingleton(total))
    )
    return pipeline.run()


def check_job(result: PipelineResult, endpoint: Endpoint, prefix: str) -> int:
    """Wait for the job's end; return its committed counter when all is as it must be."""
    result.wait_until_finish()
    store = endpoint.filesystem()
    found = {path.rsplit("/", 1)[1]: store.cat_file(path) for path in store.ls(prefix, detail=False)}
    if found != expected_objects():
        raise SmokeError(f"{len(found)} objects under {prefix}, not the {KEYS} expected ones")
    counters = result.metrics().query(MetricsFilter().with_name(WRITTEN))["counters"]
    committed = sum(counter.committed or 0 for counter in counters)
    if committed != KEYS:
        raise SmokeError(f"the committed counter {WRITTEN} is {committed}, not {KEYS}")
    return committed


class Clock:
    """Prints a line for each step that is done, with the seconds it took."""

    def __init__(self) -> None:
        self.begun = self.last = time.monotonic()

    def done(self, step: str) -> None:
        now = time.monotonic()
        print(f"{now - self.last:7.1f} s  {step}", flush=True)
        self.last = now

    def end(self) -> None:
        print(f"{time.monotonic() - self.begun:7.1f} s  in all", flush=True)


def run_smoke(kill: bool = False) -> None:
    """Bring all servers up and run the job with worker processes and in loopback.

    With `kill` a TaskManager is killed in the middle of one more job, and another one started.
    """
    clock = Clock()
    for name, path, _ in install():
        clock.done(f"{name} installed in {path}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="corpusmill-smoke-")))
        endpoint = stack.enter_context(minio_server(folder / "minio", [BUCKET]))
        clock.done(f"MinIO up at {endpoint.url}")
        env = {"PYTHONPATH": str(REPOSITORY), **endpoint.environment}
        cluster = stack.enter_context(flink_cluster(env=env))
        clock.done(f"Flink up with {cluster.total_slots} slots, jobs to {cluster.job_endpoint}")

        written = check_job(start_job(cluster.beam_options(), PROCESS), endpoint, PROCESS)
        clock.done(f"job with worker processes: counter {written}, all objects right")
        os.environ.update(endpoint.environment)  # in loopback we are the worker
        written = check_job(start_job(cluster.loopback_options(), LOOPBACK), endpoint, LOOPBACK)
        clock.done(f"job in loopback: counter {written}, all objects right")
        if kill:
            _kill_and_recover(cluster, endpoint, clock)
    clock.done("all stopped")
    clock.end()


def _kill_and_recover(cluster: FlinkCluster, endpoint: Endpoint, clock: Clock) -> None:
    store = endpoint.filesystem()
    before = cluster.failures()
    result = start_job(cluster.beam_options(), KILLED, seconds=1.0)
    deadline = time.monotonic() + 120
    while not store.exists(KILLED) or len(store.ls(KILLED)) < 3:
        if time.monotonic() > deadline:
            raise SmokeError("the job to be disturbed wrote nothing in 120 s")
        time.sleep(0.2)
    cluster.kill_task_manager(0)
    clock.done(f"TaskManager 0 killed after {len(store.ls(KILLED))} of {KEYS} objects")
    index = cluster.start_task_manager()
    clock.done(f"TaskManager {index} started")
    written = check_job(result, endpoint, KILLED)
    if cluster.failures() == before:
        raise SmokeError("Flink noticed no failure: the TaskManager was killed too late")
    clock.done(f"job recovered: counter {written}, all objects right")
