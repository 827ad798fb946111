"""Prism, Beam's own portable runner, on a free port of 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.install import install_prism
from tests.servers.programs import (
    LOOPBACK,
    accepts,
    base_environment,
    free_port,
    start_program,
    stop_programs,
    wait_until,
)


@contextmanager
def prism_server(log: Path) -> Iterator[list[str]]:
    """Yields Beam's options for jobs whose Python code runs in the submitting process; stopped at the end."""
    port = free_port()
    command = [str(install_prism()), "-serve_http=false", f"-job_port={port}"]
    server = start_program("prism", command, log, base_environment())
    try:
        wait_until(lambda: accepts(port), [server], seconds=60)
        yield ["--runner=PortableRunner", f"--job_endpoint={LOOPBACK}:{port}", "--environment_type=LOOPBACK"]
    finally:
        stop_programs([server])
