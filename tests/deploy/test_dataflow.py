"""Dataflow without Google: the template's parameters against Google's own types, and a job that is written, not sent."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, REPOSITORY
from tests.servers.programs import LOOPBACK, base_environment, free_port, start_program, stop_programs, wait_until

METADATA = DEPLOY / "dataflow" / "metadata.json"
COMMAND = runpy.run_path(str(DEPLOY / "dataflow" / "launch.py"), run_name="launch")["command"]

_PARSE = """
import json, sys
from google.cloud.dataflow_v1beta3 import TemplateMetadata
from google.protobuf import json_format
print(len(json_format.ParseDict(json.load(open(sys.argv[1])), TemplateMetadata.pb(TemplateMetadata())).parameters))
"""


def test_metadata_is_what_googles_types_take(image, tmp_path):
    """As far as they are public: Dataflow's client takes no unknown field and no unknown type of a parameter."""
    python = str(image / "bin" / "python")
    done = subprocess.run([python, "-c", _PARSE, str(METADATA)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(json.loads(METADATA.read_text())["parameters"]) == 6
    for right, wrong in (('"helpText"', '"helptext"'), ('"TEXT"', '"STRING"')):
        (tmp_path / "wrong.json").write_text(METADATA.read_text().replace(right, wrong, 1))
        refused = subprocess.run(
            [python, "-c", _PARSE, str(tmp_path / "wrong.json")], capture_output=True, text=True, check=False
        )
        assert refused.returncode != 0, wrong


def test_parameters_have_what_the_console_shows():
    for one in json.loads(METADATA.read_text())["parameters"]:
        assert one["label"]
        example = one["helpText"].rpartition(": ")[2]
        if example and one["name"] != "key_file":
            assert all(re.match(pattern, example) for pattern in one["regexes"]), one["name"]


def test_the_launcher_gives_every_parameter_to_the_console_script():
    values = {
        "input": "gs://a/*.gz gs://b/*.gz",
        "output": "gs://o",
        "config": "/template/a.yaml",
        "date": "2026-11-22",
        "set": "split.val=0.2 read.shape=auto",
        "key_file": "/template/key",
    }
    assert set(values) == {one["name"] for one in json.loads(METADATA.read_text())["parameters"]}
    line, environment = COMMAND([*(f"--{name}={value}" for name, value in values.items()), "--runner=DataflowRunner"])
    assert line[:3] == ["corpusmill", "run", "/template/a.yaml"]
    assert line[3:-2] == ["--input", "gs://a/*.gz", "gs://b/*.gz", "--output", "gs://o", "--date", "2026-11-22",
                          "--set", "split.val=0.2", "--set", "read.shape=auto"]  # fmt: skip
    assert line[-2:] == ["--", "--runner=DataflowRunner"]
    assert environment == {"CORPUSMILL_KEY_FILE": "/template/key"}


class Store:
    """A fake of Google's store: `url`, and its objects."""

    def __init__(self, url: str) -> None:
        self.url = url

    def put(self, name: str, content: bytes) -> None:
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        self._call(f"/upload/storage/v1/b/data/o?{query}", content)

    def names(self) -> list[str]:
        return [one["name"] for one in json.loads(self._call("/storage/v1/b/data/o")).get("items", [])]

    def read(self, name: str) -> bytes:
        return self._call(f"/storage/v1/b/data/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def make_bucket(self) -> None:
        self._call("/storage/v1/b?project=p", json.dumps({"name": "data"}).encode(), "application/json")

    def _call(self, path: str, content: bytes | None = None, kind: str = "application/octet-stream") -> bytes:
        request = urllib.request.Request(self.url + path, content, {"Content-Type": kind})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            return bytes(response.read())


@pytest.fixture
def store(tools: Path, tmp_path: Path) -> Iterator[Store]:
    url = f"http://{LOOPBACK}:{free_port()}"
    command = [str(tools / "fake-gcs-server"), "-scheme", "http", "-host", LOOPBACK, "-port", url.rpartition(":")[2],
               "-backend", "memory", "-external-url", url, "-public-host", url.removeprefix("http://")]  # fmt: skip
    server = start_program("fake-gcs-server", command, tmp_path / "server.log", base_environment())
    made = Store(url)

    def ready() -> bool:
        try:
            made.make_bucket()
        except OSError:
            return False
        return True

    try:
        wait_until(ready, [server], seconds=60)
        yield made
    finally:
        stop_programs([server])


def run(image: Path, store: Store, *beam: str) -> subprocess.CompletedProcess[str]:
    """The console script of the image with records, output and Dataflow's staging on the fake store."""
    line, _ = COMMAND(["--input=gs://data/logs/*.jsonl", "--output=gs://data/out", "--set=redact.enabled=false", *beam])
    environment = {
        **base_environment(),
        "STORAGE_EMULATOR_HOST": store.url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # what the fake does not speak
        "GOOGLE_CLOUD_PROJECT": "corpusmill-test",
        "NO_GCE_CHECK": "true",
    }
    return subprocess.run(
        [str(image / "bin" / line[0]), *line[1:]],
        env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


DATAFLOW = [
    "--runner=DataflowRunner",
    "--project=corpusmill-test",
    "--region=europe-west1",
    "--temp_location=gs://data/tmp",
    "--staging_location=gs://data/staging",
    "--sdk_container_image=europe-docker.pkg.dev/p/r/corpusmill-dataflow:0.1.0",
    "--no_auth",
]


def test_a_job_is_written_as_a_template(image, store):
    """What would be sent to Dataflow, with everything but Google: the job's settings, and the whole graph staged."""
    store.put("logs/chat.jsonl", (REPOSITORY / "examples/logs/chat-en-1.jsonl").read_bytes())
    done = run(image, store, *DATAFLOW, "--template_location=gs://data/templates/job.json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "written as a template" in done.stderr, done.stderr
    names = store.names()
    (plan,) = {name.split("/")[2] for name in names if name.startswith("out/work/")}
    assert not [name for name in names if name.startswith("out/snapshots/")]
    job = json.loads(store.read("templates/job.json"))
    assert job["name"] == f"corpusmill-{plan}"
    environment = job["environment"]
    (pool,) = environment["workerPools"]
    assert pool["autoscalingSettings"]["algorithm"] == "AUTOSCALING_ALGORITHM_BASIC"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 1
    images = {one["containerImage"] for one in pool["sdkHarnessContainerImages"]}
    assert images == {"europe-docker.pkg.dev/p/r/corpusmill-dataflow:0.1.0"}
    (graph,) = [name for name in names if name.startswith("staging/") and name.endswith("pipeline.pb")]
    labels = graph_labels(image, store.read(graph))
    assert {"Mill", "Deal", "Commit", "Merge"} <= labels


def graph_labels(image: Path, proto: bytes) -> set[str]:
    """The first parts of the labels in a staged pipeline."""
    script = (
        "import sys; from apache_beam.portability.api import beam_runner_api_pb2 as p; "
        "g = p.Pipeline.FromString(sys.stdin.buffer.read()); "
        "print('\\n'.join({t.unique_name.split('/')[0] for t in g.components.transforms.values()}))"
    )
    done = subprocess.run([str(image / "bin" / "python"), "-c", script], input=proto, capture_output=True, check=True)
    return set(done.stdout.decode().split("\n"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--temp_location": "--temp_location=/tmp/x"}, "gs://BUCKET/FOLDER"),
        ({"--sdk_container_image": "--num_workers=1"}, "--sdk_container_image=IMAGE"),
        ({"--region": "--num_workers=1"}, "--region=REGION"),
    ],
)
def test_wrong_arguments_end_it_before_any_work(image, store, change, said):
    store.put("logs/chat.jsonl", b"{}\n")
    arguments = [change.get(one.partition("=")[0], one) for one in DATAFLOW]
    done = run(image, store, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert store.names() == ["logs/chat.jsonl"]


def test_without_credentials_it_ends_before_any_work(image, store):
    store.put("logs/chat.jsonl", (REPOSITORY / "examples/logs/chat-en-1.jsonl").read_bytes())
    arguments = [one for one in DATAFLOW if one != "--no_auth"]
    done = run(image, store, *arguments)
    assert done.returncode == 2, done.stderr
    assert "no credentials for Google" in done.stderr
    assert "gcloud auth application-default login" in done.stderr
    assert store.names() == ["logs/chat.jsonl"]


def test_a_service_that_is_out_of_reach_ends_it_before_any_work(image, store):
    store.put("logs/chat.jsonl", (REPOSITORY / "examples/logs/chat-en-1.jsonl").read_bytes())
    done = run(image, store, *DATAFLOW, f"--dataflow_endpoint={LOOPBACK}:{free_port()}")
    assert done.returncode == 2, done.stderr
    assert "does not answer within" in done.stderr
    assert store.names() == ["logs/chat.jsonl"]
