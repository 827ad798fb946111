"""What two texts have in common, computed the slow and plain way: the truth beside every tool's result.

Nothing here is shared with the engine that it judges. It runs in the peers' environment too, so it imports
neither the project nor anything compiled but `regex`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import regex

SHINGLE = 5
SHORT = 15  # tokens; a pair with a shorter text is compared by characters
BRIDGE = 24  # tokens; a text that long is not compared with a short one at all
GRAM = 5  # characters

_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(rf"(?V1)[{_ALONE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_ALONE}]]+")
_GAP = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
_BESIDE_ALONE = regex.compile(rf"(?<=[{_ALONE}]) | (?=[{_ALONE}])")


def body_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """What users and assistants say, a turn a line."""
    return "\n".join(one["content"] or "" for one in messages if one["role"] in ("user", "assistant"))


def tokens_of(text: str) -> list[str]:
    """Case-folded runs of letters, marks and numbers; a token for each character of scripts without spaces."""
    found: list[str] = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    return found


def shingles_of(text: str) -> set[tuple[str, ...]]:
    """The set of word 5-shingles; fewer words are one shingle."""
    tokens = tokens_of(text)
    if not tokens:
        return set()
    return {tuple(tokens[place : place + SHINGLE]) for place in range(max(1, len(tokens) - SHINGLE + 1))}


def grams_of(text: str) -> set[str]:
    """The set of 5-grams of the letters, marks and numbers, with one space where anything else stood, but for beside
    characters of scripts without spaces."""
    spelt = _BESIDE_ALONE.sub("", _GAP.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip(" "))
    if not spelt:
        return set()
    return {spelt[place : place + GRAM] for place in range(max(1, len(spelt) - GRAM + 1))}


def jaccard(left: set[Any], right: set[Any]) -> float:
    """Jaccard index of two sets; 0 where both are empty."""
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def similarity(left: str, right: str) -> float:
    """Exact similarity of two texts, as the README defines it: by grams where either is short, else by words."""
    least, most = sorted(len(tokens_of(text)) for text in (left, right))
    if least < SHORT:
        return jaccard(grams_of(left), grams_of(right)) if most < BRIDGE else 0.0
    return jaccard(shingles_of(left), shingles_of(right))
