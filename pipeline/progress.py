"""Progress of a run, counted from the results in its work folder: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.plan import Plan
from transforms.once import Work

STAGES = ("mill", "count", "candidates", "attach", "verify", "join", "route", "cluster", "settle", "cut", "hold", "resolve", "search",
          "follow", "look_alikes", "merge")  # fmt: skip
_EVERY = 0.5  # seconds between looks, on a local disk
_EVERY_REMOTE = 10.0  # in a store, where a look is a listing; a tenth of the time passed, until it is that much
_LINE_EVERY = 60.0
_WAITING_AFTER = 30.0


@contextlib.contextmanager
def shown(work: Work, plan: Plan, console: Console, waiting: str | None = None) -> Iterator[None]:
    """Shows progress on the console until the block ends; says `waiting` once where nothing is done for long."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(work, plan, console, stop, waiting), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(work: Work, plan: Plan, console: Console, stop: threading.Event, waiting: str | None) -> None:
    longest = _EVERY if work.storage.is_local(work.folder) else _EVERY_REMOTE
    live = console.is_terminal
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not live) as progress:
        bar = progress.add_task("reading", total=len(plan.units))
        began = told = time.monotonic()
        while not stop.wait(min(longest, max(_EVERY, (time.monotonic() - began) / 10))):
            try:
                stage, done, total = _look(work, plan)
            except Exception:
                continue  # a look may fail, and every client has errors of its own; the run tells of what matters
            if done:
                waiting = None
            if waiting and time.monotonic() - told >= _WAITING_AFTER:
                console.print(f"corpusmill: {waiting}", markup=False)
                waiting = None
            progress.update(bar, description=stage, completed=done, total=total)
            if not live and time.monotonic() - told >= _LINE_EVERY:
                told = time.monotonic()
                print(f"corpusmill: {stage} {done} of {total if total is not None else '?'}", file=sys.stderr)


def _look(work: Work, plan: Plan) -> tuple[str, int, int | None]:
    """The stage that is under way, tasks done of it, and how many there are where that is known."""
    milled = len(work.storage.names(work.stage("mill")))
    if milled < len(plan.units):
        return "mill", milled, len(plan.units)
    shards = work.result("look_alikes", 0)
    if shards is not None:
        return "merge", len(work.storage.names(work.stage("merge"))), shards["shards"]
    done = 0
    current = STAGES[1]
    for stage in STAGES[1:-1]:
        found = len(work.storage.names(work.stage(stage)))
        if found:
            current, done = stage, found
    return (
        current,
        done,
        plan.shape.segments
        if current in ("count", "attach", "verify", "route", "settle", "hold", "search", "follow")
        else None,
    )
