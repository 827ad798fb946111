"""Tasks that are done once: a result kept under a name that depends on the plan alone.

A retry, a zombie or a later run of the same plan finds the result and does nothing. The result is put
last, after the files it speaks of, and holds references and counts, never content.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson

from transforms.storage import Storage, join
from transforms.stores import is_denied

_READERS = 32  # results at a time


class TaskFault(RuntimeError):
    """A task that failed: its stage, its number and the type of the error; never a message, which may quote a record."""


@dataclass(frozen=True)
class Work:
    """The work folder of one plan."""

    storage: Storage
    folder: str

    def stage(self, stage: str) -> str:
        """The folder of a stage's results."""
        return join(self.folder, "done", stage)

    def result(self, stage: str, task: int) -> dict[str, Any] | None:
        """The result of a task that is done, or None."""
        try:
            return dict(orjson.loads(self.storage.read(self._marker(stage, task))))
        except FileNotFoundError:
            return None

    def results(self, tasks: Iterable[tuple[str, int]]) -> Iterator[dict[str, Any]]:
        """The results of tasks of stages, in order, some read ahead. Raises RuntimeError where one is not done."""
        waiting: deque[tuple[str, int, Future[dict[str, Any] | None]]] = deque()

        def first() -> dict[str, Any]:
            stage, task, future = waiting.popleft()
            result = future.result()
            if result is None:
                raise RuntimeError(f"{stage} {task} is not done")
            return result

        with ThreadPoolExecutor(_READERS) as pool:
            for stage, task in tasks:
                waiting.append((stage, task, pool.submit(self.result, stage, task)))
                if len(waiting) > 2 * _READERS:
                    yield first()
            while waiting:
                yield first()

    def once(self, stage: str, task: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The task's result: the one kept, or what `make` returns now, which is then kept.

        Errors of this package are raised as they are, all others as TaskFault.
        """
        kept = self.result(stage, task)
        if kept is not None:
            return kept
        try:
            content = orjson.dumps(make())
            self.storage.put(self._marker(stage, task), content)
        except Exception as error:
            if type(error).__module__.startswith("transforms."):
                raise
            place = place_of(error)
            raise TaskFault(f"{stage} {task} failed with {name_of(error)}{place}") from None
        return dict(orjson.loads(content))

    def _marker(self, stage: str, task: int) -> str:
        return join(self.stage(stage), f"{task:06d}.json")


def name_of(error: BaseException) -> str:
    """The type of an error, with the system's word for it where there is one, as `OSError ENOSPC`.

    PermissionError for what the clients of stores raise where access is denied.
    """
    if is_denied(error):
        return PermissionError.__name__
    code = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    return f"{type(error).__name__} {code}".strip()


def place_of(error: BaseException) -> str:
    """Where an error was raised: the innermost file and line of this project, or nothing."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename.replace("\\", "/")
        for package in ("/transforms/", "/pipeline/"):
            if package in file:
                place = f" at {package[1:]}{file.rsplit(package, 1)[1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
