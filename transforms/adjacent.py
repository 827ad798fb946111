"""What is a value for the turns before it: values that are split over turns, and answers to questions.

Values may be split over two turns of one speaker, or up to four: `my number is 212-555`, then `1234`.

The first turn must end with the one part, and the others must stand alone, the last one on the first line of its turn;
between two turns of a speaker there may be another's. Put together, with what may have stood between them, they must be
what the recognizers find: nothing is taken for a part that doesn't make a whole.

A turn that says a value and nothing more, or nearly, is read with the last sentence of the other speaker's turn before
it, where that asks for something: `What is your SSN?`, then `536221234`. A value of letters alone (`Berlin`, `yes`) is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.assigned import asks_for_secret
from transforms.secrets import TOKEN_STARTS

_TAIL = re.compile(r"(?<![0-9A-Za-z.])[+(]?[0-9A-Z][0-9A-Z ().\-]{1,40}(?<=[0-9A-Z)])(?=[\s.…\-,]{0,4}$)")
_HEAD = re.compile(r"[ \t\r\n.…\-,]{0,4}([0-9A-Z(][0-9A-Z ().\-]{0,30}[0-9A-Z])(?=[ \t\r\n.!,]{0,3}(?:$|\n))")
_MAIL_TAIL = re.compile(r"(?<![\w.+\-@])[\w.+\-]{1,64}(?:@[\w.\-]{0,64})?$")
_MAIL_HEAD = re.compile(r"([@.]?[\w\-]{1,64}(?:\.[\w\-]{1,64}){0,4}(?:@[\w.\-]{1,64})?)(?=[\s.!,]{0,3}(?:$|\n))")
_OF_TOKEN = r"[A-Za-z0-9_./+=~\-]"
_PREFIX = rf"[A-Za-z]{{0,4}}(?i:{'|'.join(map(re.escape, TOKEN_STARTS))})"
_TOKEN_TAIL = re.compile(rf"(?<![A-Za-z0-9])({_PREFIX}{_OF_TOKEN}{{0,512}}?)(?=[\s.…]{{0,4}}$)")
_TOKEN_HEAD = re.compile(rf"[ \t\r\n…]{{0,4}}({_OF_TOKEN}{{4,512}}?)(?=[ \t\r\n.!,]{{0,3}}(?:$|\n))")
_DIGITS = re.compile(r"[0-9]")
_LAST = 96  # characters at the end of a turn that are looked at: the part, and words of context before it
_MOST = 4  # turns that a value may be split over
_LONGEST_TOKEN = 512  # characters of a part of one


class Parts(NamedTuple):
    """`spans` of the texts, one of each, may be one value; `wholes` are ways it may have been written."""

    spans: tuple[tuple[int, int], ...]
    wholes: tuple[str, ...]


def same_speaker(turns: Sequence[tuple[str, int]]) -> Iterator[tuple[int, ...]]:
    """Slots of contents that follow each other, of (role, slot) in order, two to four: the next turn, or the one after it.

    >>> list(same_speaker([("user", 0), ("assistant", 1), ("user", 3), ("user", 5)]))
    [(0, 3), (3, 5), (0, 3, 5)]
    """
    following: dict[int, int] = {}
    for place, (role, slot) in enumerate(turns):
        for other, later in turns[place + 1 : place + 3]:
            if other == role:
                following[slot] = later
                break
    chains: list[tuple[int, ...]] = list(following.items())
    for _ in range(2, _MOST + 1):
        yield from chains
        chains = [(*chain, following[chain[-1]]) for chain in chains if chain[-1] in following]


def stands_alone(head: str) -> bool:
    """The first line may be a part of a value, seen quickly.

    >>> stands_alone("555 1234.\\nBye"), stands_alone("@example.com"), stands_alone("It is 555 1234")
    (True, True, False)
    """
    return _ALONE.match(head) is not None


_ALONE = re.compile(r"[\s…]{0,4}(?:[^\s]{1,520}|[0-9A-Z ().…,\-]{1,64})[\s.!,]{0,3}(?:$|\n)")


def adjacent_parts(*texts: str) -> Iterator[Parts]:
    """What may be the parts of one value: the end of the first text, the start of the last, and all that others say.

    >>> list(adjacent_parts("my number is 212-555", "1234"))
    [Parts(spans=((13, 20), (0, 4)), wholes=('212-555-1234', '212-555 1234', '212-5551234'))]
    >>> [parts.wholes[0] for parts in adjacent_parts("it's 212", "555", "1234.")]
    ['212-555-1234']
    """
    for kind in (_number, _mail, _token):
        spans: list[tuple[int, int]] = []
        for tail, head in pairwise(texts):
            pair = kind(tail, head, not spans)
            if pair is None or (spans and spans[-1] != pair[0]):
                break
            spans += pair[1:2] if spans else pair[:2]
        else:
            assert pair is not None
            said = [text[slice(*span)] for text, span in zip(texts, spans, strict=True)]
            yield Parts(tuple(spans), tuple(joint.join(said) for joint in pair[2]))


# The spans of both, and what may stand between them. `first`: no part stands before the tail's.
_Pair = tuple[tuple[int, int], tuple[int, int], Sequence[str]]


def _number(tail: str, head: str, first: bool) -> _Pair | None:
    del first
    number = _HEAD.match(head[:_LAST])
    if not number or not _DIGITS.search(number.group(1)):
        return None
    ends = [one for one in _TAIL.finditer(tail, max(0, len(tail) - _LAST)) if len(_DIGITS.findall(one.group())) >= 2]
    return (ends[-1].span(), number.span(1), ("-", " ", "")) if ends else None


def _mail(tail: str, head: str, first: bool) -> _Pair | None:
    del first
    start = max(0, len(tail) - _LAST)
    mail = _MAIL_HEAD.match(head) if "@" in head[:_LAST] or "@" in tail[start:] else None
    if mail is None or not (head[0] in "@." or tail[-1:] in ("@", ".")):
        return None
    end = _MAIL_TAIL.search(tail, start)
    one = end is not None and (end.group() + mail.group(1)).count("@") == 1
    return (end.span(), mail.span(1), ("",)) if end and one else None


def _token(tail: str, head: str, first: bool) -> _Pair | None:
    """A part of a token begins as a token does, if it is its first."""
    rest = _TOKEN_HEAD.match(head)
    if rest is None:
        return None
    end = len(tail.rstrip())
    word = max(0, len(tail) - _LONGEST_TOKEN, tail.rfind(" ", 0, end), tail.rfind("\n", 0, end))
    start = _TOKEN_TAIL.search(tail, word) if first else _TOKEN_HEAD.fullmatch(tail)
    between = ("", ".") if start and tail[start.end() : start.end() + 1] == "." else ("",)  # which may be its own
    return (start.span(1), rest.span(1), between) if start else None


_LONGEST_ANSWER = 80  # characters
_LIKE_VALUE = r"[0-9]|[@#$%^&*+=~!][^\n]*[0-9A-Za-z]"  # no word with a mark at its end (`done!`)
_ANSWER = (  # in the syntax that RE2 shares
    r"(?i)[ \t\r\n\"'`*(]{0,4}(?:(?:it'?s|it is|that'?s|that is|this is|sure|ok|okay|yes|yeah|here|here it is)[,:.!]? +){0,3}"
    r"(?P<value>[0-9](?:[ \-]?[0-9]){3,30}|[^ \t\r\n\"'`]{4,64}?)"
    r" ?[.,;:)?]{0,3}[ \t\r\n\"'`*]{0,4}(?:(?:thanks|thank you|please)[.!]?)?[ \t\r\n]{0,4}"
)
_ENDING = " \t\r\n\"')*_"  # after a sentence
_ASKING = "(?i:please|tell|provide|enter|confirm|verify|need|give|share|send|type)"
_ANSWERS, _ASKS, _IS_VALUE = map(re.compile, (_ANSWER, _ASKING, _LIKE_VALUE))
_OF_SENTENCE = re.compile("[.?!。？！\n]")


def answer_to(asked: str, text: str) -> tuple[str, Parts] | None:
    """Where `text` says a value alone that the end of the turn `asked` asks for: what it says before it, and the value.

    >>> answer_to("Thanks. What is your PIN?", "it's 4821.")
    ('What is your PIN? pin: ', Parts(spans=((5, 9),), wholes=('4821',)))
    >>> answer_to("What is your password?", "Done!")
    """
    answer = _ANSWERS.fullmatch(text) if len(text) <= _LONGEST_ANSWER else None
    if answer is None or not _IS_VALUE.search(answer["value"]):
        return None
    asked = asked.rstrip(_ENDING)[-200:]
    sentence = _OF_SENTENCE.split(asked.rstrip(".?!:。？！："))[-1].strip()
    if not asked.endswith(("?", ":", "？", "：")) and not _ASKS.search(sentence):
        return None
    context = f"{sentence}? {asks_for_secret(sentence, answer['value'])}"
    return context, Parts((answer.span("value"),), (answer["value"],))


_STARTS = r"^[ \t\r\n.…\-,]{0,4}[0-9A-Z(][0-9A-Z ().\-]{0,31}[ \t\r\n.!,]{0,3}(?:$|\n)"  # whatever _HEAD matches
_FIRST_DIGIT = r"^[^0-9]{0,40}[0-9]"
_BEGUN = rf"{_PREFIX}{_OF_TOKEN}*[\s.…]*$"  # RE2 reads it from the end, a word far
_ENDS = r"@[^\s@]*[\s.!,]{0,3}(?:\n|$)"  # what ends with it, or with a line's end, or holds a whole address


def may_join(messages: pa.ListArray) -> NDArray[np.bool_]:
    """bool[N]: false where no two turns of a conversation can hold the parts of one value, nor what is left of them once
    other values are gone."""
    contents = pc.fill_null(messages.flatten().field("content"), "")
    number = pc.match_substring_regex(contents, _STARTS)
    if pc.any(number).as_py():
        number = pc.and_(number, pc.match_substring_regex(contents, _FIRST_DIGIT))
    mail = pc.match_substring_regex(contents, "@")  # ten times as fast as match_substring
    if pc.any(mail).as_py():
        part = pc.or_(pc.starts_with(contents, "@"), pc.starts_with(contents, "."))
        mail = pc.and_(mail, pc.or_(part, pc.match_substring_regex(contents, _ENDS)))
    part = np.asarray(pc.or_(number, mail).to_numpy(zero_copy_only=False), bool)
    part |= pc.match_substring_regex(contents, _BEGUN).to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    counts = np.concatenate(([0], np.cumsum(part)))
    ends = np.cumsum(lengths)
    return np.asarray(counts[ends] > counts[ends - lengths], bool)


_ASKED = rf"(?:[?:？：]|{_ASKING}[^\n]*)[{_ENDING}]*$"  # whatever `answer_to` takes for a question, and more


def may_answer(messages: pa.ListArray) -> NDArray[np.bool_]:
    """bool[N]: false where no turn of a conversation can be an answer to the turn before it."""
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    contents = pc.fill_null(messages.flatten().field("content"), "")
    sizes = pc.binary_length(contents).to_numpy(zero_copy_only=False)
    said = np.flatnonzero(sizes)  # turns without content are none
    before, places = said[:-1], said[1:]
    short = (sizes[places] <= 4 * _LONGEST_ANSWER) & (rows[before] == rows[places])
    for some, pattern in ((places, f"^(?:{_ANSWER})$"), (places, _LIKE_VALUE), (before, _ASKED)):
        chosen = np.flatnonzero(short)
        found = pc.match_substring_regex(contents.take(pa.array(some[chosen])), pattern)
        short[chosen] = found.to_numpy(zero_copy_only=False)
    marked = np.zeros(len(lengths), np.bool_)
    marked[rows[places[short]]] = True
    return marked
