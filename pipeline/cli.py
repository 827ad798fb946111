"""The command line. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from pipeline import cli_history, cli_rewrite
from pipeline.errors import CorpusmillError, GateError, RunFailed, UsageError, hush_threads

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.run import Prepared
    from pipeline.snapshots import Dataset

_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
_MANY = ("--input", "-i", "--group", "--decontaminate")  # options that take every argument up to the next option


def console() -> None:
    """The console script: `main`, then the end of the process without tearing the interpreter down.

    A thread of Arrow may let go of what it read from Python's memory long after that was used, and aborts the process
    where the interpreter is ending: of short runs one in twenty ended so (134), once all was done.
    """
    ended = [1]
    atexit.register(_leave, ended)  # before what Beam registers, and so after it
    try:
        main()
    except SystemExit as end:
        ended[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _leave(ended: Sequence[int]) -> None:
    (code,) = ended
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            pass  # who read it had enough
        except (OSError, ValueError):
            code = code or 4
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. Raises SystemExit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    hush_threads()
    logging.basicConfig(format="corpusmill: %(message)s")
    logging.getLogger().setLevel(logging.ERROR)  # Beam warns of clouds that nobody asked for
    logging.getLogger("corpusmill").setLevel(logging.WARNING)
    try:
        ours, beam = split_beam(given)
        code = cli.main(spread_inputs(ours), prog_name="corpusmill", standalone_mode=False, obj=beam)
    except click.exceptions.NoArgsIsHelpError as help_text:
        click.echo(help_text.format_message())
        code = 0
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "corpusmill"
        _complain(error.format_message(), f"{where} --help")
        code = 2
    except CorpusmillError as error:
        _complain(str(error), error.hint)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; what was under way was not committed", "running again resumes")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        code = _told_damage(error) or _told_store(error) or _bug(error)
    sys.exit(code)


def split_beam(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and Beam's: those after the first `--`. Raises UsageError where the command takes none."""
    if "--" not in arguments:
        return list(arguments), []
    place = list(arguments).index("--")
    ours, beam = list(arguments[:place]), list(arguments[place + 1 :])
    if beam and ours[:1] != ["run"]:
        raise UsageError(f"only `corpusmill run` takes options for Beam after `--`, here: {beam[0]}")
    return ours, beam


def spread_inputs(arguments: Sequence[str]) -> list[str]:
    """Arguments with each value of `--input` after an `--input` of its own.

    >>> spread_inputs(["run", "--input", "a", "b", "c.yaml", "--output", "o"])
    ['run', '--input', 'a', '--input', 'b', 'c.yaml', '--output', 'o']
    """
    spread: list[str] = []
    option, filled = "", True
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            option, filled = (argument, False) if argument in _MANY else ("", True)
            spread.append(argument)
        elif option and not (filled and argument.endswith((".yaml", ".yml"))):
            spread += [argument] if not filled else [option, argument]
            filled = True
        else:
            option = ""
            spread.append(argument)
    return spread


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="corpusmill", prog_name="corpusmill")
def cli() -> None:
    """Turn raw production chat logs into a fine-tuning dataset that can be trusted.

    First time? Run it on a few files and read the report that it names:

      corpusmill run --input logs/*.jsonl --output out/dataset

    Exit codes: 0 done or nothing new; 1 a bug; 2 something to put right before the run starts; 3 a gate or a
    finding; 4 the run failed; 5 another run was first; 130 interrupted.
    """


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """CONFIG.yaml, --input and --set."""
    for option in (
        click.option(
            "assignments", "--set", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a key of the config; repeatable."
        ),
        click.option(
            "inputs", "--input", "-i", multiple=True, metavar="PATTERN…",
            help="Files, folders or patterns (JSONL or JSON arrays; .gz, .zst, .bz2; local, s3://, gs://, az://); "
            "takes all arguments up to the next option.",
        ),
        click.argument("config_path", metavar="[CONFIG.yaml]", required=False),
    ):  # fmt: skip
        command = option(command)
    return command


_json_option = click.option("as_json", "--json", is_flag=True, help="Print the result as JSON.")
_output_argument = click.argument("output", metavar="OUTPUT")


def _load(config_path: str | None, assignments: Sequence[str], **overrides: Any) -> Config:
    if config_path and not config_path.endswith((".yaml", ".yml")):
        raise UsageError(
            f"{config_path!r} is not a config: its name must end in .yaml or .yml", "name input files after --input"
        )
    from pipeline.config import load_config

    return load_config(config_path, assignments, overrides)


@cli.command(options_metavar="[OPTIONS] [-- BEAM OPTIONS]")
@_config_options
@click.option("--output", "-o", metavar="URI", help="The dataset's folder: local, s3://, gs://, az://.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="A trial of the first N lines, in OUTPUT/trial.")
@click.option("--date", metavar="YYYY-MM-DD", help="Fills {date} in the patterns of the input: the night to take in.")
@click.option(
    "--rebuild", is_flag=True, help="Read all inputs again into the next snapshot; published splits and eval stay."
)
@click.option("--require-input", is_flag=True, help="Fail (exit 2) where no file matches, even on a refresh.")
@click.option(
    "benchmarks",
    "--decontaminate",
    multiple=True,
    metavar="FILE…",
    help="Benchmarks (JSONL, Parquet) whose items no record may hold; takes all arguments up to the next option.",
)
@click.option("--accept", is_flag=True, help="Commit in spite of gates; let changed fractions hold for new records.")
@click.option("--keep-work", is_flag=True, help="Keep the intermediate files after the commit.")
@_json_option
@click.pass_obj
def run(
    beam: list[str],
    config_path: str | None,
    inputs: tuple[str, ...],
    assignments: tuple[str, ...],
    output: str | None,
    limit: int | None,
    date: str | None,
    rebuild: bool,
    require_input: bool,
    benchmarks: tuple[str, ...],
    accept: bool,
    keep_work: bool,
    as_json: bool,
) -> None:
    """Make the dataset: read, validate, redact, de-duplicate, split, write, commit.

    On a dataset that is there it takes in the inputs that are new; what is published stays where it is.
    Interrupted runs resume when run again. Beam's own options follow after `--`, as
    `-- --runner FlinkRunner`; without them the run stays on this machine.
    """
    from pipeline.corrections import apply_corrections, told_with
    from pipeline.run import Asked, prepare

    config = _load(config_path, assignments, input=list(inputs), output=output, decontaminate=list(benchmarks))
    asked = Asked(limit, require_input, date, rebuild, accept)
    prepared = prepare(config, _say, asked)  # first: what is wrong with the run must be told before anything is done
    corrected = 0 if limit or rebuild else apply_corrections(config, date, _say)
    with told_with(corrected, _say):
        if corrected:
            prepared = prepare(config, _say, asked)
        manifest = _execute(prepared, beam, limit=bool(limit), accept=accept, keep_work=keep_work) if prepared else None
    if prepared is None:
        if as_json:
            _print_json({"nothing_new": True})
        return
    if manifest is None:
        template = _template_of(beam)
        if template:
            _say(f"the job was written as a template, and not run: {template}")
        else:
            _say("the job was submitted and commits as its last step; run this again later to hear what came of it")
        if as_json:
            _print_json({"submitted": not template, "plan": prepared.plan.id})
        return
    _warn_of_empty(prepared.dataset, manifest)
    if as_json:
        _print_json({"dataset": prepared.dataset.root, **{key: manifest[key] for key in
                     ("snapshot", "plan", "accounting", "warnings")}})  # fmt: skip
    else:
        from pipeline.tables import run_table

        for table in run_table(prepared.dataset, manifest):
            _OUT.print(table)


def _warn_of_empty(dataset: Dataset, manifest: dict[str, Any]) -> None:
    """Says which logs were taken in and have nothing in them, as a night without logs is told."""
    from pipeline.history import empty_inputs

    empty = empty_inputs(dataset, manifest)
    if empty:
        more = f" and {len(empty) - 3:,} more" if len(empty) > 3 else ""
        _say(f"warning: there is no line in {', '.join(empty[:3])}{more}")


def _execute(
    prepared: Prepared, beam: Sequence[str], *, limit: bool, accept: bool, keep_work: bool
) -> dict[str, Any] | None:
    """Says what is run, and runs it."""
    from pipeline.run import clear_trial, execute

    if prepared.keys.secret is None:
        surrogates = " and at what surrogates stand for" if prepared.config.redact.writes_surrogates else ""
        _say(
            f"warning: CORPUSMILL_KEY is not set; the salt stands in for the secret key, and whoever knows it can confirm guesses at group values{surrogates}, and craft texts that pass for duplicates"
        )
    if limit:
        clear_trial(prepared)
    _say(f"plan {prepared.plan.id}: {len(prepared.plan.inputs):,} inputs, {prepared.plan.input_bytes:,} bytes, "
         f"{len(prepared.plan.units):,} work units")  # fmt: skip
    return execute(prepared, beam, _ERR, accept=accept, keep_work=keep_work)


@cli.command()
@_config_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Look at the first N lines of each file only.")
@_json_option
def check(
    config_path: str | None, inputs: tuple[str, ...], assignments: tuple[str, ...], limit: int | None, as_json: bool
) -> None:
    """Say what would be quarantined and why, without writing anything. Exit 3 where something would be."""
    from pipeline.check import check_inputs

    config = _load(config_path, assignments, input=list(inputs))
    findings = check_inputs(config, limit)
    if as_json:
        _print_json(findings)
    else:
        from pipeline.tables import check_table

        for table in check_table(findings):
            _OUT.print(table)
    if findings["quarantined"]:
        sys.exit(GateError.exit_code)


@cli.command()
@_config_options
@click.option("--output", "-o", metavar="URI", help="The dataset's folder.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Estimate each stage on N workers of one core."
)
@click.option("--size", metavar="SIZE", help="Of a corpus that is not there, as 10TB; with --workers.")
@click.option("--price", type=click.FloatRange(min=0), metavar="P", help="Of a worker for an hour, for the cost.")
@_json_option
def plan(
    config_path: str | None,
    inputs: tuple[str, ...],
    assignments: tuple[str, ...],
    output: str | None,
    workers: int | None,
    size: str | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Say what a run would read, cut, hold and write, and the free space. Nothing is written.

    With --workers: bytes, requests, memory and hours of each stage too, from rates that were measured elsewhere.
    """
    from pipeline.run import prepare, space
    from pipeline.scale import MOST_BYTES, Corpus, estimate, size_of
    from pipeline.tables import estimate_table, plan_table, plan_values

    if (size or price is not None) and not workers:
        raise UsageError("--size and --price need a number of workers", "add --workers N")
    if price is not None and not math.isfinite(price):
        raise UsageError(f"{price} is no price", "write one as 0.05")
    config = _load(config_path, assignments, input=list(inputs), output=output)
    if size and workers:
        near, redact = config.dedupe.near, config.redact.enabled
        corpus = Corpus.sized(size_of(size), config.read.unit_bytes, config.write.shard_bytes, near=near, redact=redact)
        if corpus.size > MOST_BYTES:
            _say("warning: past 16 TiB segments grow with the text: docs/scaling.md says where the limits lie")
        found = estimate(corpus, workers, price)
        if as_json:
            _print_json(found)
        else:
            for table in estimate_table(found):
                _OUT.print(table)
        return
    prepared = prepare(config, _say)
    if prepared is None:
        if as_json:
            _print_json({"nothing_new": True})
        return
    values = plan_values(prepared.plan, prepared.dataset, prepared.work, space(prepared))
    if workers:
        values["estimate"] = estimate(Corpus.of(prepared.plan), workers, price)
    if as_json:
        _print_json(values)
        return
    for table in plan_table(values):
        _OUT.print(table)
    if workers:
        for table in estimate_table(values["estimate"]):
            _OUT.print(table)


@cli.command()
@_output_argument
@click.option("--sample", type=click.IntRange(min=0), default=10_000, show_default=True, metavar="N",
              help="Records to scan again for personal data; 0 scans all.")  # fmt: skip
@_json_option
def verify(output: str, sample: int, as_json: bool) -> None:
    """Check a dataset: digests, accounting, splits, leaks, and a new scan for personal data. Exit 3 with findings."""
    from pipeline.verify import verify_dataset

    findings = verify_dataset(_dataset(output), sample or None, _say)
    if as_json:
        _print_json({"findings": findings})
    elif findings:
        for finding in findings:
            _OUT.print(f"✗ {finding}", markup=False)
    else:
        _OUT.print("✓ all is as the manifest says")
    if findings:
        sys.exit(GateError.exit_code)


@cli.command()
@_output_argument
@click.option("--split", type=click.Choice(["train", "val", "eval"]), help="Only files of this split.")
@click.option(
    "--kind",
    type=click.Choice(["parquet", "jsonl", "lineage", "report", "inputs", "index"]),
    help="Only files of this kind.",
)
@click.option("--snapshot", type=click.IntRange(min=1), metavar="N", help="Those of snapshot N, not of the newest.")
@_json_option
def files(output: str, split: str | None, kind: str | None, snapshot: int | None, as_json: bool) -> None:
    """Print the current snapshot's files, one a line, whichever snapshot wrote them."""
    dataset = _dataset(output)
    found = dataset.files(dataset.manifest(snapshot), kind, split)
    if as_json:
        _print_json(found)
    else:
        for uri in found:
            click.echo(uri)


@cli.command()
@_output_argument
def report(output: str) -> None:
    """Build the report's page again from report.json, and the card; print where the page is."""
    from pipeline.report import rebuild_page

    dataset = _dataset(output)
    click.echo(rebuild_page(dataset))


@cli.command()
@_output_argument
@click.argument("what", metavar="ID|SHARD:LINE")
@_json_option
def why(output: str, what: str, as_json: bool) -> None:
    """Say where a record came from, or why a line of the input is not there.

    ID is 32 hex digits; SHARD the name of an input as reports give it, or the end of one, LINE counts from 1.
    """
    from pipeline.why import find_fates

    fates = find_fates(_dataset(output), what)
    if as_json:
        _print_json(fates)
    else:
        from pipeline.tables import why_table

        for table in why_table(fates):
            _OUT.print(table)


@cli.group()
def tune() -> None:
    """Try settings on a sample of the input before a run."""


@tune.command("dedupe")
@_config_options
@click.option("--sample", type=click.IntRange(min=2), default=10_000, show_default=True, metavar="N",
              help="Lines to read: the first ones of every input, an equal share of each.")  # fmt: skip
@click.option(
    "--html", "page", metavar="FILE", help="Write a page with pairs beside each threshold; it shows redacted texts."
)
@_json_option
def tune_dedupe_command(
    config_path: str | None,
    inputs: tuple[str, ...],
    assignments: tuple[str, ...],
    sample: int,
    page: str | None,
    as_json: bool,
) -> None:
    """Say how many records each `dedupe.threshold` would drop, and show pairs on both sides of it."""
    from pipeline.tune import tune_dedupe

    values = tune_dedupe(_load(config_path, assignments, input=list(inputs)), sample, page, _say)
    if as_json:
        _print_json(values)
    else:
        from pipeline.tables import tune_table

        for table in tune_table(values):
            _OUT.print(table)


@cli.command("config")
@click.option("init", "--init", is_flag=True, help="Print a commented config with every key; its salt is drawn anew.")
@click.option("schema", "--schema", is_flag=True, help="Print the config's JSON schema.")
def config_command(init: bool, schema: bool) -> None:
    """Print a commented config, or its JSON schema."""
    if init == schema:
        raise click.UsageError("give --init or --schema")
    from pipeline.config import Config, commented_config

    if init:
        click.echo(commented_config(), nl=False)
    else:
        _print_json(Config.model_json_schema(by_alias=True))


for _command in (*cli_history.COMMANDS, *cli_rewrite.COMMANDS):
    cli.add_command(_command)


def _template_of(beam: Sequence[str]) -> str | None:
    """Where Beam's options have the job written to instead of run."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

    place: str | None = PipelineOptions(list(beam)).view_as(GoogleCloudOptions).template_location
    return place


def _dataset(output: str) -> Any:
    from pipeline.places import absolute, usable
    from pipeline.snapshots import Dataset
    from transforms.storage import Storage

    dataset = Dataset(Storage(), absolute(output))
    with usable(dataset.root):
        dataset.storage.reach(dataset.root)
    return dataset


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _say(message: str) -> None:
    _ERR.print(f"corpusmill: {message}", markup=False)


def _complain(message: str, hint: str | None) -> None:
    _ERR.print(f"corpusmill: {message}", style="red", markup=False)
    if hint:
        _ERR.print(f"  → {hint}", markup=False)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _told_damage(error: Exception) -> int:
    """Says which file of a dataset is missing or damaged, with the exit code; 0 where the error is another."""
    from transforms.storage import DamageFault

    if not isinstance(error, DamageFault):
        return 0
    _complain(str(error), "corpusmill verify OUTPUT")
    return UsageError.exit_code


def _told_store(error: Exception) -> int:
    """Says that a store, or a folder, refuses, or does not answer, with the exit code; 0 where the error is another."""
    from transforms.stores import is_denied, is_passing

    if is_denied(error):
        _complain("a store, or a folder, denies access", "give the credentials the rights that deploy/policies names")
        return UsageError.exit_code
    if is_passing(error):
        _complain(f"a store is out of reach, or busy ({type(error).__name__})", "run it again when it answers")
        return RunFailed.exit_code
    return 0


def _bug(error: Exception) -> int:
    """Says where a bug of ours is, without the error's message, which may quote a record."""
    _complain(f"a bug: {type(error).__name__}; please report it with these lines, which hold no content:", None)
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        _ERR.print(f"  {code.co_filename}:{trace.tb_lineno} {code.co_name}", markup=False)
        trace = trace.tb_next
    return 1
