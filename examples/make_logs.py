"""Writes the chat logs of a company that does not exist, with every defect that a file can hold.

    python examples/make_logs.py                                 examples/logs and examples/expected.json, as committed
    python examples/make_logs.py --count                         what is planted in them, as a table
    python examples/make_logs.py --output DIR --records 1000000  a bigger corpus of the same kind, for benchmarks

The same seed gives the same bytes (of the .gz: unpacked), and N records begin with those that N - 1 would be. Memory is
flat in N. conversations.py says what is said, phrases.toml in which words, defects.py what is wrong with it.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import re
import tomllib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

from conversations import ALIKE_WHEN_REDACTED, PRIVATE, Conversation, Speaker, pick, secret_parts
from defects import CUT, DEFECTS, MARK, ODDITIES, Twist

HERE = Path(__file__).resolve().parent
RECORDS = 720
SEED = 20261122
LISTED = 5_000  # most planted values, and most users, that expected.json names
CODENAME = "Project Nightjar"  # what config.yaml denies

# How often a record is something else than a sound new conversation.
DEFECT, ODDITY, EXACT, REDACTED, NEAR = 0.11, 0.04, 0.04, 0.02, 0.04
TURNS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8)
LEAST_ALIKE = 0.86  # of near-duplicates: clear of dedupe.threshold, 0.8


@dataclass(frozen=True)
class Shard:
    """One file: who is in it, and how its bytes are laid out."""

    name: str
    shape: str
    languages: tuple[str, ...]
    weight: int
    newline: bytes = b"\n"
    bom: bool = False
    final_newline: bool = True
    escaped: bool = False  # non-ASCII as \u escapes
    compact: bool = False

    @property
    def array(self) -> bool:
        """Whether the file is one JSON array."""
        return self.name.endswith(".json")

    @property
    def blanks(self) -> bool:
        """Whether blank lines stand in it."""
        return not self.array and self.newline == b"\n"

    def suits(self, said: Conversation) -> bool:
        """Whether a sound conversation can be said in this shape without loss."""
        if said.language not in self.languages:
            return False
        if self.shape == "prompt_completion":
            return [message["role"] for message in said.messages] == ["user", "assistant"]
        return self.shape == "messages" or "tools" not in said.fields


SHARDS = (
    Shard("chat-en-1.jsonl", "messages", ("en",), 26),
    Shard("chat-en-2.jsonl", "messages", ("en",), 20, newline=b"\r\n", final_newline=False),
    Shard("chat-zh.jsonl", "messages", ("zh",), 20, bom=True, compact=True),
    Shard("voice.jsonl", "sharegpt", ("en", "zh", "de"), 16, escaped=True),
    Shard("faq.jsonl.gz", "prompt_completion", ("en", "zh"), 10),
    Shard("tickets.json", "messages", ("de", "en"), 8),
)
ARRAY = next(shard for shard in SHARDS if shard.array)
LINE_SHARDS = tuple(shard for shard in SHARDS if not shard.array)
ARRAY_RECORDS = 1_000  # most records of an array: readers may hold it whole
SECOND_MEMBER = 40  # lines of the .gz before its second gzip member, as log rotation leaves them


# ------------------------------------------------------------------------------------------------- records


def shape_record(said: Conversation, shape: str) -> dict[str, Any]:
    """What is said as a record of a shape, metadata apart."""
    if shape == "prompt_completion":
        question, answer = said.messages
        return {**said.fields, "prompt": question["content"], "completion": answer["content"]}
    if shape == "sharegpt":
        record = {**said.fields, "conversations": [turn_sharegpt(message) for message in said.messages]}
        if "tools" in record:
            record["tools"] = json.dumps([tool["function"] for tool in record["tools"]], ensure_ascii=False)
        return record
    return {**said.fields, "messages": said.messages}


def turn_sharegpt(message: dict[str, Any]) -> dict[str, str]:
    """A message as ShareGPT has it, tool calls as LLaMA-Factory writes them."""
    if "tool_calls" in message:
        call = message["tool_calls"][0]["function"]
        value = {"name": call["name"], "arguments": json.loads(call["arguments"])}
        return {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    return {"from": names.get(message["role"], message["role"]), "value": message["content"]}


def dump(record: Any, shard: Shard, raw: bytes) -> bytes:
    """The record's line, with `raw` where the mark is."""
    separators = (",", ":") if shard.compact else (", ", ": ")
    line = json.dumps(record, ensure_ascii=shard.escaped, separators=separators).encode()
    if raw == CUT:
        return line.partition(MARK.encode())[0]
    return line.replace(f'"{MARK}"'.encode(), raw).replace(MARK.encode(), raw) if raw else line


# ----------------------------------------------------------------------------------------------- duplicates

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_WORD = re.compile(r"[A-Za-zäöüß]{5,}")
_HAN = re.compile(r"[\u4e00-\u9fff]{3,}")


def shingles(said: Conversation) -> set[tuple[str, ...]]:
    """Word 5-shingles of what user and assistant say, as the mill counts them."""
    texts = [message["content"] or "" for message in said.messages if message["role"] in ("user", "assistant")]
    tokens = _TOKEN.findall("\n".join(texts).casefold())
    return {tuple(tokens[start : start + 5]) for start in range(max(1, len(tokens) - 4))}


def resemblance(left: Conversation, right: Conversation) -> float:
    """Jaccard index of the shingles."""
    one, other = shingles(left), shingles(right)
    return len(one & other) / len(one | other)


def mistype(said: Conversation, rng: Random) -> Conversation | None:
    """A near-duplicate: one or two words with a slip of the finger. None if it would not be near enough."""
    near = said.copy()
    spoken = [message for message in near.messages if message["role"] in ("user", "assistant") and message["content"]]
    for _ in range(1 + (rng.random() < 0.4)):
        message = pick(rng, spoken)
        text: str = message["content"]
        words = list((_HAN if said.language == "zh" else _WORD).finditer(text))
        if not words:
            return None
        place = pick(rng, words).start() + 1
        message["content"] = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return near if LEAST_ALIKE <= resemblance(said, near) < 1 else None


def disguise(said: Conversation, rng: Random) -> Conversation:
    """The same conversation with another telephone number and e-mail: the same again once they are redacted."""
    other = said.copy()
    text = json.dumps(other.messages, ensure_ascii=False)
    for place, (slot, value) in enumerate(said.planted):
        fresh = PRIVATE[slot][1](rng)
        while fresh in text:
            fresh = PRIVATE[slot][1](rng)
        text = text.replace(value, fresh)
        other.planted[place] = (slot, fresh)
    other.messages = json.loads(text)
    return other


# --------------------------------------------------------------------------------------------------- counts


class Tally:
    """What was planted: counted as it is written, never afterwards."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.shards = {shard.name: Counter(read=0, blank=0, quarantined=0, duplicate=0) for shard in SHARDS}
        self.quarantined: Counter[str] = Counter()  # by first reason
        self.reasons: Counter[str] = Counter()  # by every reason
        self.defects: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter(exact=0, redacted=0, near=0)
        self.codename = 0
        self.users: set[str] = set()
        self.canaries: dict[str, dict[str, Any]] = {}

    def count(self, shard: Shard, twist: Twist | None, kind: str | None) -> None:
        here = self.shards[shard.name]
        here["read"] += 1
        if twist is not None and twist.reasons:
            here["quarantined"] += 1
            self.quarantined[twist.reasons[0]] += 1
            self.reasons.update(twist.reasons)
            self.defects[twist.name] += 1
        elif twist is not None:
            self.oddities[twist.name] += 1
        if kind is not None:
            here["duplicate"] += 1
            self.duplicates[kind] += 1

    def list_private(self, shard: Shard, said: Conversation, line: bytes, metadata: Any, sound: bool) -> None:
        """Lists what a line really holds: its user, the codename, the planted values and where they stand."""
        self.codename += CODENAME.encode() in line
        user = said.fields.get("user_id")
        if user is not None and len(self.users) < LISTED and user.encode() in line:
            self.users.add(user)
        if not said.planted:
            return
        contents = json.dumps([message["content"] for message in said.messages])
        calls = json.dumps([message.get("tool_calls") for message in said.messages])
        places = {"content": contents, "tool_calls": calls, "metadata": json.dumps(metadata)}
        for slot, value in said.planted:
            for part in secret_parts(slot, value):
                known = part in self.canaries
                if part.encode() not in line or not (known or len(self.canaries) < LISTED):
                    continue
                new = {"entity": PRIVATE[slot][0], "value": part, "where": [], "shards": [], "sound": False}
                canary = self.canaries.setdefault(part, new)
                where = [name for name, text in places.items() if part in text]
                canary["where"] = sorted({*canary["where"], *where})
                canary["shards"] = sorted({*canary["shards"], shard.name})
                canary["sound"] |= sound

    def summary(self) -> dict[str, Any]:
        """What expected.json holds; README.md says what its keys mean."""
        total: Counter[str] = Counter()
        for counts in self.shards.values():
            total.update(counts)
        return {
            "seed": self.seed,
            "read": total["read"],
            "blank": total["blank"],
            "kept": total["read"] - total["quarantined"] - total["duplicate"],
            "duplicates": dict(self.duplicates),
            "quarantined": dict(sorted(self.quarantined.items())),
            "reasons": dict(sorted(self.reasons.items())),
            "defects": dict(sorted(self.defects.items())),
            "oddities": dict(sorted(self.oddities.items())),
            "codename": {"value": CODENAME, "records": self.codename},
            "shards": [self._shard(shard) for shard in SHARDS],
            "users": sorted(self.users),
            "canaries": sorted(self.canaries.values(), key=lambda canary: (canary["entity"], canary["value"])),
        }

    def _shard(self, shard: Shard) -> dict[str, Any]:
        layout = {"crlf": shard.newline == b"\r\n", "bom": shard.bom, "final_newline": shard.final_newline}
        return {"name": shard.name, "shape": shard.shape, **self.shards[shard.name], **layout}


DUPLICATES = {
    "exact": "the same again, perhaps in another shape",
    "redacted": "the same but for a telephone number or e-mail",
    "near": "one or two words mistyped",
}


def table(summary: dict[str, Any]) -> str:
    """The counts as Markdown, for README.md."""
    lines = ["| shard | shape | records | blank lines | quarantined | duplicates |", "|---|---|---:|---:|---:|---:|"]
    keys = ("name", "shape", "read", "blank", "quarantined", "duplicate")
    lines += ["| " + " | ".join(str(shard[key]) for key in keys) + " |" for shard in summary["shards"]]
    lost = (sum(summary["quarantined"].values()), sum(summary["duplicates"].values()))
    totals = " | ".join(map(str, (summary["read"], summary["blank"], *lost)))
    lines += [f"| all | | {totals} |", "", "| planted | records |", "|---|---:|"]
    lines += [f"| quarantined for `{reason}` | {count} |" for reason, count in summary["quarantined"].items()]
    lines += [f"| duplicate: {DUPLICATES[kind]} | {count} |" for kind, count in summary["duplicates"].items()]
    lines += [f"| odd but sound: {oddity} | {count} |" for oddity, count in summary["oddities"].items()]
    entities = Counter(canary["entity"] for canary in summary["canaries"])
    lines += ["", "| planted value | different ones |", "|---|---:|"]
    lines += [f"| `{entity}` | {count} |" for entity, count in sorted(entities.items())]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ the corpus


class Author:
    """Decides record by record what comes next and which shard it goes to."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        phrases = tomllib.loads((HERE / "phrases.toml").read_text("utf-8"))
        self.speakers = {language: Speaker(language, words, rng) for language, words in phrases.items()}
        self.tally = Tally(seed)
        self.recent: deque[Conversation] = deque(maxlen=64)  # sound ones, to copy from
        self.users: deque[str] = deque(maxlen=150)
        self.defects, self.oddities = itertools.cycle(DEFECTS), itertools.cycle(ODDITIES)
        self.written = 0

    def write(self, count: int) -> Iterator[tuple[Shard, bytes]]:
        """`count` records, each with its shard, and blank lines between them."""
        for self.written in range(count):
            shard, line = self._next()
            yield shard, line
            if shard.blanks and self.rng.random() < 0.04:
                self.tally.shards[shard.name]["blank"] += 1
                yield shard, pick(self.rng, (b"", b"", b"  ", b"\t"))

    def _next(self) -> tuple[Shard, bytes]:
        chance = self.rng.random()
        kinds: tuple[tuple[float, Callable[[], tuple[Shard, bytes] | None]], ...] = (
            (DEFECT, lambda: self._twisted(next(self.defects))),
            (ODDITY, lambda: self._twisted(next(self.oddities))),
            (EXACT, self._repeated),
            (REDACTED, self._disguised),
            (NEAR, self._mistyped),
        )
        for share, attempt in kinds:
            if chance < share:
                return attempt() or self._new()
            chance -= share
        return self._new()

    def _new(self) -> tuple[Shard, bytes]:
        shard = self._shard(self._open_shards())
        said = self._talk(shard, 1)
        if shard.suits(said):  # not where ids of tool calls are lost: a copy elsewhere would have them
            self.recent.append(said)
        return shard, self._line(shard, said.copy())

    def _twisted(self, twist: Twist) -> tuple[Shard, bytes]:
        """A conversation with a defect or an oddity; one that JSON can't say never stands in an array."""
        fits = [one for one in self._open_shards() if one.shape in twist.shapes and not (one.array and twist.raw)]
        shard = self._shard(fits)
        said = self._talk(shard, twist.turns, tools=False)
        twist.change(said, self.rng)
        return shard, self._line(shard, said, twist=twist)

    def _repeated(self) -> tuple[Shard, bytes] | None:
        return self._copied("exact", self.recent, Conversation.copy)

    def _disguised(self) -> tuple[Shard, bytes] | None:
        private = [(said, {slot for slot, _ in said.planted}) for said in self.recent]
        sources = [said for said, slots in private if slots and slots <= ALIKE_WHEN_REDACTED]
        return self._copied("redacted", sources, lambda said: disguise(said, self.rng))

    def _mistyped(self) -> tuple[Shard, bytes] | None:
        """At most one for each original, as two near-duplicates of one need not be near to each other."""
        sources = [said for said in self.recent if not said.planted]
        self.rng.shuffle(sources)
        for said in sources[:8]:
            near = mistype(said, self.rng)
            if near is not None:
                self.recent.remove(said)
                return self._copied("near", [near], Conversation.copy)
        return None

    def _copied(
        self, kind: str, sources: Sequence[Conversation], change: Callable[[Conversation], Conversation]
    ) -> tuple[Shard, bytes] | None:
        if not sources:
            return None
        copy = change(pick(self.rng, sources))
        shard = self._shard([one for one in self._open_shards() if one.suits(copy)])
        return shard, self._line(shard, copy, kind=kind)

    def _open_shards(self) -> Sequence[Shard]:
        """All but an array that is full."""
        full = self.tally.shards[ARRAY.name]["read"] >= ARRAY_RECORDS
        return LINE_SHARDS if full else SHARDS

    def _shard(self, shards: Sequence[Shard]) -> Shard:
        return self.rng.choices(shards, [shard.weight for shard in shards])[0]

    def _talk(self, shard: Shard, least: int, tools: bool = True) -> Conversation:
        speaker = self.speakers[pick(self.rng, shard.languages)]
        if shard.shape == "prompt_completion":
            return speaker.talk(1, system=False, tool=False)
        turns = max(least, pick(self.rng, TURNS))
        system, tool = self.rng.random() < 0.4, tools and self.rng.random() < 0.15
        return speaker.talk(turns, system, tool and "tools" in speaker.phrases)

    def _line(self, shard: Shard, said: Conversation, twist: Twist | None = None, kind: str | None = None) -> bytes:
        """One line of a shard, counted."""
        metadata = self._metadata(shard, said)
        record: Any = said.instead
        if record is None:
            record = {"id": f"c-{self.written:06d}", **shape_record(said, shard.shape), **metadata}
        line = dump(record, shard, twist.raw if twist is not None else b"")
        self.tally.count(shard, twist, kind)
        self.tally.list_private(shard, said, line, metadata, sound=twist is None or not twist.reasons)
        return line

    def _metadata(self, shard: Shard, said: Conversation) -> dict[str, Any]:
        """What logs hold beside what was said; names the user in `said.fields`."""
        rng = self.rng
        if shard.shape == "prompt_completion":
            return {"page": f"/help/{self.written % 97}"}
        if not self.users or rng.random() < 0.4:
            self.users.append(f"cust-{rng.getrandbits(40):010x}")
        said.fields["user_id"] = pick(rng, self.users)
        when = datetime.fromtimestamp(1_793_491_200 + 311 * self.written, UTC)
        metadata: dict[str, Any] = {"created_at": f"{when:%Y-%m-%dT%H:%M:%SZ}", "channel": pick(rng, ("web", "app"))}
        chance = rng.random()
        if chance < 0.05:
            metadata["client"] = {"ip": self._plant(said, "ip"), "language": said.language}
        elif chance < 0.09:
            metadata["contact"] = {"email": self._plant(said, "email"), "phones": [self._plant(said, "phone")]}
        elif chance < 0.094:
            metadata["note"] = f"customer pasted {self._plant(said, 'github')} and was told to revoke it"
        return metadata if shard.shape == "sharegpt" else {"metadata": metadata}

    def _plant(self, said: Conversation, slot: str) -> str:
        value = PRIVATE[slot][1](self.rng)
        said.planted.append((slot, value))
        return value


# ------------------------------------------------------------------------------------------------- the files


class ShardWriter:
    """One file in the making. Newlines stand between lines, so that the last need not have one."""

    def __init__(self, shard: Shard, folder: Path) -> None:
        self.shard, self.lines = shard, 0
        self.file = (folder / shard.name).open("wb")
        self.stream: BinaryIO | gzip.GzipFile = self._member() if shard.name.endswith(".gz") else self.file

    def write(self, line: bytes) -> None:
        if self.lines == 0:
            self.stream.write(b"[\n" if self.shard.array else b"\xef\xbb\xbf" if self.shard.bom else b"")
        else:
            self.stream.write(b",\n" if self.shard.array else self.shard.newline)
        if self.lines == SECOND_MEMBER and self.stream is not self.file:
            self.stream.close()
            self.stream = self._member()
        self.stream.write(line)
        self.lines += 1

    def close(self) -> None:
        if self.shard.array:
            self.stream.write(b"\n]\n" if self.lines else b"[]\n")
        elif self.shard.final_newline and self.lines:
            self.stream.write(self.shard.newline)
        self.stream.close()
        self.file.close()

    def _member(self) -> gzip.GzipFile:
        return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=self.file, mtime=0)


def write_shards(lines: Iterable[tuple[Shard, bytes]], folder: Path) -> None:
    """Writes each line to its shard in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    writers = {shard.name: ShardWriter(shard, folder) for shard in SHARDS}
    try:
        for shard, line in lines:
            writers[shard.name].write(line)
    finally:
        for writer in writers.values():
            writer.close()


def dump_summary(summary: dict[str, Any]) -> str:
    """JSON with one planted value, shard or user a line, so that its diffs can be read."""
    lines = []
    for key, value in summary.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            text = json.dumps(value, ensure_ascii=False, indent=1).replace("\n", "\n ")
            lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write chat logs to try the mill on, with defects on purpose.")
    parser.add_argument("--output", type=Path, help="folder of the shards (default: examples/logs)")
    parser.add_argument("--expected", type=Path, help="where to write what is planted (default: beside examples/logs)")
    parser.add_argument("--records", type=int, default=RECORDS, help=f"how many (default: {RECORDS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--count", action="store_true", help="write nothing, print what would be planted")
    chosen = parser.parse_args(arguments)
    author = Author(chosen.seed)
    lines = author.write(chosen.records)
    if chosen.count:
        deque(lines, maxlen=0)
        print(table(author.tally.summary()))
        return
    write_shards(lines, chosen.output or HERE / "logs")
    expected = chosen.expected or (HERE / "expected.json" if chosen.output is None else None)
    if expected is not None:
        expected.write_text(dump_summary(author.tally.summary()), "utf-8")


if __name__ == "__main__":
    main()
