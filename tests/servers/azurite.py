"""An Azurite server, which speaks Azure's Blob API, on a free port of 127.0.0.1."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adlfs  # type: ignore[import-untyped]

from tests.servers.install import install_azurite
from tests.servers.programs import (
    LOOPBACK,
    accepts,
    base_environment,
    free_port,
    start_program,
    stop_programs,
    wait_until,
)

ACCOUNT = "corpusmilltests"
KEY = base64.b64encode(b"corpusmill tests, not a secret").decode()


@dataclass(frozen=True)
class AzureEndpoint:
    """Where the server is and who may use it."""

    url: str
    key: str = KEY

    @property
    def environment(self) -> dict[str, str]:
        """The variable that names an account at an address of its own."""
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": self.key,
            "BlobEndpoint": f"{self.url}/{ACCOUNT}",
        }
        return {"AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={value}" for name, value in parts.items())}

    def filesystem(self) -> Any:
        """A file system of its own, without cached listings."""
        return adlfs.AzureBlobFileSystem(
            connection_string=self.environment["AZURE_STORAGE_CONNECTION_STRING"],
            skip_instance_cache=True,
        )

    def create_bucket(self, name: str) -> None:
        self.filesystem().mkdir(name)


@contextmanager
def azurite_server(root: Path, containers: Iterable[str] = ()) -> Iterator[AzureEndpoint]:
    """Serve from the folder `root`, with `containers` created; stopped at the end. The log is beside the folder."""
    binary = install_azurite()
    root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    endpoint = AzureEndpoint(f"http://{LOOPBACK}:{port}")
    command = [str(binary), "--blobHost", LOOPBACK, "--blobPort", str(port), "--location", str(root), "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    env = base_environment() | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    server = start_program("azurite", command, root.with_name(f"{root.name}.log"), env)
    try:
        wait_until(lambda: accepts(port), [server], seconds=60)
        for container in containers:
            endpoint.create_bucket(container)
        yield endpoint
    finally:
        stop_programs([server])
