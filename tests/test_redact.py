"""Redaction of records: the laws of the kernel, and that nothing planted survives. All values are made up."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
import orjson
import pyarrow as pa
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import redact
from transforms.options import CustomRecognizer, RedactOptions
from transforms.placeholders import LAST_NUMBER, Finding, Numbering, RedactionTimeout, Removed, TooManyValues
from transforms.reasons import Reason
from transforms.redact import RedactionFailed, RedactRecords, redact_records, redactor_for
from transforms.schema import RECORDS
from transforms.screen import Screened

OPTIONS = RedactOptions()

# Values that are found wherever they stand, whatever stands around them.
PLANTED = [
    "jane.doe@example.com",
    "j_d+tag@sub.example.co.uk",
    "+44 20 7946 0958",
    "(212) 555-0199",
    "4111 1111 1111 1111",
    "378282246310005",
    "GB82 WEST 1234 5698 7654 32",
    "203.0.113.77",
    "00:1A:2B:3C:4D:5E",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "536-22-8726",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6",
    "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEAt0q8\n-----END PRIVATE KEY-----",
    "postgres://app:s3cr3t@db.internal:5432/orders",
]
PROSE = [
    "",
    "hello",
    "see",
    "my account is",
    "é ü ı ſ",
    "\0",
    "{}",
    '"quoted"',
    "\n\n",
    "<EMAIL_ADDRESS_2>",
    "<x>",
    "1.5 kg",
]


def message(role: str, content: str | None, **rest: Any) -> dict[str, Any]:
    keys = ("reasoning", "name", "tool_calls", "tool_call_id", "weight")
    return {"role": role, "content": content, **dict.fromkeys(keys), **rest}


def call(arguments: str, name: str = "send", ident: str | None = "call_1") -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def canonical(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    base = {"line": 0, "offset": 0, "length": 1, "reasons": [], "messages": None, "tools": None, "kind": "production"}
    base |= {"metadata": "{}", "group": None, "source_id": None, "n_redactions": None}
    return pa.RecordBatch.from_pylist([base | {"line": index} | row for index, row in enumerate(rows)], schema=RECORDS)


def redacted(*rows: dict[str, Any], options: RedactOptions = OPTIONS, **rest: Any) -> list[dict[str, Any]]:
    rows_out: list[dict[str, Any]] = redact_records(batch(*rows), options, **rest).records.to_pylist()
    return rows_out


def said(*contents: str, options: RedactOptions = OPTIONS) -> list[str]:
    (row,) = redacted({"messages": [message("user", content) for content in contents]}, options=options)
    assert row["reasons"] == []
    return [one["content"] for one in row["messages"]]


# ------------------------------------------------------------------------------------------------- laws

letters = st.characters(exclude_categories=["Cs"], exclude_characters="vV")  # `v` before an address makes it a version
strings = st.lists(st.sampled_from([*PLANTED, *PROSE]) | st.text(letters, max_size=8), max_size=4).map(" ".join)
scalars = (
    st.none()
    | st.booleans()
    | strings
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
keys = st.sampled_from(["a", "email", "password", "ssn", "homePhone", *PLANTED]) | strings
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
calls = st.builds(call, values.map(canonical), strings, st.sampled_from([None, "call_1", PLANTED[0]]))
messages = st.builds(
    message,
    st.sampled_from(["user", "assistant", "tool"]),
    st.none() | strings,
    reasoning=st.none() | strings,
    name=st.none() | strings,
    tool_calls=st.none() | st.lists(calls, max_size=2),
    tool_call_id=st.sampled_from([None, "call_1", PLANTED[0]]),
)
rows = st.fixed_dictionaries(
    {
        "messages": st.lists(messages, max_size=3),
        "tools": st.none() | st.lists(values, max_size=2).map(canonical),
        "metadata": st.dictionaries(keys, values, max_size=3).map(canonical),
        "reasons": st.just([]),
    }
) | st.just({"reasons": ["empty_turn"], "metadata": None})


@settings(max_examples=60)
@given(st.lists(rows, max_size=3), st.lists(rows, max_size=3))
def test_rows_do_not_depend_on_their_batch(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    whole = redact_records(batch(*left, *right), OPTIONS)
    parts = [
        redact_records(batch(*left, *right).slice(*cut), OPTIONS) for cut in ((0, len(left)), (len(left), len(right)))
    ]
    assert (
        pa.Table.from_batches([part.records for part in parts])
        .combine_chunks()
        .equals(pa.Table.from_batches([whole.records]).combine_chunks())
    )
    assert sum((part.entities for part in parts), parts[0].entities.__class__()) == whole.entities


quiet = st.sampled_from(
    [None, "", "no JSON", "{}", canonical({"days": 3}), canonical({"note": "x 4711"}), '{"b":1,"a":1}']
)
turns = st.builds(
    message,
    st.sampled_from(["user", "assistant", "tool", ""]),
    strings | st.just("my pin is 4711"),
    reasoning=st.sampled_from([None, None, "4711 of <PIN_1>", "because"]),
    tool_calls=st.none() | st.lists(st.none() | st.builds(call, quiet), max_size=2),
)
talk = st.fixed_dictionaries(
    {
        "messages": st.none() | st.lists(turns, max_size=4),
        "tools": st.none() | st.sampled_from([canonical([]), canonical([{"says": PLANTED[0]}])]),
        "metadata": st.dictionaries(st.sampled_from("ab"), scalars, max_size=2).map(canonical),
        "n_redactions": st.sampled_from([None, 0, 3]),
        "reasons": st.sampled_from([[], [], [], ["empty_turn"]]),
    }
)


@settings(max_examples=100)
@given(st.lists(talk | rows, min_size=1, max_size=4), st.integers(0, 1))
def test_contents_in_their_column_become_what_rows_made_anew_become(many: list[dict[str, Any]], first: int) -> None:
    records = batch(*many).slice(first)
    by_column = redact_records(records, OPTIONS)
    by_column.records.validate(full=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redact, "as_they_are", lambda some: np.zeros(some.num_rows, np.bool_))
        anew = redact_records(records, OPTIONS)
    assert anew.records.to_pylist() == by_column.records.to_pylist()
    assert anew.entities == by_column.entities


def test_a_value_of_contents_that_arguments_say_too_goes_from_both() -> None:
    asked, silent = (message("user", "my pin is 4711", tool_calls=[call(one)]) for one in ('{"q":"x 4711"}', '{"q":1}'))
    one, other = redacted({"messages": [asked]}, {"messages": [silent]})
    arguments = [row["messages"][0]["tool_calls"][0]["function"]["arguments"] for row in (one, other)]
    assert arguments == ['{"q":"x <PIN_1>"}', '{"q":1}']
    assert one["messages"][0]["content"] == other["messages"][0]["content"] == "my pin is <PIN_1>"


def test_a_value_of_contents_that_json_says_too_goes_from_both() -> None:
    (row,) = redacted({"messages": [message("user", "my pin is 4711")], "metadata": canonical({"note": "x 4711"})})
    assert (row["messages"][0]["content"], row["metadata"]) == ("my pin is <PIN_1>", '{"note":"x <PIN_1>"}')


@settings(max_examples=80)
@given(rows)
def test_redacting_twice_is_redacting_once(row: dict[str, Any]) -> None:
    once = redact_records(batch(row), OPTIONS)
    twice = redact_records(once.records, OPTIONS)
    assert twice.records.equals(once.records)
    assert not twice.entities


def test_what_was_unstable_in_presidio_settles() -> None:
    text = "my bank account GB82 WEST 1234 5698 7654 32 then 123456789 and 12345678 4111 1111 1111 1111 123456789012"
    (once,) = said(text)
    assert said(once) == [once]


@settings(max_examples=100)
@given(rows)
def test_nothing_planted_survives_and_json_stays_json(row: dict[str, Any]) -> None:
    out = redact_records(batch(row), OPTIONS).records
    assert out.schema == RECORDS
    (first,) = out.to_pylist()
    told = json.dumps(first, default=str, ensure_ascii=False)
    for value in PLANTED:
        assert value not in told
        assert json.dumps(value)[1:-1] not in told
    if first["messages"] is None:
        return
    for column in (first["tools"], first["metadata"]):
        assert column is None or canonical(orjson.loads(column)) == column
    for one in first["messages"]:
        for made in one["tool_calls"] or ():
            arguments = made["function"]["arguments"]
            assert canonical(orjson.loads(arguments)) == arguments


@given(st.lists(st.text("abc xyz.,!\n\té", max_size=30), min_size=1, max_size=3))
def test_clean_text_stays_byte_for_byte(contents: list[str]) -> None:
    assert said(*contents) == contents


# ---------------------------------------------------------------------------------------- placeholders


def test_the_same_value_has_the_same_placeholder_through_a_conversation() -> None:
    assert said("a@b.com, c@d.com; call 212-555-0199", "A@B.com again, (212) 555-0199 too; +1 212 555 0199") == [
        "<EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2>; call <PHONE_NUMBER_1>",
        "<EMAIL_ADDRESS_1> again, <PHONE_NUMBER_1> too; <PHONE_NUMBER_1>",
    ]


def test_denied_words_have_one_number_in_all_spellings() -> None:
    options = RedactOptions(
        custom=(
            CustomRecognizer(name="PLAN", deny=("Blue Moon", "Zed", "O'Neil")),
            CustomRecognizer(name="CODE", pattern="[Zz]9"),
        )
    )
    assert said("Blue Moon, zed, O'Neil", "blue\n moon ZED z9 Z9 blue_moon_v2 O’NEIL O&#39;Neil", options=options) == [
        "<PLAN_1>, <PLAN_2>, <PLAN_3>",
        "<PLAN_1> <PLAN_2> <CODE_1> <CODE_2> <PLAN_1>_v2 <PLAN_3> <PLAN_3>",
    ]


def test_denied_words_go_from_the_names_of_files_and_keys() -> None:
    options = RedactOptions(custom=(CustomRecognizer(name="PLAN", deny=("Bluebird",)),))
    (row,) = redacted(
        {
            "messages": [message("user", "see bluebird_plan.docx and project_bluebird, not bluebirds")],
            "metadata": canonical({"Bluebird_plan": {"my_bluebird": 1}}),
        },
        options=options,
    )
    assert row["messages"][0]["content"] == "see <PLAN_1>_plan.docx and project_<PLAN_1>, not bluebirds"
    assert row["metadata"] == canonical({"<PLAN_1>_plan": {"my_<PLAN_1>": 1}})


def test_a_short_value_goes_from_the_names_of_files_too() -> None:
    assert said("from 8.8.8.8", "log_8.8.8.8_old.txt, log8.8.8.8") == [
        "from <IP_ADDRESS_1>",
        "log_<IP_ADDRESS_1>_old.txt, log8.8.8.8",
    ]


def test_an_empty_role_is_no_slot() -> None:
    (row,) = redacted({"messages": [message("", "hello", tool_calls=[call('"a@b.com"', ident="c@d.com")])]})
    (made,) = row["messages"][0]["tool_calls"]
    assert (made["id"], made["function"]["arguments"]) == ("<EMAIL_ADDRESS_1>", '"<EMAIL_ADDRESS_2>"')


def test_each_conversation_counts_for_itself() -> None:
    one, two = redacted({"messages": [message("user", "a@b.com")]}, {"messages": [message("user", "c@d.com")]})
    assert one["messages"] == two["messages"]


def test_numbers_follow_the_fields_in_their_order() -> None:
    (row,) = redacted(
        {
            "messages": [
                message("user", "a1@b.com", reasoning="a2@b.com", name="a3@b.com"),
                message(
                    "assistant", None, tool_calls=[call('{"x":"a5@b.com"}', ident="a4@b.com")], tool_call_id="a6@b.com"
                ),
            ],
            "tools": '[{"y":"a7@b.com"}]',
            "metadata": '{"z":"a8@b.com"}',
        }
    )
    told = json.dumps({name: row[name] for name in ("messages", "tools", "metadata")})
    assert re.findall(r"EMAIL_ADDRESS_(\d)", told) == list("12345678")
    assert row["n_redactions"] == 8


def test_a_literal_placeholder_stays_and_its_number_is_not_given_again() -> None:
    assert said("<EMAIL_ADDRESS_1> a@b.com", "c@d.com <EMAIL_ADDRESS_3>") == [
        "<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2>",
        "<EMAIL_ADDRESS_4> <EMAIL_ADDRESS_3>",
    ]


def test_a_value_dressed_as_a_placeholder_is_found() -> None:
    (content,) = said("call <PHONE_NUMBER_2125550199>")
    assert "2125550199" not in content


def test_a_value_found_once_goes_wherever_else_it_is_said() -> None:
    (row,) = redacted(
        {
            "messages": [
                message("user", "my account is 12345678"),
                message("assistant", "12345678 it is, not 123456789"),
            ],
            "metadata": '{"ref":12345678,"s":"x12345678"}',
        }
    )
    assert row["messages"][0]["content"] == "my account is <US_BANK_NUMBER_1>"
    assert row["messages"][1]["content"] == "<US_BANK_NUMBER_1> it is, not 123456789"
    assert row["metadata"] == '{"ref":"<US_BANK_NUMBER_1>","s":"x12345678"}'


@pytest.mark.parametrize(
    ("found", "spellings", "entity"),
    [
        ("+1 212 555 0199", "12125550199, +1.212.555.0199, 1 (212) 555 0199", "PHONE_NUMBER"),
        ("(212) 555-0199", "order 2125550199, order (212)5550199", "PHONE_NUMBER"),
        ("+49 30 901820", "4930901820, order 49-30-901820", "PHONE_NUMBER"),
        ("536-22-1234", "536221234, 536.22.1234, ssn_536221234, line\\n536221234", "US_SSN"),
        (
            "4111 1111 1111 1111",
            "order 4111111111111111, scan_4111111111111111, order 4111 11111111-1111",
            "CREDIT_CARD",
        ),
    ],
)
def test_a_number_goes_in_other_spellings_too(found: str, spellings: str, entity: str) -> None:
    first, second = said(f"It is {found}.", f"{spellings};")
    assert first == f"It is <{entity}_1>."
    assert re.sub(f"<{entity}_1>", "", second) == re.sub(r"\+?\(?[0-9][0-9 ().\-]+[0-9]", "", f"{spellings};")


def test_a_number_within_another_stays() -> None:
    others = ["x536221234", "536221234x", "5362212345", "1536221234", "536221 23", "5362\n21234", "536,221,234"]
    assert said("SSN 536-22-1234", *others) == ["SSN <US_SSN_1>", *others]


def test_short_numbers_go_as_they_are_spelled_alone() -> None:
    assert said("PIN: 4711, password: 47124712", "4-7-1-1 and 4712-4712") == [
        "PIN: <PIN_1>, password: <PASSWORD_1>",
        "4-7-1-1 and 4712-4712",
    ]


def test_a_number_goes_from_json_that_nothing_else_is_found_in() -> None:
    metadata = {"n": [1, 536221234], "text": "a 53622 1234"}
    assert redacted({"messages": [message("user", "hi")], "metadata": canonical(metadata)})[0]["metadata"] == canonical(
        metadata
    )
    (row,) = redacted({"messages": [message("user", "SSN 536-22-1234")], "metadata": canonical(metadata)})
    assert row["metadata"] == canonical({"n": [1, "<US_SSN_1>"], "text": "a <US_SSN_1>"})


def test_many_spellings_of_many_numbers() -> None:
    cards = [f"4111 11{number:02} 1111 11" for number in range(100)]
    valid = [f"{card}{end:02}" for card in cards for end in range(100) if _luhn(f"{card}{end:02}")][:300]
    first, second = said(" ".join(valid), ", ".join(f"order {card.replace(' ', '')}" for card in valid))
    assert not re.search("[0-9]{5}", first + second)
    assert re.findall("<.*?>", first) == re.findall("<.*?>", second)


def _luhn(card: str) -> bool:
    digits = [int(digit) for digit in card if digit != " "][::-1]
    return sum(digits[::2] + [digit * 2 % 10 + digit // 5 for digit in digits[1::2]]) % 10 == 0


def test_overlapping_findings_go_as_one_span() -> None:
    (content,) = said("see https://bob:hunter2@example.com/x")
    assert content == "see https://<URL_CREDENTIALS_1>@example.com/x"  # not the e-mail that password and host look like
    assert said("postgres://bob@example.com:s3cr3t@203.0.113.7/x") == ["<CONNECTION_STRING_1>"]


def test_numbering_ends_where_placeholders_do() -> None:
    numbering = Numbering([("A", number) for number in range(1, LAST_NUMBER + 1)])
    with pytest.raises(TooManyValues):
        numbering.placeholder(Removed("A", "x", "x"))


# ------------------------------------------------------------------------------------------------ json


def test_keys_and_numbers_of_json_are_redacted() -> None:
    arguments = canonical(
        {"a@b.com": 1, "A@b.com": 2, "card": 4111111111111111, "phone": [2125550199.0], "n": 12, "x": 1.5}
    )
    (row,) = redacted({"messages": [message("assistant", None, tool_calls=[call(arguments)])]})
    assert orjson.loads(row["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {
        "<EMAIL_ADDRESS_1>": 2,
        "<EMAIL_ADDRESS_1>_2": 1,
        "card": "<CREDIT_CARD_1>",
        "phone": ["<PHONE_NUMBER_1>"],
        "n": 12,
        "x": 1.5,
    }


def test_the_key_is_context_for_its_value() -> None:
    metadata = {
        "ssn": "536228726",
        "accountNumber": 12345678,
        "password": "correcthorse",
        "order": "536228726x",
        "id": 2125550199,
    }
    (row,) = redacted({"messages": [], "metadata": canonical(metadata)})
    assert orjson.loads(row["metadata"]) == {
        "ssn": "<US_SSN_1>",
        "accountNumber": "<US_BANK_NUMBER_1>",
        "password": "<PASSWORD_1>",
        "order": "536228726x",
        "id": 2125550199,
    }


def test_a_setting_is_told_by_the_name_beside_it() -> None:
    settings = [
        {"name": "DB_PASSWORD", "value": "correcthorse"},
        {"Key": "ssn", "Value": "536228726"},
        {"key": "ssn", "value": 536228726},
        {"name": "colour", "value": "correct"},
        {"name": ["password"], "value": "horse"},
    ]
    (row,) = redacted({"messages": [], "metadata": canonical({"env": settings})})
    assert [one.get("value", one.get("Value")) for one in orjson.loads(row["metadata"])["env"]] == [
        *("<PASSWORD_1>", "<US_SSN_1>", "<US_SSN_1>", "correct", "horse"),
    ]


def test_what_wraps_a_value_is_told_by_its_own_key() -> None:
    fields = {
        "password": {"value": "correcthorse"},
        "ssn": {"value": 536228726},
        "colour": {"value": "battery"},
        "headers": [["Authorization", "Token 9f8e7d6c5b4a39281706f5e4d3c2b1a0"], ["Accept", "text/html5"]],
        "required": ["password", "email"],
    }
    left = {
        "password": {"value": "<PASSWORD_1>"},
        "ssn": {"value": "<US_SSN_1>"},
        "colour": {"value": "battery"},
        "headers": [["Authorization", "Token <BEARER_TOKEN_1>"], ["Accept", "text/html5"]],
        "required": ["password", "email"],
    }
    for options in (OPTIONS, RedactOptions(exact=True)):
        for name, one in fields.items():  # each by itself passes the screen or not
            (row,) = redacted({"messages": [], "metadata": canonical({name: one})}, options=options)
            assert orjson.loads(row["metadata"]) == {name: left[name]}
        calls = [call(canonical(fields))]
        (row,) = redacted({"messages": [message("assistant", None, tool_calls=calls)]}, options=options)
        assert orjson.loads(row["messages"][0]["tool_calls"][0]["function"]["arguments"]) == left


def test_tool_call_ids_stay_consistent() -> None:
    (row,) = redacted(
        {
            "messages": [
                message("assistant", None, tool_calls=[call("{}", ident="a@b.com-1")]),
                message("tool", "ok", tool_call_id="a@b.com-1"),
            ]
        }
    )
    assert row["messages"][0]["tool_calls"][0]["id"] == row["messages"][1]["tool_call_id"]
    assert "@" not in row["messages"][1]["tool_call_id"]


def test_arguments_that_are_no_json_are_text() -> None:
    (row,) = redacted({"messages": [message("assistant", None, tool_calls=[call("mail a@b.com {")])]})
    assert row["messages"][0]["tool_calls"][0]["function"]["arguments"] == "mail <EMAIL_ADDRESS_1> {"


def test_what_json_hides_behind_a_duplicate_key_does_not_pass() -> None:
    (row,) = redacted({"messages": [message("assistant", None, tool_calls=[call('{"x":"a@b.com","x":"y"}')])]})
    assert row["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"x":"y"}'


def test_digests_at_the_paths_to_keep_are_kept() -> None:
    digest = "4111111111111111" * 2
    metadata = canonical({"user": {"id": digest}, "users": [{"id": "a@b.com"}], "id": "c@d.com"})
    paths = ("metadata.user.id", "metadata.users.id", "metadata.id")
    (row,) = redacted({"messages": [], "metadata": metadata}, keep_paths=paths)
    assert orjson.loads(row["metadata"]) == {
        "user": {"id": digest},
        "users": [{"id": "<EMAIL_ADDRESS_2>"}],
        "id": "<EMAIL_ADDRESS_1>",
    }


def test_hex_digests_stay() -> None:
    metadata = canonical({"user_id": "d41d8cd98f00b204e9800998ecf8427e", "etag": "12345678901234567890123456789012"})
    (row,) = redacted({"messages": [], "metadata": metadata})
    assert row["metadata"] == metadata


# --------------------------------------------------------------------------------------------- outcomes


def test_the_empty_batch() -> None:
    assert redact_records(batch(), OPTIONS).records.equals(batch())


def test_unsound_rows_pass_as_they_are() -> None:
    unsound = batch({"reasons": ["empty_turn"], "metadata": None})
    assert redact_records(unsound, OPTIONS).records.equals(unsound)


def test_switched_off_it_changes_nothing() -> None:
    row = {"messages": [message("user", "a@b.com")]}
    off = RedactOptions(enabled=False)
    assert redact_records(batch(row), off).records.equals(batch(row | {"n_redactions": 0}))
    assert redactor_for(off).redact_text("a@b.com") == "a@b.com"


def test_secrets_can_be_switched_off() -> None:
    assert said("AKIAIOSFODNN7EXAMPLE", options=RedactOptions(secrets=False)) == ["AKIAIOSFODNN7EXAMPLE"]


def test_custom_recognizers_count() -> None:
    options = RedactOptions(custom=(CustomRecognizer(name="PROJECT", deny=("Blue Moon",)),))
    result = redact_records(batch({"messages": [message("user", "the BLUE MOON plan")]}), options)
    assert result.records.to_pylist()[0]["messages"][0]["content"] == "the <PROJECT_1> plan"
    assert result.entities == {"PROJECT": 1}


def replace_scan(monkeypatch: pytest.MonkeyPatch, scan: Any) -> None:
    """Has every text looked into by `scan`."""
    redactor = redactor_for(OPTIONS)
    monkeypatch.setattr(redactor, "_scan", lambda texts: {text: scan(text) for text in texts})
    monkeypatch.setattr(redactor, "_fired", lambda texts: dict.fromkeys(texts, 1))

    def all_of(records: pa.RecordBatch, _: object) -> Screened:
        some = np.ones(records.num_rows, np.bool_)
        return Screened(some, some, some, [1] * len(records.column("messages").flatten()), some)

    monkeypatch.setattr(redactor, "screen", all_of)


def test_an_error_quarantines_the_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> list[Finding]:
        if "bad" in text:
            raise ValueError("quotes canary")
        return []

    replace_scan(monkeypatch, fail)
    good = {"messages": [message("user", "good")]}
    one, two, three = redacted(good, {"messages": [message("user", "bad canary")], "tools": "[]"}, good)
    assert [row["reasons"] for row in (one, two, three)] == [[], [Reason.REDACTION_FAILED], []]
    assert two["messages"] is two["tools"] is two["metadata"] is two["n_redactions"] is None
    assert "canary" not in str(two)
    with pytest.raises(RedactionFailed, match=r"^a text could not be analysed$") as caught:
        redactor_for(OPTIONS).redact_text("bad canary")
    assert caught.value.__suppress_context__


def test_what_never_settles_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_scan(monkeypatch, lambda text: [Finding(0, 1, "US_SSN", 1.0)] if text else [])
    (row,) = redacted({"messages": [message("user", "aaaaaaaaaa")]})
    assert row["reasons"] == [Reason.REDACTION_UNSTABLE]
    assert row["messages"] is None


def test_a_time_out_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(text: str) -> list[Finding]:
        raise RedactionTimeout(str(len(text)))

    replace_scan(monkeypatch, time_out)
    with pytest.raises(RedactionTimeout):
        redacted({"messages": [message("user", "x")]})
    with pytest.raises(RedactionTimeout):
        redactor_for(OPTIONS).redact_text("x")


def test_shard_names() -> None:
    redactor = redactor_for(OPTIONS)
    plain = "s3://bucket/logs/2026-11-22/part-00017-of-00100.jsonl.gz"
    assert redactor.redact_text(plain) == plain
    assert "jane" not in redactor.redact_text("s3://bucket/jane.doe@example.com.jsonl.gz")
    assert "s3cr3t" not in redactor.redact_text("ftp://app:s3cr3t@host/x.jsonl")


def test_passes_are_bounded_however_much_is_found() -> None:
    text = " ".join(f"user{number}@example.com" for number in range(500))
    (content,) = said(text)
    assert content == " ".join(f"<EMAIL_ADDRESS_{number}>" for number in range(1, 501))


def test_the_transform_redacts_and_counts() -> None:
    rows = batch({"messages": [message("user", "a@b.com")]})
    pipeline = test_pipeline.TestPipeline()
    out = pipeline | beam.Create([rows]) | RedactRecords(OPTIONS)
    assert_that(
        out | beam.Map(lambda one: one.to_pylist()[0]["messages"][0]["content"]), equal_to(["<EMAIL_ADDRESS_1>"])
    )
    result = pipeline.run()
    result.wait_until_finish()
    (counter,) = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("redact"))["counters"]
    assert (counter.key.metric.name, counter.result) == ("EMAIL_ADDRESS", 1)


def test_threads_of_a_worker_find_the_same() -> None:
    """Some runners redact in several threads of a process; Hyperscan lets go of the interpreter while it scans."""
    batches = [
        batch(
            *(
                {"messages": [{"role": "user", "content": f"{value} {number}" + " and so on" * 200}]}
                for value in PLANTED
            )
        )
        for number in range(40)
    ]
    alone = [redact_records(one, OPTIONS) for one in batches]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: redact_records(one, OPTIONS), batches)) == alone


def test_the_redactor_is_built_once() -> None:
    assert redactor_for(RedactOptions()) is redactor_for(RedactOptions())
    assert redact.PASSES == 3


def test_what_surrounds_a_value_in_a_secret_field_is_settled_at_once() -> None:
    row = {
        "messages": [message("user", "hello")],
        "metadata": canonical({"password": "x 331449281 tel:+12125550199 please"}),
    }
    once = redact_records(batch(row), OPTIONS).records
    assert redact_records(once, OPTIONS).records.column("metadata") == once.column("metadata")


def test_without_secrets_a_password_field_stays() -> None:
    rows = batch({"messages": [message("user", "hello")], "metadata": canonical({"password": "hunter22x"})})
    kept = redact_records(rows, RedactOptions(secrets=False)).records
    assert kept.column("metadata") == rows.column("metadata")
