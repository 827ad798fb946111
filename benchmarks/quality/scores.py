"""Precision, recall, F1 and F2 of spans against labels: by whole spans, and by characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.quality.documents import Document, Span


@dataclass
class Score:
    """Counts: `found` of `planted` are right, `claimed` were said; `leaked` values stayed in part, whatever the type."""

    planted: int = 0
    claimed: int = 0
    found: int = 0
    leaked: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.planted + other.planted,
            self.claimed + other.claimed,
            self.found + other.found,
            self.leaked + other.leaked,
        )

    @property
    def precision(self) -> float | None:
        """None where nothing was claimed."""
        return self.found / self.claimed if self.claimed else None

    @property
    def recall(self) -> float:
        return self.found / self.planted if self.planted else 0.0

    def f(self, beta: float) -> float:
        """F-measure (van Rijsbergen 1979): beta 2 weighs recall higher than precision."""
        precision, recall = self.precision or 0.0, self.recall
        weight = beta * beta
        return (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def score_spans(documents: Sequence[Document], found: Sequence[Sequence[Span]]) -> dict[str, Score]:
    """By entity type: a span is right where start, end and type are."""
    scores: dict[str, Score] = {}
    for document, spans in zip(documents, found, strict=True):
        covered = _characters(spans)
        for span in document.spans:
            score = scores.setdefault(span[2], Score())
            score.planted += 1
            score.found += span in spans
            left = set(range(*span[:2])) - covered
            score.leaked += any(document.text[place].isalnum() for place in left)
        for span in set(spans):
            scores.setdefault(span[2], Score()).claimed += 1
    return scores


def score_characters(documents: Sequence[Document], found: Sequence[Sequence[Span]]) -> dict[str, Score]:
    """By entity type: a character is right where its type is."""
    scores: dict[str, Score] = {}
    for document, spans in zip(documents, found, strict=True):
        for entity in {span[2] for span in (*document.spans, *spans)}:
            planted = _characters(span for span in document.spans if span[2] == entity)
            claimed = _characters(span for span in spans if span[2] == entity)
            score = scores.setdefault(entity, Score())
            score.planted += len(planted)
            score.claimed += len(claimed)
            score.found += len(planted & claimed)
    return scores


def _characters(spans: Iterable[Span]) -> set[int]:
    return {place for start, end, _ in spans for place in range(start, end)}
