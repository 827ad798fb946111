"""Decontamination: the kernel against plain loops over tokens, and one run against two benchmarks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasketch
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.snapshots import Dataset
from tests.records import WORDS, chat, records_batch, write_lines
from tests.test_run import FAST, mill
from transforms.decontaminate import (
    GRAM,
    LEAST,
    Contamination,
    Hasher,
    build_benchmarks,
    load_benchmarks,
    save_benchmarks,
    texts_of_item,
    unpack_bits,
)
from transforms.hashing import Keys
from transforms.options import DedupeOptions
from transforms.shingles import tokenize
from transforms.storage import Storage
from transforms.strict_json import Refused

OPTIONS, KEYS = DedupeOptions(), Keys("corpusmill")

words = st.sampled_from(["a", "b", "Ce", "东京", "é"])
texts = st.lists(words, max_size=18).map(" ".join)
records = st.lists(st.lists(texts, min_size=1, max_size=3), max_size=4)
items = st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=3)


def conversations(records: list[list[str]]) -> pa.Array:
    roles = ("user", "assistant")
    said = [[{"role": roles[n % 2], "content": text} for n, text in enumerate(one)] for one in records]
    return records_batch(said).column("messages")


def oracle(record: list[str], item: list[str], whole_of_item: str) -> set[str]:
    """The methods that find an item in a record, but for MinHash, by comparing tokens."""
    turns, fields = [tokenize(one) for one in record], [tokenize(one) for one in item]
    whole, other = [token for turn in turns for token in turn], tokenize(whole_of_item)
    mine = [one for one in turns if len(one) >= LEAST] + [whole][: bool(whole)]
    theirs = [one for one in fields if len(one) >= LEAST] + [other][: bool(other)]
    found = {"exact"} if any(one in theirs for one in mine) else set()

    def grams(lists: list[list[str]]) -> set[tuple[str, ...]]:
        return {tuple(one[at : at + GRAM]) for one in lists for at in range(len(one) - GRAM + 1)}

    return found | ({"grams"} if grams(turns) & grams(fields) else set())


@given(records, items)
@example([["a " * 20, "b"]], [["a " * 13]])
@example([["b", "Ce"]], [["b Ce"]])
@example([["a"]], [["a " * 8]])
def test_exact_and_grams_agree_with_comparing_tokens(records, items):
    made = [(one, "\n".join(one)) for one in items]
    found = build_benchmarks([made], OPTIONS, KEYS).search(conversations(records))
    for method in ("exact", "grams"):
        expected = {
            (row, number)
            for row, record in enumerate(records)
            for number, (one, whole) in enumerate(made)
            if method in oracle(record, one, whole)
        }
        assert {tuple(pair) for pair in found.pairs[method].tolist()} == expected
        assert set(np.flatnonzero(found.by_method[method]).tolist()) == {row for row, _ in expected}


@given(records, records, items)
def test_blocks_give_what_their_records_give(first, second, items):
    built = build_benchmarks([[(one, "\n".join(one)) for one in items]], OPTIONS, KEYS)
    whole, one, two = (built.search(conversations(some)) for some in (first + second, first, second))
    assert whole.records.tolist() == one.records.tolist() + two.records.tolist()


def test_alike_texts_are_found_by_minhash_and_unlike_ones_are_not():
    chooser = random.Random(1)
    texts = [" ".join(chooser.choices(WORDS, k=60)) for _ in range(200)]
    built = build_benchmarks([[([one], one) for one in texts]], OPTIONS, KEYS)
    # Every twelfth word changed: no 13 in a row are left, about two thirds of the shingles too few; one changed: alike.
    changed = [" ".join([*one.split()[:30], "changed", *one.split()[31:]]) for one in texts]
    others = [" ".join(chooser.choices(WORDS, k=60)) for _ in range(200)]
    found = built.search(conversations([[one, "Yes."] for one in changed]))
    alike = {tuple(pair) for pair in found.pairs["minhash"].tolist()}
    assert len(alike & {(number, number) for number in range(200)}) >= 198
    assert not built.search(conversations([[one, "Yes."] for one in others])).records.any()


def test_what_is_saved_searches_alike(tmp_path):
    items = [(["one two three four five six seven eight nine"], "whole of it"), ([], "")]
    built = build_benchmarks([items, [(["x " * 14], "x " * 14)]], OPTIONS, KEYS)
    save_benchmarks(built, Storage(), str(tmp_path / "b.npz"))
    loaded = load_benchmarks(Storage(), str(tmp_path / "b.npz"), Hasher(OPTIONS, KEYS))
    assert loaded.items == (2, 1)
    asked = conversations([["One, two three: four five six seven eight nine!"], ["whole", "of it"], ["x " * 20], ["y"]])
    for one in (built, loaded):
        found = one.search(asked)
        assert found.records.tolist() == [True, True, True, False]
        counts = Contamination(one.items)
        counts.add(found, np.array([7, 5, 9, 1]))
        first, second = counts.as_list()
        assert (first["records"], first["exact"], first["first"]) == (2, 2, 5)
        assert unpack_bits(first["items"], 2).tolist() == [True, False]
        assert (second["records"], second["grams"]) == (1, 1)


def said(number: int, changed: int = 0) -> str:
    """A text of some words, of which a few are others."""
    chooser = random.Random(number)
    words = chooser.choices(WORDS, k=150)
    return " ".join([f"other{number}x{one}" for one in range(changed)] + words[changed:])


def test_signatures_stand_for_texts_that_may_not_be_shown(tmp_path):
    """They are datasketch's own, of distinct windows of words, as its users make them."""
    signed = []
    for number in range(6):
        tokens = tokenize(f"{said(number)}\nYes.")
        made = datasketch.MinHash(num_perm=128)
        for window in {" ".join(tokens[at : at + 5]) for at in range(len(tokens) - 4)}:
            made.update(window.encode())
        signed.append(made.hashvalues.astype(np.uint32))
    items: list[Any] = [([], "")] * 6
    built = build_benchmarks([[(["x " * 14], "x " * 14)], items], OPTIONS, KEYS, {1: np.array(signed)})
    save_benchmarks(built, Storage(), str(tmp_path / "b.npz"))
    loaded = load_benchmarks(Storage(), str(tmp_path / "b.npz"), Hasher(OPTIONS, KEYS))
    asked = [[said(4), "Yes."], [said(2, 3), "Yes."], [said(1, 90), "Yes."], [said(9), "Yes."], ["Few words"], [""]]
    for one in (built, loaded):
        found = one.search(conversations(asked))
        assert found.records.tolist() == [True, True, False, False, False, False]
        assert found.pairs["minhash"].tolist() == [[0, 1 + 4], [1, 1 + 2]]


def test_what_resembles_a_signed_dataset_stays_out_of_another(tmp_path, capsys):
    theirs = write_lines(tmp_path / "theirs.jsonl", [chat(said(number), "Yes.") for number in range(5)])
    mine = write_lines(
        tmp_path / "mine.jsonl",
        [chat(said(number, 2 * (number == 3)), "Yes.") for number in (3, 4)]
        + [chat(said(number), "Yes.") for number in range(20, 30)],
    )
    signatures, out = tmp_path / "theirs.parquet", tmp_path / "out"
    assert mill("run", "--input", theirs, "--output", tmp_path / "theirs", *FAST) == 0
    assert mill("signatures", tmp_path / "theirs", "--to", signatures) == 0
    table = pq.read_table(signatures)
    ids = {row["id"] for uri in dataset_files(tmp_path / "theirs") for row in pq.read_table(uri).to_pylist()}
    assert set(table.column("id").to_pylist()) == ids
    assert mill("run", "--input", mine, "--output", out, *FAST, "--decontaminate", signatures) == 0
    assert Dataset(Storage(), str(out)).manifest()["accounting"]["dropped"] == {"decontaminated": 2}
    assert mill("verify", out) == 0
    capsys.readouterr()
    assert mill("signatures", tmp_path / "none", "--to", signatures) == 2
    pq.write_table(pa.table({"signature": [[1, 2], [3]]}), signatures)
    assert mill("run", "--input", mine, "--output", out, *FAST, "--decontaminate", signatures) == 2
    pq.write_table(pa.table({"signature": [[1, 2], [3, 4]]}), signatures)
    assert mill("run", "--input", mine, "--output", out, *FAST, "--decontaminate", signatures) == 2
    told = capsys.readouterr().err
    assert "does not hold signatures" in told
    assert "have 2 values, and dedupe.num_perm is 128" in " ".join(told.split())


def dataset_files(output: Path) -> list[str]:
    dataset = Dataset(Storage(), str(output))
    return list(dataset.files(dataset.manifest(), "parquet"))


def test_texts_of_an_item_are_all_its_strings():
    assert texts_of_item({"text": "a"}) == (["a"], "a")
    texts, whole = texts_of_item({"question": "Q?", "answer": "A.", "choices": ["x", {"y": "z"}], "n": 3})
    assert set(texts) == {"Q?", "A.", "x", "z"}
    assert whole == "Q?\nA."
    with pytest.raises(Refused):
        texts_of_item(["a"])


LONG = "Which of the four rivers of the northern plain carries the most water to the sea in a dry summer"


def test_a_run_leaves_out_what_benchmarks_hold(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CORPUSMILL_KEY", "sixteen bytes and more")
    words = [
        f"question {n} on parcel {n * n} and box {n * 7} by van {n * 13} from {n * 3} to {n * 11}" for n in range(40)
    ]
    made: list[Any] = [chat(text, f"Answer {n}.", user_id=n) for n, text in enumerate(words)]
    made[3] = chat(f"Hello! {LONG}, please? Mail bob@example.com", "The second one.", user_id=3)
    made[20] = chat("Name the capital city of the country that lies to the north", "Oslo", user_id=20)
    logs = write_lines(tmp_path / "logs.jsonl", made)
    first = write_lines(tmp_path / "bench" / "a.jsonl", [{"question": LONG, "answer": "2"}, {"text": "Nothing of the kind is in there at all"}])  # fmt: skip
    second = tmp_path / "bench" / "b.parquet"
    pq.write_table(pa.table({"prompt": ["Name the capital city of the country that lies to the north"], "completion": ["Oslo"]}), second)  # fmt: skip
    options = ["run", "--input", logs, "--output", tmp_path / "out", *FAST, "--set", "split.group_by=metadata.user_id"]
    assert mill(*options, "--decontaminate", first, second) == 0
    told = capsys.readouterr().out
    assert "decontaminated" in told
    assert "rivers" not in told
    dataset = Dataset(Storage(), str(tmp_path / "out"))
    manifest = dataset.manifest()
    assert manifest["accounting"]["dropped"] == {"decontaminated": 2}
    (report_uri,) = [uri for uri in dataset.files(manifest, "report") if uri.endswith(".json")]
    one, two = json.loads(Path(report_uri).read_bytes())["benchmarks"]
    assert (one["items"], one["items_found"], one["records"], one["exact"], one["grams"]) == (2, 1, 1, 0, 1)
    assert one["first"].endswith("logs.jsonl:4")
    assert (two["items"], two["items_found"], two["records"], two["exact"]) == (1, 1, 1, 1)
    lineage = [row for uri in dataset.files(manifest, "lineage") for row in pq.read_table(uri).to_pylist()]
    gone = [row for row in lineage if row["reasons"] == ["decontaminated"]]
    assert sorted(row["line"] for row in gone) == [4, 21]
    assert all(row["outcome"] == "dropped" and row["id"] and row["group"] and row["source_id"] for row in gone)
    for uri in dataset.files(manifest):
        assert b"northern plain" not in Path(uri).read_bytes()
    assert mill("verify", tmp_path / "out") == 0
    # A later night is looked at too; people who are forgotten stay out of it.
    assert mill("forget", tmp_path / "out", "--group", "30", "20") == 0
    made[20] = chat("Something else that person 20 asks about the lamp in the hall", "Well.", user_id=20)
    night = write_lines(tmp_path / "night.jsonl", [*made[:5], made[20], chat("Never asked before in this shop", "So.", user_id=50)])  # fmt: skip
    capsys.readouterr()
    assert mill("run", "--input", night, "--output", tmp_path / "out", *FAST, "--set", "split.group_by=metadata.user_id", "--decontaminate", first) == 0  # fmt: skip
    assert "1 benchmarks that the last run looked for are not given" in capsys.readouterr().err
    after = dataset.manifest()
    assert after["accounting"]["dropped"] == {"decontaminated": 2, "forgotten": 3}
    assert after["added"]["dropped"] == {"decontaminated": 1, "forgotten": 1}
    assert mill("verify", tmp_path / "out") == 0
    capsys.readouterr()
    assert mill("forget", tmp_path / "out", "--group", "20", "3", "--json") == 0
    certificate = json.loads(capsys.readouterr().out)
    assert certificate["removed"]["lines"] == 2
    assert certificate["removed"]["index_rows"] == {}
    assert dataset.manifest()["accounting"]["dropped"] == {"forgotten": 5}
    assert mill("verify", tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "item 1 of the benchmark"), (b'"text"', "not_an_object"), (b"", "holds no text"), (b'{"n": 1}', "holds no text")],
)  # fmt: skip
def test_a_benchmark_that_cannot_be_read_stops_before_any_work(content, said, tmp_path, capsys):
    logs = write_lines(tmp_path / "logs.jsonl", [chat("Question?")])
    bench = write_lines(tmp_path / "bench.jsonl", [content] if content else [])
    for name in (bench, tmp_path / "none.jsonl"):
        assert mill("run", "--input", logs, "--output", tmp_path / "out", *FAST, "--decontaminate", name) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "no benchmark matches" in told
    assert not (tmp_path / "out").exists()
