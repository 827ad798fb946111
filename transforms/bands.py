"""Band rows: which record has which band hash; 25 a record, so they are thin.

A row names its record by `ref`, the first four bytes of its id. Records that share a ref (at ten million, one in
a thousand) stand in for each other until verification, which compares all that a ref names. Runs hold the rows
packed: sorted by band, gaps in Rice's code (Golomb 1966, Rice 1979), about 8.6 bytes a row.

New rows have tags beside them (uint16), equal where records say the same: a crowd of copies is told from a family.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.compiled import compiled, signed
from transforms.kept import Kept
from transforms.minhash import BAND_BITS

# `published` of a record: TRAIN, VAL or EVAL of `transforms.split` where it is, NEW where this run brings it. What is read
# again, in a rebuild all but eval, is new: -2 - split of a record that was in that split before.
NEW = -1

# The rows as kernels and the index take them; new and published ones may be appended to each other.
BANDS = pa.schema(
    [
        pa.field("band", pa.uint64(), nullable=False),  # the low 24 bits are 0
        pa.field("ref", pa.uint32(), nullable=False),
        pa.field("order", pa.uint32(), nullable=False),  # 31 bits of the rank: smaller ones lead
        pa.field("published", pa.int8(), nullable=False),
    ]
)

# The rows as runs hold them: one a segment of a flush, all new.
PACKED = pa.schema(
    [
        pa.field("rows", pa.int32(), nullable=False),
        pa.field("first", pa.uint64(), nullable=False),  # band of the first row
        pa.field("shift", pa.int8(), nullable=False),  # bits of a gap that are written as they are
        pa.field("gaps", pa.large_binary(), nullable=False),  # bit by bit: unary quotient, remainder
        pa.field("refs", pa.large_binary(), nullable=False),  # uint32
        pa.field("orders", pa.large_binary(), nullable=False),  # uint32; one where all are the same
        pa.field("tags", pa.large_binary(), nullable=False),  # uint16
    ]
)

_LOW = np.uint64(64 - BAND_BITS)
ROWS = 1 << 21  # that are packed at once: 36 MiB


class BandRows:
    """Collects the band rows of a unit and packs them `ROWS` at a time."""

    def __init__(self) -> None:
        # Memory that nothing is written to weighs nothing.
        self._columns: list[npt.NDArray[Any]] = [
            np.empty(2 * ROWS, kind) for kind in (np.uint64, np.uint32, np.uint32, np.uint16)
        ]
        self._rows = 0

    def append(
        self,
        bands: npt.NDArray[np.uint64],
        refs: npt.NDArray[np.uint32],
        orders: npt.NDArray[np.uint32],
        tags: npt.NDArray[np.uint16],
    ) -> bool:
        """Adds rows; whether it is time to take them."""
        end = self._rows + len(bands)
        added: tuple[npt.NDArray[Any], ...] = (bands, refs, orders, tags)
        for number, rows in enumerate(added):
            if end > len(self._columns[number]):
                wider = np.empty(end, rows.dtype)
                wider[: self._rows] = self._columns[number][: self._rows]
                self._columns[number] = wider
            self._columns[number][self._rows : end] = rows
        self._rows = end
        return self._rows >= ROWS

    def take(self, segments: int) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
        """The rows so far, packed, with their segments of `segments`; nothing is left of them."""
        for start in range(0, self._rows, 1 << 24):  # as many as the order of a sort has bits for
            end = min(start + (1 << 24), self._rows)
            bands, refs, orders, tags = (column[start:end] for column in self._columns)
            yield pack_bands(bands, refs, orders, tags, segments)
        self._rows = 0


def pack_bands(
    bands: npt.NDArray[np.uint64],
    refs: npt.NDArray[np.uint32],
    orders: npt.NDArray[np.uint32],
    tags: npt.NDArray[np.uint16],
    segments: int,
) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """PACKED rows of new records, one a segment that has any, and the segment of each. At most 2**24 rows."""
    keys = np.empty_like(bands)
    _number(bands, keys)  # bands leave the low 24 bits free
    keys.sort()
    order = (keys & np.uint64((1 << 24) - 1)).view(np.int64)
    keys >>= _LOW
    bounds = np.searchsorted(keys, np.arange(segments + 1, dtype=np.uint64) * np.uint64((1 << BAND_BITS) // segments))
    targets = np.flatnonzero(np.diff(bounds))
    columns: list[list[object]] = [[] for _ in PACKED]
    same = bool((orders == orders[:1]).all())
    for target in targets.tolist():
        mine = slice(bounds[target], bounds[target + 1])
        part, places = keys[mine], order[mine]
        shift, gaps = _pack_keys(part)
        part_orders = orders[:1] if same else orders[places]
        if (part_orders == part_orders[0]).all():
            part_orders = part_orders[:1]
        kept = (refs[places].astype("<u4"), part_orders.astype("<u4"), tags[places].astype("<u2"))
        row = (len(part), int(part[0]), shift, gaps, *(one.tobytes() for one in kept))
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PACKED, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=PACKED), targets.astype(np.int64)


@compiled
def _number(bands: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> None:
    """Puts bands with the number of their row in the low bits."""
    for row in range(len(bands)):
        keys[row] = bands[row] | np.uint64(row)


def _pack_keys(keys: npt.NDArray[np.uint64]) -> tuple[int, bytes]:
    """`pack_sorted` of the upper bits of bands."""
    span = int(keys[-1] - keys[0])
    shift = max(0, int(math.log2(max(span / len(keys), 1.0) * math.log(2))))
    words = np.zeros(2 + (len(keys) * (shift + 1) + (span >> shift)) // 64, np.uint64)
    bits = _pack_gaps(keys, shift, words)
    return shift, words[: -(-bits // 64)].astype("<u8").tobytes()


def unpack_bands(packed: pa.Table) -> pa.Table:
    """BANDS of PACKED rows."""
    counts = packed.column("rows").to_numpy().astype(np.int64)
    total = int(counts.sum())
    bands, refs, orders = np.empty(total, np.uint64), np.empty(total, np.uint32), np.empty(total, np.uint32)
    place = 0
    for batch in packed.to_batches():
        for row in range(batch.num_rows):
            rows, first, shift = (batch.column(name)[row].as_py() for name in ("rows", "first", "shift"))
            end = place + rows
            gaps, own_refs, own_orders = (batch.column(name)[row].as_buffer() for name in ("gaps", "refs", "orders"))
            _unpack_gaps(gap_words(gaps), first, shift, bands[place:end])
            refs[place:end] = np.frombuffer(own_refs, "<u4")
            orders[place:end] = np.frombuffer(own_orders, "<u4")
            place = end
    bands <<= _LOW
    return pa.table(
        [pa.array(bands), pa.array(refs), pa.array(orders), pa.array(np.full(total, NEW, np.int8))], schema=BANDS
    )


def unpack_tags(packed: pa.Table) -> npt.NDArray[np.uint16]:
    """uint16[N]: the tags of the rows that `unpack_bands` gives."""
    parts = [np.frombuffer(one.as_buffer(), "<u2") for one in packed.column("tags")]
    return np.concatenate([np.zeros(0, np.uint16), *parts])


def unpack_parts(
    packed: pa.Table, few: int = ROWS // 2, most: int = ROWS
) -> Iterator[tuple[pa.Table, npt.NDArray[np.uint16]]]:
    """BANDS and tags of PACKED rows: of more than `most` about `few` at a time, a band in one part."""
    count = int(pc.sum(packed.column("rows")).as_py() or 0)
    if count <= most:
        yield unpack_bands(packed), unpack_tags(packed)
        return
    pieces = [packed.slice(row, 1) for row in range(packed.num_rows)]
    step = max(1, few >> 10)
    some = np.sort(np.concatenate([unpack_bands(piece).column("band").to_numpy()[::step] for piece in pieces]))
    starts = np.unique(some[:: max(1, len(some) * few // count)])  # the first is the first of all
    for bounds in itertools.pairwise(np.append(starts, np.uint64(2**64 - 1))):
        parts: list[list[npt.NDArray[Any]]] = []
        for piece in pieces:
            columns = [column.to_numpy() for column in unpack_bands(piece).columns] + [unpack_tags(piece)]
            mine = slice(*np.searchsorted(columns[0], np.array(bounds)))
            parts.append([column[mine].copy() for column in columns])
        *rows, tags = (np.concatenate(column) for column in zip(*parts, strict=True))
        yield pa.table([pa.array(column) for column in rows], schema=BANDS), tags


def publish_bands(bands: pa.Table, kept: Kept) -> pa.Table:
    """The BANDS rows of records whose ref is kept, each once, as the index has them.

    A row says that its record is published, not in which split, which its sketch has: it stands as 0.
    """
    mine = bands.filter(pa.array(kept.has(bands.column("ref").to_numpy())))
    split = pa.array(np.zeros(mine.num_rows, np.int8))
    rows = mine.set_column(BANDS.get_field_index("published"), BANDS.field("published"), split)
    return rows.group_by(BANDS.names, use_threads=False).aggregate([]).cast(BANDS)


def pack_sorted(bands: npt.NDArray[np.uint64]) -> tuple[int, bytes]:
    """Sorted bands but for the first: the bits of a gap that are written as they are, and the gaps in Rice's code."""
    return _pack_keys(bands >> _LOW)


def unpack_sorted(first: int, shift: int, gaps: pa.Buffer, rows: int) -> npt.NDArray[np.uint64]:
    """uint64[`rows`]: the bands, of which `first` is the first, whose gaps `pack_sorted` gave."""
    bands = np.empty(rows, np.uint64)
    _unpack_gaps(gap_words(gaps), first >> int(_LOW), shift, bands)
    return bands << _LOW


@compiled
def _pack_gaps(keys: npt.NDArray[np.uint64], shift: int, words: npt.NDArray[np.uint64]) -> int:
    """Writes the gaps between sorted keys into zeroed words, the lowest bit first; returns how many bits they take."""
    place = 0
    for row in range(1, len(keys)):
        gap = keys[row] - keys[row - 1]
        place += signed(gap >> np.uint64(shift))
        words[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
        place += 1
        rest = gap & ((np.uint64(1) << np.uint64(shift)) - np.uint64(1))
        within = place & 63
        words[place >> 6] |= rest << np.uint64(within)
        if within + shift > 64:
            words[(place >> 6) + 1] |= rest >> np.uint64(64 - within)
        place += shift
    return place


@compiled
def _unpack_gaps(words: npt.NDArray[np.uint64], first: int, shift: int, out: npt.NDArray[np.uint64]) -> None:
    """Puts the keys whose gaps `_pack_gaps` wrote; a word follows the last of theirs."""
    one, six, last, whole, low = np.uint64(1), np.uint64(6), np.uint64(63), np.uint64(64), np.uint64(shift)
    key, place, mask = np.uint64(first), np.uint64(0), (one << low) - one
    out[0] = key
    for row in range(1, len(out)):
        start, left = place, words[place >> six] >> (place & last)
        while left == 0:
            place += whole - (place & last)
            left = words[place >> six]
        place += zeros_below(left)
        quotient = place - start
        place += one
        within = place & last
        rest = words[place >> six] >> within
        if within + low > whole:
            rest |= words[(place >> six) + one] << (whole - within)
        place += low
        key += (quotient << low) | (rest & mask)
        out[row] = key


def gap_words(gaps: pa.Buffer) -> npt.NDArray[np.uint64]:
    """The words of gaps, and one more: a gap that ends with its word has that looked at too."""
    return np.concatenate([np.frombuffer(gaps, "<u8").astype(np.uint64), np.zeros(1, np.uint64)])


@compiled
def zeros_below(word: np.uint64) -> np.uint64:
    """The bits below the lowest that is set: as many as are set below it in the word less one (Warren, *Hacker's
    Delight*, section 5-4; bits that are set as in section 5-1)."""
    below = (word & (~word + np.uint64(1))) - np.uint64(1)
    below = below - ((below >> np.uint64(1)) & np.uint64(0x5555555555555555))
    below = (below & np.uint64(0x3333333333333333)) + ((below >> np.uint64(2)) & np.uint64(0x3333333333333333))
    below = (below + (below >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.uint64((below * np.uint64(0x0101010101010101)) >> np.uint64(56))


def refs_of(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """uint32[N] refs of the first words of ids."""
    return (words >> np.uint64(32)).astype(np.uint32)


def orders_of(ranks: pa.Array) -> npt.NDArray[np.uint32]:
    """uint32[N] of ranks (`sign_records`), which sort as they do as far as 31 bits tell them apart.

    Two bits of the kind; of the first preference, one bit for a missing value and 28 of the number.
    """
    distinct = ranks.dictionary_encode()
    found = [_order_of(rank) for rank in distinct.dictionary.to_pylist()]
    return np.array(found, np.uint32)[distinct.indices.to_numpy()] if found else np.zeros(0, np.uint32)


def _order_of(rank: bytes) -> int:
    kind, first = rank[0], rank[1:10]
    preference = (first[0] << 28 | int.from_bytes(first[1:5], "big") >> 4) if first else 0
    return kind << 29 | preference
