"""Regular expressions made simpler and no stricter: what a gate looks for in place of a recognizer's pattern.

`relax(pattern, flags)` gives an expression without look-around, back-references and case-insensitivity, in the syntax
that Hyperscan and RE2 share. It is found in every text that `pattern` matches a part of, and where such texts stand
between line ends. The converse does not hold: it is also found elsewhere.

    (?i:ab?)([:-])[0-9]{2,8}\\1(?=x)   ──►   [Aa](?:[Bb])?[:\\-][0-9]{2,8}[:\\-]

What is made of a pattern:

* assertions match the empty string, but for ASCII texts: there `\\b` stays, and at an end of the pattern a set that no
  character beside it is of; a back-reference is what its group says, whatever that held;
* optional parts at either end go, repeats there are cut to their least count: what is left is found in each match;
* a case-insensitive character brings all of its cases, with the letters that fold into ASCII (`ı`, `ſ`, `K`, `İ`);
* a class has its ASCII members; of the rest `\\d` has the digits of all scripts, and what else may hold any has all.

Whether a text holds ASCII only is seen before a scan: the `ascii` form has no other characters, and is faster.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple, cast

import regex

Ranges = tuple[tuple[int, int], ...]

_LAST = 0x10FFFF
_ALL_REST: Ranges = ((0x80, _LAST),)
_FOLDED = {"i": "\u0130\u0131", "s": "\u017f", "k": "\u212a"}  # letters that match these in any case
_SPECIAL = {ord(special): ord(plain) for plain, specials in _FOLDED.items() for special in specials}
_SEPARATED = 0x3002  # stands for many letters where a text is separated: see `analyzer`
_WORD = frozenset(code for code in range(128) if chr(code).isalnum() or chr(code) == "_")
_SPACE = frozenset(b" \t\n\r\f\v\x1c\x1d\x1e\x1f")
_DIGIT = frozenset(b"0123456789")
_ASCII = frozenset(range(128))
_MOST = 64  # a repeat's upper bound beyond which there might as well be none


_DIGITS_END = 0x20000  # the planes beyond hold ideographs and private characters: no digits
_GAP = 0x300  # characters between the digits of two scripts that are taken for digits too: short ranges make long sets


class Unknown(ValueError):
    """The pattern holds what cannot be relaxed, or may match the empty string."""


class Chars(NamedTuple):
    """A set of characters: the ASCII ones, and ranges of others."""

    ascii: frozenset[int]
    rest: Ranges


class _Form(NamedTuple):
    only_ascii: bool
    edges: bool  # assertions are kept: see `_edge`
    groups: dict[int, Any]


@functools.cache
def digits_beyond_ascii() -> Ranges:
    """The decimal digits of all scripts but ASCII, as the engines that are gated know them, and what lies between."""
    spread = "".join(map(chr, range(0x80, 0xD800))) + "".join(map(chr, range(0xE000, _DIGITS_END)))
    ours = {match.start() for match in regex.finditer(r"\d", spread)} | {
        match.start() for match in re.finditer(r"\d", spread)
    }
    codes = sorted(ord(spread[at]) for at in ours)
    ranges: list[tuple[int, int]] = []
    for code in codes:
        if ranges and ranges[-1][1] >= code - _GAP:
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    return tuple(ranges)


@functools.lru_cache(maxsize=4096)
def relax(pattern: str, flags: int, *, only_ascii: bool) -> str | None:
    """The relaxed expression; None where `only_ascii` and no ASCII text can match. Raises Unknown.

    >>> relax(r"\\bx{2,9}(?=y)", 0, only_ascii=True)
    '\\\\bx{2}'
    >>> relax("é", 0, only_ascii=True) is None
    True
    """
    if "{," in pattern:
        raise Unknown("means one thing here and another there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # [[:alpha:]] and the like
            parsed = parser.parse(pattern, flags & (re.IGNORECASE | re.DOTALL | re.MULTILINE | re.VERBOSE))
    except (re.error, OverflowError, RecursionError, Warning):
        raise Unknown("not in the syntax of re") from None
    if re.ASCII & (flags | parsed.state.flags) and not only_ascii:
        raise Unknown("ASCII only")
    form = _Form(only_ascii, only_ascii, {})
    _collect(parsed, form.groups)
    folds = bool(re.IGNORECASE & (flags | parsed.state.flags))
    if min(parsed.getwidth()) == 0:
        raise Unknown("may be empty")
    return _sequence(list(parsed), form, folds, True, True)


def same_in_re2(pattern: str, flags: int) -> bool:
    """RE2 finds in ASCII texts what `regex` finds: true only where that is known.

    Both take the leftmost match, and of those the first in the order of the alternatives.
    """
    try:
        parsed = parser.parse(pattern, flags & (re.IGNORECASE | re.DOTALL | re.MULTILINE))
    except (re.error, OverflowError, RecursionError):
        return False
    return min(parsed.getwidth()) > 0 and "\\u" not in pattern and _plain(parsed)


def holds_digits(pattern: str, count: int) -> bool:
    """Each match holds so many digits in a row: true only where that is known.

    >>> holds_digits(r"\\b9\\d{2}(?:5[0-9]|6[0-5])[0-9]{4}\\b", 9), holds_digits(r"[0-9]{3}-?[0-9]{4}", 7)
    (True, False)
    """
    try:
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    most = run = 0
    for item in parsed:
        digits = _digits([item])
        run = 0 if digits is None else run + digits
        most = max(most, run)
    return most >= count


def _digits(items: Iterable[Any]) -> int | None:
    """How many digits the items match at least; None where they may match anything else."""
    total = 0
    for kind, argument in items:
        digits: int | None = None
        if kind in (op.AT, op.ASSERT, op.ASSERT_NOT):
            digits = 0
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            once = _digits(argument[2])
            digits = once if once is None else once * argument[0]
        elif kind is op.SUBPATTERN:
            digits = _digits(argument[3])
        elif kind is op.BRANCH:
            either = [_digits(branch) for branch in argument[1]]
            digits = None if None in either else min(one for one in either if one is not None)
        elif kind in (op.LITERAL, op.IN):
            chars = characters(kind, argument, False)
            digits = 1 if chars.ascii <= _DIGIT and chars.rest in ((), digits_beyond_ascii()) else None
        if digits is None:
            return None
        total += digits
    return total


class Reach(NamedTuple):
    """How many characters a match of a pattern has at most, and how many on either side of it decide of it at most."""

    longest: int
    beside: int


def reach(pattern: str, flags: int) -> Reach | None:
    """None where there is no bound, or the ends of the text count.

    >>> tuple(reach(r"(?<!ab)x{2,9}\\b", 0)), reach("x+", 0), reach("^x", 0)
    ((9, 3), None, None)
    """
    try:
        parsed = parser.parse(pattern, flags & (re.IGNORECASE | re.DOTALL | re.MULTILINE))
    except (re.error, OverflowError, RecursionError):
        return None
    beside = _beside(parsed)
    longest = int(parsed.getwidth()[1])
    return None if beside is None or longest + beside > _FAR else Reach(longest, beside)


_FAR = 400  # characters: with more around a candidate, a text is looked through whole


def _inner(kind: Any, argument: Any) -> Iterable[Any]:
    """What an item is made of, assertions left out."""
    if kind is op.SUBPATTERN:
        return (argument[3],)
    if kind is op.BRANCH:
        return cast(Iterable[Any], argument[1])
    if kind in _REPEATS:
        return (argument[2],)
    return (argument,) if kind is op.ATOMIC_GROUP else ()


def _beside(parsed: Any) -> int | None:
    """Characters that assertions look at, beside a match; None where they look at the text's ends."""
    total = 1
    for kind, argument in parsed:
        inner = _inner(kind, argument)
        if kind is op.AT and argument not in (op.AT_BOUNDARY, op.AT_NON_BOUNDARY):
            return None
        if kind in (op.ASSERT, op.ASSERT_NOT):
            total += int(argument[1].getwidth()[1])
            inner = (argument[1],)
        elif kind is op.GROUPREF_EXISTS:
            return None
        for one in inner:
            seen = _beside(one)
            if seen is None:
                return None
            total += seen - 1
    return total


def within_words(pattern: str, flags: int) -> bool:
    """No white space is in a match, nor decides of one beside it: true only where that is known.

    >>> within_words(r"(?<!\\w)a+(?![.:])", 0), within_words("a[^b]", 0), within_words("a$", 0)
    (True, False, False)
    """
    try:
        return _spaceless(parser.parse(pattern, flags & (re.IGNORECASE | re.DOTALL | re.MULTILINE)))
    except (re.error, OverflowError, RecursionError):
        return False


def _spaceless(parsed: Any) -> bool:
    for kind, argument in parsed:
        inner = (argument[1],) if kind in (op.ASSERT, op.ASSERT_NOT) else _inner(kind, argument)
        if kind in _SINGLE and characters(kind, argument, False).ascii & _SPACE:
            return False
        if kind is op.GROUPREF_EXISTS or (kind is op.AT and argument is not op.AT_BOUNDARY):
            return False
        if not all(map(_spaceless, inner)):
            return False
    return True


def _plain(parsed: Any) -> bool:
    for kind, argument in parsed:
        if kind is op.IN and any(member is op.CATEGORY and value in _SPACES for member, value in argument):
            return False  # RE2's white space is another
        if kind is op.AT and argument not in (op.AT_BOUNDARY, op.AT_NON_BOUNDARY):
            return False
        if kind is op.SUBPATTERN and not (_plain(argument[3]) and not argument[1] and not argument[2]):
            return False
        if kind is op.BRANCH and not all(map(_plain, argument[1])):
            return False
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            most = argument[1] if argument[1] is not op.MAXREPEAT else argument[0]
            if most > 1000 or not _plain(argument[2]) or argument[2].getwidth()[0] == 0:
                return False
        elif kind not in (*_SINGLE, op.AT, op.SUBPATTERN, op.BRANCH):
            return False
    return True


_SPACES = (op.CATEGORY_SPACE, op.CATEGORY_NOT_SPACE)


def _collect(parsed: Any, groups: dict[int, Any]) -> None:
    for kind, argument in parsed:
        if kind is op.SUBPATTERN:
            if argument[0] is not None:
                groups[argument[0]] = argument
            _collect(argument[3], groups)
        elif kind is op.BRANCH:
            for one in argument[1]:
                _collect(one, groups)
        elif kind in _REPEATS:
            _collect(argument[2], groups)
        elif kind is op.ATOMIC_GROUP:
            _collect(argument, groups)
        elif kind is op.GROUPREF_EXISTS:
            for one in argument[1:]:
                if one is not None:
                    _collect(one, groups)


_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_EMPTY = (op.AT, op.ASSERT, op.ASSERT_NOT)


def _sequence(items: Sequence[Any], form: _Form, folds: bool, left: bool, right: bool) -> str | None:
    """The items one after another; at an end of the whole (`left`, `right`) what may be missing is left out."""
    items = [item for item in items if item[0] not in _EMPTY or (form.edges and _edge(item, folds))]
    while items and left and _least(items[0]) == 0 and not _looks(items[0], -1):
        items = items[1:]
    while items and right and _least(items[-1]) == 0 and not _looks(items[-1], 1):
        items = items[:-1]
    behind = left and items and _looks(items[0], -1)
    ahead = right and items and _looks(items[-1], 1)
    middle = [item for item in items[bool(behind) : len(items) - bool(ahead)] if item[0] is not op.ASSERT_NOT]
    pieces = [_edge(items[0], folds)] if behind else []
    for index, item in enumerate(middle):
        first, last = left and not behind and index == 0, right and not ahead and index == len(middle) - 1
        piece = _edge(item, folds) if item[0] in _EMPTY else _item(item, form, folds, first, last)
        if piece is None:
            return None
        pieces.append(piece)
    return "".join([*pieces, _edge(items[-1], folds)] if ahead else pieces)


def _looks(item: Any, direction: int) -> bool:
    """The item asserts that no character of a set stands before it (-1), or after it (1)."""
    return item[0] is op.ASSERT_NOT and item[1][0] == direction


def _edge(item: Any, folds: bool) -> str:
    """An assertion that ASCII texts are held to: a word's border, or no character of a set beside the whole.

    A line end is always let through: a gate may see texts with line ends between them. Nothing for other assertions.
    """
    kind, argument = item
    if kind is op.AT:
        return "\\b" if argument is op.AT_BOUNDARY else ""
    if kind is not op.ASSERT_NOT or len(argument[1]) != 1 or argument[1][0][0] not in _SINGLE:
        return ""
    one, members = argument[1][0]
    others = _chars_text(Chars(_ASCII - characters(one, members, folds).ascii | {0x0A}, ()), True)
    return f"(?:\\A|{others})" if argument[0] < 0 else f"(?:{others}|\\z)"


def _least(item: Any) -> int:
    """The fewest characters of an item."""
    if item[0] in _REPEATS:
        least, _, body = item[1]
        return int(least * min(body.getwidth()[0], 1))
    if item[0] is op.SUBPATTERN:
        return int(item[1][3].getwidth()[0])
    if item[0] is op.BRANCH:
        return min(int(one.getwidth()[0]) for one in item[1][1])
    if item[0] is op.ATOMIC_GROUP:
        return int(item[1].getwidth()[0])
    return 0 if item[0] in (op.GROUPREF, op.GROUPREF_EXISTS, op.ASSERT_NOT) else 1


def _item(item: Any, form: _Form, folds: bool, left: bool, right: bool) -> str | None:
    kind, argument = item
    if kind is op.SUBPATTERN:
        _, added, removed, body = argument
        inner = (folds or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
        if (added | removed) & re.ASCII and not form.only_ascii:
            raise Unknown("ASCII only")
        return _group(_sequence(list(body), form, inner, left, right))
    if kind is op.ATOMIC_GROUP:
        return _group(_sequence(list(argument), form, folds, left, right))
    if kind is op.BRANCH:
        branches = [list(one) for one in argument[1]]
        if right:
            branches = _uncovered(branches, folds, left)
        return _either([_sequence(one, form, folds, left, right) for one in branches])
    if kind in _REPEATS:
        return _repeat(argument, form, folds, left, right)
    if kind is op.GROUPREF:
        group = form.groups[argument]
        # Whatever case the group was matched in; a reference from within a group to itself cannot be parsed.
        referred = _group(_sequence(list(group[3]), form._replace(edges=False), True, False, False))
        return None if referred is None else referred
    if kind is op.GROUPREF_EXISTS:
        _, yes, no = argument
        return _either([_sequence(list(one), form, folds, False, False) if one else "" for one in (yes, no)])
    return _chars_text(characters(kind, argument, folds), form.only_ascii)


def _group(inner: str | None) -> str | None:
    return inner if inner is None else f"(?:{inner})"


def _either(branches: Sequence[str | None]) -> str | None:
    possible = list(dict.fromkeys(one for one in branches if one is not None))
    return f"(?:{'|'.join(possible)})" if possible else None


def _repeat(argument: Any, form: _Form, folds: bool, left: bool, right: bool) -> str | None:
    least, most, body = argument
    if least == 1 and (left or right):
        return _group(_sequence(list(body), form, folds, left, right))
    inner = _sequence(list(body), form, folds, False, False)
    if inner is None:
        return "" if least == 0 else None
    if inner == "":
        return ""
    if left or right:
        most = least
    inner = inner if len(body) == 1 and body[0][0] in _SINGLE else f"(?:{inner})"
    if least == most:
        return inner if least == 1 else f"{inner}{{{least}}}"
    if (least, most) == (0, 1):
        return f"{inner}?"
    if most is op.MAXREPEAT or most > _MOST:
        return f"{inner}{{{least},}}" if least > 1 else inner + ("+" if least else "*")
    return f"{inner}{{{least},{most}}}"


# ------------------------------------------------------------------------------------------------ alternatives


def _uncovered(branches: Sequence[list[Any]], folds: bool, anywhere: bool) -> list[list[Any]]:
    """The alternatives less those of which each match holds (or, unless `anywhere`, begins with) one of another.

    A licence number of thirty formats is a letter and a digit, or one of the few that lack them.
    """
    runs = [_fixed_runs(branch, folds) for branch in branches]
    kept: list[int] = []
    for index in sorted(range(len(branches)), key=lambda index: sum(map(len, runs[index]))):
        if not any(_covers(runs[other], runs[index], anywhere) for other in kept if not _asserts(branches[other])):
            kept.append(index)
    return [branches[index] for index in sorted(kept)]


def _asserts(items: Iterable[Any]) -> bool:
    """Somewhere in the items is an assertion."""
    for kind, argument in items:
        inner = _inner(kind, argument)
        if kind in _EMPTY or kind is op.GROUPREF_EXISTS or any(map(_asserts, inner)):
            return True
    return False


def _fixed_runs(items: Sequence[Any], folds: bool) -> list[list[Chars]]:
    """Sequences of sets of characters, each in every match of `items`; a single one is the whole of the shortest."""
    runs: list[list[Chars]] = [[]]
    for kind, argument in items:
        if kind in _SINGLE:
            runs[-1].append(characters(kind, argument, folds))
            continue
        if kind in _EMPTY:
            continue
        if kind in _REPEATS:
            least, most, body = argument
            inner = _fixed_runs(list(body), folds)
            if len(inner) == 1 and 0 < least <= _MOST:
                runs[-1] += inner[0] * least
                if least != most:
                    runs.append(inner[0] * least)
                continue
        if kind is op.SUBPATTERN and not argument[1] and not argument[2]:
            inner = _fixed_runs(list(argument[3]), folds)
            runs[-1] += inner[0]
            runs += inner[1:]
            continue
        runs.append([])
    return runs


def _covers(wide: list[list[Chars]], narrow: list[list[Chars]], anywhere: bool) -> bool:
    """Each match of `narrow` holds one of `wide`, which is a single sequence once its last repeat is cut."""
    whole = wide[0] if len(wide) == 1 or (len(wide) == 2 and wide[1] == wide[0][-len(wide[1]) :]) else []
    if not whole:
        return False
    if not anywhere:
        return len(narrow[0]) >= len(whole) and all(map(_holds, whole, narrow[0]))
    return any(
        all(map(_holds, whole, run[start:])) for run in narrow for start in range(max(len(run) - len(whole) + 1, 0))
    )


def _holds(wide: Chars, narrow: Chars) -> bool:
    return narrow.ascii <= wide.ascii and all(
        any(first <= low and high <= last for first, last in wide.rest) for low, high in narrow.rest
    )


# ------------------------------------------------------------------------------------------------ characters

_SINGLE = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN)
_CATEGORIES = {
    op.CATEGORY_DIGIT: _DIGIT,
    op.CATEGORY_SPACE: _SPACE,
    op.CATEGORY_WORD: _WORD,
    op.CATEGORY_NOT_DIGIT: _ASCII - _DIGIT,
    op.CATEGORY_NOT_SPACE: _ASCII - _SPACE,
    op.CATEGORY_NOT_WORD: _ASCII - _WORD,
}


def characters(kind: Any, argument: Any, folds: bool) -> Chars:
    if kind is op.LITERAL:
        return _folded(_ranges([(argument, argument)]), folds)
    if kind is op.NOT_LITERAL:
        return _complement(_ranges([(argument, argument)]))
    if kind is op.ANY:
        return Chars(_ASCII, _ALL_REST)
    if kind is not op.IN:
        raise Unknown(f"{kind} is not known")
    negated = argument[0][0] is op.NEGATE
    plain: set[int] = set()
    rest: list[tuple[int, int]] = []
    for member, value in argument[negated:]:
        if member is op.CATEGORY:
            plain |= _CATEGORIES[value]
            rest += digits_beyond_ascii() if value is op.CATEGORY_DIGIT else _ALL_REST
            continue
        one = _ranges([(value, value) if member is op.LITERAL else value])
        plain |= one.ascii
        rest += one.rest
    chars = Chars(frozenset(plain), tuple(rest))
    return _complement(chars) if negated else _folded(chars, folds)


def _ranges(ranges: Sequence[tuple[int, int]]) -> Chars:
    plain = frozenset(code for low, high in ranges for code in range(low, min(high, 127) + 1))
    return Chars(plain, tuple((max(low, 0x80), high) for low, high in ranges if high > 127))


def _complement(chars: Chars) -> Chars:
    """All that may not be in `chars`; of the other characters, all."""
    return Chars(_ASCII - chars.ascii, _ALL_REST)


@functools.lru_cache(maxsize=4096)
def _folded(chars: Chars, folds: bool) -> Chars:
    """With the characters that match in another case; those beyond ASCII bring all of them, digits apart."""
    plain, rest = set(chars.ascii), list(chars.rest)
    if any(low <= _SEPARATED <= high for low, high in rest):
        return Chars(frozenset(plain), _ALL_REST)
    if not folds:
        return Chars(frozenset(plain), tuple(rest))
    for code in list(plain) + [plainer for special, plainer in _SPECIAL.items() if _within(special, rest)]:
        letter = chr(code)
        plain |= {ord(letter.lower()), ord(letter.upper())}
        rest += [(ord(special), ord(special)) for special in _FOLDED.get(letter.lower(), "")]
    digits = set(digits_beyond_ascii())
    if any(one not in digits and one[0] not in _SPECIAL for one in rest):
        rest = list(_ALL_REST)
    return Chars(frozenset(plain), tuple(rest))


def _within(code: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _chars_text(chars: Chars, only_ascii: bool) -> str | None:
    if not chars.ascii and (only_ascii or not chars.rest):
        return None
    if only_ascii and len(chars.ascii) == 1:
        return _escaped(next(iter(chars.ascii)))
    if not only_ascii and not chars.rest and len(chars.ascii) == 1:
        return _escaped(next(iter(chars.ascii)))
    parts = [_span(low, high) for low, high in _runs(chars.ascii)]
    if not only_ascii:
        parts += [_span(low, high) for low, high in _without_surrogates(chars.rest)]
    return f"[{''.join(parts)}]"


def _runs(codes: frozenset[int]) -> Iterator[tuple[int, int]]:
    first = last = -2
    for code in sorted(codes):
        if code != last + 1:
            if last >= 0:
                yield first, last
            first = code
        last = code
    if last >= 0:
        yield first, last


def _without_surrogates(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """No UTF-8 text holds a surrogate, and the engines refuse them."""
    for low, high in dict.fromkeys(ranges):
        if low < 0xD800:
            yield low, min(high, 0xD7FF)
        if high > 0xDFFF:
            yield max(low, 0xE000), high


def _span(low: int, high: int) -> str:
    return _escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}"


def _escaped(code: int) -> str:
    letter = chr(code)
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{code:x}}}"
