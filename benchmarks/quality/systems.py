"""The three that are compared: each takes documents and gives the spans that it would replace in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry

from benchmarks.quality.documents import Document, Span
from transforms.options import RedactOptions
from transforms.placeholders import Removed
from transforms.policy import RegexTokenizer, presidio_recognizers
from transforms.redact import Redactor

DATATROVE = ("--with", "datatrove==0.10.1", "--with", "regex")  # which it imports

Finder = Callable[[Sequence[Document]], list[list[Span]]]


def presidio(documents: Sequence[Document]) -> list[list[Span]]:
    """Presidio's AnalyzerEngine with the recognizers it has on by default, at threshold 0.4, without a model.

    Its tokenizer is one that lets its context words work, which `NoOpNlpEngine` and blank spaCy pipelines don't.
    """
    engine = AnalyzerEngine(RecognizerRegistry(presidio_recognizers()), RegexTokenizer())
    return [
        [(one.start, one.end, one.entity_type) for one in engine.analyze(document.text, "en", score_threshold=0.4)]
        for document in documents
    ]


def corpusmill(documents: Sequence[Document]) -> list[list[Span]]:
    """What Redact replaces with its defaults, and the document's country where it has one."""
    by_country: dict[str | None, list[int]] = defaultdict(list)
    for place, document in enumerate(documents):
        by_country[document.country].append(place)
    spans: list[list[Span]] = [[] for _ in documents]
    for country, places in by_country.items():
        redactor = Redactor(RedactOptions() if country is None else RedactOptions(countries=(country,)))
        for place in places:
            spans[place] = _replaced(redactor, documents[place].text)
    return spans


def _replaced(redactor: Redactor, text: str) -> list[Span]:
    spans, position = [], 0
    for piece in redactor.template(text):
        length = len(piece.raw if isinstance(piece, Removed) else piece)
        if isinstance(piece, Removed):
            spans.append((position, position + length, piece.entity))
        position += length
    assert position == len(text)
    return spans


def datatrove(documents: Sequence[Document]) -> list[list[Span]] | None:
    """datatrove's formatter in an environment of its own; None where it can't be installed."""
    uv = Path(sys.executable).parent / "uv"
    script = Path(__file__).parent / "datatrove_spans.py"
    command = [str(uv), "run", "--quiet", "--isolated", "--no-project", *DATATROVE, "python", str(script)]
    texts = json.dumps([document.text for document in documents])
    done = subprocess.run(command, input=texts, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return [[(start, end, entity) for start, end, entity in spans] for spans in json.loads(done.stdout)]
