"""Forget: removes people from every split, the index, the lineage and the report, and keeps them out.

The next snapshot holds nothing of them: their records are gone, their lines in the lineage say `forgotten` and name
nobody, and other people's duplicates of a record that went name no record any more (`kept_id` is null). The list of
forgotten groups, as keyed digests, is a file of the snapshot that every later run obeys. What older snapshots hold
goes with them: `corpusmill expire`.

Of eval and val keyed digests of ids stay too, so that exact copies by others come into no split (of val only where the
dataset's key is there: without it people are forgotten all the same). Sketches and bands don't: who has
the key could confirm with them a guess at what was said. So near-copies by others are not known any more.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.expire import remove_uncommitted
from pipeline.history import kept_snapshots
from pipeline.refresh import told_key
from pipeline.rewrite import Entry, Rewrite, is_among, line_digests, read_columns
from pipeline.shared_refs import bands_of, index_rows, sharing_refs
from pipeline.snapshots import Dataset
from transforms.bands import BANDS
from transforms.canonical import canonical_json
from transforms.hashing import Keys
from transforms.index import without
from transforms.reasons import SPLITS, Drop, Outcome
from transforms.schema import LINEAGE
from transforms.storage import join
from transforms.strict_json import Refused, loads_fast

# Lists of what is forgotten, by the kind of their file: groups, and the keyed digests of records, whose copies by others would
# come into another split: of those in eval or val they are left out, of those in train they go to train.
SUPPRESSED = {
    kind: pa.schema([pa.field(name, pa.binary(16), nullable=False)])
    for kind, name in (("suppressed", "group"), ("suppressed_records", "record"), ("suppressed_trained", "trained"))
}

# What a certificate says that the command can't do.
_OUTSIDE = "exports, other copies and the logs themselves"
_NEAR_COPIES = (
    "what others will say nearly as a forgotten record of eval or val did: it may come into train, as only exact copies, and "
    "near ones that had come before, can be known without keeping what was said"
)

_HEX_ID = re.compile(r"[0-9a-f]{32}")
_ANY_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass
class Gone:
    """What goes: hex digests of groups, ids of their records, and source ids of their lines."""

    groups: set[str]
    ids: set[str] = field(default_factory=set)
    # Ids and source ids of what was in each split, and of others' near-duplicates of it.
    said: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    sources: set[str] = field(default_factory=set)
    lines: Counter[str] = field(default_factory=Counter)  # by group
    others: pa.Table = field(
        default_factory=BANDS.empty_table
    )  # bands of records that stay and share a ref with one that goes

    def all(self) -> set[str]:
        return self.groups | self.ids | self.sources


def groups_of(value: str, keys: Keys) -> list[str]:
    """The digests that a group given on the command line may have; more than one where it can be read in two ways.

    `42` may stand in the logs as a number or as a string, 32 hex digits may be a digest or somebody's id: a person
    is forgotten under every reading. JSON quotes mean the string alone.
    """
    readings: list[bytes] = []
    try:
        parsed = loads_fast(value.encode())
    except (Refused, UnicodeEncodeError):
        parsed = None
    if not isinstance(parsed, str):
        readings.append(canonical_json(value))
    if parsed is not None:
        readings.append(canonical_json(parsed))
    digests = [keys.group(raw).hex() for raw in readings]
    return [*digests, value] if _HEX_ID.fullmatch(value) else digests


def forget_groups(dataset: Dataset, given: Sequence[str], keys: Keys) -> dict[str, Any]:
    """Commits a snapshot without the records of groups; returns the certificate.

    `given` are raw values as in the logs, or digests as in the data files. Where nothing of them is left and they
    are suppressed already nothing is committed, but searched all the same. Raises UsageError, OvertakenError.
    """
    manifest = dataset.manifest()
    if manifest["config"]["split"]["group_by"] is None:
        raise UsageError(
            "the dataset was made without split.group_by, so it does not know whose a record is",
            "make it anew with --set split.group_by=metadata.KEY; or remove records one by one: corpusmill apply, with cut",
        )
    values = list(dict.fromkeys(value for value in given if value))
    if not values:
        raise UsageError("no group is given", "add --group ID, or --group-file FILE with one a line")
    readings = _readings(values, manifest, keys)
    wanted = sorted({digest for digests in readings for digest in digests})
    with Rewrite(dataset, "forget", wanted) as rewrite:
        return _forget(rewrite, readings, wanted, keys)


def _forget(rewrite: Rewrite, readings: Sequence[Sequence[str]], wanted: Sequence[str], keys: Keys) -> dict[str, Any]:
    """The certificate; `readings` are the digests of each value given, `wanted` all of them."""
    dataset, manifest = rewrite.dataset, rewrite.parent
    gone = find_lines(rewrite, set(wanted))
    if manifest["key_check"] != keys.check and not all(gone.lines[one] for one in wanted):
        raise _other_key(dataset)
    if gone.said[Outcome.EVAL] and manifest["key_check"] != keys.check:
        raise _other_key(dataset)
    others = sharing_refs(rewrite, gone.ids)
    if others and manifest["key_check"] != keys.check:
        raise _other_key(dataset)
    gone.others = bands_of(rewrite, others, keys)
    suppressed = {one.hex() for one in _suppressed(rewrite, "suppressed")}
    removed = _remove(rewrite, gone)
    fresh = set(wanted) - suppressed
    if rewrite.copied or fresh:
        _suppress(rewrite, "suppressed", {bytes.fromhex(one) for one in wanted})
        if manifest["key_check"] == keys.check:
            held_out = gone.said[Outcome.EVAL] | gone.said[Outcome.VAL]
            trained = gone.said[Outcome.TRAIN] - held_out
            for kind, said in (("suppressed_records", held_out), ("suppressed_trained", trained)):
                _suppress(rewrite, kind, {keys.value(bytes.fromhex(one)) for one in said})
        found = search_files(rewrite, gone)
        changes = {
            "groups": sum(gone.lines[one] > 0 for one in wanted),
            "lines": sum(gone.lines.values()),
            **{f"records_{split}": removed["records"].get(split, 0) for split in SPLITS},
            "suppressed_groups": len(suppressed | set(wanted)),
        }
        manifest = rewrite.commit(changes, scrub=lambda report: scrub_values(report, gone.all()) or {})
        found["files"] += _search_texts(dataset, manifest, gone)
    else:
        found = search_files(rewrite, gone)
    trial = dataset.storage.exists(dataset.uri("trial"))
    dataset.storage.remove(dataset.uri("trial"))  # a sample of the same logs, which the next trial replaces anyway
    uncommitted = remove_uncommitted(dataset)  # a gate may have set records of theirs aside
    strange = {
        number: set(digests)
        for number, digests in enumerate(readings, 1)
        if not any(gone.lines[digest] for digest in digests) and not suppressed & set(digests)
    }
    elsewhere = _kept_elsewhere(rewrite, set().union(*strange.values()))
    older = [number for number, digests in strange.items() if any(digests & there for there in elsewhere.values())]
    return {
        "dataset": dataset.root,
        "snapshot": manifest["snapshot"],
        "plan": manifest["plan"],
        "committed": manifest["plan"] == rewrite.plan,
        "given": len(readings),
        "unknown": [number for number in strange if number not in older],
        "only_in_older": {"given": older, "snapshots": list(elsewhere)},
        "groups": [digest for digest in wanted if gone.lines[digest]],
        "suppressed": len(suppressed | set(wanted)),
        "removed": removed,
        "trial_removed": trial,
        "uncommitted_removed": uncommitted,
        "search": found,
        "cost": rewrite.cost(),
        "older_snapshots": [number for number in dataset.numbers() if number < manifest["snapshot"]],
        "out_of_reach": [_OUTSIDE, *([_NEAR_COPIES] if gone.said[Outcome.EVAL] | gone.said[Outcome.VAL] else [])],
    }


def _readings(values: Sequence[str], manifest: Mapping[str, Any], keys: Keys) -> list[list[str]]:
    """The digests of each value; with another key than the dataset's only digests are understood."""
    if manifest["key_check"] == keys.check:
        return [groups_of(value, keys) for value in values]
    if not all(_HEX_ID.fullmatch(value) for value in values):
        how, hint = told_key(manifest, keys) or ("", "")
        raise UsageError(
            f"the dataset {how}: raw groups can't be looked up",
            f"{hint}; or give the groups' digests as the data files show them",
        )
    return [[value] for value in values]


def _other_key(dataset: Dataset) -> UsageError:
    return UsageError(
        f"some of the groups are no digests that {dataset.root} knows, and without its secret key (CORPUSMILL_KEY) "
        "they can't be looked up as raw values",
        "set the key that it was made with",
    )


def _kept_elsewhere(rewrite: Rewrite, groups: set[str]) -> dict[int, set[str]]:
    """Those of the groups that kept snapshots hold lines of in files that the newest does not list, by their numbers: what was
    rolled back, or left out by a rebuild."""
    dataset = rewrite.dataset
    seen = {one["path"] for one in rewrite.parent["files"]}
    found: dict[int, set[str]] = {}
    for number, manifest in kept_snapshots(dataset).items() if groups else ():
        for entry in manifest["files"]:
            if entry["kind"] == "lineage" and entry["path"] not in seen:
                with contextlib.suppress(UsageError):  # another process expires it
                    there = groups.intersection(read_columns(dataset, entry, ["group"]).column("group").to_pylist())
                    if there:
                        found.setdefault(number, set()).update(there)
    return found


def find_lines(rewrite: Rewrite, groups: set[str]) -> Gone:
    """What the lineage knows of groups."""
    gone, split_of = Gone(groups), dict[str, str]()
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["outcome", "reasons", "id", "source_id", "group"])
        for row in rows.filter(pa.array(is_among(rows.column("group"), groups))).to_pylist():
            gone.lines[row["group"]] += 1
            # Copies of another's record share its id and source, and that record stays.
            if row["outcome"] in SPLITS or row["reasons"] == [Drop.SUPERSEDED]:
                sources = [row["source_id"]] if row["source_id"] else []
                gone.ids.add(row["id"])
                gone.sources.update(sources)
                if row["outcome"] in SPLITS:  # by its source too: redacted otherwise it would have another id
                    split_of[row["id"]] = row["outcome"]
                    gone.said[row["outcome"]].update([row["id"], *sources])
    # Some near-duplicates were published until they gave way to a correction.
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["outcome", "id", "source_id", "group", "kept_id"])
        near = is_among(rows.column("kept_id"), set(split_of)) & is_among(rows.column("outcome"), [Outcome.DUPLICATE])
        for row in rows.filter(pa.array(near & ~is_among(rows.column("group"), groups))).to_pylist():
            gone.said[split_of[row["kept_id"]]].update(one for one in (row["id"], row["source_id"]) if one)
    return gone


def _remove(rewrite: Rewrite, gone: Gone) -> dict[str, Any]:
    """Copies every file that holds something of the groups without it; returns what went."""
    records: Counter[str] = Counter()
    index: Counter[str] = Counter()
    references = 0
    for split in SPLITS:
        for parquet, jsonl in list(rewrite.twins(split)):
            stays = rewrite.rows_left(parquet, jsonl, gone.ids, gone.groups)
            if stays is not None:
                records[split] += int((~stays).sum())
                rewrite.copy_records(parquet, jsonl, stays)
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["group", "kept_id"])
        mine = is_among(rows.column("group"), gone.groups)
        theirs = is_among(rows.column("kept_id"), gone.ids) & ~mine
        references += int(theirs.sum())
        if mine.any() or theirs.any():
            rewrite.copy_lineage(entry, lambda table: forget_lines(table, gone))
    for entry in rewrite.of_kind("index"):
        kind, rows, left = _index_rows(rewrite, entry, gone)
        if left.num_rows < rows.num_rows:
            index[kind] += rows.num_rows - left.num_rows
            rewrite.copy_index(entry, left)
    return {
        "records": {split: records[split] for split in SPLITS},
        "lines": sum(gone.lines.values()),
        "references": references,
        "index_rows": dict(sorted(index.items())),
    }


def forget_lines(rows: pa.Table, gone: Gone) -> pa.Table:
    """LINEAGE in which lines of the groups say `forgotten` and name nobody, and no line names a record that went."""
    mine = is_among(rows.column("group"), gone.groups)
    theirs = is_among(rows.column("kept_id"), gone.ids)
    # take(), not a mask over the old values: what goes must not lie on behind a null.
    left = pa.array(np.arange(rows.num_rows), mask=mine)
    columns: dict[str, Any] = {
        name: rows.column(name).take(left) for name in ("id", "source_id", "group", "similarity")
    }
    columns["kept_id"] = rows.column("kept_id").take(pa.array(np.arange(rows.num_rows), mask=mine | theirs))
    columns["outcome"] = pc.if_else(pa.array(mine), str(Outcome.DROPPED), rows.column("outcome"))
    columns["reasons"] = pa.array(
        [[str(Drop.FORGOTTEN)] if one else reasons for one, reasons in zip(mine, rows.column("reasons").to_pylist(), strict=True)],
        LINEAGE.field("reasons").type,
    )  # fmt: skip
    return pa.table([columns.get(name, rows.column(name)) for name in LINEAGE.names], schema=LINEAGE)


def _index_rows(rewrite: Rewrite, entry: Entry, gone: Gone) -> tuple[str, pa.Table, pa.Table]:
    """(kind, rows, rows that stay) of a part of the index."""
    kind, rows = index_rows(rewrite, entry)
    ids, groups, sources = ([bytes.fromhex(one) for one in some] for some in (gone.ids, gone.groups, gone.sources))
    return kind, rows, without(kind, rows, ids, [*groups, *sources], gone.others)


def _suppressed(rewrite: Rewrite, kind: str) -> set[bytes]:
    """The digests in the list of a kind; none where there is no list."""
    contents = [rewrite.dataset.storage.read(rewrite.uri(entry)) for entry in rewrite.of_kind(kind)]
    return {one for content in contents for one in pq.read_table(io.BytesIO(content)).column(0).to_pylist()}


def _suppress(rewrite: Rewrite, kind: str, digests: set[bytes]) -> None:
    """Puts a list with more digests in place of the one of a kind."""
    digests = digests | _suppressed(rewrite, kind)
    if digests:
        rewrite.files = [one for one in rewrite.files if one["kind"] != kind]
        path = join("snapshots", f"{rewrite.name}-{kind.replace('_', '-')}.parquet")
        table = pa.table([pa.array(sorted(digests), pa.binary(16))], schema=SUPPRESSED[kind])
        rewrite.add(rewrite.put_table(path, kind, table))


def search_files(rewrite: Rewrite, gone: Gone) -> dict[str, int]:
    """Searches every live file for what went: each whole, none passed over. Raises RuntimeError where it is there."""
    found = files = rows = 0
    dataset = rewrite.dataset
    for entry in rewrite.files:
        if entry["kind"] == "parquet":
            table = read_columns(dataset, entry, ["id", "group"])
            hits = is_among(table.column("group"), gone.groups) | is_among(table.column("id"), gone.ids)
            found, count = found + int(hits.sum()), table.num_rows
        elif entry["kind"] == "jsonl":
            digests = line_digests(dataset, entry)
            found, count = found + len(rewrite.removed_lines & digests), entry["rows"]
        elif entry["kind"] == "lineage":
            table = read_columns(dataset, entry, ["id", "kept_id", "group", "outcome"])
            here = is_among(table.column("id"), gone.ids) & is_among(table.column("outcome"), SPLITS)
            hits = here | is_among(table.column("group"), gone.groups) | is_among(table.column("kept_id"), gone.ids)
            found, count = found + int(hits.sum()), table.num_rows
        elif entry["kind"] == "index":
            _, table, left = _index_rows(rewrite, entry, gone)
            found, count = found + table.num_rows - left.num_rows, table.num_rows
        else:
            continue
        files, rows = files + 1, rows + count
    if found:
        raise RuntimeError(f"{found} rows of what was to be forgotten are left; nothing was committed")
    return {"files": files, "rows": rows, "found": 0}


def _search_texts(dataset: Dataset, manifest: Mapping[str, Any], gone: Gone) -> int:
    """Looks for ids in the report, the card and the manifest; returns how many files. Raises RuntimeError."""
    uris = [*dataset.files(manifest, "report"), dataset.manifest_uri(manifest["snapshot"]), dataset.uri("README.md")]
    needles = {one.encode() for one in gone.all()}
    for uri in uris:
        if needles & set(_ANY_ID.findall(dataset.storage.read(uri))):
            raise RuntimeError(f"{uri.rsplit('/', 1)[1]} still names what was forgotten")
    return len(uris)


def scrub_values(value: Any, needles: set[str]) -> Any:
    """A report's values without the entries of lists that name one of `needles`; None for one that does itself.

    >>> scrub_values({"largest": [{"id": "a", "records": 3}, {"id": "b", "records": 2}], "kept": 5}, {"a"})
    {'largest': [{'id': 'b', 'records': 2}], 'kept': 5}
    """
    if isinstance(value, str):
        return None if value in needles else value
    if isinstance(value, list):
        return [one for item in value if not _names(item, needles) for one in [scrub_values(item, needles)]]
    if isinstance(value, dict):
        return {key: scrub_values(one, needles) for key, one in value.items() if key not in needles}
    return value


def _names(item: Any, needles: set[str]) -> bool:
    """Whether an entry of a list is, or directly holds, one of `needles`."""
    inner = item.values() if isinstance(item, dict) else [item]
    return any(isinstance(one, str) and one in needles for one in inner)
