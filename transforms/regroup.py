"""Regroup: the same segment of many writers' runs becomes one run that is cut finer.

    runs of units     0: a a a b b b    1: a a b b b b    …        many runs, few segments
                          │                 │
    Regroup           a ──┴─────────────────┘  b …                 a task a segment and block of units
                          ▼
    its run           a0 a1 a2 a3 …                                few runs, many segments

Where there are very many writers, every later task would have to read from each of them: this pass bounds how often.
Memory is one segment of one run and a run writer's buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.bands import BandRows, unpack_bands, unpack_tags
from transforms.mill import row_keys
from transforms.runs import Runs, RunWriter, Segment, segment_of


def regroup_segment(
    coarse: int,
    of: int,
    runs: Mapping[str, Runs],
    references: Mapping[str, Iterable[Segment]],
    segments: Mapping[str, int],
    writer: int,
    spool: str | None,
) -> dict[str, Any]:
    """Writes, for each kind, run `writer` of the rows that others have in segment `coarse` of `of`.

    Returns `runs` (offsets by kind) and `first` (by kind, which of the kind's `segments` the offsets start with).
    """
    offsets, first = {}, {}
    for kind, mine in references.items():
        share = segments[kind] // of
        first[kind] = coarse * share
        with RunWriter(runs[kind].schema, share, spool) as out:
            batches = (batch for _, batch in runs[kind].read(mine))
            for rows, targets in _routed(kind, batches, segments[kind]):
                out.append(rows, targets - first[kind])
            offsets[kind] = out.finish(runs[kind], writer)
    return {"runs": offsets, "first": first}


def _routed(
    kind: str, batches: Iterable[pa.RecordBatch], segments: int
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
    """Rows of a kind, and the segment of each. Those of bands are packed a segment each, so they are packed anew."""
    if kind != "bands":
        for batch in batches:
            yield batch, segment_of(row_keys(kind, batch), segments)
        return
    collected = BandRows()
    for batch in batches:
        packed = pa.Table.from_batches([batch])
        bands, tags = unpack_bands(packed), unpack_tags(packed)
        keys, refs, orders = (bands.column(name).to_numpy() for name in ("band", "ref", "order"))
        if collected.append(keys, refs, orders, tags):
            yield from collected.take(segments)
    yield from collected.take(segments)
