"""Places that the user names: made absolute, and what goes wrong with them told. Imports little, so that it starts fast."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from pipeline.errors import CorpusmillError, UsageError
from transforms.storage import Storage, without_password
from transforms.stores import KINDS, in_words

_MISTYPED = re.compile(r"(\w+):(?!//[^/])")


def absolute(uri: str) -> str:
    """A local path made absolute; other URIs without a last slash. Raises UsageError for what was meant for a store.

    >>> absolute("s3://logs/a/")
    's3://logs/a'
    """
    mistyped = _MISTYPED.match(uri)
    if mistyped and mistyped[1] in KINDS:
        raise UsageError(f"{uri} names no bucket", f"write {mistyped[1]}://bucket/path")
    storage = Storage()
    return storage.filesystem(uri)[1] if storage.is_local(uri) else uri.rstrip("/")


@contextlib.contextmanager
def usable(uri: str, what: str = "use") -> Iterator[None]:
    """Raises UsageError for what storage raises in the block, with what to do about it."""
    try:
        yield
    except CorpusmillError:
        raise
    except Exception as error:
        told = in_words(error, uri, what)
        shown = without_password(uri)
        raise UsageError(f"{told} ({shown})" if uri not in str(told) else str(told), told.hint) from None
