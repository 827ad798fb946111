"""What counts as personal data: entity types, the recognizers for them, context words and vetoes.

The default policy is Presidio's pattern recognizers without a model, better at chat: whole-word context in place of
Presidio's substrings, phone numbers told from lists, decimals and order numbers, cards from no network left, bare
numbers that pass a short checksum by chance left unless a word before them says what they are.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import inspect
import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import phonenumbers
import tldextract
from numpy.typing import NDArray
from phonenumbers.phonenumberutil import UNKNOWN_REGION

from transforms.mistaken import (
    has_unit,
    is_counted,
    is_dated,
    is_decimal,
    is_in_row,
    is_longer,
    is_of_cloud,
    is_of_work,
    is_sum,
    is_version,
    is_within_uuid,
)
from transforms.named import MODEL_ENTITIES
from transforms.options import RedactOptions
from transforms.phones import fewest_digits, longest_written, phone_windows, valid_number
from transforms.placeholders import IPV4, Finding, interface
from transforms.presidio import (
    ContextAwareEnhancer,
    EntityRecognizer,
    NlpArtifacts,
    NlpEngine,
    Pattern,
    PatternRecognizer,
    RecognizerRegistryProvider,
    RecognizerResult,
    predefined_recognizers,
)
from transforms.secrets import SECRET_ENTITIES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@functools.cache
def _recognizer_classes() -> dict[str, type[Any]]:
    """Presidio's recognizers that need no model or service, by entity type."""
    classes: dict[str, type[Any]] = {}
    for name in sorted(vars(predefined_recognizers)):
        one: Any = getattr(predefined_recognizers, name)
        phone = one is predefined_recognizers.PhoneRecognizer
        if phone or (inspect.isclass(one) and issubclass(one, PatternRecognizer)):
            classes.setdefault(one().supported_entities[0], one)
    return classes


def known_entities(options: RedactOptions) -> frozenset[str]:
    """The names that `entities` may list: Presidio's pattern recognizers of all countries, custom ones, a model's."""
    names = frozenset(_recognizer_classes()) | {custom.name for custom in options.custom}
    return names if options.model is None else names | MODEL_ENTITIES


def check_entities(options: RedactOptions) -> None:
    """Raises ValueError for an entity type that nothing recognizes, naming the near misses."""
    if isinstance(options.entities, str):
        return
    known = known_entities(options)
    for name in options.entities:
        if name in known:
            continue
        if name in SECRET_ENTITIES:
            raise ValueError(f"redact.entities: {name!r} is a secret; secrets are switched by redact.secrets")
        if name in MODEL_ENTITIES:
            raise ValueError(f"redact.entities: {name!r} is found by a model only; name one in redact.model")
        near = _near_names(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}"
        raise ValueError(f"redact.entities: {name!r} is no entity type; {hint}")


def nearest_entity(name: str) -> str:
    """The entity type that a name may stand for; EMAIL_ADDRESS where none is near."""
    return next(iter(_near_names(name, _recognizer_classes())), "EMAIL_ADDRESS")


def _near_names(name: str, known: Iterable[str]) -> list[str]:
    """The likest first; those that begin with the name before all."""
    upper = name.upper()
    begun = sorted(one for one in known if one.startswith(f"{upper}_"))
    return list(dict.fromkeys([*begun, *get_close_matches(upper, sorted(known), n=3, cutoff=0.5)]))[:3]


def placeholder_entities(options: RedactOptions) -> frozenset[str]:
    """Every type that a placeholder may have, whatever the options switch on."""
    return known_entities(options) | SECRET_ENTITIES | MODEL_ENTITIES | {"CUSTOM"}


_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")
_STOP_WORDS = _words(
    "a an the is are was were be been my your our his her their its i you he she it we they of for to in on at and or "
    "this that these those as with by from has have had"
)


_LEMMAS = 41  # tokens looked at for context, the one that a value lies in included
_NEAR = (48, 96, 300)  # characters before a value in which they are looked for first
_OFTEN = 8  # a text's characters over those that may be looked at for some places, before all its words are listed


class LocalTokens:
    """The words before a place in a text, without those of the rest of it; all of them once many places are asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._left = max(len(text) // _OFTEN, _NEAR[-1])
        self._numbers = (0, 0, 0)  # some in a row: where they start, where enough are passed, where they end

    def words_before(self, start: int) -> Sequence[str]:
        """As `_last_words` of the tokens up to the one that `start` lies in; none where all are numbers: they say nothing."""
        if self._among_numbers(start):
            return ()
        for reach in _NEAR:
            if self._left <= 0:
                break
            self._left -= reach
            words, whole = self._near(start, reach)
            if whole or len(words) > _BEFORE:
                return words
        starts, words, counts = self._whole
        index = bisect.bisect_right(starts, start)
        last = counts[index]
        return words[max(last - _MOST, counts[max(0, index - _LEMMAS)]) : last]

    def _among_numbers(self, start: int) -> bool:
        """Nothing but numbers is looked at for `start`; numbers in a row are read once for all places among them."""
        first, reached, end = self._numbers
        if not first <= start < end:
            match = _NUMBERS.match(self.text, max(0, start - _NEAR[0]))
            if match is None:
                return False
            self._numbers = first, reached, end = match.start(), match.end(1), match.end()
        return reached <= start < end

    def _near(self, start: int, reach: int) -> tuple[Sequence[str], bool]:
        """The words within `reach` characters before `start`, and whether there are no more to look at."""
        text = self.text
        first = max(0, start - reach)
        while first and first < start and text[first].isalnum():
            first += 1
        end = _LETTERS.match(text, start, start + reach).end()  # type: ignore[union-attr]
        if (first and first == start) or end == start + reach:
            return (), False
        words, many = _words_of(text[first : max(end, start + 1)])
        return words, not first or many

    @functools.cached_property
    def _whole(self) -> tuple[list[int], tuple[str, ...], list[int]]:
        """Where the tokens start; the lemmas that are words; how many of these are among so many tokens."""
        # No match a token, and no token a mark: that many objects take three times as long.
        kinds = _kinds(self.text)
        words = kinds == _WORD
        begin = words.copy()
        begin[1:] &= ~words[:-1]
        starts = np.flatnonzero(begin | (kinds == _MARK))
        lemmas = list(map(str.lower, _A_WORD.findall(self.text)))
        said = [lemma not in _STOP_WORDS for lemma in lemmas]
        counts = np.zeros(len(starts) + 1, np.int64)
        counts[1:][words[starts]] = said
        return starts.tolist(), tuple(itertools.compress(lemmas, said)), np.cumsum(counts).tolist()


_WORD, _MARK = 1, 2
_A_WORD, _IS_SPACE = re.compile(r"[^\W_]+"), re.compile(r"\s")


def _kinds(text: str) -> NDArray[np.uint8]:
    """uint8[N]: what each character of the text is: part of a word, a mark, or (0) white space."""
    kinds = np.zeros(ord(max(text, default="\0")) + 1, np.uint8)
    for one in set(text):
        kinds[ord(one)] = _WORD if one.isalnum() else 0 if _IS_SPACE.match(one) else _MARK
    codes = text.encode("utf-32-le", "surrogatepass")
    return kinds[np.frombuffer(codes, np.uint32)]


_LETTERS = re.compile(r"[^\W_]*")
_BEFORE = 5  # words of context
_MOST = _BEFORE + 1  # words looked at: they, and the one that a value lies in
_NUMBER = r"[\W_]++\d++(?![^\W_])"
_NUMBERS = re.compile(rf"[^\W_]{{0,{_NEAR[0]}}}+((?:{_NUMBER}){{{_MOST}}})(?:{_NUMBER})*+[\W_]*+")  # a word may be cut


def _last_words(tokens: Sequence[str]) -> tuple[str, ...]:
    """At most `_MOST` of the last tokens as lemmas, stop words and marks passed over."""
    words: list[str] = []
    for token in reversed(tokens):
        lemma = token.lower()
        if lemma[0].isalnum() and lemma not in _STOP_WORDS:
            words.append(lemma)
            if len(words) == _MOST:
                break
    return tuple(reversed(words))


@functools.lru_cache(maxsize=4096)
def _words_of(text: str) -> tuple[tuple[str, ...], bool]:
    """The `_last_words` of a text, and whether it has more than `_LEMMAS` tokens."""
    tokens = _TOKEN.findall(text)
    return _last_words(tokens[-_LEMMAS:]), len(tokens) > _LEMMAS


def _words_before(artifacts: NlpArtifacts | LocalTokens, start: int) -> Sequence[str]:
    """The words before `start`, and the one it lies in."""
    if isinstance(artifacts, LocalTokens):
        return artifacts.words_before(start)
    index = bisect.bisect_right(artifacts.tokens_indices, start) - 1
    return _last_words(artifacts.lemmas[max(0, index - _LEMMAS + 1) : index + 1])


class RegexTokenizer(NlpEngine):  # type: ignore[misc]
    """Words and marks as tokens, lower-cased text as lemmas: enough for context words, without a model."""

    def load(self) -> None:
        """Nothing to load."""

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        matches = list(_TOKEN.finditer(text))
        tokens = [match.group() for match in matches]
        lemmas = [token.lower() for token in tokens]
        starts = [match.start() for match in matches]
        artifacts = NlpArtifacts([], tokens, starts, lemmas, None, language)
        artifacts.keywords = frozenset(lemma for lemma in lemmas if not self.is_punct(lemma, language))
        return artifacts

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: Any
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        del batch_size, n_process
        return ((text, self.process_text(text, language)) for text in texts)

    def is_stopword(self, word: str, language: str) -> bool:
        del language
        return word.lower() in _STOP_WORDS

    def is_punct(self, word: str, language: str) -> bool:
        del language
        return not word[:1].isalnum()

    def get_supported_entities(self) -> list[str]:
        return []

    def get_supported_languages(self) -> list[str]:
        return ["en"]


# Context words in place of Presidio's own, which fire on ordinary prose ("check", "save", "us", "document").
_CONTEXT = {
    "US_BANK_NUMBER": ("account", "acct", "bank", "banking", "debit", "checking", "savings"),
    "US_DRIVER_LICENSE": ("license", "licence", "lic", "permit", "driving", "dl", "dls", "cdl", "cdls"),
    "US_PASSPORT": ("passport",),
    "US_SSN": ("social security", "ssn", "social", "ssid"),
    "MEDICAL_LICENSE": ("medical", "certificate", "dea", "prescriber", "physician"),
    "UK_NHS": ("nhs", "national health service", "health", "patient", "medical"),
    "PHONE_NUMBER": (
        *("phone", "telephone", "tel", "cell", "cellphone", "mobile", "call", "text", "sms", "whatsapp", "dial"),
        *("fax", "ring", "reach", "contact", "landline", "hotline", "helpline", "ph", "caller", "callerid", "msisdn"),
    ),
}

# Words for the identifiers of countries, beside Presidio's own; not for those of companies and vehicles.
_NOBODYS = ("AU_ACN", "TR_LICENSE_PLATE")
_IDENTITY = ("id", "identity", "identification", "national", "tax", "personal", "citizen", "resident", "social")

# Words that say what the number after them is: what stands before them is no context of it.
_OTHER = _words(
    "order invoice ticket tracking parcel shipment sku item product version build commit epoch timestamp receipt isbn "
    "ean upc serial part batch lot row line page port size seed price cost population decimal chapter sum "
    "closes fixes resolves"
)
_SUM = re.compile(r"[+*/<>^%] ?\Z|\d ?= ?\Z")  # reckoning before a number
_DECIMAL = re.compile(r"\d[.,]\Z")

# Words before a bare number that say it is something else.
_NO_PHONE = _words(
    "order invoice ticket case ref reference id tracking parcel shipment sku item product version build commit epoch "
    "timestamp ts receipt po isbn ean upc serial model part batch lot row line page pid port bytes byte size seed "
    "transaction request session job issue token tokens count counts seeds orders ids total amount price cost usd eur gbp population decimal pi account acct bank "
    "routing aba passport heap memory mem rss limit offset length duration uptime gtin kundennummer customer revenue"
)
_FIELD = re.compile(r"([A-Za-z]\w*)[\\\"']{0,8}\s?[:=]\s?[\\\"']{0,8}\Z")  # before a bare number: `"heapSizeLimit": `
_OF_FIELD = re.compile("(?<=[a-z0-9])(?=[A-Z])|_")
_LINK = 10  # characters at the end of a match of `_FIELD`, of which one is its `:` or `=`
# Right before sixteen digits in a row, words that say they are no card; and those that may stand between.
_NO_CARD = _words(
    "order invoice ticket case ref reference tracking parcel shipment consignment sku item product build commit epoch "
    "timestamp receipt po isbn ean upc serial part batch lot row line page session job issue request barcode imei claim "
    "policy contract booking reservation confirmation voucher coupon waybill awb container docket document doc file record "
    "asset device meter model uid guid hash checksum digest return rma delivery quote quotation requisition incident"
)
_NUMBERED = _words("number numbers no nr num id code")
# Before numbers with dots, on their line: they are no address.
_NO_ADDRESS = re.compile(
    r"(?i)(?:(?:\b|_|(?-i:(?<=[a-z])(?=[A-Z])))(?:version|ver|(?<!\s-)(?<!\s-s)v|release|build|firmware|rev|revision|oid|object ?identifier)s?\b(?:[:=#. ]+(?:is|was|now|number|no|notes|for|to|of|the)\b)*"
    r"|\b(?:section|chapter|clause|paragraph|article|appendix|exhibit|requirement)s?(?: (?:no|number|nr)\b)?|§)"
    r"[\"'`]?[.:=#(>]? ?[\"'`]?(?:[0-9.]+(?:,? (?:and|or|to|through) |, ?| ?[-–] ?))*\Z"
)
# `nginx/1.25.3.1`, `Chrome/124.0.0.0`: a product's name and version (RFC 9110, 10.1.5), but for what names a host.
_PRODUCT = re.compile(
    r"(?<![\w/.:@\-])(?!(?i:ip|ipv4|tcp|udp|icmp|http|host|server|addr|address|net|subnet|src|dst|source|from|to|client|dns|via)/)"
    r"[A-Za-z][\w.+\-]{1,40}/\Z"
)
_AT_PORT = re.compile(r":[0-9]")  # `kafka/10.1.2.3:9092`, as Java writes addresses
_PAIRS = re.compile(
    "[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*"
)  # a fingerprint's, eight of which have the shape of an IPv6 address
_PAIR_BEFORE, _PAIR_AFTER = (
    re.compile(r"(?<![^\W_])[0-9A-Fa-f]{2}[:\-]\Z"),
    re.compile(r"[:\-][0-9A-Fa-f]{2}(?![^\W_])"),
)
_NAMING = re.compile("v|oid|ele|bu|mw|ct|hap|lau|agr|cle|pp|xh|qu|§")  # each of these words in small letters holds one
_REACH = 48  # characters before them that are looked at
# Say nothing without context, whatever their shape: their checks pass for many random numbers, or all.
CONTEXT_ONLY = (
    *("US_NPI", "ABA_ROUTING_NUMBER", "KR_DRIVER_LICENSE", "ZA_TRAFFIC_REGISTER_NUMBER", "ZA_INCOME_TAX_NUMBER"),
    *("ZA_VAT_NUMBER", "IT_VAT_CODE", "AU_ACN", "TR_LICENSE_PLATE", "CA_SIN", "PH_TIN"),
)
_RARE = ("PL_PESEL", "TR_NATIONAL_ID", "AU_ABN", "SE_PERSONNUMMER", "DE_TAX_ID")  # at most 2 % of random numbers pass
DOUBTED, ALONE = 0.4, 0.05  # the least score that is lowered without context, and what it is lowered to
_ID_DIGITS = 12  # bare numbers shorter than this pass a checksum by chance too often to stand without context


class PolicyEnhancer(ContextAwareEnhancer):  # type: ignore[misc]
    """Presidio's context enhancement with whole words and phrases, and the vetoes of the default policy."""

    def __init__(self) -> None:
        super().__init__(0.35, 0.4, _BEFORE, 0)

    def enhance_using_context(
        self,
        text: str,
        raw_results: list[Any],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[Any]:
        del context
        by_id = {recognizer.id: recognizer for recognizer in recognizers}
        found = []
        for result in raw_results:
            recognizer = by_id[result.recognition_metadata["recognizer_identifier"]]
            finding = Finding(result.start, result.end, result.entity_type, result.score)
            found.append((finding, context_of(tuple(recognizer.context or ()))))
        for result, judged in zip(raw_results, judge_all(found, text, nlp_artifacts), strict=True):
            result.start, result.score = judged.start, judged.score
        return [result for result in raw_results if result.score > 0.0]


_NAMED_BY = 3  # words, the number itself included, of which one must name what a doubtful phone number is
_SURE = ("EMAIL_ADDRESS", "IBAN_CODE", "CRYPTO")  # once their checks are passed: no word before them tells otherwise


def judge_all(
    found: Iterable[tuple[Finding, Context]], text: str, artifacts: NlpArtifacts | LocalTokens
) -> list[Finding]:
    """Findings, each with its recognizer's context, as `judge` has them.

    What adjoins a phone number is no part of a sum or decimal with it where that is a value itself; so a number that is
    left for what it adjoins is judged again without the values beside it.
    """
    found = list(found)
    judged = [judge(one, text, artifacts, context) for one, context in found]
    lost = [place for place, (one, _) in enumerate(found) if one.entity == "PHONE_NUMBER" and not judged[place].score]
    if not lost or len(lost) == len(found):
        return judged
    lost.sort(key=lambda place: found[place][0])
    kept = [one for one in judged if one.score >= DOUBTED]
    starts, ends = {one.start for one in kept}, {one.end for one in kept}
    for again in (lost, lost[::-1], lost):  # a number that is found tells of those on either side
        for place in again:
            one, context = found[place]
            first = next((at for at in range(one.start, one.start - _BESIDE, -1) if at in ends), 0)
            last = next((at for at in range(one.end, one.end + _BESIDE) if at in starts), len(text))
            if judged[place].score or (not first and last == len(text)):
                continue
            judged[place] = judge(one, text, artifacts, context, (first, last))
            if judged[place].score:
                starts.add(one.start)
                ends.add(one.end)
    return judged


_BESIDE = 4  # characters beside a number in which another is one that it adjoins


def judge(
    finding: Finding,
    text: str,
    artifacts: NlpArtifacts | LocalTokens,
    context: Context,
    within: tuple[int, int] | None = None,
) -> Finding:
    """The finding with its score where it stands: 0 where the policy takes it for something else.

    Of an e-mail address what is none of it goes, as the path of a URL in which it is a value. Of what adjoins a phone
    number only that `within` is looked at.
    """
    if finding.entity == "EMAIL_ADDRESS":
        finding = _judge_address(finding, text)
    if finding.score >= 1.0 and finding.entity in _SURE:
        return finding
    if finding.entity == "MAC_ADDRESS" and _is_in_pairs(finding, text):
        return finding._replace(score=0.0)
    words = _words_before(artifacts, finding.start)
    if finding.entity == "CREDIT_CARD":
        score = _judge_card(finding, text, words, bool(words) and _supported(words, context))
    else:
        words = _after_other(words) if words else words
        near = words
        if finding.entity == "PHONE_NUMBER" and finding.score < DOUBTED:  # only what names it tells what it is
            near = words[-_NAMED_BY:] if _NO_PHONE.isdisjoint(words[-2:-1]) or words[-2] == "id" else ()
        supported = (bool(near) and _supported(near, context)) or _is_named(finding, text, context)
        score = _judge(finding, text, words, supported, within or (0, len(text)))
    return finding if score == finding.score else Finding(*finding[:3], score)


def _is_named(finding: Finding, text: str, context: Context) -> bool:
    """A field whose name runs words together, an element, or what is said right after a number is context for it too."""
    start, end, entity = finding[:3]
    if not (_is_national(entity) or entity in CONTEXT_ONLY):
        return False
    named = _field_before(text, start)
    if not named and text[start - 1 : start] in _CLOSERS:
        named = _ELEMENT.search(text, max(0, start - _REACH), start)
    if named and _supported(_A_WORD.findall(_OF_FIELD.sub(" ", named[named.lastindex or 1]).lower()), context):
        return True
    said = _SAID_AFTER.match(text, end)
    return said is not None and _supported(_A_WORD.findall(said[1].lower()), context)


def _is_in_pairs(finding: Finding, text: str) -> bool:
    """More pairs adjoin six of them than an address has."""
    start, end = finding.start, finding.end
    return _PAIR_BEFORE.search(text, max(0, start - 4), start) is not None or _PAIR_AFTER.match(text, end) is not None


def _field_before(text: str, start: int) -> re.Match[str] | None:
    """The name of a field right before a place, if one is: few places have one, which is quickly seen."""
    link = text[max(0, start - _LINK) : start]
    return _FIELD.search(text, max(0, start - _REACH), start) if ":" in link or "=" in link else None


_CLOSERS = frozenset(">(\"'")
_ELEMENT = re.compile(r"(?:<(?=[A-Za-z])([\w.\-]{1,60})>|[sS]et_?([A-Za-z]\w{1,40})\([\"']?)\Z")  # `<ssn>`, `setSsn("`
_SAID_AFTER = re.compile(
    r"[\"'`*]{0,3} ?(?:\(|(?:is|was|as) (?:my|the|his|her|their|our|your) )([A-Za-z](?:[A-Za-z]|['’ ](?=[A-Za-z])){1,40})"
)


def _judge_address(finding: Finding, text: str) -> Finding:
    start, end = finding.start, finding.end
    if text.startswith("git@", start) and _REPOSITORY.match(text, end):
        return finding._replace(score=0.0)
    before = _NO_ADDRESSEE.match(text, start, text.index("@", start, end))
    return finding._replace(start=before.end()) if before else finding


_REPOSITORY = re.compile(r":[\w~./-]|/\w")  # git@example.com:path, ssh://git@example.com/path
# Before an address, what its pattern takes for a part of it: a URL to a value of its query, a path, a name of a field.
_NO_ADDRESSEE = re.compile(
    r"(?:.*[?&][^=?&]*=|.*[?/]"
    r"|(?i:(?:[\w.\-]{0,32}[._\-])?(?:e-?mail|mail|user|username|login|address|to|from|cc|bcc|owner|contact)=))(?=[^/?&=])"
)


class Context(NamedTuple):
    """Words and phrases that say what stands after them."""

    words: frozenset[str]
    phrases: tuple[str, ...]
    heads: frozenset[str]  # the first words of the phrases


@functools.cache
def context_of(context: tuple[str, ...]) -> Context:
    """The words and phrases of a recognizer's context."""
    plain = [word.lower().strip() for word in context]
    phrases = [word for word in plain if not word.isalnum()]
    return Context(
        frozenset(word for word in plain if word.isalnum()),
        tuple(f" {phrase} " for phrase in phrases),
        frozenset(phrase.partition(" ")[0] for phrase in phrases),
    )


def _supported(words: Sequence[str], context: Context) -> bool:
    """A word or phrase of the context stands among the words, or among them without the `s` that they end with."""
    if not context.words.isdisjoint(words):
        return True
    ending = [word[:-1] for word in words if word[-1] == "s"]
    if not context.words.isdisjoint(ending):
        return True
    if context.heads.isdisjoint(words) and context.heads.isdisjoint(ending):
        return False
    singular = [word.removesuffix("s") for word in words]
    phrases = f" {' '.join(words)} | {' '.join(singular)} "
    return any(phrase in phrases for phrase in context.phrases)


def _after_other(words: Sequence[str]) -> Sequence[str]:
    """The words without those before, and in, the last that names something else (`bank … order 123`)."""
    if _OTHER.isdisjoint(words):
        return words
    cut = max((place for place, word in enumerate(words[:-1]) if word in _OTHER), default=-1)
    return words[cut:] if cut >= 0 else words


def _judge(finding: Finding, text: str, words: Sequence[str], supported: bool, within: tuple[int, int]) -> float:
    start, end, entity, score, _ = finding
    last = words[-4:-1]
    if entity == "IP_ADDRESS":
        first = max(0, start - _REACH)
        named = _NAMING.search(text[first:start].lower()) and _NO_ADDRESS.search(text, first, start)
        product = (
            text[start - 1 : start] == "/" and not _AT_PORT.match(text, end) and _PRODUCT.search(text, first, start)
        )
        if named or product:
            return 0.0
        if (":" not in text[start:end] and is_longer(text, start, end)) or is_version(text, first, start):
            return 0.0
        return 0.0 if _PAIRS.fullmatch(text, start, end) else _lifted(score, supported)
    value = text[start:end]
    if is_within_uuid(text, start, end):
        return 0.0
    if entity == "MAC_ADDRESS":
        return _lifted(score, supported)
    before, after = text[max(within[0], start - 4) : start], text[end : min(within[1], end + 3)]
    if entity == "PHONE_NUMBER":
        if not _is_phone(value, before, after, last, supported) or (not supported and is_of_work(text, start)):
            return 0.0
        other = not supported and value.isdigit() and (_is_other_field(text, start) or is_counted(text, start, end))
        return 0.0 if other else _lifted(score, supported)
    if entity == "MEDICAL_LICENSE" and not supported:
        return 0.0 if value.islower() else min(score, 0.4)  # one number in ten passes
    if entity == "US_BANK_NUMBER" and is_of_cloud(text, start, end, words):
        return 0.0
    if entity in _COUNTED and value.isdigit() and _NAMES_IT.isdisjoint(words[-2:-1]) and has_unit(text, end):
        return 0.0
    national = _is_national(entity)
    if national and is_decimal(value, before):
        return 0.0
    if entity in _BY_SHAPE and not supported and is_in_row(value, before, after):
        return 0.0
    if national and not supported and score >= DOUBTED:
        if entity in CONTEXT_ONLY or (value.isdigit() and len(value) < _ID_DIGITS and entity not in _RARE):
            return ALONE
        if entity == "UK_NHS":
            return 0.4 if _NHS_PHONE.fullmatch(value) else ALONE  # as a phone number of its shape
    if national and value.isdigit() and not supported and (_DECIMAL.search(before) or _SUM.search(before)):
        return 0.0  # a decimal's fraction, or part of a sum
    if entity == "US_DRIVER_LICENSE" and _ALGORITHM.fullmatch(value):
        return 0.0
    return _lifted(score, supported)


_NAMES_IT = frozenset(("account", "acct", "number", "no", "routing", "aba", "license", "licence", "permit"))
_COUNTED = frozenset(("US_BANK_NUMBER", "US_DRIVER_LICENSE", "ABA_ROUTING_NUMBER"))
_ALGORITHM = re.compile(r"(?i)ed25519|x25519|mt19937")


def _judge_card(finding: Finding, text: str, words: Sequence[str], supported: bool) -> float:
    start, end, _, score, _ = finding
    value = text[start:end]
    if is_within_uuid(text, start, end):
        return 0.0
    before = text[max(0, start - 4) : start]
    if is_decimal(value, before):
        return 0.0
    if (
        not supported
        and not _IN_FOURS.fullmatch(value)
        and _counts_other(words[:-1])
        and not _is_paid(text, start, end)
    ):
        return 0.0
    if len(value) == 13 and value.isdigit():
        return min(score, 0.9)  # Visa's of long ago; several countries' identifiers have as many digits
    return _lifted(score, supported)


_IN_FOURS = re.compile(r"\d{4}(?:\D+\d{4}){3}.*|\d{4}\D+\d{6}\D+\d{4,5}", re.DOTALL)  # as cards are embossed


def _is_paid(text: str, start: int, end: int) -> bool:
    """What stands around a number tells of paying with it."""
    return _PAYING.search(text, max(0, start - _REACH), end + _REACH) is not None


_PAYING = re.compile(
    r"(?i)\b(?:cards?|visa|mastercard|amex|charg(?:e|ed|ing)|pay(?:ing|ments?)?|paid|refund\w*|declin\w+|debit\w*|credit\w*)\b"
)


def _counts_other(words: Sequence[str]) -> bool:
    """The last word, but for those that say that a number follows, is one of what is numbered and no card."""
    return next((word in _NO_CARD for word in reversed(words) if word not in _NUMBERED), False)


def _lifted(score: float, supported: bool) -> float:
    return min(1.0, max(score + 0.35, 0.4)) if supported else score


_BY_SHAPE = frozenset(("US_SSN", "US_ITIN"))  # most numbers of their shape are valid
_NHS_PHONE = re.compile(r"\d{3}([ -])\d{3}\1\d{4}")


@functools.cache
def _is_national(entity: str) -> bool:
    return re.match("[A-Z]{2}_|ABA_", entity) is not None


def _is_phone(value: str, before: str, after: str, last: Sequence[str], supported: bool) -> bool:
    """Takes a valid phone number for one, or for a sum, a list of numbers, a decimal, an epoch, an identifier."""
    listed = before[-1:] == " " or (before[-1:] == "," and (supported or not value.isdigit()))
    if (not listed and _AFTER_DIGIT.search(before)) or (value[0] == "0" and _FRACTION.match(value)):
        return False
    if is_dated(value, before):
        return False
    if supported:
        return True
    if is_sum(value, before):
        return False
    if "+" in value or "＋" in value:
        decimal = _SIGNED.fullmatch(value) and (_LISTED_BEFORE.search(before) or _LISTED_AFTER.match(after))
        return not (decimal or _DATE.fullmatch(value) or before[-1:] == "+")
    if _PAGES.search(before):
        return False
    if before[-1:] in _SIGNS:
        return False
    value = _EXTENSION.sub("", value)
    if _GROUPS.fullmatch(value):
        return True
    groups = _GROUP.findall(value)
    if sum(map(len, groups)) < 7:
        return False
    if len(groups) == 1:
        (digits,) = groups
        national = digits.startswith("0") or (len(digits) == 10 and digits[0] != "1" and digits not in _LARGEST)
        plain = (
            digits.startswith("0") or (before[-1:], after[:1]) in _MARKED
        )  # no sum: nobody writes such numbers in one
        reckoned = not plain and (_RECKONED_BEFORE.search(before) or _RECKONED_AFTER.match(after))
        return national and not reckoned and _NO_PHONE.isdisjoint(last)
    if len(groups) == 2 and not value.lstrip("[").startswith(("0", "(")):
        return "." not in value and len(groups[0]) == 3  # else a decimal, a difference, a range
    return list(map(len, groups)).count(1) <= (groups[0] in ("1", "0"))


def _is_other_field(text: str, start: int) -> bool:
    """What stands before a bare number is a name, as of a field, of which a word says that it is something else."""
    name = _field_before(text, start)
    return name is not None and not _NO_PHONE.isdisjoint(_OF_FIELD.sub(" ", name.group(1)).lower().split())


_DATE = re.compile(r"\+(?:1[89]|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
_SIGNED = re.compile(r"\+\d{1,3}\.\d{4,}")  # a decimal, or a number as records of domains write it
_LISTED_BEFORE, _LISTED_AFTER = re.compile(r"(?:[=\[] ?|\d, )\Z"), re.compile(r", [+\-]|\]")
_PAGES = re.compile(r"(?:^|\W)pp\. ?\Z")
_LARGEST = ("2147483647", "2147483648")  # of 32 bits; as numbers they would lie in Dallas
_SIGNS = frozenset("#$€£-")
_GROUPS = re.compile(r"\D*\d\d+(?:\D+\d\d+)+\D+\d{3,}\D*")  # three at least, no digit alone
_AFTER_DIGIT, _FRACTION = re.compile(r"\d[+.]?\Z|(?<!\d\d)\d,\Z"), re.compile(r"0[.,]\d")  # else a row of a table
_EXTENSION = re.compile(r"(?i)[ ,;]{0,2}(?:ext(?:ension)?\.?|x|#)[ :]?\d{1,7}\Z")
_MARKED = frozenset((("*", "*"), (">", "<"), ("<", ">")))  # in Markdown, within an element
_RECKONED_BEFORE, _RECKONED_AFTER = re.compile(r"[+*/=<>^%] \Z|[+*/<>^%]\Z"), re.compile(r" ?[+*/=<>^%]|[.,]\d")


class PhoneNumbers(predefined_recognizers.PhoneRecognizer):  # type: ignore[misc]
    """Presidio's findings without its second parse of each, and numbers that another number follows.

    phonenumbers takes `+44 20 7946 0958 1.5 kg` for one candidate, which is not valid, and tries no shorter one.
    `matched` stands in for phonenumbers' matcher where it is set: it finds the same.
    """

    matched: Callable[[str, list[tuple[int, int]]], list[tuple[int, int]]] | None = None

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None) -> list[Any]:
        del entities
        return [
            self._get_recognizer_result(_Span(start, end), text, None, nlp_artifacts)
            for start, end in dict.fromkeys(self.spans(text))
        ]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the numbers are, with repeats; also those that are found only in what others leave of a list."""
        regions = tuple(self.supported_regions)
        fewest = fewest_digits(regions)
        found: list[tuple[int, int]] = []
        pieces = [(0, text)]
        for _ in range(_ROUNDS):
            left: list[tuple[int, str]] = []
            for offset, piece in pieces:
                windows = list(phone_windows(piece, regions))
                spans = self._in_piece(piece, windows)
                found += [(start + offset, end + offset) for start, end in spans]
                for start, end in _between(windows, sorted(spans)):
                    if end - start >= fewest and len(_NOT_DIGIT.sub("", piece[start:end])) >= fewest:
                        left.append((start + offset, piece[start:end]))
            if not left:
                break
            pieces = left
        return found

    def _in_piece(self, text: str, windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Where the numbers are that are found at first."""
        found = self.matched(text, windows) if self.matched is not None else self._matched(text)
        taken = sorted(found)
        reach = list(itertools.accumulate((end for _, end in taken), max))
        before = 0  # the numbers that start before the end of the match
        for match in (one for window in windows for one in _WRITTEN_PHONE.finditer(text, *window)):
            start, end = match.span()
            while before < len(taken) and taken[before][0] < end:
                before += 1
            if not before or reach[before - 1] <= start:
                found += self._longest_valid(text, start, end)
        return [(_unopened(text, start, end), end) for start, end in found]

    def _matched(self, text: str) -> list[tuple[int, int]]:
        return [
            (match.start, match.end)
            for region in self.supported_regions
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=self.leniency)
        ]

    def _longest_valid(self, text: str, start: int, end: int) -> list[tuple[int, int]]:
        """The span without as many groups of digits at its end as keep it from being valid."""
        groups = [match.span() for match in _GROUP.finditer(text, start, end)]
        longest = longest_written(text, groups, start, tuple(self.supported_regions))
        return [(start, longest)] if longest else []


def _unopened(text: str, start: int, end: int) -> int:
    """Where the number starts, without a bracket that is not closed within it and what else is no digit behind that."""
    closing = _BRACKETS.get(text[start])
    if closing is None or text.find(closing, start, end) >= 0:
        return start
    return next(place for place in range(start + 1, end) if text[place].isdigit() or text[place] in "+＋")


_BRACKETS = {"(": ")", "[": "]", "（": "）", "［": "］"}
_ROUNDS = 24  # of a list: each finds a number at least in what may be one candidate, which has no more groups of digits


def _between(windows: Iterable[tuple[int, int]], taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What lies in windows with numbers in them and in none of these, which are in order."""
    place = 0
    for first, last in windows:
        position, some = first, False
        while place < len(taken) and taken[place][0] < last:
            start, end = taken[place]
            if start > position:
                yield position, start
            position, some = max(position, end), True
            place += 1
        if some and position < last:
            yield position, last


class _Span(NamedTuple):
    start: int
    end: int


_GROUP = re.compile(r"\d+")
_WRITTEN_PHONE = re.compile(
    r"(?=[+(\d])(?:"  # most places are passed over at once
    r"\+\d{1,3}(?:[ .\-]?\(?\d{1,5}\)?){1,6}"
    r"|(?<!\d)(?:(?:1[ .\-])?(?:\(\d{3}\) ?|\d{3}[ .\-])\d{3}[ .\-]\d{4}(?!\d)"
    r"|\(?0\d{1,4}\)?(?:[ .\-]\d{2,6}){1,4}"
    r"|07700900\d{3}(?!\d)))"
)


class _Email(predefined_recognizers.EmailRecognizer):  # type: ignore[misc]
    """Addresses at names for internal use too, and those that more is joined to (`a@b.com.gz`, `a@b.com-1`)."""

    PATTERNS = [  # noqa: RUF012
        *predefined_recognizers.EmailRecognizer.PATTERNS,
        Pattern("E-mail at localhost", r"\b[\w.+\-]{1,64}@localhost\b(?!\.\w)", 0.5),
    ]

    def validate_result(self, pattern_text: str) -> bool:
        return _begins_with_host(pattern_text.rpartition("@")[2])


@functools.lru_cache(maxsize=4096)
def _begins_with_host(text: str) -> bool:
    labels = text.split(".")[:127]
    if labels[-1].lower() in _INTERNAL:
        return True
    for count in range(len(labels), 1, -1):
        *inner, last = labels[:count]
        if any(_has_public_suffix(".".join([*inner, end])) for end in dict.fromkeys((last, _WORD_END.split(last)[0]))):
            return True
    return False


_WORD_END = re.compile(r"[-_][^.]*$")


class _CreditCard(predefined_recognizers.CreditCardRecognizer):  # type: ignore[misc]
    """Presidio's pattern, the groupings and networks it lacks, and no number that belongs to no network."""

    PATTERNS = [  # noqa: RUF012
        *predefined_recognizers.CreditCardRecognizer.PATTERNS,
        Pattern("American Express", r"\b3[47]\d{2}[- .]\d{6}[- .]\d{5}\b", 0.3),
        Pattern("Mastercard 2", r"\b2[2-7]\d{2}(?:[- .]?\d{4}){3}\b", 0.3),
        Pattern("After another group", r"(?<=\d{4}[- ])[3-6]\d{3}(?:[- ]\d{4}){3}\b", 0.3),
        Pattern("19 digits", r"\b[46]\d{3}(?:[- .]?\d{4}){3}[- .]?\d{3}\b", 0.3),
        Pattern("Separated", r"\b[3-6]\d{3}(?:[- .\u00a0\u2009\u202f_]{1,2}\d{4}){3}\b", 0.3),
    ]

    def validate_result(self, pattern_text: str) -> bool:
        return _is_card(pattern_text)


_NOT_DIGIT = re.compile(r"\D")
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # the sum of the digits of twice the digit


@functools.lru_cache(maxsize=1 << 14)
def _is_card(text: str) -> bool:
    number = digits = text.encode().translate(None, b"- ._")
    if not digits.isdigit():
        if digits.isascii():
            return False
        said = _NOT_DIGIT.sub("", text)
        number, digits = said.encode(), "".join(str(int(digit)) for digit in said).encode()
    total = sum(digits[-2::-2].translate(_DOUBLED)) + sum(digits[-1::-2]) - _ZERO * len(digits)
    if total % 10:  # Luhn's (ISO/IEC 7812-1); nine of ten numbers go here
        return False
    return _CARD.fullmatch(number.decode()) is not None and len(set(digits)) > 1


_ZERO = ord("0")


# Networks by their first digits, with the lengths that they issue (ISO/IEC 7812): Visa, Mastercard, American Express,
# Diners, JCB, Maestro; last Discover, UnionPay and Maestro again. No IMEI is among them.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720))\d{12}|3[47]\d{13}"
    r"|3(?:0[0-59]|6\d|[89]\d)(?:\d{11}|\d{13,16})|35(?:2[89]|[3-8]\d)\d{12,15}|5[06-8]\d{11,17}|6\d{12,18}"
)


class _Ip(predefined_recognizers.IpRecognizer):  # type: ignore[misc]
    """No loopback, unspecified or link-local address, no netmask, no slice of code such as `1::2`."""

    PATTERNS = [  # noqa: RUF012
        *predefined_recognizers.IpRecognizer.PATTERNS,
        # After what can't be one of its groups: Presidio's patterns take every colon before for a part of it.
        Pattern(
            "IPv6 after a word",
            r"(?:(?<=[g-zG-Z]:)|(?<=[g-zG-Z]\w:)|(?<=[g-zG-Z]\w{2}:)|(?<=[g-zG-Z]\w{3}:)|(?<=[A-Za-z]{5}:))"
            r"(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
            r"|(?:[0-9A-Fa-f]{1,4}:){2,6}(?::[0-9A-Fa-f]{1,4}){1,5}|(?:[0-9A-Fa-f]{1,4}:){2,7}:)(?![\w:]|\.\d)",
            0.6,
        ),
        Pattern(
            "IPv6 before a port", r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?=[:.]\d{1,5}(?![\w.]))", 0.6
        ),
        Pattern(
            "Short IPv6 before a port",
            r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,6}(?::[0-9A-Fa-f]{1,4}){1,5}(?=(?::\d{5}|\.\d{1,5})(?![\w.]))",
            0.6,
        ),
    ]

    def invalidate_result(self, pattern_text: str) -> bool:
        return _is_no_host(pattern_text)


def _is_no_host(text: str) -> bool:
    if IPV4.fullmatch(text):
        return text == "0.0.0.0" or text.startswith(("127.", "169.254.", "255."))
    address = interface(text)
    if address is None:
        return True
    if address.version == 6 and _FIVE_HEX.match(text) is None:
        return True
    special = address.is_loopback or address.is_unspecified or address.is_link_local
    return special or (address.version == 4 and str(address).startswith("255."))


_FIVE_HEX = re.compile("(?:[^0-9A-Fa-f]*+[0-9A-Fa-f]){5}")


_IBAN_START = re.compile(r"(?ia)(?<![A-Z0-9])[A-Z]{2}[0-9]{2}(?=[ -]?[A-Z0-9])")
_IBAN_TAIL = re.compile(r"(?ia)(?:[ -]?[A-Z0-9]){8,31}")
_IBAN_SHAPE = re.compile(r"(?ia)[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?")


class Iban(predefined_recognizers.IbanRecognizer):  # type: ignore[misc]
    """Presidio's findings, and numbers before a word that its pattern takes for their end (`… 7654 32 thanks`).

    What is found beyond Presidio's has the shape of its pattern, so its pattern matches there too.
    """

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None, regex_flags: int | None = None
    ) -> list[Any]:
        found: list[Any] = super().analyze(text, entities, nlp_artifacts, regex_flags)
        taken = [(one.start, one.end) for one in found]
        starts = [head.start() for head in _IBAN_START.finditer(text)]
        return found + [self._result(start, end) for start, end in self.beyond(text, taken, starts)]

    def beyond(self, text: str, taken: Sequence[tuple[int, int]], starts: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Where the numbers are, of those that may start there, beside what Presidio's analysis found, which is `taken`."""
        taken = sorted(taken)
        reach = list(itertools.accumulate((end for _, end in taken), max))
        reached = 0
        for start in starts:
            before = bisect.bisect_right(taken, (start, len(text)))
            if start < reached or (before and reach[before - 1] > start):
                continue
            tail = _IBAN_TAIL.match(text, start + _HEAD)
            if tail and (length := self._length(text[start : tail.end() + 1], tail.end() - start)):
                reached = start + length
                yield start, reached

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (one in a process or two)
    def validate_result(self, pattern_text: str) -> bool | None:
        plain = pattern_text.replace("-", "").replace(" ", "").upper()
        if len(plain) > _IBAN_LENGTHS.get(
            plain[:2], len(plain)
        ):  # with a word behind it that passes the check by chance
            return False
        with contextlib.suppress(ValueError):
            if int((plain[4:] + plain[:4]).translate(self.LETTERS)) % 97 != 1:
                return False
        valid: bool | None = super().validate_result(pattern_text)
        return valid

    @functools.lru_cache(maxsize=4096)  # noqa: B019
    def _length(self, said: str, most: int) -> int:
        """How many of the first `most` characters are a number that ends there, of `said` with what follows; or 0."""
        for length in reversed(_checked(said[:most])):
            ends = length == len(said) or not (said[length].isascii() and said[length].isalnum())
            if ends and _IBAN_SHAPE.fullmatch(said, 0, length) and self.validate_result(said[:length]) is not False:
                return length
        return 0

    def _result(self, start: int, end: int) -> Any:
        metadata = {"recognizer_name": self.name, "recognizer_identifier": self.id}
        return RecognizerResult("IBAN_CODE", start, end, 1.0, None, metadata)


def ibans_in(text: str) -> dict[int, list[int]]:
    """Where what may be an IBAN starts in an ASCII text, and how long those of its beginnings are that pass its check."""
    found = {}
    for head in _IBAN_START.finditer(text):
        start = head.start()
        tail = _IBAN_TAIL.match(text, start + _HEAD)
        if tail and (lengths := _checked(text[start : tail.end()])):
            found[start] = lengths
    return found


@functools.lru_cache(maxsize=4096)
def _checked(said: str) -> list[int]:
    """How long the beginnings of what may be an IBAN are that pass its check (ISO/IEC 7064, MOD 97-10)."""
    codes = said.upper().encode().translate(_IBAN_CODES)
    head = functools.reduce(lambda rest, value: _IBAN_RESTS[rest][value], codes[:_HEAD], 0)
    wanted = (1 - head) * _SHIFTED % 97
    rest, lengths = 0, []
    for length, value in enumerate(codes[_HEAD:], _HEAD + 1):
        if value < _NO_IBAN:
            rest = _IBAN_RESTS[rest][value]
            if rest == wanted and length >= _SHORTEST_IBAN:
                lengths.append(length)
    return lengths


_IBAN_VALUES = {letter: int(letter, 36) for letter in string.digits + string.ascii_uppercase}
_NO_IBAN = len(_IBAN_VALUES)  # the value of what is no part of one
_IBAN_CODES = bytes(_IBAN_VALUES.get(chr(code), _NO_IBAN) for code in range(256))
_IBAN_RESTS = [bytes((rest * 10 ** len(str(value)) + value) % 97 for value in range(_NO_IBAN)) for rest in range(97)]
_SHORTEST_IBAN = 15  # Norway's
_IBAN_LENGTHS = {  # by country, of the registry of ISO 13616
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_HEAD = 4  # characters of the country and the check digits
_SHIFTED = pow(10**6, -1, 97)  # the country and the check digits are read as six digits at the end


class _GermanTax(predefined_recognizers.DeTaxIdRecognizer):  # type: ignore[misc]
    """One of the first ten digits stands there twice or three times, and no other more than once (§ 139b AO).

    Also as letters print it, in groups.
    """

    PATTERNS = [  # noqa: RUF012
        *predefined_recognizers.DeTaxIdRecognizer.PATTERNS,
        Pattern("In groups", r"\b[1-9]\d \d{3} \d{3} \d{3}\b", 0.5),
    ]

    def validate_result(self, pattern_text: str) -> bool:
        digits = re.sub(r"\D", "", pattern_text)[:10]
        counts = sorted(digits.count(one) for one in set(digits))
        repeated = counts[-1] in (2, 3) and counts[-2:-1] == [1]
        return repeated and bool(super().validate_result(pattern_text.replace(" ", "")))


class _ThaiIdentity(predefined_recognizers.ThTninRecognizer):  # type: ignore[misc]
    """Also as the card prints it, in groups."""

    PATTERNS = [  # noqa: RUF012
        *predefined_recognizers.ThTninRecognizer.PATTERNS,
        Pattern("In groups", r"\b[1-8][- ]\d{4}[- ]\d{5}[- ]\d{2}[- ]\d\b", 0.5),
    ]

    def validate_result(self, pattern_text: str) -> bool:
        return bool(super().validate_result(_NOT_DIGIT.sub("", pattern_text)))


class _Nhs(predefined_recognizers.NhsRecognizer):  # type: ignore[misc]
    """Presidio's check, in a third of its time."""

    def validate_result(self, pattern_text: str) -> bool:
        digits = pattern_text.encode().translate(None, b"- ")
        a, b, c, d, e, f, g, h, i, j = digits
        weighed = 10 * a + 9 * b + 8 * c + 7 * d + 6 * e + 5 * f + 4 * g + 3 * h + 2 * i + j
        return weighed % 11 == 0  # 55 times the code of "0" is 0 too


class _License(predefined_recognizers.UsLicenseRecognizer):  # type: ignore[misc]
    """At least five digits: no `x86`, no `H2`."""

    HOLDS = r"[0-9]{5}|[0-9]{3}[A-Z]{2}[0-9]{4}"

    def invalidate_result(self, pattern_text: str) -> bool:
        return sum(map(str.isdigit, pattern_text)) < 5


class _DrivingLicence(predefined_recognizers.UkDrivingLicenceRecognizer):  # type: ignore[misc]
    """Presidio's; looked for by what follows the letters, with which every word begins."""

    HOLDS = "|".join(
        one.regex.removeprefix(r"\b[A-Z9]{5}") for one in predefined_recognizers.UkDrivingLicenceRecognizer.PATTERNS
    )


class _MedicalLicense(predefined_recognizers.MedicalLicenseRecognizer):  # type: ignore[misc]
    """Whole words only: no part of a hexadecimal digest."""

    PATTERNS = [  # noqa: RUF012
        Pattern("DEA number", r"\b(?:[abcdefghjklmprstux][a-z]\d{7}|[abcdefghjklmprstux]9\d{7})\b", 0.4)
    ]


class _Ethereum(PatternRecognizer):  # type: ignore[misc]
    """Ethereum addresses."""

    def __init__(self) -> None:
        patterns = [Pattern("Ethereum", r"\b0x[0-9a-f]{40}\b", 0.6)]
        super().__init__("CRYPTO", patterns=patterns, context=["wallet", "eth", "ethereum", "crypto"])


class _DialledAbroad(PatternRecognizer):  # type: ignore[misc]
    """Phone numbers with the code of their country and no plus sign, as WhatsApp writes them: with context only."""

    CONTEXT = (
        *("phone", "telephone", "tel", "cell", "cellphone", "mobile", "sms", "fax", "whatsapp", "wa", "msisdn"),
        *("caller", "callerid", "phonenumber", "mobilenumber", "handy", "telefon", "telefono", "teléfono", "telefone"),
        *("celular", "portable", "mobil", "movil", "móvil"),
    )

    def __init__(self) -> None:
        patterns = [Pattern("Code of a country and number", r"\b[1-9]\d{10,14}\b", 0.05)]
        super().__init__("PHONE_NUMBER", patterns=patterns, context=list(self.CONTEXT))

    def invalidate_result(self, pattern_text: str) -> bool:
        return valid_number(f"+{pattern_text}", None) is None


_INTERNAL = _words("internal local localhost localdomain lan corp intranet home private example test invalid")
_UNCHECKED = PatternRecognizer.validate_result  # says nothing of a match
_GENERIC = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "CRYPTO", "MAC_ADDRESS")
_COUNTRY = {
    "US": (
        *("US_SSN", "US_ITIN", "US_BANK_NUMBER", "US_DRIVER_LICENSE", "US_PASSPORT", "US_MBI", "US_NPI"),
        *("ABA_ROUTING_NUMBER", "MEDICAL_LICENSE"),
    ),
    "GB": ("UK_NHS", "UK_NINO", "UK_DRIVING_LICENCE", "UK_PASSPORT"),
}
_CURATED: dict[str, type[Any]] = {
    "EMAIL_ADDRESS": _Email,
    "PHONE_NUMBER": PhoneNumbers,
    "CREDIT_CARD": _CreditCard,
    "IBAN_CODE": Iban,
    "IP_ADDRESS": _Ip,
    "UK_NHS": _Nhs,
    "US_DRIVER_LICENSE": _License,
    "MEDICAL_LICENSE": _MedicalLicense,
    "UK_DRIVING_LICENCE": _DrivingLicence,
    "DE_TAX_ID": _GermanTax,
    "TH_TNIN": _ThaiIdentity,
}


def default_entities(options: RedactOptions) -> list[str]:
    """The default policy: generic types, and for each country its identifiers that carry a checksum."""
    names = list(_GENERIC)
    for country in options.countries:
        if country in _COUNTRY:
            names += _COUNTRY[country]
            continue
        for name, one in _recognizer_classes().items():
            of_country = one.COUNTRY_CODE is not None and country.lower() == one.COUNTRY_CODE
            if of_country and _is_checked(one):
                names.append(name)
    return names


def _is_checked(recognizer: type[Any]) -> bool:
    """Whether more than a pattern tells what it finds."""
    return any(
        getattr(recognizer, name, None) not in (None, getattr(PatternRecognizer, name))
        for name in ("validate_result", "invalidate_result")
    )


def curated_recognizers(names: Iterable[str], options: RedactOptions) -> list[EntityRecognizer]:
    recognizers: list[EntityRecognizer] = []
    for name in dict.fromkeys(names):
        one = _CURATED.get(name) or _recognizer_classes().get(name)
        if one is None:
            continue  # a custom recognizer
        if name == "PHONE_NUMBER":
            made = one(supported_regions=options.countries or (UNKNOWN_REGION,), supported_language="en")
        else:
            made = one(supported_language="en")
        if name == "IBAN_CODE":
            made.global_regex_flags |= re.IGNORECASE  # as Presidio's registry does
        if name in _CONTEXT:
            made.context = list(_CONTEXT[name])
        elif _is_national(name) and name[:2] not in ("US", "UK") and name not in _NOBODYS:
            made.context = [*(made.context or ()), *_IDENTITY]
        recognizers.append(made)
        if _is_national(name) and type(made).validate_result is not _UNCHECKED:
            made.validate_result = functools.partial(_valid_in_ascii, made.validate_result)
        if name == "CRYPTO":
            recognizers.append(_Ethereum())
        if name == "PHONE_NUMBER":
            recognizers.append(_DialledAbroad())
    return recognizers


def _valid_in_ascii(validate: Callable[[str], bool | None], text: str) -> bool | None:
    """Of Presidio's checks some fail on digits of other scripts, which are found as their shadow is looked through."""
    return validate(text) if text.isascii() else False


def presidio_recognizers() -> list[EntityRecognizer]:
    """What Presidio has on by default in English, less what needs a model."""
    registry = RecognizerRegistryProvider().create_recognizer_registry()
    recognizers = [one for one in registry.recognizers if one.supported_language == "en"]
    for one in recognizers:
        if isinstance(one, predefined_recognizers.EmailRecognizer):
            one.validate_result = _has_public_suffix
    return recognizers


@functools.cache
def _suffixes() -> tldextract.TLDExtract:
    """The public suffix list that comes with tldextract: never fetched, never cached."""
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


@functools.lru_cache(maxsize=4096)
def _has_public_suffix(address: str) -> bool:
    return bool(_suffixes()(address).fqdn)
