"""Records that fare otherwise night by night than in one build, each with a cause that is checked.

Stickiness decides some records otherwise than one build of all nights would. A cause is taken only where the records
show it: who it gave way to is there, resembles it by the exact Jaccard index of their shingles, and fares otherwise in
the one build; or the cuts of both builds put the record's unit of splitting where it is. Whatever else differs is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from transforms.canonical import id_of_said
from transforms.hashing import Keys
from transforms.schema import MESSAGES
from transforms.shingles import shingle_texts
from transforms.sign import bodies
from transforms.split import Cut, bin_of

SPLITS = ("train", "val", "eval")
SLACK = 0.02  # by which the mill's estimate of an index may lie beside the exact one


@dataclass(frozen=True)
class Fate:
    """What became of what one id stands for: a split or `dropped`, `duplicate`; why; and the snapshot that said so."""

    outcome: str
    reason: str
    kept_id: str | None
    group: str | None
    snapshot: int

    @property
    def kept(self) -> bool:
        return self.outcome in SPLITS

    def __str__(self) -> str:
        return f"{self.outcome} ({self.reason})" if self.reason else self.outcome


class Texts:
    """The texts of all logs, by id, and which of them are how alike."""

    def __init__(self, lines: Iterable[bytes], keys: Keys) -> None:
        from scipy import sparse

        said: dict[str, Any] = {}
        for line in lines:
            record = orjson.loads(line) if line.startswith(b'{"messages"') and line.endswith(b"}") else {}
            if record.get("messages"):
                one = {"messages": record["messages"]}
                said.setdefault(id_of_said(one).hex(), one["messages"])
        self.ids = list(said)
        self._rows = {one: row for row, one in enumerate(self.ids)}
        shingles = shingle_texts(bodies(pa.array(said.values(), MESSAGES)), 5, keys)
        self._sizes = np.diff(shingles.offsets)
        _, columns = np.unique(shingles.values, return_inverse=True)
        shape = (len(said), int(columns.max(initial=0)) + 1)
        self._sets = sparse.csr_matrix((np.ones(len(columns), np.int32), columns, shingles.offsets), shape=shape)

    def alike(self, one: str) -> dict[str, float]:
        """The Jaccard index of every other record that shares a shingle with one."""
        row = self._rows[one]
        shared = (self._sets[row] @ self._sets.T).tocoo()
        index = shared.data / (self._sizes[row] + self._sizes[shared.col] - shared.data)
        return {self.ids[other]: float(much) for other, much in zip(shared.col, index, strict=True) if other != row}


@dataclass(frozen=True)
class Judge:
    """Tells causes; `cuts` are (eval_end, val_end, frozen) of each snapshot of the nights, `full_cut` of the one build."""

    mine: Mapping[str, Fate]
    full: Mapping[str, Fate]
    alike: Callable[[str], Mapping[str, float]]
    keys: Keys
    cuts: Mapping[int, tuple[int, int, bool]]
    full_cut: tuple[int, int, bool]
    threshold: float
    leak: float

    def cause(self, one: str) -> str | None:
        """Why stickiness let a record fare otherwise; None where nothing shows that it did."""
        mine, other = self.mine[one], self.full[one]
        near = self._near(one)
        if mine.outcome == "dropped":
            return self._dropped(mine, near) or self._repeats(mine, near) or self._dropped_before(mine, other, near)
        if mine.outcome == "duplicate":
            return self._duplicate(mine, near)
        if other.outcome == "duplicate":
            return self._kept_alone(other, near)
        if other.outcome == "dropped":
            repeats = other.kept_id and not self.full[other.kept_id].kept
            return self._not_dropped(one, mine, near | (self._near(other.kept_id or "") if repeats else {}))
        return self._split(one, mine, other, near)

    def _near(self, one: str) -> dict[str, float]:
        return {id_: much for id_, much in self.alike(one).items() if much >= self.leak - SLACK}

    def _repeats(self, mine: Fate, near: Mapping[str, float]) -> str | None:
        """What is left out because it repeats a record that was: why that was."""
        if mine.kept_id is None or near.get(mine.kept_id, 0.0) < self.threshold - SLACK:
            return None
        cause = self._dropped(self.mine[mine.kept_id], self._near(mine.kept_id))
        return cause and f"what it repeats was left out: {cause}"

    def _dropped(self, mine: Fate, near: Mapping[str, float]) -> str | None:
        if mine.reason == "group_in_eval":
            found = any(fate.group == mine.group and fate.outcome == "eval" for fate in self.mine.values())
            return "its group was in eval, which is frozen" if found else None
        split = {"near_eval": "eval", "near_val": "val", "near_train": "train"}.get(mine.reason)
        there = [id_ for id_ in near if self.mine[id_].outcome == split]
        if any(self.mine[id_].snapshot < mine.snapshot for id_ in there):
            return f"it resembles {split}, published before"
        # Of the same night: who it resembles is elsewhere in the one build, where it would have given way too.
        if any(self.full[id_].outcome != split for id_ in there):
            return f"it resembles {split} of its night, which is elsewhere in one build"
        return None

    def _dropped_before(self, mine: Fate, other: Fate, near: Mapping[str, float]) -> str | None:
        """What gives way to a record in one build that was not there yet, and resembles a held-out one of its night."""
        kept = self.mine.get(other.kept_id or "")
        if other.outcome != "duplicate" or kept is None or kept.snapshot <= mine.snapshot:
            return None
        split = {"near_eval": "eval", "near_val": "val"}.get(mine.reason)
        there = any(self.mine[id_].outcome == split for id_ in near)
        close = near.get(other.kept_id or "", 0.0) >= self.threshold - SLACK
        return "what it gave way to in one build came later" if there and close else None

    def _duplicate(self, mine: Fate, near: Mapping[str, float]) -> str | None:
        kept = self.mine.get(mine.kept_id or "")
        if kept is None or kept.snapshot > mine.snapshot or near.get(mine.kept_id or "", 0.0) < self.threshold - SLACK:
            return None
        if kept.snapshot < mine.snapshot:
            return "it resembles another, published before"
        return (
            "it resembles another of its night, which is not kept in one build"
            if not self.full[mine.kept_id or ""].kept
            else None
        )

    def _kept_alone(self, other: Fate, near: Mapping[str, float]) -> str | None:
        kept = self.mine.get(other.kept_id or "")
        if kept is None or near.get(other.kept_id or "", 0.0) < self.threshold - SLACK:
            return None
        # Had both been kept here, a duplicate would have been missed.
        return None if kept.kept else "what it resembles in one build came later, or gave way"

    def _not_dropped(self, one: str, mine: Fate, near: Mapping[str, float]) -> str | None:
        held = [id_ for id_ in near if self.full[id_].outcome in ("val", "eval")]
        still = {self.mine[id_].outcome for id_ in held if self.mine[id_].outcome == self.full[id_].outcome}
        if held and not still:
            return "what it gave way to in one build is not held out night by night"
        if still == {mine.outcome} and any(
            night == mine.outcome != full for night, full in self._cuts(one, mine)
        ):  # look-alikes within a split are no leak
            return "its night was cut elsewhere, into the split of what it gave way to in one build"
        return None

    def _split(self, one: str, mine: Fate, other: Fate, near: Mapping[str, float]) -> str | None:
        group = [fate for fate in self.mine.values() if mine.group and fate.group == mine.group and fate.kept]
        if any(fate.snapshot < mine.snapshot and fate.outcome == mine.outcome for fate in group):
            return "its group was published there"
        before = [id_ for id_ in near if self.mine[id_].outcome == "train" and self.mine[id_].snapshot < mine.snapshot]
        if mine.outcome == "train" and before:
            return "it resembles train, published before"
        if (mine.outcome, other.outcome) in self._cuts(one, mine):
            return "its night was cut elsewhere than all nights together"
        return None

    def _cuts(self, one: str, mine: Fate) -> list[tuple[str, str]]:
        """Where the cut of a record's night and that of the one build put each unit of splitting that it may be in."""
        places = [bin_of(bytes.fromhex(unit), self.keys) for unit in ([mine.group] if mine.group else self._unit(one))]
        return [(_split_at(place, self.cuts[mine.snapshot]), _split_at(place, self.full_cut)) for place in places]

    def _unit(self, one: str) -> list[str]:
        """The ids that may name a record's unit of splitting: all that it resembles, and that these do."""
        found, todo = {one}, [one]
        while todo:
            more = {id_ for id_, much in self.alike(todo.pop()).items() if much >= self.leak - SLACK} - found
            found |= more
            todo += sorted(more)
        return sorted(found)


def _split_at(place: int, cut: tuple[int, int, bool]) -> str:
    eval_end, val_end, frozen = cut
    return SPLITS[int(Cut(eval_end, val_end, (), False, frozen).splits(np.array([place]))[0])]
