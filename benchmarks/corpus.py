"""Corpora for benchmarks: chat logs of any size, made once into a cache folder, streamed to disk.

Words are drawn from a Zipf-like vocabulary; a tenth of the records are exact copies, a tenth near-copies
(one word changed). Sizes are those of production chat: 2 to 8 turns, about 1 kB a record.
"""

from __future__ import annotations

import json
import random
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
    # Blocks of ready text make writing fast; a counter keeps records apart.
    weights = [1 / (rank + 10) for rank in range(len(words))]
    pool = chooser.choices(words, weights, k=2_000_000)
    written = shard = number = 0
    recent: list[dict[str, object]] = []
    while written < n_bytes:
        with (target / f"part-{shard:04d}.jsonl").open("wb") as out:
            while out.tell() < min(SHARD_BYTES, n_bytes - written):
                number += 1
                draw = chooser.random()
                if recent and draw < 0.1:
                    record = chooser.choice(recent)
                elif recent and draw < 0.2:
                    record = _near(chooser.choice(recent), number)
                else:
                    record = _fresh(chooser, pool, number)
                    recent.append(record)
                    recent = recent[-1000:]
                out.write(json.dumps(record).encode() + b"\n")
            written += out.tell()
        shard += 1
    (target / "DONE").touch()
    return target


def _fresh(chooser: random.Random, pool: list[str], number: int) -> dict[str, object]:
    messages = []
    for turn in range(2 * chooser.randint(1, 4)):
        start, length = chooser.randrange(len(pool) - 200), chooser.randint(8, 60)
        text = " ".join(pool[start : start + length])
        messages.append({"role": "assistant" if turn % 2 else "user", "content": f"{text} {number:x}."})
    return {"messages": messages, "user_id": number // 5}


def _near(record: dict[str, object], number: int) -> dict[str, object]:
    copy = json.loads(json.dumps(record))
    copy["messages"][-1]["content"] += f" {number:x}"
    return dict(copy)
