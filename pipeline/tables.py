"""Results for people: tables on stdout."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from pipeline.snapshots import Dataset, kept
from pipeline.templates import human_bytes
from transforms.reasons import MEANING, SPLITS, Drop, Reason
from transforms.storage import scheme_of
from transforms.stores import KINDS

if TYPE_CHECKING:
    from pipeline.plan import Plan  # imports every stage, and tables of small things are there at once without

_NUMBERS = ("lines", "share", "pairs", "dropped", "kept", "found")


def run_table(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterable[Table | Text]:
    """Where the dataset is, and what was lost why."""
    accounting = manifest["accounting"]
    yield Text(f"Snapshot {manifest['snapshot']:06d}: {kept(accounting):,} records of {accounting['read']:,} lines")
    table = _table("outcome", "lines", "share", "")
    read = max(accounting["read"], 1)
    for split in SPLITS:
        _row(table, split, accounting[split], read, "")
    _row(table, "duplicate", accounting["duplicate"], read, "gave way to a record that is kept")
    for outcome, kind in (("quarantined", Reason), ("dropped", Drop)):
        for reason, count in sorted(accounting[outcome].items(), key=lambda one: (-one[1], one[0])):
            _row(table, f"{outcome}: {reason}", count, read, MEANING[kind(reason)])
    yield table
    yield from _contamination(dataset, manifest)
    for warning in manifest["warnings"]:
        yield Text(f"warning: {warning}", style="yellow")
    yield Text(f"dataset  {dataset.root}")
    for uri in dataset.files(manifest, "report"):
        if uri.endswith(".html"):
            yield Text(f"report   {uri}")
    command = f"{_variables(dataset)}corpusmill"
    yield Text(
        f"next     {command} verify {short_path(dataset.root)}    {command} files {short_path(dataset.root)} --split train"
    )


def _variables(dataset: Dataset) -> str:
    """What commands without a config need of its `storage` in the environment, before the command."""
    kind, storage = KINDS.get(scheme_of(dataset.root)), dataset.storage
    wanted = {"s3": ("AWS_ENDPOINT_URL", "AWS_PROFILE"), "gcs": ("STORAGE_EMULATOR_HOST", "")}.get(str(kind), ("", ""))
    named = zip(wanted, (storage.endpoint, storage.profile), strict=True)
    return "".join(f"{name}={shlex.quote(value)} " for name, value in named if name and value)


def _contamination(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterable[Table]:
    """What was found of benchmarks, where there were any."""
    if not manifest.get("benchmarks"):
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("benchmark", "items", "found", "records", "exact", "minhash", "grams", "first"):
        table.add_column(column, justify="left" if column in ("benchmark", "first") else "right")
    from pipeline.report import newest_report

    for one in newest_report(dataset, manifest)["benchmarks"]:
        counts = (f"{one[name]:,}" for name in ("items", "items_found", "records", "exact", "minhash", "grams"))
        table.add_row(Text(one["benchmark"]), *counts, Text(one["first"] or ""))
    yield table


def check_table(findings: Mapping[str, Any]) -> Iterable[Table | Text]:
    """What would be quarantined."""
    yield Text(
        f"{findings['read']:,} lines in {findings['inputs']:,} inputs ({findings['blank']:,} blank ones beside them), "
        f"{findings['quarantined']:,} would be quarantined"
    )
    for note, count in findings["notes"].items():
        yield Text(f"note: {note} {count:,}", style="dim")
    if findings["reasons"]:
        table = _table("reason", "lines", "share", "meaning", "as")
        for reason, found in findings["reasons"].items():
            share = f"{found['count'] / findings['read']:.1%}"
            table.add_row(reason, f"{found['count']:,}", share, MEANING[Reason(reason)], "\n".join(found["places"]))
        yield table


def plan_values(plan: Plan, dataset: Dataset, work: str, space: Mapping[str, int | None]) -> dict[str, Any]:
    """What a run would do, as values."""
    return {
        "plan": plan.id,
        "output": dataset.root,
        "work": work,
        "inputs": len(plan.inputs),
        "input_bytes": plan.input_bytes,
        "unpacked_bytes": plan.unpacked_bytes,
        "units": len(plan.units),
        "segments": plan.shape.segments,
        "band_segments": plan.shape.band_segments,
        "text_segments": plan.shape.text_segments,
        "space": dict(space),
    }


def plan_table(values: Mapping[str, Any]) -> Iterable[Table]:
    """The same as a table."""
    table = Table(show_header=False, box=None)
    space = values["space"]
    free = {
        name: "" if space[name] is None else f", {human_bytes(space[name])} free"
        for name in ("work_free", "output_free")
    }
    for name, text in (
        ("plan", values["plan"]),
        ("reads", f"{values['inputs']:,} inputs, {human_bytes(values['input_bytes'])}"),
        ("unpacked", f"about {human_bytes(values['unpacked_bytes'])}"),
        ("cut into", f"{values['units']:,} work units, {values['segments']:,} segments of keys, "
                     f"{values['band_segments']:,} of bands"),
        ("holds", f"about {human_bytes(space['work'])} in {values['work']}{free['work_free']}"),
        ("writes", f"about {human_bytes(space['output'])} to {values['output']}{free['output_free']}"),
    ):  # fmt: skip
        table.add_row(name, Text(text))
    yield table


def estimate_table(found: Mapping[str, Any]) -> Iterable[Table | Text]:
    """What each stage would cost, and all of them."""
    yield Text(f"{human_bytes(found['size'])} of text in {found['units']:,} units on {found['workers']:,} workers")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("stage")
    for column in ("tasks", "reads", "writes", "requests", "memory", "CPU hours", "hours"):
        table.add_column(column, justify="right")
    for one in found["stages"]:
        table.add_row(
            one["stage"],
            f"{one['tasks']:,}",
            human_bytes(one["read_bytes"]),
            human_bytes(one["written_bytes"]),
            f"{one['gets'] + one['puts']:,}",
            human_bytes(one["held_bytes"]),
            f"{one['cpu_hours']:,.2f}",
            f"{one['hours']:,.2f}",
        )
    yield table
    total = Table(show_header=False, box=None)
    cost = "" if found["cost"] is None else f", {found['cost']:,.2f} at the price given"
    for name, text in (
        ("hours", f"{found['hours']:,.1f}{cost}: CPU alone, where the store gives each worker "
                  f"{human_bytes(int(found['bytes_per_second_a_worker']))} a second"),
        ("memory", f"{human_bytes(found['worker_bytes'])} a worker, {human_bytes(found['single_bytes'])} "
                   "for the one task that clusters, or joins clusters"),
        ("through Beam", f"{human_bytes(found['shuffled_bytes'])} of references"),
        ("holds", f"{human_bytes(found['work_bytes'])} in the work folder, {human_bytes(found['output_bytes'])} in the dataset"),
        ("requests", f"{found['gets']:,} reads, {found['puts']:,} writes"),
    ):  # fmt: skip
        total.add_row(name, Text(text))
    yield total
    yield Text("from rates measured on made chat logs on one machine: see docs/scaling.md", style="dim")


def why_table(fates: Iterable[Mapping[str, Any]]) -> Iterable[Table]:
    """Fates, a block each."""
    for fate in fates:
        table = Table(show_header=False, box=None)
        table.add_row(
            "line", Text(f"{fate['shard']}:{fate['line']} (byte {fate['offset']:,}, {fate['length']:,} bytes)")
        )
        table.add_row("snapshot", f"{fate['snapshot']:06d}")
        table.add_row("fate", Text(fate["explanation"]))
        for name in ("id", "kept_id", "group"):
            if fate[name]:
                table.add_row(name, fate[name])
        yield table


def tune_table(values: Mapping[str, Any]) -> Iterable[Table | Text]:
    """What each threshold would keep and drop."""
    yield Text(
        f"{values['lines']:,} lines of {values['inputs']:,} inputs: {values['sound']:,} sound records, "
        f"{values['exact']:,} exact copies, {values['distinct']:,} distinct"
    )
    table = _table("threshold", "pairs", "dropped", "share", "kept", "found")
    for one in values["thresholds"]:
        share = one["dropped"] / values["distinct"] if values["distinct"] else 0.0
        cells = (f"{one['pairs']:,}", f"{one['dropped']:,}", f"{share:.1%}", f"{one['kept']:,}", f"{one['found']:.1%}")
        now = " (set)" if one["threshold"] == values["threshold"] else ""
        table.add_row(f"{one['threshold']:.2f}{now}", *cells)
    yield table
    yield Text("found: the expected share of pairs of just that similarity that the bands find", style="dim")
    if "html" in values:
        yield Text(f"pairs    {values['html']}")


def log_table(listed: Iterable[Mapping[str, Any]]) -> Iterable[Table | Text]:
    """Snapshots, a row each."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    counts = ("read", *SPLITS, "out", "duplicate", "quarantined", "dropped", "kept")
    for column in ("snapshot", "written (UTC)", "date", "operation", *counts):
        table.add_column(column, justify="right" if column in counts else "left")
    before = 0
    for one in listed:
        if one["snapshot"] > before + 1:
            gap = f"{before + 1:06d}" + (f"–{one['snapshot'] - 1:06d}" if one["snapshot"] > before + 2 else "")
            table.add_row(gap, "", "", Text("expired", style="dim"))
        before = one["snapshot"]
        written = "" if one["written"] is None else f"{datetime.fromtimestamp(one['written'], UTC):%Y-%m-%d %H:%M}"
        operation = f"{one['operation']} to {one['parent']:06d}" if one["operation"] == "rollback" else one["operation"]
        table.add_row(
            f"{one['snapshot']:06d}",
            written,
            one["date"] or "",
            Text(operation + (", undone" if one["undone"] else ""), style="dim" if one["undone"] else ""),
            f"{one['read']:,}",
            *(f"+{one['in'][split]:,}" for split in SPLITS),
            "?" if one["out"] is None else f"-{sum(one['out'].values()):,}",
            *(f"{one[name]:,}" for name in ("duplicate", "quarantined", "dropped")),
            f"{sum(one['kept'].values()):,}",
        )
    yield table


def diff_table(found: Mapping[str, Any]) -> Iterable[Table | Text]:
    """Records and files between two snapshots."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("split", "in", "out", "stayed"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in SPLITS:
        table.add_row(split, *(f"{found[name][split]:,}" for name in ("in", "out", "stayed")))
    yield table
    moved = sum(found["moved"].values())
    yield Text(f"{moved:,} records moved between splits", style="red" if moved else "")
    for way, count in found["moved"].items():
        yield Text(f"  {way}: {count:,}")
    for one in found["moved_ids"]:
        yield Text(f"  {one}")
    for name, text in (("shared", "files of both"), ("in", "only of the second"), ("out", "only of the first")):
        yield Text(f"{text}: {found['files'][name]['files']:,} ({human_bytes(found['files'][name]['bytes'])})")


def expire_table(gone: Mapping[str, Any], dry_run: bool) -> Iterable[Table | Text]:
    """What went, or would go, by folder."""
    numbers = gone["snapshots"]
    would = "would go" if dry_run else "went"
    which = (
        f" ({', '.join(f'{number:06d}' for number in numbers[:8])}{' …' if len(numbers) > 8 else ''})"
        if numbers
        else ""
    )
    yield Text(f"{len(numbers):,} snapshots{which}, {len(gone['files']):,} files and {len(gone['work']):,} work folders "
               f"{would}, {human_bytes(gone['bytes'])}")  # fmt: skip
    folders = Counter("/".join(path.split("/")[:2]) for path in gone["files"])
    for folder, count in sorted(folders.items()):
        yield Text(f"  {folder}: {count:,} files")
    for plan in gone["work"]:
        yield Text(f"  work/{plan}")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    return table


def _row(table: Table, name: str, count: int, read: int, meaning: str) -> None:
    table.add_row(str(name), f"{count:,}", f"{count / read:.1%}", Text(meaning, style="dim"))


def short_path(path: str) -> str:
    relative = os.path.relpath(path) if path.startswith("/") else path
    return shlex.quote(relative if len(relative) < len(path) else path)
