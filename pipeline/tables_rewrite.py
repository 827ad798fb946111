"""What the commands that rewrite a dataset print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.tables import short_path
from pipeline.templates import human_bytes


def forget_table(certificate: Mapping[str, Any]) -> Iterable[Table | Text]:
    """The certificate of `forget`."""
    removed, search = certificate["removed"], certificate["search"]
    number = f"{certificate['snapshot']:06d}"
    yield Text(f"Forgotten in snapshot {number} of {certificate['dataset']}" if certificate["committed"]
               else f"Nothing to forget: snapshot {number} of {certificate['dataset']} holds none of it")  # fmt: skip
    table = Table(show_header=False, box=None)
    table.add_row("groups found", f"{len(certificate['groups']):,}, of {certificate['given']:,} given")
    for split, count in removed["records"].items():
        table.add_row(f"records of {split}", f"{count:,}")
    table.add_row("input lines", f"{removed['lines']:,} say `forgotten` and name nobody")
    table.add_row("references", f"{removed['references']:,} lines of others no longer name a record that went")
    for kind, count in removed["index_rows"].items():
        table.add_row(f"index, {kind}", f"{count:,} rows")
    table.add_row("suppressed", f"{certificate['suppressed']:,} groups, which every later run leaves out")
    table.add_row("rewritten", _cost(certificate["cost"]))
    table.add_row("search", f"{search['files']:,} files, {search['rows']:,} rows: {search['found']} found")
    yield table
    for digest in certificate["groups"]:
        yield Text(f"group    {digest}")
    if certificate["unknown"]:
        yield Text(
            f"not known here, suppressed all the same: number {_numbers(certificate['unknown'])} of those given",
            style="yellow",
        )
    if certificate["only_in_older"]["given"]:
        given, snapshots = (_numbers(certificate["only_in_older"][name]) for name in ("given", "snapshots"))
        yield Text(
            f"suppressed, and known only by what the dataset is not made of any more, in snapshots that are kept ({snapshots}): "
            f"number {given} of those given",
            style="yellow",
        )
    if certificate["trial_removed"]:
        yield Text("the folder trial/ was removed too")
    if certificate["uncommitted_removed"]:
        yield Text(f"{certificate['uncommitted_removed']:,} files were removed that runs left and nobody had committed")
    if certificate["older_snapshots"]:
        yield Text(
            f"still on disk in {len(certificate['older_snapshots']):,} older snapshots, until they expire",
            style="yellow",
        )
        yield Text(f"next     corpusmill expire {short_path(certificate['dataset'])} --keep 1")
    for one in certificate["out_of_reach"]:
        yield Text(f"out of reach of this command: {one}", style="dim")


def apply_table(done: Mapping[str, Any]) -> Iterable[Table | Text]:
    """What became of decisions."""
    number = f"{done['snapshot']:06d}"
    yield Text(f"Snapshot {number} of {done['dataset']}" + ("" if done["committed"] else ", as it was: nothing to do"))
    table = Table(show_header=False, box=None)
    for name, text in (("fixed", "corrected records stand in the place of theirs"), ("cut", "records went"),
                       ("gave_way", "near-duplicates gave way to corrected records"),
                       ("kept", "stay as they are"), ("already", "were carried out before")):  # fmt: skip
        table.add_row(name.replace("_", " "), f"{done[name]:,}", text)
    table.add_row("rewritten", "", _cost(done["cost"]))
    yield table


def compact_table(done: Mapping[str, Any]) -> Iterable[Table | Text]:
    """What was merged."""
    number = f"{done['snapshot']:06d}"
    if not done["committed"]:
        yield Text(f"Snapshot {number} of {done['dataset']}, as it was: too few small files to merge")
        return
    yield Text(f"Snapshot {number} of {done['dataset']}: {done['files_before']:,} files became {done['files_after']:,}, "
               f"{human_bytes(done['bytes_written'])} written")  # fmt: skip
    table = Table(show_header=False, box=None)
    for name, count in done["merged"].items():
        table.add_row(name.replace("_", " "), f"{count:,} small files merged")
    yield table


def _numbers(some: Sequence[int]) -> str:
    return ", ".join(f"{one:,}" for one in some[:20]) + (" …" if len(some) > 20 else "")


def _cost(cost: Mapping[str, int]) -> str:
    return (
        f"{cost['files_rewritten']:,} of {cost['files']:,} files, "
        f"{human_bytes(cost['bytes_rewritten'])} of {human_bytes(cost['bytes'])}"
    )
