"""Settling, a record at a time: what decides first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.test_index import one_id, owners, published
from transforms.cluster import LIKE_EVAL, LIKE_TRAIN, LIKE_VAL, VERDICTS
from transforms.decided import DECIDED
from transforms.exact import FACTS
from transforms.hashing import Keys
from transforms.index import PUBLISHED
from transforms.reasons import Drop
from transforms.settle import DUPLICATE, OPEN, TORN, drop_code, drop_torn, follow_dropped, follow_known, settle_records
from transforms.split import BINS, EVAL, PINNED, TRAIN, VAL, Cut, bin_of

KEYS = Keys("test salt")


def facts(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        "key": [KEYS.shuffle_key(one_id(one["id"])) for one in rows],
        "id": [one_id(one["id"]) for one in rows],
        "rank": [b"\0"] * len(rows),
        "tie": [one_id(0)] * len(rows),
        "group": [one_id(one["group"]) if "group" in one else None for one in rows],
        "source_id": [one_id(one["source"]) if "source" in one else None for one in rows],
        "n_bytes": [10] * len(rows),
        "line": list(range(len(rows))),
        "writer": [0] * len(rows),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in FACTS], schema=FACTS)


def verdict(
    number: int, *, kept: int | None = None, unit: int | None = None, like: int = 0, to_train: bool = False
) -> Any:
    met = one_id(77) if like else None
    return {"id": one_id(number), "kept_id": None if kept is None else one_id(kept), "similarity": 0.9,
            "unit": None if unit is None else one_id(unit), "like": like, "to_train": to_train,
            "like_id": met, "like_similarity": 0.75 if like else None}  # fmt: skip


def settle(row: dict[str, Any], verdicts: list[Any] = [], **more: Any) -> dict[str, Any]:  # noqa: B006
    settled = settle_records(facts([row]), pa.Table.from_pylist(verdicts, VERDICTS), KEYS,
                             **{"exact": True, "eval_open": False, **more})  # fmt: skip
    (told,) = settled.rows.to_pylist()
    assert settled.counts.sum() + settled.pinned.sum() == (told["bin"] >= 0)
    return {**told, "torn": settled.torn.num_rows}


def test_who_is_like_nobody_is_left_to_the_cut():
    told = settle({"id": 5})
    assert (told["fate"], told["bin"], told["kept_id"]) == (OPEN, bin_of(one_id(5), KEYS), None)
    assert settle({"id": 5, "group": 6})["bin"] == bin_of(one_id(6), KEYS)


def test_what_repeats_a_record_that_is_published_under_another_id_names_that_one():
    rows = facts([{"id": 9, "source": 1}, {"id": 9, "source": 1}, {"id": 9, "source": 2}, {"id": 8, "source": 3}])
    verdicts = pa.Table.from_pylist([verdict(8, kept=9)], VERDICTS)
    settled = settle_records(rows, verdicts, KEYS, exact=True, owned=owners([(1, TRAIN, 3)]))
    told = {(one["id"], one["fate"], one["kept_id"]) for one in settled.rows.to_pylist()}
    assert told == {(one_id(9), DUPLICATE, one_id(3)), (one_id(8), DUPLICATE, one_id(9))}
    renamed = follow_known(settled.followers, settled.known)
    assert renamed.to_pylist() == [{"id": one_id(8), "kept_id": one_id(3)}]
    assert follow_dropped(settled.followers, settled.fallen).num_rows == 0
    # One that is published as it is says so itself.
    settled = settle_records(facts([{"id": 3}, {"id": 3}]), verdicts, KEYS, exact=True, published=published([3]))
    assert settled.known.num_rows == 0
    assert settled.rows.column("kept_id").to_pylist() == [one_id(3)] * 2


@pytest.mark.parametrize("number", [3, 4, 5])  # published in train, val, eval
def test_copies_of_what_is_published_are_duplicates(number):
    told = settle({"id": number}, published=published([number]))
    assert (told["fate"], told["kept_id"], told["bin"], told["similarity"]) == (DUPLICATE, one_id(number), -1, 1.0)


def test_a_source_sticks_even_where_it_reads_otherwise_now():
    told = settle({"id": 9, "source": 1}, owned=owners([(1, TRAIN, 3)]))
    assert (told["fate"], told["kept_id"]) == (DUPLICATE, one_id(3))


def test_what_was_corrected_is_superseded():
    rows = published([3]).set_column(3, PUBLISHED.field("replaced_by"), pa.array([one_id(70)], pa.binary(16)))
    told = settle({"id": 3}, published=rows)
    assert (told["fate"], told["kept_id"]) == (drop_code(Drop.SUPERSEDED), one_id(70))


@pytest.mark.parametrize(
    ("like", "reason"),
    [(LIKE_EVAL | LIKE_TRAIN, Drop.NEAR_EVAL), (LIKE_VAL, Drop.NEAR_VAL), (LIKE_VAL | LIKE_EVAL, Drop.NEAR_EVAL)],
)
def test_what_resembles_published_val_or_eval_is_left_out(like, reason):
    told = settle({"id": 9}, [verdict(9, like=like)])
    assert (told["fate"], told["kept_id"], told["similarity"]) == (drop_code(reason), one_id(77), 0.75)


def test_a_copy_by_somebody_else_does_not_go_for_a_groups_sake():
    rows = facts([{"id": 9, "group": 6}, {"id": 9, "group": 7}, {"id": 9, "group": 6}])
    nobody, owned = VERDICTS.empty_table(), owners([(6, EVAL, None)])
    settled = settle_records(rows, nobody, KEYS, exact=True, owned=owned, eval_open=False)
    told = [(one["line"], one["fate"], one["kept_id"]) for one in settled.rows.to_pylist()]
    assert told == [(1, OPEN, None), (0, DUPLICATE, one_id(9)), (2, DUPLICATE, one_id(9))]
    assert settled.fallen.num_rows == 0


def test_in_a_rebuild_of_copies_one_is_kept_whose_group_is_where_it_was_published():
    """3 is published in train. 6 is a group of train, 7 one of val, 8 is new."""
    nobody, owned = VERDICTS.empty_table(), owners([(6, TRAIN, None), (7, VAL, None)])

    def kept(*groups: int | None) -> Any:
        rows = facts([{"id": 3, **({} if one is None else {"group": one})} for one in groups])
        settled = settle_records(rows, nobody, KEYS, exact=True, owned=owned, published=published([3]), rebuild=True)
        first = settled.rows.to_pylist()[0]
        return groups[first["line"]], first["fate"]

    assert kept(7, 8, 6) == (6, TRAIN)
    assert kept(7, 8) == (8, TRAIN)
    assert kept(7, None) == (None, TRAIN)
    assert kept(7) == (7, drop_code(Drop.NEAR_TRAIN))


def test_copies_of_what_is_left_out_name_whom_that_resembles():
    verdicts = pa.Table.from_pylist([verdict(9, like=LIKE_VAL)], VERDICTS)
    rows = settle_records(facts([{"id": 9}, {"id": 9}]), verdicts, KEYS, exact=True).rows.to_pylist()
    told = [(one["fate"], one["kept_id"], one["similarity"]) for one in rows]
    assert told == [(drop_code(Drop.NEAR_VAL), one_id(77), 0.75)] * 2


def test_a_new_version_of_a_corrected_record_is_superseded_by_what_stands_there():
    known = {"published": published([4, 7]), "owned": owners([(1, VAL, 4)], replaced_by=7)}
    told = settle({"id": 9, "source": 1}, **known)
    assert (told["fate"], told["kept_id"]) == (drop_code(Drop.SUPERSEDED), one_id(7))
    # Unless it says now what stands there.
    told = settle({"id": 7, "source": 1}, **known)
    assert (told["fate"], told["kept_id"]) == (DUPLICATE, one_id(7))


def test_a_near_duplicate_names_whom_it_resembles():
    told = settle({"id": 9, "group": 6}, [verdict(9, kept=3)], owned=owners([(6, VAL, None)]))
    assert (told["fate"], told["kept_id"], told["near"]) == (DUPLICATE, one_id(3), True)
    assert told["similarity"] == pytest.approx(0.9)


def test_copies_of_a_near_duplicate_name_who_is_kept():
    verdicts = pa.Table.from_pylist([verdict(9, kept=3)], VERDICTS)
    rows = settle_records(facts([{"id": 9}, {"id": 9}]), verdicts, KEYS, exact=True).rows.to_pylist()
    assert [(one["fate"], one["kept_id"], one["near"]) for one in rows] == [(DUPLICATE, one_id(3), True)] * 2


def test_a_group_goes_where_it_is():
    told = settle({"id": 9, "group": 6}, owned=owners([(6, VAL, None)]))
    assert (told["fate"], told["bin"]) == (VAL, PINNED + VAL)
    told = settle({"id": 9, "group": 6}, [verdict(9)], owned=owners([(6, EVAL, None)]))
    assert (told["fate"], told["bin"]) == (drop_code(Drop.GROUP_IN_EVAL), -1)
    assert settle({"id": 9, "group": 6}, owned=owners([(6, EVAL, None)]), eval_open=True)["fate"] == EVAL


def test_what_resembles_published_train_goes_to_train_with_its_unit():
    told = settle({"id": 9}, [verdict(9, unit=8, to_train=True)])
    assert (told["fate"], told["bin"]) == (TRAIN, PINNED + TRAIN)


def test_unless_its_group_forbids_that():
    like = [verdict(9, like=LIKE_TRAIN)]
    told = settle({"id": 9, "group": 6}, like, owned=owners([(6, VAL, None)]))
    assert (told["fate"], told["kept_id"], told["similarity"]) == (drop_code(Drop.NEAR_TRAIN), one_id(77), 0.75)
    told = settle({"id": 9, "group": 6}, like, owned=owners([(6, TRAIN, None)]))
    assert (told["fate"], told["kept_id"]) == (TRAIN, None)
    told = settle({"id": 9, "group": 6}, like)
    assert (told["fate"], told["torn"], told["kept_id"]) == (OPEN, 1, None)
    row = {"id": one_id(9), "bin": 500, "n_bytes": 10, "like_id": one_id(77), "like_similarity": 0.75}
    torn = pa.Table.from_pylist([row], TORN)
    assert drop_torn(torn, Cut(100, 200)).num_rows == 0
    (told,) = drop_torn(torn, Cut(100, 600)).to_pylist()
    assert (told["reason"], told["kept_id"], told["similarity"]) == ("near_train", one_id(77), 0.75)


def test_a_rebuild_puts_records_back_where_they_were():
    for number, fate in ((3, TRAIN), (4, VAL), (5, DUPLICATE)):
        told = settle({"id": number}, published=published([number]), rebuild=True)
        assert told["fate"] == fate
    assert settle({"id": 9, "source": 1}, owned=owners([(1, VAL, 3)]), rebuild=True)["fate"] == VAL
    assert settle({"id": 9, "source": 1}, owned=owners([(1, EVAL, 3)]), rebuild=True)["fate"] == DUPLICATE


def test_where_copies_are_wanted_they_stay_together_but_out_of_eval():
    assert settle({"id": 3}, published=published([3]), exact=False)["fate"] == TRAIN
    assert settle({"id": 4}, published=published([4]), exact=False)["fate"] == VAL
    assert settle({"id": 5}, published=published([5]), exact=False)["fate"] == DUPLICATE


def test_pinned_bins_are_splits_whatever_the_cut():
    bins = np.array([PINNED + TRAIN, PINNED + VAL, PINNED + EVAL, 0, BINS - 1])
    assert Cut(1, 2, frozen=True).splits(bins).tolist() == [TRAIN, VAL, EVAL, TRAIN, TRAIN]


def test_a_rebuild_obeys_what_a_human_decided():
    """3 stands in for 6, which says something else now, by its source; what stands is there, all else is read again."""
    decided = pa.table(
        [
            pa.array([one_id(one) for one in (6, 60, 3, 30)], pa.binary(16)),
            pa.array([TRAIN] * 4, pa.int8()),
            pa.array([one_id(3), one_id(3), None, None], pa.binary(16)),
        ],
        schema=DECIDED,
    )
    known = {"published": published([3, 6, 9]), "rebuild": True, "decided": decided}
    replaced = (drop_code(Drop.SUPERSEDED), one_id(3))
    told = settle({"id": 6}, **known)
    assert (told["fate"], told["kept_id"]) == replaced
    told = settle({"id": 8, "source": 60}, owned=owners([(60, TRAIN, 6)]), **known)
    assert (told["fate"], told["kept_id"]) == replaced
    told = settle({"id": 3}, **known)
    assert (told["fate"], told["kept_id"]) == (DUPLICATE, one_id(3))
    told = settle({"id": 8, "source": 30}, owned=owners([(30, TRAIN, 3)]), **known)
    assert (told["fate"], told["kept_id"]) == (DUPLICATE, one_id(3))
    assert settle({"id": 9}, **known)["fate"] == TRAIN
