"""Presidio, imported without spaCy, kept silent, and with its time-outs raised.

Import Presidio's names from here, or after this module. Presidio imports spaCy (two seconds, 100 MB) for the language
models that Corpusmill does not run through it; while it is imported here, modules that hold nothing stand in for
spaCy's, and are gone afterwards, so that whoever wants spaCy gets the real one.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any


class _Empty(type):
    """A class any attribute of which makes decorators that change nothing, as spaCy's registry does."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda decorated: decorated


class _Nothing(ModuleType):
    """A module all of whose names are empty classes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Empty(name, (), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


_LEFT_OUT = ("spacy", "thinc")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname.partition(".")[0] not in _LEFT_OUT:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Nothing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextlib.contextmanager
def _without_spacy() -> Iterator[None]:
    if "spacy" in sys.modules:
        yield
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Nothing)]:
            del sys.modules[name]


with _without_spacy():
    import presidio_analyzer
    from presidio_analyzer import EntityRecognizer, Pattern, PatternRecognizer, RecognizerResult, predefined_recognizers
    from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

__all__ = [
    "ContextAwareEnhancer",
    "EntityRecognizer",
    "NlpArtifacts",
    "NlpEngine",
    "Pattern",
    "PatternRecognizer",
    "RecognizerRegistryProvider",
    "RecognizerResult",
    "predefined_recognizers",
    "presidio_analyzer",
]


class _Mute(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return False


class _NeverRaisedError(Exception):
    """What Presidio's modules catch in place of TimeoutError."""


def _silence() -> None:
    """Presidio's and tldextract's log messages may quote the text: none goes anywhere."""
    for name in ("presidio-analyzer", "decision_process", "tldextract", "phonenumbers"):
        logging.getLogger(name).addFilter(_Mute())
        logging.getLogger(name).disabled = True


def _raise_on_timeout() -> None:
    """Presidio catches a pattern's TimeoutError, logs it and lets the text pass: takes that from it.

    Each of its modules that knows the time-out says `except TimeoutError`; a name of the module's own stands before
    the built-in one, and the error goes through.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("presidio_analyzer") and hasattr(module, "REGEX_TIMEOUT_SECONDS"):
            vars(module)["TimeoutError"] = _NeverRaisedError


_silence()
_raise_on_timeout()
