"""The whole DAG: few runs, each looked at from many sides."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.errors import NotTaken
from tests.records import WORDS, chat, write_lines

FAST = ["--set", "redact.enabled=false"]


def mill(*arguments: str | Path) -> int:
    """Runs the command line in this process; returns the exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(one) for one in arguments])
    return int(exit_info.value.code or 0)


def hear_interrupts() -> None:
    """For a child process: shells let what they start in the background ignore SIGINT, tests with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def manifest_of(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "snapshots" / "000001.json").read_bytes()))


def digests(output: Path) -> dict[str, str]:
    """Digest of each data file by its name."""
    return {
        Path(one["path"]).name: one["digest"]
        for one in manifest_of(output)["files"]
        if one["kind"] in ("parquet", "jsonl")
    }


def rows(output: Path, split: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((output / "data").glob(f"*/{split}-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def lineage(output: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((output / "lineage").glob("*/*.parquet")) for row in pq.read_table(path).to_pylist()]


def made_corpus(count: int, seed: int = 0) -> list[Any]:
    """Distinct records, copies, near-copies and broken lines, shuffled."""
    chooser = random.Random(seed)
    records: list[Any] = []
    for number in range(count):
        text = " ".join(chooser.choices(WORDS, k=60))
        records.append(
            chat(f"{text} {number}", " ".join(chooser.choices(WORDS, k=40)), user_id=chooser.randrange(count // 2))
        )
        if number % 10 == 0:
            records.append(records[-1])
        if number % 10 == 1:
            near = json.loads(json.dumps(records[-1]))
            near["messages"][0]["content"] += " indeed"
            records.append(near)
        if number % 25 == 0:
            records += [b'{"messages": [', b"", chat(" ")]
    chooser.shuffle(records)
    return records


def cut(records: list[Any], folder: Path, shards: int, seed: int) -> Path:
    """The same records in so many shards, in another order, some of them packed."""
    chooser = random.Random(seed)
    records = list(records)
    chooser.shuffle(records)
    for number in range(shards):
        path = write_lines(folder / f"{chooser.randrange(10**6):06d}-{number}.jsonl", records[number::shards])
        if number % 3 == 2:
            path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def corpus() -> list[Any]:
    return made_corpus(400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: list[Any]) -> Path:
    """A committed dataset, with grouping, small shards and redaction off."""
    folder = tmp_path_factory.mktemp("made")
    inputs = cut(corpus, folder / "logs", 3, 1)
    code = mill("run", "--input", inputs, "--output", folder / "out", *FAST,
                "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000")  # fmt: skip
    assert code == 0
    return folder / "out"


def test_every_line_has_one_fate(made, corpus):
    accounting = manifest_of(made)["accounting"]
    lines = [one for one in corpus if one != b""]
    assert accounting["read"] == len(lines)
    assert accounting["blank"] == len(corpus) - len(lines)
    assert accounting["quarantined"] == {"malformed_json": 16, "empty_turn": 16}
    fates = lineage(made)
    assert len(fates) == len(lines)
    assert len({(one["shard"], one["line"]) for one in fates}) == len(lines)
    for split in ("train", "val", "eval"):
        ids = [row["id"] for row in rows(made, split)]
        assert len(ids) == accounting[split] > 0
        assert sorted(ids) == sorted(one["id"] for one in fates if one["outcome"] == split)
    shards = pq.read_table(made / "snapshots" / "000001-inputs.parquet").to_pylist()
    assert sum(one["read"] for one in shards) == len(lines)


def test_lineage_points_at_the_bytes_of_the_line(made):
    for one in random.Random(0).sample(lineage(made), 40):
        content = Path(one["shard"]).read_bytes()
        content = gzip.decompress(content) if one["shard"].endswith(".gz") else content
        line = content[one["offset"] : one["offset"] + one["length"]]
        assert content.split(b"\n")[one["line"] - 1] == line


def test_duplicates_name_a_kept_record_that_they_resemble(made):
    fates = lineage(made)
    kept = {one["id"] for one in fates if one["outcome"] in ("train", "val", "eval")}
    near = [one for one in fates if one["reasons"] == ["near"]]
    exact = [one for one in fates if one["reasons"] == ["exact"]]
    assert len(near) >= 35
    assert len(exact) >= 40
    assert all(one["kept_id"] in kept and 0.8 <= one["similarity"] < 1 for one in near)
    assert all(one["kept_id"] == one["id"] and one["similarity"] == 1 for one in exact)


def test_what_repeats_a_record_that_is_left_out_goes_with_it(tmp_path, capsys):
    """Users who say nearly the same, a part of them in eval: nobody is the duplicate of a record that is not there."""
    chooser = random.Random(3)
    records = []
    for family in range(30):
        base = [f"f{family}w{chooser.randrange(10_000)}" for _ in range(100)]
        alike = [*base[:88], *(f"f{family}x{place}" for place in range(12))]  # 0.71
        again = ["and", "so", "then", *alike[3:]]  # 0.94 like that, 0.67 like the first
        for text in (base, alike, again, alike, again):
            said = chat("What is it?", " ".join(text), metadata={"user": f"u{chooser.randrange(60)}"})
            records.append(said)
    logs = write_lines(tmp_path / "a.jsonl", records)
    splits = ["split.group_by=metadata.user", "split.eval=0.25", "split.val=0.25", "split.min_val=1"]
    out = tmp_path / "out"
    assert mill("run", "--input", logs, "--output", out, *FAST, *(f for one in splits for f in ("--set", one))) == 0
    fates = lineage(out)
    kept = {one["id"] for one in fates if one["outcome"] in ("train", "val", "eval")}
    assert all(one["kept_id"] in kept for one in fates if one["outcome"] == "duplicate")
    left_out = {one["id"]: one["reasons"] for one in fates if one["outcome"] == "dropped"}
    assert all(one["kept_id"] for one in fates if one["outcome"] == "dropped")
    repeating = [one for one in fates if one["outcome"] == "dropped" and one["kept_id"] in left_out]
    assert any(one["reasons"] == ["near_eval"] for one in repeating)
    assert all(one["reasons"] == left_out[one["kept_id"]] and one["similarity"] >= 0.8 for one in repeating)
    assert len(left_out) < sum(one["outcome"] == "dropped" for one in fates)  # copies among them
    split_of = {one["id"]: one["outcome"] for one in fates if one["id"] in kept and one["outcome"] != "duplicate"}
    resembling = [one for one in fates if one["outcome"] == "dropped" and one["kept_id"] not in left_out]
    assert {f"near_{split_of[one['kept_id']]}" for one in resembling} == {"near_eval", "near_val"}
    assert all(one["reasons"] == [f"near_{split_of[one['kept_id']]}"] for one in resembling)
    assert all(0.7 - 1e-6 <= one["similarity"] < 1 for one in resembling)
    capsys.readouterr()
    assert mill("why", out, repeating[0]["id"]) == 0
    assert f"it is a near-duplicate of {repeating[0]['kept_id']}" in capsys.readouterr().out
    assert mill("verify", out) == 0


def test_a_group_is_in_one_split(made):
    seen: dict[str, str] = {}
    for split in ("train", "val", "eval"):
        for row in rows(made, split):
            assert seen.setdefault(row["group"], split) == split
            assert json.loads(row["metadata"])["user_id"] == row["group"]


def test_jsonl_is_the_twin_of_parquet(made):
    for split in ("train", "val", "eval"):
        for path in sorted((made / "data").glob(f"*/{split}-*.parquet")):
            twin = made / "jsonl" / path.parent.name / path.with_suffix(".jsonl").name
            said = [json.loads(line) for line in twin.read_text().splitlines()]
            for row, line in zip(pq.read_table(path).to_pylist(), said, strict=True):
                messages = [
                    {key: value for key, value in message.items() if value is not None} for message in row["messages"]
                ]
                assert line["messages"] == messages


def test_shards_are_counted_by_bytes(made):
    names = [Path(one["path"]).name for one in manifest_of(made)["files"] if one["kind"] == "jsonl"]
    size = sum(len(line.strip()) for path in (made / "jsonl").glob("*/*.jsonl") for line in path.open("rb"))
    count = -(-size // 40000)
    assert sorted(names) == sorted(
        f"{split}-{n:05d}-of-{count:05d}.jsonl" for split in ("train", "val", "eval") for n in range(count)
    )


def test_load_dataset_reads_what_is_there(made, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    import datasets

    loaded = datasets.load_dataset(str(made), cache_dir=str(tmp_path))
    for split in ("train", "val", "eval"):
        assert list(loaded[split]) == rows(made, split)


def test_work_is_removed_and_current_points_at_the_snapshot(made):
    assert not list((made / "work").glob("*")) if (made / "work").exists() else True
    assert (made / "CURRENT").read_text() == "000001\n"


@pytest.mark.parametrize(
    ("shards", "options"),
    [
        (1, []),
        (7, ["--set", "read.block_bytes=4096", "--set", "read.unit_bytes=5000"]),
        (64, ["--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]),
    ],
    ids=["one shard", "seven, small blocks and units", "sixty-four, two workers"],
)
def test_same_records_same_bytes(made, corpus, tmp_path, shards, options):
    inputs = cut(corpus, tmp_path / "logs", shards, shards)
    code = mill("run", "--input", inputs, "--output", tmp_path / "out", *FAST,
                "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000", *options)  # fmt: skip
    assert code == 0
    assert digests(tmp_path / "out") == digests(made)


def test_the_same_again_is_nothing_new(made, capsys):
    before = sorted(made.rglob("*"))
    inputs = made.parent / "logs"
    again = ["run", "--input", inputs, "--output", made, *FAST,
             "--set", "split.group_by=metadata.user_id", "--set", "write.shard_bytes=40000"]  # fmt: skip
    assert mill(*again) == 0
    assert "nothing new" in capsys.readouterr().err
    assert sorted(made.rglob("*")) == before
    assert mill(*again, "--set", "validate.max_chars=7") == 2
    told = capsys.readouterr().err
    assert "validate.max_chars: was 8000, is 7" in told
    assert "--rebuild" in told
    assert mill(*again, "--set", "split.salt=other") == 2
    assert "split.salt: was 'corpusmill', is 'other'" in " ".join(capsys.readouterr().err.split())
    assert mill(*again, "--set", "split.group_by=null") == 2
    assert "can't change once a dataset is published" in capsys.readouterr().err
    assert mill(*again, "--set", "split.val=0.3") == 2
    assert "--accept" in capsys.readouterr().err
    assert mill("run", "--input", made / "none*.jsonl", *again[3:]) == 0
    assert mill("run", "--input", made / "none*.jsonl", "--require-input", *again[3:]) == 2
    assert sorted(made.rglob("*")) == before


def test_a_killed_run_resumes_and_leaves_nothing_behind(corpus, tmp_path):
    """Killed at several moments, then run to its end: the bytes are those of a run that was left alone."""
    inputs = cut(corpus * 3, tmp_path / "logs", 9, 5)
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "--input",
        str(inputs),
        *FAST,
        "--keep-work",
        "--set",
        "read.block_bytes=2048",
    ]
    calm = tmp_path / "calm"
    assert subprocess.run([*command, "--output", str(calm)], check=False, capture_output=True).returncode == 0
    output = tmp_path / "out"
    for stage in ("mill", "settle", "merge"):
        process = subprocess.Popen(
            [*command, "--output", str(output)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if list(output.glob(f"work/*/done/{stage}/*.json")):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        process.wait()
        if (output / "snapshots" / "000001.json").exists():
            break
    done_before = {path: path.stat().st_mtime_ns for path in output.glob("work/*/done/mill/*.json")}
    assert subprocess.run([*command, "--output", str(output)], check=False, capture_output=True).returncode == 0
    assert digests(output) == digests(calm)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done_before.items())
    assert not [path for path in output.rglob(".tmp-*") if "work" not in path.parts]


def test_an_interrupted_run_says_so(corpus, tmp_path):
    inputs = cut(corpus * 5, tmp_path / "logs", 9, 5)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--input", str(inputs), "--output", str(tmp_path / "out"), *FAST],
        preexec_fn=hear_interrupts,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.glob("out/work/*/done/mill/*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "running again resumes" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "snapshots").exists()


def test_another_run_that_commits_first_wins(corpus, tmp_path, capsys, monkeypatch):
    inputs = cut(corpus[:50], tmp_path / "logs", 1, 5)
    from pipeline import runner

    run_pipeline = runner.run_pipeline

    def overtaken(job, *pipeline):
        monkeypatch.setattr("pipeline.run.run_pipeline", run_pipeline)
        assert mill("run", "--input", inputs, "--output", tmp_path / "out", *FAST, "--set", "dedupe.near=false") == 0
        run_pipeline(job, *pipeline)

    monkeypatch.setattr("pipeline.run.run_pipeline", overtaken)
    assert mill("run", "--input", inputs, "--output", tmp_path / "out", *FAST) == 5
    assert "committed snapshot 000001 first" in capsys.readouterr().err
    assert manifest_of(tmp_path / "out")["config"]["dedupe"]["near"] is False


def test_a_trial_is_a_dataset_of_its_own(corpus, tmp_path):
    inputs = cut(corpus, tmp_path / "logs", 4, 5)
    for limit in (30, 20):
        assert mill("run", "--input", inputs, "--output", tmp_path / "out", "--limit", limit, *FAST) == 0
        trial = tmp_path / "out" / "trial"
        assert manifest_of(trial)["accounting"]["read"] == limit
        assert manifest_of(trial)["operation"] == "trial"
    assert not (tmp_path / "out" / "snapshots").exists()
    assert mill("verify", trial) == 0


def test_gates_keep_the_candidate_for_accept(tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [chat("Hello there"), b"{", b"[]", b"{"])
    arguments = ["run", "--input", path, "--output", tmp_path / "out", *FAST]
    assert mill(*arguments) == 3
    said = capsys.readouterr().err
    assert "3 of 4 lines are quarantined (75%)" in said
    assert "malformed_json 2" in said
    assert f"{path}:2" in said
    assert "gates.max_quarantined" in said
    assert not (tmp_path / "out" / "snapshots").exists()
    assert mill(*arguments, "--accept") == 0
    assert manifest_of(tmp_path / "out")["accounting"]["quarantined"] == {"malformed_json": 2, "not_an_object": 1}


def test_nothing_kept_is_a_gate(tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [])
    assert mill("run", "--input", path, "--output", tmp_path / "out", *FAST) == 3
    assert "0 records are kept" in capsys.readouterr().err


def test_a_broken_shard_keeps_its_good_part(tmp_path, capsys):
    whole = gzip.compress(b"".join(json.dumps(chat(f"Question number {n}")).encode() + b"\n" for n in range(500)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    arguments = [
        "run",
        "--input",
        tmp_path / "a.jsonl.gz",
        "--output",
        tmp_path / "out",
        *FAST,
        "--set",
        "dedupe.near=false",
    ]
    assert mill(*arguments) == 3
    assert "cut or corrupt shards: 1, more than read.max_bad_shards = 0" in capsys.readouterr().err
    assert mill(*arguments, "--set", "read.max_bad_shards=1") == 0
    accounting = manifest_of(tmp_path / "out")["accounting"]
    assert accounting["quarantined"] == {"corrupt_shard": 1}
    assert accounting["read"] > 100


def test_an_input_that_changes_under_the_run_fails_it(tmp_path, capsys, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", [chat("Hello there")])
    from pipeline import run as run_module

    execute = run_module.execute

    def change(*arguments, **options):
        write_lines(path, [chat("Another thing altogether"), chat("and more")])
        return execute(*arguments, **options)

    monkeypatch.setattr(run_module, "execute", change)
    assert mill("run", "--input", path, "--output", tmp_path / "out", *FAST) == 4
    said = capsys.readouterr().err
    assert "an input changed since the run was planned" in said
    assert "Hello" not in said
    assert not (tmp_path / "out" / "snapshots").exists()


def test_an_input_that_goes_under_the_run_fails_it(tmp_path, capsys, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", [chat("Hello there")])
    from pipeline import run as run_module

    execute = run_module.execute

    def remove(*arguments, **options):
        path.unlink()
        return execute(*arguments, **options)

    monkeypatch.setattr(run_module, "execute", remove)
    assert mill("run", "--input", path, "--output", tmp_path / "out", *FAST) == 4
    assert "an input is gone since the run was planned" in capsys.readouterr().err


def test_what_fails_after_the_commit_is_told(corpus, tmp_path, capsys, monkeypatch):
    inputs = cut(corpus[:50], tmp_path / "logs", 1, 5)
    output = tmp_path / "out"

    def refuse(*_):
        raise PermissionError("jane@example.com")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.snapshots.Dataset.derive", refuse)
        assert mill("run", "--input", inputs, "--output", output, *FAST) == 0
    said = capsys.readouterr().err
    assert "snapshot 000001 is committed, but what follows a commit failed" in said
    assert "jane" not in said
    assert not (output / "CURRENT").exists()
    assert mill("run", "--input", inputs, "--output", output, *FAST) == 0
    assert (output / "CURRENT").read_text() == "000001\n"


def test_a_run_that_fails_is_told_where_the_store_tells_nothing_any_more(corpus, tmp_path, capsys, monkeypatch):
    inputs = cut(corpus[:50], tmp_path / "logs", 1, 5)

    def fail(*_):
        monkeypatch.setattr("pipeline.snapshots.Dataset.latest", fail)
        raise ConnectionRefusedError

    monkeypatch.setattr("pipeline.run.run_pipeline", fail)
    assert mill("run", "--input", inputs, "--output", tmp_path / "out", *FAST) == 4
    assert "the run failed: ConnectionRefusedError" in capsys.readouterr().err


def test_a_job_server_that_is_lost_is_told(corpus, tmp_path, capsys, monkeypatch):
    inputs = cut(corpus[:50], tmp_path / "logs", 1, 5)

    def lose(*_):
        raise grpc.RpcError

    monkeypatch.setattr("pipeline.run.run_pipeline", lose)
    beam = ["--", "--runner=FlinkRunner", "--flink_master=127.0.0.1:1"]
    assert mill("run", "--input", inputs, "--output", tmp_path / "out", *FAST, *beam) == 4
    said = capsys.readouterr().err
    assert "the job may go on, and commit by itself" in said
    assert "committed nothing" not in said


def test_a_job_that_is_not_taken_leaves_nothing(corpus, tmp_path, capsys, monkeypatch):
    inputs = cut(corpus[:50], tmp_path / "logs", 1, 5)
    arguments = ["run", "--input", inputs, "--output", tmp_path / "out", *FAST, "--set", f"work={tmp_path / 'work'}"]

    def refuse(*_):
        raise NotTaken("the runner did not take the job: RuntimeError")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.run.run_pipeline", refuse)
        assert mill(*arguments) == 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts]
    assert mill(*arguments, "--", "--runner=PortableRunner") == 2
    assert "needs a job server" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts]


def test_a_fault_over_a_record_never_quotes_it(tmp_path, capsys, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", [chat("call jane@example.com")])

    def fail(records, *_, **__):
        raise ValueError(f"can't {records.column('messages').to_pylist()}")

    monkeypatch.setattr("transforms.mill.validate_records", fail)
    assert mill("run", "--input", path, "--output", tmp_path / "out", *FAST) == 4
    captured = capsys.readouterr()
    assert "Validate failed with ValueError in input 0" in captured.err
    assert "jane" not in captured.err + captured.out


def test_two_options_and_both_kinds_of_files(corpus, tmp_path):
    inputs = cut(corpus[:80], tmp_path / "logs", 1, 5)
    assert mill("run", "--input", inputs, "--output", tmp_path / "a", *FAST, "--set", "write.parquet=false") == 0
    assert not (tmp_path / "a" / "data").exists()
    assert mill("verify", tmp_path / "a") == 0
    assert not (tmp_path / "a" / "work").exists()
    assert mill("run", "--input", inputs, "--output", tmp_path / "b", *FAST, "--set", "write.jsonl=false") == 0
    assert not (tmp_path / "b" / "jsonl").exists()
    assert mill("verify", tmp_path / "b") == 0
