from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_redact import OPTIONS, batch, message, redacted
from transforms.adjacent import adjacent_parts, answer_to, may_answer, may_join, same_speaker
from transforms.redact import redact_records


def turns(*said: tuple[str, str]) -> list[str]:
    (row,) = redacted({"messages": [message(role, content) for role, content in said]})
    return [one["content"] for one in row["messages"]]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ("my number is 212-867", "5309", ("my number is <PHONE_NUMBER_1>", "<PHONE_NUMBER_1>")),
        ("call 212 867-", "5309.", ("call <PHONE_NUMBER_1>-", "<PHONE_NUMBER_1>.")),
        ("card 4111 1111", "1111 1111\nthanks", ("card <CREDIT_CARD_1>", "<CREDIT_CARD_1>\nthanks")),
        ("card 41111111...", "11111111", ("card <CREDIT_CARD_1>...", "<CREDIT_CARD_1>")),
        ("GB82 WEST 1234", "5698 7654 32", ("<IBAN_CODE_1>", "<IBAN_CODE_1>")),
        ("ssn 323-45", "6789", ("ssn <US_SSN_1>", "<US_SSN_1>")),
        ("mail me: jane.doe", "@example.com", ("mail me: <EMAIL_ADDRESS_1>", "<EMAIL_ADDRESS_1>")),
        ("it's jane@", "example.com", ("it's <EMAIL_ADDRESS_1>", "<EMAIL_ADDRESS_1>")),
        ("it's jane@example", ".com!", ("it's <EMAIL_ADDRESS_1>", "<EMAIL_ADDRESS_1>!")),
        ("it's jane@example\n", ".com", ("it's <EMAIL_ADDRESS_1>\n", "<EMAIL_ADDRESS_1>")),
        ("it is ghp_aB3dE6gH9jK2mN5p", "Q8sT1vW4yZ7bC0eF3hJ6", ("it is <GITHUB_TOKEN_1>", "<GITHUB_TOKEN_1>")),
        ("it is ghp_aB3dE6gH9jK2_12", "Q8sT1vW4yZ7bC0eF3hJ6", ("it is ghp_aB3dE6gH9jK2_12", "Q8sT1vW4yZ7bC0eF3hJ6")),
        ("it is github_pat_11ABCDEFG_12", "Q8sT1vW4yZ7bC0eF3hJ6", ("it is <GITHUB_TOKEN_1>", "<GITHUB_TOKEN_1>")),
        ("AKIAIOSFOD...", "NN7EXAMPLE.", ("<AWS_ACCESS_KEY_1>...", "<AWS_ACCESS_KEY_1>.")),
        ("(sk_live_", "aB3dE6gH9jK2mN5pQ8sT1vW4\nbye", ("(<STRIPE_KEY_1>", "<STRIPE_KEY_1>\nbye")),
        ("x eyJhbGciOiJIUzI1NiJ9.", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", ("x <JWT_1>.", "<JWT_1>")),
    ],
)
def test_values_split_over_two_turns(first: str, second: str, left: tuple[str, str]) -> None:
    assert turns(("user", first), ("user", second)) == list(left)
    between = ("assistant", "go on")
    assert turns(("user", first), between, ("user", second)) == [left[0], "go on", left[1]]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (["it is 212", "867", "5309."], ["it is <PHONE_NUMBER_1>", "<PHONE_NUMBER_1>", "<PHONE_NUMBER_1>."]),
        (["card 4111", "1111", "1111", "1111"], ["card <CREDIT_CARD_1>", *["<CREDIT_CARD_1>"] * 3]),
        (["gldt: glpat-aB3dE", "6gH9jK2", "mN5pQ8sT"], ["gldt: <GITLAB_TOKEN_1>", *["<GITLAB_TOKEN_1>"] * 2]),
        (["it is 212", "and 867", "5309."], ["it is 212", "and 867", "5309."]),
        (["it is 12", "34", "56"], ["it is 12", "34", "56"]),
    ],
)
def test_values_split_over_more_turns(said: list[str], left: list[str]) -> None:
    assert turns(*(("user", one) for one in said)) == left
    between = [turn for one in said for turn in (("user", one), ("assistant", "go on"))]
    assert turns(*between)[::2] == left


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("what is 200 + 300", "500"),
        ("it begins with ghp_", "thanks"),
        ("the prefix is sk-ant-", "ok2"),
        ("my key is ghp_aB3dE6gH9jK2mN5p", "Q8sT1vW4yZ7bC0eF3hJ6 is the rest"),
        ("a word like desk-lamp", "aB3dE6gH9jK2mN5pQ8sT"),
        ("pick one of 100", "150"),
        ("my number is 212-867", "5309 is my number too"),
        ("I live at 12", "34 people do"),
        ("so. end", ".com is a domain"),
        ("number 212", "OK"),
        ("see you at 10", "12"),
    ],
)
def test_parts_that_make_no_value_stay(first: str, second: str) -> None:
    assert turns(("user", first), ("user", second)) == [first, second]


@pytest.mark.parametrize(
    ("asked", "answer", "left"),
    [
        ("What is your SSN?", "536228726", "<US_SSN_1>"),
        ("Thanks! Please provide your account number.", "it's 123456789012, thanks", "it's <US_BANK_NUMBER_1>, thanks"),
        ("Your passport number, please?!", "123456789.", "<US_PASSPORT_1>."),
        ("What is your PIN?", "4821", "<PIN_1>"),
        ("Enter the PIN of the card:", "Sure, 4821", "Sure, <PIN_1>"),
        ("What is your password?", "Hunter2!x", "<PASSWORD_1>"),
        ("**Could you tell me your password please?**", "`hunter2`", "`<PASSWORD_1>`"),
        ("您的密码是什么？", "hunter2", "<PASSWORD_1>"),
    ],
)
def test_an_answer_is_told_by_the_question(asked: str, answer: str, left: str) -> None:
    assert turns(("assistant", asked), ("user", answer)) == [asked, left]
    assert turns(("user", answer), ("assistant", asked)) == [answer, asked]
    assert turns(("user", asked), ("user", answer)) == [asked, answer]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("What is your password?", "Berlin"),
        ("What is your password?", "yes"),
        ("What is your password?", "Done!"),
        ("What is your password?", "none/unknown"),
        ("What is your password?", "2024-01-15"),
        ("What is your password?", "I lost it 3 days ago"),
        ("When did you reset your password?", "yesterday2"),
        ("What is your PIN? Or have you lost it?", "4821"),
        ("I have your PIN now.", "4821"),
        ("What is your order number?", "123456789012"),
        ("How many do you need?", "536228726"),
    ],
)
def test_answers_that_are_no_values_stay(asked: str, answer: str) -> None:
    assert turns(("assistant", asked), ("user", answer)) == [asked, answer]


def test_an_answer_goes_wherever_else_it_is_said() -> None:
    said = [("assistant", "What is your password?"), ("user", "Hunter2!x"), ("assistant", "So it is Hunter2!x.")]
    assert turns(*said)[1:] == ["<PASSWORD_1>", "So it is <PASSWORD_1>."]


def test_speakers_are_not_mixed() -> None:
    said = [("user", "my number is 212-867"), ("assistant", "5309"), ("assistant", "what is it?")]
    assert turns(*said) == [content for _, content in said]


def test_joined_turns_settle() -> None:
    row = {"messages": [message("user", "it is 212-867"), message("user", "5309"), message("user", "or 212-867-5309")]}
    once = redact_records(batch(row), OPTIONS).records
    assert [one["content"] for one in once.to_pylist()[0]["messages"]] == [
        "it is <PHONE_NUMBER_1>", "<PHONE_NUMBER_1>", "or <PHONE_NUMBER_1>"
    ]  # fmt: skip
    assert redact_records(once, OPTIONS).records.equals(once)


PARTS = [
    "my number is 212-867", "5309", "5309.", "GB82 WEST 1234", "5698 7654 32", "jane@", "example.com", "@example.com!",
    "it's jane", ".com", "jane@example", "(212) 867", "-5309", "… 5309\nok", "4111 1111", "1111 1111", "yes", "OK", "", "\n", "jane@example\n", "jane@\n", "ghp_aB3dE6gH9jK2mN5p", "Q8sT1vW4yZ7bC0eF3hJ6", "212", "867", "sk_live_...", ".doe@example.com\nthanks", "@example.com\nthanks",
    "What is your SSN?", "536228726", "your PIN, please?!\n", "ok, 4821.", "Send me your password *", "Hunter2!x", "密码：",
    "jane.", "doe@intern\nthanks", "4111111111111111ghp_aB3dE6gH9jK2mN5p", "call 212-555-0199", "212-555-0199, 212-867",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(PARTS)), max_size=4), max_size=4
    )
)
def test_the_search_by_columns_misses_nothing(rows: list[list[tuple[str, str]]]) -> None:
    records = batch(*({"messages": [message(role, text) for role, text in said]} for said in rows))
    possible = may_join(records.column("messages"))
    for said, may in zip(rows, possible, strict=True):
        filled = [(role, text) for role, text in said if text]
        chains = same_speaker([(role, place) for place, (role, _) in enumerate(filled)])
        if any(any(adjacent_parts(*(filled[place][1] for place in chain))) for chain in chains):
            assert may
    answers = may_answer(records.column("messages"))
    for said, may in zip(rows, answers, strict=True):
        filled = [text for _, text in said if text]
        assert may or not any(map(answer_to, filled, filled[1:]))
    assert redact_records(records, OPTIONS).records.equals(
        redact_records(records, OPTIONS.model_copy(update={"exact": True})).records
    )
