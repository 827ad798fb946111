"""The commands that rewrite what is published: forget, apply, compact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.errors import UsageError

_output = click.argument("output", metavar="OUTPUT")
_json = click.option("as_json", "--json", is_flag=True, help="Print the result as JSON.")


@click.command()
@_output
@click.option("groups", "--group", multiple=True, metavar="ID…",
              help="Value of split.group_by as in the logs, or the digest that data files show; takes all arguments "
              "up to the next option.")  # fmt: skip
@click.option("file", "--group-file", metavar="FILE", help="A file of them, one a line; - for stdin.")
@_json
def forget(output: str, groups: tuple[str, ...], file: str | None, as_json: bool) -> None:
    """Remove people from every split, the index, the lineage and the report, for good.

    Later runs leave their records out. Prints a certificate: what went from where, and that a search finds none.
    An ID that is also a number, or 32 hex digits, is taken in each way that it can be read.
    """
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.forget import forget_groups
    from pipeline.tables_rewrite import forget_table

    given = [*groups, *_lines(file)]
    dataset = _dataset(output)
    certificate = forget_groups(dataset, given, _keys(dataset))
    if as_json:
        _print_json(certificate)
    else:
        for table in forget_table(certificate):
            _OUT.print(table)


@click.command()
@_output
@click.argument("decisions", metavar="DECISIONS.jsonl")
@click.option(
    "config_path",
    "--config",
    metavar="CONFIG.yaml",
    help="The dataset's config; needed where it has deny lists, and for its benchmarks.",
)
@_json
def apply(output: str, decisions: str, config_path: str | None, as_json: bool) -> None:
    """Carry out human decisions, a line each: {"id": …, "decision": "keep" | "cut" | "fix", "messages": […]}.

    A corrected record takes the original's place in its split and wins over it for good; what is cut stays away.
    Records of eval are not corrected. One decision that can't be carried out stops them all (exit 2).
    """
    from pipeline.apply import apply_decisions, read_decisions
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.config import load_config
    from pipeline.tables_rewrite import apply_table

    dataset = _dataset(output)
    config = load_config(config_path) if config_path else None
    done = apply_decisions(dataset, [read_decisions(decisions)], _keys(dataset), config)
    if as_json:
        _print_json(done)
    else:
        for table in apply_table(done):
            _OUT.print(table)


@click.command()
@_output
@click.option("--min-files", type=click.IntRange(min=2), default=8, show_default=True, metavar="N",
              help="Leave a split, or a kind of the index, as it is where it has fewer small files.")  # fmt: skip
@_json
def compact(output: str, min_files: int, as_json: bool) -> None:
    """Merge the many small files of many nights into few of about write.shard_bytes. Eval stays as it is."""
    from pipeline.cli import _OUT, _dataset, _print_json
    from pipeline.compact import compact_dataset
    from pipeline.tables_rewrite import compact_table

    dataset = _dataset(output)
    done = compact_dataset(dataset, _keys(dataset), min_files)
    if as_json:
        _print_json(done)
    else:
        for table in compact_table(done):
            _OUT.print(table)


def _keys(dataset: Any) -> Any:
    from pipeline.config import load_keys

    return load_keys(dataset.manifest()["config"]["split"]["salt"])


def _lines(file: str | None) -> list[str]:
    """The lines of a file as they are, but for line ends and a byte order mark; blank ones are left out."""
    if file is None:
        return []
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
        return [line.removesuffix("\r") for line in lines if line.strip()]
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8") from None


COMMANDS = (forget, apply, compact)
