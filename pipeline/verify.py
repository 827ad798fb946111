"""Verify: everything a manifest promises, computed again from the files.

Shards of one index hold one range of shuffle keys in every split and in the lineage, so what must hold
between splits is checked a range at a time, in memory that does not grow with the dataset. What needs more
(groups, look-alikes) holds digests only, or a sample that the caller bounds.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Config
from pipeline.snapshots import Dataset, add_accounts, manifest_digest, total
from transforms.canonical import canonical_json, conversation_dict
from transforms.hashing import Keys, record_id
from transforms.minhash import band_hashes, permutations, sign
from transforms.options import DedupeOptions, RedactOptions
from transforms.reasons import SPLITS, Outcome
from transforms.redact import redact_records
from transforms.schema import DATA, LINEAGE, RECORDS
from transforms.shingles import Ragged, jaccard, shingle_texts
from transforms.sign import bodies
from transforms.surrogates import without_surrogates
from transforms.write import file_digest

Finding = str
LEAK_SHARE = 0.01  # of the looked-at val and eval records may resemble another split below the dedupe threshold
_KEYS = Keys("verify")  # permutations of its own: it must not be blind where the run was
_MANIFEST_KEYS = ("snapshot", "parent", "plan", "operation", "files", "accounting", "config", "config_fingerprint",
                  "versions", "schema_version", "key_check", "digest")  # fmt: skip


def verify_dataset(dataset: Dataset, sample: int | None, say: Callable[[str], None]) -> list[Finding]:
    """What is wrong with the newest snapshot, a sentence each; empty where all is right.

    `sample` bounds the records that are scanned again for personal data and for look-alikes; None for all.
    """
    manifest = dataset.manifest()
    findings = list(_check_manifest(dataset, manifest))
    if findings:
        return findings
    dataset.derive()
    findings = list(_check_files(dataset, manifest))
    if findings:
        return findings
    config = manifest["config"]
    seen = _Seen(sample)
    for index, shards in _by_index(manifest):
        say(f"checking shard {index + 1} of {shards['count']}")
        findings += _check_range(dataset, shards, seen, ids_of_text=not _has_surrogates(config))
    findings += _check_groups(seen)
    findings += _check_accounting(dataset, manifest, seen)
    if config["redact"]["enabled"]:
        findings += _check_redaction(seen, config, say)
    if config["dedupe"]["near"]:
        findings += _check_leaks(dataset, manifest, config, sample)
    return findings


@dataclass
class _Seen:
    """What is carried from range to range."""

    sample: int | None
    outcomes: Counter[str] = field(default_factory=Counter)
    groups: dict[str, str] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)
    to_scan: list[pa.Table] = field(default_factory=list)
    to_scan_rows: int = 0


def _check_manifest(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    missing = [key for key in _MANIFEST_KEYS if key not in manifest]
    if missing:
        yield f"the manifest lacks {', '.join(missing)}"
        return
    if manifest["digest"] != manifest_digest(manifest):
        yield "the manifest was altered: its digest does not match"
    if manifest["snapshot"] != dataset.latest():
        yield "the manifest's number is not that of its file"
    if manifest["config_fingerprint"] != Config.fingerprint_of(manifest["config"]):
        yield "the config in the manifest does not match its fingerprint"
    if manifest["accounting"]["read"] != total(manifest["accounting"]):
        yield f"the accounts don't balance: {manifest['accounting']['read']} read, {total(manifest['accounting'])} accounted for"
    for split in SPLITS:
        for kind in ("parquet", "jsonl"):
            rows = [one["rows"] for one in manifest["files"] if one["kind"] == kind and one.get("split") == split]
            if rows and sum(rows) != manifest["accounting"][split]:
                yield f"the {kind} files of {split} hold {sum(rows)} rows, the accounts say {manifest['accounting'][split]}"


def _check_files(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    for one in manifest["files"]:
        uri = dataset.uri(one["path"])
        try:
            with dataset.storage.open(uri) as content:
                digest = file_digest(content)
        except FileNotFoundError:
            yield f"{one['path']} is missing"
            continue
        if digest != one["digest"]:
            yield f"{one['path']} was altered: its digest does not match the manifest"


def _by_index(manifest: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The files of each shard index: {(kind, split): path}."""
    shards: dict[int, dict[Any, Any]] = defaultdict(dict)
    for one in manifest["files"]:
        if one["kind"] in ("parquet", "jsonl", "lineage"):
            index, _, count = one["path"].rsplit("/", 1)[1].split(".")[0].rsplit("-", 3)[1:]
            shards[int(index)][one["kind"], one.get("split")] = one
            shards[int(index)]["count"] = int(count)
    yield from sorted(shards.items())


def _has_surrogates(config: Mapping[str, Any]) -> bool:
    redact = config["redact"]
    return bool(redact["enabled"]) and redact.get("replace") == "surrogate"


def _check_range(dataset: Dataset, shards: Mapping[Any, Any], seen: _Seen, *, ids_of_text: bool) -> Iterator[Finding]:
    """One range of keys: rows, ids, twins, and lineage against data.

    `ids_of_text`: ids are of what the rows say; with surrogates they are of the placeholder form, see `_check_redaction`.
    """
    fates = _lineage_ids(dataset, shards, seen)
    ids: Counter[str] = Counter()
    for split in SPLITS:
        here: set[str] = set()
        table = _rows(dataset, shards, "parquet", split)
        lines = _rows(dataset, shards, "jsonl", split)
        name = (shards.get(("parquet", split)) or shards[("jsonl", split)])["path"]
        if table is not None:
            if lines is not None and len(lines) != table.num_rows:
                yield f"{name}: {table.num_rows} rows, its JSONL twin has {len(lines)}"
                lines = None
            yield from _check_rows(name, table, lines, here, ids_of_text=ids_of_text)
            _note_rows(table, seen)
        else:
            here = {_id_of_line(line) for line in lines or ()}
            _note_rows(_table_of_lines(lines or []), seen)
        ids.update(here)
        if here != fates[split]:
            yield f"{name}: {len(here ^ fates[split])} records are not where the lineage says"
    twice = sum(count > 1 for count in ids.values())
    if twice:
        yield f"{twice} records are in several splits"


def _rows(dataset: Dataset, shards: Mapping[Any, Any], kind: str, split: str) -> Any:
    """The table of a Parquet shard, the lines of a JSONL shard, or None where there is none."""
    entry = shards.get((kind, split))
    if entry is None:
        return None
    content = dataset.storage.read(dataset.uri(entry["path"]))
    return pq.read_table(io.BytesIO(content)) if kind == "parquet" else content.split(b"\n")[:-1]


def _check_rows(
    name: str, table: pa.Table, lines: list[bytes] | None, here: set[str], *, ids_of_text: bool
) -> Iterator[Finding]:
    if table.schema.names != DATA.names:
        yield f"{name}: other columns than this version writes"
        return
    wrong_ids = wrong_twins = 0
    for place, row in enumerate(table.select(["id", "messages", "tools"]).to_pylist()):
        said = canonical_json(conversation_dict(row["messages"], row["tools"], weight=False))
        if ids_of_text and record_id(said).hex() != row["id"]:
            wrong_ids += 1
        if lines is not None and lines[place] != canonical_json(
            conversation_dict(row["messages"], row["tools"], weight=True)
        ):
            wrong_twins += 1
        here.add(row["id"])
    if wrong_ids:
        yield f"{name}: {wrong_ids} records don't have the id of what they say"
    if wrong_twins:
        yield f"{name}: {wrong_twins} rows differ from their JSONL twins"
    if len(here) != table.num_rows:
        yield f"{name}: {table.num_rows - len(here)} records are there twice"


def _id_of_line(line: bytes) -> str:
    """The id of a JSONL line: that of the line without weights."""
    said = orjson.loads(line)
    for message in said["messages"]:
        message.pop("weight", None)
    return record_id(canonical_json(said)).hex()


def _lineage_ids(dataset: Dataset, shards: Mapping[Any, Any], seen: _Seen) -> dict[str, set[str]]:
    """Ids by split as the lineage has them; counts all outcomes."""
    table = _rows(dataset, {("parquet", "lineage"): shards[("lineage", None)]}, "parquet", "lineage")
    table = table.cast(LINEAGE)
    fates: dict[str, set[str]] = {split: set() for split in SPLITS}
    for outcome, reasons, one, group in zip(
        *(table.column(name).to_pylist() for name in ("outcome", "reasons", "id", "group")), strict=True
    ):
        detailed = outcome in (Outcome.QUARANTINED, Outcome.DROPPED)
        seen.outcomes[f"{outcome}.{reasons[0]}" if detailed else outcome] += 1
        if outcome in fates:
            fates[outcome].add(one)
            if group is not None and seen.groups.setdefault(group, outcome) != outcome:
                seen.torn.add(group)
    return fates


def _table_of_lines(lines: list[bytes]) -> pa.Table:
    """What JSONL lines hold of the columns that are scanned again."""
    said = [orjson.loads(line) for line in lines]
    tools = [canonical_json(one["tools"]).decode() if "tools" in one else None for one in said]
    columns = {
        "messages": pa.array([one["messages"] for one in said], DATA.field("messages").type),
        "tools": pa.array(tools, pa.string()),
        "kind": pa.array(["production"] * len(said), pa.string()),
        "metadata": pa.array(["{}"] * len(said), pa.string()),
    }
    return pa.table(columns)


def _note_rows(table: pa.Table, seen: _Seen) -> None:
    """Remembers rows to scan again."""
    room = None if seen.sample is None else seen.sample - seen.to_scan_rows
    rows = table.slice(0, room)
    seen.to_scan.append(rows)
    seen.to_scan_rows += rows.num_rows


def _check_groups(seen: _Seen) -> Iterator[Finding]:
    if seen.torn:
        yield f"{len(seen.torn)} groups are in several splits"


def _check_accounting(dataset: Dataset, manifest: Mapping[str, Any], seen: _Seen) -> Iterator[Finding]:
    """The lineage and the inputs file against the manifest's accounts."""
    accounting = manifest["accounting"]
    expected = Counter({name: accounting[name] for name in (*SPLITS, "duplicate") if accounting[name]})
    for name in ("quarantined", "dropped"):
        expected.update({f"{name}.{reason}": count for reason, count in accounting[name].items()})
    for outcome in sorted(expected.keys() | seen.outcomes.keys()):
        if expected[outcome] != seen.outcomes[outcome]:
            yield f"{outcome}: {expected[outcome]} in the accounts, {seen.outcomes[outcome]} in the lineage"
    (uri,) = dataset.files(manifest, "inputs")
    rows = pq.read_table(io.BytesIO(dataset.storage.read(uri))).to_pylist()
    names = tuple(add_accounts([]))
    summed = add_accounts(
        {name: dict(row[name]) if isinstance(row[name], list) else row[name] for name in names} for row in rows
    )
    if summed != accounting:
        yield "the accounts of the inputs don't add up to those of the manifest"


def _check_redaction(seen: _Seen, config: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[Finding]:
    """A new scan of kept rows: redaction must find nothing left."""
    options = Config.redact_options_of(config)
    if len(options.custom) < len(config["redact"]["custom"]):
        say("deny lists stand in the manifest as digests: they are not scanned for again")
    if options.model is not None:
        say("names and addresses are not looked for again: a model reads a text once")
        options = options.model_copy(update={"model": None})
    say(f"scanning {seen.to_scan_rows:,} records for personal data")
    group_by = config["split"]["group_by"]
    found: Counter[str] = Counter()
    if _has_surrogates(config):
        wrong = 0
        for table in seen.to_scan:
            for row in table.select(["id", "messages", "tools", "metadata", "n_redactions"]).to_pylist():
                wrong += _check_surrogates(row, options, (group_by,) if group_by else (), found)
        if wrong:
            yield f"{wrong} records don't have the id of their placeholder form"
        seen.to_scan.clear()
    for table in seen.to_scan:
        for batch in _records(table).to_batches(max_chunksize=1000):
            found.update(redact_records(batch, options, keep_paths=(group_by,) if group_by else ()).entities)
    if found:
        kinds = ", ".join(f"{entity} {count}" for entity, count in sorted(found.items()))
        yield f"personal data or secrets are left: {kinds}"


def _check_surrogates(row: dict[str, Any], options: RedactOptions, keep: tuple[str, ...], found: Counter[str]) -> bool:
    """Whether a row's id is not that of its placeholder form; counts in `found` what is no surrogate."""
    said, strangers = without_surrogates(row, options, keep)
    found.update(strangers)
    line = canonical_json(conversation_dict(said["messages"], said["tools"], weight=False))
    return bool(record_id(line).hex() != row["id"])


def _records(table: pa.Table) -> pa.Table:
    """RECORDS of rows of `data/`, places and groups left out."""
    count = table.num_rows
    columns: list[Any] = []
    for column in RECORDS:
        if column.name in ("messages", "tools", "kind", "metadata"):
            columns.append(table.column(column.name).cast(column.type))
        elif column.name == "reasons":
            columns.append(pa.array([[]] * count, column.type))
        elif column.nullable:
            columns.append(pa.nulls(count, column.type))
        else:
            columns.append(pa.array(np.zeros(count, np.int64), column.type))
    return pa.table(columns, schema=RECORDS)


def _check_leaks(
    dataset: Dataset, manifest: Mapping[str, Any], config: Mapping[str, Any], sample: int | None
) -> Iterator[Finding]:
    """Look-alikes of val and eval records in another split, by bands of its own and exact comparison."""
    options = DedupeOptions.model_validate(config["dedupe"])
    held = _held_out(dataset, manifest, options, sample)
    if not len(held.splits):
        return
    flat = held.bands.ravel()
    order = np.argsort(flat, kind="stable")
    flat, owners = flat[order], np.repeat(np.arange(len(held.splits)), held.bands.shape[1])[order]
    silent = np.isin(flat, _silent_bands(options))
    flat, owners = flat[~silent], owners[~silent]
    strong, weak = 0, set()
    for split, shingles, bands in _prints(dataset, manifest, options, SPLITS):
        for other, mine in sorted(_meetings(bands, flat, owners)):
            if held.splits[other] == split:
                continue
            alike = jaccard(
                held.shingles.values[held.shingles.offsets[other] : held.shingles.offsets[other + 1]],
                shingles.values[shingles.offsets[mine] : shingles.offsets[mine + 1]],
            )
            if alike >= options.threshold:
                strong += 1
            elif alike >= options.leak_threshold:
                weak.add(other)
    if strong:
        yield f"{strong} pairs across splits are near-duplicates (Jaccard at least {options.threshold:g})"
    if len(weak) > LEAK_SHARE * len(held.splits):
        yield (
            f"{len(weak)} of {len(held.splits)} val and eval records looked at resemble a record of another split "
            f"(Jaccard at least {options.leak_threshold:g})"
        )


@dataclass
class _HeldOut:
    splits: list[str]
    shingles: Ragged
    bands: npt.NDArray[np.uint64]


def _held_out(dataset: Dataset, manifest: Mapping[str, Any], options: DedupeOptions, sample: int | None) -> _HeldOut:
    """Fingerprints of val and eval records, `sample` at most."""
    splits: list[str] = []
    parts: list[Ragged] = []
    bands = []
    for split, shingles, hashes in _prints(dataset, manifest, options, (Outcome.EVAL, Outcome.VAL)):
        splits += [split] * len(hashes)
        parts.append(shingles)
        bands.append(hashes)
        if sample is not None and len(splits) >= sample:
            break
    if not parts:
        return _HeldOut(
            [], Ragged(np.zeros(1, np.int64), np.empty(0, np.uint64)), np.empty((0, options.bands), np.uint64)
        )
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return _HeldOut(splits, Ragged(offsets, np.concatenate([part.values for part in parts])), np.concatenate(bands))


def _prints(
    dataset: Dataset, manifest: Mapping[str, Any], options: DedupeOptions, splits: tuple[str, ...]
) -> Iterator[tuple[str, Ragged, npt.NDArray[np.uint64]]]:
    """(split, shingles, bands) of the rows of each shard."""
    kind = "parquet" if any(one["kind"] == "parquet" for one in manifest["files"]) else "jsonl"
    permuted = permutations(options.num_perm, _KEYS)
    for split in splits:
        for one in manifest["files"]:
            if one["kind"] != kind or one.get("split") != split or not one["rows"]:
                continue
            content = dataset.storage.read(dataset.uri(one["path"]))
            for texts in _texts(content, kind):
                shingles = shingle_texts(texts, options.shingle, _KEYS)
                yield split, shingles, band_hashes(sign(shingles, permuted), options.bands, options.rows, _KEYS)


def _silent_bands(options: DedupeOptions) -> npt.NDArray[np.uint64]:
    """The band hashes of records that say nothing, which resemble nobody."""
    nothing = sign(Ragged(np.zeros(2, np.int64), np.empty(0, np.uint64)), permutations(options.num_perm, _KEYS))
    return band_hashes(nothing, options.bands, options.rows, _KEYS).ravel()


def _texts(content: bytes, kind: str) -> Iterator[list[str]]:
    """The message bodies of a shard, some thousand at a time."""
    if kind == "parquet":
        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=4096, columns=["messages"]):
            yield bodies(batch.column("messages").cast(DATA.field("messages").type))
    else:
        lines = content.split(b"\n")[:-1]
        for start in range(0, len(lines), 4096):
            said = [orjson.loads(line)["messages"] for line in lines[start : start + 4096]]
            yield bodies(pa.array(said, DATA.field("messages").type))


def _meetings(
    bands: npt.NDArray[np.uint64], flat: npt.NDArray[np.uint64], owners: npt.NDArray[np.int64]
) -> set[tuple[int, int]]:
    """(held-out record, record) that share a band."""
    met: set[tuple[int, int]] = set()
    mine = bands.ravel()
    first, last = np.searchsorted(flat, mine, "left"), np.searchsorted(flat, mine, "right")
    for place in np.flatnonzero(last > first).tolist():
        for other in owners[first[place] : last[place]].tolist():
            met.add((int(other), place // bands.shape[1]))
    return met
