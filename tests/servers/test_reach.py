"""What is out of reach is told within 30 seconds, with exit code 2 and what to do; nothing is left behind.

Run by name: `make test-stores`.
"""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.session  # type: ignore[import-untyped]
import pytest

from tests.records import chat, write_lines
from tests.servers.azurite import AzureEndpoint
from tests.servers.fake_gcs import GcsEndpoint
from tests.servers.install import REPOSITORY
from tests.servers.minio import Endpoint
from tests.servers.programs import LOOPBACK, base_environment, free_port
from tests.servers.stores import Place, place_of

LIMIT = 30.0  # seconds, beyond what the command takes to start on a busy machine
KINDS = ("s3", "gs", "az")
HINTS = {"s3": "AWS_", "gs": "STORAGE_EMULATOR_HOST", "az": "AZURE_STORAGE_"}
EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}

# The command where a package is not installed.
WITHOUT = "import sys; sys.modules[sys.argv.pop(1)] = None; from pipeline.cli import main; main()"


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_of(request.param, tmp_path_factory.mktemp("place")) as made:
        made.put(f"{made.base}/logs/a.jsonl", json.dumps(chat("Hello there")).encode() + b"\n")
        yield made


@pytest.fixture
def local(tmp_path: Path) -> str:
    return str(write_lines(tmp_path / "a.jsonl", [chat("Hello there")]))


def environment_of(kind: str, url: str, secret: str = "corpusmill-tests-secret") -> dict[str, str]:
    """The variables that lead to a server at that address."""
    endpoints = {"s3": Endpoint(url, "corpusmill-tests", secret), "gs": GcsEndpoint(url), "az": AzureEndpoint(url)}
    return dict(endpoints[kind].environment)


def start(environment: dict[str, str], *arguments: str, without: str | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WITHOUT, without] if without else [sys.executable, "-m", "pipeline"]
    return subprocess.Popen(
        [*command, *arguments],
        env=base_environment() | environment,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@functools.cache
def start_up() -> float:
    """Seconds that the command takes to find that a local file is missing."""
    began = time.monotonic()
    assert start({}, "run", "--input", "/nowhere", "--output", "/nowhere").wait() == 2
    return time.monotonic() - began


def refused(process: subprocess.Popen[str], began: float) -> str:
    """Waits for exit code 2 in time; returns what was said."""
    try:
        _, said = process.communicate(timeout=5 * LIMIT)
    finally:
        process.kill()
    assert time.monotonic() - began < LIMIT + start_up()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "→" in said, "it does not say what to do"
    return said


def run(environment: dict[str, str], *arguments: str, without: str | None = None) -> str:
    began = time.monotonic()
    return refused(start(environment, *arguments, without=without), began)


def test_a_bucket_that_is_not_there(place, local, tmp_path):
    absent = f"{place.kind}://absent"
    for arguments in (
        ["run", "--input", local, "--output", f"{absent}/out"],
        ["run", "--input", f"{absent}/*.jsonl", "--output", f"{place.base}/none"],
        ["run", "--input", local, "--output", str(tmp_path / "out"), "--set", f"work={absent}/work"],
        ["verify", f"{absent}/out"],
    ):
        assert f"there is no {'container' if place.kind == 'az' else 'bucket'} {absent}" in run(place.environment, *arguments)  # fmt: skip
    assert not (tmp_path / "out").exists()
    assert place.find(f"{place.base}/none") == []


def test_an_object_that_is_not_there(place):
    environment = place.environment
    process = start(environment, "run", "--input", f"{place.base}/logs/b.jsonl", "--output", f"{place.base}/none")
    assert process.wait(LIMIT) == 2
    assert "no file matches" in process.communicate()[1]
    assert place.find(f"{place.base}/none") == []


def test_a_wrong_key(place, local):
    wrong = dict(place.environment)
    if place.kind == "gs":
        pytest.skip("fake-gcs-server asks for no credentials: see test_a_store_that_denies_access")
    if place.kind == "s3":
        wrong["AWS_SECRET_ACCESS_KEY"] = "wrong"
    else:
        wrong = AzureEndpoint(place.environment["AZURE_STORAGE_CONNECTION_STRING"].rsplit("=", 1)[1].rsplit("/", 1)[0], "d3Jvbmc=").environment  # fmt: skip
    for arguments in (
        ["run", "--input", local, "--output", f"{place.base}/none"],
        ["run", "--input", f"{place.base}/logs/*.jsonl", "--output", f"{place.base}/none"],
        ["check", "--input", f"{place.base}/logs/*.jsonl"],
    ):
        said = run(wrong, *arguments)
        assert f"{place.base} denies access" in said
        assert HINTS[place.kind] in said
    assert place.find(f"{place.base}/none") == []


def with_rights(place: Place, *policies: str) -> dict[str, str]:
    """The variables of somebody who has the rights that policies give: for the dataset `data/mine`, and inputs in `data`."""
    statements = [one for policy in policies for one in json.loads(policy)["Statement"]]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    for name, value in (
        ("arn:aws:s3:::LOGS", "arn:aws:s3:::data"),
        ("DATASETS/NAME", "data/mine"),
        ("DATASETS", "data"),
    ):
        policy = policy.replace(name, value)
    sts = botocore.session.Session().create_client(
        "sts",
        region_name="us-east-1",
        endpoint_url=place.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=place.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=place.environment["AWS_SECRET_ACCESS_KEY"],
    )
    made = sts.assume_role(RoleArn="arn:aws:iam::1:role/any", RoleSessionName="test", Policy=policy)["Credentials"]
    return {
        **place.environment,
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        "AWS_SESSION_TOKEN": made["SessionToken"],
    }


def test_rights_are_enough_or_told_to_lack(place):
    if place.kind != "s3":
        pytest.skip("the others have no rights that a test can give")
    policies = REPOSITORY / "deploy" / "policies"
    running, forgetting = ((policies / f"s3-{name}.json").read_text() for name in ("run", "forget"))
    mine = with_rights(place, running)
    for number in (1, 2):
        place.put(f"{place.base}/nights/{number}.jsonl", json.dumps(chat(f"Night number {number}")).encode() + b"\n")
        process = start(mine, "run", "--input", f"{place.base}/nights/*.jsonl", "--output", f"{place.base}/mine")
        assert process.wait(4 * LIMIT) == 0, process.communicate()[1]
    before = place.find(f"{place.base}/mine")
    assert "the store kept" in run(mine, "expire", f"{place.base}/mine", "--keep", "1")
    assert place.find(f"{place.base}/mine") == before
    process = start(with_rights(place, running, forgetting), "expire", f"{place.base}/mine", "--keep", "1")
    assert process.wait(4 * LIMIT) == 0, process.communicate()[1]
    assert set(place.find(f"{place.base}/mine")) < set(before)
    blind = with_rights(place, running.replace("s3:::LOGS/*", "s3:::LOGS/elsewhere/*"))
    for arguments in (
        ["run", "--input", f"{place.base}/logs/*.jsonl", "--output", f"{place.base}/mine/other"],
        ["check", "--input", f"{place.base}/logs/*.jsonl"],
    ):
        assert "denies access" in run(blind, *arguments)
    listing = with_rights(
        place, running.replace('"s3:GetObject", ', "").replace("s3:::LOGS/*", "s3:::LOGS/elsewhere/*")
    )
    for arguments in (["log"], ["files"], ["verify"], ["why", "1.jsonl:1"], ["diff", "2", "2"], ["report"], ["compact"], ["rollback", "2"]):  # fmt: skip
        command, *rest = arguments
        assert "denies access" in run(listing, command, f"{place.base}/mine", *rest)
    keeping = with_rights(place, running.replace("s3:DeleteObject", "s3:DeleteObjectTagging"))
    said = run(keeping, "run", "--input", f"{place.base}/logs/*.jsonl", "--output", f"{place.base}/mine/kept")
    assert "denies access" in said
    assert "remove" in said


def test_no_credentials(local):
    bare = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}  # fmt: skip
    assert "s3://data denies access" in run(bare, "run", "--input", local, "--output", "s3://data/out")
    profile = ["--set", "storage.profile=nobody"]
    assert "profile" in run(bare, "run", "--input", local, "--output", "s3://data/out", *profile)
    said = run({}, "run", "--input", local, "--output", "az://data/out")
    assert "no account" in said
    assert "AZURE_STORAGE_" in said


def test_a_store_that_denies_access(local):
    """As Google answers whoever may not list a bucket."""

    class Denies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b'{"error": {"code": 403, "message": "does not have storage.objects.list access"}}'
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Denies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = environment_of("gs", f"http://{LOOPBACK}:{server.server_address[1]}")
        said = run(environment, "run", "--input", local, "--output", "gs://data/out")
        server.shutdown()
    assert "gs://data denies access" in said
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said


def test_an_address_where_nobody_listens(local):
    url = f"http://{LOOPBACK}:{free_port()}"
    for kind in KINDS:
        said = run(environment_of(kind, url), "run", "--input", local, "--output", f"{kind}://data/out")
        assert f"{kind}://data" in said
        assert HINTS[kind] in said


def test_an_address_that_never_answers(local, tmp_path):
    with socket.create_server((LOOPBACK, 0), backlog=64) as silent:  # the kernel takes connections, nobody reads them
        url = f"http://{LOOPBACK}:{silent.getsockname()[1]}"
        for kind in KINDS:
            environment = environment_of(kind, url)
            for arguments in (
                ["run", "--input", f"{kind}://data/*", "--output", f"{kind}://data/out"],
                [
                    "run",
                    "--input",
                    local,
                    "--output",
                    str(tmp_path / "out"),
                    "--decontaminate",
                    f"{kind}://data/b.jsonl",
                ],
                ["verify", f"{kind}://data/out"],
            ):
                said = run(environment, *arguments)
                assert f"{kind}://data does not answer" in said
                assert HINTS[kind] in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_extra_that_is_not_installed(kind, local, tmp_path):
    module, extra = EXTRAS[kind]
    said = run({}, "run", "--input", local, "--output", f"{kind}://data/out", without=module)
    assert f"make setup EXTRAS={extra}" in said
    said = run({}, "run", "--input", f"{kind}://data/a", "--output", str(tmp_path / "out"), without=module)
    assert f"make setup EXTRAS={extra}" in said
    assert not (tmp_path / "out").exists()


def test_a_job_server_that_is_not_there_or_never_answers(local, tmp_path):
    with socket.create_server((LOOPBACK, 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            beam = ["--", "--runner=PortableRunner", f"--job_endpoint={LOOPBACK}:{port}", "--environment_type=LOOPBACK"]
            said = run({}, "run", "--input", local, "--output", str(tmp_path / "out"), *beam)
            assert f"no job server answers at {LOOPBACK}:{port}" in said
            assert not (tmp_path / "out").exists()
