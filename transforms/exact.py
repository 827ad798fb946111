"""Exact duplicates: records with one id meet in one segment, and one of them is elected to stay.

The record kept is the first by rank (kind, then the configured preference), then by the digest of its
remaining columns. Records that are the same in all of that give the same row, so which of them stays
decides nothing but the line that the lineage names: the first in the order of the inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Facts: a narrow row for each sound record; `writer` is its work unit, `line` its line there.
FACTS = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("rank", pa.binary(), nullable=False),
        pa.field("tie", pa.binary(16), nullable=False),
        pa.field("group", pa.binary(16)),
        pa.field("source_id", pa.binary(16)),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("writer", pa.int32(), nullable=False),
    ]
)


def elect_records(
    facts: pa.Table, *, exact: bool, later: npt.NDArray[np.int8] | None = None
) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """FACTS sorted by key and id, the elected one of each id first; bool[N] which are elected.

    Without `exact` every record is elected. `later` int8[N] comes before rank: the least of an id is elected.
    """
    order = ["key", "id", *(["later"] if later is not None else []), "rank", "tie", "writer", "line"]
    rows = facts if later is None else facts.append_column("later", pa.array(later))
    facts = rows.sort_by([(name, "ascending") for name in order]).select(facts.column_names).combine_chunks()
    if not exact:
        return facts, np.ones(facts.num_rows, bool)
    return facts, first_of_each(facts.column("id"))


def first_of_each(ids: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
    """bool[N]: whether an id differs from the one before it."""
    words = id_words(ids)
    first = np.ones(len(words), bool)
    first[1:] = (words[1:] != words[:-1]).any(axis=1)
    return first


def id_words(ids: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint64]:
    """uint64[N, 2]: 16-byte ids without nulls, as two words that sort as the bytes do."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks gives for no chunk
        return np.empty((0, 2), np.uint64)
    content = array.buffers()[1]
    if content is None or len(array) == 0:
        return np.empty((0, 2), np.uint64)
    words = np.frombuffer(content, ">u8", count=2 * len(array), offset=16 * array.offset)
    return words.astype(np.uint64).reshape(-1, 2)


def ids_of(words: npt.NDArray[np.uint64]) -> pa.FixedSizeBinaryArray:
    """The ids of `id_words`.

    >>> ids_of(id_words(pa.array([b"0123456789abcdef"], pa.binary(16)))).to_pylist()
    [b'0123456789abcdef']
    """
    content = np.ascontiguousarray(words, ">u8")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(words), [None, pa.py_buffer(content)])


def among_ids(ids: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """bool[N]: which of ids uint64[N, 2] are among others."""
    pair = np.dtype([("first", np.uint64), ("second", np.uint64)])
    left, right = (np.ascontiguousarray(one).view(pair).ravel() for one in (ids, others))
    return np.isin(left, right)


def ranges(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers from each `first` up to its `last`, one range after the other.

    >>> ranges(np.array([5, 9]), np.array([8, 10])).tolist()
    [5, 6, 7, 9]
    """
    counts = last - first
    return np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values sorted, each once: many times as fast as numpy.unique, which hashes.

    >>> distinct(np.array([3, 1, 3])).tolist(), distinct(np.array([])).tolist()
    ([1, 3], [])
    """
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def is_in_sorted(values: npt.NDArray[Any], among: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool[N]: which values are among others that are sorted: for few of the former, many times over.

    >>> is_in_sorted(np.array([3, 1, 9]), np.array([1, 2, 3])).tolist(), is_in_sorted(np.array([1]), np.array([])).tolist()
    ([True, True, False], [False])
    """
    if len(among) == 0:
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.asarray(among[places] == values, bool)
