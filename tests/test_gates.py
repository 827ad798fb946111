"""Measures of a night, and the gates that compare it with the nights before."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from pipeline import gates
from pipeline.config import Config, GateOptions
from pipeline.gates import Night, distance, night_breaches, recent_nights, sum_measures
from pipeline.history import roll_back
from pipeline.snapshots import add_accounts
from tests.nights import commit_changed, made_night, take_in
from tests.records import chat, conversations, records_batch, write_lines
from transforms.hashing import Keys
from transforms.measure import SCRIPTS, count_letters, count_refusals, measure_records
from transforms.sign import sign_records

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8)


def measured(drawn) -> Counter[str]:
    signed = sign_records(records_batch([one for one, _ in drawn], [tools for _, tools in drawn]), Keys("salt"))
    return measure_records(signed.column("messages"), signed.column("n_chars"))


@given(conversations, conversations)
def test_measures_add_up(left, right):
    assert +(measured(left) + measured(right)) == +measured(left + right)


@given(texts)
def test_letters_are_counted_by_script(said):
    expected: Counter[str] = Counter()
    for letter in regex.findall(r"\p{L}", "".join(said)):
        named = [name for name in SCRIPTS[:-1] if regex.fullmatch(rf"\p{{Script={name}}}", letter)]
        expected[(named or ["Other"])[0]] += 1
    found = dict(zip(SCRIPTS, count_letters(pa.array(said, pa.string())).tolist(), strict=True))
    assert +Counter(found) == expected


def test_letters_of_a_slice_are_its_own():
    said = pa.array(["abc", "где", "東京 x", "", "ไทย"])
    assert sum(count_letters(said.slice(1, 3))) == 6
    assert count_letters(said.slice(2, 1))[SCRIPTS.index("Han")] == 2


@pytest.mark.parametrize(
    ("turn", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, but I can’t help with that.", True),
        ("Sorry, I cannot do this", True),
        ("I apologize, but I am not able to", True),
        ("Unfortunately I won't", True),
        ("As an AI, I have no opinion", True),
        ("**I CANNOT** say", True),
        ("I can help", False),
        ("The guide says: I can't", False),
        ("I'm sorry to hear that! Let us see.", False),
        ("As an aid, use a ladder", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_how_a_turn_begins(turn, refuses):
    assert count_refusals(pa.array([turn])) == refuses


def night(read: int = 1000, quarantined: int = 10, duplicate: int = 100, **measures: int) -> Night:
    added = add_accounts([{"read": read, "duplicate": duplicate, "quarantined": {"empty_turn": quarantined}}])
    usual = {
        "turns": 1000,
        "refusals": 20,
        "length.20": 500,
        "length.21": 500,
        "script.Latin": 9000,
        "script.Han": 1000,
    }
    return Night(added, usual | {name.replace("__", "."): count for name, count in measures.items()})


USUAL = [night(), night(duplicate=120), night(quarantined=20), night(read=40_000, quarantined=500, duplicate=20_000)]
ALL = GateOptions(min_volume=0.5, max_volume=2.0).model_dump()


@pytest.mark.parametrize(
    ("tonight", "said"),
    [
        (night(), None),
        (night(quarantined=230), "22.5% of lines are quarantined|23.0% of lines are quarantined"),
        (night(quarantined=200), None),
        (night(duplicate=550), "sound lines are duplicates"),
        (night(duplicate=0), None),
        (night(refusals=230), "23.0% of assistant turns begin like a refusal"),
        (night(refusals=0), None),
        (night(length__20=50, length__30=950), "lengths of records differ"),
        (night(length__20=300, length__21=700), None),
        (night(script__Han=9000), "scripts that are written differ"),
        (night(read=400, duplicate=40), "gates.min_volume = 0.5"),
        (night(read=2600, duplicate=260), "gates.max_volume = 2"),
        (night(read=0, quarantined=0, duplicate=0), "gates.min_volume"),
        (night(read=100, quarantined=90, duplicate=0), "gates.min_volume"),  # shares of so few lines say nothing
    ],
)
def test_each_gate_closes_on_what_it_is_for(tonight, said):
    breaches = night_breaches(ALL, tonight, USUAL)
    if said is None:
        assert breaches == []
    else:
        (breach,) = breaches
        assert any(one in breach for one in said.split("|"))
        assert "gates." in breach


def test_duplicates_may_also_be_too_few():
    before = [night(duplicate=600)] * 3
    (breach,) = night_breaches(ALL, night(duplicate=50), before)
    assert "duplicates" in breach


def test_gates_are_open_without_a_history_or_a_key():
    bad = night(quarantined=900, duplicate=50, refusals=900, script__Han=99_000, length__40=99_000)
    assert len(night_breaches(ALL, bad, USUAL)) == 4
    assert night_breaches(ALL, bad, USUAL[:2]) == []
    assert night_breaches(dict.fromkeys(ALL), bad, USUAL) == []


shares = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1).map(
    lambda counts: {name: count / sum(counts.values()) for name, count in counts.items()}
)


@given(shares, shares)
def test_distance_is_a_distance(one, other):
    apart = distance(one, [other])
    assert 0 <= apart <= 1 + 1e-9
    assert apart == pytest.approx(distance(other, [one]))
    assert distance(one, [one, one]) == pytest.approx(0)
    assert (apart > 1e-9) == any(abs(one.get(name, 0) - other.get(name, 0)) > 1e-9 for name in "abcd")
    assert distance({}, [one]) == distance(one, [{}]) == 0


def test_changing_a_gate_is_no_change_of_the_data():
    assert not [key for key in Config.altering_of(Config().model_dump(mode="json", by_alias=True)) if "gates" in key]


def test_history_follows_the_parents(dataset_of_nights):
    dataset = dataset_of_nights
    assert len(recent_nights(dataset, dataset.manifest())) == 2
    roll_back(dataset, 1)
    assert [one.added for one in recent_nights(dataset, dataset.manifest())] == [dataset.manifest(1)["added"]]
    for _ in range(9):
        commit_changed(dataset, operation="refresh", added=dataset.manifest(1)["added"], measures={"turns": 1})
    assert len(recent_nights(dataset, dataset.manifest())) == 7


def test_a_breach_keeps_the_candidate_and_accept_commits_it(dataset_of_nights, tmp_path, monkeypatch, capsys):
    dataset = dataset_of_nights
    monkeypatch.setattr(gates, "LEAST_LINES", 10)
    second = dataset.manifest()
    assert second["measures"]["turns"] == second["measures"]["records"] == 31
    assert sum_measures([{"measures": second["measures"]}]) == second["measures"]
    commit_changed(dataset, operation="refresh")
    refused = [
        chat(f"Tell me of night {n} and parcel {n * n}", "I'm sorry, but I can't.", user_id=n) for n in range(30)
    ]
    logs = write_lines(tmp_path / "logs" / "3.jsonl", [*made_night(3), *refused])
    assert take_in(logs, Path(dataset.root)) == 3
    said = capsys.readouterr().err
    assert "49.2% of assistant turns begin like a refusal" in said
    assert "gates.max_refusals_rise = 0.2" in said
    assert "add --accept" in said
    (page,) = Path(dataset.uri("report")).glob("000004-*/index.html")
    assert str(page) in said
    assert dataset.latest() == 3
    assert list(Path(dataset.uri("data")).glob("000004-*/train-*"))
    milled = {path: path.stat().st_mtime_ns for path in Path(dataset.uri("work")).rglob("done/mill/*")}
    assert milled
    assert take_in(logs, Path(dataset.root), "--set", "gates.max_refusals_rise=0.9", "--keep-work") == 0
    assert {path: path.stat().st_mtime_ns for path in milled} == milled
    assert dataset.manifest()["snapshot"] == 4


def test_accept_commits_what_a_gate_held_back(dataset_of_nights, tmp_path):
    dataset = dataset_of_nights
    logs = write_lines(tmp_path / "logs" / "3.jsonl", [b"{"] * 20)
    assert take_in(logs, Path(dataset.root)) == 3
    assert take_in(logs, Path(dataset.root), "--accept") == 0
    assert dataset.manifest()["added"]["quarantined"] == {"malformed_json": 20}
