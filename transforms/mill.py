"""A work unit from bytes to runs: Read, Parse, Validate, Redact and Sign, block by block.

lines ─► records ─► sound ──► texts, facts          by shuffle key
                     │    └─► sketches (by id), bands (by band), each distinct record of a block once
                     └─► rejects                    by a key of their place
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bands import PACKED, BandRows, orders_of, refs_of
from transforms.decontaminate import Contamination, Hasher, load_benchmarks
from transforms.exact import FACTS, first_of_each, id_words
from transforms.hashing import Keys, record_id
from transforms.measure import measure_records
from transforms.options import DedupeOptions, ReadOptions, RedactOptions, ValidateOptions
from transforms.parse import parse_records
from transforms.read import InputChanged, LineReader, WorkUnit
from transforms.reasons import Drop
from transforms.redact import redact_records
from transforms.runs import Runs, RunWriter, segment_of
from transforms.schema import PLACE, REASONS
from transforms.sign import SIGNED, fingerprint_records, identify_sources, is_sound, sign_records
from transforms.storage import Storage
from transforms.suppress import forgotten, is_suppressed, leave_out_groups, load_groups, load_suppressed, with_reasons
from transforms.surrogates import write_surrogates
from transforms.validate import validate_records
from transforms.verify import SKETCHES, sketch_rows

# What Merge needs of a record, and no more.
# `writer` is the work unit, in which `line` counts.
_WRITER = pa.field("writer", pa.int32(), nullable=False)
TEXTS = pa.schema([_WRITER, *(field for field in SIGNED if field.name not in ("reasons", "rank", "tie"))])

# Lines that go no further: quarantined, or left out on purpose; who they are of is known of the latter alone.
REJECTS = pa.schema(
    [
        _WRITER,
        pa.field("key", pa.uint64(), nullable=False),
        *PLACE,
        pa.field("reasons", REASONS, nullable=False),
        *[pa.field(name, pa.binary(16)) for name in ("id", "source_id", "group")],
    ]
)

# Whose split may be published: the group and the source id of a record, with the key of a segment that asks.
CLAIMS = pa.schema([pa.field("owner", pa.binary(16), nullable=False), pa.field("key", pa.uint64(), nullable=False)])

_SCHEMAS = {"claims": CLAIMS, "texts": TEXTS, "facts": FACTS, "rejects": REJECTS, "sketches": SKETCHES, "bands": PACKED}


class RecordFault(RuntimeError):
    """A failure of ours over a record: says the stage, the place and the type of the error, never content."""


@dataclass(frozen=True)
class MillOptions:
    """Everything a unit's outcome depends on, but for its bytes."""

    read: ReadOptions
    validate: ValidateOptions
    redact: RedactOptions
    dedupe: DedupeOptions
    group_by: str | None
    keys: Keys
    segments: int  # of keys and ids; a power of two
    band_segments: int
    text_segments: int
    unit_segments: int  # at most, in a run that is regrouped
    refresh: bool = False  # there is something published that records may belong to
    suppressed: tuple[str, ...] = ()  # URIs of lists of groups that are forgotten
    benchmarks: str | None = None  # URI of what `decontaminate` looks for
    frozen_eval: tuple[str, ...] = ()  # URIs of files whose groups get no more records

    def cut(self, kind: str) -> int:
        """The segments of a kind of run, as later stages read it."""
        cuts = {"bands": self.band_segments, "texts": self.text_segments, "rejects": self.text_segments}
        return cuts.get(kind, self.segments)

    def unit_cut(self, kind: str) -> int:
        """The segments of a kind of run as units, and Merge, write it."""
        return min(self.cut(kind), self.unit_segments)


@dataclass(frozen=True)
class UnitSource:
    """A work unit with what the plan says of its input."""

    number: int
    unit: WorkUnit
    kind: str
    etag: str
    limit: int | None = None  # rows to read at most


def runs_of(storage: Storage, folder: str) -> dict[str, Runs]:
    """The runs that units write, by kind."""
    return {kind: Runs(storage, folder, kind, schema) for kind, schema in _SCHEMAS.items()}


_KEYS = {"sketches": "id", "published": "id", "claims": "owner", "owners": "owner"}


def row_keys(kind: str, rows: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """uint64[N]: what routes the rows of a kind of run to segments: a key, or the first word of an id."""
    column = rows.column(_KEYS.get(kind, "key"))
    if pa.types.is_fixed_size_binary(column.type):
        return np.ascontiguousarray(id_words(column)[:, 0])
    return np.asarray(column.to_numpy(), np.uint64)


def mill_unit(source: UnitSource, options: MillOptions, storage: Storage, folder: str) -> dict[str, Any]:
    """Writes the runs of a unit; returns counts and references. Raises InputChanged, RecordFault."""
    runs = runs_of(storage, folder)
    writers = {kind: RunWriter(runs[kind].schema, options.unit_cut(kind), storage.spool(folder)) for kind in runs}
    bands = BandRows()
    try:
        counts = _mill_blocks(source, options, storage, writers, bands)
        _put_bands(bands, options, writers)
        offsets = {kind: writer.finish(runs[kind], source.number) for kind, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.__exit__()
    return {"unit": source.number, "shard": source.unit.shard, "runs": offsets, **counts}


def _mill_blocks(
    source: UnitSource, options: MillOptions, storage: Storage, writers: dict[str, RunWriter], bands: BandRows
) -> dict[str, Any]:
    """Carries every block of the unit into the writers; returns the unit's counts."""
    unit = source.unit
    read, bytes_read = 0, 0
    quarantined: Counter[str] = Counter()
    entities: Counter[str] = Counter()
    examples: dict[str, int] = {}  # the first line of each reason
    measures: Counter[str] = Counter()
    suppressed = load_suppressed(storage, options.suppressed)
    barred = load_groups(storage, options.frozen_eval)
    hasher = Hasher(options.dedupe, options.keys)
    benchmarks = load_benchmarks(storage, options.benchmarks, hasher) if options.benchmarks else None
    contamination = Contamination(benchmarks.items if benchmarks else ())
    _check_unchanged(source, storage)
    with storage.open(unit.uri, unit.size, unit.end) as stream:
        reader = LineReader(unit, stream, options.read)
        for lines in reader.blocks():
            stage = "Parse"
            if source.limit is not None:
                lines = lines.slice(0, source.limit - read)
                if lines.num_rows == 0:
                    break
            try:
                read += lines.num_rows
                bytes_read += pc.sum(lines.column("length")).as_py() or 0
                records = parse_records(
                    lines,
                    shape=options.read.shape,
                    kind=source.kind,
                    group_by=options.group_by,
                    keys=options.keys,
                )
                stage = "Forget"
                records = leave_out_groups(records, suppressed.groups)
                stage = "Validate"
                records = validate_records(records, options.validate)
                stage = "Decontaminate"
                found = benchmarks.search(records.column("messages")) if benchmarks else None
                stage = "Sign"
                records = identify_sources(records, options.keys)
                stage = "Redact"
                keep = (options.group_by,) if options.group_by else ()
                raw = records
                redacted = redact_records(raw, options.redact, keep_paths=keep)
                records = redacted.records
                entities.update(redacted.entities)
                stage = "Sign"
                sound = is_sound(records)
                said, written = records.filter(sound), None
                if options.redact.writes_surrogates:
                    written = write_surrogates(raw, records, options.redact, options.keys, keep).filter(sound)
                signed = sign_records(said, options.keys, options.dedupe.prefer, written)
                if found is not None:
                    found = found.only(np.asarray(sound.to_numpy(zero_copy_only=False), bool))
                    contamination.add(found, signed.column("line").to_numpy())
                    hit = pa.array(found.records)
                    _write_rejects(with_reasons(signed.filter(hit), Drop.DECONTAMINATED), source, options, writers)
                    signed, said = signed.filter(pc.invert(hit)), said.filter(pc.invert(hit))
                stage = "Forget"
                again = is_suppressed(signed, suppressed.records, options.keys)
                if pc.any(again).as_py():
                    _write_rejects(forgotten(signed.filter(again)), source, options, writers)
                    signed, said = signed.filter(pc.invert(again)), said.filter(pc.invert(again))
                stage = "Sign"
                measures.update(measure_records(signed.column("messages"), signed.column("n_chars")))
                _write_signed(signed, said, barred, source.number, options, writers, bands)
                stage = "Quarantine"
                rejected = records.filter(pc.invert(sound))
                for line, reasons in zip(
                    rejected.column("line").to_pylist(), rejected.column("reasons").to_pylist(), strict=True
                ):
                    if reasons[0] != Drop.FORGOTTEN:
                        quarantined[reasons[0]] += 1
                        examples.setdefault(reasons[0], line)
                _write_rejects(rejected, source, options, writers)
            except Exception as error:
                first = lines.column("line")[0].as_py()
                raise RecordFault(
                    f"{stage} failed with {type(error).__name__} in input {unit.shard}, "
                    f"in the {lines.num_rows} lines from line {first} of byte {unit.start}"
                ) from (None if _may_quote(error) else error)
    _check_unchanged(source, storage)
    stats = reader.stats
    return {
        "read": read,
        "bytes": bytes_read,
        "lines": stats.lines,
        "blank": stats.blank,
        "notes": {str(note): count for note, count in stats.notes.items()},
        "corrupt": stats.corrupt,
        "quarantined": dict(quarantined),
        "examples": examples,
        "entities": dict(entities),
        "measures": dict(measures),
        "benchmarks": contamination.as_list(),
    }


def _may_quote(error: BaseException) -> bool:
    """Whether an error's text may hold a record's content: all that is not known to hold none."""
    return not type(error).__module__.startswith("transforms.")


def _check_unchanged(source: UnitSource, storage: Storage) -> None:
    """Raises InputChanged unless the input is as it was planned."""
    try:
        found = storage.stat(source.unit.uri)
    except FileNotFoundError:
        raise InputChanged("an input is gone since the run was planned; put it back, or run without it") from None
    if (found.size, found.etag) != (source.unit.size, source.etag):
        raise InputChanged("an input changed since the run was planned; run again")


def _write_signed(
    signed: pa.RecordBatch,
    said: pa.RecordBatch,
    barred: pa.Array,
    writer: int,
    options: MillOptions,
    writers: dict[str, RunWriter],
    bands: BandRows,
) -> None:
    """Texts and facts of all records; sketches and bands of each distinct one, of what is `said` in placeholder form.

    Those of `barred` groups have none: they will be left out, and nobody shall give way to them.
    """
    keys = signed.column("key").to_numpy()
    numbers = pa.array(np.full(len(keys), writer, np.int32))
    for kind, schema in (("texts", TEXTS), ("facts", FACTS)):
        columns = [numbers if name == "writer" else signed.column(name) for name in schema.names]
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        writers[kind].append(rows, segment_of(keys, options.unit_cut(kind)))
    if options.refresh:
        claims = _claims(signed, segment_of(keys, options.segments))
        writers["claims"].append(claims, segment_of(row_keys("claims", claims), options.unit_cut("claims")))
    if not options.dedupe.near:
        return
    prints = fingerprint_records(said, options.dedupe, options.keys, _is_first_of_its_id(signed, barred))
    ids = id_words(signed.column("id"))[:, 0]
    sketches = sketch_rows(signed, prints)
    writers["sketches"].append(sketches, segment_of(row_keys("sketches", sketches), options.unit_cut("sketches")))
    orders = orders_of(signed.column("rank"))
    owners = prints.owners
    if bands.append(prints.bands, refs_of(ids)[owners], orders[owners], prints.tags[owners]):
        _put_bands(bands, options, writers)


def _put_bands(bands: BandRows, options: MillOptions, writers: dict[str, RunWriter]) -> None:
    for packed, targets in bands.take(options.unit_cut("bands")):
        writers["bands"].append(packed, targets)


def _claims(signed: pa.RecordBatch, by_key: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """CLAIMS of a block: each owner once for each segment."""
    tables = [
        pa.table({"owner": signed.column(name), "segment": by_key, "key": signed.column("key")})
        for name in ("group", "source_id")
    ]
    claims = pa.concat_tables(one.filter(pc.is_valid(one.column("owner"))) for one in tables)
    claims = claims.group_by(["owner", "segment"]).aggregate([("key", "min")]).sort_by("owner")
    columns = [claims.column(name).combine_chunks() for name in ("owner", "key_min")]
    return pa.RecordBatch.from_arrays(columns, schema=CLAIMS)


def _is_first_of_its_id(signed: pa.RecordBatch, barred: pa.Array) -> npt.NDArray[np.bool_]:
    """bool[N]: whether a row is the first of its id by rank and tie, of those whose group is not barred."""
    free = pc.invert(pc.is_in(signed.column("group"), value_set=barred, skip_nulls=True))
    names = ["id", "rank", "tie"]
    rows = signed.select(names).filter(free)
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in names])
    first = np.zeros(signed.num_rows, bool)
    places = np.flatnonzero(free.to_numpy(zero_copy_only=False))[order.to_numpy()]
    first[places] = first_of_each(rows.column("id").take(order))
    return first


def _write_rejects(
    rejected: pa.RecordBatch, source: UnitSource, options: MillOptions, writers: dict[str, RunWriter]
) -> None:
    """Lines that go no further, spread over the segments by their place."""
    places = [f"{source.unit.shard}:{offset}".encode() for offset in rejected.column("offset").to_pylist()]
    keys = np.array([options.keys.shuffle_key(record_id(place)) for place in places], np.uint64)
    made = {"writer": pa.array(np.full(len(keys), source.number, np.int32)), "key": pa.array(keys, pa.uint64())}
    if "id" not in rejected.schema.names:  # of lines that are not sound nothing is on record but the place
        made |= {name: pa.nulls(len(keys), pa.binary(16)) for name in ("id", "source_id", "group")}
    columns = [made[name] if name in made else rejected.column(name) for name in REJECTS.names]
    rows = pa.RecordBatch.from_arrays(columns, schema=REJECTS)
    writers["rejects"].append(rows, segment_of(keys, options.unit_cut("rejects")))
