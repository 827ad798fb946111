"""Record batches between workers as Arrow IPC: Beam's default would pickle a slice with all that it is cut from.

Importing this module registers the coder; every module with a transform over batches does.
"""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa


class RecordBatchCoder(beam.coders.Coder):
    """Bytes of a record batch: an IPC stream with its schema. The same batch gives the same bytes."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as stream:
            stream.write_batch(value)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_next_batch()

    def is_deterministic(self) -> bool:
        return True


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
