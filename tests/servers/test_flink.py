"""The mill on a Flink cluster, on Prism and a store: same records, same bytes as on one machine, also when a machine is lost.

Run by name, as the servers take minutes and some gigabytes: `.venv/bin/python -m pytest tests/servers`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.progress import STAGES
from tests.servers.conftest import SETS, UNITS
from tests.servers.flink import FlinkCluster, flink_cluster
from tests.servers.forwarder import Forwarder
from tests.servers.install import REPOSITORY
from tests.servers.minio import Endpoint, minio_server
from tests.servers.prism import prism_server
from tests.servers.programs import LOOPBACK, base_environment
from tests.test_run import hear_interrupts

# Four splits of the same work.
WHOLE_UNITS: list[str] = []
BIG_UNITS = ["--set", "read.unit_bytes=60000"]
SMALL_UNITS = ["--set", "read.unit_bytes=4096"]  # enough of them that a kill finds some undone
INPUTS = "s3://data/logs/*.jsonl*"
PATIENCE = 600  # seconds for a job


@pytest.fixture(scope="module")
def store(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A store with the shards in it."""
    with minio_server(tmp_path_factory.mktemp("store") / "minio", buckets=["data"]) as endpoint:
        for path in logs.iterdir():
            endpoint.filesystem().put_file(str(path), f"data/logs/{path.name}")
        yield endpoint


@pytest.fixture(scope="module")
def cluster(store: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """Two TaskManagers, each of which runs two tasks at once, whose workers reach the store."""
    env = {**store.environment, "PYTHONPATH": str(REPOSITORY)}
    with flink_cluster(
        task_managers=2, slots=2, python=sys.executable, env=env, folder=tmp_path_factory.mktemp("flink"), restarts=6
    ) as running:
        yield running


def start(store: Endpoint, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Starts the command line beside us, with the store's variables and few others."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        env=base_environment() | store.environment,
        cwd=REPOSITORY,
        preexec_fn=hear_interrupts,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Waits for the exit code that is expected; returns what was printed to stdout and stderr."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def run_arguments(output: str, *sets: str, beam: Sequence[str] = ()) -> list[str]:
    return ["run", "--input", INPUTS, "--output", output, *SETS, *sets, *(["--", *beam] if beam else [])]


def digests_of(store: Endpoint, output: str) -> dict[str, str]:
    """As `digests`, of a dataset on the store."""
    manifest = json.loads(store.filesystem().cat_file(f"{output}/snapshots/000001.json"))
    return {Path(one["path"]).name: one["digest"] for one in manifest["files"] if one["kind"] in ("parquet", "jsonl")}


def milled(store: Endpoint, output: str) -> int:
    """Units whose results are in the work folder."""
    return len(store.filesystem().glob(f"{output}/work/*/done/mill/*.json"))


def results(store: Endpoint, output: str) -> dict[str, datetime]:
    """When the result of each unit was put."""
    found = store.filesystem().find(f"{output}/work", detail=True)
    return {uri: info["LastModified"] for uri, info in found.items() if "/done/mill/" in uri}


def wait_for_some(store: Endpoint, output: str, process: subprocess.Popen[str]) -> int:
    """Returns how many units are done as soon as that is some of them."""
    deadline = time.monotonic() + PATIENCE
    while (count := milled(store, output)) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return count


def test_a_cluster_makes_the_same_bytes(store, cluster, expected):
    end(start(store, *run_arguments("s3://data/out", *UNITS, beam=cluster.beam_options())))
    assert digests_of(store, "data/out") == expected
    assert not store.filesystem().exists("data/out/work")

    out, _ = end(start(store, "verify", "s3://data/out"))
    assert "all is as the manifest says" in out
    out, _ = end(start(store, "files", "s3://data/out"))
    listed = out.split()
    assert set(expected) <= {uri.rsplit("/", 1)[1] for uri in listed}
    assert all(store.filesystem().exists(uri) for uri in listed)
    _, err = end(start(store, *run_arguments("s3://data/out", *UNITS)))
    assert "nothing new" in err


def test_progress_and_counts_come_back_to_the_terminal(store, cluster, expected):
    """Also: another split of the work, and options that only the job server knows."""
    ours, theirs = pty.openpty()
    beam = [*cluster.beam_options(), "--object_reuse", "--max_bundle_size=10"]
    with open(ours, "rb", buffering=0) as terminal:
        process = start(store, *run_arguments("s3://data/big", *BIG_UNITS, beam=beam), stderr=theirs)
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # EIO is the end of a terminal
            while part := terminal.read(4096):
                shown += part
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, shown.decode(errors="replace")
    assert re.search(rb"(?:%b).*?\d+/" % "|".join(STAGES).encode(), shown)
    accounting = json.loads(store.filesystem().cat_file("data/big/snapshots/000001.json"))["accounting"]
    assert f"of {accounting['read']:,} lines" in out
    assert digests_of(store, "data/big") == expected


def test_a_process_for_each_slot_makes_the_same_bytes(store, cluster, expected):
    """Without the option the slots of a TaskManager are threads of one process."""
    before = len(list(cluster.logs.glob("worker-*.out")))
    beam = [*cluster.beam_options(), f"--sdk_worker_parallelism={cluster.slots}"]
    end(start(store, *run_arguments("s3://data/processes", *SMALL_UNITS, beam=beam)))
    assert len(list(cluster.logs.glob("worker-*.out"))) - before == cluster.total_slots
    assert digests_of(store, "data/processes") == expected


def test_loopback_makes_the_same_bytes(store, cluster, expected):
    end(start(store, *run_arguments("s3://data/loopback", *WHOLE_UNITS, beam=cluster.loopback_options())))
    assert digests_of(store, "data/loopback") == expected


def test_prism_makes_the_same_bytes(store, expected, tmp_path):
    with prism_server(tmp_path / "prism.log") as beam:
        end(start(store, *run_arguments("s3://data/prism", *UNITS, beam=beam)))
    assert digests_of(store, "data/prism") == expected


def test_an_option_that_nobody_knows_is_told(store, cluster):
    beam = [*cluster.beam_options(), "--max_bundle_sizes=10"]
    _, err = end(start(store, *run_arguments("s3://data/unknown", *UNITS, beam=beam)), code=2)
    assert "perhaps --max_bundle_size" in err
    assert not store.filesystem().exists("data/unknown")


def test_more_workers_than_slots_are_told(store, cluster):
    beam = cluster.beam_options(parallelism=cluster.total_slots + 1)
    process = start(store, *run_arguments("s3://data/waiting", *UNITS, beam=beam))
    assert process.stderr is not None
    said = ""
    while "free slots" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    end(process, code=130)
    cluster.cancel_jobs()
    wait_for_no_job(cluster)
    assert not store.filesystem().exists("data/waiting/snapshots")


def test_a_lost_machine_changes_no_byte(store, cluster, expected):
    machine = 0
    for attempt in range(3):  # on a busy machine the kill may come when all is read
        output, before = f"data/killed-{attempt}", cluster.failures()
        process = start(store, *run_arguments(f"s3://{output}", *SMALL_UNITS, beam=cluster.beam_options()))
        wait_for_some(store, output, process)
        cluster.kill_task_manager(machine)
        (folder,) = store.filesystem().ls(f"{output}/work", detail=False)
        units = len(json.loads(store.filesystem().cat_file(f"{folder}/plan.json"))["units"])
        in_time = milled(store, output) < units
        machine = cluster.start_task_manager()
        end(process)
        assert digests_of(store, output) == expected
        if in_time:
            break
    assert in_time, "each kill came too late"
    assert cluster.failures() > before
    end(start(store, "verify", f"s3://{output}"))


def test_a_store_alone_makes_the_same_bytes_after_a_kill(store, expected):
    process = start(store, *run_arguments("s3://data/alone", *SMALL_UNITS))
    wait_for_some(store, "data/alone", process)
    process.kill()
    process.communicate()
    left = results(store, "data/alone")
    assert not store.filesystem().exists("data/alone/snapshots")
    arguments = run_arguments("s3://data/alone", *SMALL_UNITS)
    end(start(store, *arguments, "--keep-work"))
    assert left.items() <= results(store, "data/alone").items(), "a task that was done was done again"
    assert digests_of(store, "data/alone") == expected


def test_a_store_that_is_away_for_a_while_costs_time_alone(store, expected):
    """Longer than its clients try by themselves, on one machine, where nobody runs a task again."""
    way = Forwarder(int(store.url.rpartition(":")[2]))
    way.open()
    through = dataclasses.replace(store, url=f"http://{LOOPBACK}:{way.port}")
    process = start(through, *run_arguments("s3://data/away", *SMALL_UNITS))
    wait_for_some(store, "data/away", process)
    way.close()
    time.sleep(30)
    assert process.poll() is None, process.communicate()
    way.open()
    end(process)
    way.close()
    assert digests_of(store, "data/away") == expected


def wait_for_no_job(cluster: FlinkCluster) -> None:
    """Returns when every job of the cluster has ended."""
    deadline = time.monotonic() + PATIENCE
    while any(job["status"] not in ("CANCELED", "FAILED", "FINISHED") for job in cluster.rest("/jobs")["jobs"]):
        assert time.monotonic() < deadline, "the job hangs"
        time.sleep(0.5)


def test_a_fault_on_a_worker_is_told_without_content(store, cluster):
    files = store.filesystem()
    files.pipe_file("data/changing/a.jsonl", b'{"messages": "zebra"}\n')
    process = start(
        store,
        "run",
        "--input",
        "s3://data/changing",
        "--output",
        "s3://data/changed",
        *SETS,
        "--",
        *cluster.beam_options(),
    )
    while not files.glob("data/changed/work/*/plan.json"):
        assert process.poll() is None
        time.sleep(0.05)
    files.pipe_file("data/changing/a.jsonl", b'{"messages": "another zebra"}\n')
    _, err = end(process, code=4)
    assert "an input changed since the run was planned" in err
    assert "zebra" not in err
    assert not files.exists("data/changed/snapshots")


def test_an_interrupted_run_does_not_commit(store, cluster, expected):
    process = start(store, *run_arguments("s3://data/stopped", *SMALL_UNITS, beam=cluster.beam_options()))
    wait_for_some(store, "data/stopped", process)
    process.send_signal(signal.SIGINT)
    _, err = end(process, code=130)
    assert "it will not commit" in err
    wait_for_no_job(cluster)
    store.filesystem().invalidate_cache()
    assert not store.filesystem().exists("data/stopped/snapshots")
    end(start(store, *run_arguments("s3://data/stopped", *SMALL_UNITS)), code=0)  # resumed, here
    assert digests_of(store, "data/stopped") == expected
