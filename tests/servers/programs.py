"""Start a server with its output in a file, wait until it is ready, and stop all it has started."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

LOOPBACK = "127.0.0.1"

# What a server sees of our own environment. Credentials, PYTHONPATH and the like reach a server
# only when a test names them, so that a test shows what a worker needs.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "JAVA_HOME")
_PASSED_ON_PREFIXES = ("OPENBLAS_",)  # some machines need these for right results

# Below the range that the kernel picks from for outgoing connections (32768 on Linux), so that
# none takes the port between our look and the server's start.
_PORTS = range(20000, 32000)
_handed_out: set[int] = set()


class ServerError(RuntimeError):
    """A server ended or was not ready in time; the message names its log and has the tail of it."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, never the same one twice."""
    while True:
        port = secrets.choice(_PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            _handed_out.add(port)
            return port


def accepts(port: int) -> bool:
    """Whether something listens on the port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def answers(url: str) -> bool:
    """Whether a GET of the URL is answered with 200 within 2 s."""
    with suppress(OSError), build_opener(ProxyHandler({})).open(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def base_environment() -> dict[str, str]:
    """The little of our environment that servers inherit."""
    return {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }


@dataclass(frozen=True)
class Program:
    """A running server and its process group.

    A guard, a shell that waits for the end of our end of a pipe, kills the group when we ourselves
    are killed and no `finally` runs. (The kernel's parent-death signal would not do: it is sent
    when the starting *thread* ends.)
    """

    name: str
    log: Path
    child: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        return self.child.poll() is None

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the group and wait for the server's end."""
        self._signal(signal.SIGKILL)
        self.child.wait()
        self._dismiss_guard()

    def stop(self, patience: float = 10.0) -> None:
        """Ask it to stop, kill what remains of the group after `patience` seconds."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(patience)
        self.kill()

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def _dismiss_guard(self) -> None:
        self.guard.kill()
        self.guard.communicate()


def start_program(name: str, command: list[str], log: Path, env: Mapping[str, str]) -> Program:
    """Start `command` in a process group of its own with exactly `env`; append output to `log`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=log.parent,
            start_new_session=True,
        )
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -s KILL -- "-$0"', str(child.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Program(name, log, child, guard)


def stop_programs(programs: Iterable[Program], patience: float = 10.0) -> None:
    """Ask all to stop at once, then wait for each; in the end none is left."""
    asked = list(programs)
    for program in asked:
        program.ask_to_stop()
    deadline = time.monotonic() + patience
    for program in asked:
        program.stop(max(0.0, deadline - time.monotonic()))


def wait_until(ready: Callable[[], bool], watched: Iterable[Program], seconds: float) -> None:
    """Return when `ready`; raise ServerError when a watched server ends first or time runs out."""
    programs = list(watched)
    deadline = time.monotonic() + seconds
    while not ready():
        ended = [program for program in programs if not program.running]
        late = time.monotonic() > deadline
        if ended or late:
            worst = ended[0] if ended else programs[-1]
            what = f"ended with {worst.child.poll()}" if ended else f"not ready in {seconds:.0f} s"
            raise ServerError(f"{worst.name}: {what}; {worst.log} ends with:\n{worst.tail()}")
        time.sleep(0.1)
