"""Personal data by Presidio's recognizers, without a model and without the network.

`Analyzer.find` finds what Presidio's own AnalyzerEngine finds over a registry that the options choose, in less time:

* the gate tells which patterns could match anywhere in a text (see `gate`), and only these are looked for;
* a pattern that says the same to RE2 is looked for by RE2 in ASCII texts, in linear time;
* a pattern that only context lifts to the threshold is looked for where one of its context words occurs;
* phone numbers are looked for by `phones`, e-mail addresses and URLs in the words that may hold one.

    text ──gate──► sources that may fire ──► results ──context──► scores ──threshold──► findings

With `exact` the AnalyzerEngine itself runs on every text: the oracle of the above. A recognizer of a kind that is not
known here runs as it is, on every text. Presidio's time-out of a pattern raises RedactionTimeout instead of letting
text pass.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import re2
import regex

from transforms.gate import Gate, Source
from transforms.linear import linear, spans
from transforms.options import CustomRecognizer, RedactOptions
from transforms.phones import PhoneFinder, phone_patterns
from transforms.placeholders import UNSPACED, Finding, RedactionTimeout, Words, are_apart, spelled_patterns
from transforms.policy import (
    ALONE,
    CONTEXT_ONLY,
    DOUBTED,
    Iban,
    LocalTokens,
    PhoneNumbers,
    PolicyEnhancer,
    RegexTokenizer,
    check_entities,
    context_of,
    curated_recognizers,
    default_entities,
    ibans_in,
    judge_all,
    known_entities,
    placeholder_entities,
    presidio_recognizers,
)
from transforms.presidio import presidio_analyzer as presidio
from transforms.relax import Unknown, holds_digits, reach, relax, same_in_re2, within_words

__all__ = ["Analyzer", "RedactionTimeout", "check_entities", "known_entities", "placeholder_entities"]

_TIMEOUT = 60  # seconds a pattern may take for one text: Presidio's own limit
_LONG_NUMBER = 8  # digits that many patterns share, of which context words tell more: one expression, faster to scan
_LONGEST_ADDRESS = 1024  # characters of a word with an `@` in it that is looked through whole
_MOST_DOTS = 64  # dots of a word above which it is no URL that is worth the quadratic time of looking into it

Spans = list[tuple[int, int]]


# ------------------------------------------------------------------------------------------------ recognizers


class _Compiled:
    """A pattern of Presidio's, for the engine that finds the same in the least time."""

    def __init__(self, recognizer: Any, pattern: Any) -> None:
        flags = int(recognizer.global_regex_flags)
        self._plain = regex.compile(pattern.regex, flags)
        self._fast = self._near = None
        if same_in_re2(pattern.regex, flags):
            self._fast = linear(pattern.regex, flags)
        else:
            self._near, self._around, self._beside = _candidates(pattern.regex, flags)
        self._regions = _REGIONS.get(recognizer.supported_entities[0])
        self.score = pattern.score

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        if self._fast is not None and text.isascii():
            return spans(self._fast, text.encode())
        if self._regions is not None:
            return self._in_regions(text, self._regions(text))
        return (match.span() for match in self.matches(text))

    def matches(self, text: str) -> Iterable[Any]:
        """With their groups."""
        near = self._windowed(text) if self._near is not None and text.isascii() else None
        return self._plain.finditer(text, timeout=_TIMEOUT) if near is None else near

    def _in_regions(self, text: str, regions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for start, end in regions:
            if end < 0:
                yield start, -end
                continue
            for match in self._plain.finditer(text[start:end], timeout=_TIMEOUT):
                yield match.start() + start, match.end() + start

    def _windowed(self, text: str) -> list[Any] | None:
        """The matches in what lies around candidates; None where the whole text has to be looked through.

        Whatever matches holds a candidate, so it lies within its reach, and does not come near a window's border.
        """
        around, beside = self._around, self._beside
        windows: list[list[int]] = []
        candidates = list(itertools.islice(spans(self._near, text.encode()), _MOST_CANDIDATES))
        if len(candidates) == _MOST_CANDIDATES:
            return None
        for start, end in candidates:
            first, last = max(0, start - around), min(len(text), end + around)
            if windows and first <= windows[-1][1]:
                windows[-1][1] = last
            else:
                windows.append([first, last])
        found = []
        for first, last in windows:
            for match in self._plain.finditer(text, first, last, timeout=_TIMEOUT):
                start, end = match.span()
                if (first and start < first + beside) or (last < len(text) and end > last - beside):
                    return None
                found.append(match)
        return found


_MOST_CANDIDATES = 12  # above these a text is looked through whole: each costs as much as a hundred characters


def _candidates(pattern: str, flags: int) -> tuple[Any, int, int]:
    """What finds places in ASCII texts that matches of the pattern lie around (None: nothing does).

    And how many characters around a place may belong to a match, and how many beside a match decide of it.
    """
    far = reach(pattern, flags)
    try:
        relaxed = relax(pattern, flags, only_ascii=True)
    except Unknown:
        relaxed = None
    if relaxed and far is not None:
        return linear(relaxed), far.longest + far.beside + 2, far.beside  # an edge may be a character beside the match
    if relaxed and within_words(pattern, flags):
        return linear(rf"\S*(?:{relaxed})\S*"), 0, 0  # all of the words that a match may lie in
    return None, 0, 0


_SPACE = regex.compile(r"\s")  # Presidio's engine: without U+001C to U+001F, which `re` takes for space
_WORD = regex.compile(r"\S+")


# What an address holds before and after its `@`, by the pattern of Presidio's: a match lies within both.
_LOCAL = regex.compile(r"(?r)[!#$%&'*+\-/=?^_`{|}~\.\w]+")
_DOMAIN = regex.compile(r"@(?:\w++(?:-++\w++)*+\.\w)[\w.\-]*+")


def _email_regions(text: str) -> Iterator[tuple[int, int]]:
    """The words with an `@`; of long ones what may be part of an address, so that none is tried from each of its characters."""
    for word in _WORD.finditer(text):
        if "@" not in word.group():
            continue
        start, end = word.span()
        if end - start <= _LONGEST_ADDRESS:
            yield start, end
        else:
            yield from _addresses(text, start, end)


def _addresses(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What surrounds each `@` between `start` and `end` that a match may hold, together where it overlaps.

    Where there is a domain and the local part does not end in a full stop, a match begins with the first word of that.
    """
    first = last = start
    for domain in _DOMAIN.finditer(text, start, end):
        local = _LOCAL.match(text, start, domain.start())
        if local is None or text[domain.start() - 1] == ".":
            continue
        if local.start() >= last:
            if last > first:
                yield first, last
            first = local.start()
        last = domain.end()
    if last > first:
        yield first, last


def _url_regions(text: str) -> Iterator[tuple[int, int]]:
    """The words with a dot in them; the end of one with too many is negative: all of it goes."""
    for word in _WORD.finditer(text):
        dots = word.group().count(".")
        if dots:
            yield word.start(), word.end() if dots <= _MOST_DOTS else -word.end()


_REGIONS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "EMAIL_ADDRESS": _email_regions,
    "URL": _url_regions,
}


class _Recognizer:
    """Presidio's recognizer, run on some of its patterns."""

    def __init__(self, recognizer: Any, threshold: float, policy: bool) -> None:
        self.recognizer = recognizer
        self.entity = recognizer.supported_entities[0]
        self._left_alone = policy and threshold > ALONE and self.entity in CONTEXT_ONLY
        self._metadata = {"recognizer_name": recognizer.name, "recognizer_identifier": recognizer.id}
        self._threshold = threshold
        analyze = type(recognizer).analyze
        self.by_pattern = analyze is presidio.PatternRecognizer.analyze
        self._compiled = [_Compiled(recognizer, one) for one in recognizer.patterns] if self.by_pattern else []
        in_groups = analyze in (presidio.predefined_recognizers.IbanRecognizer.analyze, Iban.analyze)
        self._in_groups = [_Compiled(recognizer, one) for one in recognizer.patterns] if in_groups else []
        self._phones: Callable[[str], list[tuple[int, int]]] | None = None
        if isinstance(recognizer, PhoneNumbers):
            recognizer.matched = PhoneFinder(recognizer.supported_regions).spans
            self._phones = recognizer.spans
        elif analyze is presidio.predefined_recognizers.PhoneRecognizer.analyze and recognizer.leniency == 1:
            self._phones = PhoneFinder(recognizer.supported_regions).spans
        self._validate, self._invalidate = (
            _check(recognizer, name) for name in ("validate_result", "invalidate_result")
        )
        self.context = context_of(tuple(recognizer.context or ()))

    def sources(self) -> list[Source]:
        """A source a pattern; one in all where the recognizer is switched as a whole."""
        if self.by_pattern:
            return list(map(self._source, self.recognizer.patterns))
        if self._in_groups:
            flags = int(self.recognizer.global_regex_flags)
            return [Source(tuple((one.regex, flags) for one in self.recognizer.patterns))]
        if self._phones is not None:
            quick, closer = phone_patterns(self.recognizer.supported_regions)
            return [Source(((quick, 0),), closer=((closer, 0),))]
        return [Source(())]

    def _source(self, pattern: Any) -> Source:
        words = self._wanting(pattern)
        held = getattr(self.recognizer, "HOLDS", pattern.regex)  # by each finding; rarer than what the pattern matches
        if words and holds_digits(held, _LONG_NUMBER):
            return Source(((rf"\d{{{_LONG_NUMBER}}}", 0),), words)
        return Source(((held, int(self.recognizer.global_regex_flags)),), words)

    def _wanting(self, pattern: Any) -> tuple[str, ...]:
        """The first words of the context that lifts the pattern's matches to the threshold, if nothing else can."""
        valid = 1.0 if self._validate is not None else 0.0
        if not all(one < self._threshold or (self._left_alone and one >= DOUBTED) for one in (pattern.score, valid)):
            return ()
        # What has no context is never lifted, but runs all the same: rare, and no reason for a third kind of source.
        return tuple(dict.fromkeys(words.lower().split()[0] for words in self.recognizer.context or ()))

    def findings(self, text: str, patterns: Sequence[int]) -> list[Finding]:
        """What `analyze` returns, less the findings of the patterns left out; context has not been looked at."""
        if self._phones is not None:
            score = self.recognizer.SCORE
            found = [Finding(start, end, self.entity, score) for start, end in dict.fromkeys(self._phones(text))]
            return found if isinstance(self.recognizer, PhoneNumbers) else _distinct(found)
        if self._in_groups:
            return list(self._ibans(text))
        if self.by_pattern and len(patterns) == 1:  # its matches are apart
            return list(self._matches(text, self._compiled[patterns[0]]))
        if self.by_pattern:
            return _distinct([one for index in patterns for one in self._matches(text, self._compiled[index])])
        return self._analyzed(text)

    def _matches(self, text: str, compiled: _Compiled) -> Iterator[Finding]:
        validate, invalidate = self._validate, self._invalidate
        for start, end in compiled.spans(text):
            value = text[start:end]
            valid = None if validate is None else validate(value)
            score = compiled.score if valid is None else float(bool(valid))
            if score > 0.0 and (invalidate is None or not invalidate(value)):
                yield Finding(start, end, self.entity, score)

    def _ibans(self, text: str) -> Iterator[Finding]:
        """What the recognizer of IBANs finds, where the last groups of a match may be none of the number."""
        if not text.isascii():
            yield from self._analyzed(text)
            return
        heads = ibans_in(text)
        taken = []
        for match in (one for compiled in self._in_groups for one in compiled.matches(text)) if heads else ():
            start = match.start()
            ends = [match.end(group) for group in range(match.re.groups, 0, -1)] if start in heads else ()
            for end in dict.fromkeys(ends):
                valid = end - start in heads[start] and self.recognizer.validate_result(text[start:end])
                if valid is not False:
                    taken.append((start, end))
                    yield Finding(start, end, self.entity, self._in_groups[0].score if valid is None else 1.0)
                    break
        if isinstance(self.recognizer, Iban):
            for start, end in self.recognizer.beyond(text, taken, heads):
                yield Finding(start, end, self.entity, 1.0)

    def _analyzed(self, text: str) -> list[Finding]:
        return [_finding(one) for one in self.recognizer.analyze(text, [self.entity], None)]

    def result(self, finding: Finding) -> Any:
        """The finding as Presidio writes it."""
        explanation = presidio.AnalysisExplanation(self.recognizer.name, finding.score)
        return presidio.RecognizerResult(*_place(finding), finding.score, explanation, self._metadata)


def _check(recognizer: Any, name: str) -> Callable[[str], bool | None] | None:
    """The recognizer's own check of that name; None where it has none, and Presidio's says nothing."""
    check: Callable[[str], bool | None] | None = getattr(recognizer, name, None)
    return None if getattr(check, "__func__", None) is getattr(presidio.PatternRecognizer, name) else check


class _Run(NamedTuple):
    """A recognizer, by its place, with the patterns of it to run; a custom one without."""

    recognizer: int
    patterns: tuple[int, ...]


class _Custom:
    """A recognizer of the user's own, on RE2, over whole texts."""

    def __init__(self, custom: CustomRecognizer) -> None:
        self._entity, self._score = custom.name, custom.score
        self._custom = custom
        self._words = Words(custom.deny, whole=True, spelled=True) if custom.deny else None
        self._pattern = re2.compile(custom.pattern or "")

    def source(self) -> Source:
        if self._custom.deny:
            patterns = (one for word in self._custom.deny for one in spelled_patterns(word))
            return Source(tuple((pattern, re.IGNORECASE) for pattern in patterns))
        return Source(((self._custom.pattern or "", 0),))

    def find(self, text: str) -> Iterator[Finding]:
        if self._words is not None:
            spans = self._words.spans(text)
        else:
            spans = (match.span() for match in self._pattern.finditer(text))
        return (Finding(start, end, self._entity, self._score) for start, end in spans if end > start)


def _distinct(findings: list[Finding]) -> list[Finding]:
    """The findings without those that others of their type contain, as Presidio tells them, in no order."""
    ordered = sorted(findings)
    if are_apart(ordered) and all(one.score for one in ordered):
        return ordered
    reach: dict[str, int] = {}
    distinct: list[Finding] = []
    for one in ordered:
        if distinct and one == distinct[-1]:
            continue
        if one.score == 0 or one.start < reach.get(one.entity, 0):
            results = [presidio.RecognizerResult(*_place(one), one.score) for one in sorted(set(findings))]
            return [_finding(one) for one in presidio.EntityRecognizer.remove_duplicates(results)]
        reach[one.entity] = one.end
        distinct.append(one)
    return distinct


def _place(finding: Finding) -> tuple[str, int, int]:
    return finding.entity, finding.start, finding.end


def _finding(result: Any) -> Finding:
    return Finding(result.start, result.end, result.entity_type, result.score)


_UNSPACED = re.compile(rf"[{UNSPACED}]|(?<![0-9])\u30fc|\u30fc(?![0-9])")


def _separated(text: str) -> str:
    """`text` with a mark for each letter of a script that puts no space between words, at the same places.

    Presidio's patterns want a word to begin and end where a value does, and there none does:

    >>> _separated("卡号4111111111111111。")
    '。。4111111111111111。'
    """
    return text if text.isascii() else _UNSPACED.sub("\u3002", text)


class Analyzer:
    """Finds personal data. Built once a worker; no network."""

    def __init__(self, options: RedactOptions) -> None:
        check_entities(options)
        self._options = options
        wanted = options.entities if isinstance(options.entities, tuple) else None
        if options.entities == "presidio":
            recognizers, enhancer = presidio_recognizers(), presidio.LemmaContextAwareEnhancer()
        else:
            recognizers = curated_recognizers(default_entities(options) if wanted is None else wanted, options)
            enhancer = PolicyEnhancer()
        self._custom = [
            _Custom(one)
            for one in options.custom
            if (wanted is None or one.name in wanted) and one.score >= options.threshold
        ]
        self._enhancer = enhancer
        self._tokenizer = RegexTokenizer()
        self._engine = _engine(recognizers, self._tokenizer, enhancer) if options.exact and recognizers else None
        self._entities = list(dict.fromkeys(one.supported_entities[0] for one in recognizers))
        policy = isinstance(enhancer, PolicyEnhancer)
        self._known = [] if options.exact else [_Recognizer(one, options.threshold, policy) for one in recognizers]
        self.sources: list[Source] = []
        self._parts: list[tuple[int, int]] = []  # of each source: the recognizer, and which of its patterns
        for index, known in enumerate(self._known):
            sources = known.sources()
            self.sources += sources
            self._parts += [(index, pattern) for pattern in range(len(sources))]
        self.sources += [Source(()) if options.exact else one.source() for one in self._custom]
        if options.exact and recognizers:
            self.sources.append(Source(()))

    @functools.cached_property
    def _gate(self) -> Gate:
        return Gate(self.sources)

    def find(self, text: str) -> list[Finding]:
        """All findings at or above the threshold, in no order; they may overlap. Raises RedactionTimeout."""
        return self.find_all({text: 0 if self._options.exact else self._gate.scan_str(text)})[text]

    def find_all(self, fired: Mapping[str, int]) -> dict[str, list[Finding]]:
        """The findings of each text: recognizer by recognizer, whose automata stay in the processor's cache.

        With the texts, the bits of `sources` that a gate set for each, or for a text around it.
        """
        if self._options.exact:
            return {text: self._exactly(text) for text in fired}
        found: dict[str, list[Finding]] = {text: [] for text in fired}
        running: dict[_Run, list[str]] = {}
        separated: dict[str, str] = {}
        for text, bits in fired.items():
            runs = self._runs(bits & self._mask)
            if runs:
                separated[text] = _separated(text)
            for run in runs:
                running.setdefault(run, []).append(text)
        results: dict[str, list[tuple[_Recognizer, Finding]]] = {}
        try:
            for (index, patterns), texts in running.items():
                if patterns:
                    known = self._known[index]
                    for text in texts:
                        if seen := known.findings(separated[text], patterns):
                            results.setdefault(text, []).extend((known, one) for one in seen)
                else:
                    for text in texts:
                        found[text] += self._custom[index].find(text)
        except TimeoutError:
            raise RedactionTimeout("a recognizer's pattern timed out") from None
        for text, some in results.items():
            found[text] += self._judged(separated[text], some)
        return found

    @functools.cached_property
    def _mask(self) -> int:
        return (1 << len(self.sources)) - 1

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (lives as long as its worker)
    def _runs(self, fired: int) -> tuple[_Run, ...]:
        """The recognizers to run, each with the patterns to run, and the custom ones."""
        patterns: dict[int, list[int]] = {}
        for number, (index, pattern) in enumerate(self._parts):
            if fired >> number & 1:
                patterns.setdefault(index, []).append(pattern)
        custom = [
            _Run(number - len(self._parts), ())
            for number in range(len(self._parts), len(self.sources))
            if fired >> number & 1
        ]
        return (*(_Run(index, tuple(chosen)) for index, chosen in patterns.items()), *custom)

    def _judged(self, text: str, found: Sequence[tuple[_Recognizer, Finding]]) -> list[Finding]:
        """The findings that reach the threshold where they stand."""
        if isinstance(self._enhancer, PolicyEnhancer):
            tokens = LocalTokens(text)
            judged = judge_all(((one, known.context) for known, one in found), text, tokens)
        else:
            results, recognizers = [known.result(one) for known, one in found], [known.recognizer for known, _ in found]
            artifacts = self._tokenizer.process_text(text, "en")
            enhanced = self._enhancer.enhance_using_context(text, results, artifacts, recognizers, None)
            judged = list(map(_finding, enhanced))
        return _distinct([one for one in judged if one.score > 0.0 and one.score >= self._options.threshold])

    def _exactly(self, text: str) -> list[Finding]:
        """What Presidio's own engine finds, and the custom recognizers."""
        found = [one for custom in self._custom for one in custom.find(text)]
        return found + (self._analyze(_separated(text)) if self._engine is not None else [])

    def _analyze(self, text: str) -> list[Finding]:
        assert self._engine is not None
        try:
            results = self._engine.analyze(text, "en", self._entities, score_threshold=self._options.threshold)
        except TimeoutError:
            raise RedactionTimeout("a recognizer's pattern timed out") from None
        return list(map(_finding, results))


def _engine(recognizers: list[Any], tokenizer: RegexTokenizer, enhancer: Any) -> Any:
    registry = presidio.RecognizerRegistry(recognizers)
    return presidio.AnalyzerEngine(registry, tokenizer, context_aware_enhancer=enhancer)
