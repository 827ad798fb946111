"""Told: what the report says of clusters, of those of a part of the edges or of all parts together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transforms.borderline import borderline_pairs, nearest_pairs, similarity_counts
from transforms.cluster import LARGEST, Clusters
from transforms.options import DedupeOptions


def tell_clusters(clusters: Clusters, options: DedupeOptions) -> dict[str, Any]:
    """Of clusters: the number of edges, the largest, divided units, pairs beside the threshold and counts of pairs."""
    return {
        "edges": clusters.edges,
        "largest": clusters.largest,
        "divided": clusters.divided,
        "borderline": borderline_pairs(clusters, options.threshold),
        "similarities": similarity_counts(clusters, options.leak_threshold),
    }


def add_told(parts: Sequence[dict[str, Any]], options: DedupeOptions) -> dict[str, Any]:
    """What `tell_clusters` would say of the clusters of all parts, one at least, which have no record in common."""
    largest, divided, pairs = (
        [one for part in parts for one in part[name]] for name in ("largest", "divided", "borderline")
    )
    return {
        "edges": sum(part["edges"] for part in parts),
        "largest": sorted(largest, key=lambda one: (-one["records"], one["id"]))[:LARGEST],
        "divided": sorted(divided, key=lambda one: (-one["records"], one["hub"])),
        "borderline": nearest_pairs(pairs, options.threshold),
        "similarities": [
            {"from": bars[0]["from"], **{name: sum(bar[name] for bar in bars) for name in ("dropped", "kept")}}
            for bars in zip(*(part["similarities"] for part in parts), strict=True)
        ],
    }
