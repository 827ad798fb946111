"""Reading ahead gives what the file holds, wherever one looks, and holds no more than it says."""

from __future__ import annotations

import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.read_ahead import AHEAD, ReadAhead

CONTENT = bytes(range(256)) * 8


@given(
    st.integers(0, len(CONTENT)),
    st.none() | st.integers(0, len(CONTENT) + 9),
    st.integers(1, 300),
    st.integers(1, 5),
    st.lists(st.tuples(st.none() | st.integers(0, 2200), st.integers(-1, 700)), max_size=12),
)
def test_it_reads_as_a_plain_stream_does(size, end, block, ahead, steps):
    plain = io.BytesIO(CONTENT[:size])
    with ReadAhead(lambda start, stop: CONTENT[start:stop], size, end, block=block, ahead=ahead) as stream:
        for place, length in steps:
            if place is not None:
                assert stream.seek(place) == plain.seek(place)
            part = stream.read(length)
            expected = plain.read(len(part) if length >= 0 else -1)
            assert part == expected
            assert part or length == 0 or not plain.read(1)
            assert stream.tell() == plain.tell()


def test_it_fetches_ahead_at_once_and_not_beyond_the_end():
    wanted: list[tuple[int, int]] = []
    together = threading.Barrier(AHEAD + 1, timeout=10)  # broken unless so many fetches are under way

    def fetch(start: int, stop: int) -> bytes:
        wanted.append((start, stop))
        if start < 50:
            together.wait()
        return CONTENT[start:stop]

    with ReadAhead(fetch, len(CONTENT), 75, block=10) as stream:
        assert stream.read(10) == CONTENT[:10]
        assert len(wanted) == AHEAD + 1
        assert b"".join(iter(lambda: stream.read(65 - (stream.tell() - 10)), b"")) == CONTENT[10:75]
    assert sorted(wanted) == [(start, min(start + 10, 75)) for start in range(0, 75, 10)]


def test_a_look_here_and_there_fetches_single_blocks():
    wanted = []

    def fetch(start: int, stop: int) -> bytes:
        wanted.append(start)
        return CONTENT[start:stop]

    with ReadAhead(fetch, len(CONTENT), block=10) as stream:
        for place in (100, 7, 300):
            stream.seek(place)
            stream.read(3)
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == CONTENT[-5:]
    assert wanted == [100, 7, 300, len(CONTENT) - 5]


def test_a_file_that_became_shorter_ends_there():
    with ReadAhead(lambda start, stop: CONTENT[:95][start:stop], 200, 200, block=10) as stream:
        assert stream.read() == CONTENT[:95]


def test_an_error_on_the_way_is_raised():
    def fetch(start: int, stop: int) -> bytes:
        if start >= 20:
            raise OSError("lost")
        return CONTENT[start:stop]

    with ReadAhead(fetch, 100, 100, block=10) as stream, pytest.raises(OSError, match="lost"):
        stream.read()
