"""Why: fates from a lineage that is made here."""

from pathlib import Path

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


def with_fates(dataset, monkeypatch, rows, *more):
    """The dataset with other lineage, and more files."""
    path = "lineage/000002-x/part-0.parquet"
    Path(dataset.uri("lineage/000002-x")).mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, LINEAGE), dataset.uri(path))
    files = [{"kind": "lineage", "path": path}, *more]
    monkeypatch.setattr(Dataset, "manifest", lambda *_: {"snapshot": 2, "files": files})


def test_what_a_human_decided_on_says_what_came_of_it_in_the_end(dataset, monkeypatch):
    first, second, third, cut, other, gone = (digit * 32 for digit in "012345")
    rows = [
        fate(1, first, "dropped", ["superseded"], second),
        fate(2, second, "dropped", ["superseded"], third),
        fate(3, third, "val"),
        fate(4, cut, "dropped", ["superseded"]),
        fate(5, cut, "dropped", ["superseded"], cut),  # a copy that came later
        fate(6, other, "dropped", ["superseded"], gone),
        fate(7, gone, "dropped", ["superseded"]),
    ]
    with_fates(dataset, monkeypatch, rows)

    def said(line):
        (found,) = find_fates(dataset, f"a.jsonl:{line}")
        return found["explanation"].removeprefix("left out: a human decision ")

    stands = f"replaced it: {third} stands in its place"
    beside = f"cut {gone}, which stood in its place"
    assert [said(line) for line in range(1, 8) if line != 3] == [stands, stands, "cut it", "cut it", beside, "cut it"]
    with_fates(dataset, monkeypatch, rows, {"kind": "suppressed", "path": "snapshots/000002-suppressed.parquet"})
    unsure = ", or replaced it by a record that was forgotten"
    assert [said(line) for line in (1, 4, 5, 6)] == [stands, "cut it" + unsure, "cut it", beside + unsure]


def test_every_fate_can_be_shown(dataset):
    for what in (KEPT, NEAR, "a.jsonl:3"):
        assert list(why_table(find_fates(dataset, what)))
