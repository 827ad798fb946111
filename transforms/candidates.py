"""Candidates: pairs of records that share a band of their signatures.

Each record of a band meets the first `LEADERS` published and the first `LEADERS` new ones of it, in the order of
`order` and ref, so pairs stay linear in records; two published ones never meet. Of bands so crowded that this
leaves pairs out, the members are told as well: the search for look-alikes of val and eval goes through them. The pairs
of the largest are not made here: whoever comes after all leaders of such a band follows them all, so the leaders are
told once as its heads, and `follow_heads` makes the pairs where they are compared.

New records of a crowded band whose tags are equal most likely say the same. The leaders are then the first of
`LEADERS` different tags, and each other record meets the first of its own tag too. A tag that far more records have
than chance would give one is that of a body told many times: those after the first meet it alone, and are no part of
the crowd, for what becomes of the first becomes of them (`transforms.cluster`).

The contract with a refresh: give `find_candidates` the BANDS rows of one segment of bands, those of new records and,
appended to them, those of the index (`published` 0, 1 or 2: in train, val or eval). A record whose id is published
already counts as published. Rows of one band must not be spread over calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.compiled import compiled, signed
from transforms.exact import ranges

# Candidate pairs by ref: `a` leads, and `b` follows it in the order of every band that they share.
PAIRS = pa.schema([pa.field("a", pa.uint32(), nullable=False), pa.field("b", pa.uint32(), nullable=False)])

# Members of crowded bands. Those that follow its heads are no pairs with them.
CROWDS = pa.schema(
    [
        pa.field("ref", pa.uint32(), nullable=False),
        pa.field("band", pa.uint64(), nullable=False),
        pa.field("follows", pa.bool_(), nullable=False),
    ]
)

# The leaders of bands whose members follow them all.
HEADS = pa.schema([pa.field("band", pa.uint64(), nullable=False), pa.field("ref", pa.uint32(), nullable=False)])

LEADERS = 16
FEW = 1 << 20  # rows or pairs that are gone through at a time
COPIES = 32  # records of one tag in a band, beside `COPIES` times as many as chance gives, that are many
_TAGS = 1 << 16


class Candidates(NamedTuple):
    """Distinct PAIRS, CROWDS and HEADS, all sorted."""

    pairs: pa.Table
    crowds: pa.Table
    heads: pa.Table


def find_candidates(parts: Iterable[tuple[pa.Table, npt.NDArray[np.uint16]]], most: int | None = None) -> Candidates:
    """The candidates among all rows of some bands (BANDS), in parts with whole bands.

    The first rows of each part, all that are new, have tags beside them. Bands of more than `most` members have
    heads; without it, none.
    """
    found, crowds, heads = [], [np.empty((3, 0), np.uint64)], [np.empty((2, 0), np.uint64)]
    for bands, tags in parts:
        values = bands.column("band").to_numpy()
        led = len(values) if most is None else most
        for part in _some_bands(values, _repeated(values)):
            some = part[np.argsort(values[part], kind="stable")]
            own = np.zeros(len(some), np.uint16)
            own[some < len(tags)] = tags[some[some < len(tags)]]
            crowd = np.empty((3, len(some)), np.uint64)
            head = np.empty((2, 2 * LEADERS * (len(some) // max(led, 1) + 1)), np.uint64)
            pairs, crowded, headed = _meet(
                values[some], _places(bands, some), own, led, np.empty(len(some), np.uint64), crowd, head
            )
            found.append(_merged(pairs, []))
            crowds.append(crowd[:, :crowded].copy())
            heads.append(head[:, :headed].copy())
    return Candidates(
        pairs_of(found),
        _sorted(np.concatenate(crowds, axis=1), CROWDS),
        _sorted(np.concatenate(heads, axis=1), HEADS),
    )


def call_heads(found: Candidates, segments: int) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """HEADS, once for each segment of ids in which a member follows them, and these segments (int64[N])."""
    bits = np.uint64(33 - segments.bit_length())
    follows = found.crowds.filter(found.crowds.column("follows"))
    targets = follows.column("ref").to_numpy().astype(np.uint64) >> bits
    called = np.unique(follows.column("band").to_numpy() | targets)  # bands leave the low bits free
    targets = called & np.uint64(segments - 1)
    first, last = _rows_of_bands(found.heads, called ^ targets)
    rows = ranges(first, last)
    return found.heads.take(pa.array(rows)), np.repeat(targets.astype(np.int64), last - first)


def follow_heads(crowds: pa.Table, heads: pa.Table) -> Iterator[npt.NDArray[np.uint64]]:
    """The pairs of the members of CROWDS that follow and their sorted HEADS, in words as `pairs_of` takes them."""
    follows = crowds.filter(crowds.column("follows"))
    refs = follows.column("ref").to_numpy().astype(np.uint64)
    first, last = _rows_of_bands(heads, follows.column("band").to_numpy())
    leaders = heads.column("ref").to_numpy().astype(np.uint64) << np.uint64(32)
    step = FEW // (2 * LEADERS)
    for start in range(0, len(refs), step):
        mine = slice(start, start + step)
        yield leaders[ranges(first[mine], last[mine])] | np.repeat(refs[mine], last[mine] - first[mine])


def _rows_of_bands(
    heads: pa.Table, bands: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64[N] each: the first row of sorted HEADS of each band, and the row after the last."""
    values = heads.column("band").to_numpy()
    return np.searchsorted(values, bands, "left"), np.searchsorted(values, bands, "right")


def pairs_of(parts: Iterable[npt.NDArray[np.uint64]]) -> pa.Table:
    """Distinct PAIRS, sorted, of the leader in the upper and the follower in the lower half of each word.

    Parts are merged as they come, so a pair that is in many of them, as copies share all bands, is held once.
    """
    pairs, waiting, more = np.empty(0, np.uint64), [], 0
    for part in parts:
        waiting.append(part)
        more += len(part)
        if more > max(len(pairs) // 2, FEW):
            pairs, waiting, more = _merged(pairs, waiting), [], 0
    pairs = _merged(pairs, waiting)
    return pa.table(
        [pa.array((pairs >> np.uint64(32)).astype(np.uint32)), pa.array(pairs.astype(np.uint32))], schema=PAIRS
    )


def _merged(words: npt.NDArray[np.uint64], more: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """The distinct of all words, sorted."""
    merged = np.concatenate([words, *more])
    merged.sort()
    return merged[: _keep_distinct(merged)]


@compiled
def _keep_distinct(words: npt.NDArray[np.uint64]) -> int:
    """Puts the distinct of sorted words first; returns their number."""
    kept = 0
    for word in words:
        if kept == 0 or word != words[kept - 1]:
            words[kept] = word
            kept += 1
    return kept


def pair_words(pairs: pa.Table | pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """uint64[N]: leader and follower of each of PAIRS in one word."""
    a, b = (pairs.column(name).to_numpy().astype(np.uint64) for name in ("a", "b"))
    return np.asarray(a << np.uint64(32) | b, np.uint64)


def _sorted(columns: npt.NDArray[np.uint64], schema: pa.Schema) -> pa.Table:
    """uint64[C, N] as a table that is sorted by its first two columns."""
    order = np.lexsort((columns[1], columns[0]))
    rows = [pa.array(one[order]).cast(field.type) for one, field in zip(columns, schema, strict=True)]
    return pa.table(rows, schema=schema)


def _places(bands: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """uint64[N] that sort as records do within a band: published ones first, then by order and ref."""
    places = (bands.column("published").to_numpy()[rows] < 0).astype(np.uint64)
    places <<= np.uint64(31)
    places |= bands.column("order").to_numpy()[rows]
    places <<= np.uint64(32)
    places |= bands.column("ref").to_numpy()[rows]
    return np.asarray(places)


def _some_bands(values: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows in parts of about `FEW`, each with whole bands: these are spread evenly."""
    count = len(rows) // FEW + 1
    if count == 1:
        yield rows
        return
    mine = values[rows]
    bounds = np.linspace(float(mine.min()), float(mine.max()), count + 1)[1:-1]
    part = np.searchsorted(bounds, mine).astype(np.int32)
    for number in range(count):
        yield rows[part == number]


def _repeated(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The rows whose value may occur twice: all that do, and few others. Most bands have one record."""
    bits = max(16, int(len(values) * 8).bit_length())
    once, again = np.zeros(1 << (bits - 6), np.uint64), np.zeros(1 << (bits - 6), np.uint64)
    kept = np.empty(len(values), np.int64)
    return kept[: _keep_repeated(values, bits, once, again, kept)]


@compiled
def _keep_repeated(
    values: npt.NDArray[np.uint64],
    bits: int,
    once: npt.NDArray[np.uint64],
    again: npt.NDArray[np.uint64],
    kept: npt.NDArray[np.int64],
) -> int:
    """Puts the rows whose value falls on a bit that another falls on too; returns their number."""
    shift = np.uint64(64 - bits)
    for value in values:
        at = signed((value * np.uint64(0x9E3779B97F4A7C15)) >> shift)
        bit = np.uint64(1) << np.uint64(at & 63)
        again[at >> 6] |= once[at >> 6] & bit
        once[at >> 6] |= bit
    count = 0
    for row in range(len(values)):
        at = signed((values[row] * np.uint64(0x9E3779B97F4A7C15)) >> shift)
        kept[count] = row
        count += signed(again[at >> 6] >> np.uint64(at & 63)) & 1
    return count


@compiled
def _meet(
    values: npt.NDArray[np.uint64],
    places: npt.NDArray[np.uint64],
    tags: npt.NDArray[np.uint16],
    most: int,
    scratch: npt.NDArray[np.uint64],
    crowds: npt.NDArray[np.uint64],
    heads: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.uint64], int, int]:
    """The pairs of sorted bands; puts the members of crowded ones and the heads, and returns how many there are of each."""
    low, new = np.uint64(0xFFFFFFFF), np.uint64(1) << np.uint64(63)
    pairs = np.empty(max(1024, 2 * len(values)), np.uint64)
    counts, firsts = np.zeros(_TAGS, np.int64), np.zeros(_TAGS, np.int64)
    found, crowded, headed, row = 0, 0, 0, 0
    while row < len(values):
        end = row + 1
        while end < len(values) and values[end] == values[row]:
            end += 1
        if end - row > 1:
            count = _members(places, row, end, scratch)
            published = 0
            while published < count and scratch[published] < new:
                published += 1
            if found + 2 * LEADERS * count + count > len(pairs):
                wider = np.empty(2 * len(pairs) + 2 * LEADERS * count + count, np.uint64)
                wider[:found] = pairs[:found]
                pairs = wider
            own = tags[:0]
            if published > LEADERS or count - published > LEADERS + 1:
                own = _tags_of(places[row:end], tags[row:end], scratch[published:count])
                found, count = _meet_firsts(scratch, published, count, own, counts, firsts, pairs, found)
            leaders, until = np.arange(count - published), count
            if published > LEADERS or count - published > LEADERS + 1:
                leaders = _leaders(own[: count - published], counts)
                if count > most:  # whoever comes after the last leader follows them all
                    until = published + (leaders[-1] + 1 if len(leaders) else 0)
                    headed = _put_heads(values[row], scratch, published, leaders, heads, headed)
                for one in range(count):
                    crowds[0, crowded] = scratch[one] & low
                    crowds[1, crowded] = values[row]
                    crowds[2, crowded] = one >= until
                    crowded += 1
            for leader in range(min(published, LEADERS)):
                for other in range(published, until):
                    pairs[found] = (scratch[leader] & low) << np.uint64(32) | scratch[other] & low
                    found += 1
            for place in leaders:
                leader = published + signed(place)
                for other in range(leader + 1, until):
                    pairs[found] = (scratch[leader] & low) << np.uint64(32) | scratch[other] & low
                    found += 1
        row = end
    return pairs[:found], crowded, headed


@compiled
def _put_heads(
    band: np.uint64,
    members: npt.NDArray[np.uint64],
    published: int,
    leaders: npt.NDArray[np.int64],
    heads: npt.NDArray[np.uint64],
    headed: int,
) -> int:
    """Puts the leaders of a band, published ones first; returns how many heads there are then."""
    low = np.uint64(0xFFFFFFFF)
    for leader in range(min(published, LEADERS)):
        heads[0, headed], heads[1, headed] = band, members[leader] & low
        headed += 1
    for place in leaders:
        heads[0, headed], heads[1, headed] = band, members[published + place] & low
        headed += 1
    return headed


@compiled
def _tags_of(
    places: npt.NDArray[np.uint64], tags: npt.NDArray[np.uint16], members: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint16]:
    """The tag of each of the members of a band, which are sorted places."""
    order = np.argsort(places)
    own = np.empty(len(members), np.uint16)
    at = 0
    for member in range(len(members)):
        while places[order[at]] != members[member]:
            at += 1
        own[member] = tags[order[at]]
        while at < len(order) and places[order[at]] == members[member]:  # others may have the ref
            own[member] = min(own[member], tags[order[at]])
            at += 1
    return own


@compiled
def _meet_firsts(
    members: npt.NDArray[np.uint64],
    published: int,
    count: int,
    own: npt.NDArray[np.uint16],
    counts: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.uint64],
    found: int,
) -> tuple[int, int]:
    """Puts the pairs of new members and the first of their tag; takes out those that meet nobody else.

    Returns how many pairs and how many members there are then. `counts` are zeros, and are so again.
    """
    low = np.uint64(0xFFFFFFFF)
    many = COPIES + COPIES * (count - published) // _TAGS
    for tag in own:
        counts[tag] += 1
        firsts[tag] = -1
    kept = published
    for place in range(published, count):
        tag = own[place - published]
        first = firsts[tag]
        if first < 0:
            firsts[tag] = members[place] & low
        else:
            pairs[found] = np.uint64(first) << np.uint64(32) | members[place] & low
            found += 1
            if counts[tag] > many:
                continue
        members[kept] = members[place]
        own[kept - published] = tag
        kept += 1
    for place in range(count - published):
        counts[own[place]] = 0
    return found, kept


@compiled
def _leaders(own: npt.NDArray[np.uint16], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first members of `LEADERS` different tags, at most. `counts` are zeros, and are so again."""
    leaders = np.empty(LEADERS, np.int64)
    found = 0
    for member in range(len(own)):
        if counts[own[member]] == 0:
            counts[own[member]] = 1
            leaders[found] = member
            found += 1
            if found == LEADERS:
                break
    leaders = leaders[:found]
    for leader in leaders:
        counts[own[leader]] = 0
    return leaders


@compiled
def _members(places: npt.NDArray[np.uint64], row: int, end: int, out: npt.NDArray[np.uint64]) -> int:
    """Puts the places of a band in order, the first of each ref alone; returns their number."""
    count = end - row
    mine, half = out[:count], np.uint64(32)
    for one in range(count):
        mine[one] = places[row + one] << half | places[row + one] >> half
    _sort(mine)  # by ref, then by place
    kept = 0
    for one in range(count):
        if kept == 0 or mine[one] >> half != mine[kept - 1] >> half:
            mine[kept] = mine[one]
            kept += 1
    for one in range(kept):
        mine[one] = mine[one] << half | mine[one] >> half
    _sort(mine[:kept])
    return kept


@compiled
def _sort(values: npt.NDArray[np.uint64]) -> None:
    """Sorts in place; most bands have a handful of members, for which this is many times as fast as a general sort."""
    if len(values) > 24:
        values.sort()
        return
    for place in range(1, len(values)):
        value, at = values[place], place
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value
