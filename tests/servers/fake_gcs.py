"""A fake-gcs-server, which speaks Google Cloud Storage's JSON API, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.install import install_fake_gcs
from tests.servers.programs import (
    LOOPBACK,
    answers,
    base_environment,
    free_port,
    start_program,
    stop_programs,
    wait_until,
)

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # what the server does not speak
import gcsfs  # type: ignore[import-untyped]


@dataclass(frozen=True)
class GcsEndpoint:
    """Where the server is. It asks for no credentials."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The ecosystem's usual variable."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def filesystem(self) -> Any:
        """A file system of its own, without cached listings."""
        return gcsfs.GCSFileSystem(
            endpoint_url=self.url, token="anon", use_listings_cache=False, skip_instance_cache=True
        )

    def create_bucket(self, name: str) -> None:
        self.filesystem().mkdir(name)


@contextmanager
def fake_gcs_server(root: Path, buckets: Iterable[str] = ()) -> Iterator[GcsEndpoint]:
    """Serve from memory, with `buckets` created; stopped at the end. The log is `root` with the suffix `.log`."""
    binary = install_fake_gcs()
    root.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    endpoint = GcsEndpoint(f"http://{LOOPBACK}:{port}")
    command = [str(binary), "-scheme", "http", "-host", LOOPBACK, "-port", str(port)]
    command += ["-backend", "memory", "-external-url", endpoint.url, "-public-host", f"{LOOPBACK}:{port}"]
    server = start_program("fake-gcs-server", command, root.with_name(f"{root.name}.log"), base_environment())
    try:
        wait_until(lambda: answers(f"{endpoint.url}/_internal/healthcheck"), [server], seconds=60)
        for bucket in buckets:
            endpoint.create_bucket(bucket)
        yield endpoint
    finally:
        stop_programs([server])
