"""Redact: every string of a record without the personal data and secrets that were found in it.

A record is flattened into *slots*, one a string, in a fixed order: the messages' fields, then tools, then metadata;
within JSON its keys, strings and numbers. Each slot becomes a template (see `placeholders`) by passes over the text
until nothing more is found. A value found in one slot goes wherever else the record says it. Then the numbers are
filled in, and the record is put together again. Contents of a batch become templates together, pass by pass and
recognizer by recognizer; what is not known of them by then, each by itself.

    text ──split at placeholders──► parts ──secrets + analyzer──► kept │ Removed │ kept ──again──► … (3 passes)

A record that cannot be analysed is quarantined, content and all; a time-out fails the run. Nothing passes unredacted.
"""

from __future__ import annotations

import bisect
import functools
import gc
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import apache_beam as beam
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import transforms.coder  # noqa: F401  (registers the coder of record batches)
from transforms.adjacent import Parts, adjacent_parts, answer_to, same_speaker, stands_alone
from transforms.assigned import secret_field
from transforms.canonical import canonical_json
from transforms.contents import as_they_are, message_counts, more_said, says_more, with_contents
from transforms.gate import Gate
from transforms.named import NamedFinder, language_of
from transforms.options import RedactOptions
from transforms.placeholders import (
    Digits,
    Finding,
    Numbering,
    Placeholders,
    RedactionTimeout,
    Removed,
    Template,
    Words,
    canonical_value,
    merge_findings,
    spelled_alike,
)
from transforms.reasons import Reason
from transforms.schema import MESSAGES, REASONS, ROLES
from transforms.screen import Clean, Screen, Screened, as_context, is_digest, key_at, key_within
from transforms.secrets import find_all_secrets, secret_sources
from transforms.shadow import Shadow, escapes, shadow_of, shadow_sources, undisguised

_ALLOCATED = (
    100_000  # objects beyond those given back that set a collection going: findings refer to each other in no ring
)
_SHORT = 16  # characters of texts whose gate and outcome are remembered: most are left between two findings
_QUOTES = ('"', "'")
_AT_ONCE = 1 << 20  # 1 Mi: characters of texts that are looked through together
_CONTEXT = 64  # characters before the first part of a split value
PASSES = 3  # rounds of redaction of a text, and of spreading values through a record
WHOLE_BELOW = 12  # characters: shorter values are looked for elsewhere in the record as whole words only
WORD_BELOW = 6  # letters: a shorter value of letters alone is an ordinary word, and not looked for
_FEW = 16  # values of a record that are looked for one by one before an automaton is built for them,
_LITTLE = 2 << 20  # 2 Mi: or the values times the characters that they are looked for in: what building one takes

Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


class Redacted(NamedTuple):
    """The batch, and how many spans of each entity type were replaced in it."""

    records: pa.RecordBatch
    entities: Counter[str]


class Unstable(Exception):
    """Redacting a redacted text went on changing it."""


class RedactionFailed(RuntimeError):
    """A single text could not be analysed. Holds no content."""


class Slot(NamedTuple):
    """A string of a record. `key`: the JSON key that it is kept under, which is context for what it says."""

    text: str
    key: str = ""


class _Part(NamedTuple):
    """A text without placeholders in it, of a slot or of what is left of one; `prefix` is context before it."""

    text: str
    key: str
    prefix: str


def one_at_a_time(work: Callable[P, T]) -> Callable[P, T]:
    """`work` by one thread at a time: a redactor, its gate and models keep what they found until it is asked for.

    Some runners give a worker several threads (Flink: one for each slot of a task manager). Little is lost by it: redaction
    is mostly Python, of which one thread runs at a time anyway.
    """

    @functools.wraps(work)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _ALONE:
            return work(*args, **kwargs)

    return alone


_ALONE = threading.RLock()


@one_at_a_time
def redact_records(records: pa.RecordBatch, options: RedactOptions, keep_paths: tuple[str, ...] = ()) -> Redacted:
    """RECORDS batch of N rows with every string redacted, `n_redactions` raised by the spans replaced.

    Rows with reasons pass as they are. A row whose analysis fails, or doesn't settle, gets REDACTION_FAILED or
    REDACTION_UNSTABLE and null messages, tools and metadata. `keep_paths` are metadata paths (`metadata.a.b`) where
    Parse put a digest of 32 hexadecimal digits, which stays. Raises RedactionTimeout, which should end the run.
    """
    sound = pc.equal(pc.list_value_length(records.column("reasons")), 0)
    counts = pc.if_else(sound, pc.fill_null(records.column("n_redactions"), 0), records.column("n_redactions"))
    records = _with_columns(records, {"n_redactions": counts})
    if not options.enabled:
        return Redacted(records, Counter())
    redactor = redactor_for(options)
    kept = kept_paths(keep_paths)
    sound = sound.to_numpy(zero_copy_only=False)
    everything = options.exact or options.model is not None
    screened = None if everything else redactor.screen(records, kept)
    looked = np.flatnonzero(sound if screened is None else sound & screened.rows)
    if not len(looked):
        return Redacted(records, Counter())
    batch = _Batch(records, redactor, kept, screened, looked)
    for place in looked.tolist():
        try:
            batch.redact(place)
        except (RedactionTimeout, MemoryError):
            raise
        except Unstable:
            batch.quarantine(place, Reason.REDACTION_UNSTABLE)
        except Exception:  # whatever it says may quote the record
            batch.quarantine(place, Reason.REDACTION_FAILED)
    return batch.redacted()


def kept_paths(paths: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Metadata paths as `Redactor.redact_row` takes them."""
    return frozenset(tuple(path.split(".")[1:]) for path in paths)


_CHANGED = {"messages": MESSAGES, "tools": pa.string(), "metadata": pa.string(), "n_redactions": pa.int32()}


class _Batch:
    """What becomes of the rows `looked` at: of most only contents change, in their column; others are made anew."""

    def __init__(
        self,
        records: pa.RecordBatch,
        redactor: Redactor,
        kept: frozenset[tuple[str, ...]],
        screened: Screened | None,
        looked: NDArray[np.int64],
    ) -> None:
        self._records, self._redactor, self._kept = records, redactor, kept
        self._entities: Counter[str] = Counter()
        messages = records.column("messages")
        ends = np.cumsum(message_counts(messages))
        self._bounds = list(zip([0, *ends.tolist()], ends.tolist(), strict=False))
        self._screened = screened
        plain = np.zeros(len(ends), np.bool_) if screened is None else as_they_are(records) & ~screened.beside
        self._plain = plain.tolist()
        self._turns = [] if screened is None else screened.turns.tolist()
        more = self._rows(looked[(plain & says_more(messages))[looked]])
        self._more = {place: list(more_said(row["messages"])) for place, row in more.items()}
        self._read = self._rows(looked[~plain[looked]])
        redactor.read_names(self._read.values(), kept)
        role, content, *_ = messages.flatten().flatten()
        self._roles: list[str] = role.to_pylist()
        self._contents: list[str | None] = content.to_pylist()
        self._json = records.column("tools").to_pylist(), records.column("metadata").to_pylist()
        self._known: dict[Slot, Template] = {}
        for slots in self._ahead(looked):
            self._known |= redactor.foresee(slots)
        self._nothing = {slot.text for slot, template in self._known.items() if not _removes((template,))}
        self._changed: dict[int, str] = {}  # contents, by place among the messages of all rows
        self._spans: dict[int, int] = {}  # replaced in a row whose contents changed
        self._made: dict[int, Row] = {}

    def _rows(self, places: NDArray[np.int64]) -> dict[int, Row]:
        rows = self._records.select(list(_CHANGED)).take(pa.array(places)).to_pylist()
        return dict(zip(places.tolist(), rows, strict=True))

    def _ahead(self, looked: NDArray[np.int64]) -> Iterator[dict[Slot, int]]:
        """Contents that may hold something, with what the gate says of them, some at a time."""
        slots: dict[Slot, int] = {}
        size = 0
        said = [] if self._screened is None else self._screened.contents
        for place in looked.tolist() if said else ():
            for at in range(*self._bounds[place]):
                fired, text = said[at], self._contents[at]
                if fired and text:
                    slots[Slot(text)] = fired
                    size += len(text)
            if size > _AT_ONCE:
                yield slots
                slots, size = {}, 0
        yield slots

    def redact(self, place: int) -> None:
        if self._plain[place] and (self._holds_nothing(place) or self._redact_contents(place)):
            return
        row = self._read.get(place) or self._rows(np.array([place]))[place]
        row, found = self._redactor.redact_row(row, self._kept, self._known, clean=self._clean(place))
        self._count(found)
        self._made[place] = row | {"reasons": []}

    def _holds_nothing(self, place: int) -> bool:
        """No content of the row holds a value, and no two of them together."""
        assert self._screened is not None
        some = slice(*self._bounds[place])
        return not self._turns[place] and all(
            not fired or not text or text in self._nothing
            for fired, text in zip(self._screened.contents[some], self._contents[some], strict=True)
        )

    def _redact_contents(self, place: int) -> bool:
        """False where the row has to be made anew, for the values in its JSON."""
        assert self._screened is not None
        first, last = self._bounds[place]
        said = [(at, text) for at, text in enumerate(self._contents[first:last], first) if text]
        record = _Contents(
            [Slot(text) for _, text in said],
            [(self._roles[at], slot) for slot, (at, _) in enumerate(said)] if self._turns[place] else (),
            dict(enumerate(self._screened.contents[at] for at, _ in said)),
            [*(texts[place] for texts in self._json if texts[place]), *self._more.get(place, ())],
        )
        redacted = self._redactor.redact_contents(record, self._known)
        if redacted is None:
            return False
        texts, found = redacted
        if found:
            self._changed.update((at, new) for (at, old), new in zip(said, texts, strict=True) if new != old)
            self._spans[place] = found.total()
            self._count(found)
        return True

    def _clean(self, place: int) -> Clean | None:
        if self._screened is None:
            return None
        return Clean(not self._screened.json[place], self._screened.contents[slice(*self._bounds[place])])

    def _count(self, found: Counter[str]) -> None:
        for entity, spans in found.items():  # Counter's own sum looks at each value twice
            self._entities[entity] += spans

    def quarantine(self, place: int, reason: Reason) -> None:
        self._made[place] = dict.fromkeys(_CHANGED) | {"reasons": [str(reason)]}

    def redacted(self) -> Redacted:
        records = self._records
        if self._changed:
            counts = np.array(records.column("n_redactions").fill_null(0))
            counts[list(self._spans)] += np.array(list(self._spans.values()), np.int32)
            new = pa.array(
                counts, pa.int32(), mask=records.column("n_redactions").is_null().to_numpy(zero_copy_only=False)
            )
            messages = with_contents(records.column("messages"), self._changed)
            records = _with_columns(records, {"messages": messages, "n_redactions": new})
        if self._made:
            records = _with_rows(records, self._made)
        return Redacted(records, self._entities)


def _with_rows(records: pa.RecordBatch, rows: Mapping[int, Row]) -> pa.RecordBatch:
    """The batch with `rows` at their places; what lies in other rows keeps its bytes."""
    order = np.arange(records.num_rows)
    order[list(rows)] = records.num_rows + np.arange(len(rows))
    columns = {}
    for name, kind in {"reasons": REASONS, **_CHANGED}.items():
        changed = pa.array([row[name] for row in rows.values()], kind)
        columns[name] = pa.concat_arrays([records.column(name), changed]).take(pa.array(order))
    return _with_columns(records, columns)


def _with_columns(records: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    arrays = [columns.get(field.name, records.column(field.name)) for field in records.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=records.schema)


@functools.lru_cache(maxsize=4)
def redactor_for(options: RedactOptions) -> Redactor:
    """The redactor of a worker: building one takes half a second (Presidio's import)."""
    redactor = Redactor(options)
    gc.freeze()  # or each hundred thousand findings a collection would walk through all that Beam and Presidio hold
    gc.set_threshold(_ALLOCATED)
    return redactor


class Redactor:
    """What the options make of a text. Raises ValueError for an entity type that nothing recognizes."""

    def __init__(self, options: RedactOptions) -> None:
        from transforms.analyzer import Analyzer, placeholder_entities  # two seconds, for those who redact only

        self._options = options
        self._analyzer = Analyzer(options)
        sources = [*self._analyzer.sources, *(secret_sources() if options.secrets else ()), *shadow_sources()]
        self._disguise = len(sources) - 1  # fires where a text may be other than its shadow; beyond ASCII it always may
        self._all = (1 << len(sources)) - 1
        self._gate = None if options.exact else Gate(sources)
        self._denied = frozenset(custom.name for custom in options.custom if custom.deny)
        self._placeholders = Placeholders(placeholder_entities(options))
        self._names = NamedFinder(options) if options.model is not None else None

    def prepare(self) -> None:
        """Compiles what the redactor needs, once a machine, or loads it."""
        if self._gate is not None:
            self._gate.prepare()

    def screen(self, records: pa.RecordBatch, kept: frozenset[tuple[str, ...]]) -> Screened:
        """What of the batch may hold something to redact, seen from its columns."""
        assert self._gate is not None
        return Screen(self._gate, self._options.secrets, 1 << self._disguise).look(records, kept)

    def read_names(self, rows: Iterable[Row], kept: frozenset[tuple[str, ...]]) -> None:
        """Lets the model, if there is one, read the rows' texts at once; what it finds is kept for `redact_row`."""
        if self._names is not None:
            for row in rows:
                texts = [part for slot in _Record(row, kept).slots for part in self._placeholders.split(slot.text)[::2]]
                self._names.add(texts, language_of(row["metadata"]))
            self._names.read()

    @one_at_a_time
    def redact_text(self, text: str) -> str:
        """A single text with a numbering of its own. Raises RedactionFailed, RedactionTimeout."""
        if not self._options.enabled:
            return text
        slots = [Slot(text)]
        try:
            return Numbering(self._taken(slots)).fill(self.template(text))
        except (RedactionTimeout, MemoryError):
            raise
        except Exception:
            raise RedactionFailed("a text could not be analysed") from None

    def template(self, text: str) -> Template:
        """What is kept and what is removed of a single text. Raises Unstable, RedactionTimeout."""
        if self._names is not None:
            self._names.add(self._placeholders.split(text)[::2], None)
            self._names.read()
        return self._settle([Slot(text)], {}, {})[0]

    def redact_row(
        self,
        row: Row,
        kept: frozenset[tuple[str, ...]],
        known: dict[Slot, Template],
        numbered: Callable[[Iterable[tuple[str, int]]], Numbering] = Numbering,
        clean: Clean | None = None,
    ) -> tuple[Row, Counter[str]]:
        """The row redacted, and its spans by type. `known` remembers templates from row to row.

        `numbered` makes what fills them in from the literal placeholders that the row holds. What is `clean` is not
        looked through again, but for the values that the rest of the row holds.
        """
        if self._names is not None:
            self._names.speak(language_of(row["metadata"]))
            known = {}  # the same text may be read in several languages
        record = _Record(row, kept, clean)
        templates = self._templates(record, known)
        if templates is None:
            record = _Record(row, kept, clean, read=True)
            templates = self._templates(record, known)
            assert templates is not None
        if record.canonical and not _removes(templates):
            return row | {"n_redactions": row["n_redactions"] or 0}, Counter()
        numbering = numbered(self._taken([*record.slots, *map(Slot, record.unread)]))
        redacted = record.rebuilt([numbering.fill(template) for template in templates])
        redacted["n_redactions"] = (row["n_redactions"] or 0) + numbering.spans.total()
        return redacted, numbering.spans

    def redact_contents(
        self, record: _Contents, known: dict[Slot, Template]
    ) -> tuple[Sequence[str], Counter[str]] | None:
        """The texts of the record's slots, redacted, and its spans by type; None where its JSON says a value of theirs."""
        templates = self._templates(record, known)
        if templates is None:
            return None
        if not _removes(templates):
            return (), Counter()
        numbering = Numbering(self._taken([*record.slots, *map(Slot, record.unread)]))
        return [numbering.fill(template) for template in templates], numbering.spans

    def _templates(self, record: _Record | _Contents, known: dict[Slot, Template]) -> list[Template] | None:
        """What becomes of the record's slots; None where JSON that was not read says a value that goes."""
        templates = self._settle(record.slots, known, record.fired, record.turns)
        self._join_turns(templates, record.turns)
        if record.unread:
            values = {piece.raw: piece for template in templates for piece in template if isinstance(piece, Removed)}
            if values and _says(record.unread, values, Digits(values.values())):
                return None
        return templates

    def _taken(self, slots: Iterable[Slot]) -> Iterator[tuple[str, int]]:
        return (taken for slot in slots for taken in self._placeholders.taken(slot.text))

    def foresee(self, fired: Mapping[Slot, int]) -> dict[Slot, Template]:
        """Templates of the slots, with what the gate says of each; none where one of them fails, as it will by itself.

        Recognizer by recognizer, and so in half the time: what each needs stays in the processor's cache.
        """
        try:
            return self._templates_of(fired)
        except (RedactionTimeout, MemoryError):
            raise
        except Exception:
            return {}

    def _settle(
        self,
        slots: Sequence[Slot],
        known: dict[Slot, Template],
        fired: Mapping[int, int],
        turns: Sequence[tuple[str, int]] = (),
    ) -> list[Template]:
        """The slots' templates, once every value found in one of them is gone from all. Raises Unstable.

        `fired` are what a gate says of slots, by their places; 0 where nothing is found.
        """
        templates: list[Template] = []
        for place, slot in enumerate(slots):
            bits = fired.get(place)
            template = known.get(slot) if bits != 0 else self._template(slot, 0)
            if template is None:
                template = known[slot] = self._template(slot, bits)
            templates.append(template)
        self._answer(templates, slots, turns)
        spread: set[str] = set()
        for _ in range(PASSES):
            values = {piece.raw: piece for template in templates for piece in template if isinstance(piece, Removed)}
            new = {raw: values[raw] for raw in values if raw not in spread and _tells(raw)}
            if not new or (spreading := self._spread(templates, slots, new)) is templates:
                return templates
            spread |= new.keys()
            templates = spreading
        raise Unstable

    def _answer(self, templates: list[Template], slots: Sequence[Slot], turns: Sequence[tuple[str, int]]) -> None:
        """Removes values that are such for the question before them."""
        for (role, asked), (other, slot) in pairwise(turns):
            if role == other or len(templates[slot]) > 1 or not isinstance(text := templates[slot][0], str):
                continue
            answer = answer_to(slots[asked].text, text)
            if answer is not None and (removed := self._whole(*answer)):
                self._remove(templates, (slot,), answer[1], removed)

    def _join_turns(self, templates: list[Template], turns: Sequence[tuple[str, int]]) -> None:
        """Removes values whose parts are in several turns of one speaker."""
        for slots in same_speaker(turns):
            said = _said(templates, slots)
            for parts in adjacent_parts(*said) if said else ():
                if removed := self._whole(said[0][: parts.spans[0][0]][-_CONTEXT:], parts):
                    self._remove(templates, slots, parts, removed)
                    break

    def _remove(self, templates: list[Template], slots: Sequence[int], parts: Parts, removed: Removed) -> None:
        for slot, (start, end) in zip(slots, parts.spans, strict=True):
            *before, text = templates[slot] if slot == slots[0] else templates[slot][:1]
            after = () if slot == slots[0] else templates[slot][1:]
            assert isinstance(text, str)
            templates[slot] = (*before, *self._kept(text[:start]), removed, *self._kept(text[end:]), *after)

    def _kept(self, text: str) -> Sequence[str | Removed]:
        return self._redact_one(_Part(text, "", "")) if text else ()

    def _whole(self, context: str, parts: Parts) -> Removed | None:
        """The value that the parts make, if any way to write it is a finding from end to end."""
        for whole in parts.wholes:
            text = context + whole
            (findings,) = self._find({_Part(text, "", ""): self._fired([text])[text]}).values()
            for finding in findings:
                if (finding.start, finding.end) == (len(context), len(context) + len(whole)):
                    value = self._canonical(finding.entity, undisguised(whole))
                    return Removed(finding.entity, value, whole)
        return None

    def _canonical(self, entity: str, said: str) -> str:
        """What is the same in all spellings of a value."""
        if entity in self._denied:
            return spelled_alike(said)
        return canonical_value(entity, said, self._options.countries)

    def _template(self, slot: Slot, fired: int | None = None) -> Template:
        if fired == 0 and "_" not in slot.text:
            return (slot.text,)
        if fired == 0:
            return tuple(filter(None, self._placeholders.split(slot.text)))
        return self._templates_of({slot: fired})[slot]

    def _templates_of(self, slots: Mapping[Slot, int | None]) -> dict[Slot, Template]:
        """What is kept and what is removed of each slot, with what the gate says of it, where that is known."""
        parts: dict[_Part, int | None] = {}
        outlines: dict[Slot, list[_Part | str | Removed]] = {}
        names: dict[_Part, Sequence[Finding]] = {}
        for slot, fired in slots.items():
            prefix, key = as_context(slot.key), slot.key
            texts = self._placeholders.split(slot.text)
            outline = outlines[slot] = []
            for index, text in enumerate(texts):
                if index % 2:
                    outline.append(text)
                elif text:
                    part = _Part(text, key, "" if index else prefix)
                    parts[part] = fired if len(texts) == 1 and not prefix else None
                    outline.append(part)
                    if self._names is not None:
                        names[part] = self._names.found(text)
        redacted = self._redact(parts, PASSES, names)
        return {slot: tuple(_filled(outline, redacted)) for slot, outline in outlines.items()}

    def _redact(
        self, parts: Mapping[_Part, int | None], passes: int, names: Mapping[_Part, Sequence[Finding]] | None = None
    ) -> dict[_Part, Sequence[str | Removed]]:
        """Pieces of each part in which no further pass finds anything; with the parts, what the gate says where known.

        `names` are what a model found in them: models read a text once, not what is left of it. Raises Unstable.
        """
        seen = self._fired([part.prefix + part.text for part, bits in parts.items() if bits is None])
        fired = {part: seen[part.prefix + part.text] if bits is None else bits for part, bits in parts.items()}
        looked = {part: bits for part, bits in fired.items() if bits or part.key or names or not part.text.isascii()}
        outlines: dict[_Part, list[_Part | str | Removed]] = {}
        left: dict[_Part, int | None] = {}
        for part, findings in self._find(looked).items() if looked else ():
            if names:
                findings = merge_findings([*findings, *names[part]])
            if findings:
                if not passes:
                    raise Unstable
                disguised = self._may_differ(part.text, fired[part])
                outlines[part] = self._outline(part, findings, disguised, passes - 1, left)
        redacted = self._redact(left, passes - 1) if left else {}
        return {part: tuple(_filled(outlines[part], redacted)) if part in outlines else (part.text,) for part in parts}

    def _redact_one(self, part: _Part) -> Sequence[str | Removed]:
        """Pieces of what is left of a text that was looked through."""
        return self._redact({part: None}, PASSES - 1)[part]

    def _outline(
        self, part: _Part, findings: Sequence[Finding], disguised: bool, passes: int, left: dict[_Part, int | None]
    ) -> list[_Part | str | Removed]:
        """What findings make of a part: what is removed, and what is left of it.

        Of what is left short texts are looked through at once; others are put among what is `left` to look through.
        """
        text, key, prefix = part
        outline: list[_Part | str | Removed] = []
        position = 0
        the_end = Finding(len(text), len(text), "", 0.0)
        for start, end, entity, _, _ in (*findings, the_end):
            if start > position:
                kept, before = text[position:start], "" if position else prefix
                if start - position > _SHORT:
                    piece = _Part(kept, key, before)
                    left[piece] = None
                    outline.append(piece)
                else:
                    outline += self._short(kept, key, before, passes)
            if start < end:
                raw = text[start:end]
                outline.append(Removed(entity, self._canonical(entity, undisguised(raw) if disguised else raw), raw))
            position = end
        return outline

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (lives as long as its worker)
    def _short(self, text: str, key: str, prefix: str, passes: int) -> Sequence[str | Removed]:
        part = _Part(text, key, prefix)
        return self._redact({part: None}, passes)[part]

    def _find(self, parts: Mapping[_Part, int]) -> dict[_Part, list[Finding]]:
        """Findings in each part without overlaps, in order; with the parts, what the gate says of them."""
        found: dict[_Part, list[Finding]] = {}
        scanned: dict[str, int] = {}
        for part, fired in parts.items():
            text, key, prefix = part
            if self._options.secrets and key and (entity := secret_field(key, text)):
                found[part] = [Finding(0, len(text), entity, 1.0, True)]
            else:
                scanned[prefix + text] = fired
        findings = self._scan(scanned)
        for part in parts:
            if part not in found:
                found[part] = _clipped(findings[part.prefix + part.text], len(part.prefix))
        return found

    def _scan(self, texts: Mapping[str, int]) -> dict[str, list[Finding]]:
        """What is found in each text and in its shadow."""
        found = self._look(texts)
        shadows: dict[str, Shadow] = {}
        for text, fired in texts.items():
            if self._may_differ(text, fired) and (shadow := shadow_of(text)) is not None:
                shadows[text] = shadow
        if shadows:
            seen = self._look(self._fired([shadow.text for shadow in shadows.values()]))
            for text, shadow in shadows.items():
                hidden = []
                for one in seen[shadow.text]:
                    start, end = shadow.source(one.start, one.end)
                    hidden.append(one._replace(start=start, end=end))
                found[text] = _well_read(text, found[text], hidden) + hidden
        return found

    def _may_differ(self, text: str, fired: int) -> bool:
        """The text may be another than its shadow."""
        return bool(fired >> self._disguise & 1) or not text.isascii()

    def _fired(self, texts: Sequence[str]) -> dict[str, int]:
        """What the gate says of each text."""
        if self._gate is None:
            return dict.fromkeys(texts, self._all)
        fired = {text: self._fired_short(text) for text in texts if len(text) <= _SHORT}
        long = [text for text in texts if len(text) > _SHORT]
        return fired | dict(zip(long, self._gate.scan_strs(long), strict=True)) if long else fired

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (lives as long as its worker)
    def _fired_short(self, text: str) -> int:
        assert self._gate is not None
        return self._gate.scan_str(text)

    def _look(self, texts: Mapping[str, int]) -> dict[str, list[Finding]]:
        found = self._analyzer.find_all(texts)
        own, secrets = len(self._analyzer.sources), (1 << self._disguise) - 1
        for text, one in find_all_secrets({text: (fired & secrets) >> own for text, fired in texts.items()}):
            found[text].append(_before_quote(text, one))
        return found

    def _spread(self, templates: list[Template], slots: Sequence[Slot], values: dict[str, Removed]) -> list[Template]:
        """The templates with the values gone from their kept pieces too; the same list where none of them holds any."""
        digits = Digits(values.values())
        least = min(digits.least, *map(len, values))
        kept = {piece for template in templates for piece in template if isinstance(piece, str) and len(piece) >= least}
        few = len(values) <= _FEW or len(values) * (sum(map(len, kept)) + _FEW) <= _LITTLE
        if not kept or (few and not _says(kept, values, digits)):
            return templates
        finders = [
            Words(words, whole=whole, spelled=False)
            for whole, words in (
                (False, [raw for raw in values if len(raw) >= WHOLE_BELOW]),
                (True, [raw for raw in values if len(raw) < WHOLE_BELOW]),
            )
            if words
        ]
        return [
            tuple(self._without(template, slot.key, finders, digits, values))
            for template, slot in zip(templates, slots, strict=True)
        ]

    def _without(
        self, template: Template, key: str, finders: Iterable[Words], digits: Digits, values: dict[str, Removed]
    ) -> Iterator[str | Removed]:
        least = min(digits.least, *map(len, values))
        for index, piece in enumerate(template):
            if isinstance(piece, Removed) or len(piece) < least or self._placeholders.taken(piece):
                yield piece
                continue
            spans = {(start, end, values[piece[start:end]]) for finder in finders for start, end in finder.spans(piece)}
            spans.update(digits.said(piece))
            position = 0
            prefix = "" if index else as_context(key)
            for start, end, removed in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
                if start < position:
                    continue
                if start > position:
                    yield from self._redact_one(_Part(piece[position:start], key, "" if position else prefix))
                yield removed
                position = end
            if not position:
                yield piece
            elif position < len(piece):
                yield from self._redact_one(_Part(piece[position:], key, ""))


def _filled(
    outline: Iterable[_Part | str | Removed], redacted: Mapping[_Part, Sequence[str | Removed]]
) -> Iterable[str | Removed]:
    """The outline with what became of its parts."""
    if not redacted:
        return cast(list[str | Removed], outline)
    return itertools.chain.from_iterable(redacted[one] if isinstance(one, _Part) else (one,) for one in outline)


def _clipped(findings: Iterable[Finding], skip: int) -> list[Finding]:
    """Findings without overlaps, in order, by where they are after so many characters of context."""
    if skip:
        findings = [
            one._replace(start=max(one.start - skip, 0), end=one.end - skip) for one in findings if one.end > skip
        ]
    return merge_findings(findings)


def _before_quote(text: str, one: Finding) -> Finding:
    """The finding without the backslashes of a quote that follows: in JSON within a text they are the quote's."""
    if text[one.end : one.end + 1] not in _QUOTES or text[one.end - 1] != "\\":
        return one
    return one._replace(end=one.start + len(text[one.start : one.end].rstrip("\\")))


def _well_read(text: str, found: list[Finding], hidden: Sequence[Finding]) -> list[Finding]:
    r"""What is `found` in a text, less what takes its escapes for part of a value, as the shadow (`hidden`) tells.

    Of `\njane@example.com` the `n` is no part of the address. What lies within an escape is nothing. Where both find
    something and the one in the text holds an escape, the shadow is right, unless the value is in quotes.
    """
    spans = escapes(text) if found else []
    if not spans:
        return found
    ends = [end for _, end in spans]
    starts = sorted(one.start for one in hidden)
    reach = list(itertools.accumulate((one.end for one in sorted(hidden)), max))

    def misread(one: Finding) -> bool:
        place = bisect.bisect_right(ends, one.start)
        if place == len(spans) or spans[place][0] >= one.end:
            return False
        if spans[place][0] <= one.start and one.end <= spans[place][1]:
            return True
        before = bisect.bisect_left(starts, one.end)
        return before > 0 and reach[before - 1] > one.start and not _quoted(text, one)

    return [one for one in found if not misread(one)]


def _quoted(text: str, one: Finding) -> bool:
    """The finding is all that stands between two quotes, which may be escaped."""
    quote = text[one.start - 1 : one.start]
    return quote in _QUOTES and text[one.end : one.end + 4].lstrip("\\").startswith(quote)


def _said(templates: Sequence[Template], slots: Sequence[int]) -> list[str]:
    """What may hold the parts of one value: the end of the first of the slots, the beginning of the last, all of others.

    None of it where one of these is removed, or more than a part.
    """
    said: list[str] = []
    for slot in reversed(slots):
        piece = templates[slot][-1 if slot == slots[0] else 0]
        if isinstance(piece, Removed) or (slot != slots[0] and not stands_alone(piece)):
            return []
        if len(templates[slot]) > 1 and slot != slots[0]:
            if said:
                return []
            piece += "<"  # what follows is no end of a line
        said.append(piece)
    return said[::-1]


def _says(pieces: Iterable[str], values: Iterable[str], digits: Digits) -> bool:
    """A value may stand in a piece as it was spelled, or does in its digits."""
    said = "\n".join(pieces)
    return any(value in said for value in values) or digits.are_in(said)


def _tells(raw: str) -> bool:
    """A value is worth looking for elsewhere: no ordinary short word."""
    return len(raw) >= WORD_BELOW or not raw.isalpha()


def _removes(templates: Iterable[Template]) -> bool:
    return any(isinstance(piece, Removed) for template in templates for piece in template)


class _Contents(NamedTuple):
    """A row with something to redact in contents alone: their slots; role and slot of each, where they may say something
    together; what the gate said by slot.

    `unread` is what else the row says: it holds nothing, and JSON is as it would be written again.
    """

    slots: Sequence[Slot]
    turns: Sequence[tuple[str, int]]
    fired: Mapping[int, int]
    unread: Sequence[str]


class _Record:
    """The strings of a row as slots, and the row put together again from what became of them."""

    def __init__(
        self, row: Row, kept: frozenset[tuple[str, ...]], clean: Clean | None = None, read: bool = False
    ) -> None:
        self._row, self._kept = row, kept
        self._clean = clean is not None and clean.json
        self.slots: list[Slot] = []
        self.turns: list[tuple[str, int]] = []  # role, and slot of the content, of each message that has one
        json = [row[name] for name in ("tools", "metadata") if row[name]]
        self._read = read or not self._clean or any(map(_NOT_PLAIN.search, json))
        self.unread: list[str] = [] if self._read else json  # holds nothing, and is as it would be written again
        self._json_from = 0  # the first slot that lies in tools or metadata
        self._walk(self._take)
        self.fired = {} if clean is None else dict(self._contents(clean))  # of slots, by place: what the gate said
        if self._clean:
            self.fired |= dict.fromkeys(range(self._json_from, len(self.slots)), 0)

    def _contents(self, clean: Clean) -> Iterator[tuple[int, int]]:
        turns = iter(self.turns)
        for message, fired in zip(self._row["messages"] or (), clean.contents, strict=True):
            if message["content"]:
                _, slot = next(turns)
                yield slot, fired

    @property
    def canonical(self) -> bool:
        """All JSON in the row is known to be as it would be written again."""
        return self._clean and not any(message["tool_calls"] for message in self._row["messages"] or ())

    def rebuilt(self, texts: Sequence[str]) -> Row:
        """The row with the slots' texts replaced, in their order."""
        filled = iter(texts)
        return self._walk(lambda _: next(filled))

    def _take(self, slot: Slot) -> str:
        self.slots.append(slot)
        return slot.text

    def _walk_messages(self, visit: Any) -> list[Row] | None:
        first = not self.slots
        messages = []
        for message in self._row["messages"] or ():
            if first and message["content"]:
                before = bool(message["role"]) and message["role"] not in ROLES  # a slot of its own
                self.turns.append((message["role"], len(self.slots) + before))
            messages.append(_walk_message(message, visit))
        return messages if self._row["messages"] is not None else None

    def _walk(self, visit: Any) -> Row:
        messages = self._walk_messages(visit)
        self._json_from = self._json_from or len(self.slots)
        tools, metadata = self._row["tools"], self._row["metadata"]
        if self._read:
            tools = _walk_json(tools, visit, frozenset())
            metadata = _walk_json(metadata, visit, self._kept)
        return {"messages": messages, "tools": tools, "metadata": metadata}


_NOT_PLAIN = re.compile(r"\\|[0-9][eE]")  # escapes, and numbers that are read as other digits


def _walk_message(message: Row, visit: Any) -> Row:
    walked = dict(message)
    if message["role"] not in ROLES:
        walked["role"] = _walk_text(message["role"], visit)
    for name in ("content", "reasoning", "name"):
        if text := message[name]:
            walked[name] = visit(Slot(text))
    if message["tool_calls"] is not None:
        walked["tool_calls"] = [_walk_call(call, visit) for call in message["tool_calls"]]
    if text := message["tool_call_id"]:
        walked["tool_call_id"] = visit(Slot(text))
    return walked


def _walk_call(call: Row | None, visit: Any) -> Row | None:
    if call is None:
        return None
    function = call["function"]
    return {
        "id": _walk_text(call["id"], visit),
        "type": _walk_text(call["type"], visit),
        "function": function
        and {
            "name": _walk_text(function["name"], visit),
            "arguments": _walk_json(function["arguments"], visit, frozenset()),
        },
    }


def _walk_text(text: str | None, visit: Any) -> str | None:
    return visit(Slot(text)) if text else text


def _walk_json(text: str | None, visit: Any, kept: frozenset[tuple[str, ...]]) -> str | None:
    """Canonical JSON, changed or not: what the parser did not see (an earlier duplicate key) doesn't pass."""
    if not text:
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _walk_text(text, visit)
    return canonical_json(_walk_value(value, "", (), visit, kept)).decode()


def _walk_value(value: Any, key: str, path: tuple[str, ...], visit: Any, kept: frozenset[tuple[str, ...]]) -> Any:
    if path in kept and isinstance(value, str) and is_digest(value):
        return value
    if isinstance(value, str):
        return visit(Slot(value, key)) if value else value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        digits = str(int(value))
        seen = visit(Slot(digits, key))
        return value if seen == digits else seen
    if isinstance(value, list):
        path = (*path, "")  # no path leads into a list
        return [_walk_value(one, key_at(value, place, key), path, visit, kept) for place, one in enumerate(value)]
    walked: dict[str, Any] = {}
    for name, one in sorted(value.items()):
        seen = free = visit(Slot(name)) if name else name
        number = 1
        while free in walked or (free != name and free in value):
            number += 1
            free = f"{seen}_{number}"
        walked[free] = _walk_value(one, key_within(value, name, key), (*path, name), visit, kept)
    return walked


@dataclass
class RedactRecords(beam.PTransform):  # type: ignore[misc]
    """PCollection of RECORDS batches to the same, redacted; counts spans by type in metrics `redact/TYPE`."""

    options: RedactOptions
    keep_paths: tuple[str, ...] = ()

    def expand(self, records: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        return records | "Redact" >> beam.Map(_redact_counted, self.options, self.keep_paths).with_output_types(
            pa.RecordBatch
        )


def _redact_counted(records: pa.RecordBatch, options: RedactOptions, keep_paths: tuple[str, ...]) -> pa.RecordBatch:
    redacted = redact_records(records, options, keep_paths)
    for entity, spans in sorted(redacted.entities.items()):
        beam.metrics.Metrics.counter("redact", entity).inc(spans)
    return redacted.records
