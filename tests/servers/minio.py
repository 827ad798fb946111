"""A MinIO server, which speaks S3, on a free port of 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs  # type: ignore[import-untyped]

from tests.servers.install import install_minio
from tests.servers.programs import (
    LOOPBACK,
    answers,
    base_environment,
    free_port,
    start_program,
    stop_programs,
    wait_until,
)

REGION = "us-east-1"


@dataclass(frozen=True)
class Endpoint:
    """Where the server is and who may use it."""

    url: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The ecosystem's usual variables, for a worker or a command that is to use this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",  # else wrong credentials make botocore ask around
        }

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec and s3fs take to use this server without those variables."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "client_kwargs": {"endpoint_url": self.url, "region_name": REGION},
        }

    def filesystem(self) -> s3fs.S3FileSystem:
        """A file system of its own, without cached listings: others write here too."""
        return s3fs.S3FileSystem(**self.storage_options, use_listings_cache=False, skip_instance_cache=True)

    def create_bucket(self, name: str) -> None:
        """Create a bucket; FileExistsError when there is one of that name."""
        self.filesystem().mkdir(name)


@contextmanager
def minio_server(root: Path, buckets: Iterable[str] = ()) -> Iterator[Endpoint]:
    """Serve from the folder `root`, with `buckets` created; stopped at the end, objects stay there.

    The log is `root` with the suffix `.log`, beside the folder.
    """
    binary = install_minio()
    root.mkdir(parents=True, exist_ok=True)
    address = f"{LOOPBACK}:{free_port()}"
    endpoint = Endpoint(f"http://{address}", "corpusmill-tests", "corpusmill-tests-secret")
    env = base_environment() | {
        "MINIO_ROOT_USER": endpoint.access_key,
        "MINIO_ROOT_PASSWORD": endpoint.secret_key,
        "MINIO_BROWSER": "off",  # the console would listen on a port of its own
        "MINIO_UPDATE": "off",  # and this would ask the vendor
    }
    command = [str(binary), "server", "--quiet", "--address", address, str(root)]
    server = start_program("minio", command, root.with_name(f"{root.name}.log"), env)
    try:
        wait_until(lambda: answers(f"{endpoint.url}/minio/health/ready"), [server], seconds=60)
        for bucket in buckets:
            endpoint.create_bucket(bucket)
        yield endpoint
    finally:
        stop_programs([server])
