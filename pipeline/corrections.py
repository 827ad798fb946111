"""Corrections among the inputs: sources marked `corrected` hold records that replace published ones.

    sources:
      - input: ["logs/{date}.jsonl"]
      - {input: ["corrected/*.jsonl"], corrected: true}      # {"corrects": "<id>", "messages": […]} a line

A file of them is applied, as by `corpusmill apply`, before the night is taken in, and makes a snapshot of its own; so
late copies of what was corrected find the correction there already. A file is applied once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipeline.apply import apply_decisions
from pipeline.config import Config, load_keys
from pipeline.errors import CorpusmillError
from pipeline.history import consumed
from pipeline.places import absolute
from pipeline.plan import find_inputs, input_digest
from pipeline.refresh import with_date
from pipeline.run import Say, storage_of
from pipeline.snapshots import Dataset


def apply_corrections(config: Config, date: str | None, say: Say) -> int:
    """Applies the files of corrected sources that no snapshot has; returns the last snapshot that this made, or 0.

    Raises UsageError where one can't be carried out: then it changed nothing.
    """
    marked = [source for source in config.sources if source.corrected]
    if not marked or config.output is None:
        return 0
    dated = with_date(config, date)
    storage, keys = storage_of(config), load_keys(config.split.salt)
    dataset = Dataset(storage, absolute(config.output))
    files, _ = find_inputs(dated, storage, corrected=True)
    if not dataset.latest():
        if files:
            say("warning: corrections wait for the next run: there is nothing published yet that they could correct")
        return 0
    known, made = consumed(dataset, dataset.manifest()), 0
    for file, _ in files:
        digest = input_digest(file, keys)
        if digest in known:
            continue
        done = apply_decisions(dataset, file.uri, keys, config, content=storage.read(file.uri), digest=digest)
        if done["unknown"]:
            say(
                f"warning: {done['unknown']:,} corrections are of records that are not there, as those of forgotten people"
            )
        if done["committed"]:
            if done["already"]:
                say(f"warning: {done['already']:,} corrections were applied before, or are of records that were cut")
            made = done["snapshot"]
            say(
                f"snapshot {done['snapshot']:06d}: {done['fixed']:,} records corrected, {done['cut']:,} cut"
                + (f"; {done['gave_way']:,} near-duplicates gave way" if done["gave_way"] else "")
            )
    return made


@contextlib.contextmanager
def told_with(snapshot: int, say: Say) -> Iterator[None]:
    """Says with whatever ends the run in the block that the corrections made a snapshot before, if not 0."""
    stand = f"the corrections before this run were committed, as snapshot {snapshot:06d}"
    try:
        yield
    except CorpusmillError as error:
        if snapshot:
            raise type(error)(f"{error}; {stand}", error.hint) from None
        raise
    except KeyboardInterrupt:
        if snapshot:
            say(stand)
        raise
