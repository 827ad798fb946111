"""Install the real servers once, from package registries only, into a folder that is kept.

The folder is `$CORPUSMILL_SERVERS`, or `.servers/` in the repository. Every server has a folder
named by its version there; it is built beside it and renamed at the end, so what exists is whole
and is never built twice. Delete a folder to have it built again.

    .servers/minio-…/minio                           go install
    .servers/fake-gcs-…/fake-gcs-server              go install
    .servers/azurite-…/node_modules/.bin/…           npm
    .servers/beam-boot-…/container                   go install
    .servers/prism-…/prism                           go install
    .servers/flink-…/lib/*.jar                       pip, from the wheel of Flink's jars
    .servers/beam-job-server-…/job-server.jar        mvn
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Every version, in one place. MinIO tags no Go module versions: this is what @latest resolved to.
MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"
FAKE_GCS = "v1.56.1"
AZURITE = "3.35.0"  # the last that Node.js 20 runs
BEAM = "2.77.0"  # of the boot binary and Prism; must be that of the Python SDK
FLINK = "1.19.3"
FLINK_LINE = "1.19"
BEAM_RUNNER = "2.70.0"
BEAM_JOB_SERVICE = "2.65.0"
LOG4J = "2.20.0"
JAR_PLUGIN = "3.4.1"
SHADE_PLUGIN = "3.6.0"
JAVA_OLDEST, JAVA_NEWEST = 11, 21  # Flink 1.19 runs on 11 and 17; from 24 on it can't start

REPOSITORY = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("job_server_pom.xml")

# The folder of each server, and what it takes to install it.
_MINIO_FOLDER = f"minio-{MINIO}"
_FAKE_GCS_FOLDER = f"fake-gcs-{FAKE_GCS}"
_AZURITE_FOLDER = f"azurite-{AZURITE}"
_BOOT_FOLDER = f"beam-boot-{BEAM}"
_PRISM_FOLDER = f"prism-{BEAM}"
_FLINK_FOLDER = f"flink-{FLINK}"
_JOB_SERVER_FOLDER = f"beam-job-server-{BEAM_RUNNER}-flink-{FLINK_LINE}"
_TOOLS: dict[str, tuple[str, ...]] = {
    _MINIO_FOLDER: ("go",),
    _FAKE_GCS_FOLDER: ("go",),
    _AZURITE_FOLDER: ("npm",),
    _BOOT_FOLDER: ("go",),
    _PRISM_FOLDER: ("go",),
    _FLINK_FOLDER: (),
    _JOB_SERVER_FOLDER: ("java", "mvn"),
}

_WHY = {
    "go": "Go 1.26 or newer, to build MinIO, fake-gcs-server, Beam's boot binary and Prism",
    "npm": "npm and Node.js 20 or newer, to run Azurite",
    "java": f"a Java runtime, {JAVA_OLDEST} to {JAVA_NEWEST}, to run Flink",
    "mvn": "Maven, to fetch Beam's job server for Flink",
}


class InstallError(RuntimeError):
    """A server can't be installed here; the message says what is missing or which step failed."""


def servers_folder() -> Path:
    """The folder that keeps the servers; it need not exist yet."""
    chosen = os.environ.get("CORPUSMILL_SERVERS")
    return Path(chosen).resolve() if chosen else REPOSITORY / ".servers"


def require_tools(*tools: str) -> None:
    """Raise one InstallError that names every tool of `tools` that is missing or unfit."""
    missing = [_WHY[tool] for tool in tools if shutil.which(tool) is None]
    if "java" in tools and shutil.which("java") is not None:
        major = java_major()
        if not JAVA_OLDEST <= major <= JAVA_NEWEST:
            missing.append(f"{_WHY['java']} (`java` on PATH is {major})")
    if missing:
        raise InstallError("the test servers need, on PATH: " + "; ".join(missing))


def java_major() -> int:
    """The major version of `java` on PATH, or 0 when it says none."""
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else 0


def install_minio() -> Path:
    """Path of the `minio` binary."""

    def build(folder: Path, log: Path) -> None:
        _go_install(f"github.com/minio/minio@{MINIO}", folder, log)

    return _once(_MINIO_FOLDER, build) / "minio"


def install_fake_gcs() -> Path:
    """Path of the `fake-gcs-server` binary."""

    def build(folder: Path, log: Path) -> None:
        _go_install(f"github.com/fsouza/fake-gcs-server@{FAKE_GCS}", folder, log)

    return _once(_FAKE_GCS_FOLDER, build) / "fake-gcs-server"


def install_azurite() -> Path:
    """Path of the `azurite-blob` program."""

    def build(folder: Path, log: Path) -> None:
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
        _run(["npm", "install", "--prefix", str(folder), *quiet, f"azurite@{AZURITE}"], log)

    return _once(_AZURITE_FOLDER, build) / "node_modules" / ".bin" / "azurite-blob"


def install_boot() -> Path:
    """Path of Beam's boot binary, which starts the Python SDK harness of a worker."""

    def build(folder: Path, log: Path) -> None:
        _go_install(f"github.com/apache/beam/sdks/v2/python/container@v{BEAM}", folder, log)

    return _once(_BOOT_FOLDER, build) / "container"


def install_prism() -> Path:
    """Path of the `prism` binary."""

    def build(folder: Path, log: Path) -> None:
        _go_install(f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{BEAM}", folder, log)

    return _once(_PRISM_FOLDER, build) / "prism"


def install_flink() -> Path:
    """Folder of Flink's jars."""

    def build(folder: Path, log: Path) -> None:
        venv = folder / "venv"
        _run([sys.executable, "-m", "venv", str(venv)], log)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
        _run([*pip, f"apache-flink-libraries=={FLINK}"], log)
        (jars,) = venv.glob("lib/python*/site-packages/pyflink/lib")
        jars.rename(folder / "lib")
        shutil.rmtree(venv)

    return _once(_FLINK_FOLDER, build) / "lib"


def install_job_server() -> Path:
    """Path of the jar of Beam's Flink job server."""

    def build(folder: Path, log: Path) -> None:
        pom = folder / "pom.xml"
        shutil.copyfile(POM, pom)  # mvn writes beside its pom
        settings = {
            "flink.line": FLINK_LINE,
            "beam.runner": BEAM_RUNNER,
            "beam.job.service": BEAM_JOB_SERVICE,
            "log4j": LOG4J,
            "shade.plugin": SHADE_PLUGIN,
        }
        flags = [f"-D{name}={value}" for name, value in settings.items()]
        plugins = "org.apache.maven.plugins"
        goals = [
            f"{plugins}:maven-jar-plugin:{JAR_PLUGIN}:jar",
            f"{plugins}:maven-shade-plugin:{SHADE_PLUGIN}:shade",
        ]
        _run(["mvn", "-B", "-ntp", "-f", str(pom), *flags, *goals], log)
        (folder / "target" / "job-server.jar").rename(folder / "job-server.jar")
        shutil.rmtree(folder / "target")

    return _once(_JOB_SERVER_FOLDER, build) / "job-server.jar"


_Installer = Callable[[], Path]

# What each group of tests needs, by the name for people.
GROUPS: dict[str, dict[str, _Installer]] = {
    "stores": {"MinIO": install_minio, "fake-gcs-server": install_fake_gcs, "Azurite": install_azurite},
    "flink": {
        "MinIO": install_minio,
        "Beam's boot binary": install_boot,
        "Prism": install_prism,
        "Flink": install_flink,
        "Beam's job server": install_job_server,
    },
}


def install(group: str | None = None) -> Iterator[tuple[str, Path, float]]:
    """Each server's name, its path and the seconds it took, as it becomes ready; of all groups without one.

    Raises InstallError before any work when a tool is missing.
    """
    wanted = {name: make for one in ([group] if group else GROUPS) for name, make in GROUPS[one].items()}
    home = servers_folder()
    needed = {tool for folder, tools in _TOOLS.items() if not (home / folder).is_dir() for tool in tools}
    of_group = {"stores": {"go", "npm"}, "flink": {"go", "java", "mvn"}}.get(group or "", needed)
    run_by = {"npm"} if group == "stores" else {"java"}
    require_tools(*sorted((needed & of_group) | run_by))
    for name, make in wanted.items():
        began = time.monotonic()
        yield name, make(), time.monotonic() - began


def _once(name: str, build: Callable[[Path, Path], None]) -> Path:
    """The folder `name`, built into a temporary one and renamed unless it is there already."""
    home = servers_folder()
    final = home / name
    if final.is_dir():
        return final
    require_tools(*_TOOLS[name])
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f"{name}.lock"):
        if final.is_dir():
            return final
        partial = home / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build(partial, home / f"{name}.log")
        partial.rename(final)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on `path`, which the kernel drops if we die."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _go_install(target: str, folder: Path, log: Path) -> None:
    # -s -w: without symbols and debug data, which nobody looks at here.
    _run(["go", "install", "-ldflags=-s -w", target], log, {"GOBIN": str(folder)})


def _run(command: list[str], log: Path, extra: Mapping[str, str] | None = None) -> None:
    """Run to the end with all output appended to `log`; raise InstallError with its tail."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(extra or {})},
            check=False,
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise InstallError(f"`{' '.join(command[:4])} …` ended with {done.returncode}; {log} ends with:\n{tail}")
