"""Personal data by Presidio's recognizers, in bounded windows, without a model and without the network.

`Analyzer.find` is Presidio's own AnalyzerEngine over a registry that the options choose. Around it:

* gates: a recognizer is skipped where a text lacks what each of its matches must hold (an `@`, enough digits);
* windows: a text above `WINDOW` characters is analysed in pieces cut at white space that overlap by `MARGIN`, and
  e-mail addresses, phone numbers and URLs only around what starts them, so that hostile shapes stay linear.

With `exact` neither is done. Presidio's time-out of a pattern raises RedactionTimeout instead of letting text pass.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import re2
import regex
from presidio_analyzer import (
    AnalysisExplanation,
    AnalyzerEngine,
    EntityRecognizer,
    PatternRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import NlpArtifacts

from transforms.options import CustomRecognizer, RedactOptions
from transforms.placeholders import Finding, RedactionTimeout, Words
from transforms.policy import (
    PolicyEnhancer,
    RegexTokenizer,
    check_entities,
    curated_recognizers,
    default_entities,
    known_entities,
    placeholder_entities,
    presidio_recognizers,
)

__all__ = ["Analyzer", "RedactionTimeout", "check_entities", "known_entities", "placeholder_entities"]

WINDOW = 4096  # characters of a text that are analysed at once
MARGIN = 512  # characters by which windows overlap, on each side: no finding but a URL is longer

Spans = list[tuple[int, int]]


# ------------------------------------------------------------------------------------------------ bounds

_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"\d(?:(?:[^\w\n]|[_xX\u30fc]){0,12}\d){3,}")
_HEX_GROUPS = re.compile(r"(?i)[0-9a-f]{2}[:-][0-9a-f]{2}[:-]|[0-9a-f]{4}\.[0-9a-f]{4}\.")
_ALNUM_RUN = re.compile(r"(?i)[a-z0-9\u0130\u0131\u017f\u212a]{26}")
_DIGITS_AT_LEAST = {
    "PHONE_NUMBER": 4,
    "CREDIT_CARD": 12,
    "IBAN_CODE": 2,
    "US_SSN": 9,
    "US_ITIN": 9,
    "US_BANK_NUMBER": 8,
    "US_DRIVER_LICENSE": 1,
    "US_PASSPORT": 8,
    "US_MBI": 5,
    "US_NPI": 10,
    "ABA_ROUTING_NUMBER": 9,
    "MEDICAL_LICENSE": 7,
    "UK_NHS": 10,
    "UK_NINO": 6,
    "UK_DRIVING_LICENCE": 5,
    "UK_PASSPORT": 7,
}


def _may_fire(entity: str, text: str, digits: int) -> bool:
    """False only where no match of the recognizer for `entity` can be in `text`, which holds `digits` digits."""
    least = _DIGITS_AT_LEAST.get(entity)
    if least is not None:
        return digits >= least
    if entity == "EMAIL_ADDRESS":
        return "@" in text
    if entity == "IP_ADDRESS":
        return "::" in text or text.count(":") >= 6 or (digits >= 4 and text.count(".") >= 3)
    if entity == "MAC_ADDRESS":
        return _HEX_GROUPS.search(text) is not None
    if entity == "CRYPTO":
        return _ALNUM_RUN.search(text) is not None
    return True


def _wanting(recognizer: EntityRecognizer, options: RedactOptions) -> tuple[str, ...]:
    """The first words of the context that lifts the recognizer's matches to the threshold, if nothing else can."""
    if not isinstance(recognizer, PatternRecognizer) or not recognizer.context:
        return ()
    checked = type(recognizer).validate_result is not PatternRecognizer.validate_result
    if checked or any(pattern.score >= options.threshold for pattern in recognizer.patterns):
        return ()
    return tuple(dict.fromkeys(words.lower().split()[0] for words in recognizer.context))


def _around(text: str, marks: Iterable[tuple[int, int]], left: int, right: int, blank: bool) -> Spans:
    """Regions of `text` around `marks`, at most `left` and `right` characters further, merged where they touch.

    With `blank` a region ends at white space before that.
    """
    regions: Spans = []
    for start, end in marks:
        first, last = max(0, start - left), min(len(text), end + right)
        if blank:
            before = [match.end() for match in _SPACE.finditer(text, first, start)]
            after = _SPACE.search(text, end, last)
            first = before[-1] if before else first
            last = after.start() if after else last
        if regions and first <= regions[-1][1]:
            regions[-1] = (regions[-1][0], max(last, regions[-1][1]))
        else:
            regions.append((first, last))
    return regions


_SPACE = regex.compile(r"\s")  # Presidio's engine: without U+001C to U+001F, which `re` takes for space
_AT = re.compile("@+")
_WORD = regex.compile(r"\S+")
_MOST_DOTS = 64


def _email_regions(text: str) -> Spans:
    """An address has at most 64 characters before its `@` and 255 after it (RFC 5321, 4.5.3.1)."""
    return _around(text, (match.span() for match in _AT.finditer(text)), 320, 320, True)


def _phone_regions(text: str) -> Spans:
    """No phone number crosses a line, nor a dozen characters without a digit, nor a letter but x and U+30FC."""
    return _around(text, (match.span() for match in _RUN.finditer(text)), 24, 32, False)


def _url_regions(text: str) -> Spans:
    return [match.span() for match in _WORD.finditer(text) if "." in match.group()]


def _bounded(recognizer: EntityRecognizer) -> None:
    """Makes the recognizers whose time is more than linear look only where a match may be."""
    entity = recognizer.supported_entities[0]
    regions = {"EMAIL_ADDRESS": _email_regions, "PHONE_NUMBER": _phone_regions, "URL": _url_regions}.get(entity)
    if regions is not None:
        recognizer.analyze = functools.partial(_analyze_regions, recognizer, recognizer.analyze, regions)


def _analyze_regions(
    recognizer: EntityRecognizer,
    analyze: Callable[..., list[Any]],
    regions: Callable[[str], Spans],
    text: str,
    entities: list[str],
    nlp_artifacts: NlpArtifacts | None = None,
) -> list[Any]:
    found = []
    for start, end in regions(text):
        part = text[start:end]
        if recognizer.supported_entities[0] == "URL" and part.count(".") > _MOST_DOTS:
            found.append(_whole(recognizer, start, end))  # too long to look into: all of it goes
            continue
        for result in analyze(part, entities, nlp_artifacts):
            result.start += start
            result.end += start
            found.append(result)
    return found


def _whole(recognizer: EntityRecognizer, start: int, end: int) -> Any:
    metadata = {"recognizer_name": recognizer.name, "recognizer_identifier": recognizer.id}
    return RecognizerResult(
        recognizer.supported_entities[0],
        start,
        end,
        0.6,
        AnalysisExplanation(recognizer.name, 0.6),
        metadata,
    )


def _windows(text: str) -> Spans:
    """Pieces of at most `WINDOW` characters and a margin on each side, cut at white space where there is any."""
    if len(text) <= WINDOW + MARGIN:
        return [(0, len(text))]
    windows = []
    for start in range(0, len(text), WINDOW):
        first, last = max(0, start - MARGIN), min(len(text), start + WINDOW + MARGIN)
        if first > 0:
            blank = _SPACE.search(text, first, first + MARGIN // 2)
            first = blank.end() if blank else first
        if last < len(text):
            blank = _SPACE.search(text, last - MARGIN // 2, last)
            last = blank.start() if blank else last
        windows.append((first, last))
    return windows


class _Custom:
    """A recognizer of the user's own, on RE2, over whole texts."""

    def __init__(self, custom: CustomRecognizer) -> None:
        self._entity, self._score = custom.name, custom.score
        self._words = Words(custom.deny, whole=True, ignore_case=True) if custom.deny else None
        self._pattern = re2.compile(custom.pattern or "")

    def find(self, text: str) -> Iterator[Finding]:
        if self._words is not None:
            spans = self._words.spans(text)
        else:
            spans = (match.span() for match in self._pattern.finditer(text))
        return (Finding(start, end, self._entity, self._score) for start, end in spans if end > start)


_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30fb\u30fd-\u30ff\u3400-\u9fff\uac00-\ud7ff\U00020000-\U0003ffff]"
    "|(?<![0-9])\u30fc|\u30fc(?![0-9])"
)


def _separated(text: str) -> str:
    """`text` with a mark for each letter of a script that puts no space between words, at the same places.

    Presidio's patterns want a word to begin and end where a value does, and there none does:

    >>> _separated("卡号4111111111111111。")
    '。。4111111111111111。'
    """
    return text if text.isascii() else _UNSPACED.sub("\u3002", text)


class Analyzer:
    """Finds personal data. Built once a worker: about a second, and no network."""

    def __init__(self, options: RedactOptions) -> None:
        check_entities(options)
        _silence()
        _raise_on_timeout()
        self._options = options
        wanted = options.entities if isinstance(options.entities, tuple) else None
        if options.entities == "presidio":
            recognizers, enhancer = presidio_recognizers(), None
        else:
            recognizers = curated_recognizers(default_entities(options) if wanted is None else wanted, options)
            enhancer = PolicyEnhancer()
        if not options.exact:
            for recognizer in recognizers:
                _bounded(recognizer)
        self._wanting = {one.supported_entities[0]: words for one in recognizers if (words := _wanting(one, options))}
        self._entities = tuple(dict.fromkeys(one.supported_entities[0] for one in recognizers))
        self._custom = [_Custom(one) for one in options.custom if wanted is None or one.name in wanted]
        self._tokenizer = RegexTokenizer()
        self._engine = (
            AnalyzerEngine(RecognizerRegistry(recognizers), self._tokenizer, context_aware_enhancer=enhancer)
            if recognizers
            else None
        )

    def find(self, text: str) -> list[Finding]:
        """All findings at or above the threshold, in no order; they may overlap. Raises RedactionTimeout."""
        found = [one for custom in self._custom for one in custom.find(text) if one.score >= self._options.threshold]
        text = _separated(text)
        if self._engine is None:
            return found
        if self._options.exact:
            return found + self._analyze(text, 0, list(self._entities))
        for start, end in _windows(text):
            part = text[start:end]
            digits = sum(1 for _ in _DIGIT.finditer(part))
            lowered = part.lower()
            entities = [
                entity
                for entity in self._entities
                if _may_fire(entity, part, digits)
                and (entity not in self._wanting or any(word in lowered for word in self._wanting[entity]))
            ]
            if entities:
                found += self._analyze(part, start, entities)
        return found

    def _analyze(self, text: str, offset: int, entities: list[str]) -> list[Finding]:
        assert self._engine is not None
        try:
            results = self._engine.analyze(text, "en", entities, score_threshold=self._options.threshold)
        except TimeoutError:
            raise RedactionTimeout("a recognizer's pattern timed out") from None
        return [Finding(one.start + offset, one.end + offset, one.entity_type, one.score) for one in results]


def _silence() -> None:
    """Presidio's and tldextract's log messages may quote the text: none goes anywhere."""
    for name in ("presidio-analyzer", "decision_process", "tldextract", "phonenumbers"):
        logger = logging.getLogger(name)
        if not any(isinstance(one, _Mute) for one in logger.filters):
            logger.addFilter(_Mute())


class _Mute(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return False


class _NeverRaisedError(Exception):
    """What Presidio's modules catch in place of TimeoutError."""


@functools.cache
def _raise_on_timeout() -> None:
    """Presidio catches a pattern's TimeoutError, logs it and lets the text pass: takes that from it.

    Each of its modules that knows the time-out says `except TimeoutError`; a name of the module's own stands before
    the built-in one, and the error goes through.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("presidio_analyzer") and hasattr(module, "REGEX_TIMEOUT_SECONDS"):
            vars(module)["TimeoutError"] = _NeverRaisedError
