"""Left: what snapshots published that were gone back over or rebuilt since, or what was forgotten. It keeps its split when it
comes in again.

    in train   goes to train, as what resembles published train does: not where its group forbids that
    in val     goes to val, unless it is of a group that is not in val or resembles published train: then it is left out
    in eval    is left out, as what resembles published eval

So nobody who saw such a snapshot finds a record in another split later, and groups stay whole. Of several such
snapshots the newest counts; what is published, by id or source, is none of this.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.cluster import LIKE_EVAL, LIKE_TRAIN, LIKE_VAL
from transforms.index import OWNERS, PUBLISHED
from transforms.split import EVAL, TRAIN, VAL

_NOWHERE = -1


class Left(NamedTuple):
    """PUBLISHED of a segment of keys, and OWNERS that the records of a segment claim and nothing published has."""

    records: pa.Table
    owned: pa.Table


NOTHING_LEFT = Left(PUBLISHED.empty_table(), OWNERS.empty_table())


class Bound(NamedTuple):
    """What is as if a record resembled published ones (int8[N], bits of `cluster.LIKE`); its split, -1 for none (int8[N])."""

    like: npt.NDArray[np.int8]
    splits: npt.NDArray[np.int8]


def newest_of(rows: pa.Table, name: str) -> pa.Table:
    """The last row of each value of a column; rows come snapshot by snapshot."""
    back = rows.take(pa.array(np.arange(rows.num_rows)[::-1])).combine_chunks()
    place = pc.index_in(back.column(name), value_set=back.column(name).unique())
    _, first = np.unique(place.to_numpy(), return_index=True)
    return back.take(pa.array(np.sort(first))).combine_chunks()


def match_left(claims: pa.Table, owners: pa.Table, owned: pa.Table) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
    """As `index.match_owners` for OWNERS that were left; not of what is `owned` by published ones."""
    value_set = owned.column("owner").combine_chunks()
    owners = newest_of(owners.filter(pc.invert(pc.is_in(owners.column("owner"), value_set=value_set))), "owner")
    place = pc.index_in(claims.column("owner"), value_set=owners.column("owner").combine_chunks())
    known = claims.filter(pc.is_valid(place))
    return owners.take(place.drop_null()).cast(OWNERS), np.asarray(known.column("key").to_numpy(), np.uint64)


def bind_left(
    facts: pa.Table,
    unknown: npt.NDArray[np.bool_],
    group_split: npt.NDArray[np.int8],
    like: npt.NDArray[np.int8],
    left: Left,
) -> Bound:
    """What binds those of the FACTS that are `unknown` to what is published (bool[N]); `group_split` int8[N], -1 for none."""
    records, owned = newest_of(left.records, "id"), newest_of(left.owned, "owner")
    by_id = pc.index_in(facts.column("id"), value_set=records.column("id").combine_chunks())
    sources = owned.filter(pc.is_valid(owned.column("id")))
    by_source = pc.index_in(
        facts.column("source_id"), value_set=sources.column("owner").combine_chunks(), skip_nulls=True
    )
    found = pc.coalesce(records.column("split").take(by_id), sources.column("split").take(by_source))
    before = np.where(unknown, pc.fill_null(found, _NOWHERE).to_numpy(), _NOWHERE).astype(np.int8)
    alone = np.asarray(pc.is_null(facts.column("group")).to_numpy(), bool)
    stays = np.where(alone, like & LIKE_TRAIN == 0, group_split == VAL)
    more = np.select(
        [before == TRAIN, (before == VAL) & ~stays, before == EVAL], [LIKE_TRAIN, LIKE_VAL, LIKE_EVAL], 0
    ).astype(np.int8)
    splits = np.where((before == VAL) & stays & alone, VAL, _NOWHERE).astype(np.int8)
    return Bound(more, splits)
