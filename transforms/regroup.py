"""Regroup: the same segment of many units' runs becomes one run that is cut finer.

    runs of units     0: a a a b b b    1: a a b b b b    …        many runs, few segments
                          │                 │
    Regroup           a ──┴─────────────────┘  b …                 a task a segment and block of units
                          ▼
    its run           a0 a1 a2 a3 …                                few runs, many segments

Where a corpus has very many units, every later task would have to read from each of them: this pass bounds how often.
Memory is one segment of one unit and a run writer's buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transforms.mill import row_keys, runs_of
from transforms.runs import RunWriter, Segment, segment_of
from transforms.storage import Storage


def regroup_segment(
    coarse: int,
    of: int,
    references: Mapping[str, Iterable[Segment]],
    segments: Mapping[str, int],
    writer: int,
    storage: Storage,
    folder: str,
) -> dict[str, Any]:
    """Writes, for each kind, run `writer` of the rows that units have in segment `coarse` of `of`.

    Returns `runs` (offsets by kind) and `first` (by kind, which of the kind's `segments` the offsets start with).
    """
    runs, first = {}, {}
    known = runs_of(storage, folder)
    for kind, mine in references.items():
        share = segments[kind] // of
        first[kind] = coarse * share
        with RunWriter(known[kind].schema, share, storage.spool(folder)) as out:
            for _, batch in known[kind].read(mine):
                out.append(batch, segment_of(row_keys(kind, batch), segments[kind]) - first[kind])
            runs[kind] = out.finish(known[kind], writer)
    return {"runs": runs, "first": first}
