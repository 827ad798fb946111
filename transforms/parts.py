"""Parts: the rows of an index as its files hold them, and how a file is read no further than is asked.

    bands      a row for each `BLOCK` of them: gaps between sorted bands in Rice's code, refs as they are, 6.2 bytes a band
    sketches   `words` and `grams` as bytes: Parquet's own lists take three times as long to read
    others     as they are

Rows are sorted by their key. Row groups say between which keys theirs lie; those without any that is asked for
stay unread.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.bands import BANDS, gap_words, pack_sorted, unpack_sorted, zeros_below
from transforms.compiled import compiled
from transforms.exact import id_words
from transforms.minhash import BAND_BITS
from transforms.verify import SKETCHES

BLOCK = 1 << 16  # bands in a row of a file
ROWS = 1 << 14  # of other kinds in a row group
LOW_BITS = 64 - BAND_BITS  # of a band, which are 0

_BLOCKS = pa.schema(
    [
        pa.field("rows", pa.int32(), nullable=False),
        pa.field("first", pa.uint64(), nullable=False),
        pa.field("last", pa.uint64(), nullable=False),
        pa.field("shift", pa.int8(), nullable=False),
        pa.field("gaps", pa.large_binary(), nullable=False),
        pa.field("refs", pa.large_binary(), nullable=False),  # uint32
        pa.field("orders", pa.large_binary(), nullable=False),  # uint32; one where all are the same
    ]
)
_LISTS = ("words", "grams")
_BYTES = pa.schema([field.with_type(pa.large_binary()) if field.name in _LISTS else field for field in SKETCHES])

# The types of columns are known: Arrow's description of them weighs as much as a small night.
_PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,  # the next ones find repetitions that there are not, and come out larger
    "row_group_size": ROWS,
    "store_schema": False,
}
_BY_KIND: dict[str, dict[str, Any]] = {
    "bands": {"compression": "none", "compression_level": None, "use_dictionary": False, "row_group_size": 1},
    "sketches": {"use_dictionary": ["rank", "group", "published"]},
    # Keys and ids hardly ever repeat.
    "records": {"use_dictionary": ["split"]},
    "owners": {"use_dictionary": ["split"]},
}

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Asked:
    """Keys from `low` to `high`; of these, where `wanted` is given (sorted, uint64[N]), the ones whose first `bits` bits
    are among it."""

    low: int = 0
    high: int = (1 << 64) - 1
    wanted: Words | None = None
    bits: int = 64

    @functools.cached_property
    def ends(self) -> Words | None:
        """uint64[N]: the last key that begins as each of `wanted`."""
        return None if self.wanted is None else self.wanted | np.uint64((1 << (64 - self.bits)) - 1)

    def may_lie(self, first: int, last: int) -> bool:
        """Whether any may lie from `first` to `last`."""
        if first > self.high or last < self.low:
            return False
        if self.wanted is None or self.ends is None:
            return True
        return bool(
            np.searchsorted(self.ends, np.uint64(first)) < np.searchsorted(self.wanted, np.uint64(last), "right")
        )

    def rows(self, keys: Words) -> npt.NDArray[np.int64]:
        """int64[M]: the rows that are asked for, of sorted keys. Raises RuntimeError where they are not sorted."""
        if (keys[1:] < keys[:-1]).any():
            raise RuntimeError("a part of the index is not sorted")
        start, stop = np.searchsorted(keys, np.uint64(self.low)), np.searchsorted(keys, np.uint64(self.high), "right")
        if self.wanted is None or self.ends is None or start == stop:
            return np.arange(start, stop)
        # Of all that are wanted, a part has few.
        near = slice(np.searchsorted(self.ends, keys[start]), np.searchsorted(self.wanted, keys[stop - 1], "right"))
        first = np.maximum(np.searchsorted(keys, self.wanted[near]), start)
        counts = np.maximum(np.minimum(np.searchsorted(keys, self.ends[near], "right"), stop) - first, 0)
        return np.repeat(first - np.concatenate(([0], np.cumsum(counts)))[:-1], counts) + np.arange(counts.sum())


ALL = Asked()


def pack_part(kind: str, rows: pa.Table, key: str) -> bytes:
    """A file of rows of a kind, sorted by `key`; of bands without `published`, which is 0 in an index."""
    if kind == "bands":
        rows = _pack_bands(rows)
    elif kind == "sketches":
        lists = {name: _as_bytes(rows.column(name)) for name in _LISTS}
        rows = pa.table([lists.get(name, rows.column(name)) for name in _BYTES.names], schema=_BYTES)
    out = io.BytesIO()
    bounds = ["first", "last"] if kind == "bands" else [key]
    pq.write_table(rows, out, **{**_PARQUET, "write_statistics": bounds, **_BY_KIND.get(kind, {})})
    return out.getvalue()


def unpack_part(kind: str, stream: IO[bytes], key: str, asked: Asked = ALL) -> pa.Table:
    """The rows of a file that are asked for, sorted by `key`. Raises RuntimeError where the file's are not."""
    source = pq.ParquetFile(stream)
    bounds = ("first", "last") if kind == "bands" else (key, key)
    full = [one for one in range(source.num_row_groups) if source.metadata.row_group(one).num_rows]
    groups = [one for one in full if asked.may_lie(*_words(source, one, bounds))]
    rows = source.read_row_groups(groups)
    if kind == "bands":
        rows = _unpack_bands(rows, asked.wanted)
    if asked is not ALL:
        rows = rows.take(pa.array(asked.rows(words_of(rows.column(key)))))
    if kind == "sketches":
        lists = {name: _as_lists(rows.column(name)) for name in _LISTS}
        return pa.table([lists.get(name, rows.column(name)) for name in SKETCHES.names], names=SKETCHES.names).cast(
            SKETCHES
        )
    return rows


def words_of(keys: pa.ChunkedArray) -> Words:
    """uint64[N]: the first 64 bits of keys."""
    if pa.types.is_fixed_size_binary(keys.type):
        return np.ascontiguousarray(id_words(keys)[:, 0])
    return np.asarray(keys.to_numpy(), np.uint64)


def _words(source: pq.ParquetFile, group: int, bounds: tuple[str, str]) -> tuple[int, int]:
    """The first 64 bits of the least key of a row group, and of the greatest."""
    found = source.metadata.row_group(group)
    known = {(one := found.column(number)).path_in_schema: one.statistics for number in range(found.num_columns)}
    least, most = known[bounds[0]].min, known[bounds[1]].max
    return (
        (int.from_bytes(least[:8], "big"), int.from_bytes(most[:8], "big"))
        if isinstance(least, bytes)
        else (least, most)
    )


def _pack_bands(rows: pa.Table) -> pa.Table:
    bands, refs, orders = (rows.column(name).to_numpy() for name in ("band", "ref", "order"))
    blocks = []
    for start in range(0, len(bands), BLOCK):
        mine = slice(start, start + BLOCK)
        own, own_orders = bands[mine], orders[mine]
        shift, gaps = pack_sorted(own)
        kept = own_orders[:1] if (own_orders == own_orders[0]).all() else own_orders
        blocks.append((len(own), int(own[0]), int(own[-1]), shift, gaps, *(one.astype("<u4").tobytes() for one in (refs[mine], kept))))  # fmt: skip
    columns = zip(*blocks, strict=True) if blocks else ([] for _ in _BLOCKS)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, _BLOCKS, strict=True)], schema=_BLOCKS
    )


def _unpack_bands(blocks: pa.Table, wanted: Words | None) -> pa.Table:
    """BANDS of blocks: all, or those that are wanted."""
    tables = [BANDS.empty_table()]
    for place in range(blocks.num_rows):
        rows, first, last, shift = (blocks.column(name)[place].as_py() for name in ("rows", "first", "last", "shift"))
        gaps, *columns = (blocks.column(name)[place].as_buffer() for name in ("gaps", "refs", "orders"))
        refs, orders = (np.frombuffer(one, "<u4") for one in columns)
        chosen: npt.NDArray[np.int64] | slice = slice(None)
        if wanted is None:
            bands = unpack_sorted(first, shift, gaps, rows)
        else:
            near = wanted[np.searchsorted(wanted, np.uint64(first)) : np.searchsorted(wanted, np.uint64(last), "right")]
            chosen, bands = np.empty(rows, np.int64), np.empty(rows, np.uint64)
            found = _find_bands(gap_words(gaps), rows, first >> LOW_BITS, shift, near, chosen, bands)
            chosen, bands = chosen[:found], bands[:found]
        orders = orders if len(orders) == rows else np.broadcast_to(orders, rows)
        found_rows = (bands, refs[chosen], orders[chosen], np.zeros(len(bands), np.int8))
        tables.append(pa.table([pa.array(column) for column in found_rows], schema=BANDS))
    return pa.concat_tables(tables).combine_chunks()


@compiled
def _find_bands(
    words: Words, rows: int, key: int, shift: int, wanted: Words, chosen: npt.NDArray[np.int64], bands: Words
) -> int:
    """Puts the rows of a block, its gaps as `pack_sorted` wrote them, that are wanted, and their bands; how many."""
    # As `bands._unpack_gaps`, which as a function of its own would take three times as long: numba counts who holds `words`.
    one, six, last, whole = np.uint64(1), np.uint64(6), np.uint64(63), np.uint64(64)
    bits, low = np.uint64(shift), np.uint64(LOW_BITS)
    band, place, mask, near, found = np.uint64(key), np.uint64(0), (one << bits) - one, 0, 0
    target = wanted[0] >> low if len(wanted) else np.uint64(0)
    for row in range(rows if len(wanted) else 0):
        if row:
            start, left = place, words[place >> six] >> (place & last)
            while left == 0:
                place += whole - (place & last)
                left = words[place >> six]
            place += zeros_below(left)
            quotient = place - start
            place += one
            within = place & last
            rest = words[place >> six] >> within
            if within + bits > whole:
                rest |= words[(place >> six) + one] << (whole - within)
            place += bits
            band += (quotient << bits) | (rest & mask)
        if target < band:
            while near < len(wanted) and wanted[near] >> low < band:
                near += 1
            if near == len(wanted):
                break
            target = wanted[near] >> low
        if target == band:
            chosen[found], bands[found] = row, band << low
            found += 1
    return found


def _as_bytes(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of uint32 as the bytes of their values."""
    chunks = []
    for one in lists.chunks:
        offsets = pa.array(one.offsets.to_numpy().astype(np.int64) * 4)
        chunks.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(one), [None, offsets.buffers()[1], pa.array(one.values.to_numpy().astype("<u4")).buffers()[1]]))  # fmt: skip
    return pa.chunked_array(chunks, pa.large_binary())


def _as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of the uint32 that bytes hold."""
    chunks = []
    for one in column.cast(pa.large_binary()).chunks:
        offsets = np.frombuffer(one.buffers()[1], np.int64)[one.offset : one.offset + len(one) + 1]
        values = np.frombuffer(one.buffers()[2] or b"", "<u4")[offsets[0] // 4 : offsets[-1] // 4]
        chunks.append(pa.ListArray.from_arrays(pa.array(((offsets - offsets[0]) // 4).astype(np.int32)), pa.array(values.astype(np.uint32))))  # fmt: skip
    return pa.chunked_array(chunks, pa.list_(pa.uint32()))
