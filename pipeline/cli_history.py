"""The commands on what is published: log, diff, rollback, expire, signatures."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from pipeline.errors import GateError, UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Age(click.ParamType[float]):
    """A number with a unit: 90s, 30m, 12h, 2d; 0 needs none. Seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+)([smhd])|0", str(value), re.ASCII)
        if not found:
            self.fail(f"{value!r} is no age; write 12h or 2d", param, ctx)
        return float(found[1]) * _SECONDS[found[2]] if found[1] else 0.0


_output = click.argument("output", metavar="OUTPUT")
_json = click.option("as_json", "--json", is_flag=True, help="Print the result as JSON.")


@click.command()
@_output
@_json
def log(output: str, as_json: bool) -> None:
    """List the snapshots: what each took in, what came into the splits and what went."""
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.history import list_snapshots
    from pipeline.tables import log_table

    listed = list_snapshots(_dataset(output))
    if as_json:
        _print_json(listed)
    else:
        for table in log_table(listed):
            _OUT.print(table)


@click.command()
@_output
@click.argument("a", type=click.IntRange(min=1))
@click.argument("b", type=click.IntRange(min=1))
@_json
def diff(output: str, a: int, b: int, as_json: bool) -> None:
    """Count the records that came, went and stayed from snapshot A to snapshot B.

    None ever moves from split to split: where one did, exit 3.
    """
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.history import compare_snapshots
    from pipeline.tables import diff_table

    found = compare_snapshots(_dataset(output), a, b)
    if as_json:
        _print_json(found)
    else:
        for table in diff_table(found):
            _OUT.print(table)
    if found["moved"]:
        sys.exit(GateError.exit_code)


@click.command()
@_output
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@_json
def rollback(output: str, number: int, as_json: bool) -> None:
    """Go back to snapshot N: a new snapshot lists its files. The logs taken in since then count as new again."""
    from pipeline.cli import _dataset, _print_json, _say
    from pipeline.history import freed_inputs, roll_back

    dataset = _dataset(output)
    before = dataset.manifest()
    after, is_new = roll_back(dataset, number)
    if as_json:
        _print_json({"snapshot": after["snapshot"], "parent": after["parent"], "new": is_new})
        return
    if not is_new:
        _say(f"nothing to do: the dataset is as snapshot {number:06d} left it")
        return
    _say(f"snapshot {after['snapshot']:06d} lists the files of snapshot {number:06d}")
    freed = freed_inputs(dataset, before, after)
    if freed:
        _say(
            f"{freed:,} inputs taken in since then count as new again: the next run reads those that its patterns still "
            "match, so mend or move what must not come back"
        )


@click.command()
@_output
@click.option(
    "--keep", type=click.IntRange(min=1), required=True, metavar="N", help="Snapshots to keep, the newest ones."
)
@click.option(
    "--older-than", type=Age(), default="1d", show_default=True, metavar="AGE",
    help="Remove what runs left uncommitted once it is older: 12h, 2d; 0 for all, if no run is in progress.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@_json
def expire(output: str, keep: int, older_than: float, dry_run: bool, as_json: bool) -> None:
    """Remove old snapshots, the files that only they list, and what runs left that came to nothing.

    The records of the snapshots that stay are not touched: their files stay, whichever snapshot wrote them.
    """
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.expire import expire_snapshots
    from pipeline.tables import expire_table

    gone = expire_snapshots(_dataset(output), keep, older_than, dry_run=dry_run)
    if as_json:
        _print_json(gone.as_dict())
    else:
        for table in expire_table(gone.as_dict(), dry_run):
            _OUT.print(table)
    if gone.postponed:
        raise UsageError("a rollback is in progress, so files stay for now", "run it again in a minute")


@click.command()
@_output
@click.option(
    "--to", "target", required=True, metavar="FILE", help="The Parquet file to write; local, s3://, gs://, az://."
)
@click.option("--split", type=click.Choice(["train", "val", "eval"]), help="Only records of this split.")
@_json
def signatures(output: str, target: str, split: str | None, as_json: bool) -> None:
    """Write the MinHash signature that datasketch gives each published record, with its id and split.

    Others can compare their records with these, or leave out what resembles them by `run --decontaminate FILE`,
    without seeing a text. Whoever has a guess at a record can confirm it: the seed is public.
    """
    from pipeline.cli import _dataset, _print_json, _say
    from pipeline.places import absolute, usable
    from pipeline.signatures import write_signatures

    with usable(target, "write the signatures"):
        count = write_signatures(_dataset(output), absolute(target), split)
    if as_json:
        _print_json({"file": target, "records": count})
    else:
        _say(f"{count:,} signatures in {target}")


COMMANDS = (log, diff, rollback, expire, signatures)
