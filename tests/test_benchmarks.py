"""The benchmarks that drive the project from within run: a change of what they call would break them unseen."""

from __future__ import annotations

from benchmarks.dedupe import score
from benchmarks.dedupe_corpus import make_corpus
from benchmarks.dedupe_engine import run_engine


def test_the_engine_of_the_deduplication_benchmark_runs_and_is_right(tmp_path):
    corpus = make_corpus(tmp_path, "chat", 400)
    result, kept_for = run_engine(corpus, tmp_path / "work")
    assert result["records"] == 400
    assert set(result["cpu"]) == {"sign", "candidates", "attach", "verify", "cluster"}
    found = score(corpus, kept_for)["by"]["all"]
    assert found["drops"] > 10
    assert (found["wrong"], found["missed"]) == (0, 0)
