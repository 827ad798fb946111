"""The config: one YAML file, checked as a whole before any work.

The sections that stages need live with the stages, in `transforms.options`; here are the others, and
loading: a file, then `--set section.key=value`, then the options of the command line.
"""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from pipeline.errors import UsageError
from transforms.canonical import canonical_json
from transforms.hashing import Keys, content_digest
from transforms.options import (
    DedupeOptions,
    Fraction,
    Natural,
    Options,
    ReadOptions,
    RedactOptions,
    SplitOptions,
    ValidateOptions,
    WriteOptions,
)

NonNegative = Annotated[float, Field(ge=0.0)]


class StorageOptions(Options):
    """How object stores are reached, beyond their usual variables and files."""

    endpoint: str | None = Field(
        None,
        description="URL of an S3- or GCS-compatible server; commands without a config need `AWS_ENDPOINT_URL` or "
        "`STORAGE_EMULATOR_HOST` instead",
    )
    profile: str | None = Field(
        None, description="profile of the AWS credentials file; commands without a config need `AWS_PROFILE` instead"
    )


class Source(Options):
    """Inputs of one kind. Among duplicates production wins over expert, synthetic and public, in this order.

    `corrected` marks records that replace published ones: {"corrects": id, "messages": […]}, or another shape of logs.
    """

    input: tuple[str, ...]
    kind: Literal["production", "expert", "synthetic", "public"] = "production"
    weight: Literal[1] = 1  # other weights are not available yet
    corrected: bool = False

    @field_validator("input", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class GateOptions(Options):
    """Limits; beyond one the run ends with exit 3 and commits nothing. Those against the last 7 snapshots need 3."""

    max_quarantined: Fraction = Field(0.5, description="largest share of lines that may be quarantined")
    min_kept: Natural = Field(1, description="fewest records that must be kept")
    max_quarantined_rise: Fraction | None = Field(
        0.2, description="how far the share of quarantined lines may lie above the median of the last 7 snapshots"
    )
    max_duplicates_change: Fraction | None = Field(
        0.4, description="how far the share of duplicates among sound lines may lie from that median, either way"
    )
    max_refusals_rise: Fraction | None = Field(
        0.2, description="the same for assistant turns that begin like a refusal (English phrases), upwards"
    )
    max_length_drift: Fraction | None = Field(
        0.4,
        description="how far lengths of records may move: total variation distance from the last 7, in half octaves",
    )
    max_script_drift: Fraction | None = Field(
        0.3, description="how far the mix of scripts may move (letters by Unicode script, which tells some languages)"
    )
    min_volume: NonNegative | None = Field(
        None, description="fewest lines, as a multiple of the median of the last 7 snapshots: 0.5"
    )
    max_volume: NonNegative | None = Field(None, description="most lines, as such a multiple: 3")


class AuditOptions(Options):
    """Findings beyond redaction: none in this version."""


class SampleOptions(Options):
    """A sample of the dataset that mirrors another distribution."""

    mirror: None = Field(None, description="not available yet")


class QuarantineOptions(Options):
    """What is kept of broken records."""

    keep_content: None = Field(None, description="not available yet: quarantined content is never kept")


class Config(Options):
    """The whole config, resolved."""

    input: tuple[str, ...] = Field((), description="files, folders or patterns: local, s3://, gs://, az://")
    sources: tuple[Source, ...] = Field((), description="instead of input: several, each with its kind")
    output: str | None = Field(None, description="the dataset's folder: local, s3://, gs://, az://")
    work: str | None = Field(None, description="where intermediate runs go; null: OUTPUT/work")
    decontaminate: tuple[str, ...] = Field(
        (), description="benchmarks (JSONL, Parquet) whose items no record may hold; such records are left out"
    )
    storage: StorageOptions = StorageOptions()
    read: ReadOptions = ReadOptions()
    validate_: ValidateOptions = Field(ValidateOptions(), alias="validate")
    redact: RedactOptions = RedactOptions()
    dedupe: DedupeOptions = DedupeOptions()
    split: SplitOptions = SplitOptions()
    write: WriteOptions = WriteOptions()
    audit: AuditOptions = AuditOptions()
    sample: SampleOptions = SampleOptions()
    gates: GateOptions = GateOptions()
    quarantine: QuarantineOptions = QuarantineOptions()

    @field_validator("input", "decontaminate", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_input(self) -> Config:
        if self.input and self.sources:
            raise ValueError("give `input` or `sources`, not both")
        if self.redact.writes_surrogates and not self.write.parquet:
            raise ValueError("redact.replace: surrogate needs write.parquet: the ids of such records are in no JSONL")
        if self.redact.enabled and self.redact.model is not None:
            from transforms.named import check_models

            check_models(self.redact)
        if isinstance(self.redact.entities, tuple):
            from transforms.policy import check_entities  # loads Presidio: only for who names types

            check_entities(self.redact)
        return self

    def inputs(self) -> list[Source]:
        """What to read, by kind."""
        return [Source(input=self.input)] if self.input else [one for one in self.sources if not one.corrected]

    def as_dict(self, keys: Keys) -> dict[str, Any]:
        """The config as it is written in YAML. Deny lists name people: they are given as keyed digests."""
        values = self.model_dump(mode="json", by_alias=True)
        for custom in values["redact"]["custom"]:
            custom["deny"] = [keys.value(word.encode()).hex() for word in custom["deny"]]
        return values

    def altering(self, keys: Keys) -> dict[str, Any]:
        """The keys that alter output, flat: what the fingerprint is made of."""
        return self.altering_of(self.as_dict(keys))

    @staticmethod
    def altering_of(values: Mapping[str, Any]) -> dict[str, Any]:
        """The same of `as_dict`, as manifests keep it."""
        return {key: value for key, value in _flat(values) if not key.startswith(_NOT_ALTERING)}

    def fingerprint(self, keys: Keys) -> str:
        """32 hex digits of the keys that alter output."""
        return self.fingerprint_of(self.as_dict(keys))

    @staticmethod
    def fingerprint_of(values: Mapping[str, Any]) -> str:
        """The same of `as_dict`, as manifests keep it."""
        return content_digest(canonical_json(Config.altering_of(values))).hex()

    @staticmethod
    def redact_options_of(values: Mapping[str, Any]) -> RedactOptions:
        """The options of redaction in a manifest, but for deny lists, of which it has digests only."""
        custom = [one for one in values["redact"]["custom"] if not one["deny"]]
        return RedactOptions.model_validate({**values["redact"], "custom": custom})


_NOT_ALTERING = (
    "input",
    "sources",
    "output",
    "work",
    "decontaminate",  # by what its files hold, not by their names
    "storage",
    "gates",
    "quarantine",
    "read.max_bad_shards",
    "read.block_bytes",
    "read.unit_bytes",
)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load_config(
    path: str | None, assignments: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """The config of a file with `section.key=value` assignments and top-level overrides. Raises UsageError."""
    values = _read_yaml(path) if path else {}
    for assignment in assignments:
        _assign(values, assignment)
    for key, value in (overrides or {}).items():
        if value:
            values[key] = value
            if key == "input":
                values.pop("sources", None)
    for section in [name for name, value in values.items() if value is None and _known([name])]:
        del values[section]  # `read:` with nothing below it
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError("; ".join(dict.fromkeys(map(_explain, error.errors())))) from None


def has_surrogates(config: Mapping[str, Any]) -> bool:
    """Whether a dataset of such a config, as plans and manifests keep it, is written with surrogates."""
    redact = config["redact"]
    return bool(redact["enabled"]) and redact.get("replace") == "surrogate"


def load_keys(salt: str) -> Keys:
    """The keys of a dataset: its salt, and the secret of CORPUSMILL_KEY or CORPUSMILL_KEY_FILE."""
    secret = os.environ.get("CORPUSMILL_KEY", "").encode().strip()  # from a file that ends in a newline, as in a Secret
    path = os.environ.get("CORPUSMILL_KEY_FILE", "")
    if path and not secret:
        try:
            secret = Path(path).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"CORPUSMILL_KEY_FILE can't be read: {error.strerror}: {path}") from None
        if not secret:
            raise UsageError(f"CORPUSMILL_KEY_FILE is empty: {path}")
    if secret and len(secret) < 16:
        raise UsageError(
            "the secret key is shorter than 16 bytes",
            "make one: openssl rand -hex 32 > key; export CORPUSMILL_KEY_FILE=key",
        )
    return Keys(salt, secret or None)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"can't read the config {path}: {reason}") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"the config {path} is not YAML{place}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"the config {path} is no mapping; write `section:` lines, see: corpusmill config --init")
    return {str(key): value for key, value in values.items()}


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError("--set takes section.key=value, such as dedupe.threshold=0.9")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *sections, last = key.strip().split(".")
    place = values
    for section in sections:
        inner = place.setdefault(section, {})
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}: {section} is a value, not a section")
        place = inner
    place[last] = value


# Nothing of what stands there is told: it may be what nobody must read.
_CUSTOM = (
    "write a list of {name: CODE, pattern: …} and {name: CODE, deny: [word, other]}, each with a score if need be; "
    "names are capitals, digits and _, words are strings"
)


def _explain(error: Mapping[str, Any]) -> str:
    """One sentence for one of pydantic's findings, with the near miss."""
    if error["loc"][:2] == ("redact", "custom") and error["type"] != "value_error":
        place = ".".join(str(part) for part in error["loc"][:4])
        return f"{place}: {_CUSTOM}" if error["type"] != "extra_forbidden" else f"redact.custom: {_CUSTOM}"
    place = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    if error["type"] == "extra_forbidden":
        *sections, last = [str(part) for part in error["loc"]]
        known = _known(sections)
        near = [".".join([*sections, name]) for name in difflib.get_close_matches(last, known, 1, 0.6)]
        near = near or [".".join([*path, last]) for path in _sections() if last in _known(path)]
        return f"unknown key {place}; " + (
            f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        )
    if error["loc"][:2] == ("redact", "model") and error["type"] != "value_error":
        return "redact.model: write spacy:NAME, gliner:NAME, transformers:NAME or a folder; or several, {en: …, de: …}"
    if error["type"] in ("model_type", "model_attributes_type"):
        known = _known([place])
        switch = f", as {place}.enabled=false" if "enabled" in known else ""
        return f"{place}: is a section; write a key of it{switch}: {', '.join(known)}"
    if error["type"] == "tuple_type":
        return f"{place}: write a list, as [{error['input']}]"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = (
        f" (not {given!r})" if isinstance(given, str | int | float | bool) and error["type"] != "value_error" else ""
    )
    return f"{place}: {message}{shown}" if place else message


def _known(sections: Iterable[str]) -> list[str]:
    model: type[BaseModel] = Config
    for section in sections:
        field = _fields(model).get(section)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(_fields(model))


def _sections() -> list[list[str]]:
    return [[name] for name in _fields(Config) if _known([name])]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def commented_config() -> str:
    """A config with every key, its default and what it means; the salt is drawn anew."""
    lines = ["# Corpusmill. Every key with its default; delete what you don't change.", ""]
    for name, field in _fields(Config).items():
        annotation = field.annotation
        if name == "sources" or (isinstance(annotation, type) and issubclass(annotation, AuditOptions)):
            continue
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            lines += ["", f"{name}:  # {(annotation.__doc__ or '').splitlines()[0].rstrip('.')}"]
            lines += [_line(key, inner, "  ") for key, inner in _fields(annotation).items()]
        else:
            lines.append(_line(name, field, ""))
    return "\n".join(lines) + "\n"


def _line(name: str, field: FieldInfo, indent: str) -> str:
    value = {"input": ["logs/*.jsonl"], "output": "out/dataset"}.get(name, field.default)
    if name == "salt":
        value = secrets.token_hex(8)
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True).split("\n")[0]
    return f"{indent}{name}: {text}" + (f"  # {field.description}" if field.description else "")
