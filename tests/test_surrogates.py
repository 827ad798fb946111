from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import chat, write_lines
from tests.test_redact import batch, message, rows
from tests.test_run import mill
from transforms.hashing import Keys
from transforms.options import RedactOptions
from transforms.placeholders import Removed
from transforms.redact import redact_records
from transforms.sign import is_sound, sign_records
from transforms.surrogates import _KINDS, Surrogates, is_surrogate, without_surrogates, write_surrogates

OPTIONS = RedactOptions(replace="surrogate")
DATASET = RedactOptions(replace="surrogate", scope="dataset")
KEYS = Keys("salt", b"0" * 32)
VALUES = {
    "EMAIL_ADDRESS": "jane@corp.com",
    "PHONE_NUMBER": "+14158675309",
    "IP_ADDRESS": "93.184.216.34",
    "MAC_ADDRESS": "A4B1C2D3E4F5",
    "CREDIT_CARD": "5500005555555559",
    "IBAN_CODE": "DE89370400440532013000",
}


def written(*contents: str, options: RedactOptions = OPTIONS, keys: Keys = KEYS) -> list[str]:
    records = batch({"messages": [message("user", content) for content in contents]})
    (row,) = write_surrogates(records, redact_records(records, options).records, options, keys).to_pylist()
    return [one["content"] for one in row["messages"]]


@pytest.mark.parametrize("entity", sorted(_KINDS))
@settings(max_examples=40)
@given(seed=st.integers(0, 10**9))
def test_a_surrogate_is_in_its_range_and_is_found_again(entity: str, seed: int) -> None:
    made = Surrogates((), KEYS, str(seed).encode()).placeholder(Removed(entity, VALUES[entity], "raw"))
    assert is_surrogate(Removed(entity, "", made))
    records = batch({"messages": [message("user", f"it is {made} here")]})
    (row,) = redact_records(records, OPTIONS).records.to_pylist()
    assert row["messages"][0]["content"] == f"it is <{entity}_1> here"


def test_the_same_value_has_the_same_surrogate_within_its_scope() -> None:
    first, second = written("call 212-867-5309 or (212) 867-5309", "not 212-867-5310")
    one, other = first.removeprefix("call ").split(" or ")
    assert one == other
    assert one not in second
    assert "867" not in first + second
    assert written("hi 212-867-5309")[0].split(" ", 1)[1] != one
    alike = [written(text, options=DATASET)[0].split(" ", 1)[1] for text in ("hi 212-867-5309", "yo 212-867-5309")]
    assert alike[0] == alike[1]
    assert written("hi 212-867-5309", options=DATASET, keys=Keys("salt", b"1" * 32)) != [f"hi {alike[0]}"]


def test_types_without_a_range_keep_placeholders() -> None:
    (content,) = written("ssn 323-45-6789, key AKIAABCDEFGHIJKLMNOP, mail jane@corp.com")
    assert content.startswith("ssn <US_SSN_1>, key <AWS_ACCESS_KEY_1>, mail ")
    assert content.split("@")[1] in ("example.com", "example.org", "example.net")


@settings(max_examples=40)
@given(st.lists(rows, max_size=3))
def test_ids_are_those_of_the_placeholder_form(said: list[dict[str, Any]]) -> None:
    records = batch(*said)
    placeholders = redact_records(records, OPTIONS).records
    swapped = write_surrogates(records, placeholders, OPTIONS, KEYS)
    sound = is_sound(placeholders)
    plain = sign_records(placeholders.filter(sound), KEYS)
    signed = sign_records(placeholders.filter(sound), KEYS, written=swapped.filter(sound))
    assert signed.column("id").equals(plain.column("id"))
    assert signed.column("key").equals(plain.column("key"))
    for row, expected in zip(swapped.to_pylist(), placeholders.to_pylist(), strict=True):
        if not row["reasons"]:
            form, strangers = without_surrogates(row, OPTIONS)
            assert {name: form[name] for name in ("messages", "tools", "metadata")} == {
                name: expected[name] for name in ("messages", "tools", "metadata")
            }
            assert strangers == Counter()


def test_a_stranger_is_seen() -> None:
    (row,) = batch({"messages": [message("user", "mail jane@corp.com and sam.lowe1@example.org")]}).to_pylist()
    assert without_surrogates(row, OPTIONS)[1] == Counter({"EMAIL_ADDRESS": 1})


def test_a_dataset_with_surrogates_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_KEY", "k" * 32)
    logs = write_lines(
        tmp_path / "logs.jsonl",
        [chat(f"my number is 212-867-{number:04d}", "noted") for number in range(60)]
        + [chat(f"question {number} for parcel {number**3}", "yes") for number in range(20)],
    )
    out = tmp_path / "out"
    near = ["--set", "dedupe.near=false"]
    assert mill("run", "--input", logs, "--output", out, "--set", "redact.replace=surrogate", *near) == 0
    lines = [line for path in sorted(out.glob("jsonl/*/*.jsonl")) for line in path.read_bytes().splitlines()]
    (numbered,) = [line for line in lines if b"my number" in line]  # they differ in the number only: one is left
    assert orjson.loads(numbered)["messages"][0]["content"].startswith("my number is +1 ")
    assert mill("verify", out) == 0


def test_surrogates_need_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = write_lines(tmp_path / "logs.jsonl", [chat("hello", "yes")])
    options = ["--set", "redact.replace=surrogate", "--set", "write.parquet=false"]
    assert mill("run", "--input", logs, "--output", tmp_path / "out", *options) == 2
    assert "write.parquet" in capsys.readouterr().err
