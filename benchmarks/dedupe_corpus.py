"""Corpora with planted duplicates whose similarity is computed, for the benchmark of de-duplication.

`chat`        eight languages in six scripts, median 0.5 kB, mean about 0.9 kB; a fifth of the records
              derive from another one: exact copies, the same talk under another system prompt, and copies
              with scattered edits, a changed passage or a cut end, at similarities from 0.5 to 1
`template`    one family: 62 % of the shingles in common, a fifth planted at 0.89 to another member
`identical`   the same talk, under a system prompt of its own each
`path`        a window that slides over one long text: each record is like the next, the ends are strangers
`bad`         empty, one token, only punctuation, 1 MiB of one character, and texts crafted to collide in
              datasketch with its default seed

A corpus is one Arrow IPC file, mapped into memory by its readers: `number`, `same_as` (the record whose
content it repeats, or itself), `language`, `messages`. Beside it `pairs.parquet`: planted pairs with their
exact similarity, a sample of at most `MOST_PAIRS`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.dedupe_truth import body_of, similarity, tokens_of
from transforms.schema import MESSAGE, MESSAGES

BATCH = 8192  # records
VERSION = 4  # of what is made: raise it with any change
MOST_PAIRS = 60_000
KINDS = ("chat", "template", "identical", "path", "bad")

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("same_as", pa.int64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
    ]
)
PAIRS = pa.schema(
    [
        pa.field("a", pa.int64()),
        pa.field("b", pa.int64()),
        pa.field("similarity", pa.float64()),
        pa.field("language", pa.string()),
        pa.field("tokens", pa.int64()),  # of the shorter text
    ]
)

# Alphabets, letters a word, share of the corpus; "" joins what is written without spaces.
_LANGUAGES: dict[str, tuple[str, tuple[int, int], float, str]] = {
    "en": ("etaoinshrdlucmfwypvbgk", (2, 10), 0.40, " "),
    "de": ("enisratdhulcgmobwfkzüäöß", (2, 13), 0.08, " "),
    "fr": ("esaitnrulodcmpévqfbghjàxèç", (2, 11), 0.08, " "),
    "ru": ("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф", (2, 11), 0.10, " "),
    "ar": ("اليمنرتبوسدعهكفحقجشطصخضذزثغظء", (2, 8), 0.08, " "),
    "zh": ("".join(map(chr, range(0x4E00, 0x4E00 + 3500))), (1, 3), 0.14, ""),
    "ja": ("".join(map(chr, [*range(0x3042, 0x3094), *range(0x30A2, 0x30F4), *range(0x4E00, 0x4E00 + 1200)])), (1, 4), 0.07, ""),
    "th": ("".join(map(chr, [*range(0x0E01, 0x0E2F), 0x0E30, 0x0E32, *range(0x0E40, 0x0E45)])), (2, 5), 0.05, ""),
}  # fmt: skip
_NEAR, _COPY, _RETOLD, _SHORT = 0.15, 0.03, 0.02, 0.05  # shares
_STOCK = 40  # sentences that many records of a language begin with


@dataclass
class _Language:
    """A vocabulary and the ways to draw from it. For scripts without spaces an entry is one character."""

    name: str
    glue: str
    entries: pa.Array
    words: list[npt.NDArray[np.int32]]  # entries of each word
    bytes_each: float
    odds: npt.NDArray[np.float64]
    stock: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def draw(self, generator: np.random.Generator, count: int) -> npt.NDArray[np.int32]:
        """`count` entries of fresh text; rarely, where words are short, some fewer."""
        chosen = np.searchsorted(self.odds, generator.random(count)).astype(np.int32)
        if self.glue:
            return chosen
        return (
            np.concatenate([self.words[word] for word in chosen[: count // 2 + 8].tolist()])[:count]
            if count
            else chosen
        )


def _language(name: str) -> _Language:
    alphabet, (least, most), _, glue = _LANGUAGES[name]
    chooser = random.Random(f"{name} words")
    spelled = list(
        dict.fromkeys("".join(chooser.choices(alphabet, k=chooser.randint(least, most))) for _ in range(20_000))
    )
    odds = np.cumsum(1.0 / (np.arange(len(spelled)) + 20))
    odds /= odds[-1]
    if glue:
        entries = [
            word + "." if place % 17 == 0 else word + "," if place % 11 == 0 else word
            for place, word in enumerate(spelled)
        ]
        words = [np.array([place], np.int32) for place in range(len(entries))]
    else:
        entries = list(alphabet)
        place_of = {character: place for place, character in enumerate(alphabet)}
        words = [np.array([place_of[one] for one in word], np.int32) for word in spelled]
    drawn = np.searchsorted(odds, np.random.default_rng(1).random(2000))
    sizes = [len(entries[entry].encode()) + len(glue) for word in drawn for entry in words[word]]
    language = _Language(name, glue, pa.array(entries), words, float(np.mean(sizes)), odds)
    generator = np.random.default_rng([7, *name.encode()])
    language.stock = [language.draw(generator, int(generator.integers(8, 20))) for _ in range(_STOCK)]
    return language


def make_corpus(folder: Path, kind: str, size: int, seed: int = 0) -> Path:
    """The folder of a corpus of `size` records, made where it is not there yet."""
    target = folder / f"dedupe-{kind}-{size}-{seed}-v{VERSION}"
    if (target / "DONE").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    makers = {"chat": _chat, "template": _template, "identical": _identical, "path": _path, "bad": _bad}
    planted: list[tuple[int, int]] = []
    with pa.OSFile(str(target / "records.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in makers[kind](size, seed, planted):
            writer.write_batch(batch)
    pq.write_table(measure_pairs(open_corpus(target), planted), target / "pairs.parquet")
    (target / "DONE").touch()
    return target


def open_corpus(folder: Path, *, mapped: bool = True) -> pa.ipc.RecordBatchFileReader:
    """The batches of a corpus, `BATCH` records each but for the last; `mapped` without copying, else as a file."""
    path = str(folder / "records.arrow")
    return pa.ipc.open_file(pa.memory_map(path) if mapped else pa.OSFile(path))


def bodies_of(corpus: pa.ipc.RecordBatchFileReader, numbers: npt.NDArray[np.int64]) -> dict[int, str]:
    """The bodies of some records."""
    found: dict[int, str] = {}
    wanted = np.unique(numbers)
    for batch in np.unique(wanted // BATCH).tolist():
        mine = wanted[wanted // BATCH == batch]
        rows = corpus.get_batch(batch).column("messages").take(pa.array(mine % BATCH))
        found |= {number: body_of(messages) for number, messages in zip(mine.tolist(), rows.to_pylist(), strict=True)}
    return found


def measure_pairs(corpus: pa.ipc.RecordBatchFileReader, pairs: list[tuple[int, int]]) -> pa.Table:
    """PAIRS: an even sample of at most `MOST_PAIRS`, with their exact similarity."""
    chosen = pairs[:: -(-len(pairs) // MOST_PAIRS)] if pairs else []
    chosen.sort()
    rows = []
    for start in range(0, len(chosen), 4096):  # a few thousand texts at a time
        part = chosen[start : start + 4096]
        bodies = bodies_of(corpus, np.array(part).ravel())
        for a, b in part:
            tokens = min(len(tokens_of(bodies[one])) for one in (a, b))
            language = corpus.get_batch(b // BATCH).column("language")[b % BATCH].as_py()
            rows.append((a, b, similarity(bodies[a], bodies[b]), language, tokens))
    columns = list(zip(*rows, strict=True)) or [()] * len(PAIRS)
    return pa.table([pa.array(column, one.type) for column, one in zip(columns, PAIRS, strict=True)], schema=PAIRS)


def _chat(size: int, seed: int, planted: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    languages = [_language(name) for name in _LANGUAGES]
    prompts = _prompts(languages[0])
    shares = np.array([_LANGUAGES[one.name][2] for one in languages])
    for number in range(0, size, BATCH):
        count = min(BATCH, size - number)
        generator = np.random.default_rng([seed, number])
        yield _chat_batch(number, count, generator, languages, shares / shares.sum(), prompts, planted)


def _chat_batch(
    first: int,
    count: int,
    generator: np.random.Generator,
    languages: list[_Language],
    shares: npt.NDArray[np.float64],
    prompts: list[str],
    planted: list[tuple[int, int]],
) -> pa.RecordBatch:
    spoken = generator.choice(len(languages), count, p=shares)
    texts: list[npt.NDArray[np.int32]] = []
    same_as = np.arange(first, first + count)
    prompt = np.where(generator.random(count) < 0.3, generator.integers(0, len(prompts), count), -1)
    draws = generator.random(count)
    weights = generator.lognormal(np.log(542), 1.03, count)
    originals: list[list[int]] = [[] for _ in languages]
    for place in range(count):
        language = languages[spoken[place]]
        mine = originals[spoken[place]]
        if mine and draws[place] < _NEAR + _COPY + _RETOLD:
            source = mine[int(generator.integers(len(mine)))]
            if draws[place] < _NEAR:
                texts.append(_edited(texts[source], language, generator))
                planted.append((first + source, first + place))
            else:
                texts.append(texts[source])
                if draws[place] < _NEAR + _COPY:
                    same_as[place], prompt[place] = first + source, prompt[source]
                else:
                    prompt[place] = (prompt[source] + 1) % len(prompts)
            continue
        length = (
            int(generator.integers(1, 15))
            if generator.random() < _SHORT
            else max(1, int(weights[place] / language.bytes_each))
        )
        fresh = language.draw(generator, length)
        if length > 40 and generator.random() < 0.5:
            stock = language.stock[int(generator.integers(_STOCK))]
            fresh[: len(stock)] = stock
        texts.append(fresh)
        mine.append(place)
    return _batch(
        first,
        same_as,
        texts,
        [languages[one] for one in spoken],
        [prompts[one] if one >= 0 else None for one in prompt],
    )


def _edited(text: npt.NDArray[np.int32], language: _Language, generator: np.random.Generator) -> npt.NDArray[np.int32]:
    """A copy that is about as similar as a draw from [0.5, 1) says."""
    wanted = 0.5 + 0.5 * generator.random()
    shingles = max(1, len(text) - 4)
    lost = shingles * (1 - wanted) / (1 + wanted)
    kind = generator.random()
    if kind < 0.2 and len(text) > 20:  # the end is missing
        return text[: max(5, int(4 + shingles * wanted))]
    copy = text.copy()
    if kind < 0.4 and lost > 8:  # a passage differs
        size = int(lost) - 4
        start = int(generator.integers(0, len(text) - size + 1))
        drawn = language.draw(generator, size)
        copy[start : start + len(drawn)] = drawn
        return copy
    places = generator.choice(len(text), min(len(text), max(1, round(lost / 5))), replace=False)
    copy[places] = language.draw(generator, len(places) + 8)[: len(places)]
    return copy


def _template(size: int, seed: int, planted: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    english = _language("en")
    generator = np.random.default_rng([seed, 1])
    frame = english.draw(generator, 154)  # 150 shingles that all share
    yield from _derived(size, generator, english, planted, lambda: np.concatenate([frame, english.draw(generator, 46)]))


def _derived(
    size: int, generator: np.random.Generator, language: _Language, planted: list[tuple[int, int]], make: Any
) -> Iterator[pa.RecordBatch]:
    """Records from `make`, a fifth of them with two words of another one changed."""
    recent: list[tuple[int, npt.NDArray[np.int32]]] = []
    for first in range(0, size, BATCH):
        texts = []
        for number in range(first, min(first + BATCH, size)):
            if number % 5 == 4:
                source, text = recent.pop(int(generator.integers(len(recent))))
                copy = text.copy()
                copy[[int(generator.integers(155, 170)), int(generator.integers(180, 195))]] = language.draw(
                    generator, 2
                )
                planted.append((source, number))
                texts.append(copy)
            else:
                texts.append(make())
                recent.append((number, texts[-1]))
                recent = recent[-2000:]
        yield _batch(first, np.arange(first, first + len(texts)), texts, [language] * len(texts), [None] * len(texts))


def _identical(size: int, seed: int, _: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    english = _language("en")
    text = english.draw(np.random.default_rng([seed, 2]), 150)
    for first in range(0, size, BATCH):
        count = min(BATCH, size - first)
        yield _batch(
            first,
            np.arange(first, first + count),
            [text] * count,
            [english] * count,
            [f"case {first + one}" for one in range(count)],
        )


def _path(size: int, seed: int, planted: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    """Windows of 100 words, each 10 words on: neighbours share 86 of 106 shingles, the next but one are at 0.655."""
    english = _language("en")
    stream = english.draw(np.random.default_rng([seed, 3]), 10 * size + 100)
    for first in range(0, size, BATCH):
        numbers = range(first, min(first + BATCH, size))
        texts = [stream[10 * one : 10 * one + 100] for one in numbers]
        planted += [(one - 1, one) for one in numbers if one]
        yield _batch(first, np.array(numbers), texts, [english] * len(texts), [None] * len(texts))


def _bad(size: int, seed: int, planted: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    """A sixth each of what is degenerate, among 1 MiB texts of one character (eight at most) and crafted ones."""
    chooser = random.Random(f"{seed} bad")
    crafted = _colliding(chooser)
    bodies = []
    for number in range(size):
        kind = number % 6
        bodies.append(
            [
                "",
                f"word{number}",
                "".join(chooser.choices("…!?., \n", k=40)),
                ("a" if number % 12 == 3 else "字") * (1 << 20) if number < 48 else "字" * (number % 97),
                " . ".join(
                    [*crafted, *(" ".join(f"x{chooser.randrange(10**9)}" for _ in range(5)) for _ in range(20))]
                ),
                " ".join(f"y{chooser.randrange(10**9)}" for _ in range(30)),
            ][kind]
        )
    mine = [number for number in range(size) if number % 6 == 4]
    planted += list(zip(mine[:-1], mine[1:], strict=True))
    for first in range(0, size, BATCH):
        part = bodies[first : first + BATCH]
        yield _assemble(
            first,
            np.arange(first, first + len(part)),
            pa.array(["en"] * len(part)),
            pa.array(part),
            np.arange(len(part) + 1),
            [None] * len(part),
        )


def _colliding(chooser: random.Random) -> list[str]:
    """Of many phrases of five words those that are least under one of datasketch's default permutations each."""
    import datasketch

    phrases = [" ".join(f"z{chooser.randrange(10**9)}" for _ in range(5)) for _ in range(50_000)]
    values = np.array(
        [one.hashvalues for one in datasketch.MinHash.bulk(([phrase.encode()] for phrase in phrases), num_perm=128)]
    )
    return [phrases[place] for place in np.unique(values.argmin(axis=0)).tolist()]


def _prompts(language: _Language) -> list[str]:
    generator = np.random.default_rng(5)
    return [
        language.glue.join(language.entries.take(pa.array(language.draw(generator, 200))).to_pylist())
        for _ in range(20)
    ]


def _batch(
    first: int,
    same_as: npt.NDArray[np.int64],
    texts: list[npt.NDArray[np.int32]],
    languages: list[_Language],
    prompts: list[str | None],
) -> pa.RecordBatch:
    """Entries to a batch of conversations of 2 to 8 turns."""
    lengths = np.array([len(text) for text in texts])
    turns = np.minimum(np.clip(2 * (lengths // 60 + 1), 2, 8), np.maximum(lengths, 1))
    said: list[pa.Array] = []
    order: list[npt.NDArray[np.int64]] = []
    starts = np.concatenate(([0], np.cumsum(turns)))
    for language in {id(one): one for one in languages}.values():
        mine = np.array([place for place, one in enumerate(languages) if one is language])
        bounds = np.concatenate([np.linspace(0, lengths[place], turns[place] + 1).astype(int)[1:] for place in mine])
        base = np.concatenate(([0], np.cumsum(lengths[mine])))[:-1]
        ends = bounds + np.repeat(base, turns[mine])
        flat = language.entries.take(pa.array(np.concatenate([texts[place] for place in mine])))
        lists = pa.ListArray.from_arrays(pa.array(np.concatenate(([0], ends)), pa.int32()), flat)
        said.append(pc.binary_join(lists, language.glue))
        order.append(np.concatenate([np.arange(starts[place], starts[place + 1]) for place in mine]))
    contents = pa.concat_arrays(said).take(pa.array(np.argsort(np.concatenate(order))))
    names = pa.array([one.name for one in languages])
    return _assemble(first, same_as, names, contents, starts, prompts)


def _assemble(
    first: int,
    same_as: npt.NDArray[np.int64],
    languages: pa.Array,
    contents: pa.Array,
    starts: npt.NDArray[np.int64],
    prompts: list[str | None],
) -> pa.RecordBatch:
    """Turns, and a system prompt before them where there is one, as SCHEMA."""
    count = len(prompts)
    has = np.array([prompt is not None for prompt in prompts])
    ends = starts[1:] + np.cumsum(has)
    begins = ends - np.diff(starts) - has
    turn = np.arange(ends[-1]) - np.repeat(begins + has, np.diff(starts) + has)
    roles = pa.array(["system", "user", "assistant"]).take(pa.array(np.where(turn < 0, 0, 1 + turn % 2)))
    system = pa.array([prompt for prompt in prompts if prompt is not None], pa.string())
    place = np.empty(len(turn), np.int64)
    place[turn < 0] = len(contents) + np.arange(len(system))
    place[turn >= 0] = np.arange(len(contents))
    columns = {"role": roles, "content": pa.concat_arrays([contents, system]).take(pa.array(place))}
    fields = [columns[one.name] if one.name in columns else pa.nulls(len(turn), one.type) for one in MESSAGE]
    flat = pa.StructArray.from_arrays(fields, fields=list(MESSAGE))
    messages = pa.ListArray.from_arrays(pa.array(np.concatenate(([0], ends)), pa.int32()), flat)
    numbers = pa.array(np.arange(first, first + count), pa.int64())
    return pa.RecordBatch.from_arrays([numbers, pa.array(same_as, pa.int64()), languages, messages], schema=SCHEMA)
