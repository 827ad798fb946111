"""Records for tests: made, or drawn by Hypothesis. Contents are synthetic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from transforms.canonical import canonical_json
from transforms.cluster import Clusters, cluster_edges
from transforms.schema import MESSAGES, RECORDS, ROLES

WORDS = [
    "order",
    "parcel",
    "refund",
    "invoice",
    "account",
    "colour",
    "window",
    "printer",
    "battery",
    "cable",
    "shelf",
    "garden",
    "letter",
    "ticket",
    "train",
    "museum",
    "river",
    "bridge",
    "coffee",
    "kitchen",
    "recipe",
    "lemon",
    "sugar",
    "island",
    "weather",
    "jacket",
    "button",
    "pocket",
    "mirror",
    "ladder",
    "engine",
    "bicycle",
    "tyre",
    "manual",
    "setting",
    "screen",
    "folder",
    "backup",
    "keyboard",
    "speaker",
    "camera",
    "lens",
    "tripod",
    "album",
    "frame",
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
optional_texts = st.none() | texts
tool_calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": optional_texts,
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": texts, "arguments": st.sampled_from(["{}", '{"a":[1,"é"]}'])}),
        }
    ),
    min_size=1,
    max_size=3,
)
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(ROLES),
            "content": optional_texts,
            "reasoning": optional_texts,
            "name": optional_texts,
            "tool_calls": st.none() | tool_calls,
            "tool_call_id": optional_texts,
            "weight": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        }
    ),
    max_size=4,
)
conversations = st.lists(st.tuples(messages, st.sampled_from([None, '[{"type":"function"}]'])), max_size=8)


def records_batch(
    conversations: Sequence[Any],
    tools: Sequence[str | None] | None = None,
    metadata: Sequence[dict[str, Any]] | None = None,
    groups: Sequence[bytes | None] | None = None,
    kinds: Sequence[str] | None = None,
) -> pa.RecordBatch:
    """RECORDS of conversations, each a list of messages; keys that are left out are null."""
    count = len(conversations)
    columns = {
        "line": pa.array(range(count), pa.int64()),
        "offset": pa.array(range(count), pa.int64()),
        "length": pa.array([1] * count, pa.int64()),
        "reasons": pa.array([[]] * count, RECORDS.field("reasons").type),
        "messages": pa.array(conversations, MESSAGES),
        "tools": pa.array(tools or [None] * count, pa.string()),
        "kind": pa.array(kinds or ["production"] * count, pa.string()),
        "metadata": pa.array([canonical_json(one).decode() for one in metadata or [{}] * count], pa.string()),
        "group": pa.array(groups or [None] * count, pa.binary(16)),
        "source_id": pa.nulls(count, pa.binary(16)),
        "n_redactions": pa.array([0] * count, pa.int32()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in RECORDS.names], schema=RECORDS)


def chat(question: str, answer: str = "Certainly, here it is.", **fields: Any) -> dict[str, Any]:
    """A record as it stands in a log."""
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **fields,
    }


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """A JSONL file; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for record in records:
            out.write(record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode())
            out.write(b"\n")
    return path


def none_of(edges: pa.RecordBatch, _leads: np.ndarray) -> np.ndarray:
    """In place of `cluster._not_held`: all copies are held."""
    return np.zeros(edges.num_rows, bool)


def clusters_of(edges: pa.Table, threshold: float, distinct: int, *, rebuild: bool = False) -> Clusters:
    """`cluster_edges` of a few edges at a time."""
    return cluster_edges(edges.to_batches(max_chunksize=5), threshold, distinct, again=rebuild)
