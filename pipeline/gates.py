"""Nightly gates: what a run took in against what the last snapshots took in.

Shares are compared with the median of the last HISTORY snapshots that took something in, distributions with their
mean. Fewer than LEAST_HISTORY of them are no measure, nor are fewer than LEAST_LINES lines: then no gate closes.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.history import ancestors
from pipeline.snapshots import Dataset

HISTORY = 7
LEAST_HISTORY = 3
LEAST_LINES = 200


@dataclass(frozen=True)
class Night:
    """What one run took in: its accounting, and the counts of `transforms.measure`."""

    added: Mapping[str, Any]
    measures: Mapping[str, int]

    @property
    def quarantined(self) -> float:
        """Share of lines."""
        return float(sum(self.added["quarantined"].values()) / self.added["read"])

    @property
    def duplicates(self) -> float:
        """Share of lines that are sound."""
        sound = self.added["read"] - sum(self.added["quarantined"].values())
        return float(self.added["duplicate"] / sound) if sound else 0.0

    @property
    def refusals(self) -> float:
        """Share of assistant turns."""
        return self.measures.get("refusals", 0) / max(self.measures.get("turns", 0), 1)

    def shares(self, measure: str) -> dict[str, float]:
        """The shares of a distribution, `length` or `script`."""
        counts = {name: count for name, count in self.measures.items() if name.startswith(f"{measure}.")}
        total = sum(counts.values())
        return {name: count / total for name, count in counts.items()} if total else {}


def sum_measures(units: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The measures of a run, from the results of its work units."""
    counts: Counter[str] = Counter()
    for unit in units:
        counts.update(unit["measures"])
    return dict(sorted(counts.items()))


def recent_nights(dataset: Dataset, parent: dict[str, Any] | None) -> list[Night]:
    """The last HISTORY snapshots on the line of `parent` that took in lines; what was rolled back is not among them."""
    line = ancestors(dataset, parent) if parent else iter(())
    nights = (
        Night(one["added"], one["measures"])
        for one in line
        if one["operation"] in ("run", "refresh") and one["added"]["read"]
    )
    return list(itertools.islice(nights, HISTORY))


def night_breaches(gates: Mapping[str, Any], tonight: Night, before: Sequence[Night]) -> list[str]:
    """What closes a gate, in sentences that say the key that opens it."""
    if len(before) < LEAST_HISTORY:
        return []
    breaches = _volume_breaches(gates, tonight, before)
    if tonight.added["read"] < LEAST_LINES:
        return breaches
    since = f"the last {len(before)} snapshots"
    for key, name, value in (
        ("max_quarantined_rise", "lines are quarantined", "quarantined"),
        ("max_refusals_rise", "assistant turns begin like a refusal", "refusals"),
        ("max_duplicates_change", "sound lines are duplicates", "duplicates"),
    ):
        limit, share = gates[key], getattr(tonight, value)
        usual = statistics.median(getattr(one, value) for one in before)
        change = abs(share - usual) if key.endswith("change") else share - usual
        if limit is not None and change > limit:
            breaches.append(
                f"{share:.1%} of {name}, in the median of {since} {usual:.1%}: a change of {change:.3f}, "
                f"more than gates.{key} = {limit:g}"
            )
    for key, name, measure in (
        ("max_length_drift", "lengths of records", "length"),
        ("max_script_drift", "scripts that are written", "script"),
    ):
        limit, moved = gates[key], distance(tonight.shares(measure), [one.shares(measure) for one in before])
        if limit is not None and moved > limit:
            breaches.append(
                f"the {name} differ from those of {since} by {moved:.3f} (total variation distance, 0 to 1), "
                f"more than gates.{key} = {limit:g}"
            )
    return breaches


def _volume_breaches(gates: Mapping[str, Any], tonight: Night, before: Sequence[Night]) -> list[str]:
    read, usual = tonight.added["read"], statistics.median(one.added["read"] for one in before)
    least, most = gates["min_volume"], gates["max_volume"]
    told = f"{read:,} lines were read, {read / usual:.2f} times the median of the last {len(before)} snapshots"
    if least is not None and read < least * usual:
        return [f"{told}, less than gates.min_volume = {least:g}"]
    if most is not None and read > most * usual:
        return [f"{told}, more than gates.max_volume = {most:g}"]
    return []


def distance(shares: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> float:
    """Total variation distance of a distribution from the mean of others, in [0, 1]; 0 where one side is empty.

    It is the share that would have to move to make them alike: half the sum of the absolute differences.

    >>> distance({"a": 1.0}, [{"a": 0.5, "b": 0.5}, {"a": 1.0}])
    0.25
    """
    there = [one for one in others if one]
    if not shares or not there:
        return 0.0
    names = set(shares).union(*there)
    return (
        sum(
            abs(shares.get(name, 0.0) - sum(one.get(name, 0.0) for one in there) / len(there)) for name in sorted(names)
        )
        / 2
    )
