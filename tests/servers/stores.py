"""The places that the same tests run on: a local folder, and a server of each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from tests.servers.azurite import azurite_server
from tests.servers.fake_gcs import fake_gcs_server
from tests.servers.minio import minio_server

BUCKET = "data"


@dataclass(frozen=True)
class Place:
    """Where tests write: `base` is a bucket's URI or a folder; `environment` what a command needs to reach it."""

    kind: str
    base: str
    environment: dict[str, str]
    look: Callable[[], Any]  # a file system of its own, which keeps no listings

    def path(self, uri: str) -> str:
        """The path in the file system of a URI below `base`."""
        return uri.partition("://")[2] if "://" in uri else uri

    def cat(self, uri: str) -> bytes:
        return bytes(self.look().cat_file(self.path(uri)))

    def put(self, uri: str, content: bytes) -> None:
        looked = self.look()
        if self.kind == "local":
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        looked.pipe_file(self.path(uri), content)

    def find(self, uri: str) -> list[str]:
        """Paths of all files below a URI."""
        return sorted(self.look().find(self.path(uri)))


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[Place]:
    """A place of that kind, `local`, `s3`, `gs` or `az`, whose server is stopped at the end."""
    if kind == "local":
        yield Place(kind, str(folder / BUCKET), {}, lambda: fsspec.filesystem("file"))
        return
    server = {"s3": minio_server, "gs": fake_gcs_server, "az": azurite_server}[kind]
    with server(folder / kind, [BUCKET]) as endpoint:
        yield Place(kind, f"{kind}://{BUCKET}", endpoint.environment, endpoint.filesystem)
