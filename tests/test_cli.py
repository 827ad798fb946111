"""What a user types and reads: mistakes, help, and the commands on a small dataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main, spread_inputs
from pipeline.commit import blind_bands
from pipeline.config import Config, commented_config, load_config
from pipeline.errors import UsageError
from pipeline.snapshots import manifest_digest
from tests.records import chat, write_lines
from tests.test_run import mill
from transforms.options import DedupeOptions


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return write_lines(
        tmp_path / "logs.jsonl", [chat(f"Question {n} about parcel {n * n}?", f"Answer {n}.") for n in range(40)]
    )


@pytest.fixture
def dataset(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", "dedupe.near=false") == 0
    capsys.readouterr()
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--input", "{logs}", "--ouput", "x"], "--output"),
        (["rum"], "No such command 'rum'"),
        (["run", "--input", "{logs}"], "no output is given"),
        (["run", "--output", "{tmp}/out"], "no input is given"),
        (["run", "--input", "{tmp}/nothing*", "--output", "{tmp}/out"], "no file matches"),
        (["run", "{logs}", "--output", "{tmp}/out"], "is not a config"),
        (["run", "{tmp}/none.yaml", "--output", "{tmp}/out"], "can't read the config"),
        (["run", "--input", "{logs}", "--output", "{logs}"], "is a file; name a folder"),
        (["run", "--input", "{logs}", "--output", "/proc/nowhere/out"], "can't write to the output"),
        (["run", "--input", "{logs}", "--output", "nowhere://a"], "not a kind of storage"),
        (["run", "--input", "{logs}", "--output", "{tmp}/out", "--limit", "0"], "--limit"),
        (["run", "--input", "{logs}", "--output", "{tmp}/out", "--", "--no_such_option=1"], "Beam knows no option --no_such_option"),
        (["check", "--input", "{logs}", "--", "--runner=x"], "only `corpusmill run` takes options for Beam"),
        (["files", "{tmp}/nowhere"], "there is no dataset"),
        (["config"], "give --init or --schema"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_any_work(arguments, said, logs, tmp_path, capsys):
    assert mill(*[one.format(logs=logs, tmp=tmp_path) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("dedupe.treshold=0.9", "did you mean dedupe.threshold?"),
        ("threshold=0.9", "did you mean redact.threshold or dedupe.threshold?"),
        ("dedup.threshold=0.9", "did you mean dedupe?"),
        ("redact=off", "redact: is a section; write a key of it, as redact.enabled=false: enabled, exact"),
        ("redact.languages=en", "redact.languages: write a list, as [en]"),
        ("dedupe.threshold=1.5", "dedupe.threshold: Input should be less than or equal to 1 (not 1.5)"),
        ("split.val=2", "split.val"),
        ("split={val: 0.6, eval: 0.5}", "leaves nothing for train"),
        ("dedupe.leak_threshold=0.9", "above threshold"),
        ("dedupe.bands=100", "more than num_perm"),
        ("read.shape=chatml", "'messages'"),
        ("split.group_by=user_id", "write metadata.KEY"),
        ("redact.custom=[{name: A, pattern: '(?=x)'}]", "not a valid RE2 pattern"),
        ("redact.custom=[{name: A, pattern: 'x*'}]", "matches the empty string"),
        ("redact.custom=[{name: A, deny: [x], score: 0.2}]", "it would find nothing"),
        ("redact={entities: [EMAIL_ADDRESS], custom: [{name: A, deny: [x]}]}", "entities leaves out: add it there"),
        ("redact.custom=[{name: A, deny: [x]}, {name: A, deny: [y]}]", "two recognizers have the same name"),
        ("write={parquet: false, jsonl: false}", "nothing would be written"),
        ("redact.entities=[EMAIL_ADRESS]", "EMAIL_ADDRESS"),
        ("redact.entities=EMAIL", "write default, presidio or a list, as [EMAIL_ADDRESS]"),
        ("redact.countries=us", "redact.countries: 'us' is no list; write [US]"),
        ("redact.countries=[us]", "'us' is no country's code (ISO 3166, two capitals); write US"),
        ("redact.countries=[UK]", "write GB"),
        ("redact.countries=[QQ]", "'QQ' is no country's code"),
        ("novalue", "--set takes section.key=value"),
        ("dedupe.exact=false", "needs dedupe.exact"),
    ],
)
def test_an_impossible_config_says_what_to_write(assignment, said, logs, tmp_path, capsys):
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", assignment) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "custom",
    [
        "[{name: CODE, deny: Canary}]",
        "[{name: CODE, deny: [Canary, 12345]}]",
        "[{name: CODE, deny: [{Canary: 1}]}]",
        "[{name: Canary, deny: [word]}]",
        "[{name: CODE, Canary: [word]}]",
        "[{name: CODE, pattern: 'Canary('}]",
        "[{name: CODE, pattern: [Canary]}]",
        "[Canary]",
        "Canary",
        "{Canary: [word]}",
    ],
)
def test_what_nobody_must_read_is_not_told(custom, logs, tmp_path, capsys):
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", f"redact.custom={custom}") == 2
    err = capsys.readouterr().err
    assert "redact.custom" in err
    assert "canary" not in err.lower()


def test_bands_that_miss_look_alikes_are_told(logs, tmp_path, capsys):
    few = ["--set", "redact.enabled=false", "--set", "dedupe.bands=1"]
    assert mill("plan", "--input", logs, "--output", tmp_path / "out", *few) == 0
    assert "bands find 17% of pairs" in capsys.readouterr().err
    assert mill("run", "--input", logs, "--output", tmp_path / "out", *few) == 0
    assert "bands find 17% of pairs as alike as dedupe.leak_threshold = 0.7" in capsys.readouterr().out
    options = DedupeOptions(threshold=0.5, leak_threshold=0.3)
    assert options.found(0.3) < 0.1
    assert blind_bands(options)[0].endswith("; 64 bands of 2 rows find 100%")
    assert blind_bands(DedupeOptions()) == []


def test_a_password_in_an_address_is_not_told(tmp_path, capsys):
    assert mill("run", "--input", "s3://key:canary@bucket/a.jsonl", "--output", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "holds a password" in err
    assert "canary" not in err


def test_config_files_that_are_none(tmp_path):
    for content, said in ((b"a: [", "is not YAML, line"), (b"- a\n", "is no mapping"), (b"\xff", "not UTF-8")):
        path = tmp_path / "c.yaml"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=said):
            load_config(str(path))


def test_the_command_line_wins_over_set_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("input: a.jsonl\noutput: x\nsplit: {val: 0.2}\n")
    config = load_config(str(path), ["split.val=0.3", "split.eval=0.01"], {"output": "y", "input": []})
    assert (config.input, config.output, config.split.val, config.split.eval) == (("a.jsonl",), "y", 0.3, 0.01)


def test_the_commented_config_is_the_default_config():
    values = yaml.safe_load(commented_config())
    salt = values["split"].pop("salt")
    assert len(salt) == 16
    assert yaml.safe_load(commented_config())["split"]["salt"] != salt
    values |= {"input": (), "output": None}
    assert Config.model_validate(values) == Config()


def test_inputs_take_every_argument_up_to_the_next_option():
    assert spread_inputs(["run", "--input", "a", "b", "--json", "c"]) == [
        "run",
        "--input",
        "a",
        "--input",
        "b",
        "--json",
        "c",
    ]
    assert spread_inputs(["run", "c.yaml", "-i", "a", "b", "-i", "c"]) == [
        "run",
        "c.yaml",
        "-i",
        "a",
        "-i",
        "b",
        "-i",
        "c",
    ]


def test_every_command_has_help(capsys):
    for command in ("run", "check", "plan", "verify", "files", "report", "why", "config"):
        assert mill(command, "--help") == 0
        assert "Usage: corpusmill" in capsys.readouterr().out
    assert mill() in (0, 2)
    assert mill("--version") == 0


def test_short_or_missing_keys_are_refused(logs, tmp_path, capsys, monkeypatch):
    arguments = ["run", "--input", logs, "--output", tmp_path / "out"]
    monkeypatch.setenv("CORPUSMILL_KEY", "short")
    assert mill(*arguments) == 2
    assert "shorter than 16 bytes" in capsys.readouterr().err
    monkeypatch.delenv("CORPUSMILL_KEY")
    monkeypatch.setenv("CORPUSMILL_KEY_FILE", str(tmp_path / "none"))
    assert mill(*arguments) == 2
    assert "can't be read" in capsys.readouterr().err


def test_another_key_is_refused(logs, tmp_path, capsys, monkeypatch):
    arguments = ["run", "--input", logs, "--output", tmp_path / "out", "--set", "dedupe.near=false"]
    monkeypatch.setenv("CORPUSMILL_KEY", "k" * 32)
    assert mill(*arguments) == 0
    said = capsys.readouterr()
    assert "CORPUSMILL_KEY is not set" not in said.err
    assert "k" * 32 not in (tmp_path / "out" / "snapshots" / "000001.json").read_text()
    monkeypatch.setenv("CORPUSMILL_KEY", "l" * 32)
    assert mill(*arguments) == 2
    assert "another secret key" in capsys.readouterr().err
    part = next((tmp_path / "out" / "lineage").rglob("*.parquet"))
    assert pq.read_table(part).column("source_id").null_count == 0


def test_run_tells_where_the_dataset_is(tmp_path, logs, capsys):
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", "dedupe.near=false") == 0
    said = capsys.readouterr().out
    assert f"dataset  {tmp_path}/out" in said
    assert "index.html" in said
    assert "40 records of 40 lines" in said


def test_run_in_json(tmp_path, logs, capsys):
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", "dedupe.near=false", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accounting"]["read"] == 40


def test_files_lists_the_snapshot(dataset, capsys):
    assert mill("files", dataset, "--split", "train", "--kind", "jsonl") == 0
    (line,) = capsys.readouterr().out.split()
    assert Path(line).read_bytes().count(b"\n") == 25
    assert mill("files", dataset, "--json") == 0
    named = [Path(one).relative_to(dataset).parts[0] for one in json.loads(capsys.readouterr().out)]
    assert Counter(named) == {
        "data": 3,
        "jsonl": 3,
        "lineage": 1,
        "report": 2,
        "snapshots": 1,
        "index": len(named) - 10,
    }
    assert named.count("index") > 0


def test_why_tells_of_ids_and_lines(dataset, logs, capsys):
    assert mill("why", dataset, "logs.jsonl:3", "--json") == 0
    (fate,) = json.loads(capsys.readouterr().out)
    assert (fate["shard"], fate["line"]) == (str(logs), 3)
    assert mill("why", dataset, fate["id"]) == 0
    assert f"{logs}:3" in capsys.readouterr().out
    for wrong, said in (("f" * 32, "no record"), ("logs.jsonl:99", "no line"), ("what", "neither an id")):
        assert mill("why", dataset, wrong) == 2
        assert said in capsys.readouterr().err


def test_check_finds_what_a_run_would(tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [chat("Hello"), b"{", b"", chat(" ")])
    assert mill("check", "--input", path) == 3
    said = capsys.readouterr().out
    assert f"{path}:2" in said
    assert f"{path}:4" in said
    assert mill("check", "--input", path, "--limit", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["read"] == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_plan_writes_nothing(tmp_path, logs, capsys):
    assert mill("plan", "--input", logs, "--output", tmp_path / "out") == 0
    assert "reads" in capsys.readouterr().out
    assert mill("plan", "--input", logs, "--output", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["units"] == 1
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_told_before_the_start(tmp_path, logs, capsys, monkeypatch):
    monkeypatch.setattr("transforms.storage.Storage.free_bytes", lambda *_: 100)
    assert mill("run", "--input", logs, "--output", tmp_path / "out") == 2
    assert "too little space" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_report_builds_the_page_again(dataset, capsys):
    page = next((dataset / "report").rglob("index.html"))
    before = page.read_bytes()
    page.unlink()
    (dataset / "CURRENT").write_text("stale")
    assert mill("report", dataset) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_bytes() == before
    assert (dataset / "CURRENT").read_text() == "000001\n"
    assert b"http" not in before.replace(b"http-equiv", b"")


def test_verify_passes_what_is_right(dataset, capsys):
    assert mill("verify", dataset) == 0
    assert "all is as the manifest says" in capsys.readouterr().out


def damage_flipped_byte(dataset: Path) -> None:
    path = next(dataset.glob("data/*/train-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_deleted_row(dataset: Path) -> None:
    path = next(dataset.glob("jsonl/*/train-*"))
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])


def damage_moved_split(dataset: Path) -> None:
    train, val = (next(dataset.glob(f"data/*/{split}-*")) for split in ("train", "val"))
    content = train.read_bytes()
    train.write_bytes(val.read_bytes())
    val.write_bytes(content)


def damage_removed_file(dataset: Path) -> None:
    next(dataset.glob("lineage/*/*")).unlink()


def damage_altered_manifest(dataset: Path) -> None:
    path = dataset / "snapshots" / "000001.json"
    path.write_bytes(path.read_bytes().replace(b'"train": 25', b'"train": 24'))


@pytest.mark.parametrize("damage", [damage_flipped_byte, damage_deleted_row, damage_moved_split, damage_removed_file,
                                    damage_altered_manifest])  # fmt: skip
def test_verify_finds_damage(dataset, damage, capsys):
    damage(dataset)
    assert mill("verify", dataset) == 3
    assert "✗" in capsys.readouterr().out


def sign_again(dataset: Path) -> None:
    """Makes digests and manifest agree with the files as they are, as a forger without more would."""
    import hashlib

    path = dataset / "snapshots" / "000001.json"
    manifest = orjson.loads(path.read_bytes())
    for one in manifest["files"]:
        content = (dataset / one["path"]).read_bytes()
        one["digest"] = "sha256:" + hashlib.sha256(content).hexdigest()
        if one["kind"] == "jsonl":
            one["rows"] = content.count(b"\n")
        elif one["kind"] == "parquet":
            one["rows"] = pq.ParquetFile(dataset / one["path"]).metadata.num_rows
    manifest["digest"] = manifest_digest(manifest)
    path.write_bytes(orjson.dumps(manifest))


def forge(dataset: Path, change) -> None:
    """Rewrites the Parquet files of train and val with `change(train, val) -> (train, val)`."""
    paths = [next(dataset.glob(f"data/*/{split}-*")) for split in ("train", "val")]
    for path, table in zip(paths, change(*(pq.read_table(path) for path in paths)), strict=True):
        pq.write_table(table, path)
    sign_again(dataset)


def test_verify_finds_what_digests_hide(dataset, capsys):
    import pyarrow as pa

    originals = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    train_rows, val_rows = (
        pq.read_table(next(dataset.glob(f"data/*/{split}-*"))).num_rows for split in ("train", "val")
    )
    assert train_rows > 1 < val_rows

    def swapped(train, val):
        return (
            pa.concat_tables([train.slice(1), val.slice(0, 1)]),
            pa.concat_tables([val.slice(1), train.slice(0, 1)]),
        )

    def reworded(train, val):
        messages = train.column("messages").to_pylist()
        messages[0][0]["content"] = "another question"
        return train.set_column(1, train.schema.field(1), pa.array(messages, train.schema.field(1).type)), val

    for change, said in ((swapped, "not where the lineage says"), (reworded, "don't have the id of what they say")):
        forge(dataset, change)
        assert mill("verify", dataset) == 3
        assert said in capsys.readouterr().out
        for path, content in originals.items():
            path.write_bytes(content)
    assert mill("verify", dataset) == 0


def test_errors_are_a_tree():
    from pipeline import errors

    codes = {
        name: getattr(errors, name).exit_code for name in ("UsageError", "GateError", "RunFailed", "OvertakenError")
    }
    assert codes == {"UsageError": 2, "GateError": 3, "RunFailed": 4, "OvertakenError": 5}


def test_a_bug_shows_places_not_messages(capsys, monkeypatch):
    def fail(*_, **__):
        raise ValueError("jane@example.com")

    monkeypatch.setattr("pipeline.cli._load", fail)
    with pytest.raises(SystemExit) as exit_info:
        main(["check", "--input", "x"])
    said = capsys.readouterr().err
    assert exit_info.value.code == 1
    assert "a bug: ValueError" in said
    assert "jane" not in said


def test_rights_that_lack_are_no_bug(capsys, monkeypatch):
    def fail(*_, **__):
        raise PermissionError("Access Denied.")

    monkeypatch.setattr("pipeline.cli._load", fail)
    assert mill("check", "--input", "x") == 2
    assert "denies access" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["s3://", "s3:/datasets/x", "gs:x", "az:///x"])
def test_a_mistyped_store_is_no_local_folder(output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    logs = write_lines(tmp_path / "a.jsonl", [chat("One question")])
    assert mill("run", "--input", logs, "--output", output) == 2
    assert "names no bucket" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_inputs_are_found_as_people_mean_them(tmp_path, capsys):
    folder = tmp_path / "logs"
    target = write_lines(tmp_path / "elsewhere" / "real.jsonl", [chat("One question")])
    literal = write_lines(folder / "log[1].jsonl", [chat("Another question")])
    hidden = write_lines(folder / ".hidden.jsonl", [chat("A hidden question")])
    (folder / "link.jsonl").symlink_to(target)
    (folder / "notes.txt").write_text("no records")

    def read(*inputs) -> int:
        assert mill("check", "--input", *inputs, "--json") == 0
        return json.loads(capsys.readouterr().out)["read"]

    assert read(folder) == 2
    assert read(folder / "*.jsonl") == 2
    assert read(literal) == 1
    assert read(hidden) == 1
    assert read(target, tmp_path / "logs" / ".." / "elsewhere" / "real.jsonl") == 1
    for command in (["check"], ["run", "--output", tmp_path / "out"]):
        assert mill(*command, "--input", literal, tmp_path / "nope.jsonl") == 2
        assert "no file matches" in capsys.readouterr().err


def test_what_is_not_the_mills_is_never_removed_or_written_over(tmp_path, logs, capsys):
    out = tmp_path / "mine"
    precious = write_lines(out / "trial" / "precious.txt", [b"keep"])
    assert mill("run", "--input", logs, "--output", out, "--limit", 3) == 2
    assert "not from the mill" in capsys.readouterr().err
    assert precious.read_bytes() == b"keep\n"
    readme = write_lines(out / "README.md", [b"mine"])
    assert mill("run", "--input", logs, "--output", out) == 2
    assert "write to an output of its own" in capsys.readouterr().err
    assert readme.read_bytes() == b"mine\n"
    inside = write_lines(tmp_path / "out" / "data" / "a.jsonl", [chat("Hello")])
    assert mill("run", "--input", inside, logs, "--output", tmp_path / "out") == 2
    assert "keeps for itself" in capsys.readouterr().err


def test_commands_on_a_damaged_dataset_say_so(dataset, capsys):
    next(dataset.glob("report/*/report.json")).unlink()
    next(dataset.glob("lineage/*/*")).write_bytes(b"cut")
    for command in (["report", dataset], ["why", dataset, "f" * 32]):
        assert mill(*command) == 2
        assert "missing or damaged" in capsys.readouterr().err


def test_the_process_ends_before_the_interpreter_is_torn_down() -> None:
    script = (
        "import sys\nfrom pipeline import cli\n"
        "class Late:\n    def __del__(self):\n        print('torn down', flush=True)\n"
        "late = Late()\n"
        "def main():\n    print('said', end='')\n    sys.exit(int(sys.argv[1]))\n"
        "cli.main = main\ncli.console()\n"
    )
    for code in (0, 3):
        ended = subprocess.run([sys.executable, "-c", script, str(code)], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (code, "said"), ended.stderr
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as out:
            buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
            ended = subprocess.run([sys.executable, "-c", script, "0"], stdout=out, env=buffered, check=False)
            assert ended.returncode == 4
