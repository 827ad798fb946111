"""The last step of a run: accounts are checked, gates looked at, and the manifest is created."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.carry import Carried, carry_over
from pipeline.config import has_surrogates
from pipeline.gates import LEAST_HISTORY, Night, night_breaches, recent_nights, sum_measures
from pipeline.plan import Plan, load_plan, plan_uri
from pipeline.report import build_report
from pipeline.snapshots import SCHEMA_VERSION, Dataset, add_accounts, kept, total
from transforms.once import Work
from transforms.options import DedupeOptions
from transforms.reasons import MEANING, SPLITS, Reason
from transforms.storage import Storage, join
from transforms.write import Written, file_digest

_COUNTS = pa.map_(pa.string(), pa.int64())
INPUTS = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("corrupt", pa.bool_(), nullable=False),
        pa.field("notes", _COUNTS, nullable=False),
        *[pa.field(name, pa.int64(), nullable=False) for name in ("read", "blank", *SPLITS, "duplicate")],
        pa.field("quarantined", _COUNTS, nullable=False),
        pa.field("dropped", _COUNTS, nullable=False),
        pa.field("snapshot", pa.int32()),  # that took it in
    ]
)


def commit_run(
    storage: Storage, output: str, work: str, tasks: Sequence[tuple[str, int]], *, accept: bool, keep_work: bool
) -> None:
    """Commits the snapshot of a plan whose tasks are all done; leaves a note where a gate is closed.

    `tasks` are the stages and numbers of those that wrote the dataset's files.

    Doing it again, after a crash or beside a zombie, finds its own manifest. Where another plan's manifest
    is there, that stays. Raises RuntimeError where the accounts don't balance.
    """
    if storage.exists(stop_uri(work)):
        return
    plan = load_plan(storage, work)
    dataset = Dataset(storage, output)
    if dataset.latest() < plan.number:
        done = Work(storage, work)
        units = list(done.results(("mill", number) for number in range(len(plan.units))))
        files: list[dict[str, Any]] = []
        seen: dict[str, Any] = {}
        merged_parts: set[str] = set()

        def merged() -> Iterator[dict[str, Any]]:
            """Results of Merge one at a time, as each has an account for every input; all files are noted on the way."""
            for (stage, _), result in zip(tasks, done.results(tasks), strict=True):
                files.extend(result["files"])
                seen.update(result.get("seen", {}))
                merged_parts.update(result["merged"])
                if stage == "merge":
                    yield result

        accounts = _accounts(plan, units, merged())
        parent = dataset.manifest(plan.number - 1) if plan.number > 1 else None
        carried = _carried(dataset, plan, parent, storage.spool(work))
        own = add_accounts(accounts.values())
        added = add_accounts([own, carried.accounting]) if plan.is_rebuild else own
        accounting = add_accounts([own, carried.accounting])
        measures = sum_measures(units)
        cut_result, clusters = done.results([("look_alikes", 0), ("cluster", 0)])
        summary: dict[str, Any] = {
            "units": units,
            "cut": cut_result,
            "clusters": clusters,
            "seen": seen,
            "accounts": [{"shard": plan.inputs[number].name, **account} for number, account in accounts.items()],
        }
        breaches = [] if accept else gate_breaches(plan, units, added, accounting)
        before = recent_nights(dataset, parent)
        if not accept and not plan.is_rebuild:
            breaches += night_breaches(plan.config["gates"], Night(added, measures), before)
        if breaches:
            page = build_report(dataset, plan, accounting, added, summary)[-1]["path"]
            found = {"breaches": breaches, "added": added, "measures": measures, "report": dataset.uri(page)}
            storage.put(breach_uri(work), orjson.dumps(found))
            return
        files += [one for one in carried.files if one["path"] not in merged_parts]
        files.sort(key=lambda one: one["path"])
        notes = _notes(plan, units)
        files.append(
            _put_inputs(dataset, plan, accounts, notes, {unit["shard"] for unit in units if unit["corrupt"]}, carried)
        )
        files += build_report(dataset, plan, accounting, added, summary)
        cut = summary["cut"]["cut"]
        dataset.commit(
            {
                "snapshot": plan.number,
                "parent": plan.number - 1 or None,
                "date": plan.date,
                "plan": plan.id,
                "operation": plan.operation,
                "files": files,
                "accounting": accounting,
                "added": added,
                "measures": measures,
                "split": {"eval_end": cut[0], "val_end": cut[1], "eval_frozen": eval_frozen(plan, accounting)},
                "benchmarks": [asdict(one) for one in plan.benchmarks],
                "config": plan.config,
                "config_fingerprint": plan.fingerprint,
                "versions": plan.versions,
                "schema_version": SCHEMA_VERSION,
                "key_check": plan.key_check,
                "left": _left(plan, parent),
                "warnings": warnings_of(plan, summary["cut"], len(before)),
            }
        )
    if dataset.manifest(plan.number)["plan"] == plan.id:
        dataset.derive()
        for folder in ("data", "jsonl", "lineage", "index"):
            storage.remove_temporary(dataset.uri(folder, plan.name))
        if not keep_work:
            storage.remove(work)
            remove_left_work(dataset, plan.number)


def _carried(dataset: Dataset, plan: Plan, parent: Mapping[str, Any] | None, spool: str | None) -> Carried:
    """What the parent hands on: all but its report, or to a rebuild eval and what was corrected."""
    if parent is None:
        return Carried([], [], add_accounts([]))
    if plan.is_rebuild:
        return carry_over(dataset, plan, parent, spool)
    return Carried([one for one in parent["files"] if one["kind"] != "report"], [], parent["accounting"])


def note_work(dataset: Dataset, plan: Plan, work: str) -> None:
    """Says in the dataset where the work of a plan is that lies elsewhere: `forget` and `expire` must find it."""
    own = dataset.uri("work", plan.id)
    if work != own:
        dataset.storage.put(plan_uri(own), plan.to_json())
        dataset.storage.put(join(own, "elsewhere"), work.encode())


def work_elsewhere(dataset: Dataset, plan_id: str) -> list[str]:
    """The work folder of a plan that lies elsewhere, if it does."""
    try:
        found = dataset.storage.read(join(dataset.uri("work", plan_id), "elsewhere")).decode()
    except FileNotFoundError:
        return []
    return [found] if found.endswith(f"/{plan_id}") else []


def _left(plan: Plan, parent: Mapping[str, Any] | None) -> list[int]:
    """Snapshots whose records keep their splits when they come in again: those gone back over, and what a rebuild rebuilt."""
    if parent is None:
        return []
    return [*parent.get("left", []), *([parent["snapshot"]] if plan.is_rebuild else [])]


def remove_left_work(dataset: Dataset, number: int) -> None:
    """Removes work of runs that can't commit any more, since their number is taken; of later ones nothing."""
    work = dataset.uri("work")
    for name in dataset.storage.names(work, "directory"):
        with contextlib.suppress(FileNotFoundError):
            if load_plan(dataset.storage, join(work, name)).number <= number:
                for folder in (*work_elsewhere(dataset, name), join(work, name)):
                    dataset.storage.remove(folder)
    if dataset.storage.is_local(work):
        with contextlib.suppress(OSError):
            os.rmdir(dataset.storage.filesystem(work)[1])  # unless there is more in it


def eval_frozen(plan: Plan, accounting: Mapping[str, Any]) -> bool:
    """Whether nothing is added to eval after this snapshot."""
    split = plan.config["split"]
    if plan.base.frozen:
        return True
    if split["eval_records"]:
        return int(accounting["eval"]) >= int(split["eval_records"])
    return not (split["eval_until"] and plan.date and plan.date < split["eval_until"])


def breach_uri(work: str) -> str:
    return join(work, "breach.json")


def stop_uri(work: str) -> str:
    """A mark that a run was interrupted by its user: what still goes on somewhere must not commit."""
    return join(work, "stop")


def warnings_of(plan: Plan, cut: Mapping[str, Any], nights: int) -> list[str]:
    """What a user should know of a dataset that was committed; `nights` are kept of those before."""
    warnings = []
    if not plan.config["redact"]["enabled"]:
        warnings.append("redaction was off: personal data and secrets are in the dataset")
    if not plan.config["dedupe"]["near"]:
        warnings.append("near-duplicates were not looked for: look-alikes may be in several splits")
    else:
        warnings += blind_bands(DedupeOptions.model_validate(plan.config["dedupe"]))
    if plan.secret_missing:
        guessed = " and at what surrogates stand for" if has_surrogates(plan.config) else ""
        warnings.append(
            f"no secret key was set (CORPUSMILL_KEY): who knows the salt can confirm guesses at group values{guessed} and craft texts that pass for duplicates"
        )
    if cut["cut"][3]:
        warnings.append("val has fewer records than split.min_val or split.val asks for: it never takes above a third")
    if nights < LEAST_HISTORY < plan.number and not plan.is_rebuild:
        warnings.append(
            f"nothing was compared with the nights before: {nights} of them are kept, {LEAST_HISTORY} are wanted"
        )
    return warnings


LEAST_FOUND = 0.95  # of pairs just as alike as `dedupe.leak_threshold`


def blind_bands(options: DedupeOptions) -> list[str]:
    """A warning where the bands miss many look-alikes, with the most rows that would not."""
    found = options.found(options.leak_threshold)
    if found >= LEAST_FOUND:
        return []
    others = (
        options.model_copy(update={"rows": rows, "bands": options.num_perm // rows})
        for rows in range(options.rows, 0, -1)
    )
    better = next((one for one in others if one.found(one.leak_threshold) >= LEAST_FOUND), None)
    hint = (
        f"; {better.bands} bands of {better.rows} rows find {better.found(better.leak_threshold):.0%}" if better else ""
    )
    return [
        f"bands find {found:.0%} of pairs as alike as dedupe.leak_threshold = {options.leak_threshold:g}: "
        f"look-alikes may be in several splits{hint}"
    ]


def gate_breaches(
    plan: Plan, units: list[dict[str, Any]], added: Mapping[str, Any], accounting: Mapping[str, Any]
) -> list[str]:
    """What closes a gate, in sentences that say which key opens it.

    `added` are the accounts of this run, `accounting` those of all that the snapshot would hold.
    """
    gates = plan.config["gates"]
    breaches = []
    quarantined, read = sum(added["quarantined"].values()), added["read"]
    if read and quarantined / read > gates["max_quarantined"]:
        breaches.append(
            f"{quarantined:,} of {read:,} lines are quarantined ({quarantined / read:.0%}), more than "
            f"gates.max_quarantined = {gates['max_quarantined']:g}: {_commonest(plan, units, added)}"
        )
    if kept(accounting) < gates["min_kept"]:
        why = _commonest(plan, units, added)
        breaches.append(
            f"{kept(accounting):,} records are kept, fewer than gates.min_kept = {gates['min_kept']:,}"
            + (f": {why}" if why else "")
        )
    bad = sorted({unit["shard"] for unit in units if unit["corrupt"]})
    most = plan.config["read"]["max_bad_shards"]
    if len(bad) > most:
        names = ", ".join(plan.inputs[number].name for number in bad[:3]) + (" …" if len(bad) > 3 else "")
        breaches.append(f"cut or corrupt shards: {len(bad)}, more than read.max_bad_shards = {most}: {names}")
    return breaches


def _commonest(plan: Plan, units: list[dict[str, Any]], accounting: Mapping[str, Any]) -> str:
    """The three commonest reasons, with a place for each."""
    ranked = sorted(accounting["quarantined"].items(), key=lambda one: (-one[1], one[0]))[:3]
    parts = []
    for reason, count in ranked:
        base, place = 0, ""
        for number, unit in enumerate(units):
            base = 0 if number == 0 or units[number - 1]["shard"] != unit["shard"] else base
            if reason in unit["examples"]:
                place = f"{plan.inputs[unit['shard']].name}:{base + unit['examples'][reason] + 1}"
                break
            base += unit["lines"]
        parts.append(f"{reason} {count:,} ({MEANING[Reason(reason)]}; as {place})")
    return "; ".join(parts)


def _accounts(plan: Plan, units: list[dict[str, Any]], merged: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The accounting of each input shard. Raises RuntimeError where a line has no fate, or two."""
    accounts = {number: add_accounts([]) for number in range(len(plan.inputs))}
    quarantined: dict[int, int] = dict.fromkeys(accounts, 0)
    for unit in units:
        accounts[unit["shard"]]["read"] += unit["read"]
        accounts[unit["shard"]]["blank"] += unit["blank"]
        quarantined[unit["shard"]] += sum(unit["quarantined"].values())
    for result in merged:
        for number, counts in result["accounting"].items():
            account = accounts[int(number)]
            for outcome, count in counts.items():
                name, dot, reason = outcome.partition(".")
                if dot:
                    account[name][reason] = account[name].get(reason, 0) + count
                else:
                    account[name] += count
    for number, account in accounts.items():
        if account["read"] != total(account) or quarantined[number] != sum(account["quarantined"].values()):
            raise RuntimeError(f"input {number}: {account['read']} lines were read, {total(account)} accounted for")
    return accounts


def _notes(plan: Plan, units: list[dict[str, Any]]) -> dict[int, dict[str, int]]:
    """What the reader accepted in each input shard."""
    notes: dict[int, dict[str, int]] = {number: {} for number in range(len(plan.inputs))}
    for unit in units:
        mine = notes[unit["shard"]]
        for note, count in unit["notes"].items():
            mine[note] = mine.get(note, 0) + count
    return notes


def _put_inputs(
    dataset: Dataset,
    plan: Plan,
    accounts: Mapping[int, Mapping[str, Any]],
    notes: Mapping[int, Mapping[str, int]],
    corrupt: set[int],
    carried: Carried,
) -> dict[str, Any]:
    """Writes the inputs with size, etag and accounting of each; returns the manifest's entry."""
    rows = []
    for number, one in enumerate(plan.inputs):
        maps = {name: list(accounts[number][name].items()) for name in ("quarantined", "dropped")}
        known = {
            "shard": one.name,
            "size": one.size,
            "etag": one.etag,
            "digest": one.digest,
            "kind": one.kind,
            "corrupt": number in corrupt,
            "snapshot": plan.number,
        }
        rows.append({**accounts[number], **maps, **known, "notes": list(notes[number].items())})
    rows += carried.inputs
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, INPUTS), out, compression="zstd")
    content = out.getvalue()
    path = join("snapshots", f"{plan.number:06d}-inputs.parquet")
    if not dataset.storage.create(dataset.uri(path), content) and dataset.storage.read(dataset.uri(path)) != content:
        # Another run has got as far as this for the same number: one of both will be the snapshot.
        path = join("snapshots", f"{plan.name}-inputs.parquet")
        dataset.storage.put(dataset.uri(path), content)
    return Written(path, "inputs", None, len(rows), len(content), file_digest(io.BytesIO(content))).as_dict()
