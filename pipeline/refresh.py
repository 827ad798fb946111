"""Refresh: what a run on a dataset with snapshots starts from, and whether it may.

The new inputs are those that no live snapshot has consumed. What alters output must be as it was: a change
is told with both values, and with what to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date as day
from typing import Any, NamedTuple

import orjson
import yaml

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.history import consumed, left_index, outgrown
from pipeline.plan import REBUILD, Base, input_digest, versions
from pipeline.snapshots import SCHEMA_VERSION, Dataset
from transforms.decided import DECIDED, find_decided
from transforms.hashing import Keys
from transforms.index import SMALL_BYTES, Index, parts_of
from transforms.reasons import SPLITS, Outcome
from transforms.storage import Found

File = tuple[Found, str]  # with its kind

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

# Keys that may change from night to night, once the user said so: they are for new records only.
_FOR_NEW_RECORDS = (
    "split.val",
    "split.min_val",
    "split.eval",
    "split.eval_until",
    "split.eval_records",
    "write.shard_bytes",
)

# Keys that nothing but a dataset of its own can change: published splits hang on them.
_FOR_EVER = ("split.salt", "split.group_by")


@dataclass(frozen=True)
class Start:
    """What a run on a dataset starts from."""

    files: list[File]  # what is new
    base: Base
    parent: str  # digest of the newest manifest


def with_date(config: Config, date: str | None) -> Config:
    """The config with `{date}` in its inputs filled in. Raises UsageError."""
    if date is not None and not (_DATE.fullmatch(date) and _is_day(date)):
        raise UsageError(f"--date {date} is no date", "write it as 2026-11-22")
    wants = [
        pattern for source in (*config.inputs(), *config.sources) for pattern in source.input if "{date}" in pattern
    ]
    if wants and date is None:
        raise UsageError(f"the input {wants[0]} has {{date}} in it", "say which: --date 2026-11-22")
    if config.split.eval_until is not None and date is None:
        raise UsageError("split.eval_until needs the date of the run", "say it: --date 2026-11-22")
    if not wants or date is None:
        return config

    def dated(patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pattern.replace("{date}", date) for pattern in patterns)

    sources = tuple(source.model_copy(update={"input": dated(source.input)}) for source in config.sources)
    return config.model_copy(update={"input": dated(config.input), "sources": sources})


def _is_day(text: str) -> bool:
    try:
        day.fromisoformat(text)
    except ValueError:
        return False
    return True


def start_refresh(
    config: Config,
    dataset: Dataset,
    files: Sequence[File],
    keys: Keys,
    *,
    date: str | None,
    accept: bool,
    rebuild: bool,
) -> tuple[Start, list[str]]:
    """What a refresh, or a rebuild, of a dataset starts from at a date, and warnings. Raises UsageError."""
    manifest = dataset.manifest()
    _check_made_here(dataset, manifest, config, keys)
    warnings = _check_config(dataset, manifest, config, keys, accept=accept, rebuild=rebuild)
    now = versions()
    other = sorted(name for name in now if manifest["versions"].get(name) != now[name])
    if other and not rebuild:
        warnings.append(f"new records are made with other versions than those published: {', '.join(other)}")
    known = consumed(dataset, manifest)
    old = [file for file in files if input_digest(file[0], keys) in known]
    new = [file for file in files if input_digest(file[0], keys) not in known]
    if rebuild:
        logs = consumed(dataset, manifest, corrections=False)
        grown = outgrown(dataset, manifest, {input_digest(file, keys) for file, _ in old})
        _check_complete(len(logs - grown), len(old), accept=accept)
        if new:
            warnings.append(f"{len(new)} inputs are new; a rebuild leaves them to the next run")
    base = base_of(dataset, manifest, config, date, rebuild=rebuild)
    return Start(old if rebuild else new, base, manifest["digest"]), warnings


def is_rebuilt(config: Config, dataset: Dataset, start: Start, keys: Keys, benchmarks: Sequence[str]) -> bool:
    """Whether the newest snapshot is the rebuild that starts: of these inputs, by this config and these versions."""
    manifest = dataset.manifest()
    return (
        manifest["operation"] == REBUILD
        and manifest["versions"] == versions()
        and not changed_keys(manifest["config"], config, keys)
        and [one["digest"] for one in manifest["benchmarks"]] == list(benchmarks)
        and consumed(dataset, manifest, corrections=False) == {input_digest(file, keys) for file, _ in start.files}
    )


def _check_complete(consumed: int, found: int, *, accept: bool) -> None:
    """Raises UsageError where a rebuild would lose what can't be read again."""
    if found < consumed and not accept:
        raise UsageError(
            f"{consumed - found} of the {consumed} inputs that the dataset was made of are not there as they were: "
            "a rebuild would lose their records from train and val",
            "name all inputs, or let them go: add --accept",
        )


def base_of(dataset: Dataset, manifest: Mapping[str, Any], config: Config, date: str | None, *, rebuild: bool) -> Base:
    """What a snapshot leaves to the next run; to a rebuild, which reads the rest again, only eval and what was corrected.

    Eval is frozen too where the night of its last date was missed: `date` is after it.
    """
    accounting, split = manifest["accounting"], manifest["split"]
    if config.split.eval_records is not None:
        full = accounting["eval"] >= config.split.eval_records
    else:
        full = bool(config.split.eval_until and date and date > str(config.split.eval_until))
    index = [one for one in manifest["files"] if one["kind"] == "index"]
    paths = tuple(one["path"] for one in index)
    decided, counts = (
        find_decided(Index(dataset.storage, dataset.root, parts_of(paths))) if rebuild else (DECIDED.empty_table(), [])
    )
    train, val, _ = counts if rebuild else (accounting[split] for split in SPLITS)
    frozen, parquet = split["eval_frozen"] or full, any(one["kind"] == "parquet" for one in manifest["files"])
    return Base(
        paths,
        sum(one["bytes"] for one in index),
        tuple(one["path"] for one in manifest["files"] if one["kind"].startswith("suppressed")),
        guards=_eval_files(manifest) if rebuild else (),
        frozen_eval=_eval_files(manifest) if frozen and parquet else (),
        train=train,
        val=val,
        eval=accounting[Outcome.EVAL],
        eval_end=split["eval_end"],
        frozen=frozen,
        parquet=parquet,
        decided=decided.num_rows > 0,
        small={one["path"]: one["rows"] for one in index if one["bytes"] < SMALL_BYTES},
        left=left_index(dataset, manifest),
    )


def _eval_files(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the files of eval, in Parquet where there are any."""
    for kind in ("parquet", "jsonl"):
        found = [one["path"] for one in manifest["files"] if one["kind"] == kind and one.get("split") == Outcome.EVAL]
        if found:
            return tuple(found)
    return ()


def _check_made_here(dataset: Dataset, manifest: Mapping[str, Any], config: Config, keys: Keys) -> None:
    """Raises UsageError where the dataset has another schema, salt or key. The salt is no secret, the key is."""
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise UsageError(
            f"the dataset at {dataset.root} has schema {manifest['schema_version']}, this version writes {SCHEMA_VERSION}",
            f"{_start_new(dataset)}, or go on with the version that made it: {manifest['versions']['corpusmill']}",
        )
    for_ever = [one for one in changed_keys(manifest["config"], config, keys) if one.key in _FOR_EVER]
    if for_ever:
        raise UsageError(
            f"this can't change once a dataset is published: {_listed(for_ever)}",
            f"{_put_back(for_ever)}, or {_start_new(dataset)}",
        )
    other = told_key(manifest, keys)
    if other is not None:
        message, hint = other
        raise UsageError(f"the dataset at {dataset.root} {message}", f"{hint}, or {_start_new(dataset)}")


def told_key(manifest: Mapping[str, Any], keys: Keys) -> tuple[str, str] | None:
    """How a dataset was made with another secret key than is set now, by check values that tell nothing of either, and
    what to do; None where it is the same."""
    made, now = manifest["key_check"], keys.check
    if made == now:
        return None
    if keys.secret is None:
        return (
            f"was made with a secret key (check value {made}), and CORPUSMILL_KEY is not set (check value {now})",
            "set it: export CORPUSMILL_KEY_FILE=FILE",
        )
    if made == Keys(keys.salt).check:
        return (
            f"was made without a secret key (check value {made}), and CORPUSMILL_KEY is set (check value {now})",
            "go on without: unset CORPUSMILL_KEY CORPUSMILL_KEY_FILE",
        )
    return (
        f"was made with another secret key (CORPUSMILL_KEY): check value {made}, now {now}",
        "set the key that it was made with: export CORPUSMILL_KEY_FILE=FILE",
    )


def _check_config(
    dataset: Dataset, manifest: Mapping[str, Any], config: Config, keys: Keys, *, accept: bool, rebuild: bool
) -> list[str]:
    """Warnings of changes that are let pass. Raises UsageError for all others."""
    changed = changed_keys(manifest["config"], config, keys)
    redacted = [one for one in changed if one.key.startswith("redact.")]
    if rebuild and redacted and keys.secret is None:
        raise UsageError(
            "without a secret key (CORPUSMILL_KEY) a record is known by its redacted text alone, so after this change a "
            f"rebuild could put into train what was in eval: {_listed(redacted)}",
            f"{_put_back(redacted)}, or {_start_new(dataset)}, with CORPUSMILL_KEY set for changes to come",
        )
    if rebuild:
        return []
    others = [one for one in changed if one.key not in _FOR_NEW_RECORDS]
    if others:
        raise UsageError(
            f"the dataset was made with another config: {_listed(changed)}",
            f"{_put_back(others)}, {_start_new(dataset)}, or read all inputs again into the next snapshot: name them all "
            "and add --rebuild",
        )
    if changed and not accept:
        raise UsageError(
            f"the dataset was made with another config: {_listed(changed)}",
            f"{_put_back(changed)}, or let the change hold for new records only: add --accept",
        )
    return [f"for new records only: {_listed([one])}" for one in changed]


class Changed(NamedTuple):
    """A key of the config that alters output and differs, with its value in the manifest and now."""

    key: str
    was: Any
    now: Any


def changed_keys(made_with: Mapping[str, Any], config: Config, keys: Keys) -> list[Changed]:
    """The keys that alter output and differ from those that a dataset was made with."""
    before = Config.altering_of(made_with)
    after = config.altering(keys)
    return [
        Changed(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _listed(changed: Sequence[Changed]) -> str:
    return "; ".join(f"{one.key}: was {one.was!r}, is {one.now!r}" for one in changed)


def _put_back(changed: Sequence[Changed]) -> str:
    """What to add to a command so that it is as it was. Recognizers of one's own stand in manifests without their words."""
    told = [
        f"{one.key} in the config"
        if one.key == "redact.custom"
        else f"--set {shlex.quote(f'{one.key}={_as_yaml(one.was)}')}"
        for one in changed
    ]
    return f"put it back: {' '.join(told)}"


def _as_yaml(value: Any) -> str:
    """A value as `--set` reads it: JSON is YAML, and most words are so without quotes."""
    return value if isinstance(value, str) and yaml.safe_load(value) == value else orjson.dumps(value).decode()


def _start_new(dataset: Dataset) -> str:
    return f"start a new dataset: --output {shlex.quote(dataset.root.rstrip('/') + '-2')}"
