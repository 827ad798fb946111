"""Verify: everything a manifest promises, computed again from the files.

A snapshot's files may lie in the folders of many. Rows are checked a shard at a time, against the shard's JSONL
twin; who is where (in two splits, in the data but not in the lineage) by ids and groups that are dealt to a
temporary folder, so memory does not grow with the dataset. The search for look-alikes holds a sample that the
caller bounds.
"""

from __future__ import annotations

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import Config, has_surrogates
from pipeline.history import ancestors
from pipeline.members import Members, data_files, firsts, id_of_line, unhex
from pipeline.snapshots import Dataset, add_accounts, manifest_digest, total
from transforms.canonical import canonical_json, conversation_dict
from transforms.hashing import Keys, record_id
from transforms.minhash import band_hashes, band_keys, permutations, sign
from transforms.options import DedupeOptions, RedactOptions
from transforms.reasons import SPLITS, Outcome
from transforms.redact import redact_records
from transforms.schema import DATA, RECORDS
from transforms.shingles import BRIDGE, SHORT, Ragged, gram_texts, jaccard, shingle_tokens, tokenize
from transforms.sign import bodies
from transforms.surrogates import without_surrogates
from transforms.write import file_digest

Finding = str
LEAK_SHARE = 0.01  # of the looked-at val and eval records may resemble another split below the dedupe threshold, and
SPREAD = 3  # standard deviations more, of so many by chance
_KEYS = Keys("verify")  # permutations of its own: it must not be blind where the run was
_SCANNED = ["messages", "tools", "kind", "metadata"]
_IDENTIFIED = ["id", "n_redactions"]  # what is needed beside them of rows with surrogates, which have a Parquet shard
_MANIFEST_KEYS = ("snapshot", "parent", "plan", "operation", "files", "accounting", "added", "config", "config_fingerprint",
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
    findings = [*_check_history(dataset, manifest), *_check_files(dataset, manifest)]
    if findings:
        return findings
    config = manifest["config"]
    rows = sum(one["rows"] for one in manifest["files"] if one["kind"] in ("parquet", "jsonl", "lineage"))
    with Members(rows) as records, Members(rows) as groups:
        seen = _Seen(sample, records, groups)
        findings += _check_shards(dataset, manifest, seen, say)
        findings += _check_lineage(dataset, manifest, seen)
        say("checking who is where")
        findings += _check_members(seen, exact=config["dedupe"]["exact"])
    findings += _check_accounting(dataset, manifest, seen)
    if config["redact"]["enabled"]:
        findings += _check_redaction(seen, config, say)
    if config["dedupe"]["near"]:
        findings += _check_leaks(dataset, manifest, config, sample, say)
    return findings


@dataclass
class _Seen:
    """What is carried from shard to shard. Codes of `records` are places in _PLACES, those of `groups` splits."""

    sample: int | None
    records: Members
    groups: Members
    fates: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of each input's lines
    to_scan: list[pa.Table] = field(default_factory=list)
    to_scan_rows: int = 0


# Where a record may be seen: in the data and in the lineage of each split.
_PLACES = [(kind, split) for kind in ("data", "lineage") for split in SPLITS]


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


def _check_history(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """What a snapshot owes to those that it continues, as far back as they are kept."""
    line = list(ancestors(dataset, dict(manifest)))
    for child, parent in zip(line, line[1:], strict=False):
        if parent["digest"] != manifest_digest(parent):
            yield f"the manifest of snapshot {parent['snapshot']:06d} was altered: its digest does not match"
        if child["operation"] == "forget":
            continue
        before, after = _eval_digests(parent), _eval_digests(child)
        lost = sum(after.get(path) != digest for path, digest in before.items())
        if lost:
            yield (
                f"snapshot {child['snapshot']:06d} lost or changed {lost} files of eval that "
                f"{parent['snapshot']:06d} had published"
            )


def _eval_digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each data file of eval that holds records."""
    return {
        one["path"]: one["digest"]
        for one in manifest["files"]
        if one["kind"] in ("parquet", "jsonl") and one["split"] == "eval" and one["rows"]
    }


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


def _check_shards(
    dataset: Dataset, manifest: Mapping[str, Any], seen: _Seen, say: Callable[[str], None]
) -> Iterator[Finding]:
    """Every shard: rows, ids and the JSONL twin, which has the same path below `jsonl/`."""
    jsonl = {one["path"]: one for one in manifest["files"] if one["kind"] == "jsonl"}
    files = data_files(manifest)
    for number, one in enumerate(files):
        say(f"checking shard {number + 1} of {len(files)}")
        place = _PLACES.index(("data", one["split"]))
        content = dataset.storage.read(dataset.uri(one["path"]))
        if one["kind"] == "parquet":
            twin = jsonl.pop(f"jsonl/{one['path'].removeprefix('data/').removesuffix('.parquet')}.jsonl", None)
            table = pq.read_table(io.BytesIO(content))
            lines = twin and dataset.storage.read(dataset.uri(twin["path"])).split(b"\n")[:-1]
            if lines is not None and len(lines) != table.num_rows:
                yield f"{one['path']}: {table.num_rows} rows, its JSONL twin has {len(lines)}"
                lines = None
            wrong = list(_check_rows(one["path"], table, lines, ids_of_text=not has_surrogates(manifest["config"])))
            yield from wrong
            ids = table.column("id").combine_chunks() if not wrong or "id" in table.column_names else pa.array([])
        else:
            lines = content.split(b"\n")[:-1]
            ids, table = pa.array(map(id_of_line, lines), pa.string()), _table_of_lines(lines)
            jsonl.pop(one["path"])
        try:
            seen.records.add(unhex(ids), place)
        except ValueError:
            yield f"{one['path']}: ids that are not 32 hex digits"
        if set(_SCANNED) <= set(table.column_names):
            _note_rows(table, seen)
    for path in jsonl:
        yield f"{path} has no Parquet twin"


def _check_rows(name: str, table: pa.Table, lines: list[bytes] | None, *, ids_of_text: bool) -> Iterator[Finding]:
    """`ids_of_text`: ids are of what rows say; with surrogates they are of the placeholder form (`_check_redaction`)."""
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
    if wrong_ids:
        yield f"{name}: {wrong_ids} records don't have the id of what they say"
    if wrong_twins:
        yield f"{name}: {wrong_twins} rows differ from their JSONL twins"


def _check_lineage(dataset: Dataset, manifest: Mapping[str, Any], seen: _Seen) -> Iterator[Finding]:
    """Reads the lineage: counts the fates of each input's lines, and notes ids and groups of kept ones."""
    for one in manifest["files"]:
        if one["kind"] != "lineage":
            continue
        with dataset.storage.open(dataset.uri(one["path"])) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["shard", "outcome", "reasons", "id", "group"]):
                _count_fates(batch, seen)
                for split in SPLITS:
                    kept = batch.filter(pc.equal(batch.column("outcome"), split))
                    groups = kept.column("group").drop_null()
                    try:
                        seen.records.add(unhex(kept.column("id")), _PLACES.index(("lineage", split)))
                        seen.groups.add(unhex(groups), SPLITS.index(split))
                    except (ValueError, TypeError):
                        yield f"{one['path']}: ids that are not 32 hex digits"


def _count_fates(batch: pa.RecordBatch, seen: _Seen) -> None:
    reasons = [one[0] if one else "" for one in batch.column("reasons").to_pylist()]
    names = zip(batch.column("shard").to_pylist(), batch.column("outcome").to_pylist(), reasons, strict=True)
    for (shard, outcome, reason), count in Counter(names).items():
        detailed = outcome in (Outcome.QUARANTINED, Outcome.DROPPED)
        seen.fates[shard][f"{outcome}.{reason}" if detailed else outcome] += count


def _check_members(seen: _Seen, *, exact: bool) -> Iterator[Finding]:
    """Records and groups in several splits, records in the data twice, and data against lineage."""
    torn_records = torn_groups = again = 0
    astray: Counter[str] = Counter()
    for ids, codes in seen.records.partitions():
        starts = firsts(ids)
        counts = np.stack([np.add.reduceat(codes == code, starts, dtype=np.int64) for code in range(len(_PLACES))])
        data, lineage = counts[: len(SPLITS)], counts[len(SPLITS) :]
        torn_records += int(((data > 0).sum(axis=0) > 1).sum())
        again += int((data > 1).any(axis=0).sum())
        for code, split in enumerate(SPLITS):
            astray[split] += int((data[code] != lineage[code]).sum())
    for ids, codes in seen.groups.partitions():
        bits = np.bitwise_or.reduceat(1 << codes, firsts(ids))
        torn_groups += int((bits & (bits - 1) != 0).sum())
    for split in SPLITS:
        if astray[split]:
            yield f"{split}: {astray[split]} records are not where the lineage says"
    if torn_records:
        yield f"{torn_records} records are in several splits"
    if again and exact:
        yield f"{again} records are there twice"
    if torn_groups:
        yield f"{torn_groups} groups are in several splits"


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
    rows = table.select([*_SCANNED, *(name for name in _IDENTIFIED if name in table.column_names)]).slice(0, room)
    seen.to_scan.append(rows)
    seen.to_scan_rows += rows.num_rows


def _check_accounting(dataset: Dataset, manifest: Mapping[str, Any], seen: _Seen) -> Iterator[Finding]:
    """The inputs files against the lineage, line by line of each input, and against the manifest's accounts."""
    named: dict[str, Counter[str]] = defaultdict(Counter)
    accounts = []
    for uri in dataset.files(manifest, "inputs"):
        own = add_accounts(_accounts_of(pq.read_table(io.BytesIO(dataset.storage.read(uri))), named))
        accounts.append(own)
        if own["read"] != total(own):
            yield f"{uri[len(dataset.root) + 1 :]}: {own['read']} lines were read, {total(own)} accounted for"
    if add_accounts(accounts) != manifest["accounting"]:
        yield "the accounts of the inputs don't add up to those of the manifest"
    if manifest["operation"] in ("run", "refresh", "rebuild") and manifest["added"] not in accounts:
        yield "the accounts of what the snapshot took in are not those of its inputs"
    wrong = sum(+named[shard] != +seen.fates[shard] for shard in named.keys() | seen.fates.keys())
    if wrong:
        yield f"{wrong} of {len(named)} inputs have other fates in the lineage than in their accounts"


def _accounts_of(inputs: pa.Table, named: dict[str, Counter[str]]) -> Iterator[dict[str, Any]]:
    """The accounting of each input; adds its outcomes, as the lineage counts them, to `named`."""
    for row in inputs.to_pylist():
        account = {name: row[name] for name in ("read", "blank", *SPLITS, "duplicate")}
        counts = named[row["shard"]]
        counts.update({name: row[name] for name in (*SPLITS, "duplicate")})
        for name in ("quarantined", "dropped"):
            account[name] = dict(row[name])
            counts.update({f"{name}.{reason}": count for reason, count in row[name]})
        yield account


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
    if has_surrogates(config):
        wrong = 0
        for table in seen.to_scan:
            for row in table.to_pylist():
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
        if column.name in _SCANNED:
            columns.append(table.column(column.name).cast(column.type))
        elif column.name == "reasons":
            columns.append(pa.array([[]] * count, column.type))
        elif column.nullable:
            columns.append(pa.nulls(count, column.type))
        else:
            columns.append(pa.array(np.zeros(count, np.int64), column.type))
    return pa.table(columns, schema=RECORDS)


def _check_leaks(
    dataset: Dataset,
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    sample: int | None,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    """Look-alikes of val and eval records in another split, by bands of its own and exact comparison."""
    options = DedupeOptions.model_validate(config["dedupe"])
    held = _held_out(dataset, manifest, options, sample)
    if not len(held.splits):
        return
    places = [_places_of_bands(bands, silent) for bands, silent in zip(held.bands, _silent_bands(options), strict=True)]
    strong, weak = 0, set()
    for split, prints in _prints(dataset, manifest, options, SPLITS):
        for measure, (flat, owners) in enumerate(places):
            for other, mine in sorted(_meetings(prints.bands[measure], flat, owners)):
                if held.splits[other] == split:
                    continue
                in_words = len(_set(held.sets[WORDS], other)) > 0 and len(_set(prints.sets[WORDS], mine)) > 0
                if in_words != (measure == WORDS):
                    continue
                alike = jaccard(_set(held.sets[measure], other), _set(prints.sets[measure], mine))
                if alike >= options.threshold:
                    strong += 1
                elif alike >= options.leak_threshold:
                    weak.add(other)
    if strong:
        yield f"{strong} pairs across splits are near-duplicates (Jaccard at least {options.threshold:g})"
    told = (
        f"{len(weak)} of {len(held.splits)} val and eval records looked at resemble a record of another split "
        f"(Jaccard at least {options.leak_threshold:g})"
    )
    if len(weak) > most_weak(len(held.splits)):
        yield told
    elif weak:
        say(f"{told}: as many as the search is known to miss")


def most_weak(looked_at: int) -> float:
    """The most of so many held-out records that may resemble another split below the dedupe threshold.

    >>> most_weak(20) < 2, round(most_weak(451), 1), round(most_weak(1_000_000))
    (True, 10.9, 10300)
    """
    return LEAK_SHARE * looked_at + SPREAD * math.sqrt(LEAK_SHARE * looked_at)


WORDS, GRAMS = 0, 1  # what two records are compared by: their words where both have them, else their grams


class _Prints(NamedTuple):
    """Of N records the sets that they are compared by, empty where one has none, and uint64[N, bands] of each kind."""

    sets: tuple[Ragged, Ragged]
    bands: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]


class _HeldOut(NamedTuple):
    splits: list[str]
    sets: tuple[Ragged, Ragged]
    bands: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]


def _set(sets: Ragged, row: int) -> npt.NDArray[np.uint64]:
    return sets.values[sets.offsets[row] : sets.offsets[row + 1]]


def _held_out(dataset: Dataset, manifest: Mapping[str, Any], options: DedupeOptions, sample: int | None) -> _HeldOut:
    """Fingerprints of val and eval records, about half of `sample` of each at most, the newest first."""
    splits: list[str] = []
    parts: list[_Prints] = []
    for held in (Outcome.EVAL, Outcome.VAL):
        room = None if sample is None else len(splits) + sample // 2
        for split, prints in _prints(dataset, manifest, options, (held,)):
            splits += [split] * len(prints.bands[WORDS])
            parts.append(prints)
            if room is not None and len(splits) >= room:
                break
    parts = parts or [_print([], options)]
    words, grams = (_joined([part.sets[measure] for part in parts]) for measure in (WORDS, GRAMS))
    in_words, in_grams = (np.concatenate([part.bands[measure] for part in parts]) for measure in (WORDS, GRAMS))
    return _HeldOut(splits, (words, grams), (in_words, in_grams))


def _joined(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Ragged(np.concatenate(([0], np.cumsum(lengths))), np.concatenate([part.values for part in parts]))


def _prints(
    dataset: Dataset, manifest: Mapping[str, Any], options: DedupeOptions, splits: tuple[str, ...]
) -> Iterator[tuple[str, _Prints]]:
    """The split and the fingerprints of the rows of each shard, some thousand at a time."""
    files = [one for one in data_files(manifest) if one["rows"]]
    for split in splits:
        for one in files:
            if one["split"] != split:
                continue
            content = dataset.storage.read(dataset.uri(one["path"]))
            for texts in _texts(content, one["kind"]):
                yield split, _print(texts, options)


def _print(texts: Sequence[str], options: DedupeOptions) -> _Prints:
    """Short texts are compared by grams alone, long ones by words alone, those between by either."""
    tokens = [tokenize(text) for text in texts]
    words = shingle_tokens([one if len(one) >= SHORT else [] for one in tokens], options.shingle, _KEYS)
    short = [text if len(one) < BRIDGE else "" for text, one in zip(texts, tokens, strict=True)]
    grams = gram_texts(short, _KEYS)
    return _Prints((words, grams), (_bands(words, options), _bands(grams, options)))


def _bands(sets: Ragged, options: DedupeOptions) -> npt.NDArray[np.uint64]:
    signatures = sign(sets, permutations(options.num_perm, _KEYS))
    return band_hashes(signatures, band_keys(options.bands, options.rows, _KEYS))


def _silent_bands(options: DedupeOptions) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The band hashes of records that say nothing, which resemble nobody."""
    in_words, in_grams = _print([""], options).bands
    return in_words.ravel(), in_grams.ravel()


def _places_of_bands(
    bands: npt.NDArray[np.uint64], silent: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The bands of records that say something, sorted, and the row of each."""
    flat = bands.ravel()
    order = np.argsort(flat, kind="stable")
    flat, owners = flat[order], np.repeat(np.arange(len(bands)), bands.shape[1])[order]
    heard = ~np.isin(flat, silent)
    return flat[heard], owners[heard]


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
