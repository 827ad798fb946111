"""What Dataflow must be told, and what the mill sets itself. Nothing here reaches Google."""

from __future__ import annotations

import socket

import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline.config import load_config
from pipeline.dataflow import check_dataflow, is_dataflow, reach_dataflow, suit_dataflow
from pipeline.errors import UsageError
from pipeline.plan import Plan, make_plan
from pipeline.runner import is_left
from tests.test_run import mill
from transforms.hashing import Keys
from transforms.storage import Found, Storage
from transforms.stores import StorageError

TOLD = [
    "--runner=DataflowRunner",
    "--project=p",
    "--region=europe-west1",
    "--temp_location=gs://b/tmp",
    "--sdk_container_image=europe-docker.pkg.dev/p/r/corpusmill-dataflow:0.1.0",
]
PLACES = ["gs://logs/a.jsonl", "gs://datasets/out", "gs://datasets/out/work/x"]


def without(name: str) -> list[str]:
    return [one for one in TOLD if not one.startswith(f"--{name}")]


def plan_of(megabytes: int) -> Plan:
    found = [(Found("gs://logs/a.jsonl", megabytes << 20, "e"), "production")]
    return make_plan(load_config(None, ["redact.enabled=false"]), Keys("salt"), found)


@pytest.mark.parametrize(
    ("arguments", "places", "said"),
    [
        (TOLD[:1], PLACES, "--project=PROJECT; --region=REGION, as europe-west1; --temp_location=gs://BUCKET/FOLDER; --sdk"),
        (without("project"), PLACES, "add --project=PROJECT"),
        (without("region"), PLACES, "add --region=REGION"),
        (without("temp"), PLACES, "add --temp_location=gs://BUCKET/FOLDER"),
        (without("sdk"), PLACES, "--setup_file=./setup.py"),
        ([*without("temp"), "--temp_location=/tmp/x"], PLACES, "write gs://BUCKET/FOLDER"),
        ([*TOLD, "--staging_location=s3://b/x"], PLACES, "--staging_location=s3://b/x is not on Google's store"),
        ([*without("sdk"), "--setup_file=./none/setup.py"], PLACES, "no file named setup.py"),
        ([*without("sdk"), "--setup_file=pyproject.toml"], PLACES, "no file named setup.py"),
        (TOLD, ["/logs/a.jsonl", *PLACES], "can't reach /logs/a.jsonl"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_at_once(arguments, places, said):
    options = PipelineOptions(arguments)
    assert is_dataflow(options)
    with pytest.raises(UsageError) as raised:
        check_dataflow(options, places)
    assert said in f"{raised.value} → {raised.value.hint}"


def test_a_run_stops_before_any_work(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("{}\n")
    arguments = ["run", "--input", tmp_path / "a.jsonl", "--output", tmp_path / "out", "--set", "redact.enabled=false"]
    assert mill(*arguments, "--", "--runner=DataflowRunner") == 2
    assert "--temp_location=gs://BUCKET/FOLDER" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class Reached(Storage):
    """A store of which all buckets but one answer."""

    def reach(self, uri: str) -> None:
        if uri.startswith("gs://absent"):
            raise StorageError("there is no bucket gs://absent", "create it")


def test_without_credentials_that_work_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="no credentials for Google that work") as raised:
        reach_dataflow(PipelineOptions(TOLD), Reached())
    assert "gcloud auth application-default login" in str(raised.value.hint)


def test_a_service_that_never_answers_is_said():
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        options = [*TOLD, "--no_auth", f"--dataflow_endpoint=https://{endpoint}"]
        with pytest.raises(UsageError, match=f"{endpoint} does not answer within 0 s"):
            reach_dataflow(PipelineOptions(options), Reached(), patience=0.2)
        # A template is written, not sent.
        reach_dataflow(PipelineOptions([*options, "--template_location=gs://b/t.json"]), Reached(), patience=0.2)


def test_a_bucket_for_staging_that_is_not_there_is_said():
    options = PipelineOptions([*TOLD, "--no_auth", "--staging_location=gs://absent/x"])
    with pytest.raises(UsageError, match="there is no bucket gs://absent"):
        reach_dataflow(options, Reached())


def test_settings_follow_the_plan():
    plan = plan_of(8 << 10)
    options = PipelineOptions(TOLD)
    suit_dataflow(options, TOLD, plan, 2 << 30)
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    assert cloud.job_name == f"corpusmill-{plan.id}"
    assert cloud.staging_location == "gs://b/tmp"
    assert worker.autoscaling_algorithm == "THROUGHPUT_BASED"
    assert worker.max_num_workers == len(plan.units) == 32
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 1
    assert options.view_as(StandardOptions).resource_hints == [f"min_ram={2 << 30}B"]
    assert options.view_as(SetupOptions).sdk_location == "container"


def test_what_the_user_names_stays():
    named = [*TOLD, "--job_name=mine", "--num_workers=3", "--max_num_workers=7", "--resource_hints=min_ram=9GB",
             "--number_of_worker_harness_threads=2", "--staging_location=gs://b/staging", "--sdk_location=default"]  # fmt: skip
    options = PipelineOptions(named)
    suit_dataflow(options, named, plan_of(8 << 10), 2 << 30)
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    assert (cloud.job_name, cloud.staging_location) == ("mine", "gs://b/staging")
    assert (worker.num_workers, worker.max_num_workers, worker.autoscaling_algorithm) == (3, 7, None)
    assert options.view_as(StandardOptions).resource_hints == ["min_ram=9GB"]
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 2
    assert options.view_as(SetupOptions).sdk_location == "default"


def test_a_job_is_left_where_that_is_asked_for():
    assert not is_left(PipelineOptions(TOLD))
    assert is_left(PipelineOptions([*TOLD, "--no_wait_until_finish"]))
    assert is_left(PipelineOptions([*TOLD, "--template_location=gs://b/t.json"]))
    assert not is_left(PipelineOptions(["--no_wait_until_finish"]))  # a run on this machine ends with its command
