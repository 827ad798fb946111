"""Write: the shards of one key range, Parquet and JSONL side by side, the same bytes for the same rows."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.schema import DATA
from transforms.storage import Storage, join

ROW_GROUP_ROWS = 16384
ROW_GROUP_BYTES = 32 << 20  # 32 MiB of canonical JSON

_PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_content_defined_chunking": True,  # a changed row changes its pages, not the file
    "write_page_index": True,
}


def shard_name(split: str, index: int, count: int, suffix: str) -> str:
    """The name of a shard.

    >>> shard_name("train", 0, 4, "parquet")
    'train-00000-of-00004.parquet'
    """
    return f"{split}-{index:05d}-of-{count:05d}.{suffix}"


@dataclass(frozen=True)
class Written:
    """A file that is in place; `path` is relative to the dataset's folder."""

    path: str
    kind: str
    split: str | None
    rows: int
    bytes: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        entry = {"path": self.path, "kind": self.kind, "rows": self.rows, "bytes": self.bytes, "digest": self.digest}
        return entry if self.split is None else {**entry, "split": self.split}


def file_digest(content: Any) -> str:
    """The digest of a binary stream, as manifests give it: `sha256sum` prints the same digits."""
    return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()


class FileWriter:
    """A local file that is put whole at the end, with its digest."""

    def __init__(
        self, storage: Storage, root: str, path: str, kind: str, split: str | None = None, spool: str | None = None
    ) -> None:
        self._storage, self._root, self._path, self._kind, self._split = storage, root, path, kind, split
        handle, self.local = tempfile.mkstemp(prefix="corpusmill-", dir=spool)
        self.stream: IO[bytes] = os.fdopen(handle, "wb")
        self.rows = 0

    def put(self) -> Written:
        """Closes the file and puts it at its place."""
        self.stream.close()
        size = os.path.getsize(self.local)
        with open(self.local, "rb") as content:
            digest = file_digest(content)
        self._storage.put_file(join(self._root, self._path), self.local)
        return Written(self._path, self._kind, self._split, self.rows, size, digest)

    def discard(self) -> None:
        """Removes what is not in place."""
        self.stream.close()
        if os.path.exists(self.local):
            os.unlink(self.local)


class ParquetShard:
    """Rows in, exact row groups out: their cut depends on the rows alone, not on the calls."""

    def __init__(self, file: FileWriter, schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema
        self._writer = pq.ParquetWriter(file.stream, schema, **_PARQUET)
        self._pending: list[pa.Table] = []
        self._sizes: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._pending_bytes = 0

    def append(self, rows: pa.Table, n_bytes: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Adds rows; `n_bytes` int64[N] is the weight of each for the cut of row groups."""
        self._pending.append(rows)
        self._sizes.append(n_bytes)
        self._file.rows += rows.num_rows
        self._pending_bytes += int(n_bytes.sum())
        if self._pending_bytes >= ROW_GROUP_BYTES or sum(map(len, self._sizes)) >= ROW_GROUP_ROWS:
            self._cut(final=False)

    def _cut(self, *, final: bool) -> None:
        """Writes full row groups, and the rest if `final`."""
        rows = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
        sizes = np.concatenate(self._sizes) if self._sizes else np.empty(0, np.int64)
        total = np.cumsum(sizes)
        start = 0
        while start < len(sizes):
            before = total[start - 1] if start else 0
            # The group ends with the row that reaches the weight, or with the last row that fits the count.
            end = min(int(np.searchsorted(total, before + ROW_GROUP_BYTES)) + 1, start + ROW_GROUP_ROWS)
            if end > len(sizes):
                if not final:
                    break
                end = len(sizes)
            self._writer.write_table(rows.slice(start, end - start).combine_chunks(), row_group_size=end - start)
            start = end
        self._pending, self._sizes = [rows.slice(start)], [sizes[start:]]
        self._pending_bytes = int(sizes[start:].sum())

    def put(self) -> Written:
        """Writes what is left and puts the file."""
        self._cut(final=True)
        self.close()
        return self._file.put()

    def close(self) -> None:
        """Ends the Parquet file, which is whole only after `put`."""
        self._writer.close()


class JsonlShard:
    """Lines in, one file out."""

    def __init__(self, file: FileWriter) -> None:
        self._file = file

    def append(self, lines: pa.StringArray) -> None:
        ended = pc.binary_join_element_wise(lines, "", "\n")
        _, offsets, content = ended.buffers()
        if content is not None and len(ended):
            bounds = np.frombuffer(offsets, np.int32)[[ended.offset, ended.offset + len(ended)]]
            self._file.stream.write(memoryview(content)[bounds[0] : bounds[1]])
        self._file.rows += len(lines)

    def put(self) -> Written:
        return self._file.put()


def data_table(texts: pa.Table) -> pa.Table:
    """The columns of `data/` for rows of `sign.SIGNED`."""
    count = texts.num_rows
    columns = {
        "id": hex_ids(texts.column("id")),
        "messages": texts.column("messages"),
        "tools": texts.column("tools"),
        "kind": texts.column("kind"),
        "metadata": texts.column("metadata"),
        "group": hex_ids(texts.column("group")),
        "n_chars": texts.column("n_chars"),
        "n_redactions": texts.column("n_redactions"),
    }
    return pa.table([columns.get(field.name, pa.nulls(count, field.type)) for field in DATA], schema=DATA)


def hex_ids(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """16-byte ids as 32 hex digits."""
    return pa.array([None if value is None else value.hex() for value in values.to_pylist()], pa.string())
