"""Corpora for benchmarks: chat logs of any size, made once into a cache folder, streamed to disk.

Words are drawn from a Zipf-like vocabulary; a tenth of the records are exact copies, a tenth near-copies
(one word changed). Sizes are those of production chat: 2 to 8 turns, about 1 kB a record.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from itertools import accumulate, cycle
from pathlib import Path

SHARD_BYTES = 128 << 20


def make_corpus(folder: Path, n_bytes: int, seed: int = 0) -> Path:
    """A folder of JSONL shards of about `n_bytes` in all; kept for the next time."""
    target = folder / f"chat-{n_bytes >> 20}MiB-{seed}"
    if (target / "DONE").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    chooser = random.Random(seed)
    words = ["".join(chooser.choices("etaoinshrdlucmfwypvbgk", k=chooser.randint(2, 10))) for _ in range(30_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    text = _Text(chooser.choices(words, weights, k=2_000_000))
    written = shard = number = 0
    recent: deque[_Record] = deque(maxlen=1000)
    while written < n_bytes:
        with (target / f"part-{shard:04d}.jsonl").open("wb") as out:
            position, most = 0, min(SHARD_BYTES, n_bytes - written)
            while position < most:
                number += 1
                draw = chooser.random()
                if recent and draw < 0.1:
                    record = recent[chooser.randrange(len(recent))]
                elif recent and draw < 0.2:
                    record = recent[chooser.randrange(len(recent))].near(number)
                else:
                    record = _fresh(chooser, text, number)
                    recent.append(record)
                position += out.write(record.line())
            written += position
        shard += 1
    (target / "DONE").touch()
    return target


class _Text:
    """Words in one string, any of which are cut out without joining them."""

    def __init__(self, words: list[str]) -> None:
        self.count = len(words)
        self._joined = " ".join(words)
        self._starts = list(accumulate((len(word) + 1 for word in words), initial=0))

    def cut(self, start: int, length: int) -> str:
        return self._joined[self._starts[start] : self._starts[start + length] - 1]


@dataclass(frozen=True)
class _Record:
    """What the turns say, in words that JSON needs not escape."""

    contents: tuple[str, ...]
    user: int

    def near(self, number: int) -> _Record:
        return _Record((*self.contents[:-1], f"{self.contents[-1]} {number:x}"), self.user)

    def line(self) -> bytes:
        """As json.dumps writes it."""
        roles = cycle(("user", "assistant"))
        turns = ", ".join(
            f'{{"role": "{role}", "content": "{content}"}}' for role, content in zip(roles, self.contents, strict=False)
        )
        return f'{{"messages": [{turns}], "user_id": {self.user}}}\n'.encode()


def _fresh(chooser: random.Random, text: _Text, number: int) -> _Record:
    contents = []
    for _ in range(2 * chooser.randint(1, 4)):
        start, length = chooser.randrange(text.count - 200), chooser.randint(8, 60)
        contents.append(f"{text.cut(start, length)} {number:x}.")
    return _Record(tuple(contents), number // 5)
