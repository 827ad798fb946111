"""A real Flink cluster with Beam's job server on 127.0.0.1, whose members can be killed.

with flink_cluster(python=sys.executable, env=endpoint.environment) as cluster:
    run_job(PipelineOptions(cluster.beam_options()))
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

import psutil

from tests.servers.flink_config import (
    JOB_MANAGER_HEAP_MIB,
    JOB_SERVER_HEAP_MIB,
    ClusterPorts,
    TaskManagerMemory,
    cluster_config,
    java_command,
    log_config,
)
from tests.servers.install import (
    BEAM,
    install_boot,
    install_flink,
    install_job_server,
    require_tools,
)
from tests.servers.programs import (
    LOOPBACK,
    Program,
    ServerError,
    accepts,
    base_environment,
    free_port,
    start_program,
    stop_programs,
    wait_until,
)

_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"

# Variables by which a cluster's Python workers are found: they are in process groups of their own.
_CLUSTER_MARK = "CORPUSMILL_TEST_CLUSTER"
_MEMBER_MARK = "CORPUSMILL_TEST_TASK_MANAGER"

READY_SECONDS = 120.0


@dataclass
class FlinkCluster:
    """A running cluster. Indexes of TaskManagers count up from 0 and are never used again."""

    folder: Path
    slots: int
    ports: ClusterPorts
    job_port: int
    mark: str = field(default_factory=lambda: uuid4().hex)
    job_manager: Program | None = None
    job_server: Program | None = None
    task_managers: dict[int, Program] = field(default_factory=dict)

    @property
    def job_endpoint(self) -> str:
        """Where jobs are submitted, `host:port`."""
        return f"{LOOPBACK}:{self.job_port}"

    @property
    def logs(self) -> Path:
        """One file for each JVM (`*.log`, and `*.out` for what it prints) and each worker."""
        return self.folder / "logs"

    @property
    def total_slots(self) -> int:
        """Slots of the TaskManagers that run: the highest parallelism that can start."""
        return self.slots * sum(program.running for program in self.task_managers.values())

    def beam_options(self, parallelism: int | None = None) -> list[str]:
        """Options for a job whose Python code runs in processes that Flink starts.

        `parallelism` is that of all running slots unless given.
        """
        environment = json.dumps({"command": str(self.folder / "boot")})
        return [
            *self._portable_options(parallelism),
            "--environment_type=PROCESS",
            f"--environment_config={environment}",
        ]

    def loopback_options(self, parallelism: int | None = None) -> list[str]:
        """Options for a job whose Python code runs in the submitting process, for debugging."""
        return [*self._portable_options(parallelism), "--environment_type=LOOPBACK"]

    def start_task_manager(self) -> int:
        """Start one more, wait until the JobManager has its slots, and return its index."""
        index = self._launch_task_manager()
        self._wait_for_task_managers([index])
        return index

    def kill_task_manager(self, index: int, spare_workers: bool = False) -> None:
        """SIGKILL it and its Python workers, as when a machine is lost.

        With `spare_workers` these live on until they notice, for about 2 s, like a machine that is
        cut off and not dead.
        """
        self.task_managers[index].kill()
        if not spare_workers:
            self._kill_workers(_MEMBER_MARK, f"{self.mark}-{index}")

    def worker_pids(self, index: int) -> list[int]:
        """Pids of the Python workers of a TaskManager, and of the boot programs above them."""
        jvm = self.task_managers[index].child.pid
        return [pid for pid in _pids(_MEMBER_MARK, f"{self.mark}-{index}") if pid != jvm]

    def rest(self, path: str) -> Any:
        """The JSON that Flink's REST API answers for a path such as `/jobs/overview`."""
        url = f"http://{LOOPBACK}:{self.ports.rest}{path}"
        with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
            return json.load(response)

    def cancel_jobs(self) -> None:
        """Have Flink end all jobs that run: Beam's job server does not pass on what it is told to cancel."""
        for job in self.rest("/jobs")["jobs"]:
            if job["status"] in ("CREATED", "RUNNING", "RESTARTING"):
                url = f"http://{LOOPBACK}:{self.ports.rest}/jobs/{job['id']}?mode=cancel"
                build_opener(ProxyHandler({})).open(Request(url, method="PATCH"), timeout=10).close()

    def failures(self) -> int:
        """How many failures Flink has recorded, of jobs that run and that have ended."""
        jobs = [job["id"] for job in self.rest("/jobs")["jobs"]]
        histories = [self.rest(f"/jobs/{job}/exceptions")["exceptionHistory"] for job in jobs]
        return sum(len(history["entries"]) for history in histories)

    def start(self, count: int) -> None:
        """Bring up the JobManager, then `count` TaskManagers and the job server at once."""
        self.job_manager = self._launch_flink(
            "job-manager",
            [f"-Xmx{JOB_MANAGER_HEAP_MIB}m"],
            [_JOB_MANAGER, "--configDir", str(self.folder), "--executionMode", "cluster"],
        )
        wait_until(lambda: accepts(self.ports.rest), [self.job_manager], READY_SECONDS)
        indexes = [self._launch_task_manager() for _ in range(count)]
        self.job_server = self._launch_job_server()
        self._wait_for_task_managers(indexes)
        wait_until(lambda: accepts(self.job_port), [self.job_server], READY_SECONDS)

    def stop(self) -> None:
        """End everything, workers that lost their TaskManager included."""
        first = [program for program in (self.job_server, self.job_manager) if program]
        stop_programs([*first, *self.task_managers.values()])
        self._kill_workers(_CLUSTER_MARK, self.mark)

    def _portable_options(self, parallelism: int | None) -> list[str]:
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--parallelism={parallelism or self.total_slots}",
        ]

    def _launch_task_manager(self) -> int:
        index = len(self.task_managers)
        name = _member(index)
        arguments = ["--configDir", str(self.folder), "-D", f"taskmanager.resource-id={name}"]
        self.task_managers[index] = self._launch_flink(
            name,
            TaskManagerMemory(self.slots).java_flags(),
            [_TASK_MANAGER, *arguments],
            {_MEMBER_MARK: f"{self.mark}-{index}"},
        )
        return index

    def _launch_job_server(self) -> Program:
        arguments = {
            "job-host": LOOPBACK,
            "job-port": self.job_port,
            "artifact-port": free_port(),
            "expansion-port": free_port(),
            "artifacts-dir": self.folder / "artifacts",
            "flink-master": f"{LOOPBACK}:{self.ports.rest}",
            "flink-conf-dir": self.folder,
        }
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        heap = [f"-Xmx{JOB_SERVER_HEAP_MIB}m"]
        return self._launch("job-server", str(install_job_server()), heap, [_JOB_SERVER, *flags])

    def _launch_flink(
        self,
        name: str,
        flags: list[str],
        arguments: list[str],
        marks: Mapping[str, str] | None = None,
    ) -> Program:
        # With Beam's classes on the cluster's own class path, and parent-first in its config,
        # workers outlive a stage, and jobs do not fill the metaspace with copies of the classes.
        classpath = f"{install_flink()}/*:{install_job_server()}"
        return self._launch(name, classpath, flags, arguments, marks)

    def _launch(
        self,
        name: str,
        classpath: str,
        flags: list[str],
        arguments: list[str],
        marks: Mapping[str, str] | None = None,
    ) -> Program:
        log4j = self.folder / f"{name}.properties"
        log4j.write_text(log_config(self.logs / f"{name}.log"))
        command = [*java_command(self.folder / "scratch", log4j, classpath, flags), *arguments]
        env = base_environment() | {_CLUSTER_MARK: self.mark} | dict(marks or {})
        return start_program(name, command, self.logs / f"{name}.out", env)

    def _registered(self) -> set[str]:
        """Names of the TaskManagers that the JobManager knows of, lost ones too for a while."""
        with suppress(OSError):  # it may not answer yet
            return {member["id"] for member in self.rest("/taskmanagers")["taskmanagers"]}
        return set()

    def _wait_for_task_managers(self, indexes: Sequence[int]) -> None:
        names = {_member(index) for index in indexes}
        programs = [self.task_managers[index] for index in indexes]
        wait_until(lambda: names <= self._registered(), programs, READY_SECONDS)

    def _kill_workers(self, variable: str, value: str) -> None:
        # A boot program may start another worker between our look and its own end: look again.
        deadline = time.monotonic() + 10
        while pids := _pids(variable, value):
            for pid in pids:
                with suppress(psutil.Error):
                    psutil.Process(pid).kill()
            if time.monotonic() > deadline:
                raise ServerError(f"workers that can't be killed: {pids}")
            time.sleep(0.05)


@contextmanager
def flink_cluster(
    task_managers: int = 2,
    slots: int = 1,
    python: str | Path = sys.executable,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    restarts: int = 6,
) -> Iterator[FlinkCluster]:
    """A cluster of `task_managers` with `slots` each, and Beam's job server; all ended at the end.

    `python` is the interpreter of the virtual environment that workers run in (it needs pip and
    the Beam of `install.BEAM`); `env` is added to the workers' otherwise bare environment. A job
    fails after `restarts` of it, 2 s apart: a killed TaskManager costs one or two, as Flink learns
    of the partitions it lost only when it asks for them; with 0 a job fails at its first error.
    Everything is written into `folder`, a temporary one unless given. A temporary one is removed
    at the end, but kept when the body raised: the error says where the logs are.
    """
    require_tools("java")
    _check_python(Path(python))
    home = folder or Path(tempfile.mkdtemp(prefix="corpusmill-flink-"))
    for part in ("logs", "scratch", "artifacts"):
        (home / part).mkdir(parents=True, exist_ok=True)
    ports = ClusterPorts(rpc=free_port(), rest=free_port())
    memory = TaskManagerMemory(slots)
    (home / "config.yaml").write_text(cluster_config(memory, ports, home / "scratch", restarts))
    _write_boot(home, Path(python), env or {})
    cluster = FlinkCluster(home, slots, ports, job_port=free_port())
    try:
        try:
            cluster.start(task_managers)
            yield cluster
        finally:
            cluster.stop()
    except BaseException as error:
        error.add_note(f"the Flink cluster's logs: {cluster.logs}")
        raise
    if folder is None:
        shutil.rmtree(home, ignore_errors=True)


def _member(index: int) -> str:
    return f"task-manager-{index}"


def _write_boot(home: Path, python: Path, env: Mapping[str, str]) -> None:
    """Write the command that TaskManagers start workers with: Beam's boot binary in `env`."""
    # Not resolved: a virtual environment's python is a link out of it.
    path = f"{python.absolute().parent}:{base_environment().get('PATH', '')}"
    variables = {
        "TMPDIR": str(home / "scratch"),
        **env,
        "PATH": path,
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",  # else boot makes a venv in /opt
    }
    lines = ["#!/bin/sh", "set -e"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [
        # Boot writes the pipeline's options and the staged files where it runs: a folder for each.
        f"own={shlex.quote(str(home / 'scratch'))}/worker-$$",
        'mkdir "$own"',
        'cd "$own"',
        # Flink sends a worker's output to nowhere; what it logs goes to the TaskManager's log.
        f"exec >>{shlex.quote(str(home / 'logs'))}/worker-$$.out 2>&1",
        f'exec {shlex.quote(str(install_boot()))} "$@" --semi_persist_dir="$own"',
    ]
    boot = home / "boot"
    boot.touch(mode=0o700)  # before it has credentials in it
    boot.write_text("\n".join(lines) + "\n")


def _check_python(python: Path) -> None:
    """Raise ServerError when workers could not start with it."""
    code = "import pip; from importlib.metadata import version; print(version('apache-beam'))"
    try:
        said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"{python} can't run Beam workers: it needs pip and apache-beam {BEAM}") from error
    if said.stdout.strip() != BEAM:
        raise ServerError(f"{python} has Beam {said.stdout.strip()}, the boot binary is of {BEAM}")


def _pids(variable: str, value: str) -> list[int]:
    """Pids of what runs with that variable in its environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            named = process.environ().get(variable) == value
            if named and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
