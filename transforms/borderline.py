"""Borderline: what the report tells of a threshold: the pairs nearest to it on both sides, and how many lie where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.cluster import CLOSE, ROWS, Clusters
from transforms.exact import id_words, ids_of

NEAREST = 60  # pairs a side that are told: the report leaves out those of val and eval, and shows fewer
STEP = 0.02  # of similarity, a bar of the report


def borderline_pairs(clusters: Clusters, threshold: float) -> list[dict[str, Any]]:
    """The pairs nearest to a threshold: `a` stays, and `b` gives way to it (`dropped`) or, below, stays too.

    All new records; the order depends on the pairs alone.
    """
    found: list[dict[str, Any]] = []
    for dropped, pairs in _sides(clusters):
        similarity = np.round(pairs.column("similarity").to_numpy().astype(np.float64), 6)
        away = np.abs(similarity - threshold)
        near = np.flatnonzero(away <= np.partition(away, min(NEAREST, len(away)) - 1)[:NEAREST].max())
        a, b = (id_words(pairs.column(name))[near] for name in "ab")
        order = np.lexsort((b[:, 1], b[:, 0], a[:, 1], a[:, 0], away[near]))[:NEAREST]
        names = [[one.hex() for one in ids_of(words[order]).to_pylist()] for words in (a, b)]
        for one, other, index in zip(*names, similarity[near[order]].tolist(), strict=True):
            found.append({"a": one, "b": other, "similarity": index, "dropped": dropped})
        found = nearest_pairs(found, threshold)
    return found


def nearest_pairs(pairs: Iterable[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """The nearest to a threshold among some `borderline_pairs`, in their order."""
    order = sorted(pairs, key=lambda one: (abs(one["similarity"] - threshold), one["a"], one["b"]))
    return [one for side in (True, False) for one in [pair for pair in order if pair["dropped"] == side][:NEAREST]]


def similarity_counts(clusters: Clusters, lowest: float) -> list[dict[str, Any]]:
    """From `lowest` to 1 in steps of `STEP`: records that give way at this similarity, and pairs that both stay."""
    starts = np.round(np.arange(np.floor(lowest / STEP) * STEP, 1.0, STEP), 6)
    bounds = np.append(starts, 1.0 + STEP).astype(np.float32)  # 1 is in the last one
    counts = {True: np.zeros(len(starts), np.int64), False: np.zeros(len(starts), np.int64)}
    for dropped, pairs in _sides(clusters):
        counts[dropped] += np.histogram(pairs.column("similarity").to_numpy(), bounds)[0]
    return [
        {"from": float(start), "dropped": int(dropped), "kept": int(kept)}
        for start, dropped, kept in zip(starts, counts[True], counts[False], strict=True)
    ]


def _sides(clusters: Clusters) -> Iterator[tuple[bool, pa.RecordBatch]]:
    """CLOSE pairs, some at a time, and whether the second of each gives way to the first or both stay."""
    for batch in clusters.verdicts:
        gone = batch.filter(batch.column("kept_id").is_valid())
        columns = [gone.column(name) for name in ("kept_id", "id", "similarity")]
        if gone.num_rows:
            yield True, pa.RecordBatch.from_arrays(columns, schema=CLOSE)
    for batch in clusters.close.to_batches(max_chunksize=ROWS):
        if batch.num_rows:
            yield False, batch
