"""Where bytes lie: local folders and object stores through fsspec, with what correctness needs of them.

Nothing here renames on a store or relies on folders there. A file is put whole: on a local disk as a
temporary file that is moved into place, on a store as one object. `create` is the only step that needs
a condition: the file appears whole, and only where none was.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, ParamSpec, TypeVar, cast

from fsspec.implementations.local import LocalFileSystem

from transforms.read_ahead import ReadAhead
from transforms.stores import (
    KINDS,
    MissingExtra,
    Reader,
    StorageError,
    client_class,
    client_options,
    in_words,
    is_taken,
    no_account,
    password_in_address,
    patiently,
    range_reader,
    reach,
    remove_files,
)

TEMPORARY = ".tmp-"
_CONFLICTS, _CONFLICT_SECONDS = 50, 0.1  # tries, where another creator is under way

_RECORDS = re.compile(r"\.(jsonl|ndjson|json)(\.(gz|zst|zstd|bz2))?$")


class DamageFault(RuntimeError):
    """A file that the mill wrote is missing or damaged: says its path below the dataset, and nothing of what is in it."""

    SAID = " is missing or damaged"

    def __init__(self, path: str) -> None:
        super().__init__(path + self.SAID)
        self.path = path

    def __reduce__(self) -> tuple[type[DamageFault], tuple[str]]:
        return DamageFault, (self.path,)


@dataclass(frozen=True)
class Found:
    """A file as it was listed: `etag` changes when the content does."""

    uri: str
    size: int
    etag: str


@dataclass(frozen=True)
class Stored:
    """A file that lies below a folder. `modified` is in seconds since 1970, infinite where the store tells no time."""

    uri: str
    size: int
    modified: float


def scheme_of(uri: str) -> str:
    """`s3` of `s3://bucket/key`; empty for local paths.

    >>> scheme_of("s3://logs/a.jsonl"), scheme_of("/data/a.jsonl"), scheme_of("file:///data")
    ('s3', '', '')
    """
    scheme, separator, _ = uri.partition("://")
    return "" if not separator or scheme in ("file", "local") else scheme


_PASSWORD = re.compile(r"(?<=://)[^/]*:[^/]*@")


def without_password(uri: str) -> str:
    """`s3://…@bucket/key` of `s3://key:secret@bucket/key`.

    >>> without_password("s3://key:secret@bucket/a"), without_password("az://logs@account/a:b@c")
    ('s3://…@bucket/a', 'az://logs@account/a:b@c')
    """
    return _PASSWORD.sub("…@", uri)


def join(base: str, *parts: str) -> str:
    """`base/part/part`; an empty part is left out.

    >>> join("s3://bucket/out/", "data", "a.parquet")
    's3://bucket/out/data/a.parquet'
    """
    return "/".join([base.rstrip("/") or "/", *(part for part in parts if part)]).replace("//", "/", int(base == "/"))


P = ParamSpec("P")
T = TypeVar("T")


def _patient(method: Callable[P, T]) -> Callable[P, T]:
    """A method that asks a store again while it is away."""

    @functools.wraps(method)
    def asking(*args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: method(*args, **kwargs))

    return asking


@dataclass(frozen=True)
class Storage:
    """Files by URI. `endpoint` and `profile` are passed on to object stores.

    A store that is away or busy in the middle of a run is asked again for OUTAGE_SECONDS; `reach` asks beforehand, for less.
    """

    endpoint: str | None = None
    profile: str | None = None

    def filesystem(self, uri: str) -> tuple[Any, str]:
        """The fsspec file system of `uri` and the path in it. Raises MissingExtra, StorageError."""
        scheme = scheme_of(uri)
        kind = KINDS.get(scheme)
        if scheme and without_password(uri) != uri:
            raise password_in_address(scheme)
        try:
            options = client_options(kind, self.endpoint, self.profile)
            client = client_class(scheme or "file")
        except ImportError as error:
            extra = f"make setup EXTRAS={kind}, or pip install 'corpusmill[{kind}]'" if kind else None
            raise MissingExtra(f"{scheme}:// needs a package that is not installed", extra) from error
        except ValueError as error:
            raise StorageError(
                f"{scheme}:// is not a kind of storage that is known", "local paths, s3://, gs:// and az:// are"
            ) from error
        try:
            file_system = client(**options, **client._get_kwargs_from_urls(uri))
        except ValueError as error:  # adlfs, without an account
            raise no_account(uri) if kind == "azure" else in_words(error, uri) from None
        return file_system, str(client._strip_protocol(uri))

    def reach(self, uri: str) -> None:
        """Returns when the store of a URI or pattern answers, and may be listed. Raises StorageError within seconds."""
        if scheme_of(uri) in KINDS:
            reach(uri, lambda: self.filesystem(uri))

    def is_local(self, uri: str) -> bool:
        return scheme_of(uri) == ""

    @_patient
    def find(self, pattern: str) -> list[Found]:
        """Files that a pattern matches, sorted by URI; a folder stands for the JSONL and JSON files below it."""
        file_system, path = self.filesystem(pattern)
        path = path if scheme_of(pattern) else os.path.normpath(path)
        if file_system.isfile(path):  # a name may hold what looks like a pattern
            names = {path: file_system.info(path)}
        elif file_system.isdir(path):
            below = file_system.find(path, detail=True)
            names = {name: info for name, info in below.items() if _RECORDS.search(name) and _is_shown(name)}
        else:
            names = {name: info for name, info in file_system.glob(path, detail=True).items() if _is_shown(name)}
        found = (self._found(pattern, name, info) for name, info in names.items())
        return sorted((one for one in found if one is not None), key=lambda one: one.uri)

    def _found(self, pattern: str, name: str, info: dict[str, Any]) -> Found | None:
        """A listed file; a local link as the file that it leads to. None for what is no file."""
        scheme = scheme_of(pattern)
        if scheme:
            uri = _authority(pattern) + "/" + name.partition("/")[2]
            return Found(uri, int(info["size"]), _etag(info)) if info["type"] == "file" else None
        return self.stat(name) if os.path.isfile(name) else None

    @_patient
    def stat(self, uri: str) -> Found:
        """Size and etag now. Raises FileNotFoundError."""
        file_system, path = self.filesystem(uri)
        file_system.invalidate_cache(os.path.dirname(path))
        if self.is_local(uri):
            status = os.stat(path)
            return Found(uri, status.st_size, str(status.st_mtime))
        info = file_system.info(path)
        return Found(uri, int(info["size"]), _etag(info))

    @_patient
    def modified(self, uri: str) -> float | None:
        """When a file was put, in seconds since 1970; None where the store tells no time. Raises FileNotFoundError."""
        file_system, path = self.filesystem(uri)
        told = os.stat(path).st_mtime if self.is_local(uri) else _modified(file_system.info(path))
        return told if math.isfinite(told) else None

    @_patient
    def exists(self, uri: str) -> bool:
        file_system, path = self.filesystem(uri)
        file_system.invalidate_cache(os.path.dirname(path))
        return bool(file_system.exists(path))

    @contextlib.contextmanager
    def open(self, uri: str, size: int | None = None, end: int | None = None) -> Iterator[IO[bytes]]:
        """The stored bytes as a seekable stream; from a store with read-ahead (see `ReadAhead` for `end`).

        `size` saves asking for it. Raises FileNotFoundError.
        """
        if self.is_local(uri):
            with open(self.filesystem(uri)[1], "rb", buffering=1 << 20) as stream:
                yield stream
            return
        size = self.stat(uri).size if size is None else size
        with ReadAhead(self._reader(uri), size, end) as remote:
            yield cast(IO[bytes], remote)

    def read(self, uri: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes [start, end) of a file, fewer where it ends before; all without them. Raises FileNotFoundError."""
        start = start or 0
        if end is not None and end <= start:
            return b""
        if not self.is_local(uri):
            return self._reader(uri)(start, end)
        with open(self.filesystem(uri)[1], "rb") as stream:
            stream.seek(start)
            return stream.read(-1 if end is None else end - start)

    def _reader(self, uri: str) -> Reader:
        return range_reader(KINDS.get(scheme_of(uri)), *self.filesystem(uri))

    @_patient
    def put(self, uri: str, content: bytes) -> None:
        """Writes a file whole, over one that is there."""
        file_system, path = self.filesystem(uri)
        if isinstance(file_system, LocalFileSystem):
            with _beside(path) as temporary:
                Path(temporary).write_bytes(content)
                os.replace(temporary, path)
        else:
            file_system.pipe_file(path, content)

    @_patient
    def put_file(self, uri: str, source: str) -> None:
        """Moves a local file to `uri`, whole."""
        file_system, path = self.filesystem(uri)
        if isinstance(file_system, LocalFileSystem):
            with _beside(path) as temporary:
                shutil.move(source, temporary)
                _sync(temporary)
                os.replace(temporary, path)
        else:
            file_system.put_file(source, path)
            os.unlink(source)

    @_patient
    def create(self, uri: str, content: bytes) -> bool:
        """Writes a file whole where none is; False where one is. Atomic on every storage."""
        file_system, path = self.filesystem(uri)
        if isinstance(file_system, LocalFileSystem):
            with _beside(path) as temporary:
                Path(temporary).write_bytes(content)
                _sync(temporary)
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                _sync(os.path.dirname(path))
                return True
        for attempt in range(_CONFLICTS):
            try:
                file_system.pipe_file(path, content, mode="create")
            except Exception as error:
                taken = is_taken(error)
                if taken:
                    return False
                if taken is not None or attempt == _CONFLICTS - 1:
                    raise
                time.sleep(_CONFLICT_SECONDS)
            else:
                return True
        raise AssertionError

    @_patient
    def names(self, folder: str, kind: Literal["file", "directory"] = "file") -> list[str]:
        """Names of the files, or folders, right in a folder, sorted; none where there is no folder."""
        file_system, path = self.filesystem(folder)
        file_system.invalidate_cache(path)
        try:
            entries = file_system.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(Path(entry["name"]).name for entry in entries if entry["type"] == kind)

    @_patient
    def below(self, folder: str) -> list[Stored]:
        """Every file below a folder, hidden ones too, sorted by URI; none where there is no folder."""
        file_system, path = self.filesystem(folder)
        if self.is_local(folder):
            return sorted(_walk(path), key=lambda one: one.uri)
        file_system.invalidate_cache()
        base, found = _authority(folder), file_system.find(path, detail=True)
        stored = (
            Stored(f"{base}/{name.partition('/')[2]}", int(info["size"] or 0), _modified(info))
            for name, info in found.items()
        )
        return sorted(stored, key=lambda one: one.uri)

    @_patient
    def remove(self, uri: str) -> None:
        """Removes a file or all below a folder; nothing where there is none."""
        file_system, path = self.filesystem(uri)
        if self.is_local(uri) and os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)  # another may be removing it too
            return
        if isinstance(file_system, LocalFileSystem):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        names = [path] if file_system.isfile(path) else list(file_system.find(path))
        remove_files(KINDS.get(scheme_of(uri)), file_system, names)

    def spool(self, folder: str) -> str | None:
        """A local folder for files on their way to `folder`: on the same disk; None, the system's, for a store."""
        if not self.is_local(folder):
            return None
        place = os.path.join(self.filesystem(folder)[1], "spool")
        os.makedirs(place, exist_ok=True)
        return place

    def remove_temporary(self, folder: str) -> None:
        """Removes what killed writers left in a local folder."""
        if self.is_local(folder):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.startswith(TEMPORARY):
                    self.remove(join(folder, name))

    def free_bytes(self, uri: str) -> int | None:
        """Free space for a local folder that may not exist yet; None on a store."""
        if not self.is_local(uri):
            return None
        _, path = self.filesystem(uri)
        place = Path(path)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    """A temporary path in the folder of `path`, which is made; removed in the end if still there."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _authority(uri: str) -> str:
    """`s3://bucket` of `s3://bucket/key`; an account in it stays."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _is_shown(name: str) -> bool:
    return not name.rsplit("/", 1)[-1].startswith(".")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(folder: str) -> Iterator[Stored]:
    """The files below a local folder, from which others may be removing at the same time."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                yield Stored(path, status.st_size, status.st_mtime)


def _modified(info: dict[str, Any]) -> float:
    """When a store says that a file was put."""
    for key in ("LastModified", "last_modified", "updated", "mtime"):
        value = info.get(key)
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if isinstance(value, datetime.datetime):
            return value.timestamp()
    return math.inf


def _etag(info: dict[str, Any]) -> str:
    """What tells one version of a file from the next: a store's etag, else the time of the last change."""
    for key in ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""
