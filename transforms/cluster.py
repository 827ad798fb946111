"""Cluster: verified edges become duplicates with the record that each gave way to, and units of splitting.

Duplicates: records in the order of rank and id; one stays unless it is at least `threshold` like one that
stays already. So nothing chains: whoever is dropped resembles, verifiably, somebody who is kept.

Copies, new records whose sketches are the same, are one record here: what becomes of the first of them becomes of the
others, which give way to it where it is kept. So nobody needs the edges of all of them.

Edges are read a batch at a time and held as numbers, 12 bytes each beside what is known of each record. Copies that lead
nobody are not held at all, however many: their verdicts are told from their edges, which are read again.

Units: kept records that are joined by look-alikes at `leak_threshold` go to one split together. A unit
above a hundredth of the corpus is divided; look-alikes in two parts are then told apart by the split.

Published records come first in the order, are kept and stay in their split: they are in no unit with new
ones. `like` says which splits a new record has published look-alikes in; one that is like val or eval is
neither kept nor anybody's duplicate here, and takes no part in units.

Where what was published is read again, in a rebuild or after a rollback, such records come next. They may give way to
each other, as the config has changed, but not to newcomers; `like` counts them among the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bands import NEW
from transforms.compiled import compiled, signed
from transforms.components import roots_of
from transforms.exact import id_words, ids_of
from transforms.numbering import Numbering
from transforms.verify import EDGES

# What is known of a new record that resembles another; all others are kept and units of their own.
VERDICTS = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("kept_id", pa.binary(16)),  # null: the record is kept, unless `like` says otherwise
        pa.field("similarity", pa.float32()),
        pa.field("unit", pa.binary(16)),  # null where it is dropped, or a group decides
        pa.field("like", pa.int8(), nullable=False),  # splits of its published look-alikes, as the sum of `LIKE`
        pa.field("like_id", pa.binary(16)),  # the one it resembles most, of those in eval, else in val, else in train
        pa.field("like_similarity", pa.float32()),
        pa.field("to_train", pa.bool_(), nullable=False),  # a record of its unit resembles a published one in train
    ]
)

# Look-alikes that are kept in different units, which may turn out to be in different splits. All new.
CROSS = pa.schema(
    [
        pa.field("a", pa.binary(16), nullable=False),
        pa.field("b", pa.binary(16), nullable=False),
        pa.field("unit_a", pa.binary(16), nullable=False),
        pa.field("unit_b", pa.binary(16), nullable=False),
        pa.field("n_bytes_a", pa.int64(), nullable=False),
        pa.field("n_bytes_b", pa.int64(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
    ]
)

LIKE_TRAIN, LIKE_VAL, LIKE_EVAL = LIKE = (1, 2, 4)  # by split

DIVIDED_SHARE = 0.01  # of the corpus: a larger unit is divided
DIVIDED_FLOOR = 100  # records: a smaller unit never is, however small the corpus
_LEAD_BITS = 26  # 8 MiB
LARGEST = 20  # clusters that are told
FAMILY = 0.5  # of a unit's records that one of them resembles, from which the cause is one text, not a chain

# Look-alikes that both stay, whatever their units.
CLOSE = pa.schema([EDGES.field(name) for name in ("a", "b", "similarity")])

_ABOUT = pa.schema([EDGES.field(f"{name}_a").with_name(name) for name in ("rank", "n_bytes", "published")])


ROWS = 65_536  # at a time


@dataclass(frozen=True)
class Verdicts:
    """VERDICTS, some at a time, as often as one goes through them: of records that are held, then of copies."""

    held: pa.Table
    copies: Callable[[], Iterator[pa.RecordBatch]]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self.held.to_batches(max_chunksize=ROWS)
        yield from self.copies()

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self, VERDICTS)


class Clusters(NamedTuple):
    """Verdicts, cross edges, close pairs, and what the report tells of the largest clusters and of divided units."""

    verdicts: Verdicts
    cross: pa.Table
    close: pa.Table
    edges: int  # that there are
    largest: list[dict[str, int | str]]
    divided: list[dict[str, Any]]


@dataclass(frozen=True)
class _Graph:
    """Records as numbers, in order, and the edges among them: each once, `a` before `b`.

    `copied` counts the copies of each that are not held.
    """

    ids: npt.NDArray[np.uint64]
    group: npt.NDArray[np.int32]  # its number, -1 for none
    groups: npt.NDArray[np.uint64]  # by number, as ids
    n_bytes: npt.NDArray[np.int64]
    published: npt.NDArray[np.int8]
    copied: npt.NDArray[np.int64]
    a: npt.NDArray[np.int32]
    b: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]


def cluster_edges(edges: Iterable[pa.RecordBatch], threshold: float, distinct: int, *, again: bool = False) -> Clusters:
    """Verdicts for all new ids in EDGES, which are gone through several times, also by the verdicts.

    `distinct` is the number of distinct new records of the corpus. Where records are read `again` that were published,
    look-alikes of one unit are among the cross edges too: some may have to go where they were.
    """
    leads = _leads(edges)
    whole = _graph(edges, leads)
    first, graph = _merge_copies(whole)
    like, like_for, like_similarity = _like(graph)
    kept_for, kept_similarity = _give_way(graph, like >= LIKE_VAL, threshold)
    _repeat_for_copies(first, like, kept_for, kept_similarity)
    like_for, like_similarity = like_for[first], like_similarity[first]
    kept = (kept_for < 0) & (like < LIKE_VAL) & (whole.published < 0)
    units, divided = _units(graph, kept, max(DIVIDED_FLOOR, int(distinct * DIVIDED_SHARE)))
    drawn = np.zeros(len(kept), bool)
    drawn[units[kept & (like == LIKE_TRAIN)]] = True
    ids = ids_of(whole.ids)
    new = slice(int((whole.published >= 0).sum()), None)  # published ones come first
    verdicts = pa.table(
        [
            ids[new],
            ids.take(pa.array(kept_for[new], mask=kept_for[new] < 0)),
            pa.array(kept_similarity[new], pa.float32(), mask=kept_for[new] < 0),
            ids.take(pa.array(units[new], mask=~kept[new] | (whole.group[new] >= 0))),
            pa.array(like[new]),
            ids.take(pa.array(like_for[new], mask=like_for[new] < 0)),
            pa.array(like_similarity[new], mask=like_for[new] < 0),
            pa.array((drawn[units] & kept)[new]),
        ],
        schema=VERDICTS,
    )
    cross = _cross(graph, kept, units, within=again)
    both = kept[whole.a] & kept[whole.b]
    ends = [ids.take(pa.array(side[both])) for side in (whole.a, whole.b)]
    close = pa.table([*ends, pa.array(whole.similarity[both])], schema=CLOSE)
    # Who leads copies leads them to whom it gives way, or to itself.
    leaders = np.flatnonzero(whole.copied).astype(np.int32)
    stays = (kept_for[leaders] < 0) & (like[leaders] < LIKE_VAL)
    copied_for = _Copied(
        whole.ids[leaders],
        pa.array(np.where(stays, leaders, kept_for[leaders])),
        np.where(stays, np.float32(1), kept_similarity[leaders]),
        like[leaders],
        pa.array(like_for[leaders]),
        like_similarity[leaders],
    )
    counts = np.bincount(kept_for[kept_for >= 0], minlength=len(ids))
    led = copied_for.kept_for.to_numpy()
    np.add.at(counts, led[led >= 0], whole.copied[leaders][led >= 0])
    told = Verdicts(verdicts, lambda: _copies(edges, leads, copied_for, ids))
    count = len(whole.a) + int(whole.copied.sum())
    return Clusters(told, cross, close, count, _largest(whole.ids, counts), divided)


class _Copied(NamedTuple):
    """Records that lead copies which are not held, and what becomes of these."""

    ids: npt.NDArray[np.uint64]
    kept_for: pa.Int32Array
    similarity: npt.NDArray[np.float32]
    like: npt.NDArray[np.int8]
    like_for: pa.Int32Array
    like_similarity: npt.NDArray[np.float32]


def _copies(
    edges: Iterable[pa.RecordBatch], leads: npt.NDArray[np.uint64], copied: _Copied, ids: pa.Array
) -> Iterator[pa.RecordBatch]:
    """VERDICTS of the copies that are not held; `copied` leads them to numbers of `ids`, or -1."""
    if not len(copied.ids):
        return
    numbering = Numbering()
    numbering.number(copied.ids)
    for batch in edges:
        found = batch.filter(pa.array(_not_held(batch, leads)))
        leader = numbering.number(id_words(found.column("a")))
        goes = copied.kept_for.take(pa.array(leader)).to_numpy()
        nobody = goes < 0
        met = copied.like_for.take(pa.array(leader)).to_numpy()
        alone = met < 0
        columns = [
            found.column("b"),
            ids.take(pa.array(goes, mask=nobody)),
            pa.array(copied.similarity[leader], pa.float32(), mask=nobody),
            pa.nulls(len(leader), VERDICTS.field("unit").type),
            pa.array(copied.like[leader]),
            ids.take(pa.array(met, mask=alone)),
            pa.array(copied.like_similarity[leader], mask=alone),
            pa.array(np.zeros(len(leader), bool)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=VERDICTS)


def _leads(edges: Iterable[pa.RecordBatch]) -> npt.NDArray[np.uint64]:
    """uint64[L]: as bits, a hash of each record that leads another; others may fall on the same bits."""
    bits = np.zeros(1 << (_LEAD_BITS - 6), np.uint64)
    for batch in edges:
        _set_bits(id_words(batch.column("a"))[:, 0], bits)
    return bits


def _not_held(edges: pa.RecordBatch, leads: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """bool[N]: edges of a copy that leads nobody and comes after the one that it is a copy of.

    Such an edge is the only one of its `b` (`transforms.verify.drop_implied`).
    """
    published = [edges.column(f"published_{side}").to_numpy() for side in "ab"]
    alike = edges.column("similarity").to_numpy() == 1
    copies = np.flatnonzero(alike & (published[0] < 0) & (published[1] < 0))
    found = np.zeros(len(alike), bool)
    if len(copies):
        sides = edges.take(pa.array(copies))
        a, b = (id_words(sides.column(side)) for side in "ab")
        ranks = [sides.column(f"rank_{side}") for side in "ab"]
        same = (a[:, 0] == b[:, 0]) & (a[:, 1] < b[:, 1])
        before = (a[:, 0] < b[:, 0]) | same
        before &= pc.equal(*ranks).to_numpy(zero_copy_only=False)
        before |= pc.less(*ranks).to_numpy(zero_copy_only=False)
        was, is_now = (one[copies] < NEW for one in published)
        found[copies] = np.where(was == is_now, before, was) & ~_has_bits(b[:, 0], leads)
    return found


@compiled
def _set_bits(words: npt.NDArray[np.uint64], bits: npt.NDArray[np.uint64]) -> None:
    for word in words:
        at = signed((word * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _LEAD_BITS))
        bits[at >> 6] |= np.uint64(1) << np.uint64(at & 63)


@compiled
def _has_bits(words: npt.NDArray[np.uint64], bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    found = np.empty(len(words), np.bool_)
    for row in range(len(words)):
        at = signed((words[row] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _LEAD_BITS))
        found[row] = signed(bits[at >> 6] >> np.uint64(at & 63)) & 1
    return found


def _graph(edges: Iterable[pa.RecordBatch], leads: npt.NDArray[np.uint64]) -> _Graph:
    """The records of EDGES in order, each once, whichever sides it is on; without the copies that are not held."""
    records, groups = Numbering(), Numbering()
    about: list[pa.RecordBatch] = []
    group = [np.empty(0, np.int32)]
    ends: tuple[list[npt.NDArray[np.int32]], ...] = ([np.empty(0, np.int32)], [np.empty(0, np.int32)])
    similarity = [np.empty(0, np.float32)]
    copied = np.zeros(0, np.int64)
    for batch in edges:
        held = ~_not_held(batch, leads)
        rest = batch if held.all() else batch.filter(pa.array(held))
        for side, rows, numbers in zip("ab", (batch, rest), ends, strict=True):
            known = len(records)
            found = records.number(id_words(rows.column(side)))
            highest = np.maximum.accumulate(np.concatenate(([known - 1], found)))
            fresh = pa.array(np.diff(highest) > 0)
            columns = [rows.column(f"{name}_{side}").filter(fresh) for name in _ABOUT.names]
            about.append(pa.RecordBatch.from_arrays(columns, schema=_ABOUT))
            named = rows.column(f"group_{side}").filter(fresh)
            group.append(np.full(len(named), -1, np.int32))
            group[-1][named.is_valid().to_numpy(zero_copy_only=False)] = groups.number(id_words(named.drop_null()))
            if side == "a":
                copied = np.concatenate((copied, np.zeros(len(records) - len(copied), np.int64)))
                np.add.at(copied, found[~held], 1)
                found = found[held]
            numbers.append(found)
        similarity.append(rest.column("similarity").to_numpy())
    known_of = pa.Table.from_batches(about, _ABOUT)
    published = known_of.column("published").to_numpy()
    ranks = pc.rank(known_of.column("rank"), sort_keys="ascending", tiebreaker="dense").to_numpy()
    order = np.lexsort((records.ids[:, 1], records.ids[:, 0], ranks, published == NEW, published < 0))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    sides = [place[np.concatenate(numbers)] for numbers in ends]
    counts = np.zeros(len(order), np.int64)
    counts[: len(copied)] = copied
    return _Graph(
        records.ids[order],
        np.concatenate(group)[order],
        groups.ids,
        known_of.column("n_bytes").to_numpy()[order],
        published[order],
        counts[order],
        np.minimum(*sides),
        np.maximum(*sides),
        np.concatenate(similarity),
    )


def _merge_copies(graph: _Graph) -> tuple[npt.NDArray[np.int32], _Graph]:
    """int32[N]: the first of the copies of each record; the graph with the edges of all of them at that one."""
    count = len(graph.ids)
    new = graph.published < 0
    same = (graph.similarity == 1) & new[graph.a] & new[graph.b]
    if not same.any():
        return np.arange(count, dtype=np.int32), graph
    first = roots_of(count, graph.a[same], graph.b[same])
    a, b = first[graph.a[~same]], first[graph.b[~same]]
    low, high = np.minimum(a, b), np.maximum(a, b)
    # Copies are as similar as each other, so any of the edges between two of their firsts will do.
    pairs, chosen = np.unique(low.astype(np.int64) * count + high, return_index=True)
    chosen = chosen[pairs // count != pairs % count]
    return first, replace(graph, a=low[chosen], b=high[chosen], similarity=graph.similarity[~same][chosen])


def _like(graph: _Graph) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """int8[N]: the splits in which each new record has look-alikes that are, or were, published before it; int32[N] the
    one that it resembles most, of those in eval, else in val, else in train, -1 for none; float32[N] how much.

    Not its own split, where it was published itself: what a human corrected there costs none of its look-alikes their place.
    """
    like = np.zeros(len(graph.ids), np.int8)
    # Published ones come first, then those that were.
    earlier, later = graph.published[graph.a], graph.published[graph.b]
    splits = np.where(earlier >= 0, earlier, -2 - earlier)
    met = ((earlier >= 0) & (later < 0) & (splits != -2 - later)) | ((earlier < NEW) & (later == NEW))
    for split, bit in enumerate(LIKE):
        like[graph.b[met & (splits == split)]] |= bit
    edges = np.flatnonzero(met)
    # The one that is put last stays.
    edges = edges[np.lexsort((-graph.a[edges], graph.similarity[edges], splits[edges]))]
    like_for, like_similarity = np.full(len(like), -1, np.int32), np.zeros(len(like), np.float32)
    like_for[graph.b[edges]] = graph.a[edges]
    like_similarity[graph.b[edges]] = graph.similarity[edges]
    return like, like_for, like_similarity


def _give_way(
    graph: _Graph, barred: npt.NDArray[np.bool_], threshold: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """int32[N] the kept record that each gives way to, -1 for none, and how similar they are (float32[N])."""
    kept_for, kept_similarity = np.full(len(graph.ids), -1, np.int32), np.zeros(len(graph.ids), np.float32)
    strong = graph.similarity >= np.float32(threshold)
    later, earlier, similarity = graph.b[strong], graph.a[strong], graph.similarity[strong]
    order = np.lexsort((earlier, -similarity, later))
    _drop_duplicates(later[order], earlier[order], similarity[order], barred, kept_for, kept_similarity)
    return kept_for, kept_similarity


def _repeat_for_copies(
    first: npt.NDArray[np.int32],
    like: npt.NDArray[np.int8],
    kept_for: npt.NDArray[np.int32],
    kept_similarity: npt.NDArray[np.float32],
) -> None:
    """Puts what becomes of the first of copies for the others: where it is kept they give way to it."""
    copies = np.flatnonzero(first != np.arange(len(first), dtype=np.int32))
    leaders = first[copies]
    gone = kept_for[leaders] >= 0
    like[copies] = like[leaders]
    kept_for[copies] = np.where(gone, kept_for[leaders], np.where(like[leaders] >= LIKE_VAL, -1, leaders))
    kept_similarity[copies] = np.where(gone, kept_similarity[leaders], 1.0)


def _cross(graph: _Graph, kept: npt.NDArray[np.bool_], units: npt.NDArray[np.int32], *, within: bool) -> pa.Table:
    """CROSS; also of edges `within` a unit, where that is asked for."""
    both = kept[graph.a] & kept[graph.b]
    sides = graph.a[both], graph.b[both]
    owners = []
    for side in sides:
        owner, group = graph.ids[units[side]], graph.group[side]
        owner[group >= 0] = graph.groups[group[group >= 0]]
        owners.append(owner)
    apart = (owners[0] != owners[1]).any(axis=1) | within
    ids = [ids_of(words[apart]) for words in (*(graph.ids[side] for side in sides), *owners)]
    sizes = (pa.array(graph.n_bytes[side[apart]]) for side in sides)
    return pa.table([*ids, *sizes, pa.array(graph.similarity[both][apart])], schema=CROSS)


@compiled
def _drop_duplicates(
    later: npt.NDArray[np.int32],
    earlier: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    barred: npt.NDArray[np.bool_],
    kept_for: npt.NDArray[np.int32],
    kept_similarity: npt.NDArray[np.float32],
) -> None:
    """Puts the kept record that each gives way to: the most similar one, the first in order among equals.

    Edges come by `later`, the best first: all that is said of `earlier` is decided by then.
    """
    for edge in range(len(later)):
        record, leader = later[edge], earlier[edge]
        if kept_for[record] < 0 and kept_for[leader] < 0 and not barred[record] and not barred[leader]:
            kept_for[record] = leader
            kept_similarity[record] = similarity[edge]


def _units(
    graph: _Graph, kept: npt.NDArray[np.bool_], largest: int
) -> tuple[npt.NDArray[np.int32], list[dict[str, Any]]]:
    """int32[N] the record that names the unit of each; what is to be told of units that were divided.

    The name is the member with the smallest id; of a divided unit, that of each part. Records with a group
    join nobody: the group is their unit. Nor do those that go where they were.
    """
    count = len(graph.ids)
    alone = (graph.group < 0) & kept & (graph.published == NEW)
    both = alone[graph.a] & alone[graph.b]
    edges = (graph.a[both], graph.b[both])
    labels = roots_of(count, *edges)
    sizes = np.bincount(labels, minlength=1)
    order = np.lexsort((graph.ids[:, 1], graph.ids[:, 0], labels))
    starts = np.cumsum(sizes) - sizes
    names = np.empty(count, np.int32)
    names[order] = np.repeat(order[starts[sizes > 0]], sizes[sizes > 0])
    divided = []
    for label in np.flatnonzero(sizes > largest).tolist():
        members = order[starts[label] : starts[label] + sizes[label]]
        divided.append(_divide(graph, edges, members, largest, names))
    return names, sorted(divided, key=lambda one: (-one["records"], one["hub"]))


def _divide(
    graph: _Graph,
    edges: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    members: npt.NDArray[np.int64],
    largest: int,
    names: npt.NDArray[np.int32],
) -> dict[str, Any]:
    """Names the parts of a unit, `members` in the order of ids, among `edges`; returns its size, parts and cause.

    Parts are cut from a walk through the look-alikes, breadth first from the smallest id, so that few of them
    come to be in two parts.
    """
    from scipy.sparse import coo_array  # here, as few need it and it is slow to import
    from scipy.sparse.csgraph import breadth_first_order

    place = np.full(len(graph.ids), -1, np.int64)
    place[members] = np.arange(len(members))
    a, b = (place[side] for side in edges)
    mine = a >= 0  # both are, or none
    shape = (len(members), len(members))
    inside = coo_array((np.ones(mine.sum(), np.int8), (a[mine], b[mine])), shape=shape)
    inside = (inside + inside.T).tocsr()
    inside.sort_indices()
    walk = breadth_first_order(inside, 0, directed=False, return_predecessors=False)
    parts = -(-len(members) // largest)
    for part in np.array_split(walk, parts):
        names[members[part]] = members[part.min()]
    met = np.diff(inside.indptr)
    hub = int(np.argmax(met))
    return {
        "records": len(members),
        "parts": parts,
        "cause": "family" if met[hub] >= FAMILY * (len(members) - 1) else "chain",
        "hub": ids_of(graph.ids[members[hub : hub + 1]])[0].as_py().hex(),
        "hub_look_alikes": int(met[hub]),
    }


def _largest(ids: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> list[dict[str, int | str]]:
    """The kept records that most gave way to, with the number of records in their cluster; `counts` gave way to each."""
    leaders = np.flatnonzero(counts)
    chosen = leaders[np.lexsort((ids[leaders, 1], ids[leaders, 0], -counts[leaders]))[:LARGEST]]
    return [
        {"id": one.hex(), "records": int(count) + 1}
        for one, count in zip(ids_of(ids[chosen]).to_pylist(), counts[chosen], strict=True)
    ]
