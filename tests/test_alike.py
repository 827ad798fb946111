"""What resembles corrected records, against every pair compared by the definition."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from pipeline.alike import find_leaks, find_near_duplicates, replaced_records
from tests.records import WORDS
from transforms.hashing import Keys
from transforms.index import PUBLISHED, Index, parts_of, put_part
from transforms.options import DedupeOptions
from transforms.published import sign_published
from transforms.schema import MESSAGES
from transforms.storage import Storage
from transforms.verify import compare_pairs, sketch_refs

OPTIONS, KEYS = DedupeOptions(), Keys("corpusmill")
FAMILIES = 12


def signed(chooser: random.Random, first: int, count: int) -> tuple[pa.Table, pa.Table]:
    """BANDS and SKETCHES of records of few families, in train and val."""
    ids, messages, splits = [], [], []
    for number in range(first, first + count):
        words = random.Random(chooser.randrange(FAMILIES)).choices(WORDS, k=60)
        for _ in range(chooser.randrange(4)):
            words[chooser.randrange(60)] = chooser.choice(WORDS)
        ids.append(KEYS.value(number.to_bytes(4, "big")))
        messages.append([{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": "So it is."}])
        splits.append(chooser.randrange(2))
    columns = [pa.array(ids, pa.binary(16)), pa.array(messages, MESSAGES), pa.nulls(count, pa.binary(16))]
    said = pa.RecordBatch.from_arrays(columns, names=["id", "messages", "group"])
    parts = [sign_published(said.filter(pa.array([one == code for one in splits])), code, OPTIONS, KEYS) for code in (0, 1)]  # fmt: skip
    bands, sketches = (pa.Table.from_batches(tables).combine_chunks() for tables in zip(*parts, strict=True))
    return bands, sketches


def every_pair(mine: pa.Table, theirs: pa.Table, threshold: float) -> list[dict[str, Any]]:
    """The pairs of both that are alike, each compared with each; `split_b` is that of the one of `mine`."""
    place = mine.schema.get_field_index("published")
    new = mine.set_column(place, mine.schema.field(place), pa.array([-1] * mine.num_rows, pa.int8()))
    refs = [(a, b) for a in sketch_refs(theirs).tolist() for b in sketch_refs(new).tolist()]
    pairs = pa.table({side: pa.array([one[number] for one in refs], pa.uint32()) for number, side in enumerate("ab")})
    splits = dict(zip(*(mine.column(name).to_pylist() for name in ("id", "published")), strict=True))
    left, right = (one.sort_by("id").combine_chunks() for one in (theirs, new))
    return [{**one, "split_b": splits[one["b"]]} for one in compare_pairs(pairs, left, right, threshold).to_pylist()]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_is_what_every_pair_tells(tmp_path, seed):
    chooser = random.Random(seed)
    own_bands, mine = signed(chooser, 0, 24)
    bands, sketches = signed(chooser, 100, 120)
    files = [put_part(Storage(), str(tmp_path), "000001-x", kind, 0, 1, rows)
             for kind, rows in (("bands", bands), ("sketches", sketches))]  # fmt: skip
    index = Index(Storage(), str(tmp_path), parts_of([one.path for one in files]))
    ids = [one.hex() for one in sketches.column("id").to_pylist()]
    spared = set(chooser.sample(ids, 30))
    theirs = sketches.filter(pa.array([one not in spared for one in ids])).combine_chunks()
    expected: dict[str, tuple[str, float]] = {}
    for one in sorted(every_pair(mine, theirs, 0.8), key=lambda one: (-one["similarity"], one["b"])):
        if one["published_a"] == one["split_b"]:
            expected.setdefault(one["a"].hex(), (one["b"].hex(), pytest.approx(one["similarity"])))
    found = find_near_duplicates(index, own_bands, mine, spared, 0.8)
    assert found == expected
    assert 5 < len(found) < theirs.num_rows
    leaks = {one["b"].hex() for others in (mine, theirs) for one in every_pair(mine, others, 0.7) if one["published_a"] != one["split_b"]}  # fmt: skip
    assert find_leaks(index, mine, spared, 0.7).keys() == leaks
    assert leaks


def test_what_was_replaced_is_told_from_what_stands(tmp_path):
    ids = [bytes([number]) * 16 for number in range(4)]
    columns = [pa.array(range(4), pa.uint64()), pa.array(ids, pa.binary(16)), pa.array([0] * 4, pa.int8()),
               pa.array([ids[1], None, ids[2], None], pa.binary(16))]  # fmt: skip
    written = put_part(Storage(), str(tmp_path), "000001-x", "records", 0, 1, pa.table(columns, schema=PUBLISHED))
    replaced, by = replaced_records(Index(Storage(), str(tmp_path), parts_of([written.path])))
    assert replaced == {ids[0].hex(), ids[2].hex()}
    assert by == {ids[1].hex(), ids[2].hex()}
