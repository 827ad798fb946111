"""Google Dataflow: what its runner must be told, looked at before any work, and settings that suit the mill.

The job's name is the plan's: Dataflow takes no second job of a name while one runs, so a run started twice is refused.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Sequence

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import PipelineResult

from pipeline.errors import NotTaken, UsageError
from pipeline.places import usable
from pipeline.plan import Plan
from transforms.storage import Storage, scheme_of
from transforms.stores import PATIENCE, ends_within

MOST_WORKERS = 1000  # Dataflow's own limit for a batch job

_LOG_IN = "set GOOGLE_APPLICATION_CREDENTIALS, or run: gcloud auth application-default login"
_IMAGE = "--sdk_container_image=IMAGE, of deploy/Dockerfile's target `dataflow`"


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the run goes to Google Dataflow."""
    return bool(options.view_as(StandardOptions).runner == "DataflowRunner")


def check_dataflow(options: PipelineOptions, places: Iterable[str]) -> None:
    """Raises UsageError with everything that a Dataflow job lacks; `places` are all that it reads and writes."""
    cloud, setup = options.view_as(GoogleCloudOptions), options.view_as(SetupOptions)
    lacking = []
    if not cloud.project:
        lacking.append("--project=PROJECT")
    if not cloud.region:
        lacking.append("--region=REGION, as europe-west1")
    if not (cloud.temp_location or cloud.staging_location):
        lacking.append("--temp_location=gs://BUCKET/FOLDER")
    if not options.view_as(WorkerOptions).sdk_container_image and not setup.setup_file:
        lacking.append(f"{_IMAGE} (or --setup_file=./setup.py, which every worker installs anew)")
    if lacking:
        raise UsageError("Dataflow must be told more after `--`", "add " + "; ".join(lacking))
    for name, place in (("temp", cloud.temp_location), ("staging", cloud.staging_location)):
        if place and scheme_of(place) != "gs":
            raise UsageError(f"--{name}_location={place} is not on Google's store", "write gs://BUCKET/FOLDER")
    if setup.setup_file and not (os.path.basename(setup.setup_file) == "setup.py" and os.path.isfile(setup.setup_file)):
        raise UsageError(f"--setup_file={setup.setup_file} is no file named setup.py", "name the one of this project")
    local = [place for place in places if not scheme_of(place)]
    if local:
        raise UsageError(
            f"Dataflow's workers can't reach {local[0]}{' …' if len(local) > 1 else ''}, which is on this machine",
            "put inputs, output and work on gs://",
        )
    try:
        importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except ImportError:
        raise UsageError("Dataflow needs packages that are not installed", "make setup EXTRAS=gcp,gcs") from None


def reach_dataflow(options: PipelineOptions, storage: Storage, *, patience: float = PATIENCE) -> None:
    """Returns when what a job is submitted with answers: its buckets, Google's credentials, and the service.

    Raises UsageError, where one of them does not, after `patience` seconds at most. Beam itself would try each
    again for a minute and more.
    """
    cloud = options.view_as(GoogleCloudOptions)
    for place in {cloud.temp_location, cloud.staging_location, cloud.template_location} - {None}:
        with usable(place, "reach"):
            storage.reach(place)
    try:
        answered = cloud.no_auth or ends_within(patience, _ask_for_token)
    except Exception as error:
        raise UsageError(f"there are no credentials for Google that work: {type(error).__name__}", _LOG_IN) from None
    if not answered:
        raise UsageError(f"Google gives no credentials within {patience:.0f} s", _LOG_IN)
    endpoint = (cloud.dataflow_endpoint or "").strip()
    if not cloud.template_location and not ends_within(patience, lambda: _connect(endpoint, patience)):
        raise UsageError(
            f"{endpoint} does not answer within {patience:.0f} s", "check the network, or --dataflow_endpoint"
        )


def _ask_for_token() -> None:
    """Asks Google for a token, with the credentials that Beam would find."""
    google_auth = importlib.import_module("google.auth")
    transport = importlib.import_module("google.auth.transport.requests")
    credentials, _ = google_auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(transport.Request())


def _connect(endpoint: str, seconds: float) -> None:
    """Returns when the service takes a connection, made as Beam's client does, through a proxy where one is set."""
    address = re.sub("^https?://", "", endpoint).rstrip("/")
    target = address if ":" in address else f"{address}:443"
    with grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel:
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=seconds + 1)  # whoever asks has given up by then
        finally:
            ready.cancel()


def _cores(machine_type: str | None) -> int:
    """Cores of a machine by its type's name, as `n2-highmem-8` or `n2-custom-8-65536`; 1 where it says none, Dataflow's default.

    >>> _cores("n2-highmem-8"), _cores("zones/z/machineTypes/n2d-custom-4-65536-ext"), _cores(None)
    (8, 4, 1)
    """
    found = re.search(r"(?:custom-(\d+)-\d+(?:-ext)?|-(\d+))$", machine_type or "")
    return int(found[1] or found[2]) if found else 1


def suit_dataflow(options: PipelineOptions, named: Sequence[str], plan: Plan, task_bytes: int) -> None:
    """Settings for the plan wherever its user named no other: the job's name, how far it grows, memory for a task."""
    given = {argument.split("=")[0] for argument in named}
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    cloud.job_name = cloud.job_name or f"corpusmill-{plan.id}"
    cloud.temp_location = cloud.temp_location or cloud.staging_location
    cloud.staging_location = cloud.staging_location or cloud.temp_location
    if worker.autoscaling_algorithm is None and worker.num_workers is None:
        worker.autoscaling_algorithm = "THROUGHPUT_BASED"
    if worker.max_num_workers is None:
        worker.max_num_workers = max(worker.num_workers or 1, min(MOST_WORKERS, len(plan.units)))
    debug = options.view_as(DebugOptions)
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = 1  # a process a core as it is; a second task in it costs memory only
    if not given & {"--resource_hint", "--resource_hints"}:
        needed = task_bytes * _cores(worker.machine_type)  # the hint is for a machine, where a task runs on each core
        options.view_as(StandardOptions).resource_hints = [f"min_ram={needed}B"]
    if worker.sdk_container_image and "--sdk_location" not in given:
        options.view_as(SetupOptions).sdk_location = "container"


def submit(pipeline: beam.Pipeline) -> PipelineResult:
    """The job as Dataflow took it. Raises NotTaken where it did not: no record was read then."""
    try:
        return pipeline.run()
    except Exception as error:
        said = (str(error).strip() or "no reason given").splitlines()[0]
        raise NotTaken(
            f"Dataflow did not take the job: {type(error).__name__}: {said[:300]}",
            "check the project, the region, the bucket and the credentials: gcloud auth application-default login",
        ) from None
