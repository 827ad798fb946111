"""Rewrite: the next snapshot of a dataset, made from the newest by copy on write.

Files that hold nothing of what changes are listed as they are. Of the others the new snapshot gets a copy:

    data/000001-<plan>/train-00000-of-00004.parquet          is copied to
    data/000003-<plan>/000001/train-00000-of-00004.parquet   the middle part says who wrote it first

so that a copy keeps the range of keys that its name tells, and two copies never have one name. Nothing is ever
written into a folder of an older snapshot. Done again after a crash, it writes the same bytes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.commit import remove_left_work
from pipeline.errors import OvertakenError, UsageError
from pipeline.members import id_of_line
from pipeline.plan import versions
from pipeline.report import newest_report, put_report
from pipeline.snapshots import Dataset, add_accounts, folder_of_origin, kept, origin_of, total
from transforms.canonical import canonical_json, conversation_lines
from transforms.hashing import content_digest
from transforms.index import SCHEMAS, parts_of, put_part
from transforms.reasons import SPLITS
from transforms.schema import DATA, LINEAGE
from transforms.storage import join
from transforms.stores import StorageError
from transforms.write import FileWriter, ParquetShard, Written, file_digest

Entry = dict[str, Any]  # a file as manifests list it
Bools = npt.NDArray[np.bool_]

_MAPS = ("quarantined", "dropped")


@dataclass(frozen=True)
class Copied:
    """A file that the new snapshot lists in place of an older one."""

    old: Entry
    new: Entry


class Rewrite:
    """The next snapshot in the making. `files` are its live files so far: those of the newest, but for what was copied.

    As a context it turns what fails into OvertakenError where another run has committed meanwhile: that removes, or a `forget`
    does, what this one wrote, and an error of its own is about a dataset that is no longer the newest.
    """

    def __init__(self, dataset: Dataset, operation: str, arguments: Any) -> None:
        """`arguments` are what decides the outcome beside the newest snapshot. Raises UsageError where there is none."""
        self.dataset = dataset
        self.parent = dataset.manifest()
        self.number = self.parent["snapshot"] + 1
        self.operation = operation
        identity = [self.parent["digest"], operation, arguments, versions()]
        self.plan = content_digest(canonical_json(identity), 6).hex()
        self.name = f"{self.number:06d}-{self.plan}"
        self.files: list[Entry] = [dict(one) for one in self.parent["files"] if one["kind"] != "report"]
        self.accounting: dict[str, Any] = orjson.loads(orjson.dumps(self.parent["accounting"]))
        self.copied: list[Copied] = []
        self.deltas: dict[str, Counter[str]] = {}  # what changed in the accounts, by input shard
        self.removed_lines: set[bytes] = set()  # digests of JSONL lines that copies left out
        self._work = dataset.uri("work", self.plan)
        self._committed = False

    def __enter__(self) -> Rewrite:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not self._committed and self.dataset.latest() >= self.number:
            raise self._overtaken() from None

    def _overtaken(self) -> OvertakenError:
        return OvertakenError(f"another run committed snapshot {self.number:06d} first", "run again")

    def of_kind(self, kind: str, split: str | None = None) -> list[Entry]:
        """The live files of a kind, and split."""
        return [one for one in self.files if one["kind"] == kind and (split is None or one.get("split") == split)]

    def uri(self, entry: Entry) -> str:
        return self.dataset.uri(entry["path"])

    def copy_path(self, entry: Entry) -> str:
        """Where the copy of a file goes."""
        folder, name = entry["path"].split("/")[0], entry["path"].rsplit("/", 1)[1]
        return join(folder, self.name, folder_of_origin(entry["path"]), name)

    def writer(self, path: str, kind: str, split: str | None = None) -> FileWriter:
        """A file of the new snapshot, to be filled."""
        storage = self.dataset.storage
        return FileWriter(storage, self.dataset.root, path, kind, split, storage.spool(self._work))

    def replace(self, entry: Entry, written: Written) -> None:
        """Lists a file that was written in place of `entry`."""
        new = written.as_dict()
        self.files[self.files.index(entry)] = new
        self.copied.append(Copied(entry, new))

    def add(self, written: Written) -> None:
        """Lists a file that stands in no other's place."""
        self.files.append(written.as_dict())

    def put_table(self, path: str, kind: str, table: pa.Table) -> Written:
        """Writes a small Parquet file whole."""
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd")
        content = out.getvalue()
        self.dataset.storage.put(self.dataset.uri(path), content)
        return Written(path, kind, None, table.num_rows, len(content), file_digest(io.BytesIO(content)))

    def twins(self, split: str) -> Iterator[tuple[Entry | None, Entry | None]]:
        """(Parquet, JSONL) files of a split that hold the same rows; None where a format is not written."""
        pairs: dict[str, dict[str, Entry]] = {}
        for kind in ("parquet", "jsonl"):
            for entry in self.of_kind(kind, split):
                tail = entry["path"].split("/", 1)[1].rsplit(".", 1)[0]
                pairs.setdefault(tail, {})[kind] = entry
        for pair in pairs.values():
            yield pair.get("parquet"), pair.get("jsonl")

    def rows_left(self, parquet: Entry | None, jsonl: Entry | None, ids: set[str], groups: set[str]) -> Bools | None:
        """bool[N]: the rows of a shard that are not among `ids` and in none of `groups`; None where all stay."""
        if parquet is not None:
            rows = read_columns(self.dataset, parquet, ["id", "group"])
            goes = is_among(rows.column("id"), ids) | is_among(rows.column("group"), groups)
        elif jsonl is not None and ids:
            with self.dataset.storage.open(self.uri(jsonl)) as stream:
                goes = np.array([id_of_line(line) in ids for line in stream], bool)
        else:
            return None
        return ~goes if goes.any() else None

    def copy_records(self, parquet: Entry | None, jsonl: Entry | None, stays: Bools) -> None:
        """Copies the rows of a shard that stay, in both formats; bool[N]."""
        if parquet is not None:
            self.replace(parquet, self._copy_parquet(parquet, stays))
        if jsonl is not None:
            self.replace(jsonl, self._copy_jsonl(jsonl, stays))

    def _copy_parquet(self, entry: Entry, stays: Bools) -> Written:
        shard = ParquetShard(self.writer(self.copy_path(entry), entry["kind"], entry.get("split")), DATA)
        start = 0
        with self.dataset.storage.open(self.uri(entry)) as stream:
            for rows in row_groups(stream, DATA):
                left = rows.filter(pa.array(stays[start : start + rows.num_rows])).combine_chunks()
                shard.append(left, weights_of(left))
                start += rows.num_rows
        check_rows(entry, start, len(stays))
        return shard.put()

    def _copy_jsonl(self, entry: Entry, stays: Bools) -> Written:
        out = self.writer(self.copy_path(entry), entry["kind"], entry.get("split"))
        count = 0
        with self.dataset.storage.open(self.uri(entry)) as stream:
            for line in stream:  # ends at \n only
                if count < len(stays) and stays[count]:
                    out.stream.write(line)
                    out.rows += 1
                else:
                    self.removed_lines.add(content_digest(line))
                count += 1
        check_rows(entry, count, len(stays))
        return out.put()

    def copy_lineage(self, entry: Entry, change: Callable[[pa.Table], pa.Table]) -> None:
        """Copies lineage with the rows that `change` makes of a row group's; counts what came of it in the accounts."""
        shard = ParquetShard(self.writer(self.copy_path(entry), "lineage"), LINEAGE)
        with self.dataset.storage.open(self.uri(entry)) as stream:
            for rows in row_groups(stream, LINEAGE):
                changed = change(rows)
                count_changes(rows, changed, self.deltas)
                shard.append(changed, np.full(changed.num_rows, 1, np.int64))
        self.replace(entry, shard.put())

    def copy_index(self, entry: Entry, rows: pa.Table) -> None:
        """Copies a part of the index with other rows."""
        (part,) = parts_of([entry["path"]])
        storage, root = self.dataset.storage, self.dataset.root
        folder = join(self.name, folder_of_origin(entry["path"]))
        written = put_part(storage, root, folder, part.kind, part.number, part.count, rows.cast(SCHEMAS[part.kind]))
        self.replace(entry, written)

    def _account(self) -> None:
        """Brings the changes into the accounts of each shard, and of all."""
        deltas = {shard: dict(counts) for shard, counts in self.deltas.items()}
        for counts in deltas.values():
            for outcome, count in counts.items():
                add_to(self.accounting, outcome, count)
        for entry in self.of_kind("inputs"):
            rows = pq.read_table(io.BytesIO(self.dataset.storage.read(self.uri(entry))))
            values = rows.to_pylist()
            moved = sum(_move_counts(row, deltas.get(row["shard"], {})) for row in values)
            if moved:
                path = join("snapshots", f"{self.name}-inputs-{origin_of(entry['path'])}.parquet")
                self.replace(entry, self.put_table(path, "inputs", pa.Table.from_pylist(values, rows.schema)))
        if any(count for counts in deltas.values() for count in counts.values()):
            raise RuntimeError("the accounts of the inputs lack lines that the lineage has")

    def commit(
        self,
        changes: Mapping[str, Any],
        added: Mapping[str, Any] | None = None,
        scrub: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> dict[str, Any]:
        """Checks the accounts, writes the report and creates the manifest; returns it.

        `changes` are counts of what was done, for the manifest and the report, `added` the accounts of what was read;
        `scrub` takes the newest report's values and gives those that may be shown. Raises OvertakenError where
        another run committed first.
        """
        self._account()
        self._check_accounts()
        self.files += put_report(self.dataset, self.name, scrub(self._report(changes)))
        self.files.sort(key=lambda one: one["path"])
        manifest = {
            **{key: value for key, value in self.parent.items() if key != "digest"},
            "snapshot": self.number,
            "parent": self.parent["snapshot"],
            "plan": self.plan,
            "operation": self.operation,
            "files": self.files,
            "accounting": self.accounting,
            "added": dict(added or add_accounts([])),
            "changes": dict(changes),
        }
        if added is not None:
            manifest["versions"] = versions()  # those that the newest records were made with; else they stay
        self._committed = self.dataset.commit(manifest)
        return self.finish()

    def finish(self) -> dict[str, Any]:
        """The committed manifest, with what is derived from it; the work folder goes."""
        dataset = self.dataset
        manifest = dataset.manifest(self.number)
        if manifest["plan"] != self.plan:
            raise self._overtaken()
        self._committed = True  # by a twin, if not by this one
        dataset.derive()
        for folder in ("data", "jsonl", "lineage", "index"):
            dataset.storage.remove_temporary(dataset.uri(folder, self.name))
        dataset.storage.remove(self._work)
        remove_left_work(dataset, self.number)
        return manifest

    def cost(self) -> dict[str, int]:
        """What was rewritten of what there is."""
        return {
            "files_rewritten": len(self.copied),
            "files": len(self.parent["files"]),
            "bytes_rewritten": sum(one.new["bytes"] for one in self.copied),
            "bytes": sum(one["bytes"] for one in self.parent["files"]),
        }

    def _check_accounts(self) -> None:
        """Raises RuntimeError where the accounts and the files don't agree, or two files have one name."""
        if len({one["path"] for one in self.files}) < len(self.files):
            raise RuntimeError("a file was written over another")
        if self.accounting["read"] != total(self.accounting):
            raise RuntimeError("the accounts don't balance")
        for split in SPLITS:
            for kind in ("parquet", "jsonl"):
                rows = [one["rows"] for one in self.of_kind(kind, split)]
                if rows and sum(rows) != self.accounting[split]:
                    raise RuntimeError(f"the {kind} files of {split} hold other rows than the accounts say")

    def _report(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The newest report with the numbers of this snapshot; its accounts are of all that the dataset holds."""
        report = newest_report(self.dataset, self.parent)
        shards = [_shard_account(row) for entry in self.of_kind("inputs") for row in self._inputs(entry)]
        return {
            **report,
            "snapshot": self.number,
            "plan": self.plan,
            "operation": self.operation,
            "accounting": self.accounting,
            "dataset": self.accounting,
            "kept": kept(self.accounting),
            "splits": {str(split): self.accounting[split] for split in SPLITS},
            "shards": shards,
            "changes": dict(changes),
        }

    def _inputs(self, entry: Entry) -> list[dict[str, Any]]:
        return list(pq.read_table(io.BytesIO(self.dataset.storage.read(self.uri(entry)))).to_pylist())


def row_groups(stream: IO[bytes], schema: pa.Schema) -> Iterator[pa.Table]:
    """The row groups of a Parquet file, in the types of `schema`."""
    source = pq.ParquetFile(stream)
    for number in range(source.num_row_groups):
        yield source.read_row_group(number).cast(schema)


def read_columns(dataset: Dataset, entry: Entry, columns: list[str]) -> pa.Table:
    """Some columns of a Parquet file, the rest unread. Raises UsageError where the file is missing or damaged."""
    try:
        with dataset.storage.open(dataset.uri(entry["path"])) as stream:
            return pq.ParquetFile(stream).read(columns=columns)
    except (FileNotFoundError, StorageError, pa.ArrowInvalid):
        raise UsageError(f"{entry['path']} is missing or damaged", f"corpusmill verify {dataset.root}") from None


def line_digests(dataset: Dataset, entry: Mapping[str, Any]) -> set[bytes]:
    """Digests of the lines of a JSONL file."""
    with dataset.storage.open(dataset.uri(entry["path"])) as stream:
        return {content_digest(line) for line in stream}


def weights_of(rows: pa.Table) -> npt.NDArray[np.int64]:
    """int64[N]: canonical JSON bytes of DATA rows, by which row groups and shards are cut."""
    if rows.num_rows == 0:
        return np.empty(0, np.int64)
    messages, tools = (rows.column(name).combine_chunks() for name in ("messages", "tools"))
    messages, tools = (one.chunk(0) if isinstance(one, pa.ChunkedArray) else one for one in (messages, tools))
    return np.asarray(pc.binary_length(conversation_lines(messages, tools, weight=False)).to_numpy(), np.int64)


def check_rows(entry: Entry, found: int, expected: int) -> None:
    """Raises UsageError where a file is not as the manifest says."""
    if found != expected or found != entry["rows"]:
        raise UsageError(f"{entry['path']} does not hold the rows that the manifest says", "corpusmill verify OUTPUT")


def outcomes_of(rows: pa.Table) -> list[str]:
    """The outcome of each lineage row as the accounts name it: `train`, `dropped.near_eval`."""
    return [
        f"{outcome}.{reasons[0]}" if outcome in _MAPS else outcome
        for outcome, reasons in zip(rows.column("outcome").to_pylist(), rows.column("reasons").to_pylist(), strict=True)
    ]


def count_changes(old: pa.Table, new: pa.Table, deltas: dict[str, Counter[str]]) -> None:
    """Adds to `deltas`, by shard, what rows that stand for rows changed in the accounts."""
    if old.num_rows != new.num_rows:
        raise RuntimeError("lineage was copied with other lines")
    shards = old.column("shard").to_pylist()
    for shard, before, after in zip(shards, outcomes_of(old), outcomes_of(new), strict=True):
        if before != after:
            counts = deltas.setdefault(shard, Counter())
            counts[before] -= 1
            counts[after] += 1


def add_to(accounting: dict[str, Any], outcome: str, count: int) -> None:
    """Adds to an outcome as `outcomes_of` names it; one that comes to nothing is left out where it is a reason."""
    name, dot, reason = outcome.partition(".")
    if not dot:
        accounting[name] += count
        return
    accounting[name][reason] = accounting[name].get(reason, 0) + count
    accounting[name] = {one: number for one, number in sorted(accounting[name].items()) if number}


def _move_counts(row: dict[str, Any], deltas: dict[str, int]) -> int:
    """Takes what a row of the inputs can bear out of `deltas`; returns how many lines changed their outcome.

    A name that was read twice, as a log that grew, has two rows: each gives what it has.
    """
    account = _shard_account(row)
    moved = 0
    for outcome in [name for name, count in deltas.items() if count < 0]:
        name, dot, reason = outcome.partition(".")
        has = account[name].get(reason, 0) if dot else account[name]
        take = min(has, -deltas[outcome])
        add_to(account, outcome, -take)
        deltas[outcome] += take
        moved += take
    left = moved
    for outcome in [name for name, count in deltas.items() if count > 0]:
        give = min(left, deltas[outcome])
        add_to(account, outcome, give)
        deltas[outcome] -= give
        left -= give
    row.update({**account, **{name: list(account[name].items()) for name in _MAPS}})
    return moved


def _shard_account(row: Mapping[str, Any]) -> dict[str, Any]:
    """The accounts in a row of the inputs, as reports list them."""
    names = ("shard", "read", "blank", *SPLITS, "duplicate")
    return {**{name: row[name] for name in names}, **{name: dict(row[name]) for name in _MAPS}}


def is_among(column: pa.ChunkedArray, values: Iterable[Any]) -> Bools:
    """bool[N]: whether a value is one of `values`; nulls are not."""
    found = pc.is_in(column, value_set=pa.array(sorted(values), column.type))
    return np.asarray(found.to_numpy(), bool)
