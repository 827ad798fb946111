"""Decontaminate: which records hold what external benchmarks ask or answer.

An item of a benchmark, and a record, is looked at as texts (fields of the item, turns of the record) and as a whole.
A record that does one of these goes:

    exact     one of its texts of at least `LEAST` tokens, or all of it, has the tokens of one of an item, or of all of it
    minhash   such texts, or wholes of at least `LEAST` tokens, have a Jaccard index of word shingles of at least
              `dedupe.leak_threshold`; candidates are found by MinHash bands and then compared exactly
    grams     one of its texts has `GRAM` tokens in a row that are in a text of an item

Of a benchmark that may not be shown there may be signatures alone (`transforms.minhash.datasketch_signatures`), an item
each: a record of at least `LEAST` tokens goes by `minhash` where as many of their values agree as the threshold says.

13 tokens, and 8 below which a text by itself says too little: Brown et al., *Language Models are Few-Shot Learners*,
2020, appendix C. Tokens are those of `transforms.shingles`. Records are looked at as they were before redaction.

A benchmark is held as hashes: 16 bytes for each distinct 13-gram and item (8 for the hash, 8 for its items), about
12 for each band of a text, 8 for each shingle, 4 for each value of a signature.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.canonical import canonical_json
from transforms.exact import distinct
from transforms.hashing import Keys, content_digest
from transforms.minhash import band_hashes, band_keys, datasketch_signatures, permutations, sign
from transforms.options import DedupeOptions
from transforms.reasons import Reason
from transforms.shapes import read_record
from transforms.shingles import Ragged, jaccard, mix, tokenize
from transforms.storage import Storage
from transforms.strict_json import Refused

LEAST = 8  # tokens
GRAM = 13  # tokens
METHODS = ("exact", "minhash", "grams")

_SPOKEN = pa.array(["user", "assistant"])

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Lookup(NamedTuple):
    """Sorted distinct hashes uint64[H]; hash `h` is of items `items[offsets[h]:offsets[h + 1]]`."""

    hashes: Words
    offsets: Ints
    items: npt.NDArray[np.int32]

    def find(self, wanted: Words) -> tuple[Bools, Ints]:
        """bool[N] which hashes are there, int64[N] where they stand."""
        if not len(self.hashes):
            return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
        place = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        return self.hashes[place] == wanted, place


@dataclass(frozen=True)
class Found:
    """What a block of records holds: bool[N] for each method, and the (record, item) pairs of the finds."""

    by_method: dict[str, Bools]
    pairs: dict[str, Ints]  # int64[F, 2] record, item; each pair once

    @property
    def records(self) -> Bools:
        return np.asarray(np.logical_or.reduce([self.by_method[method] for method in METHODS]), bool)

    def only(self, rows: Bools) -> Found:
        """The finds in some rows, which are numbered anew."""
        numbers = np.cumsum(rows) - 1
        pairs = {}
        for method, found in self.pairs.items():
            left = found[rows[found[:, 0]]]
            pairs[method] = np.column_stack([numbers[left[:, 0]], left[:, 1]])
        return Found({method: found[rows] for method, found in self.by_method.items()}, pairs)


@dataclass(frozen=True)
class Hasher:
    """How tokens become hashes; the same for benchmarks and records."""

    options: DedupeOptions
    keys: Keys

    def tokens(self, texts: Sequence[str]) -> Ragged:
        """A hash for each token of each text, in order."""
        listed = [tokenize(text) for text in texts]
        key = self.keys.seeds(b"decontaminate", 1)[0].to_bytes(8, "big")
        flat = [token for one in listed for token in one]
        known = {
            token: int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8, key=key).digest(), "little")
            for token in dict.fromkeys(flat)
        }
        words = np.fromiter(map(known.__getitem__, flat), np.uint64, len(flat))
        return Ragged(np.concatenate(([0], np.cumsum([len(one) for one in listed], dtype=np.int64))), words)

    def wholes(self, tokens: Ragged) -> Words:
        """uint64[N]: a hash of all tokens of each text; 0 where it has none."""
        counts = np.diff(tokens.offsets)
        place = np.arange(len(tokens.values)) - np.repeat(tokens.offsets[:-1], counts)
        with np.errstate(over="ignore"):
            placed = mix(tokens.values + mix(place.astype(np.uint64) + np.uint64(1)))
        filled = np.flatnonzero(counts)
        sums = np.zeros(len(counts), np.uint64)
        if len(filled):
            sums[filled] = np.add.reduceat(placed, tokens.offsets[filled])
        return sums

    def windows(self, tokens: Ragged, size: int) -> tuple[Ints, Words]:
        """(text, hash) of every window of `size` tokens that lies within one text."""
        last = len(tokens.values) - size + 1
        if last <= 0:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        owners = np.repeat(np.arange(len(tokens.offsets) - 1), np.diff(tokens.offsets))
        factors = np.array(self.keys.seeds(b"windows", size), np.uint64) | np.uint64(1)
        hashes = np.zeros(last, np.uint64)
        for offset in range(size):
            hashes += tokens.values[offset : offset + last] * factors[offset]
        within = owners[:last] == owners[size - 1 :]
        return owners[:last][within], mix(hashes[within])

    def shingles(self, tokens: Ragged) -> Ragged:
        """Sorted distinct shingle hashes of each text; none of one with fewer tokens than `LEAST`, or than a shingle."""
        owners, hashes = self.windows(tokens, self.options.shingle)
        long_enough = np.diff(tokens.offsets)[owners] >= LEAST
        owners, hashes = owners[long_enough], hashes[long_enough]
        order = np.lexsort((hashes, owners))
        owners, hashes = owners[order], hashes[order]
        fresh = np.ones(len(hashes), bool)
        fresh[1:] = (owners[1:] != owners[:-1]) | (hashes[1:] != hashes[:-1])
        owners, hashes = owners[fresh], hashes[fresh]
        return Ragged(np.searchsorted(owners, np.arange(len(tokens.offsets))), hashes)

    def bands(self, shingles: Ragged) -> Words:
        """uint64[N, B]: band hashes."""
        return self.bands_of(sign(shingles, permutations(self.options.num_perm, self.keys)))

    def bands_of(self, signatures: npt.NDArray[np.uint32]) -> Words:
        """uint64[N, B]: band hashes of uint32[N, P] signatures."""
        return band_hashes(signatures, band_keys(self.options.bands, self.options.rows, self.keys))


def join_texts(tokens: Ragged, bounds: Ints) -> Ragged:
    """The tokens of texts [bounds[i], bounds[i + 1]) as one text each."""
    return Ragged(tokens.offsets[bounds], tokens.values)


def _both(texts: Ragged, wholes: Ragged) -> Ragged:
    """The texts, then the wholes."""
    return Ragged(
        np.concatenate([texts.offsets, wholes.offsets[1:] + texts.offsets[-1]]),
        np.concatenate([texts.values, wholes.values]),
    )


@dataclass(frozen=True)
class Benchmarks:
    """What is looked for. `items` is how many each file has; items are numbered through all of them."""

    hasher: Hasher
    items: tuple[int, ...]
    exact: Lookup
    grams: Lookup
    bands: Lookup  # whose items are texts
    shingles: Ragged  # of each text
    text_items: npt.NDArray[np.int32]
    signed_bands: Lookup  # of signatures
    signatures: npt.NDArray[np.uint32]  # [S, P]
    signed_items: npt.NDArray[np.int32]

    def search(self, messages: pa.ListArray) -> Found:
        """What conversations hold of it."""
        count = len(messages)
        texts, bounds = spoken_texts(messages)
        turns = self.hasher.tokens(texts)
        wholes = join_texts(turns, bounds)
        record_of_turn = np.repeat(np.arange(count), np.diff(bounds))
        both, records = _both(turns, wholes), np.concatenate([record_of_turn, np.arange(count)])
        # A conversation of one turn is that turn; short turns by themselves say too little, whole ones don't.
        lengths = np.diff(both.offsets)
        is_whole = np.arange(len(records)) >= len(record_of_turn)
        looked = np.flatnonzero(is_whole & (lengths > 0) | (lengths >= LEAST))
        pairs = {"exact": self._pairs(self.exact, self.hasher.wholes(both)[looked], records[looked])}
        owners, grams = self.hasher.windows(turns, GRAM)
        pairs["grams"] = self._pairs(self.grams, grams, record_of_turn[owners])
        alike = np.concatenate([self._alike(both, records), self._alike_by_signature(texts, bounds, wholes)])
        pairs["minhash"] = np.unique(alike, axis=0)
        by_method = {}
        for method in METHODS:
            by_method[method] = np.zeros(count, bool)
            by_method[method][pairs[method][:, 0]] = True
        return Found(by_method, pairs)

    @staticmethod
    def _pairs(lookup: Lookup, hashes: Words, records: Ints) -> Ints:
        """int64[F, 2]: distinct (record, item) for the hashes that are there."""
        hit, place = lookup.find(hashes)
        met = np.unique(np.column_stack([records[hit], place[hit]]), axis=0)
        sizes = lookup.offsets[met[:, 1] + 1] - lookup.offsets[met[:, 1]]
        starts = np.repeat(lookup.offsets[met[:, 1]] - np.cumsum(sizes) + sizes, sizes)
        items = lookup.items[starts + np.arange(int(sizes.sum()))] if len(met) else np.empty(0, np.int32)
        return np.unique(np.column_stack([np.repeat(met[:, 0], sizes), items.astype(np.int64)]), axis=0)

    def _alike(self, texts: Ragged, records: Ints) -> Ints:
        """int64[F, 2]: distinct (record, item) of texts that share a band and are alike enough."""
        shingles = self.hasher.shingles(texts)
        filled = np.flatnonzero(np.diff(shingles.offsets) > 0)
        if not len(filled) or not len(self.bands.hashes):
            return np.empty((0, 2), np.int64)
        starts = np.concatenate([shingles.offsets[filled], shingles.offsets[-1:]])
        bands = self.hasher.bands(Ragged(starts, shingles.values))
        owners = np.repeat(filled, bands.shape[1])
        found = []
        for mine, theirs in self._pairs(self.bands, bands.ravel(), owners).tolist():
            left = shingles.values[shingles.offsets[mine] : shingles.offsets[mine + 1]]
            right = self.shingles.values[self.shingles.offsets[theirs] : self.shingles.offsets[theirs + 1]]
            if jaccard(left, right) >= self.hasher.options.leak_threshold:
                found.append((int(records[mine]), int(self.text_items[theirs])))
        return np.array(sorted(set(found)), np.int64).reshape(-1, 2)

    def _alike_by_signature(self, texts: Sequence[str], bounds: Ints, wholes: Ragged) -> Ints:
        """int64[F, 2]: distinct (record, item) whose signatures agree in as many values as the threshold says."""
        rows = np.flatnonzero(np.diff(wholes.offsets) >= LEAST)
        if not len(self.signatures) or not len(rows):
            return np.empty((0, 2), np.int64)
        options = self.hasher.options
        said = ["\n".join(texts[bounds[row] : bounds[row + 1]]) for row in rows]
        signatures = datasketch_signatures(said, options.shingle, options.num_perm)
        bands = self.hasher.bands_of(signatures)
        mine, theirs = self._pairs(self.signed_bands, bands.ravel(), np.repeat(np.arange(len(rows)), bands.shape[1])).T
        agree = (signatures[mine] == self.signatures[theirs]).mean(axis=1) >= options.leak_threshold
        return np.column_stack([rows[mine[agree]], self.signed_items[theirs[agree]].astype(np.int64)])


def spoken_texts(messages: pa.ListArray) -> tuple[list[str], Ints]:
    """What users and assistants say, a text a turn; int64[N + 1] where the turns of each conversation start."""
    flat = messages.flatten()
    spoken = pc.fill_null(pc.and_(pc.is_in(flat.field("role"), _SPOKEN), pc.is_valid(flat.field("content"))), False)
    lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    before = np.concatenate(([0], np.cumsum(spoken.to_numpy(zero_copy_only=False), dtype=np.int64)))
    bounds = before[np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))]
    return flat.field("content").filter(spoken).to_pylist(), bounds


def texts_of_item(item: Any) -> tuple[list[str], str]:
    """(texts, whole) of a benchmark's item: every string in it; the conversation where it is one, else all strings."""
    if not isinstance(item, dict):
        raise Refused(Reason.NOT_AN_OBJECT)
    texts = list(dict.fromkeys(_strings(item)))
    try:
        said = read_record(item).messages
        turns = [one["content"] for one in said if one["role"] in ("user", "assistant") and one.get("content")]
        return texts, "\n".join(turns)
    except Refused:
        return texts, "\n".join(texts)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def build_benchmarks(
    files: Sequence[Sequence[tuple[list[str], str]]],
    options: DedupeOptions,
    keys: Keys,
    signatures: Mapping[int, npt.NDArray[np.uint32]] = MappingProxyType({}),
) -> Benchmarks:
    """What to look for, from the (texts, whole) of each item of each file; of some files `signatures` uint32[N, P], an item each."""
    hasher = Hasher(options, keys)
    starts = np.concatenate(([0], np.cumsum([len(file) for file in files]))).astype(np.int64)
    none = np.empty((0, options.num_perm), np.uint32)
    signed = np.concatenate([none, *(signatures.get(number, none) for number in range(len(files)))])
    signed_items = [starts[number] + np.arange(len(signatures.get(number, none))) for number in range(len(files))]
    items = [item for file in files for item in file]
    texts = hasher.tokens([text for one, _ in items for text in one])
    wholes = hasher.tokens([whole for _, whole in items])
    item_of_text = np.repeat(np.arange(len(items)), [len(one) for one, _ in items]).astype(np.int64)
    both, item_of = _both(texts, wholes), np.concatenate([item_of_text, np.arange(len(items), dtype=np.int64)])
    lengths = np.diff(both.offsets)
    is_whole = np.arange(len(item_of)) >= len(item_of_text)
    looked = np.flatnonzero(is_whole & (lengths > 0) | (lengths >= LEAST))
    owners, grams = hasher.windows(texts, GRAM)
    shingles = hasher.shingles(both)
    filled = np.flatnonzero(np.diff(shingles.offsets) > 0)
    kept = Ragged(np.concatenate([shingles.offsets[filled], shingles.offsets[-1:]]), shingles.values)
    bands = hasher.bands(kept) if len(filled) else np.empty((0, options.bands), np.uint64)
    return Benchmarks(
        hasher,
        tuple(len(file) for file in files),
        _lookup(hasher.wholes(both)[looked], item_of[looked]),
        _lookup(grams, item_of_text[owners]),
        _lookup(bands.ravel(), np.repeat(np.arange(len(filled)), bands.shape[1])),
        kept,
        item_of[filled].astype(np.int32),
        _lookup(hasher.bands_of(signed).ravel(), np.repeat(np.arange(len(signed)), options.bands)),
        signed,
        np.concatenate([np.empty(0, np.int64), *signed_items]).astype(np.int32),
    )


def _lookup(hashes: Words, items: Ints) -> Lookup:
    pairs = np.unique(np.column_stack([hashes, items.astype(np.uint64)]), axis=0)
    distinct, first = np.unique(pairs[:, 0], return_index=True)
    return Lookup(distinct, np.append(first, len(pairs)).astype(np.int64), pairs[:, 1].astype(np.int32))


_LOOKUPS = ("exact", "grams", "bands", "signed_bands")
_ARRAYS = ("text_items", "signatures", "signed_items")


def save_benchmarks(benchmarks: Benchmarks, storage: Storage, uri: str) -> None:
    """Puts the hashes into a file; options and keys with them, so that all workers hash alike."""
    arrays: dict[str, Any] = {name: getattr(benchmarks, name) for name in _ARRAYS}
    arrays["items"] = np.array(benchmarks.items, np.int64)
    for name in _LOOKUPS:
        arrays |= {f"{name}_{part}": value for part, value in getattr(benchmarks, name)._asdict().items()}
    arrays |= {f"shingles_{part}": value for part, value in benchmarks.shingles._asdict().items()}
    out = io.BytesIO()
    np.savez(out, **arrays)
    storage.put(uri, out.getvalue())


@functools.lru_cache(maxsize=2)
def load_benchmarks(storage: Storage, uri: str, hasher: Hasher) -> Benchmarks:
    """The hashes in a file; read once a worker."""
    with np.load(io.BytesIO(storage.read(uri)), allow_pickle=False) as arrays:
        lookups: dict[str, Any] = {
            name: Lookup(*(arrays[f"{name}_{part}"] for part in Lookup._fields)) for name in _LOOKUPS
        }
        shingles = Ragged(*(arrays[f"shingles_{part}"] for part in Ragged._fields))
        rest: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        return Benchmarks(hasher, tuple(arrays["items"].tolist()), **lookups, shingles=shingles, **rest)


@dataclass
class Contamination:
    """Counts of what was found, by benchmark file; small whatever the corpus weighs."""

    items: Sequence[int]
    counts: list[Counter[str]] = field(init=False)
    found: npt.NDArray[np.bool_] = field(init=False)
    first: list[int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [Counter() for _ in self.items]
        self.found = np.zeros(sum(self.items), bool)
        self.first = [None for _ in self.items]

    def add(self, found: Found, lines: Ints) -> None:
        """Counts the finds in a block, whose records stand at `lines`."""
        ends = np.cumsum(self.items)
        of_file: list[list[Ints]] = [[] for _ in self.items]
        for method in METHODS:
            pairs = found.pairs[method]
            self.found[pairs[:, 1]] = True
            files = np.searchsorted(ends, pairs[:, 1], side="right")
            for file in distinct(files).tolist():
                records = distinct(pairs[files == file, 0])
                self.counts[file][method] += len(records)
                of_file[file].append(records)
        for file, parts in enumerate(of_file):
            if parts:
                records = distinct(np.concatenate(parts))
                self.counts[file]["records"] += len(records)
                earliest = int(lines[records].min())
                known = self.first[file]
                self.first[file] = earliest if known is None else min(known, earliest)

    def as_list(self) -> list[dict[str, Any]]:
        """Records by method, those found by any, the items found as packed bits, the first line; a file each."""
        starts = np.concatenate(([0], np.cumsum(self.items, dtype=np.int64)))
        return [
            {
                **{name: self.counts[file][name] for name in (*METHODS, "records")},
                "items": pack_bits(self.found[starts[file] : starts[file + 1]]),
                "first": self.first[file],
            }
            for file in range(len(self.items))
        ]


def pack_bits(bits: Bools) -> str:
    """Bits as base64 of their compressed bytes."""
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 1)).decode()


def unpack_bits(packed: str, count: int) -> Bools:
    """The bits of `pack_bits`."""
    content = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    return np.unpackbits(content, count=count).astype(bool)


def items_digest(items: Sequence[tuple[list[str], str]], signatures: npt.NDArray[np.uint32] | None) -> str:
    """Digest of a benchmark's items: what of it decides an outcome."""
    signed = b"" if signatures is None else signatures.astype("<u4").tobytes()
    return "blake2b:" + content_digest(canonical_json(items) + signed, 16).hex()
