"""What can go wrong, as exit codes.

    CorpusmillError
    ├── UsageError      2   usage, config, input, credentials, found before the first record is read; a damaged dataset
    │   └── NotTaken        a runner did not take the job
    ├── GateError       3   a gate, or a finding of `verify` or `check`
    ├── RunFailed       4   a failure after that
    └── OvertakenError  5   another run committed first

Anything else that reaches the command line is a bug of ours: exit code 1.
"""

from __future__ import annotations

import sys
import threading
from typing import ClassVar


class CorpusmillError(Exception):
    """Base of all that is said to the user in a sentence. `hint` says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(CorpusmillError):
    """Something the user can put right before any work."""

    exit_code = 2


class NotTaken(UsageError):
    """A runner did not take the job: nothing of it was begun."""


class GateError(CorpusmillError):
    """A limit was passed; the run was not committed."""

    exit_code = 3


class RunFailed(CorpusmillError):
    """The run broke and committed nothing."""

    exit_code = 4


class OvertakenError(CorpusmillError):
    """Another run committed the snapshot first; running again catches up."""

    exit_code = 5


def hush_threads() -> None:
    """Lets no thread or worker process print a traceback: it may quote a record, and the driver tells what failed."""
    threading.excepthook = lambda _: None
    sys.excepthook = lambda *_: None
