"""The options of each stage: one frozen model a section of the config, checked when it is made.

Names and defaults are a contract with users' config files. Units stand beside the defaults.
A model knows nothing of the command line; `pipeline.config` puts the sections together.
"""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Annotated, Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

MIB = 1 << 20


class Options(BaseModel):
    """Base of every section: unknown keys are errors, values don't change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SHAPES = ("messages", "prompt_completion", "question_answer", "alpaca", "sharegpt")


class ReadOptions(Options):
    """How bytes become lines, and which shape the records are in."""

    shape: Literal["auto", "messages", "prompt_completion", "question_answer", "alpaca", "sharegpt"] = Field(
        "auto", description="shape of the records; auto tells them apart one by one"
    )
    max_line_bytes: Annotated[int, Field(ge=1, le=256 * MIB)] = Field(
        16 * MIB, description="a longer line is quarantined, unread"
    )
    max_bad_shards: Natural = Field(0, description="shards that may be cut or corrupt before the run ends with exit 3")
    max_unpacked_bytes: Positive | None = Field(
        None, description="an archive that unpacks to more is treated as corrupt there"
    )
    block_bytes: Annotated[int, Field(ge=1024, le=256 * MIB)] = Field(
        8 * MIB, description="bytes of lines held at a time"
    )
    unit_bytes: Annotated[int, Field(ge=4096)] = Field(256 * MIB, description="bytes of a plain file a work unit reads")


class ValidateOptions(Options):
    """What a sound conversation is."""

    min_messages: Natural = Field(2, description="fewest messages, system included")
    max_chars: Positive = Field(8000, description="most characters (code points, stripped, before redaction) a turn")
    allow_empty_user: bool = Field(False, description="let user turns be empty; assistant turns never may")
    alternate: bool = Field(False, description="user and assistant must take turns")
    max_turns: Positive | None = Field(None, description="most user and assistant turns")
    require: tuple[str, ...] = Field((), description="metadata paths that must be there, as metadata.user_id")

    @field_validator("require")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            check_metadata_path(path)
        return value


class CustomRecognizer(Options):
    """A recognizer of the user's own: a pattern (RE2 syntax), or words to deny."""

    name: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    pattern: str | None = None
    deny: tuple[str, ...] = ()
    score: Fraction = 1.0

    @model_validator(mode="after")
    def _one_of(self) -> CustomRecognizer:
        if (self.pattern is None) == (not self.deny):
            raise ValueError("give either `pattern` or `deny`")
        if self.pattern is not None:
            quiet = re2.Options()
            quiet.log_errors = False  # RE2 itself would print the pattern
            try:
                compiled = re2.compile(self.pattern, quiet)
            except re2.error as error:
                raise ValueError("not a valid RE2 pattern (no look-around, no back-references)") from error
            if compiled.search("") is not None:
                raise ValueError("the pattern matches the empty string")
        if any(not word.strip() for word in self.deny):
            raise ValueError("`deny` holds an empty word")
        return self


_COUNTRIES = {"UK": "GB", "USA": "US", "EN": "GB"}  # what people write for the codes of ISO 3166


class RedactOptions(Options):
    """What personal data and secrets are, and what stands in their place."""

    enabled: bool = Field(True, description="look for personal data and secrets, and put placeholders in their place")
    exact: bool = Field(False, description="run Presidio's own AnalyzerEngine on every text")
    replace: Literal["placeholder", "surrogate"] = Field(
        "placeholder",
        description="what stands in place: `<EMAIL_ADDRESS_1>`, or a made-up value from a range reserved for examples",
    )
    scope: Literal["conversation", "dataset"] = Field(
        "conversation", description="within what the same value has the same surrogate"
    )
    threshold: Fraction = Field(0.4, description="lowest score of a finding that counts")
    entities: Literal["default", "presidio"] | tuple[str, ...] = Field(
        "default", description="default, presidio (all that it has on by default), or a list of entity types"
    )
    countries: tuple[str, ...] = Field(("US", "GB"), description="countries of phone numbers and national identifiers")
    secrets: bool = Field(True, description="redact keys, tokens, passwords and connection strings")
    custom: tuple[CustomRecognizer, ...] = Field(
        (), description="recognizers of your own: {name, pattern} in RE2 syntax, or {name, deny: [words]}"
    )
    model: str | tuple[tuple[str, str], ...] | None = Field(
        None,
        description="a model for names and addresses: spacy:NAME, gliner:NAME, transformers:NAME or a folder; "
        "or several by language, {en: …, de: …}",
    )
    languages: tuple[Literal["en"], ...] = Field(("en",), description="languages of the recognizers")

    @property
    def writes_surrogates(self) -> bool:
        """Made-up values stand in place of what is found."""
        return self.enabled and self.replace == "surrogate"

    @field_validator("custom")
    @classmethod
    def _distinct(cls, value: tuple[CustomRecognizer, ...]) -> tuple[CustomRecognizer, ...]:
        names = [one.name for one in value]
        if len(set(names)) < len(names):
            raise ValueError("two recognizers have the same name; put the words of both in one list, or rename one")
        return value

    @model_validator(mode="after")
    def _custom_ones_find(self) -> RedactOptions:
        for one in self.custom:
            if isinstance(self.entities, tuple) and one.name not in self.entities:
                raise ValueError(f"custom makes {one.name}, which entities leaves out: add it there")
            if one.score < self.threshold:
                raise ValueError(
                    f"custom.{one.name}: its score, {one.score}, is below threshold, {self.threshold}: it would find nothing"
                )
        return self

    @field_validator("entities", mode="before")
    @classmethod
    def _listed_entities(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("default", "presidio"):
            from transforms.policy import nearest_entity  # two seconds, for those who err

            raise ValueError(f"{value!r} is no list; write default, presidio or a list, as [{nearest_entity(value)}]")
        return value

    @field_validator("countries", mode="before")
    @classmethod
    def _listed_countries(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"{value!r} is no list; write [{_COUNTRIES.get(value.upper(), value.upper())}]")
        return value

    @field_validator("countries")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from phonenumbers import SUPPORTED_REGIONS  # for those who name countries only

        for country in value:
            if country not in SUPPORTED_REGIONS:
                meant = _COUNTRIES.get(country.upper(), country.upper())
                hint = f"; write {meant}" if meant in SUPPORTED_REGIONS else ""
                raise ValueError(f"{country!r} is no country's code (ISO 3166, two capitals){hint}")
        return value

    @field_validator("model", mode="before")
    @classmethod
    def _by_language(cls, value: Any) -> Any:
        if value == {} or value == "":
            raise ValueError("names no model; write null for none")
        for language in value if isinstance(value, dict) else ():
            if not re.fullmatch("[a-z]{2}", str(language)):
                raise ValueError(f"{language!r} is no language; write two small letters, as {{en: NAME, de: NAME}}")
        return tuple(value.items()) if isinstance(value, dict) else value


class DedupeOptions(Options):
    """What counts as the same, and as too much alike."""

    exact: bool = Field(True, description="keep one of the records that say the same")
    near: bool = Field(True, description="look for near-duplicates, and for look-alikes in other splits")
    threshold: Fraction = Field(0.8, description="Jaccard index from which a record is a near-duplicate")
    leak_threshold: Fraction = Field(0.7, description="Jaccard index from which two records may not be in two splits")
    num_perm: Annotated[int, Field(ge=16, le=1024)] = Field(128, description="MinHash values a record")
    bands: Positive = Field(25, description="LSH bands; more find more candidates")
    rows: Positive = Field(5, description="MinHash values a band")
    shingle: Annotated[int, Field(ge=1, le=32)] = Field(5, description="words a shingle")
    signature: Literal["corpusmill", "datasketch"] = Field(
        "corpusmill",
        description="corpusmill (keyed by the dataset) or datasketch (its own hash and seed; slow, and its seed is public)",
    )
    prefer: tuple[str, ...] = Field(
        (),
        description="which duplicate to keep: metadata paths, the larger value first, or the smaller with a leading -",
    )

    def found(self, similarity: float) -> float:
        """The expected share of pairs of a Jaccard index that share a band, 1 - (1 - s^rows)^bands.

        After Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, section 3.4.2.

        >>> round(DedupeOptions().found(0.8), 5)
        0.99995
        """
        return float(1 - (1 - similarity**self.rows) ** self.bands)

    @model_validator(mode="after")
    def _fits(self) -> DedupeOptions:
        if self.bands * self.rows > self.num_perm:
            raise ValueError(f"bands * rows = {self.bands * self.rows} is more than num_perm = {self.num_perm}")
        if self.near and not self.exact:
            raise ValueError("dedupe.near needs dedupe.exact; turn both off, or none")
        if self.near and self.leak_threshold > self.threshold:
            raise ValueError(
                f"leak_threshold = {self.leak_threshold} is above threshold = {self.threshold}; "
                "write a leak_threshold at or below it"
            )
        if self.near and self.leak_threshold <= 0.0:
            raise ValueError("leak_threshold = 0 would join everything; write a value above 0, such as 0.7")
        for path in self.prefer:
            check_metadata_path(path.removeprefix("-"))
        return self


class SplitOptions(Options):
    """Who goes to train, val and eval."""

    salt: Annotated[str, Field(min_length=1)] = Field("corpusmill", description="seeds order, splits and signatures")
    val: Fraction = Field(0.10, description="share of val")
    min_val: Natural = Field(20, description="records val has at least, up to a third of all")
    eval: Fraction = Field(0.05, description="share of eval, which is cut first")
    group_by: str | None = Field(None, description="metadata path whose value stays within one split: metadata.user_id")
    eval_until: date | None = Field(
        None, description="nights up to this date (of --date) still fill eval; null: it freezes at the first commit"
    )
    eval_records: Positive | None = Field(
        None, description="instead of a share: eval is filled until it has so many records, then frozen"
    )

    @field_validator("group_by")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None:
            check_metadata_path(value)
        return value

    @model_validator(mode="after")
    def _room(self) -> SplitOptions:
        if self.val + self.eval >= 1.0 and not math.isclose(self.val + self.eval, 0.0):
            raise ValueError(f"val + eval = {self.val + self.eval:g} leaves nothing for train")
        if self.eval_until is not None and self.eval_records is not None:
            raise ValueError("eval_until and eval_records are two ways to say when eval is full; give one")
        return self


class WriteOptions(Options):
    """How the dataset is cut into files."""

    shard_bytes: Annotated[int, Field(ge=4096)] = Field(
        256 * MIB, description="canonical JSON bytes a shard, over all splits"
    )
    parquet: bool = Field(True, description="write data/")
    jsonl: bool = Field(True, description="write jsonl/")

    @model_validator(mode="after")
    def _something(self) -> WriteOptions:
        if not (self.parquet or self.jsonl):
            raise ValueError("nothing would be written: set parquet or jsonl")
        return self


def check_metadata_path(path: str) -> None:
    """Raises ValueError unless `path` is `metadata.` and one or more dotted keys."""
    parts = path.split(".")
    if len(parts) < 2 or parts[0] != "metadata" or not all(parts):
        raise ValueError(f"{path!r} is not a metadata path; write metadata.KEY, as metadata.user_id")


def metadata_value(metadata: dict[str, Any], path: str) -> Any:
    """The value at `metadata.a.b`, or None where any key on the way is missing."""
    value: Any = metadata
    for key in path.split(".")[1:]:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value
