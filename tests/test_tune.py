"""Tune: what thresholds drop, and the page that shows pairs."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.config import load_config
from pipeline.tune import SHOWN, THRESHOLDS, find_edges, mark_differences, nearest_pairs, outcome_at, read_sample
from tests.records import WORDS, chat, records_batch, write_lines
from transforms.hashing import Keys
from transforms.options import DedupeOptions
from transforms.sign import sign_records

KEYS = Keys("test salt")


def tune(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["tune", "dedupe", *map(str, arguments)])
    return ended.value.code or 0, capsys.readouterr()


def conversations(count, seed=1):
    """Texts of 60 words, each with copies of which one, two, … words differ."""
    chooser = random.Random(seed)
    made = []
    for number in range(count):
        text = chooser.choices(WORDS, k=60)
        made.append(text)
        for changed in range(1, 4):
            copy = list(text)
            for place in chooser.sample(range(60), changed):
                copy[place] = f"other{number}"
            made.append(copy)
    return [" ".join(text) for text in made]


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    texts = conversations(30)
    lines = [chat(f"{text} mail jo.doe@example.com <script>alert(1)</script>", "Done, thank you.") for text in texts]
    return write_lines(tmp_path_factory.mktemp("tune") / "logs.jsonl", [*lines, lines[0], b"{"])


def test_the_table_and_the_page(logs, tmp_path, capsys):
    arguments = ("--input", logs, "--html", tmp_path / "pairs.html", "--json")
    code, said = tune(capsys, *arguments)
    assert code == 0
    values = json.loads(said.out)
    assert (values["lines"], values["sound"], values["exact"], values["distinct"]) == (122, 121, 1, 120)
    assert [one["threshold"] for one in values["thresholds"]] == list(THRESHOLDS)
    dropped = [one["dropped"] for one in values["thresholds"]]
    assert dropped == sorted(dropped, reverse=True)
    assert dropped[0] >= 60
    assert all(one["dropped"] + one["kept"] == 120 for one in values["thresholds"])
    page = (tmp_path / "pairs.html").read_text()
    assert "jo.doe@example.com" not in page
    assert "EMAIL_ADDRESS" in page
    assert "<script" not in page
    assert "<mark>" in page
    assert "http" not in page
    tune(capsys, *arguments)
    assert (tmp_path / "pairs.html").read_text() == page
    code, said = tune(capsys, "--input", logs)
    assert code == 0
    assert "0.80 (set)" in said.out
    assert "parcel" not in said.out + said.err


def test_mistakes_are_told(logs, tmp_path, capsys):
    for arguments, told in (
        ((), "no input is given"),
        (("--input", tmp_path / "none*"), "no file matches"),
        (("--input", logs, "--html", tmp_path / "pairs.jsonl"), "must end in .html"),
        (("--input", logs, "--html", tmp_path / "nowhere" / "a.html"), "no file can be written there"),
    ):
        code, said = tune(capsys, *arguments)
        assert (code, said.out) == (2, "")
        assert told in said.err


def test_a_threshold_of_ones_own_has_a_row(logs, capsys):
    code, said = tune(capsys, "--input", logs, "--json", "--set", "dedupe.threshold=0.83")
    assert code == 0
    assert [one["threshold"] for one in json.loads(said.out)["thresholds"]] == sorted({*THRESHOLDS, 0.83})


def test_an_input_without_a_sound_line_is_told(tmp_path, capsys):
    code, said = tune(capsys, "--input", write_lines(tmp_path / "bad.jsonl", [{"nothing": 1}] * 3))
    assert code == 2
    assert "none of the 3 lines" in said.err


def test_every_input_gives_a_share_of_the_sample(tmp_path):
    for name, count in (("a", 3), ("b", 40), ("c", 40)):
        write_lines(tmp_path / f"{name}.jsonl", [chat(f"{name} {number}", "Yes.") for number in range(count)])
    config = load_config(None, ["redact.enabled=false"], {"input": [str(tmp_path / "*.jsonl")]})
    sample = read_sample(config, 23, lambda _: None)
    taken = [place.rsplit("/", 1)[1] for place in sample.places]
    assert taken == [f"a.jsonl:{line}" for line in range(1, 4)] + [
        f"{name}.jsonl:{line}" for name in "bc" for line in range(1, 11)
    ]
    assert sample.lines == 23


def test_outcomes_agree_with_the_similarities():
    batch = records_batch([[{"role": "user", "content": text}] for text in conversations(20, seed=2)])
    signed = pa.Table.from_batches([sign_records(batch, KEYS)])
    edges = find_edges(signed, DedupeOptions(), KEYS)
    for threshold in THRESHOLDS:
        above, below = outcome_at(edges, signed.column("id"), threshold)
        assert len(set(above.b.tolist())) == len(above.b)
        assert not set(above.a.tolist()) & set(above.b.tolist())
        assert (above.similarity >= threshold - 1e-6).all()
        assert (below.similarity < threshold).all()
        assert not (set(below.a.tolist()) | set(below.b.tolist())) & set(above.b.tolist())
        shown: set[int] = set()
        chosen = nearest_pairs(above, threshold, shown)
        assert len(shown) == 2 * len(chosen)


@given(st.text(st.sampled_from("ab 東ก\n<"), max_size=40), st.text(st.sampled_from("ab 東ก\n<"), max_size=40))
def test_marked_pieces_are_the_texts(left, right):
    marked = mark_differences(left, right)
    assert tuple("".join(piece for _, piece in pieces) for pieces in marked) == (left, right)
    assert [piece for differs, piece in marked[0] if not differs] == [
        piece for differs, piece in marked[1] if not differs
    ]
    assert (left == right) == (not any(differs for pieces in marked for differs, _ in pieces))


def test_enormous_texts_are_cut_and_marked_in_one_piece():
    left, right = mark_differences("a " * SHOWN, "b " * SHOWN)
    assert [len(piece) for _, piece in left] == [SHOWN - 1, 1] or [len(piece) for _, piece in left] == [SHOWN]
    assert left[0][0]
    assert right[0][0]
