"""How corpora are cut, and that a run whose units are regrouped gives the same bytes."""

import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import shape as shapes
from pipeline.shape import (
    HELD_BYTES,
    MAX_PAIRS,
    MAX_READS,
    MOST_PARTS,
    MOST_SEGMENTS,
    MOST_TEXT_SEGMENTS,
    PART_BYTES,
    shape_of,
)
from tests.records import WORDS, chat, write_lines
from tests.test_run import FAST, corpus, cut, digests, lineage, manifest_of, mill  # noqa: F401  (a fixture)
from transforms.merge import shards_of

UNIT = 256 << 20
SHARD = 256 << 20


@given(st.integers(0, 10**15), st.integers(1, 3_000_000), st.integers(1, 1 << 30))
def test_what_a_cut_keeps_to(weight, units, shard_bytes):
    shape = shape_of(weight, units, shard_bytes)
    counts = (shape.segments, shape.band_segments, shape.text_segments, shape.unit_segments, shape.block, shape.parts)
    assert all(count & (count - 1) == 0 and count > 0 for count in counts)
    assert max(shape.segments, shape.band_segments) <= MOST_SEGMENTS
    assert shape.segments <= shape.text_segments <= MOST_TEXT_SEGMENTS
    assert units * min(shape.unit_segments, shape.text_segments) <= max(MAX_PAIRS, units)
    assert weight <= shape.parts * PART_BYTES or shape.parts == MOST_PARTS
    assert shape.blocks(units) * shape.text_segments <= MAX_READS
    if shape.is_regrouped:
        assert shape.unit_segments <= min(shape.segments, shape.band_segments)
    else:
        assert shape.segments * HELD_BYTES >= min(weight, HELD_BYTES) or shape.segments == MOST_SEGMENTS


@pytest.mark.parametrize("terabytes", [0.001, 0.1, 0.5, 1, 3, 10, 16])
def test_no_task_holds_more_as_the_corpus_grows(terabytes):
    weight = int(terabytes * 1e12)
    units = -(-weight // UNIT)
    shape = shape_of(weight, units, SHARD)
    assert weight / shape.text_segments <= HELD_BYTES
    shards = -(-weight // SHARD)
    read = sum(len(shards_of(segment, shape.text_segments, shards)) for segment in range(shape.text_segments))
    assert read / shape.text_segments <= 3  # how often a text is read by Merge


def test_a_regrouped_run_gives_the_same_bytes(corpus, tmp_path, monkeypatch):  # noqa: F811
    inputs = cut(corpus, tmp_path / "logs", 7, 5)
    options = [*FAST, "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000"]
    assert mill("run", "--input", inputs, "--output", tmp_path / "plain", *options) == 0
    for name, value in {"MAX_PAIRS": 40, "HELD_BYTES": 8192, "BLOCK": 4, "MOST_SEGMENTS": 16}.items():
        monkeypatch.setattr(shapes, name, value)
    small = ["--set", "read.unit_bytes=5000", "--keep-work"]
    assert mill("run", "--input", inputs, "--output", tmp_path / "out", *options, *small) == 0
    (regrouped,) = tmp_path.glob("out/work/*/done/regroup_bands")
    assert len(list(regrouped.iterdir())) > 8
    assert list(tmp_path.glob("out/work/*/done/regroup_owners/*"))
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")
    assert manifest_of(tmp_path / "out")["accounting"] == manifest_of(tmp_path / "plain")["accounting"]
    assert mill("verify", tmp_path / "out") == 0


def test_a_run_whose_clusters_are_found_in_parts_gives_the_same_bytes(corpus, tmp_path, monkeypatch):  # noqa: F811
    inputs = cut(corpus, tmp_path / "logs", 7, 5)
    options = [*FAST, "--set", "write.shard_bytes=40000", "--set", "read.unit_bytes=5000", "--keep-work"]
    assert mill("run", "--input", inputs, "--output", tmp_path / "plain", *options) == 0
    for name, value in {"SEGMENT_BYTES": 8192, "PART_BYTES": 8192}.items():
        monkeypatch.setattr(shapes, name, value)
    assert mill("run", "--input", inputs, "--output", tmp_path / "out", *options) == 0
    assert len(list(tmp_path.glob("out/work/*/done/cluster/*"))) > 4
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")
    told = [json.loads(next(tmp_path.glob(f"{one}/report/*/report.json")).read_bytes()) for one in ("out", "plain")]
    assert told[0]["duplicates"] == told[1]["duplicates"]
    assert mill("verify", tmp_path / "out") == 0


def test_a_family_whose_leaders_are_told_once_gives_the_same_bytes(tmp_path, monkeypatch):
    """Also where a later night meets it, and over several segments of ids."""
    chooser = random.Random(4)
    template = " ".join(chooser.choices(WORDS, k=120))
    said = [f"{template} {' '.join(chooser.choices(WORDS, k=45))}" for _ in range(220)]
    said += [f"{chooser.choice(said)} {chooser.choice(WORDS)}" for _ in range(60)]
    nights = [said[:180], said[180:]]
    inputs = [
        write_lines(tmp_path / f"{number}.jsonl", [chat(one, "Yes.") for one in night])
        for number, night in enumerate(nights)
    ]
    monkeypatch.setattr(shapes, "SEGMENT_BYTES", 65536)
    monkeypatch.setattr(shapes, "ROOT_BYTES", 16384)
    told = []
    for fewest in (20, 10**6):
        monkeypatch.setattr("pipeline.tasks._FEWEST_LED", fewest)
        out = tmp_path / str(fewest)
        for count in (1, 2):
            assert mill("run", "--input", *inputs[:count], "--output", out, *FAST, "--keep-work") == 0
        heads = list(out.glob("work/*/heads/*.run"))
        told.append([bool(heads), sorted(map(str, lineage(out))), dataset_of(out)])
    assert told[0][0]
    assert not told[1][0]
    assert told[0][1:] == told[1][1:]


def dataset_of(output: Path) -> dict[str, str]:
    """Digest of each data file of all snapshots by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.glob("data/*/*"))}
