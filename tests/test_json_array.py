"""Arrays cut into elements: against `json` where they are JSON, against a plain splitter where they are not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.json_array import ArraySplitter

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},: \n\u00e9\U0001f600'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\]}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
layouts = st.sampled_from([{}, {"indent": 1}, {"indent": "\t", "ensure_ascii": False}, {"separators": (",", ":")}])


class Element(NamedTuple):
    offset: int
    length: int
    text: bytes | None


def split_array(chunks: Iterable[bytes], max_bytes: int = 1 << 30, offset: int = 0) -> tuple[list[Element], int | None]:
    """The elements, and where the tail starts if there is one."""
    splitter = ArraySplitter(max_bytes, offset)
    chunks = list(chunks)
    elements = [Element(*row) for chunk in chunks for row in zip(*splitter.feed(chunk), strict=True)]
    assert splitter.seen == offset + sum(map(len, chunks))
    return elements, splitter.finish()


def in_chunks(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    place = 0
    for size in sizes:
        yield content[place : place + size]
        place += size
    yield content[place:]


def plain_split(content: bytes) -> tuple[list[Element], int | None]:
    """What the splitter is to give, byte by byte."""
    text = content.decode("latin-1")
    elements: list[Element] = []
    begun = len(text) - len(text.lstrip(" \t\n\r"))
    if text[begun : begun + 1] != "[":
        return [], begun
    start = begun + 1
    depth, in_string, place = 0, False, start
    while place < len(text):
        byte = text[place]
        if byte == "\\":
            place += 1 + (text[place + 1 : place + 2] in ('"', "\\"))  # nothing else is escaped
            continue
        in_string ^= byte == '"'
        if not in_string and byte in "[{":
            depth += 1
        elif not in_string and byte in "]}" and depth:
            depth -= 1
        elif not in_string and byte in ",]}" and not depth:
            raw = content[start:place]
            element = raw.strip(b" \t\n\r")
            offset = start + len(raw) - len(raw.lstrip(b" \t\n\r"))
            if not element and not (byte == "]" and not elements and "," not in text[begun:place]):
                return elements, place
            if byte == "}":
                return elements, offset
            if element:
                elements.append(Element(offset, len(element), element))
            if byte == "]":
                rest = content[place + 1 :].lstrip(b" \t\n\r")
                return elements, len(content) - len(rest) if rest else None
            start = place + 1
        place += 1
    raw = content[start:]
    return elements, start + len(raw) - len(raw.lstrip(b" \t\n\r"))


@given(st.lists(values, max_size=5), layouts, st.lists(st.integers(0, 5), max_size=60))
def test_arrays_against_json(array: list[Any], layout: dict[str, Any], sizes: list[int]) -> None:
    content = json.dumps(array, **layout).encode()
    elements, tail = split_array(in_chunks(content, sizes))
    assert tail is None
    assert [json.loads(element.text or b"") for element in elements] == array
    assert all(content[at : at + length] == text for at, length, text in elements)
    assert all(element.text and element.text == element.text.strip() for element in elements)


@given(st.text(alphabet='[]{},"\\ \n1a', max_size=30), st.lists(st.integers(0, 5), max_size=30), st.integers(1, 6))
def test_any_bytes_are_cut_alike_in_any_chunks(text: str, sizes: list[int], max_bytes: int) -> None:
    content = text.encode()
    whole, tail = split_array([content])
    assert split_array(in_chunks(content, sizes)) == (whole, tail)
    measured, _ = split_array(in_chunks(content, sizes), max_bytes)
    assert measured == [one if one.length <= max_bytes else one._replace(text=None) for one in whole]
    try:
        array = json.loads(content)
    except ValueError:
        return
    if isinstance(array, list):
        assert tail is None
        assert [json.loads(one.text or b"") for one in whole] == array


@given(st.lists(values, min_size=1, max_size=4), layouts, st.data())
def test_an_array_cut_anywhere_loses_no_element_silently(array: list[Any], layout: dict[str, Any], data: Any) -> None:
    content = json.dumps(array, **layout).encode()
    cut = data.draw(st.integers(0, len(content) - 1))
    elements, tail = split_array([content[:cut]])
    assert tail is not None
    assert elements == split_array([content])[0][: len(elements)]
    assert not elements or tail >= elements[-1].offset + elements[-1].length


@example(r"[1\], 2]", [4])  # a chunk ends in a backslash that escapes nothing
@given(st.text(alphabet='[]{},"\\ \n1a\u00e9', max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_any_bytes_against_the_plain_splitter(text: str, sizes: list[int]) -> None:
    for content in (text.encode(), b"[" + text.encode(), b"[" + text.encode() + b"]"):
        assert split_array(in_chunks(content, sizes)) == plain_split(content)


@given(st.lists(values, min_size=1, max_size=4), layouts, st.integers(1, 1 << 40))
def test_offsets_start_where_they_are_told(array: list[Any], layout: dict[str, Any], offset: int) -> None:
    content = json.dumps(array, **layout).encode()
    elements, tail = split_array([content[:-1]])
    moved = [element._replace(offset=element.offset + offset) for element in elements]
    assert split_array([content[:-1]], offset=offset) == (moved, offset + (tail or 0))


@pytest.mark.parametrize("backslashes", range(1, 7))
def test_backslashes_over_chunks(backslashes: int) -> None:
    inner = b"\\" * backslashes + b'"' * (backslashes % 2)
    content = b'["' + inner + b'", "]", 1]'
    for size in range(1, len(content)):
        elements, tail = split_array([content[at : at + size] for at in range(0, len(content), size)])
        assert tail is None
        assert [element.text for element in elements] == [b'"' + inner + b'"', b'"]"', b"1"]


@pytest.mark.parametrize("piece", [b"[", b"]", b'"', b"\\", b",", b" ", b'{"a":', b"a"])
def test_hostile_bytes_take_no_memory(piece: bytes) -> None:
    splitter = ArraySplitter(1 << 16)
    chunk = piece * ((64 << 10) // len(piece))
    splitter.feed(b"[")
    tracemalloc.start()
    try:
        for _ in range(64):
            splitter.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
