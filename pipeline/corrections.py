"""Corrections among the inputs: sources marked `corrected` hold records that replace published ones.

    sources:
      - input: ["logs/{date}.jsonl"]
      - {input: ["corrected/*.jsonl"], corrected: true}      # {"corrects": "<id>", "messages": […]} a line, or another shape

The new files of them are applied, as by `corpusmill apply`, before the night is taken in, all in one snapshot or none; so
late copies of what was corrected find the correction there already. A file is applied once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipeline.apply import DecisionFile, apply_decisions
from pipeline.config import Config, load_keys
from pipeline.errors import CorpusmillError
from pipeline.history import consumed
from pipeline.places import absolute, usable
from pipeline.plan import find_inputs, input_digest
from pipeline.refresh import with_date
from pipeline.run import Say, storage_of
from pipeline.snapshots import Dataset


def apply_corrections(config: Config, date: str | None, say: Say) -> int:
    """Applies the files of corrected sources that no snapshot has; returns the snapshot that this made, or 0.

    Raises UsageError where a line can't be carried out: then nothing was changed.
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
    known = consumed(dataset, dataset.manifest())
    listed = [(file, input_digest(file, keys)) for file, _ in files]
    new = []
    for file, digest in listed:
        if digest not in known:
            with usable(file.uri, "read"):
                new.append(DecisionFile(file.uri, storage.read(file.uri), digest))
    if not new:
        return 0
    done = apply_decisions(dataset, new, keys, config)
    if done["unknown"]:
        say(f"warning: {done['unknown']:,} corrections are of records that are not there, as those of forgotten people")
    if not done["committed"]:
        return 0
    if done["already"]:
        say(
            f"warning: {done['already']:,} corrections were applied before, are of records that were cut, or of such as "
            "another file decides on too"
        )
    say(
        f"snapshot {done['snapshot']:06d}: {done['fixed']:,} records corrected, {done['cut']:,} cut"
        + (f"; {done['gave_way']:,} near-duplicates gave way" if done["gave_way"] else "")
    )
    return int(done["snapshot"])


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
    except BaseException:  # an interrupt, a store that denies access, a bug: told of by the command line
        if snapshot:
            say(stand)
        raise
