"""Plan: what a run reads, frozen; how it is cut; and the name that everything it writes depends on.

The plan is a file in the work folder. Workers load it; elements of the pipeline are numbers into it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.places import usable
from pipeline.shape import Shape, shape_of
from transforms.canonical import canonical_json
from transforms.hashing import HASHES, Keys, content_digest
from transforms.mill import MillOptions, UnitSource
from transforms.named import ModelMissing
from transforms.options import RedactOptions
from transforms.placeholders import RedactionTimeout
from transforms.read import WorkUnit, cut_units
from transforms.reasons import SPLITS
from transforms.redact import RedactionFailed, Redactor, redactor_for
from transforms.shingles import SHINGLES
from transforms.split import EVAL, Settlement
from transforms.storage import Found, Storage, join
from transforms.write import shard_name

MIN_UNITS = 16  # that a corpus is cut into, to deal among workers
MIN_UNIT_BYTES = 4 << 20  # 4 MiB: below it a unit costs more than it gains
REBUILD = "rebuild"  # the operation that reads again what is published
UNPACKED = 5  # what an archive is taken to grow by

_PACKAGES = (
    "datasketch",
    "numpy",
    "orjson",
    "phonenumbers",
    "presidio-analyzer",
    "pyarrow",
    "regex",
    "google-re2",
    "zstandard",
)


@dataclass(frozen=True)
class Input:
    """An input shard.

    `name` is its URI after redaction, as lineage and reports give it; `digest` tells whether it was consumed.
    """

    uri: str
    name: str
    size: int
    etag: str
    digest: str
    kind: str


@dataclass(frozen=True)
class Base:
    """What is published before the run: the snapshot it starts from, nothing for the first.

    `index`, `suppressed` and `guards` are paths of files in the dataset's folder; the counts are records in the
    splits. `guards` hold records that a rebuild must not come near: those of eval. `frozen_eval` are its files, in Parquet,
    where nobody joins it any more.
    """

    index: tuple[str, ...] = ()
    index_bytes: int = 0
    suppressed: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    frozen_eval: tuple[str, ...] = ()
    train: int = 0
    val: int = 0
    eval: int = 0
    eval_end: int = 0
    frozen: bool = False
    parquet: bool = True  # whether it is written in Parquet
    decided: bool = (
        False  # whether a rebuild takes over human decisions; `train` and `val` are of corrected records then
    )
    small: Mapping[str, int] = field(default_factory=dict)  # rows of the small parts of the index, by path
    left: tuple[str, ...] = ()  # paths of the index of snapshots that were gone back over

    def settlement(self, pinned: Sequence[int]) -> Settlement:
        """What the splits have before the cut: what is published, and new records that are bound to one."""
        train, val, eval_ = pinned
        return Settlement(self.train + train, self.val + val, self.eval + eval_, self.eval_end, self.frozen)


NOTHING_PUBLISHED = Base()


@dataclass(frozen=True)
class Benchmark:
    """What records are looked at for: its place after redaction, how many items, and their digest."""

    name: str
    items: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """All that a run depends on. `number` is that of the snapshot it would commit."""

    id: str
    number: int
    parent: str | None
    inputs: tuple[Input, ...]
    units: tuple[WorkUnit, ...]
    limits: tuple[int | None, ...]  # rows to read of each unit; None for all
    shape: Shape
    config: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    key_check: str
    secret_missing: bool
    operation: str
    base: Base
    date: str | None  # that the run was asked for, YYYY-MM-DD
    benchmarks: tuple[Benchmark, ...] = ()

    @property
    def is_rebuild(self) -> bool:
        return self.operation == REBUILD

    @property
    def reads_again(self) -> bool:
        """Whether some of what it reads may have been published before, in a split that it keeps."""
        return self.is_rebuild or bool(self.base.left)

    @property
    def name(self) -> str:
        """The name of the snapshot's folders."""
        return f"{self.number:06d}-{self.id}"

    @property
    def corrected_splits(self) -> tuple[str, ...]:
        """The splits whose corrected records a rebuild takes over."""
        counts = zip(SPLITS, (self.base.train, self.base.val, 0), strict=True)
        return tuple(split for split, count in counts if self.base.decided and count)

    @property
    def guards(self) -> tuple[tuple[str, int], ...]:
        """(path, split) of the files that nothing of a rebuild may come near: of eval, and of corrected records."""
        kind = "parquet" if self.base.parquet else "jsonl"
        corrected = [(corrected_path(self, split, kind), SPLITS.index(split)) for split in self.corrected_splits]
        return (*((path, EVAL) for path in self.base.guards), *corrected)

    @property
    def input_bytes(self) -> int:
        return sum(one.size for one in self.inputs)

    @property
    def unpacked_bytes(self) -> int:
        """What the inputs are taken to weigh unpacked."""
        return sum(unit.end - unit.start if not unit.compression else unit.size * UNPACKED for unit in self.units)

    def source(self, number: int) -> UnitSource:
        """Work unit `number`."""
        unit = self.units[number]
        shard = self.inputs[unit.shard]
        return UnitSource(number, unit, shard.kind, shard.etag, self.limits[number])

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @staticmethod
    def from_json(content: bytes) -> Plan:
        values = orjson.loads(content)
        values["inputs"] = tuple(Input(**one) for one in values["inputs"])
        values["units"] = tuple(WorkUnit(**one) for one in values["units"])
        values["limits"] = tuple(values["limits"])
        values["shape"] = Shape(**values["shape"])
        base: dict[str, Any] = {
            key: tuple(one) if isinstance(one, list) else one for key, one in values["base"].items()
        }
        values["base"] = Base(**base)
        values["benchmarks"] = tuple(Benchmark(**one) for one in values["benchmarks"])
        return Plan(**values)


def versions() -> dict[str, str]:
    """What else the bytes of a dataset depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "corpusmill": importlib.metadata.version("corpusmill"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "unicode": unicodedata.unidata_version,
        "hashes": str(HASHES),
        "shingles": str(SHINGLES),
        **found,
    }


def find_inputs(
    config: Config, storage: Storage, *, corrected: bool = False
) -> tuple[list[tuple[Found, str]], list[str]]:
    """Every input file, or file of corrections, with its kind, sorted by URI, each once; and the patterns that match none.

    Raises UsageError where a pattern is out of reach.
    """
    found: dict[str, tuple[Found, str]] = {}
    unmatched: list[str] = []
    for source in [one for one in config.sources if one.corrected] if corrected else config.inputs():
        for pattern in source.input:
            with usable(pattern, "list"):
                storage.reach(pattern)
                files = storage.find(pattern)
            unmatched += [] if files else [pattern]
            for one in files:
                found.setdefault(one.uri, (one, source.kind))
    return [found[uri] for uri in sorted(found)], unmatched


def inputs_to_look_at(config: Config, storage: Storage) -> tuple[list[tuple[Found, str]], list[str]]:
    """The input files with their kinds, and their redacted names. Raises UsageError where any is missing."""
    if not config.inputs():
        raise UsageError("no input is given", "add --input logs/*.jsonl")
    files, unmatched = find_inputs(config, storage)
    if unmatched:
        raise UsageError(f"no file matches {', '.join(unmatched)}")
    redact = redactor_of(config.redact).redact_text if config.redact.enabled else str
    return files, shard_names([file.uri for file, _ in files], redact)


def make_plan(
    config: Config,
    keys: Keys,
    files: Iterable[tuple[Found, str]],
    *,
    number: int = 1,
    parent: str | None = None,
    operation: str = "run",
    base: Base = NOTHING_PUBLISHED,
    date: str | None = None,
    benchmarks: Sequence[tuple[str, int, str]] = (),
) -> Plan:
    """The plan for these files; `benchmarks` are URIs with the items and digest of each."""
    redact: Callable[[str], str] = str
    if config.redact.enabled:
        redactor = redactor_of(config.redact)
        redactor.prepare()  # here, where it is seen, and not in each worker
        redact = redactor.redact_text
    files = list(files)
    names = shard_names([one.uri for one, _ in files], redact)
    inputs = tuple(
        Input(one.uri, name, one.size, one.etag, input_digest(one, keys), kind)
        for (one, kind), name in zip(files, names, strict=True)
    )
    read = config.read.model_copy(update={"unit_bytes": unit_bytes(config, sum(one.size for one in inputs))})
    units = tuple(unit for shard, one in enumerate(inputs) for unit in cut_units(one.uri, shard, one.size, read))
    weight = sum(unit.end - unit.start if not unit.compression else unit.size * UNPACKED for unit in units)
    # Tasks read the index too, but hold only what is asked of it.
    shape = shape_of(weight + base.index_bytes // 8, len(units), config.write.shard_bytes)
    known = versions()
    # What config and inputs leave open, but the runs in the work folder depend on.
    layout = [read.unit_bytes, asdict(shape)]
    identity = [
        parent,
        operation,
        date,
        [asdict(one) for one in inputs],
        config.fingerprint(keys),
        known,
        keys.check,
        layout,
        [digest for _, _, digest in benchmarks],
        base.left,
    ]
    looked_for = shard_names([uri for uri, _, _ in benchmarks], redact)
    return Plan(
        content_digest(canonical_json(identity), 6).hex(),
        number,
        parent,
        inputs,
        units,
        (None,) * len(units),
        shape,
        _without_values(config.as_dict(keys), redact),
        config.fingerprint(keys),
        known,
        keys.check,
        keys.secret is None,
        operation,
        base,
        date,
        tuple(Benchmark(name, items, digest) for name, (_, items, digest) in zip(looked_for, benchmarks, strict=True)),
    )


def input_digest(file: Found, keys: Keys) -> str:
    """32 hex digits, keyed, of a file's URI, size and etag: the same file is consumed once."""
    return keys.value(canonical_json([file.uri, file.size, file.etag])).hex()


def _without_values(values: dict[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    """The config with its places redacted: names of files and folders may name people."""
    for source in [values, *values["sources"]]:
        source["input"] = [redacted_place(pattern, redact) for pattern in source["input"]]
    values["decontaminate"] = [redacted_place(pattern, redact) for pattern in values["decontaminate"]]
    for key in ("output", "work"):
        values[key] = values[key] and redacted_place(values[key], redact)
    endpoint = values["storage"]["endpoint"]
    values["storage"]["endpoint"] = endpoint and redact(endpoint)
    return values


def shard_names(uris: Sequence[str], redact: Callable[[str], str]) -> list[str]:
    """What lineage and reports call the inputs: redacted, and numbered where redaction makes two the same.

    >>> shard_names(["/a/x.jsonl", "/b/x.jsonl"], lambda part: part.replace("a", "*").replace("b", "*"))
    ['/*/x.jsonl', '/*/x.jsonl#2']
    """
    seen: dict[str, int] = {}
    names = []
    for uri in uris:
        name = redacted_place(uri, redact)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def redactor_of(options: RedactOptions) -> Redactor:
    """The redactor of this process. Raises UsageError where its model can't be loaded."""
    try:
        return redactor_for(options)
    except ModelMissing as error:
        raise UsageError(str(error)) from None


def redacted_place(uri: str, redact: Callable[[str], str]) -> str:
    """A URI or pattern, each part of its path redacted by itself. Raises UsageError where that fails."""
    try:
        return "/".join(redact(part) for part in uri.split("/"))
    except (RedactionFailed, RedactionTimeout):
        raise UsageError(
            "the name of an input, or of a benchmark, can't be looked through for personal data",
            "see whether redact.model is in order, or rename the file",
        ) from None


def unit_bytes(config: Config, total: int) -> int:
    """Bytes a work unit reads: `read.unit_bytes`, and less where that would leave workers without one."""
    return min(config.read.unit_bytes, max(MIN_UNIT_BYTES, -(-total // MIN_UNITS)))


def mill_options(config: Config, keys: Keys, plan: Plan, output: str, work: str) -> MillOptions:
    """What the stages of a unit need of the config."""
    return MillOptions(
        config.read,
        config.validate_,
        config.redact,
        config.dedupe,
        config.split.group_by,
        keys,
        plan.shape.segments,
        plan.shape.band_segments,
        plan.shape.text_segments,
        plan.shape.unit_segments,
        bool(plan.base.index),
        tuple(join(output, path) for path in plan.base.suppressed),
        benchmarks_uri(work) if plan.benchmarks else None,
        tuple(join(output, path) for path in plan.base.frozen_eval if config.split.group_by),
    )


def corrected_path(plan: Plan, split: str, kind: str) -> str:
    """Where a rebuild puts the corrected records of a split that it takes over."""
    folder = "data" if kind == "parquet" else "jsonl"
    return join(folder, f"{plan.name}-corrected", shard_name(split, 0, 1, kind))


def decided_uri(work: str) -> str:
    return join(work, "decided.parquet")


def benchmarks_uri(work: str) -> str:
    return join(work, "benchmarks.npz")


def plan_uri(work: str) -> str:
    return join(work, "plan.json")


@functools.lru_cache(maxsize=4)
def load_plan(storage: Storage, work: str) -> Plan:
    """The plan that a work folder belongs to; read once a worker."""
    return Plan.from_json(storage.read(plan_uri(work)))
