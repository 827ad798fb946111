"""Check: what a run would quarantine, found with the run's own kernels, one input after the other."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipeline.config import Config, load_keys
from pipeline.plan import inputs_to_look_at
from pipeline.run import storage_of
from transforms.parse import parse_records
from transforms.read import LineReader, cut_units
from transforms.validate import validate_records

PLACES = 3  # shown for each reason


def check_inputs(config: Config, limit: int | None = None) -> dict[str, Any]:
    """Lines read and quarantined, and for each reason its count and first places. Redaction is not tried."""
    storage, keys = storage_of(config), load_keys(config.split.salt)
    files, names = inputs_to_look_at(config, storage)
    read = quarantined = blank = 0
    reasons: dict[str, dict[str, Any]] = {}
    notes: dict[str, int] = {}
    for shard, (file, kind) in enumerate(files):
        base = seen = 0
        for unit in cut_units(file.uri, shard, file.size, config.read):
            with storage.open(unit.uri, unit.size, unit.end) as stream:
                reader = LineReader(unit, stream, config.read)
                for lines in reader.blocks():
                    lines = lines.slice(0, None if limit is None else limit - seen)
                    if lines.num_rows == 0:
                        break
                    seen += lines.num_rows
                    records = parse_records(
                        lines, shape=config.read.shape, kind=kind, group_by=config.split.group_by, keys=keys
                    )
                    records = validate_records(records, config.validate_)
                    bad = records.filter(pc.greater(pc.list_value_length(records.column("reasons")), 0))
                    quarantined += bad.num_rows
                    for line, why in zip(
                        bad.column("line").to_pylist(), bad.column("reasons").to_pylist(), strict=True
                    ):
                        found = reasons.setdefault(why[0], {"count": 0, "places": []})
                        found["count"] += 1
                        if len(found["places"]) < PLACES:
                            found["places"].append(f"{names[shard]}:{base + line + 1}")
                base += reader.stats.lines
                blank += reader.stats.blank
                for note, count in reader.stats.notes.items():
                    notes[str(note)] = notes.get(str(note), 0) + count
        read += seen
    ranked = dict(sorted(reasons.items(), key=lambda one: (-one[1]["count"], one[0])))
    return {
        "inputs": len(files),
        "read": read,
        "blank": blank,
        "quarantined": quarantined,
        "reasons": ranked,
        "notes": dict(sorted(notes.items())),
    }
