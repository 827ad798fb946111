"""Tune: how many records a threshold drops, and the pairs on both sides of it, from a sample of the input.

The run's own kernels from Read to Cluster, in memory. Nothing is written but the page that was asked for,
which is the one place that shows texts: redacted, as the dataset would hold them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import regex

from pipeline.config import Config, load_keys
from pipeline.errors import UsageError
from pipeline.plan import inputs_to_look_at
from pipeline.run import Say, storage_of
from pipeline.templates import render
from transforms.bands import BANDS, NEW, orders_of, refs_of
from transforms.candidates import find_candidates
from transforms.cluster import cluster_edges
from transforms.exact import first_of_each as first_of_ids
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.options import DedupeOptions
from transforms.parse import parse_records
from transforms.read import LineReader, cut_units
from transforms.redact import redact_records
from transforms.shingles import SHORT, gram_texts, jaccard, shingle_texts, tokenize
from transforms.sign import SIGNED, bodies, fingerprint_records, is_sound, sign_records
from transforms.validate import validate_records
from transforms.verify import SKETCHES, compare_pairs, drop_implied, elect_sketches, sketch_rows

THRESHOLDS = tuple(round(0.60 + 0.05 * step, 2) for step in range(8))
LEAST = 0.55  # from which pairs are looked for, so that the lowest threshold has some below it
EACH_SIDE = 4  # pairs of a threshold that the page shows
NEAR = 0.05  # of a threshold: pairs further away say nothing of it
SHOWN = 6000  # characters of a text
_MOST_MARKED = 1500  # pieces between the first and the last difference: beyond, telling them apart costs too much
_PIECE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}]+|\s+|.", regex.DOTALL)


class Side(NamedTuple):
    """Pairs of rows of a sample, int64[P] each, and how alike they are, float32[P]; `a` comes first in the order of who stays."""

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


class Outcome(NamedTuple):
    """What a threshold does: pairs of a kept record and one that gives way to it, and look-alikes that are both kept."""

    above: Side
    below: Side


@dataclass(frozen=True)
class Sample:
    """Sound records, redacted and signed, and `places`: the input and line of each."""

    records: pa.Table
    places: list[str]
    lines: int  # read
    inputs: int


def tune_dedupe(config: Config, size: int, page: str | None, say: Say) -> dict[str, Any]:
    """What each threshold would keep and drop among about `size` lines; writes the page where one is named."""
    target = _page_target(page)
    sample = read_sample(config, size, say)
    if not sample.records.num_rows:
        raise UsageError(
            f"none of the {sample.lines:,} lines that were read is a sound record",
            "a trial says why: corpusmill run … --limit 1000",
        )
    distinct = first_of_each(sample)
    count, options, keys = distinct.records.num_rows, config.dedupe, load_keys(config.split.salt)
    edges = find_edges(distinct.records, options, keys)
    thresholds = sorted({*THRESHOLDS, *(one for one in (options.threshold,) if one >= LEAST)})
    outcomes = {one: outcome_at(edges, distinct.records.column("id"), one) for one in thresholds}
    similarity = edges.column("similarity").to_numpy()
    values = {
        "inputs": sample.inputs,
        "lines": sample.lines,
        "sound": sample.records.num_rows,
        "exact": sample.records.num_rows - count,
        "distinct": count,
        "threshold": options.threshold,
        "redacted": config.redact.enabled,
        "thresholds": [
            {
                "threshold": one,
                "pairs": int((similarity >= np.float32(one)).sum()),
                "dropped": len(outcome.above.a),
                "kept": count - len(outcome.above.a),
                "found": options.found(one),
            }
            for one, outcome in outcomes.items()
        ],
    }
    if target is not None:
        try:
            target.write_text(tune_page(values, distinct, outcomes, options.shingle, keys), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--html {page}: no file can be written there ({error.strerror})") from None
        values["html"] = str(target)
    return values


def _page_target(page: str | None) -> Path | None:
    """Where the page goes. Raises UsageError where it can't."""
    if page is None:
        return None
    target = Path(page)
    if target.suffix not in (".html", ".htm"):
        raise UsageError(f"--html {page}: the page's name must end in .html")
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise UsageError(f"--html {page}: no file can be written there")
    return target


def read_sample(config: Config, size: int, say: Say) -> Sample:
    """The first lines of every input, an equal share of each; what small ones leave over goes to the larger ones."""
    storage, keys = storage_of(config), load_keys(config.split.salt)
    files, shards = inputs_to_look_at(config, storage)
    names = dict(zip((file.uri for file, _ in files), shards, strict=True))
    batches, places, left = [], [], size
    for done, (file, kind) in enumerate(sorted(files, key=lambda one: (one[0].size, one[0].uri))):
        share, base = -(-left // (len(files) - done)), 0
        for unit in cut_units(file.uri, done, file.size, config.read):
            with storage.open(unit.uri) as stream:
                reader = LineReader(unit, stream, config.read)
                for lines in reader.blocks():
                    lines = lines.slice(0, share)
                    share, left = share - lines.num_rows, left - lines.num_rows
                    signed = _signed(lines, kind, config, keys)
                    batches.append(signed)
                    places += [f"{names[file.uri]}:{base + line + 1}" for line in signed.column("line").to_pylist()]
                    if share <= 0:
                        break
            if share <= 0:
                break
            base += reader.stats.lines
    if not config.redact.enabled:
        say("warning: redaction is off; the page shows texts as they are in the input")
    return Sample(pa.Table.from_batches(batches, SIGNED), places, size - left, len(files))


def _signed(lines: pa.RecordBatch, kind: str, config: Config, keys: Keys) -> pa.RecordBatch:
    """SIGNED for the sound ones among LINES."""
    records = parse_records(lines, shape=config.read.shape, kind=kind, group_by=config.split.group_by, keys=keys)
    records = validate_records(records, config.validate_)
    keep = (config.split.group_by,) if config.split.group_by else ()
    records = redact_records(records, config.redact, keep_paths=keep).records
    return sign_records(records.filter(is_sound(records)), keys, config.dedupe.prefer)


def first_of_each(sample: Sample) -> Sample:
    """The first of each id by rank and tie."""
    order = [("id", "ascending"), ("rank", "ascending"), ("tie", "ascending")]
    rows = pc.sort_indices(sample.records, sort_keys=order)
    rows = np.sort(rows.filter(pa.array(first_of_ids(sample.records.column("id").take(rows)))).to_numpy())
    return replace(sample, records=sample.records.take(pa.array(rows)), places=[sample.places[row] for row in rows])


def find_edges(records: pa.Table, options: DedupeOptions, keys: Keys) -> pa.Table:
    """EDGES of distinct SIGNED records from `LEAST`, found as a run finds them."""
    options = options.model_copy(update={"leak_threshold": LEAST})
    bands, sketches, tags = [BANDS.empty_table()], [SKETCHES.empty_table()], [np.zeros(0, np.uint16)]
    for batch in records.to_batches(4096):
        prints = fingerprint_records(batch, options, keys)
        refs, orders = refs_of(id_words(batch.column("id"))[:, 0]), orders_of(batch.column("rank"))
        new = np.full(len(prints.bands), NEW, np.int8)
        columns = [prints.bands, refs[prints.owners], orders[prints.owners], new]
        bands.append(pa.table([pa.array(column) for column in columns], schema=BANDS))
        sketches.append(pa.Table.from_batches([sketch_rows(batch, prints)]))
        tags.append(prints.tags[prints.owners])
    elected = elect_sketches(pa.concat_tables(sketches))
    pairs = find_candidates([(pa.concat_tables(bands).combine_chunks(), np.concatenate(tags))]).pairs
    return drop_implied(compare_pairs(pairs, elected, elected, LEAST))


def outcome_at(edges: pa.Table, ids: pa.ChunkedArray, threshold: float) -> Outcome:
    """What a threshold does to the records with these ids."""
    verdicts = cluster_edges(edges.to_batches(), threshold, len(ids)).verdicts.table()
    dropped = verdicts.filter(verdicts.column("kept_id").is_valid())
    above = _side(ids, dropped.column("kept_id"), dropped.column("id"), dropped.column("similarity"))
    gone = dropped.column("id").combine_chunks()
    stay = pc.invert(pc.or_(*(pc.is_in(edges.column(side), value_set=gone) for side in "ab")))
    below = edges.filter(stay)
    return Outcome(above, _side(ids, *(below.column(name) for name in ("a", "b", "similarity"))))


def _side(ids: pa.ChunkedArray, a: pa.ChunkedArray, b: pa.ChunkedArray, similarity: pa.ChunkedArray) -> Side:
    place_a, place_b = (pc.index_in(one, value_set=ids.combine_chunks()).to_numpy().astype(np.int64) for one in (a, b))
    return Side(place_a, place_b, similarity.to_numpy())


def nearest_pairs(side: Side, threshold: float, shown: set[int]) -> list[int]:
    """The places of the pairs nearest to a threshold, the most alike first; a record is shown once: `shown` grows."""
    away = np.abs(side.similarity - np.float32(threshold))
    chosen: list[int] = []
    for place in np.lexsort((side.b, side.a, away)).tolist():
        ends = {int(side.a[place]), int(side.b[place])}
        if len(chosen) == EACH_SIDE or away[place] > NEAR:
            break
        if not ends & shown:
            chosen.append(place)
            shown |= ends
    return sorted(chosen, key=lambda one: (-side.similarity[one], side.a[one], side.b[one]))


def tune_page(values: dict[str, Any], sample: Sample, outcomes: Mapping[float, Outcome], size: int, keys: Keys) -> str:
    """The page for people: the table, and pairs beside each threshold."""
    shown: set[int] = set()
    sections = {}
    # The threshold that is set has the first choice among pairs.
    for threshold in sorted(outcomes, key=lambda one: (abs(one - values["threshold"]), one)):
        sections[threshold] = [
            _told(side, nearest_pairs(side, threshold, shown), sample, size, keys) for side in outcomes[threshold]
        ]
    return render("tune.html", values=values, sections=[{"threshold": one, "sides": sections[one]} for one in outcomes])


def exact_similarity(pair: Sequence[str], size: int, keys: Keys) -> float:
    """The Jaccard index of two texts by the plain definition of `transforms.shingles`."""
    short = min(len(tokenize(text)) for text in pair) < SHORT
    sets = gram_texts(pair, keys) if short else shingle_texts(pair, size, keys)
    return jaccard(sets.values[: sets.offsets[1]], sets.values[sets.offsets[1] :])


def _told(side: Side, places: Iterable[int], sample: Sample, size: int, keys: Keys) -> list[dict[str, Any]]:
    """What the page says of pairs."""
    told = []
    for place in places:
        rows = [int(side.a[place]), int(side.b[place])]
        messages = sample.records.column("messages").take(pa.array(rows)).combine_chunks()
        texts = [_text_of(one) for one in messages.to_pylist()]
        marked = mark_differences(*texts)
        told.append(
            {
                "similarity": float(side.similarity[place]),
                "exact": exact_similarity(bodies(messages), size, keys),
                "sides": [
                    {"place": sample.places[row], "pieces": pieces, "left_out": max(0, len(text) - SHOWN)}
                    for row, pieces, text in zip(rows, marked, texts, strict=True)
                ],
            }
        )
    return told


def _text_of(messages: list[dict[str, Any]]) -> str:
    """What counts for similarity, turn by turn."""
    return "\n".join(
        f"{one['role']}: {one['content']}"
        for one in messages
        if one["role"] in ("user", "assistant") and one["content"]
    )


Piece = tuple[bool, str]  # whether the other text differs here


def mark_differences(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, those that differ marked; cut after `SHOWN` characters.

    >>> mark_differences("a parcel came", "a letter came")
    ([(False, 'a '), (True, 'parcel'), (False, ' came')], [(False, 'a '), (True, 'letter'), (False, ' came')])
    """
    a, b = (_PIECE.findall(text[:SHOWN]) for text in (left, right))
    start = _shared(a, b)
    end = _shared(a[start:][::-1], b[start:][::-1])
    middles = a[start : len(a) - end], b[start : len(b) - end]
    if max(map(len, middles)) <= _MOST_MARKED:
        blocks = difflib.SequenceMatcher(None, *middles, autojunk=False).get_opcodes()
    else:
        blocks = [("replace", 0, len(middles[0]), 0, len(middles[1]))]
    marked: tuple[list[Piece], list[Piece]] = ([], [])
    for side, (pieces, out) in enumerate(zip((a, b), marked, strict=True)):
        _add(out, False, pieces[:start])
        for kind, *bounds in blocks:
            _add(out, kind != "equal", middles[side][bounds[2 * side] : bounds[2 * side + 1]])
        _add(out, False, pieces[len(pieces) - end :])
    return marked


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """How many pieces both begin with."""
    return next(
        (place for place, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b))
    )


def _add(out: list[Piece], differs: bool, pieces: Sequence[str]) -> None:
    """Appends pieces, joined."""
    if pieces:
        out.append((differs, "".join(pieces)))
