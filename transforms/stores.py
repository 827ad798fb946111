"""What the clients of object stores need and mean: their options, a look whether a store answers, errors in words.

A client waits and tries again for minutes, as it should in the middle of a run. Before a run that is too long:
`reach` gives a store `PATIENCE` seconds for one request, and says what is wrong and what to do about it.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import fsspec

PATIENCE = 15.0  # seconds
CONNECT_SECONDS = 10
READ_SECONDS = 30  # without a byte
OUTAGE_SECONDS = 120.0  # that a store may be away in the middle of a run

Kind = Literal["s3", "gcs", "azure"]  # also the names of the extras
KINDS: dict[str, Kind] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
_BUCKET = {"s3": "bucket", "gcs": "bucket", "azure": "container"}
_ADDRESS = {
    "s3": "AWS_ENDPOINT_URL, or storage.endpoint in the config of a run",
    "gcs": "STORAGE_EMULATOR_HOST, or storage.endpoint in the config of a run",
    "azure": "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME",
}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or storage.profile in the config of a run",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
Reader = Callable[[int, int | None], bytes]
T = TypeVar("T")

_MAGIC = re.compile(r"[*?\[{]")


class StorageError(RuntimeError):
    """A place that cannot be used, said for people: neither `str(error)` nor `hint` holds content."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class MissingExtra(StorageError):
    """A scheme whose package is not installed."""


def client_class(scheme: str) -> Any:
    """The class of a scheme's client, `file` for local paths. Raises ImportError, ValueError where there is none."""
    if KINDS.get(scheme) == "gcs":
        # With these, which it looks for on its import, gcsfs asks for the type of every bucket: one more permission.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    return fsspec.get_filesystem_class(scheme)


def client_options(kind: Kind | None, endpoint: str | None, profile: str | None) -> dict[str, Any]:
    """What the client of a kind of store is made with; credentials come from where it looks by itself."""
    options: dict[str, Any] = {}
    if kind is None:
        return options
    options["use_listings_cache"] = False  # others write there too
    if kind == "s3":
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": 3},  # and five times that by s3fs
            "max_pool_connections": 64,
        }
        if profile:
            options["profile"] = profile
    elif kind == "gcs":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it logs it raises too
        options["session_kwargs"] = {"timeout": _aiohttp_timeout()}
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            options["token"] = "anon"
    else:
        options |= {"connection_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    if endpoint and kind in ("s3", "gcs"):
        options["endpoint_url"] = endpoint
    return options


def _aiohttp_timeout() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)


# ------------------------------------------------------------------------------------------- ranged reads


def range_reader(kind: Kind | None, file_system: Any, path: str) -> Reader:
    """What returns bytes [start, end) of a file, from any thread: fewer where it ends before, up to there for None."""
    if kind == "s3":
        return functools.partial(read_s3, _s3_client_like(file_system), path)
    return functools.partial(_read_range, file_system, path)


def _read_range(file_system: Any, path: str, start: int, end: int | None) -> bytes:
    try:
        return patiently(lambda: bytes(file_system.cat_file(path, start=start or None, end=end)))
    except Exception as error:
        if status_of(error) == 416:  # the range is not satisfiable
            return b""
        raise


def _s3_client_like(file_system: Any) -> Any:
    """A client for threads, which reads twice as fast as s3fs does through its one event loop.

    It uses the server and the account that s3fs does, whose own settings (`FSSPEC_S3_KEY` and the like) win over botocore's.
    """
    options = file_system.client_kwargs
    return s3_client(
        file_system.endpoint_url or options.get("endpoint_url"),
        file_system.kwargs.get("profile"),
        options.get("region_name"),
        (file_system.key, file_system.secret, file_system.token),
        bool(file_system.anon),
    )


@functools.lru_cache(maxsize=8)
def s3_client(
    endpoint: str | None,
    profile: str | None,
    region: str | None = None,
    account: tuple[str | None, str | None, str | None] = (None, None, None),
    anonymous: bool = False,
) -> Any:
    """A client of botocore's; what is None comes from where it looks by itself."""
    import botocore
    import botocore.config
    import botocore.session

    config = botocore.config.Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 5},
        max_pool_connections=64,
        signature_version=botocore.UNSIGNED if anonymous else None,
    )
    key, secret, token = account
    return botocore.session.Session(profile=profile).create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=config,
    )


def read_s3(client: Any, path: str, start: int, end: int | None) -> bytes:
    """Bytes [start, end) of `bucket/key`, up to the end without it; fewer where the object ends before.

    Raises FileNotFoundError, PermissionError, and botocore's errors.
    """
    from botocore.exceptions import ClientError

    bucket, _, key = path.partition("/")
    ranged = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
    try:
        return patiently(lambda: bytes(client.get_object(Bucket=bucket, Key=key, **ranged)["Body"].read()))
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "InvalidRange":
            return b""
        if code in ("NoSuchKey", "NoSuchBucket", "404"):
            raise FileNotFoundError(path) from None
        if is_denied(error):
            raise PermissionError(path) from None
        raise


def remove_files(kind: Kind | None, file_system: Any, paths: Sequence[str]) -> None:
    """Removes files of a store; one that is gone is none. Raises PermissionError where it refuses, and the clients' errors."""
    if kind == "s3":  # s3fs passes over what is refused, and takes some names for patterns
        for first in range(0, len(paths), _AT_ONCE):
            names = [path.partition("/") for path in paths[first : first + _AT_ONCE]]
            wanted = {"Objects": [{"Key": key} for _, _, key in names], "Quiet": True}
            answer = file_system.call_s3("delete_objects", Bucket=names[0][0], Delete=wanted)
            codes = sorted({str(one.get("Code")) for one in answer.get("Errors", ()) if one.get("Code") != "NoSuchKey"})
            if codes:
                raise (PermissionError if "AccessDenied" in codes else OSError)(
                    f"{len(answer['Errors'])} files: {codes[0]}"
                )
        return
    magic = [path for path in paths if glob.has_magic(path)]  # which `rm` would take for a pattern
    with contextlib.suppress(FileNotFoundError):  # another may be removing them too
        if len(magic) < len(paths):
            file_system.rm(sorted(set(paths) - set(magic)))
    for path in magic:
        with contextlib.suppress(FileNotFoundError):
            file_system.rm_file(path)


_AT_ONCE = 1000  # files that S3 removes in a request


def patiently(work: Callable[[], T], seconds: float | None = None) -> T:
    """What `work` returns: it is tried again for OUTAGE_SECONDS, or so many, while a store is out of reach or says that it
    is busy."""
    end, pause = time.monotonic() + (OUTAGE_SECONDS if seconds is None else seconds), 0.5
    while True:
        try:
            return work()
        except Exception as error:
            if not is_passing(error) or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 15)


# ------------------------------------------------------------------------------------------- reachability


def reach(uri: str, connect: Callable[[], tuple[Any, str]], *, patience: float = PATIENCE) -> None:
    """Returns when the store of `uri` lists what is below it. Raises StorageError, after `patience` seconds at most.

    `connect` gives the file system of `uri` and the path in it.
    """
    scheme = uri.partition("://")[0]
    kind = KINDS[scheme]
    with contextlib.suppress(ImportError):  # which `connect` puts in words
        client_class(scheme)  # beforehand: on a busy machine its import alone takes seconds

    def look() -> None:
        file_system, path = connect()
        _list_one(kind, file_system, path)

    try:
        answered = ends_within(patience, look)
    except BaseException as error:
        raise in_words(error, uri) from None
    if not answered:  # clients look for credentials on the network too
        raise StorageError(
            f"{_bucket_of(uri)} does not answer within {patience:.0f} s",
            f"check the address ({_ADDRESS[kind]}), the network and the credentials ({_CREDENTIALS[kind]})",
        )


def ends_within(seconds: float, look: Callable[[], object]) -> bool:
    """Whether a look came to its end in time. Raises what it raised.

    It runs in a thread that nobody waits for at the end: a client may hang for as long as it likes.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            look()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    return not thread.is_alive()


def _list_one(kind: Kind, file_system: Any, path: str) -> None:
    """Asks for one name of those that begin with the fixed part of a path: what all else needs too."""
    bucket, _, key = path.partition("/")
    magic = _MAGIC.search(key)
    prefix = key[: key.rfind("/", 0, magic.start()) + 1] if magic else key
    if kind == "s3":
        file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    elif kind == "gcs":
        file_system.call("GET", "b/{}/o", bucket, prefix=prefix, maxResults=1, json_out=True)
    else:
        fsspec.asyn.sync(file_system.loop, _list_one_blob, file_system, bucket, prefix)


async def _list_one_blob(file_system: Any, container: str, prefix: str) -> None:
    async with file_system.service_client.get_container_client(container) as client:
        async for _ in client.list_blobs(name_starts_with=prefix or None, results_per_page=1):
            return


# ------------------------------------------------------------------------------------------------- errors


def in_words(error: BaseException, uri: str, what: str = "use") -> StorageError:
    """What a client's error means for whoever wants to use (or `what` else) `uri`, and what to do."""
    if isinstance(error, StorageError):
        return error
    kind = KINDS.get(uri.partition("://")[0])
    if kind is None:
        strerror = error.strerror if isinstance(error, OSError) else None
        return StorageError(f"can't {what} {uri}: {strerror or type(error).__name__}")
    bucket, status = _bucket_of(uri), status_of(error)
    names = {type(one).__name__ for one in _chain(error)}
    if is_denied(error):
        refused = "" if what in ("use", "reach", "read") else f": can't {what}"
        hint = f"check the credentials: {_CREDENTIALS[kind]}; the rights that they need are in deploy/policies"
        return StorageError(f"{bucket} denies access{refused}", hint)
    if "ProfileNotFound" in names:
        return StorageError(f"{bucket}: there is no such profile", f"set {_CREDENTIALS[kind]}")
    if status == 404 or isinstance(error, FileNotFoundError):
        what = _BUCKET[kind]
        return StorageError(f"there is no {what} {bucket}", f"create it, or check the name and {_ADDRESS[kind]}")
    if names & _UNREACHED:
        return StorageError(f"{bucket} is out of reach: nobody answers there", f"check the address: {_ADDRESS[kind]}")
    word = f" (HTTP {status})" if status else ""
    return StorageError(f"can't {what} {uri}: {type(error).__name__}{word}", f"check the address: {_ADDRESS[kind]}")


def is_denied(error: BaseException) -> bool:
    """Whether a store, or the system, refuses what was asked, or whom it was asked by."""
    denied = any(isinstance(one, PermissionError) or type(one).__name__ in _DENIED for one in _chain(error))
    return denied or status_of(error) in (401, 403)


def is_passing(error: BaseException) -> bool:
    """Whether a client's error says that a store is out of reach or busy, and may not be so in a minute."""
    if isinstance(error, FileNotFoundError) or is_denied(error):
        return False
    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    return any(type(one).__name__ in _UNREACHED | _BROKEN for one in _chain(error))


def password_in_address(scheme: str) -> StorageError:
    """For `s3://key:secret@bucket`, which would be told, and written, wherever the address is."""
    kind = KINDS.get(scheme)
    hint = f"leave it out, and set {_CREDENTIALS[kind]}" if kind else "leave it out"
    return StorageError(f"an address of {scheme}:// holds a password", hint)


def no_account(uri: str) -> StorageError:
    """For a client that could not be made."""
    hint = f"set {_CREDENTIALS[KINDS[uri.partition('://')[0]]]}"
    return StorageError(f"{_bucket_of(uri)}: no account to use it with is named, or not rightly", hint)


_DENIED = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ClientAuthenticationError",
    "RefreshError",
    "DefaultCredentialsError",
    "MalformedError",
}
_UNREACHED = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ServerTimeoutError",
    "ServerDisconnectedError",
    "ServiceRequestError",
    "ServiceResponseError",
    "ConnectionError",
    "ConnectionRefusedError",
    "TransportError",
    "gaierror",
}


_BROKEN = {  # on the way
    "IncompleteReadError",
    "ResponseStreamingError",
    "ClientPayloadError",
    "ClientOSError",
    "ConnectionResetError",
    "IncompleteRead",
    "ProtocolError",
    "TimeoutError",
    "FSTimeoutError",
}


def is_taken(error: BaseException) -> bool | None:
    """Whether a refused create-if-absent says that there is a file; None where it met another that is under way."""
    if isinstance(error, FileExistsError) or status_of(error) == 412:
        return True
    return None if status_of(error) == 409 else False


def status_of(error: BaseException) -> int | None:
    """The HTTP status that a client's error stands for, where it tells."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:  # gcsfs; azure
            status = getattr(one, "code", None) or getattr(one, "status_code", None)
        if str(status).isdigit():
            return int(str(status))
    if str(error).startswith("Forbidden: "):  # gcsfs has no type for it
        return 403
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and its causes."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _bucket_of(uri: str) -> str:
    """`s3://bucket` of `s3://bucket/key`."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
