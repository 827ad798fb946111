from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import Config
from tests.records import chat, write_lines
from tests.test_redact import batch, message
from tests.test_run import mill
from transforms import named
from transforms.hashing import Keys
from transforms.named import PART, ModelMissing, NamedFinder, check_model, find_names, language_of, library_of
from transforms.options import RedactOptions
from transforms.policy import check_entities
from transforms.redact import redact_records, redactor_for
from transforms.surrogates import write_surrogates


def make_model(folder: Path, language: str, **patterns: Sequence[str]) -> Path:
    """A pipeline on disk that knows a few names: real loading code, no download."""
    pipeline = spacy.blank(language)
    ruler: Any = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": name} for label, names in patterns.items() for name in names])
    pipeline.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("en")
    return str(make_model(folder, "en", PERSON=["Ada Lovelace", "Max"], GPE=["12 Main Street"], ORG=["Acme"]))


def said(options: RedactOptions, *contents: str, **rest: Any) -> list[str]:
    records = batch({"messages": [message("user", content) for content in contents], **rest})
    (row,) = redact_records(records, options).records.to_pylist()
    return [one["content"] for one in row["messages"]]


def test_names_and_addresses_are_replaced(english: str) -> None:
    options = RedactOptions(model=english)
    assert said(options, "I'm Ada Lovelace of Acme, ada@example.com", "Ada Lovelace, 12 Main Street") == [
        "I'm <PERSON_1> of Acme, <EMAIL_ADDRESS_1>",
        "<PERSON_1>, <LOCATION_1>",
    ]
    assert redactor_for(options).redact_text("Max, 12 Main Street") == "<PERSON_1>, <LOCATION_1>"


def test_entities_choose_what_the_model_finds(english: str) -> None:
    options = RedactOptions(model=english, entities=("ORGANIZATION",))
    assert said(options, "Ada Lovelace of Acme") == ["Ada Lovelace of <ORGANIZATION_1>"]
    with pytest.raises(ValueError, match=r"redact\.model"):
        check_entities(RedactOptions(entities=("PERSON",)))


def test_each_language_has_its_model(english: str, tmp_path: Path) -> None:
    german = make_model(tmp_path / "de", "de", PER=["Jürgen"])
    options = RedactOptions(model={"en": english, "de": str(german)})  # type: ignore[arg-type]
    for language, left in (
        ("de", "<PERSON_1> und Max"),
        ("en", "Jürgen und <PERSON_1>"),
        ("fr", "Jürgen und <PERSON_1>"),
    ):
        metadata = orjson.dumps({"language": f"{language}-XX"}).decode()
        assert said(options, "Jürgen und Max", metadata=metadata) == [left]
    assert language_of('{"lang":"DE"}') == "de"
    assert language_of('{"lang":7}') is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["Max", "Ada Lovelace", "Acme", "\n", "at", "x" * 900]), max_size=6), max_size=5)
)
def test_findings_do_not_depend_on_the_batch(english: str, texts: list[list[str]]) -> None:
    joined = [" ".join(words) for words in texts]
    finder = NamedFinder(RedactOptions(model=english))
    finder.add(joined, None)
    finder.read()
    for text in joined:
        alone = NamedFinder(RedactOptions(model=english))
        alone.add([text], None)
        alone.read()
        assert finder.found(text) == alone.found(text)
        assert all(text[one.start : one.end] in ("Max", "Ada Lovelace") for one in finder.found(text))


def test_long_texts_are_read_in_parts() -> None:
    read: list[str] = []

    class Reader:
        def find(self, texts: Sequence[str]) -> Any:
            read.extend(texts)
            return ([(0, 1, "PER", 0.5)] for _ in texts)

    text = "word " * PART
    (findings,) = find_names(Reader(), [text], frozenset({"PERSON"})).values()
    assert "".join(read) == text
    assert max(map(len, read)) <= PART
    assert [one.start for one in findings] == [sum(map(len, read[:place])) for place in range(len(read))]


def test_surrogates_leave_names_as_placeholders(english: str) -> None:
    options = RedactOptions(model=english, replace="surrogate")
    records = batch({"messages": [message("user", "Max: 212-867-5309")]})
    (row,) = write_surrogates(records, redact_records(records, options).records, options, Keys("salt")).to_pylist()
    assert row["messages"][0]["content"].startswith("<PERSON_1>: +1 ")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("spacy:en_core_web_none", "python -m spacy download en_core_web_none"),
        ("gliner:some/model", "pip install gliner"),
        ("transformers:some/model", "pip install transformers"),
        ("no/such/folder", "no folder of a spaCy, GLiNER or transformers model"),
        ("flair:x", "no folder of a spaCy, GLiNER or transformers model"),
    ],
)
def test_what_is_missing_is_told_before_any_work(
    model: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelMissing, match=says):
        check_model(model)
    logs = write_lines(tmp_path / "logs.jsonl", [chat("hello", "yes")])
    run = ("run", "--input", logs, "--output", tmp_path / "out", "--set", f"redact.model={model}")
    assert mill(*run) == 2
    assert says.split(" <")[0] in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("broken", "can't load"),
        ("blank", "finds names"),
        ("colours", "finds BLUE, RED, none of which is a name"),
        ("spacy", "is a library; write which model of it, as spacy:NAME"),
        ("{english: spacy:x}", "'english' is no language; write two small letters"),
        ("true", "write spacy:NAME"),
    ],
)
def test_a_model_that_can_find_no_names_is_refused(
    kind: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / kind
    if kind == "broken":
        folder.mkdir()
        (folder / "config.cfg").write_text("nonsense")
    elif kind == "blank":
        spacy.blank("en").to_disk(folder)
    elif kind == "colours":
        make_model(folder, "en", RED=["rose"], BLUE=["sky"])
    logs = write_lines(tmp_path / "logs.jsonl", [chat("hello", "yes")])
    model = folder if folder.exists() else kind
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", f"redact.model={model}") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert says in said
    assert "bug" not in said
    assert not (tmp_path / "out" / "CURRENT").exists()


def test_labels_of_other_models_are_known(tmp_path: Path) -> None:
    labels = {"B-PER": ["Max"], "FIRSTNAME": ["Ada"], "SURNAME": ["Lovelace"], "street_address": ["12 Main Street"]}
    options = RedactOptions(model=str(make_model(tmp_path / "m", "en", **labels)))
    assert said(options, "Max, Ada, Lovelace, 12 Main Street") == ["<PERSON_1>, <PERSON_2>, <PERSON_3>, <LOCATION_1>"]


class _Moody:
    """Fails on some texts, and says of others what can't be."""

    def find(self, texts: Sequence[str]) -> Iterator[Any]:
        for text in texts:
            if "raise" in text:
                raise KeyError(text)
            if "silence" not in text:
                start = text.index("Max")
                yield {"beyond": [(start, 99, "PER", 0.9)], "none": [(start, start + 3, None, 0.9)],
                       "float": [(0.0, 3.0, "PER", 0.9)], "nothing": None}.get(text.split()[-1],
                      [(start, start + 3, "PER", 0.9)])  # fmt: skip


@pytest.mark.parametrize("how", ["raise", "silence", "beyond", "none", "float", "nothing"])
def test_a_model_that_fails_on_a_text_costs_one_record(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_loaded", lambda _: _Moody())
    records = batch(
        {"messages": [message("user", "ask Max")]},
        {"messages": [message("user", f"ask Max {how}")]},
        {"messages": [message("user", "see Max")]},
    )
    rows = redact_records(records, RedactOptions(model=f"spacy:{how}")).records.to_pylist()
    assert [row["reasons"] for row in rows] == [[], ["redaction_failed"], []]
    assert [row["messages"] and row["messages"][0]["content"] for row in rows] == [
        "ask <PERSON_1>", None, "see <PERSON_1>"
    ]  # fmt: skip


def test_an_input_whose_name_the_model_fails_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(named, "_loaded", lambda _: _Moody())
    monkeypatch.setattr(named, "check_models", lambda _: None)
    logs = write_lines(tmp_path / "silence-Max.jsonl", [chat("hello", "yes")])
    assert mill("run", "--input", logs, "--output", tmp_path / "out", "--set", "redact.model=spacy:moody") == 2
    err = capsys.readouterr().err
    assert "the name of an input" in err
    assert "silence" not in err


def test_an_empty_mapping_is_refused() -> None:
    with pytest.raises(ValidationError, match="names no model"):
        Config.model_validate({"redact": {"model": {}}})


def test_a_folder_says_which_library_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert library_of(str(tmp_path)) == ("transformers", str(tmp_path))
    (tmp_path / "gliner_config.json").write_text("{}")
    assert library_of(str(tmp_path)) == ("gliner", str(tmp_path))


# The libraries themselves are heavy and not installed: stand-ins with their interfaces.


def _spans(text: str) -> list[dict[str, Any]]:
    start = text.index("Max")
    return [{"start": start, "end": start + 3, "label": "person", "entity_group": "PER", "score": 0.9}]


class _Gliner:
    @classmethod
    def from_pretrained(cls, name: str, *, local_files_only: bool) -> _Gliner:
        assert name == "here"
        assert local_files_only
        return cls()

    def to(self, device: str) -> _Gliner:
        assert device == "cpu"
        return self

    def batch_predict_entities(self, texts: list[str], labels: list[str]) -> list[list[dict[str, Any]]]:
        assert len(texts) == 1
        assert "person" in labels
        return [_spans(text) for text in texts]


class _Pipeline:
    model = types.SimpleNamespace(config=types.SimpleNamespace(id2label={0: "O", 1: "B-PER", 2: "I-PER"}))

    def __call__(self, texts: Sequence[str], *, batch_size: int) -> list[Any]:
        return [_spans(text) for text in texts if batch_size == 1]


def _pipeline(task: str, *, model: str, aggregation_strategy: str, device: str) -> Any:
    assert (task, model, aggregation_strategy, device) == ("token-classification", "here", "simple", "cpu")
    return _Pipeline()


@pytest.mark.parametrize("library", ["gliner", "transformers"])
def test_other_libraries_are_spoken_to_in_their_terms(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    module = types.ModuleType(library)
    module.__spec__ = types.SimpleNamespace(name=library)  # type: ignore[assignment]
    vars(module).update(GLiNER=_Gliner, pipeline=_pipeline)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, library, module)
    assert said(RedactOptions(model=f"{library}:here"), "ask Max") == ["ask <PERSON_1>"]
