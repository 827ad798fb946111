"""Signatures: what datasketch says of published records, for those who compare them with records of their own."""

from __future__ import annotations

import os
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.members import data_files
from pipeline.snapshots import Dataset
from transforms.minhash import datasketch_signatures
from transforms.options import DedupeOptions
from transforms.published import read_published
from transforms.sign import bodies

SIGNATURE = "signature"  # the column, also in the files that --decontaminate takes
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field(SIGNATURE, pa.list_(pa.uint32()), nullable=False),
    ]
)


def write_signatures(dataset: Dataset, target: str, split: str | None = None) -> int:
    """Puts the id, split and signature (uint32[P]) of each published record into a Parquet file; how many there are.

    P and the words a shingle are those of the dataset's config. Raises UsageError where nothing is published.
    """
    manifest = dataset.manifest()
    options = DedupeOptions(**manifest["config"]["dedupe"])
    files = [one for one in data_files(manifest) if split in (None, one["split"])]
    if not files:
        raise UsageError(f"{dataset.root} has no records" + (f" in {split}" if split else ""))
    count = 0
    with tempfile.TemporaryDirectory(prefix="corpusmill-") as folder:
        path = os.path.join(folder, "signatures.parquet")
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as out:
            for file in sorted(files, key=lambda one: str(one["path"])):
                for said in read_published(dataset.storage, dataset.uri(file["path"])):
                    signatures = datasketch_signatures(
                        bodies(said.column("messages")), options.shingle, options.num_perm
                    )
                    ids = [one.hex() for one in said.column("id").to_pylist()]
                    columns = [ids, [file["split"]] * len(ids), list(signatures)]
                    arrays = [pa.array(one, field.type) for one, field in zip(columns, _SCHEMA, strict=True)]
                    out.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
                    count += len(ids)
        dataset.storage.put_file(target, path)
    return count
