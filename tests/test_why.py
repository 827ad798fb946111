"""Why: fates from a lineage that is made here."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.snapshots import Dataset
from pipeline.tables import why_table
from pipeline.why import find_fates
from transforms.schema import LINEAGE
from transforms.storage import Storage

KEPT, NEAR, EXACT_ONLY, LIKE = (letter * 32 for letter in "abce")


def fate(line, one, outcome, reasons=(), kept_id=None, similarity=None):
    known = {"shard": "/logs/a.jsonl", "line": line, "offset": 10 * line, "length": 10, "outcome": outcome,
             "reasons": list(reasons), "id": one, "kept_id": kept_id, "similarity": similarity}  # fmt: skip
    return {field.name: known.get(field.name) for field in LINEAGE}


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    parts = [
        [
            fate(1, NEAR, "duplicate", ["near"], KEPT, 0.8125),
            fate(2, KEPT, "duplicate", ["exact"], KEPT, 1.0),
            fate(3, None, "quarantined", ["malformed_json"]),
        ],
        [
            fate(4, KEPT, "train"),
            fate(5, "d" * 32, "duplicate", ["near"], KEPT, 0.9),
            fate(6, EXACT_ONLY, "val"),
            fate(7, EXACT_ONLY, "duplicate", ["exact"], EXACT_ONLY, 1.0),
            fate(8, LIKE, "dropped", ["near_val"], EXACT_ONLY, 0.75),
            fate(9, LIKE, "dropped", ["near_val"], EXACT_ONLY, 0.75),
            fate(10, "0" * 32, "dropped", ["near_val"], LIKE, 0.9),
        ],
    ]
    files = []
    for number, rows in enumerate(parts):
        path = tmp_path / "lineage" / "000001-x" / f"part-{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, LINEAGE), path)
        files.append({"kind": "lineage", "path": str(path.relative_to(tmp_path))})
    monkeypatch.setattr(Dataset, "manifest", lambda *_: {"snapshot": 1, "files": files})
    return Dataset(Storage(), str(tmp_path))


def test_a_kept_record_says_how_many_gave_way_to_it(dataset):
    fates = find_fates(dataset, KEPT)
    assert [one["line"] for one in fates] == [4, 2, 1, 5]
    assert fates[0]["gave_way"] == {"exact": 1, "near": 2, "similarity": 0.8125, "left_out": 0}
    assert fates[0]["explanation"] == (
        "kept, in train; 3 lines gave way to it: 1 exact copy and 2 near-duplicates (similarity 0.812 and more)"
    )
    (alone,) = find_fates(dataset, "a.jsonl:6")
    assert alone["explanation"] == (
        "kept, in val; 1 line gave way to it: 1 exact copy; 2 lines were left out for resembling it"
    )


def test_a_dropped_record_names_the_kept_one_and_how_alike_they_are(dataset):
    (near,) = find_fates(dataset, NEAR)
    assert near["explanation"] == f"gave way to {KEPT}, of which it is a near-duplicate (similarity 0.812)"
    (exact,) = find_fates(dataset, "/logs/a.jsonl:2")
    assert exact["explanation"] == f"gave way to {KEPT}, of which it is an exact copy"
    (broken,) = find_fates(dataset, "a.jsonl:3")
    assert broken["explanation"].startswith("quarantined: ")
    assert broken["gave_way"] is None


def test_what_is_left_out_names_whom_it_resembles_or_repeats(dataset):
    like, again, repeats = find_fates(dataset, LIKE)
    assert like["explanation"].endswith(f": it resembles {EXACT_ONLY} (similarity 0.750), which was put in val")
    assert again["explanation"] == like["explanation"]
    assert repeats["explanation"].endswith(f": it is a near-duplicate of {LIKE} (similarity 0.900), which was left out")


def test_every_fate_can_be_shown(dataset):
    for what in (KEPT, NEAR, "a.jsonl:3"):
        assert list(why_table(find_fates(dataset, what)))
