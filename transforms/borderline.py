"""Borderline: what the report tells of a threshold: the pairs nearest to it on both sides, and how many lie where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.cluster import LIKE_VAL
from transforms.exact import id_words, ids_of

NEAREST = 60  # pairs a side that are told: the report leaves out those of val and eval, and shows fewer
STEP = 0.02  # of similarity, a bar of the report


def borderline_pairs(edges: pa.Table, verdicts: pa.Table, threshold: float) -> list[dict[str, Any]]:
    """The pairs nearest to a threshold: `a` stays, and `b` gives way to it (`dropped`) or, below, stays too.

    Of `cluster.cluster_edges`, its EDGES and VERDICTS. All new records; the order depends on the pairs alone.
    """
    found = []
    for dropped, side in ((True, _dropped(verdicts)), (False, _both_kept(edges, verdicts))):
        similarity = side.column("similarity").to_numpy()
        a, b = (id_words(side.column(name)) for name in "ab")
        away = np.abs(similarity - np.float32(threshold))
        order = np.lexsort((b[:, 1], b[:, 0], a[:, 1], a[:, 0], away))[:NEAREST]
        names = [[one.hex() for one in ids_of(words[order]).to_pylist()] for words in (a, b)]
        for one, other, index in zip(*names, similarity[order].tolist(), strict=True):
            found.append({"a": one, "b": other, "similarity": round(index, 6), "dropped": dropped})
    return found


def similarity_counts(edges: pa.Table, verdicts: pa.Table, lowest: float) -> list[dict[str, Any]]:
    """From `lowest` to 1 in steps of `STEP`: records that give way at this similarity, and pairs that both stay."""
    starts = np.round(np.arange(np.floor(lowest / STEP) * STEP, 1.0, STEP), 6)
    bounds = np.append(starts, 1.0 + STEP).astype(np.float32)  # 1 is in the last one
    counts = [
        np.histogram(side.column("similarity").to_numpy(), bounds)[0]
        for side in (_dropped(verdicts), _both_kept(edges, verdicts))
    ]
    return [
        {"from": float(start), "dropped": int(dropped), "kept": int(kept)}
        for start, dropped, kept in zip(starts, *counts, strict=True)
    ]


def _dropped(verdicts: pa.Table) -> pa.Table:
    """Pairs of a record that stays and one that gives way to it."""
    dropped = verdicts.filter(verdicts.column("kept_id").is_valid())
    return dropped.select(["kept_id", "id", "similarity"]).rename_columns(["a", "b", "similarity"])


def _both_kept(edges: pa.Table, verdicts: pa.Table) -> pa.Table:
    """Edges of new records that both stay."""
    gone = pc.or_(verdicts.column("kept_id").is_valid(), pc.greater_equal(verdicts.column("like"), LIKE_VAL))
    ids = pc.unique(verdicts.filter(gone).column("id"))
    stays: pa.ChunkedArray = pc.and_(*(pc.less(edges.column(f"published_{side}"), 0) for side in "ab"))
    for side in "ab":
        stays = pc.and_(stays, pc.invert(pc.is_in(edges.column(side), value_set=ids)))
    return edges.filter(stays).select(["a", "b", "similarity"])
