"""Precision and recall of redaction by entity type: Presidio's defaults, Corpusmill's, datatrove's formatter.

.venv/bin/python benchmarks/redaction_quality.py              # all figures, on phrasings held out of development
.venv/bin/python benchmarks/redaction_quality.py --set development --show PHONE_NUMBER

Values, phrasings and decoys are made up (benchmarks/quality/): figures compare, they don't promise the same on real logs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.quality import values
from benchmarks.quality.documents import EVASIONS, SETS, Document, Span, make_documents
from benchmarks.quality.scores import Score, score_characters, score_spans
from benchmarks.quality.systems import corpusmill, datatrove, presidio

GROUPS = {
    "structured": values.STRUCTURED,
    "national, abroad": values.ABROAD,
    "by shape and context": values.CONTEXTUAL,
    "prefixed secrets": values.PREFIXED,
    "secrets by keyword": values.KEYED,
    "names and addresses": values.NAMES,
}
Found = dict[str, list[list[Span]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=sorted(SETS), default="held-out", help="phrasings and decoys")
    parser.add_argument("--each", type=int, default=100, help="documents for each entity type")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--brief", action="store_true", help="groups only")
    parser.add_argument("--show", metavar="ENTITY", help="what ours gets wrong; of the development set only")
    arguments = parser.parse_args()
    if arguments.show and arguments.set != "development":
        parser.error("the held-out set is counted, never shown: add --set development")
    documents = make_documents(arguments.set, arguments.each, arguments.seed)
    found = _find(documents, only_ours=bool(arguments.show))
    if arguments.show:
        _show(documents, found["Corpusmill"], arguments.show)
        return
    plain = [place for place, document in enumerate(documents) if not document.evasion]
    texts = [documents[place] for place in plain]
    mine = {name: [spans[place] for place in plain] for name, spans in found.items()}
    print(f"{len(texts)} documents of the {arguments.set} set, {arguments.each} for each entity type\n")
    _print_scores(texts, mine, brief=arguments.brief)
    _print_evasions(documents, found)


def _find(documents: Sequence[Document], *, only_ours: bool) -> Found:
    found = {"Corpusmill": corpusmill(documents)}
    if only_ours:
        return found
    found["Presidio"] = presidio(documents)
    theirs = datatrove(documents)
    if theirs is None:
        print("datatrove could not be installed: it is left out", file=sys.stderr)
    else:
        found["datatrove"] = theirs
    return found


def _print_scores(documents: Sequence[Document], found: Found, *, brief: bool) -> None:
    spans = {name: score_spans(documents, one) for name, one in found.items()}
    characters = {name: score_characters(documents, one) for name, one in found.items()}
    print(f"{'':28}{'':>11}{'':>6}  {'spans':^28}  {'characters':^28}")
    heads = "".join(f"{head:>7}" for head in ("P", "R", "F1", "F2"))
    print(f"{'entity type':28}{'':>11}{'n':>6}  {heads}  {heads} {'leaked':>7}")
    worse = []
    for group, entities in GROUPS.items():
        for entity in () if brief else entities:
            _print_rows(entity, [entity], spans, characters)
            if not _as_good(spans, entity):
                worse.append(entity)
        _print_rows(group.upper(), entities, spans, characters)
        print()
    _print_rows("ALL THAT IS PLANTED", list(values.MAKERS), spans, characters)
    for name, scores in spans.items():
        others = {entity: score.claimed for entity, score in scores.items() if entity not in values.MAKERS}
        listed = ", ".join(f"{entity} {count}" for entity, count in sorted(others.items())) or "none"
        print(f"findings of types that nobody planted, {name}: {listed}")
    if not brief:
        print(f"worse than Presidio's defaults (F1 or F2 of spans): {', '.join(worse) or 'no type'}\n")


def _as_good(spans: Mapping[str, Mapping[str, Score]], entity: str) -> bool:
    ours, theirs = (spans[name].get(entity, Score()) for name in ("Corpusmill", "Presidio"))
    return all(ours.f(beta) >= theirs.f(beta) for beta in (1.0, 2.0))


def _print_rows(
    title: str,
    entities: Sequence[str],
    spans: Mapping[str, Mapping[str, Score]],
    characters: Mapping[str, Mapping[str, Score]],
) -> None:
    for name in spans:
        whole = sum((spans[name].get(entity, Score()) for entity in entities), Score())
        parts = sum((characters[name].get(entity, Score()) for entity in entities), Score())
        if name == "datatrove" and not whole.claimed:
            continue  # it knows two types
        leaked = f"{whole.leaked / whole.planted:7.3f}" if whole.planted else ""
        print(f"{title:28}{name:>11}{whole.planted:6}  {_figures(whole)}  {_figures(parts)} {leaked}")
        title = ""


def _figures(score: Score) -> str:
    figures = [score.precision, score.recall, score.f(1.0), score.f(2.0)]
    return "".join(f"{'–' if figure is None else f'{figure:.3f}':>7}" for figure in figures)


def _print_evasions(documents: Sequence[Document], found: Found) -> None:
    print("share of values found whole, of any type, where they are written so that a pattern misses them")
    print(f"{'':28}{'n':>6}" + "".join(f"{name:>12}" for name in found))
    for evasion in EVASIONS:
        places = [place for place, document in enumerate(documents) if document.evasion == evasion]
        shares = []
        for spans in found.values():
            scores = score_spans([documents[place] for place in places], [spans[place] for place in places])
            whole = sum((score for score in scores.values() if score.planted), Score())
            shares.append(1 - whole.leaked / whole.planted)
        print(f"{evasion:28}{len(places):6}" + "".join(f"{share:12.3f}" for share in shares))


def _show(documents: Sequence[Document], found: Sequence[Sequence[Span]], entity: str) -> None:
    """Prints made-up documents in which a span of the type is wrong."""
    select: Callable[[Span], bool] = lambda span: entity in ("ALL", span[2])  # noqa: E731
    for document, spans in zip(documents, found, strict=True):
        if {*filter(select, document.spans)} != {*filter(select, spans)}:
            print(
                f"{document.evasion or ''} {document.text!r}\n   planted "
                f"{[(span[2], document.text[span[0] : span[1]]) for span in document.spans]}\n   found   "
                f"{[(span[2], document.text[span[0] : span[1]]) for span in spans]}"
            )


if __name__ == "__main__":
    main()
