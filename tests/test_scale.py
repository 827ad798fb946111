"""The model on paper: sizes as people write them, what grows how, and that it knows every run that a run leaves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import shape as shapes
from pipeline.errors import UsageError
from pipeline.scale import KINDS, Corpus, estimate, estimate_stages, shuffled, size_of
from tests.records import chat, write_lines
from tests.test_run import FAST, mill

UNIT = SHARD = 256 << 20
SMALL = {
    "fallen",
    "known",
    "renamed",
    "crowds",
    "peers",
    "heads",
    "calls",
    "torn",
    "held",
    "guards",
    "eval_bands",
    "eval_sketches",
    "rejects",
    "claims",
    "owned",
    "cross",
    "drops",
    "owners",
}  # that weigh nothing, or little


@pytest.mark.parametrize("text", ["", "ten", "10 XB", "-1GB", "0", "1iB", "TB"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="no size"):
        size_of(text)


@given(st.integers(1 << 20, 10**14))
def test_work_grows_with_the_text_and_nothing_else(size):
    corpus = Corpus.sized(size, UNIT, SHARD)
    stages = estimate_stages(corpus)
    assert sum(stage.seconds for stage in stages) <= size / 1e6 * 1
    assert all(stage.tasks >= 1 and stage.gets >= stage.tasks for stage in stages)
    assert shuffled(stages) <= size / 30 + 10**8


def test_memory_of_a_worker_stays():
    held = [estimate(Corpus.sized(int(tb * 1e12), UNIT, SHARD), 100, None)["worker_bytes"] for tb in (0.1, 1, 10)]
    assert held[1] <= 1.5e9
    assert held[2] <= 5e9


def test_what_one_task_holds_of_the_whole_corpus_is_little():
    stages = {stage.name: stage for stage in estimate_stages(Corpus.sized(10**13, UNIT, SHARD))}
    assert [name for name, stage in stages.items() if stage.is_single] == ["join"]
    assert stages["join"].held <= 5e9
    assert stages["cluster"].held <= 1.6e9
    assert [stage.name for stage in estimate_stages(Corpus.sized(10**10, UNIT, SHARD)) if stage.is_single] == [
        "cluster"
    ]


def test_hours_are_whole_tasks():
    corpus = Corpus.sized(10**12, UNIT, SHARD)
    one, many = (estimate(corpus, workers, 2.0) for workers in (1, 10**6))
    assert one["hours"] == pytest.approx(sum(stage["cpu_hours"] for stage in one["stages"]))
    assert many["hours"] >= max(stage["cpu_hours"] / stage["tasks"] for stage in many["stages"])
    assert one["cost"] == pytest.approx(2 * one["hours"])
    assert estimate(corpus, 1, None)["cost"] is None


def test_without_the_search_for_look_alikes_its_stages_are_gone():
    names = [stage.name for stage in estimate_stages(Corpus.sized(10**9, UNIT, SHARD, near=False))]
    assert names == ["mill", "count", "settle", "merge", "kept_refs", "index_ids"]


def test_the_command_says_it_of_a_corpus_that_is_not_there(capsys):
    assert mill("plan", "--workers", "100", "--size", "10TB", "--price", "0.05", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["regrouped"] is True
    assert found["cost"] == pytest.approx(found["hours"] * 100 * 0.05)
    assert mill("plan", "--workers", "100", "--size", "10TB") == 0
    assert "price" not in capsys.readouterr().out
    assert mill("plan", "--size", "10TB") == 2
    assert "add --workers N" in capsys.readouterr().err
    assert mill("plan", "--workers", "100", "--size", "10TB", "--price", "nan") == 2
    assert "nan is no price" in capsys.readouterr().err
    assert mill("plan", "--workers", "100", "--size", "20TB") == 0
    assert "past 16 TiB" in capsys.readouterr().err


@pytest.mark.parametrize("part_bytes", [shapes.PART_BYTES, 1024])
def test_the_model_knows_every_kind_of_run(part_bytes, tmp_path, capsys, monkeypatch):
    """A stage that writes something new must be put into the model too."""
    logs = write_lines(tmp_path / "a.jsonl", [chat(f"What is {number} and one? Tell me in ten words or so, please, as you told all the others before me, and mind to say which of them asked for the very same sum.") for number in range(40)])  # fmt: skip
    out = tmp_path / "out"
    monkeypatch.setattr(shapes, "PART_BYTES", part_bytes)
    assert mill("plan", "--input", logs, "--output", out, *FAST, "--workers", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["units"] == 1
    assert mill("run", "--input", logs, "--output", out, "--keep-work", *FAST) == 0
    kinds = {path.parent.name for path in out.glob("work/*/*/*.run")}
    assert kinds - SMALL <= set(KINDS)
    stages = {path.name for path in out.glob("work/*/done/*")}
    modelled = {stage.name for stage in estimate_stages(Corpus.sized(10**9, UNIT, SHARD))}
    others = {"cut", "resolve", "look_alikes", "owners"}
    assert stages - others == modelled
