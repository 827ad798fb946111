"""Shared refs: what it takes to leave records out of a copy of the index.

A row of bands names its record by the first 32 bits of the id, which another record may share: at ten million records, one in
a thousand does. Such a one that stays is signed anew from its text, so that its bands are told from those that go.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rewrite import Entry, Rewrite
from transforms.bands import BANDS, refs_of
from transforms.exact import id_words
from transforms.hashing import Keys
from transforms.index import Index, parts_of
from transforms.options import DedupeOptions
from transforms.published import read_published, sign_published


def index_rows(rewrite: Rewrite, entry: Entry) -> tuple[str, pa.Table]:
    """(kind, rows) of a part of the index."""
    parts = parts_of([entry["path"]])
    (rows,) = Index(rewrite.dataset.storage, rewrite.dataset.root, parts).all(parts[0].kind)
    return parts[0].kind, rows


def sharing_refs(rewrite: Rewrite, ids: Iterable[str]) -> set[bytes]:
    """Ids of records of the index that share a ref with one of `ids`, and are none of these."""
    gone = pa.array([bytes.fromhex(one) for one in sorted(ids)], pa.binary(16))
    refs = refs_of(id_words(gone)[:, 0])
    others: set[bytes] = set()
    for entry in rewrite.of_kind("index") if len(gone) else ():
        if parts_of([entry["path"]])[0].kind == "records":
            _, rows = index_rows(rewrite, entry)
            same = np.isin(refs_of(id_words(rows.column("id"))[:, 0]), refs)
            others.update(rows.column("id").filter(pa.array(same)).to_pylist())
    return others - set(gone.to_pylist())


def bands_of(rewrite: Rewrite, ids: set[bytes], keys: Keys) -> pa.Table:
    """BANDS of published records, signed anew."""
    tables = [BANDS.empty_table()]
    options = DedupeOptions.model_validate(rewrite.parent["config"]["dedupe"])
    for entry in (rewrite.of_kind("parquet") or rewrite.of_kind("jsonl")) if ids and options.near else ():
        for said in read_published(rewrite.dataset.storage, rewrite.uri(entry)):
            mine = said.filter(pc.is_in(said.column("id"), value_set=pa.array(sorted(ids), pa.binary(16))))
            tables.append(pa.Table.from_batches([sign_published(mine, 0, options, keys)[0]]))
    return pa.concat_tables(tables)
