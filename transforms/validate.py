"""Validate: whether a conversation is one to learn from, and every rule that it breaks.

A turn's length is in code points of its content after stripping white space, before redaction; reasoning and
tool calls are not counted. All messages are turns to `empty_turn` and `turn_too_long`, whoever speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

import transforms.coder  # noqa: F401  (registers the coder of record batches)
from transforms.options import ValidateOptions, metadata_value
from transforms.reasons import Reason
from transforms.schema import REASONS, RECORDS, ROLES

_SYSTEM, _USER, _ASSISTANT, _TOOL = (ROLES.index(role) for role in ("system", "user", "assistant", "tool"))
_CONTENT_COLUMNS = ("messages", "tools", "metadata", "group")

_Bools = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


def validate_records(records: pa.RecordBatch, options: ValidateOptions) -> pa.RecordBatch:
    """RECORDS in which a conversation that breaks rules has them as reasons, and no content any more.

    Rows that have reasons already are left as they are.
    """
    sound = np.equal(pc.list_value_length(records.column("reasons")).to_numpy(zero_copy_only=False), 0)
    if not sound.any():
        return records
    checked = records if sound.all() else records.filter(pa.array(sound))
    broken = _broken_rules(checked, options)
    places = np.flatnonzero(sound)
    unsound = {reason: places[rows] for reason, rows in broken.items() if rows.any()}
    if not unsound:
        return records
    return _with_reasons(records, unsound)


def _with_reasons(records: pa.RecordBatch, unsound: dict[Reason, _Ints]) -> pa.RecordBatch:
    """Puts reasons, in the order of `Reason`, on rows that had none, and takes their content away."""
    count = records.num_rows
    names = sorted(unsound, key=list(Reason).index)
    rows = np.concatenate([unsound[name] for name in names])
    codes = np.repeat(np.arange(len(names)), [len(unsound[name]) for name in names])
    order = np.argsort(rows, kind="stable")
    found = np.bincount(rows, minlength=count)
    offsets = np.concatenate(([0], np.cumsum(found))).astype(np.int32)
    texts = pa.array([name.value for name in names]).take(pa.array(codes[order]))
    fresh = pa.ListArray.from_arrays(pa.array(offsets), texts)
    hit = found > 0
    both = pa.concat_arrays([records.column("reasons").cast(REASONS), fresh])
    reasons = both.take(pa.array(np.where(hit, np.arange(count) + count, np.arange(count))))
    # take(), not a mask: the bytes of the content must be gone, not merely hidden behind a null.
    kept = pa.array(np.arange(count), mask=hit)
    columns = []
    for field in RECORDS:
        column = records.column(field.name)
        if field.name == "reasons":
            column = reasons
        elif field.name in _CONTENT_COLUMNS:
            column = column.take(kept)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def _broken_rules(records: pa.RecordBatch, options: ValidateOptions) -> dict[Reason, _Bools]:
    """bool[N] for each rule: the rows that break it."""
    messages = records.column("messages")
    count = len(messages)
    sizes = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(count), sizes)
    flat = messages.flatten()
    role = pc.fill_null(pc.index_in(flat.field("role"), pa.array(ROLES)), -1).to_numpy(zero_copy_only=False)
    calls = pc.fill_null(pc.list_value_length(flat.field("tool_calls")), 0).to_numpy(zero_copy_only=False) > 0
    length = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(flat.field("content"))), 0)
    length = length.to_numpy(zero_copy_only=False)

    def rows(messages: _Bools) -> _Bools:
        found = np.zeros(count, np.bool_)
        found[owner[messages]] = True
        return found

    may_be_empty = (role == _TOOL) | ((role == _ASSISTANT) & calls)
    if options.allow_empty_user:
        may_be_empty |= role == _USER
    filled = sizes > 0
    last = np.full(count, -1)
    last[filled] = role[(starts + sizes - 1)[filled]]
    broken = {
        Reason.TOO_FEW_MESSAGES: sizes < options.min_messages,
        Reason.LAST_NOT_ASSISTANT: last != _ASSISTANT,
        Reason.EMPTY_TURN: rows((length == 0) & ~may_be_empty),
        Reason.TURN_TOO_LONG: rows(length > options.max_chars),
        Reason.UNKNOWN_ROLE: rows(role < 0),
        Reason.SYSTEM_NOT_FIRST: rows((role == _SYSTEM) & (np.arange(len(role)) > starts[owner])),
        Reason.NO_USER_TURN: ~rows(role == _USER),
        Reason.ORPHAN_TOOL_RESULT: _orphaned(messages, rows(role == _TOOL)),
    }
    if options.alternate:
        broken[Reason.NOT_ALTERNATING] = rows(_out_of_turn(role, owner))
    if options.max_turns is not None:
        turns = np.bincount(owner[(role == _USER) | (role == _ASSISTANT)], minlength=count)
        broken[Reason.TOO_MANY_TURNS] = turns > options.max_turns
    if options.require:
        broken[Reason.MISSING_METADATA] = _lacking(records.column("metadata"), options.require)
    return broken


def _orphaned(messages: pa.ListArray, suspect: _Bools) -> _Bools:
    """bool[N]: whether a tool result answers no call before it. Only `suspect` rows are looked at.

    A result names its call; one that names none answers by its place, so any call before it will do.
    """
    orphaned = np.zeros(len(messages), np.bool_)
    places = np.flatnonzero(suspect)
    if not len(places):
        return orphaned
    taken = messages.take(pa.array(places))
    flat = taken.flatten()
    roles, answers = flat.field("role").to_pylist(), flat.field("tool_call_id").to_pylist()
    calls = flat.field("tool_calls")
    ids = pa.ListArray.from_arrays(*_offsets_and(calls.flatten().field("id"), calls)).to_pylist()
    start = 0
    for place, size in zip(places, pc.list_value_length(taken).to_pylist(), strict=True):
        made: set[str | None] = set()
        for index in range(start, start + size):
            answer = answers[index]
            if roles[index] == "tool" and (answer not in made if answer is not None else not made):
                orphaned[place] = True
                break
            made.update(ids[index])
        start += size
    return orphaned


def _offsets_and(values: pa.Array, lists: pa.ListArray) -> tuple[pa.Array, pa.Array]:
    """Offsets that cut flattened values as the lists are cut, null lists as empty ones."""
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)), values


def _out_of_turn(role: _Ints, owner: _Ints) -> _Bools:
    """bool[M]: messages of a user or assistant who has just spoken, and of an assistant who speaks first.

    An assistant that goes on after a tool result has not spoken twice.
    """
    out = np.zeros(len(role), np.bool_)
    for speaker, listened in ((_USER, (_USER, _ASSISTANT)), (_ASSISTANT, (_USER, _ASSISTANT, _TOOL))):
        places = np.flatnonzero(np.isin(role, listened))
        who, whose = role[places], owner[places]
        first = np.ones(len(places), np.bool_)
        first[1:] = whose[1:] != whose[:-1]
        before = np.where(first, _ASSISTANT, np.roll(who, 1))  # as if an assistant had spoken before it all
        out[places[(who == speaker) & (before == speaker)]] = True
    return out


def _lacking(metadata: pa.StringArray, paths: tuple[str, ...]) -> _Bools:
    """bool[N]: whether any of the paths has no value, or null."""
    fields = [orjson.loads(text) if text is not None else {} for text in metadata.to_pylist()]
    return np.array([any(metadata_value(one, path) is None for path in paths) for one in fields], np.bool_)


@dataclass
class ValidateRecords(beam.PTransform[Any, Any]):
    """PCollection of RECORDS batches to RECORDS batches in which broken conversations have reasons."""

    options: ValidateOptions

    def expand(self, records: PCollection[pa.RecordBatch]) -> PCollection[pa.RecordBatch]:
        validate = beam.Map(validate_records, self.options)  # type: ignore[no-untyped-call, unused-ignore]
        checked: PCollection[pa.RecordBatch] = records | "Validate" >> validate.with_output_types(pa.RecordBatch)
        return checked
