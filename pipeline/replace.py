"""Replace: carries out human decisions in the next snapshot: what they take out of it, and the corrected records that come in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.commit import INPUTS
from pipeline.config import Config
from pipeline.plan import redactor_of, shard_names
from pipeline.rewrite import Rewrite, is_among, read_columns
from pipeline.shared_refs import bands_of, index_rows, sharing_refs
from pipeline.snapshots import CORRECTIONS, add_accounts
from transforms.bands import BANDS
from transforms.canonical import conversation_lines
from transforms.hashing import Keys, content_digest
from transforms.index import parts_of, put_part, without
from transforms.merge import owners_of
from transforms.options import DedupeOptions
from transforms.published import sign_published
from transforms.reasons import SPLITS, Drop, Outcome
from transforms.schema import LINEAGE
from transforms.storage import join
from transforms.verify import SKETCHES
from transforms.write import JsonlShard, ParquetShard, data_table, hex_ids, shard_name

Fallen = Mapping[str, tuple[str, float]]  # published records that give way: to whom, and how alike they are


class Corrected(NamedTuple):
    """Corrected records: SIGNED, the split of each, and BANDS and SKETCHES as published there; these are empty where nothing
    is compared."""

    signed: pa.RecordBatch
    splits: npt.NDArray[np.int8]
    bands: pa.Table
    sketches: pa.Table


def corrected_records(
    signed: pa.RecordBatch, splits: npt.NDArray[np.int8], options: DedupeOptions, keys: Keys
) -> Corrected:
    """SIGNED records as they are to be published in splits."""
    said = signed.select(["id", "messages", "group"])
    bands, sketches = [BANDS.empty_table()], [SKETCHES.empty_table()]
    for split in np.unique(splits).tolist() if options.near else ():
        batches = sign_published(said.filter(pa.array(splits == split)), split, options, keys)
        for tables, batch in zip((bands, sketches), batches, strict=True):
            tables.append(pa.Table.from_batches([batch]))
    return Corrected(
        signed, splits, pa.concat_tables(bands).combine_chunks(), pa.concat_tables(sketches).combine_chunks()
    )


def take_out(rewrite: Rewrite, replaced: Mapping[str, str | None], fallen: Fallen, keys: Keys) -> None:
    """Copies the files that hold replaced, cut or fallen records without them; marks those in lineage and index."""
    ids = {*replaced, *fallen}
    others = bands_of(rewrite, sharing_refs(rewrite, fallen), keys)
    for split in SPLITS:
        for parquet, jsonl in list(rewrite.twins(split)):
            stays = rewrite.rows_left(parquet, jsonl, ids, set())
            if stays is not None:
                rewrite.copy_records(parquet, jsonl, stays)
    for entry in rewrite.of_kind("lineage"):
        rows = read_columns(rewrite.dataset, entry, ["id", "outcome"])
        if (is_among(rows.column("id"), ids) & is_among(rows.column("outcome"), (*SPLITS, Outcome.DUPLICATE))).any():
            rewrite.copy_lineage(entry, functools.partial(change_lines, replaced=replaced, fallen=fallen))
    for entry in rewrite.of_kind("index"):
        if not fallen and parts_of([entry["path"]])[0].kind not in ("records", "owners"):
            continue
        kind, before = index_rows(rewrite, entry)
        after = without(kind, before, [bytes.fromhex(one) for one in fallen], (), others)
        after = _mark_replaced(after, replaced) if kind in ("records", "owners") else after
        if not after.equals(before):
            rewrite.copy_index(entry, after)


def _mark_replaced(rows: pa.Table, replaced: Mapping[str, str | None]) -> pa.Table:
    """PUBLISHED or OWNERS that say what stands in the place of replaced records; in that of a cut one, itself."""
    if not pc.any(
        pc.is_in(rows.column("id"), value_set=pa.array([*map(bytes.fromhex, replaced)], pa.binary(16)))
    ).as_py():
        return rows
    by = [
        bytes.fromhex(replaced[one.hex()] or one.hex()) if one is not None and one.hex() in replaced else before
        for one, before in zip(rows.column("id").to_pylist(), rows.column("replaced_by").to_pylist(), strict=True)
    ]
    place = rows.schema.get_field_index("replaced_by")
    return rows.set_column(place, rows.schema.field(place), pa.array(by, pa.binary(16)))


def change_lines(rows: pa.Table, *, replaced: Mapping[str, str | None], fallen: Fallen) -> pa.Table:
    """LINEAGE in which the lines that replaced or cut records came in by say `superseded`, and by whom, and those of fallen
    ones and of copies of them that they are near-duplicates, and of whom."""
    published = is_among(rows.column("outcome"), SPLITS)
    copies = np.asarray(pc.fill_null(pc.equal(rows.column("kept_id"), rows.column("id")), False).to_numpy(), bool)
    gone = is_among(rows.column("id"), replaced) & published
    falls = is_among(rows.column("id"), fallen) & (published | copies)
    lines = list(zip(rows.column("id").to_pylist(), gone.tolist(), falls.tolist(), strict=True))

    def changed(name: str, of_gone: Callable[[str], Any], of_fallen: Callable[[str], Any]) -> pa.Array:
        values = [
            of_gone(identity) if is_gone else of_fallen(identity) if has_fallen else before
            for (identity, is_gone, has_fallen), before in zip(lines, rows.column(name).to_pylist(), strict=True)
        ]
        return pa.array(values, LINEAGE.field(name).type)

    columns = {
        "outcome": changed("outcome", lambda _: Outcome.DROPPED.value, lambda _: Outcome.DUPLICATE.value),
        "reasons": changed("reasons", lambda _: [Drop.SUPERSEDED.value], lambda _: ["near"]),
        "kept_id": changed("kept_id", lambda one: replaced[one], lambda one: fallen[one][0]),
        "similarity": changed("similarity", lambda _: None, lambda one: fallen[one][1]),
    }
    return pa.table([columns.get(name, rows.column(name)) for name in LINEAGE.names], schema=LINEAGE)


def put_in(rewrite: Rewrite, corrected: Corrected, shards: Sequence[str]) -> dict[str, Any]:
    """Writes the corrected records, each of a file among the inputs, as a small night of its own; returns its accounts."""
    settings = rewrite.parent["config"]
    signed, splits = corrected.signed, corrected.splits
    order = pc.sort_indices(signed.select(["key", "id"]), sort_keys=[("key", "ascending"), ("id", "ascending")])
    signed, splits = signed.take(order), splits[order.to_numpy()]
    shards = [shards[row] for row in order.to_pylist()]
    texts = pa.Table.from_batches([signed])
    for split, name in enumerate(SPLITS):
        mine = texts.filter(pa.array(splits == split)).combine_chunks()
        if mine.num_rows:
            _put_shard(rewrite, name, mine, settings["write"])
    lineage = pa.table(
        {
            "shard": pa.array(shards, pa.string()),
            **{name: signed.column(name) for name in ("line", "offset", "length")},
            "outcome": pa.array([SPLITS[one] for one in splits], pa.string()),
            "reasons": pa.array([[]] * signed.num_rows, LINEAGE.field("reasons").type),
            **{name: hex_ids(signed.column(name)) for name in ("id", "source_id", "group")},
            "kept_id": pa.nulls(signed.num_rows, pa.string()),
            "similarity": pa.nulls(signed.num_rows, pa.float32()),
        }
    ).sort_by([("shard", "ascending"), ("line", "ascending")]).cast(LINEAGE)  # fmt: skip
    out = ParquetShard(
        rewrite.writer(join("lineage", rewrite.name, shard_name("part", 0, 1, "parquet")), "lineage"), LINEAGE
    )
    out.append(lineage, np.ones(lineage.num_rows, np.int64))
    rewrite.add(out.put())
    added = _account_of(splits)
    rewrite.accounting = add_accounts([rewrite.accounting, added])
    if rewrite.of_kind("index"):
        _put_index(rewrite, corrected)
    return added


def _account_of(splits: npt.NDArray[np.int8]) -> dict[str, Any]:
    return add_accounts(
        [{"read": len(splits), **{name: int((splits == split).sum()) for split, name in enumerate(SPLITS)}}]
    )


class InputFile(Protocol):
    """A file of decisions as it stands among the inputs."""

    @property
    def path(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def digest(self) -> str: ...


def note_inputs(rewrite: Rewrite, files: Sequence[InputFile], splits: Sequence[npt.NDArray[np.int8]]) -> list[str]:
    """Puts files of decisions among the inputs: those that are taken in once, and those that records came from, in `splits`;
    returns the name there of each file."""
    names = shard_names([Path(one.path).name for one in files], _redactor(rewrite.parent["config"]))
    names = [f"{rewrite.number:06d}-{CORRECTIONS}:{name}" for name in names]
    rows = [
        {
            **_account_of(mine), "quarantined": [], "dropped": [], "shard": name, "size": len(one.content),
            "etag": content_digest(one.content).hex(), "digest": one.digest, "kind": CORRECTIONS, "corrupt": False,
            "notes": [], "snapshot": rewrite.number,
        }
        for one, name, mine in zip(files, names, splits, strict=True)
        if one.digest or len(mine)
    ]  # fmt: skip
    if rows:
        path = join("snapshots", f"{rewrite.name}-inputs.parquet")
        rewrite.add(rewrite.put_table(path, "inputs", pa.Table.from_pylist(rows, INPUTS)))
    return names


def _redactor(settings: Mapping[str, Any]) -> Any:
    return redactor_of(Config.redact_options_of(settings)).redact_text if settings["redact"]["enabled"] else str


def _put_shard(rewrite: Rewrite, split: str, texts: pa.Table, formats: Mapping[str, Any]) -> None:
    """The corrected records of a split, in the formats of the dataset."""
    if formats["parquet"]:
        path = join("data", rewrite.name, shard_name(split, 0, 1, "parquet"))
        shard = ParquetShard(rewrite.writer(path, "parquet", split), data_table(texts).schema)
        shard.append(data_table(texts), texts.column("n_bytes").to_numpy())
        rewrite.add(shard.put())
    if formats["jsonl"]:
        path = join("jsonl", rewrite.name, shard_name(split, 0, 1, "jsonl"))
        lines = JsonlShard(rewrite.writer(path, "jsonl", split))
        messages, tools = (pa.concat_arrays(texts.column(name).chunks) for name in ("messages", "tools"))
        lines.append(conversation_lines(messages, tools, weight=True))
        rewrite.add(lines.put())


def _put_index(rewrite: Rewrite, corrected: Corrected) -> None:
    """The parts of the index for the corrected records."""
    texts, where = pa.Table.from_batches([corrected.signed]), pa.array(corrected.splits, pa.int8())
    none = pa.nulls(texts.num_rows, pa.binary(16))
    tables = {
        "records": pa.table(
            {"key": texts.column("key"), "id": texts.column("id"), "split": where, "replaced_by": none}
        ),
        "owners": owners_of(texts, where),
    }
    if rewrite.parent["config"]["dedupe"]["near"]:
        tables |= {"bands": corrected.bands, "sketches": corrected.sketches}
    storage, root = rewrite.dataset.storage, rewrite.dataset.root
    for kind, rows in tables.items():
        rewrite.add(put_part(storage, root, rewrite.name, kind, 0, 1, rows))
