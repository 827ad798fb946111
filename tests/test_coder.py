"""Record batches through Beam: the coder, and the stages as transforms in a pipeline of somebody else's."""

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given

from tests.records import chat, conversations, records_batch, write_lines
from transforms.coder import RecordBatchCoder
from transforms.hashing import Keys
from transforms.options import ReadOptions, RedactOptions, ValidateOptions
from transforms.parse import ParseRecords
from transforms.read import ReadLines, cut_units
from transforms.redact import RedactRecords
from transforms.sign import SignRecords, is_sound, sign_records
from transforms.validate import ValidateRecords

KEYS = Keys("test salt")


@given(conversations)
def test_batches_survive_the_coder(drawn):
    batch = records_batch([one for one, _ in drawn], [tool for _, tool in drawn])
    coder = RecordBatchCoder()
    assert coder.decode(coder.encode(batch)).equals(batch)
    assert coder.encode(batch) == coder.encode(coder.decode(coder.encode(batch)))


def test_a_slice_weighs_what_it_holds():
    batch = records_batch([[{"role": "user", "content": "x" * 1000}]] * 1000)
    assert len(RecordBatchCoder().encode(batch.slice(10, 10))) < 20_000


def test_batches_are_known_to_beam():
    assert isinstance(beam.coders.registry.get_coder(pa.RecordBatch), RecordBatchCoder)


def test_the_stages_work_in_any_pipeline(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [chat("Write to jane@example.org"), b"{", chat("And then?")])
    units = cut_units(str(path), 0, path.stat().st_size, ReadOptions())
    with Pipeline() as pipeline:
        signed = (
            pipeline
            | beam.Create(units)
            | ReadLines(ReadOptions())
            | ParseRecords(KEYS)
            | ValidateRecords(ValidateOptions())
            | RedactRecords(RedactOptions())
            | SignRecords(KEYS)
        )
        said = signed | beam.FlatMap(
            lambda batch: [row["messages"][0]["content"] for row in batch.select(["messages"]).to_pylist()]
        )
        assert_that(said, equal_to(["Write to <EMAIL_ADDRESS_1>", "And then?"]))


def test_sign_takes_sound_records_only():
    batch = records_batch([[{"role": "user", "content": "x"}]] * 2)
    place = batch.schema.get_field_index("reasons")
    batch = batch.set_column(
        place, batch.schema.field(place), pa.array([[], ["empty_turn"]], batch.schema.field(place).type)
    )
    assert sign_records(batch.filter(is_sound(batch)), KEYS).num_rows == 1
