"""Apply: human decisions on records of train and val become the next snapshot.

    {"id": "…", "decision": "keep"}                    nothing changes
    {"id": "…", "decision": "cut"}                     the record goes, and does not come back
    {"id": "…", "decision": "fix", "messages": […]}    the corrected record stands in its place, in the same split
    {"corrects": "…", "messages": […]}                 the same; in any shape that logs may have, by `transforms.shapes`

A corrected record goes through Validate, Redact and Sign like any other, has an id of its own, and says in its
metadata `corrected: true` and `replaces: <id>`. It comes in by its line of the decisions, which counts as read; the line
that the original came in by says `superseded`, and by which record. The index keeps the original, so that copies
of it in later logs are left out as `superseded`, and near-duplicates as duplicates of it.
A published record of the same split that resembles a corrected one at `dedupe.threshold` gives way to it: its line says
`duplicate`, as if the corrected record had been there first, and the index knows it no more. Those stay that a human
corrected or that the same file keeps.
All decisions are looked at before anything is written: one that can't be carried out stops them all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from pipeline.alike import find_leaks, find_near_duplicates, replaced_records
from pipeline.config import Config
from pipeline.decontaminate import hashed_benchmarks, read_benchmarks
from pipeline.errors import UsageError
from pipeline.members import id_of_line
from pipeline.refresh import told_key
from pipeline.replace import Corrected, Fallen, corrected_records, note_inputs, put_in, take_out
from pipeline.rewrite import Rewrite, is_among, read_columns
from pipeline.snapshots import Dataset
from transforms.canonical import canonical_json
from transforms.hashing import Keys, content_digest
from transforms.index import Index, parts_of
from transforms.options import DedupeOptions, ReadOptions, ValidateOptions
from transforms.parse import messages_array
from transforms.read import LineReader, WorkUnit, form_of
from transforms.reasons import SPLITS, Drop, Outcome
from transforms.redact import redact_records
from transforms.schema import LINES, RECORDS
from transforms.shapes import read_record
from transforms.sign import identify_sources, sign_records
from transforms.storage import Storage
from transforms.strict_json import Refused, loads_fast
from transforms.validate import validate_records
from transforms.write import hex_ids

MOST = 10  # findings shown

_HEX_ID = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class DecisionFile:
    """A file of decisions: its place, its stored bytes, and the digest that stands in the inputs file where it is an input that
    is taken in once."""

    path: str
    content: bytes
    digest: str = ""


@dataclass(frozen=True)
class Decision:
    """A line of the decisions."""

    file: int  # from 0
    line: int  # from 1
    where: str  # what messages say of file and line
    offset: int
    length: int
    id: str
    decision: str
    record: Mapping[str, Any]  # what a fix says, in a shape of logs


def apply_decisions(
    dataset: Dataset, files: Sequence[DecisionFile], keys: Keys, config: Config | None = None
) -> dict[str, Any]:
    """Commits a snapshot in which the decisions of files are carried out, all or none; returns what was done.

    Of decisions on one record in several files the last stands, but what is cut stays cut. `config` is needed where the
    dataset was made with deny lists, which its manifest has digests of only; no fix may hold an item of its benchmarks.
    Raises UsageError with all that can't be carried out, before anything is written.
    """
    decisions: list[Decision] = []
    wrong: list[str] = []
    for number, file in enumerate(files):
        found, misformed = parse_decisions(file, number, config.read if config else ReadOptions())
        decisions += found
        wrong += misformed
    with Rewrite(dataset, "apply", ["blake2b:" + content_digest(one.content).hex() for one in files]) as rewrite:
        return _apply(rewrite, files, decisions, wrong, keys, config)


def _apply(
    rewrite: Rewrite,
    files: Sequence[DecisionFile],
    decisions: Sequence[Decision],
    wrong: list[str],
    keys: Keys,
    config: Config | None,
) -> dict[str, Any]:
    """What was done; `wrong` is what can't be carried out of files before their decisions are looked at."""
    dataset, manifest = rewrite.dataset, rewrite.parent
    other = told_key(manifest, keys)
    if other is not None:
        message, hint = other
        raise UsageError(f"the dataset at {dataset.root} {message}", hint)
    fates = _fates(rewrite, {one.id for one in decisions})
    # What is left of a file of corrections whose other records were forgotten since is carried out.
    known = [
        one for one in decisions if one.id in fates or not (files[one.file].digest and rewrite.of_kind("suppressed"))
    ]
    unknown, decisions = len(decisions) - len(known), known
    todo, histories, unfit = _aim(decisions, fates)
    _stop(wrong + unfit)
    cuts = [one for one in todo if one.decision == "cut"]
    fixes = [one for one in todo if one.decision == "fix"]
    originals = _originals(rewrite, {one.id: fates[one.id] for one in fixes})
    signed, said, wrong = _correct(fixes, originals, manifest, keys, config)
    _stop(wrong)
    # A file that is applied again says of records what was made of them, by it or before another fix.
    new = [
        one not in histories[fix.where]
        for one, fix in zip(hex_ids(signed.column("id")).to_pylist(), fixes, strict=True)
    ]
    fixes = [fix for fix, is_new in zip(fixes, new, strict=True) if is_new]
    signed, said = (one.filter(pa.array(new, pa.bool_())) for one in (signed, said))
    todo = [*cuts, *fixes]
    splits = np.array([SPLITS.index(originals[one.id]["split"]) for one in fixes], np.int8)
    _stop(_repeats(rewrite, fixes, signed))
    _stop(_contaminated(fixes, said.column("messages"), config, keys, dataset.storage))
    dedupe = DedupeOptions.model_validate(manifest["config"]["dedupe"])
    corrected = corrected_records(signed, splits, dedupe, keys)
    kept = {one.id for one in decisions if one.decision == "keep"}
    wrong, fallen = _alike(rewrite, todo, kept, fixes, corrected, dedupe)
    _stop(wrong)
    counts = {name: sum(one.decision == name for one in decisions) for name in ("keep", "cut", "fix")}
    changes = {"kept": counts["keep"], "cut": len(cuts), "fixed": len(fixes), "gave_way": len(fallen)}
    already = counts["cut"] + counts["fix"] - len(todo)
    if todo:
        replaced = dict(zip((one.id for one in fixes), hex_ids(signed.column("id")).to_pylist(), strict=True))
        take_out(rewrite, {**{one.id: None for one in cuts}, **replaced}, fallen, keys)
        lines_of = np.array([one.file for one in fixes], np.int64)
        names = note_inputs(rewrite, files, [splits[lines_of == number] for number in range(len(files))])
        added = put_in(rewrite, corrected, [names[number] for number in lines_of]) if fixes else None
        manifest = rewrite.commit(changes, added)
    return {
        "dataset": dataset.root,
        "snapshot": manifest["snapshot"],
        "plan": manifest["plan"],
        "committed": bool(todo),
        **changes,
        "already": already,
        "unknown": unknown,
        "cost": rewrite.cost(),
    }


def read_decisions(path: str) -> DecisionFile:
    """A file of decisions that was named by hand. Raises UsageError."""
    try:
        return DecisionFile(path, Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None


def _stop(wrong: Sequence[str]) -> None:
    if wrong:
        more = f" … and {len(wrong) - MOST:,} more" if len(wrong) > MOST else ""
        raise UsageError(
            f"{len(wrong):,} decisions can't be carried out, so none was: {'; '.join(wrong[:MOST])}{more}",
            "put them right, or take them out of the file",
        )


def parse_decisions(file: DecisionFile, number: int, read: ReadOptions) -> tuple[list[Decision], list[str]]:
    """The decisions of the file of this number, packed or not, and what is wrong with lines that hold none."""
    decisions: list[Decision] = []
    wrong: list[str] = []
    seen: dict[str, int] = {}
    for line, offset, length, text, reasons in _lines(file, read):
        where = f"{file.path}, line {line}" if file.digest else f"line {line}"
        try:
            said = loads_fast(text or b"")
        except Refused as refused:
            wrong.append(f"{where}: {reasons[0] if reasons else refused.reason.value}")
            continue
        if isinstance(said, dict) and "corrects" in said:
            record = {key: value for key, value in said.items() if key != "corrects"}
            said = {"id": said["corrects"], "decision": "fix", "messages": []}
        else:
            record = {key: said[key] for key in ("messages", "tools") if key in said} if isinstance(said, dict) else {}
        finding = _misformed(said)
        if finding is None and said["id"] in seen:
            finding = f"the record was decided on in line {seen[said['id']]} already"
        if finding is not None:
            wrong.append(f"{where}: {finding}")
            continue
        seen[said["id"]] = line
        decisions.append(
            Decision(
                number,
                line,
                where,
                offset,
                length,
                said["id"],
                said["decision"],
                record,
            )
        )
    return decisions, wrong


def _lines(file: DecisionFile, read: ReadOptions) -> Iterator[tuple[Any, ...]]:
    """(line from 1, offset, length, text, reasons) of each line of a file that is not blank."""
    size = len(file.content)
    unit = WorkUnit(file.path, 0, 0, size, size, *form_of(file.path))
    for lines in LineReader(unit, io.BytesIO(file.content), read).blocks():
        for line, *rest in zip(*(lines.column(name).to_pylist() for name in LINES.names), strict=True):
            yield line + 1, *rest


def _misformed(said: Any) -> str | None:
    """Why a line is no decision."""
    if not isinstance(said, dict):
        return "not an object"
    identity = said.get("id")
    if not (isinstance(identity, str) and len(identity) == 32 and _HEX_ID.issuperset(identity)):
        return "`id` is not 32 hex digits"
    if said.get("decision") not in ("keep", "cut", "fix"):
        return "`decision` is none of keep, cut, fix"
    if said["decision"] == "fix" and not isinstance(said.get("messages"), list):
        return "a fix needs `messages`"
    return None


def _fates(rewrite: Rewrite, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Of each id that is or was published, and of what replaced it: split, group, source_id; and whether, by which record,
    it is superseded; of a near-duplicate whom it gave way to."""
    found: dict[str, dict[str, Any]] = {}
    while ids:
        found |= (more := _fates_of(rewrite, ids))
        ids = {one["kept_id"] for one in more.values() if one["superseded"] and one["kept_id"]} - found.keys()
    return found


def _fates_of(rewrite: Rewrite, ids: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["outcome", "reasons", "id", "kept_id", "group", "source_id"])
        for row in rows.filter(pa.array(is_among(rows.column("id"), ids))).to_pylist():
            superseded = row["reasons"] == [Drop.SUPERSEDED]
            gave_way = row["kept_id"] if row["reasons"] == ["near"] else None
            before = found.get(row["id"])
            if (
                row["outcome"] in SPLITS
                or (superseded and (before is None or before["gave_way"]))
                or (gave_way and not before)
            ):
                found[row["id"]] = {**row, "split": row["outcome"], "superseded": superseded, "gave_way": gave_way}
    return found


def _aim(
    decisions: Sequence[Decision], fates: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Decision], dict[str, list[str]], list[str]]:
    """The decisions to carry out, each on the record that stands for the one it names now; by where they stand, what that
    record replaced; and what can't be carried out. One on a record that was cut is done already."""
    aimed: dict[str, Decision] = {}
    histories: dict[str, list[str]] = {}
    wrong: list[str] = []
    for one in decisions:
        finding = _unfit(one, fates.get(one.id))
        if finding:
            wrong.append(finding)
            continue
        history = [one.id]
        while fates[history[-1]]["superseded"] and fates[history[-1]]["kept_id"] not in (None, *history):
            history.append(fates[history[-1]]["kept_id"])
        if fates[history[-1]]["superseded"]:
            continue
        before = aimed.get(history[-1])
        if before and before.file == one.file:
            wrong.append(f"{one.where}: the record was decided on in line {before.line} already")
        elif not before or before.decision != "cut":
            aimed[history[-1]] = replace(one, id=history[-1])
            histories[one.where] = history if len(history) > 1 else []
    todo = [one for one in aimed.values() if one.decision != "keep"]
    return sorted(todo, key=lambda one: (one.file, one.line)), histories, wrong


def _unfit(one: Decision, fate: Mapping[str, Any] | None) -> str | None:
    """Why a decision can't be carried out on its record."""
    if fate is None:
        return f"{one.where}: the dataset has no record {one.id}"
    if fate["gave_way"]:
        return f"{one.where}: {one.id} gave way to {fate['gave_way']}, which it resembles: decide on that one"
    if fate["split"] == Outcome.EVAL and one.decision != "keep":
        return f"{one.where}: {one.id} is in eval, which is frozen: its records are not corrected"
    if fate["superseded"] and one.decision == "keep":
        return f"{one.where}: {one.id} was replaced or cut before"
    return None


def _originals(rewrite: Rewrite, fates: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the dataset says of the records to correct beside their messages."""
    plain = {"tools": None, "kind": "production", "metadata": "{}"}
    originals = {one: {**plain, "split": fate["split"], "group": fate["group"]} for one, fate in fates.items()}
    for entry in rewrite.of_kind("parquet") if originals else ():
        rows = read_columns(rewrite.dataset, entry, ["id", "tools", "kind", "metadata"])
        for row in rows.filter(pa.array(is_among(rows.column("id"), originals))).to_pylist():
            originals[row["id"]].update(row)
    for entry in () if rewrite.of_kind("parquet") or not originals else rewrite.of_kind("jsonl"):
        with rewrite.dataset.storage.open(rewrite.uri(entry)) as stream:
            for line in stream:
                if (identity := id_of_line(line)) in originals:
                    tools = orjson.loads(line).get("tools")
                    originals[identity]["tools"] = canonical_json(tools).decode() if tools else None
    return originals


def _correct(
    fixes: Sequence[Decision],
    originals: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
    keys: Keys,
    config: Config | None,
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[str]]:
    """SIGNED corrected records, a row a fix; RECORDS as they were before redaction; and what is wrong with those that can't
    be used."""
    settings = manifest["config"]
    rows, wrong = [], []
    for one in fixes:
        original = originals[one.id]
        declares = one.record.get("tools") is not None or one.record.get("functions") is not None
        try:
            read = read_record(dict(one.record))
            rows.append((one, read.messages, read.tools if declares else original["tools"], original))
        except Refused as refused:
            wrong.append(f"{one.where}: {refused.reason.value}")
    group_by = settings["split"]["group_by"]
    said = validate_records(_records(rows), ValidateOptions.model_validate(settings["validate"]))
    records = identify_sources(said, keys)
    redact = _redact_options(settings, keys, config)
    records = redact_records(records, redact, keep_paths=(group_by,) if group_by else ()).records
    reasons = records.column("reasons").to_pylist()
    wrong += [f"{row[0].where}: {', '.join(why)}" for row, why in zip(rows, reasons, strict=True) if why]
    if wrong:
        return records, said, wrong
    return sign_records(records, keys, tuple(settings["dedupe"]["prefer"])), said, []


def _records(rows: Sequence[tuple[Decision, Any, Any, Mapping[str, Any]]]) -> pa.RecordBatch:
    """RECORDS of corrected records."""
    count = len(rows)
    columns: dict[str, Any] = {
        **{name: [getattr(one, name) for one, _, _, _ in rows] for name in ("line", "offset", "length")},
        "reasons": [[]] * count,
        "tools": [tools for _, _, tools, _ in rows],
        "kind": [original["kind"] for *_, original in rows],
        "metadata": [
            canonical_json({**orjson.loads(original["metadata"]), "corrected": True, "replaces": one.id}).decode()
            for one, _, _, original in rows
        ],
        "group": [bytes.fromhex(original["group"]) if original["group"] else None for *_, original in rows],
        "source_id": [None] * count,
        "n_redactions": [0] * count,
    }
    arrays = [
        messages_array([messages for _, messages, _, _ in rows])
        if field.name == "messages"
        else pa.array(columns[field.name], field.type)
        for field in RECORDS
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RECORDS)


def _redact_options(settings: Mapping[str, Any], keys: Keys, config: Config | None) -> Any:
    """How the dataset was redacted. Raises UsageError where that is not known, or another way is given."""
    if config is not None:
        if config.as_dict(keys)["redact"] != settings["redact"]:
            raise UsageError(
                "the config redacts in another way than the dataset was", "give the config that it was made with"
            )
        return config.redact
    options = Config.redact_options_of(settings)
    if len(options.custom) < len(settings["redact"]["custom"]):
        raise UsageError(
            "the dataset was made with deny lists, of which it knows digests only", "add --config CONFIG.yaml"
        )
    return options


def _repeats(rewrite: Rewrite, fixes: Sequence[Decision], signed: pa.RecordBatch) -> list[str]:
    """Corrected records that say what others say, or said."""
    wrong = []
    ids = hex_ids(signed.column("id")).to_pylist()
    known = {identity for identity, fate in _fates(rewrite, set(ids)).items() if not fate["gave_way"]}
    first: dict[str, str] = {}
    for one, identity in zip(fixes, ids, strict=True):
        if identity == one.id:
            wrong.append(f"{one.where}: the fix says what the record says already")
        elif identity in known:
            wrong.append(f"{one.where}: the fix says what record {identity} says, or said; cut instead")
        elif identity in first:
            wrong.append(f"{one.where}: the fix says the same as that of {first[identity]}; cut one")
        first.setdefault(identity, one.where)
    return wrong


def _contaminated(
    fixes: Sequence[Decision], messages: pa.ListArray, config: Config | None, keys: Keys, storage: Storage
) -> list[str]:
    """Corrected records that hold, as they were before redaction, an item of a benchmark of the config."""
    if config is None or not config.decontaminate or not fixes:
        return []
    found = hashed_benchmarks(read_benchmarks(config, storage), config, keys).search(messages).records
    return [
        f"{one.where}: the fix holds an item of a benchmark" for one, holds in zip(fixes, found, strict=True) if holds
    ]


def _alike(
    rewrite: Rewrite,
    todo: Sequence[Decision],
    kept: set[str],
    fixes: Sequence[Decision],
    corrected: Corrected,
    options: DedupeOptions,
) -> tuple[list[str], Fallen]:
    """What is wrong with corrected records that resemble one of another split; and the published ones of their own that
    give way to them, but for those `kept`."""
    if not corrected.sketches.num_rows:
        return [], {}
    index = _index(rewrite)
    replaced, by = replaced_records(index)
    gone = replaced | {one.id for one in todo}
    leaks = find_leaks(index, corrected.sketches, gone, options.leak_threshold)
    if leaks:
        ids = hex_ids(corrected.signed.column("id")).to_pylist()
        wrong = [
            f"{one.where}: the fix resembles {leaks[identity]}, so it can't stay in its split"
            for identity, one in zip(ids, fixes, strict=True)
            if identity in leaks
        ]
        return wrong, {}
    spared = gone | by | kept
    return [], find_near_duplicates(index, corrected.bands, corrected.sketches, spared, options.threshold)


def _index(rewrite: Rewrite) -> Index:
    paths = [one["path"] for one in rewrite.of_kind("index")]
    return Index(rewrite.dataset.storage, rewrite.dataset.root, parts_of(paths))
