"""Names and addresses: findings of a model that the user has, beside those of patterns.

`redact.model` names it: `spacy:NAME`, `gliner:NAME`, `transformers:NAME`, or a path to a model's folder, whose files
say which of them it is. NAME is what that library loads: an installed package, a path, or a model it has downloaded
before. With several, by language, a conversation goes to that of its metadata's `language` or `lang`, else to the
first. Nothing is downloaded here: `HF_HUB_OFFLINE` is set before a model is loaded.

The libraries are not installed with Corpusmill. On a CPU texts go through the model one at a time, so that what is
found in a text does not depend on what else is in the batch; on a GPU they go in batches, sorted by length, and
rounding may differ with the batch: there the same bytes are not promised.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from transforms.options import RedactOptions
from transforms.placeholders import Finding

GPU_BATCH = 32  # texts
PART = 2000  # characters of a text that a model reads at once, cut at white space
SCORE = 0.85  # of what a model that gives no score finds

_LIBRARIES = {"spacy": "spacy", "gliner": "gliner", "transformers": "transformers"}
_FILES = {"gliner_config.json": "gliner", "config.cfg": "spacy", "config.json": "transformers"}
_LABELS = {"PERSON": "person", "LOCATION": "address", "ORGANIZATION": "organization"}  # what GLiNER is asked for
_ENTITIES = {
    **dict.fromkeys(("PERSON", "PER", "PERSON NAME", "NAME", "FULLNAME"), "PERSON"),
    **dict.fromkeys(("FIRSTNAME", "MIDDLENAME", "LASTNAME", "GIVENNAME", "SURNAME"), "PERSON"),
    **dict.fromkeys(("FIRST NAME", "MIDDLE NAME", "LAST NAME", "GIVEN NAME", "FULL NAME"), "PERSON"),
    **dict.fromkeys(("GPE", "LOC", "FAC", "LOCATION", "ADDRESS", "STREET ADDRESS", "CITY"), "LOCATION"),
    **dict.fromkeys(("STREET", "STREETADDRESS", "BUILDINGNUMBER", "BUILDINGNUM", "SECONDARYADDRESS"), "LOCATION"),
    **dict.fromkeys(("ZIPCODE", "POSTCODE", "COUNTY", "STATE"), "LOCATION"),
    **dict.fromkeys(("ORG", "ORGANIZATION", "ORGANISATION"), "ORGANIZATION"),
    **dict.fromkeys(("NORP", "NRP"), "NRP"),
}
_POSITION = re.compile("^[BIELSU]-")  # of a token within what is found, before its label
MODEL_ENTITIES = frozenset(_ENTITIES.values())
DEFAULT_ENTITIES = ("PERSON", "LOCATION")  # companies and groups are no personal data of themselves

Found = list[tuple[int, int, str, float]]  # start, end, label, score


class ModelFailed(RuntimeError):
    """The model read a text in vain, or said of it what can't be. Holds no content."""


class ModelMissing(ValueError):
    """The model, or the library it needs, is not here. Says what to install."""


class Model(Protocol):
    """A loaded model. `labels`: all that it may give to what it finds; none where that is not known."""

    labels: frozenset[str]

    def find(self, texts: Sequence[str]) -> Iterator[Found]:
        """What it finds in each text."""


_KEPT = 100_000  # texts whose findings are remembered


class NamedFinder:
    """Findings of the models of a config: texts are added, then read at once, then asked for one by one."""

    def __init__(self, options: RedactOptions) -> None:
        models = options.model if isinstance(options.model, tuple) else (("", options.model or ""),)
        self._models = {language: _loaded(name) for language, name in models}
        self._default = models[0][0]
        chosen = options.entities if isinstance(options.entities, tuple) else DEFAULT_ENTITIES
        self._entities = frozenset(chosen)
        self._spoken = self._default
        self._unread: dict[str, set[str]] = {language: set() for language in self._models}
        self._found: dict[tuple[str, str], list[Finding] | None] = {}

    def add(self, texts: Iterable[str], language: str | None) -> None:
        """Remembers texts to read, of a conversation in `language`."""
        spoken = self._language(language)
        self._unread[spoken].update(text for text in texts if text and (spoken, text) not in self._found)

    def read(self) -> None:
        """Lets the models read what was added."""
        if len(self._found) > _KEPT:
            self._found.clear()
        for language, texts in self._unread.items():
            found = find_names(self._models[language], texts, self._entities)
            self._found.update({(language, text): findings for text, findings in found.items()})
            texts.clear()

    def speak(self, language: str | None) -> None:
        """Sets the language of the texts that are asked for next."""
        self._spoken = self._language(language)

    def found(self, text: str) -> list[Finding]:
        """What was found in a text that was read; nothing in any other. Raises ModelFailed."""
        found = self._found.get((self._spoken, text), [])
        if found is None:
            raise ModelFailed("the model failed on a text")
        return found

    def _language(self, language: str | None) -> str:
        return language if language in self._models else self._default


def language_of(metadata: str | None) -> str | None:
    """The language that a record's metadata (JSON) says it is in: the first two letters of `language` or `lang`."""
    if not metadata or '"lang' not in metadata:
        return None
    values = orjson.loads(metadata)
    language = values.get("language") or values.get("lang")
    return language[:2].lower() if isinstance(language, str) else None


def find_names(model: Model, texts: Iterable[str], entities: frozenset[str]) -> Mapping[str, list[Finding] | None]:
    """The findings in each distinct text, by text, None where the model fails on it; a label that is no known entity type
    is none."""
    ordered = sorted(set(texts), key=_by_length)
    try:
        return _find(model, ordered, entities)
    except MemoryError:
        raise
    except Exception:  # whatever a library raises: the texts by themselves, so that one costs the others nothing
        return {text: _alone(model, text, entities) for text in ordered}


def _alone(model: Model, text: str, entities: frozenset[str]) -> list[Finding] | None:
    try:
        return _find(model, [text], entities)[text]
    except MemoryError:
        raise
    except Exception:
        return None


def _find(model: Model, texts: Sequence[str], entities: frozenset[str]) -> dict[str, list[Finding]]:
    """Raises whatever the model does, or ValueError where what it says is no place in a text."""
    found: dict[str, list[Finding]] = {text: [] for text in texts}
    parts = [(text, start, end) for text in texts for start, end in _parts(text)]
    results = model.find([text[start:end] for text, start, end in parts])
    for (text, offset, size), spans in zip(parts, results, strict=True):
        for start, end, label, score in spans:
            if not 0 <= operator.index(start) <= operator.index(end) <= size - offset:
                raise ValueError("a model's span is not within its text")
            entity = _entity(label)
            first, last = _trimmed(text, offset + start, offset + end)
            if entity in entities and first < last:
                found[text].append(Finding(first, last, entity, round(score, 2)))
    return found


def _entity(label: str) -> str | None:
    """The entity type that a model's label stands for, if it is known."""
    return _ENTITIES.get(_POSITION.sub("", label.upper()).replace("_", " "))


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Spans of at most `PART` characters that end at white space where there is any in their second half."""
    start = 0
    while start < len(text):
        end = min(len(text), start + PART)
        if end < len(text):
            blank = max(text.rfind(" ", start + PART // 2, end), text.rfind("\n", start + PART // 2, end))
            end = blank + 1 if blank > 0 else end
        yield start, end
        start = end


# ------------------------------------------------------------------------------------------- which model


def library_of(model: str) -> tuple[str, str]:
    """The library and the name or path that it loads. Raises ModelMissing where it can't be told."""
    library, colon, name = model.partition(":")
    if library in _LIBRARIES:
        if not name:
            raise ModelMissing(f"redact.model: {model!r} is a library; write which model of it, as {library}:NAME")
        return library, name
    folder = Path(model)
    for file, library in _FILES.items():
        if (folder / file).is_file():
            return library, model
    if not colon and importlib.util.find_spec("spacy") and _is_spacy_package(model):
        return "spacy", model
    raise ModelMissing(
        f"redact.model: {model!r} is no folder of a spaCy, GLiNER or transformers model, and no installed spaCy "
        "package; write spacy:NAME, gliner:NAME, transformers:NAME or the path of a folder"
    )


def _is_spacy_package(name: str) -> bool:
    import spacy.util

    return bool(spacy.util.is_package(name))


def check_model(model: str) -> None:
    """Raises ModelMissing, with what to install, unless the library of `model` is here, and spaCy's package or folder."""
    library, name = library_of(model)
    if importlib.util.find_spec(_LIBRARIES[library]) is None:
        raise ModelMissing(f"redact.model: {model!r} needs {library}; install it: pip install {library}")
    if library == "spacy" and not Path(name).exists() and not _is_spacy_package(name):
        raise ModelMissing(
            f"redact.model: spaCy's model {name!r} is not installed; install it: python -m spacy download {name}"
        )


def check_models(options: RedactOptions) -> None:
    """The same for every model of a config."""
    for _, model in options.model if isinstance(options.model, tuple) else (("", options.model or ""),):
        check_model(model)


@functools.lru_cache(maxsize=4)
def _loaded(model: str) -> Model:
    check_model(model)
    library, name = library_of(model)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    adapter: Any = {"spacy": _Spacy, "gliner": _Gliner, "transformers": _Transformers}[library]
    try:
        loaded: Model = adapter(name)
        labels = sorted(loaded.labels)
    except (MemoryError, ModelMissing):
        raise
    except Exception as error:  # torch and its like raise what they will
        raise ModelMissing(
            f"redact.model: {library} can't load {name!r} ({type(error).__name__}); is it downloaded, and complete?"
        ) from None
    if labels and not any(map(_entity, labels)):
        raise ModelMissing(
            f"redact.model: {name!r} finds {', '.join(labels[:8])}, none of which is a name or an address here; "
            f"known: {', '.join(sorted(_ENTITIES))}"
        )
    return loaded


# ------------------------------------------------------------------------------------------- the libraries


class _Spacy:
    def __init__(self, name: str) -> None:
        spacy: Any = importlib.import_module("spacy")
        self._batch = GPU_BATCH if spacy.prefer_gpu() else 1
        self._pipeline = spacy.load(name)
        self.labels = self._labels()

    def _labels(self) -> frozenset[str]:
        """Of the components that set entities. Raises ModelMissing where there is none of these."""
        finding = [one for one in self._pipeline.pipe_names if "doc.ents" in self._pipeline.get_pipe_meta(one).assigns]
        if not finding:
            raise ModelMissing("redact.model: no component of this spaCy pipeline finds names: name one with `ner`")
        labels = [getattr(self._pipeline.get_pipe(one), "labels", None) for one in finding]
        return frozenset(label for some in labels for label in some or ()) if all(labels) else frozenset()

    def find(self, texts: Sequence[str]) -> Iterator[Found]:
        for read in self._pipeline.pipe(texts, batch_size=self._batch):
            yield [(one.start_char, one.end_char, one.label_, SCORE) for one in read.ents]


class _Gliner:
    def __init__(self, name: str) -> None:
        gliner = importlib.import_module("gliner")
        self._device = _torch_device()
        self._model = gliner.GLiNER.from_pretrained(name, local_files_only=True).to(self._device)
        self._labels = [_LABELS[entity] for entity in sorted(_LABELS)]
        self.labels = frozenset(self._labels)

    def find(self, texts: Sequence[str]) -> Iterator[Found]:
        size = 1 if self._device == "cpu" else GPU_BATCH
        for start in range(0, len(texts), size):
            for spans in self._model.batch_predict_entities(list(texts[start : start + size]), self._labels):
                yield [(one["start"], one["end"], one["label"], float(one["score"])) for one in spans]


class _Transformers:
    def __init__(self, name: str) -> None:
        transformers = importlib.import_module("transformers")
        device = _torch_device()
        self._batch = 1 if device == "cpu" else GPU_BATCH
        self._pipeline = transformers.pipeline(
            "token-classification", model=name, aggregation_strategy="simple", device=device
        )
        self.labels = frozenset(self._pipeline.model.config.id2label.values()) - {"O"}

    def find(self, texts: Sequence[str]) -> Iterator[Found]:
        for spans in self._pipeline(list(texts), batch_size=self._batch) if texts else ():
            yield [(one["start"], one["end"], one["entity_group"], float(one["score"])) for one in spans]


def _torch_device() -> str:
    torch: Any = importlib.import_module("torch")
    return "cuda" if torch.cuda.is_available() else "cpu"
