"""Fingerprints of conversations in one compiled pass over Arrow's buffers: tokens, shingles, bands, sketches.

    content bytes ─► tokens ─► shingle hashes ─┬─► MinHash values ─► band hashes
                                               └─► distinct ones ─► sketch

The same sets and values as the plain definitions in `transforms.shingles` and `transforms.minhash` give,
which are its oracle. Messages that hold characters which normalisation may join with what stands before
them (accents set apart, Indic and Thai signs) are normalised by Python first; all others in the pass.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.compiled import compiled, signed
from transforms.hashing import Keys
from transforms.letters import JOINS_BIT, KIND_SHIFT, POINT_MASK, SEVERAL, SINGLE, WORD, Letters, letters
from transforms.minhash import BAND_BITS, BandKeys, Permutations, band_keys, datasketch_signatures, permutations
from transforms.options import DedupeOptions
from transforms.shingles import BRIDGE, SHORT, ShingleKeys, shingle_keys
from transforms.sketches import Sketches, least_count, most_words, sketch_set

_AT_ONCE = 4096  # conversations, which bounds the arrays that results are put into
_SPREAD = 6  # code points that a byte of UTF-8 becomes at most (18 from the three bytes of U+FDFA)


class Fingerprints(NamedTuple):
    """Of N conversations: R band hashes uint64[R] with the conversation of each int32[R], and their sketches.

    `tags` uint16[N] are equal where both sketches are. `signatures` uint32[N, 2, P] hold the MinHash values of words and of grams, where they were asked for.
    """

    bands: npt.NDArray[np.uint64]
    owners: npt.NDArray[np.int32]
    words: Sketches
    grams: Sketches
    tags: npt.NDArray[np.uint16]
    signatures: npt.NDArray[np.uint32] | None = None


class _Text(NamedTuple):
    """Messages: bytes [starts, ends) of one of two buffers; conversation i has those in [bounds[i], bounds[i + 1])."""

    content: npt.NDArray[np.uint8]
    normal: npt.NDArray[np.uint8]
    is_normal: npt.NDArray[np.bool_]
    is_ascii: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]


def fingerprint_messages(
    contents: pa.Array,
    spoken: npt.NDArray[np.bool_],
    bounds: npt.NDArray[np.int64],
    options: DedupeOptions,
    keys: Keys,
    *,
    signatures: bool = False,
) -> Fingerprints:
    """Fingerprints of conversations; `contents` are strings, of which those count that are `spoken`.

    Conversation i has the messages in [bounds[i], bounds[i + 1]). One without a token has no bands and empty sketches.
    """
    tables = letters()
    text = _normalized(contents, spoken, bounds, tables)
    shingle = shingle_keys(options.shingle, keys)
    permuted = permutations(options.num_perm, keys)
    banded = [band_keys(options.bands, options.rows, keys, scheme) for scheme in (b"", b"grams")]
    least = least_count(options.leak_threshold)
    given = np.zeros((0, options.num_perm), np.uint32)
    if options.signature == "datasketch":
        given = datasketch_signatures(_joined(contents, spoken, bounds), options.shingle, options.num_perm)
    parts = []
    for first in range(0, len(bounds) - 1, _AT_ONCE):
        last = min(first + _AT_ONCE, len(bounds) - 1)
        parts.append(
            _print_all(
                text, first, last, tables, shingle, permuted, banded[0], banded[1], least,
                most_words(least), given[first:last], signatures,
            )
        )  # fmt: skip
    if not parts:
        empty = Sketches(np.zeros(1, np.int64), np.zeros(0, np.uint32))
        return Fingerprints(np.zeros(0, np.uint64), np.zeros(0, np.int32), empty, empty, np.zeros(0, np.uint16))
    bands, owners, word_sizes, words, gram_sizes, grams, tags, signed = zip(*parts, strict=True)
    return Fingerprints(
        np.concatenate(bands),
        np.concatenate(owners),
        Sketches.of(np.concatenate(word_sizes), np.concatenate(words)),
        Sketches.of(np.concatenate(gram_sizes), np.concatenate(grams)),
        np.concatenate(tags),
        np.concatenate(signed) if signatures else None,
    )


def fingerprint_texts(texts: pa.Array, options: DedupeOptions, keys: Keys, *, signatures: bool = False) -> Fingerprints:
    """Fingerprints of texts, each of which is all that a conversation says."""
    spoken = texts.is_valid().to_numpy(zero_copy_only=False)
    return fingerprint_messages(texts, spoken, np.arange(len(texts) + 1), options, keys, signatures=signatures)


def _joined(contents: pa.Array, spoken: npt.NDArray[np.bool_], bounds: npt.NDArray[np.int64]) -> list[str]:
    """The text of each conversation, a message a line."""
    said = [one if counts else "" for one, counts in zip(contents.to_pylist(), spoken.tolist(), strict=True)]
    return ["\n".join(said[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def _normalized(
    contents: pa.Array, spoken: npt.NDArray[np.bool_], bounds: npt.NDArray[np.int64], tables: Letters
) -> _Text:
    """The messages, those normalised by Python that need it."""
    contents = contents.cast(pa.large_string())
    _, offset_buffer, content_buffer = contents.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(contents) + 1, 8 * contents.offset)
    content = np.frombuffer(content_buffer, np.uint8) if content_buffer is not None else np.zeros(0, np.uint8)
    content.flags.writeable = False
    starts, ends = offsets[:-1].copy(), np.where(spoken, offsets[1:], offsets[:-1])
    plain, joins = np.zeros((2, len(contents)), np.bool_)
    _find_joins(content, starts, ends, tables.codes, tables.leads, plain, joins)
    rows = np.flatnonzero(joins)
    replaced, position = [], 0
    for row in rows.tolist():
        said = unicodedata.normalize("NFKC", content[starts[row] : ends[row]].tobytes().decode()).encode()
        replaced.append(said)
        starts[row], ends[row] = position, position + len(said)
        position += len(said)
    normal = np.frombuffer(b"".join(replaced), np.uint8)
    normal.flags.writeable = False
    return _Text(content, normal, joins, plain, starts, ends, np.asarray(bounds, np.int64))


@compiled
def _is_ascii(content: npt.NDArray[np.uint8]) -> bool:
    high = np.uint8(0)
    for octet in content:
        high = np.uint8(high | octet)  # else numba widens, eight bytes at a time instead of 32
    return bool(high < 128)


@compiled
def _find_joins(
    content: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint32],
    leads: npt.NDArray[np.bool_],
    plain: npt.NDArray[np.bool_],
    joins: npt.NDArray[np.bool_],
) -> None:
    """Marks the messages that are ASCII, and those that hold a character which normalisation may join with what
    stands before it."""
    for row in range(len(starts)):
        said = content[starts[row] : ends[row]]  # from 0: else each place is asked whether it counts from the end
        plain[row] = _is_ascii(said)
        if plain[row]:
            continue
        for place in range(len(said)):
            if leads[said[place]]:
                point, _ = _point(said, place)
                if codes[point] & np.uint32(JOINS_BIT):
                    joins[row] = True
                    break


@compiled
def _point(content: npt.NDArray[np.uint8], place: int) -> tuple[int, int]:
    """The code point at `place` of valid UTF-8, and where the next one begins."""
    first = signed(content[place])
    if first < 0x80:
        return first, place + 1
    second = signed(content[place + 1]) & 0x3F
    if first < 0xE0:
        return (first & 0x1F) << 6 | second, place + 2
    third = signed(content[place + 2]) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third, place + 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | signed(content[place + 3]) & 0x3F, place + 4


@compiled
def _tokens(
    content: npt.NDArray[np.uint8],
    place: int,
    end: int,
    tables: Letters,
    seed: np.uint64,
    factor: np.uint64,
    out: npt.NDArray[np.uint64],
    count: int,
) -> int:
    """Appends the hashes of a message's tokens to the `count` that `out` holds; returns how many there are then."""
    value, inside = seed, 0
    while place < end:
        if content[place] < 128:  # no branch on what the character is: word ends can't be foretold
            code = tables.codes[content[place]]
            place += 1
            word = signed(code >> np.uint32(KIND_SHIFT) == WORD)
            out[count] = value
            count += inside & (1 - word)
            inside = word
            mixed = (value ^ np.uint64(code & np.uint32(POINT_MASK))) * factor
            value = mixed ^ (mixed >> np.uint64(32)) if word else seed
            continue
        point, place = _point(content, place)
        code = tables.codes[point]
        first, last = 0, 1
        several = code >> np.uint32(KIND_SHIFT) == SEVERAL
        if several:
            row = signed(code & np.uint32(POINT_MASK))
            first, last = tables.bounds[row], tables.bounds[row + 1]
        for one in range(first, last):
            part = tables.several[one] if several else code
            kind = part >> np.uint32(KIND_SHIFT)
            mixed = np.uint64(part & np.uint32(POINT_MASK))
            if kind == WORD:
                mixed = (value ^ mixed) * factor
                value = mixed ^ (mixed >> np.uint64(32))
                inside = 1
                continue
            out[count] = value
            count += inside
            value, inside = seed, 0
            if kind == SINGLE:
                mixed = (seed ^ mixed) * factor
                out[count] = mixed ^ (mixed >> np.uint64(32))
                count += 1
    out[count] = value
    return count + inside


@compiled
def _spelling(
    content: npt.NDArray[np.uint8], place: int, end: int, tables: Letters, out: npt.NDArray[np.uint64], count: int
) -> int:
    """Appends the code points that a message's grams are cut from, a space before a word that follows anything else, but for
    a character that stands alone."""
    gap = True
    while place < end:
        point, place = _point(content, place)
        code = tables.codes[point]
        first, last = 0, 1
        several = code >> np.uint32(KIND_SHIFT) == SEVERAL
        if several:
            row = signed(code & np.uint32(POINT_MASK))
            first, last = tables.bounds[row], tables.bounds[row + 1]
        for one in range(first, last):
            part = tables.several[one] if several else code
            kind = part >> np.uint32(KIND_SHIFT)
            if kind in (WORD, SINGLE):
                if gap and count and kind == WORD:
                    before = tables.codes[signed(out[count - 1])]
                    if before >> np.uint32(KIND_SHIFT) == WORD:
                        out[count] = np.uint64(32)
                        count += 1
                out[count] = np.uint64(part & np.uint32(POINT_MASK))
                count += 1
                gap = False
            else:
                gap = True
    return count


@compiled
def _windows(values: npt.NDArray[np.uint64], count: int, factors: npt.NDArray[np.uint64], seed: np.uint64) -> int:
    """Puts the hashes of the windows of `len(factors)` values in the place of the values; returns their number."""
    size = len(factors)
    if count == 0:
        return 0
    for place in range(count, size):
        values[place] = 0
    windows = max(count - size + 1, 1)
    for place in range(windows):
        value = seed
        for offset in range(size):
            value += values[place + offset] * factors[offset]
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        values[place] = value ^ (value >> np.uint64(33))
    return windows


@compiled
def _finalized(value: np.uint64) -> np.uint32:
    """MurmurHash3's 32-bit finalizer of the lower half."""
    mixed = np.uint32(value)
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(mixed ^ (mixed >> np.uint32(16)))


@compiled
def _sign(hashes: npt.NDArray[np.uint64], count: int, permuted: Permutations, out: npt.NDArray[np.uint32]) -> None:
    """Puts the least value of each permutation into `out`; eight hashes at a time, to keep it in registers."""
    out[:] = np.uint32(0xFFFFFFFF)
    place, a, b = 0, permuted.a, permuted.b
    while place + 8 <= count:
        h0, h1, h2, h3 = (
            _finalized(hashes[place]), _finalized(hashes[place + 1]),
            _finalized(hashes[place + 2]), _finalized(hashes[place + 3]),
        )  # fmt: skip
        h4, h5, h6, h7 = (
            _finalized(hashes[place + 4]), _finalized(hashes[place + 5]),
            _finalized(hashes[place + 6]), _finalized(hashes[place + 7]),
        )  # fmt: skip
        for one in range(len(a)):
            x, y = a[one], b[one]
            low = min(
                min(np.uint32(x * h0 + y), np.uint32(x * h1 + y)), min(np.uint32(x * h2 + y), np.uint32(x * h3 + y))
            )
            high = min(
                min(np.uint32(x * h4 + y), np.uint32(x * h5 + y)), min(np.uint32(x * h6 + y), np.uint32(x * h7 + y))
            )
            out[one] = min(out[one], min(low, high))
        place += 8
    while place < count:
        value = _finalized(hashes[place])
        for one in range(len(a)):
            out[one] = min(out[one], np.uint32(a[one] * value + b[one]))
        place += 1


@compiled
def _band(signature: npt.NDArray[np.uint32], banded: BandKeys, out: npt.NDArray[np.uint64], place: int) -> None:
    """Puts the hash of each band at `place` and after it."""
    rows = len(banded.factors)
    for band in range(len(banded.seeds)):
        value = banded.seeds[band]
        for row in range(rows):
            value += np.uint64(signature[band * rows + row]) * banded.factors[row]
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        value ^= value >> np.uint64(33)
        out[place + band] = value >> np.uint64(64 - BAND_BITS) << np.uint64(64 - BAND_BITS)


@compiled
def _distinct(
    hashes: npt.NDArray[np.uint64], count: int, table: npt.NDArray[np.uint64], stamp: int, out: npt.NDArray[np.uint32]
) -> int:
    """Puts the distinct upper halves of hashes into `out`; returns their number.

    `table` holds what was seen, each with the stamp of its set, so that it needs no clearing; its size is a power of
    two above twice `count`.
    """
    found = 0
    bits = 1
    while (1 << bits) < 2 * count:
        bits += 1
    mask = (1 << bits) - 1
    mark = np.uint64(stamp) << np.uint64(32)
    for place in range(count):
        value = hashes[place] >> np.uint64(32)
        at = signed(hashes[place]) & mask
        while table[at] >> np.uint64(32) == np.uint64(stamp) and table[at] != mark | value:
            at = (at + 1) & mask
        if table[at] != mark | value:
            table[at] = mark | value
            out[found] = np.uint32(value)
            found += 1
    return found


@compiled
def _tag(sketches: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> np.uint16:
    """16 bits of both sketches of a record."""
    value = np.uint64(0)
    for scheme in range(2):
        for place in range(starts[scheme], ends[scheme]):
            value = (value ^ np.uint64(sketches[scheme, place])) * np.uint64(0x9E3779B97F4A7C15)
            value ^= value >> np.uint64(32)
        value += np.uint64(1)
    return np.uint16((value * np.uint64(0xC4CEB9FE1A85EC53)) >> np.uint64(48))


@compiled
def _print_all(
    text: _Text,
    first: int,
    last: int,
    tables: Letters,
    shingle: ShingleKeys,
    permuted: Permutations,
    word_bands: BandKeys,
    gram_bands: BandKeys,
    least: int,
    most: int,
    given: npt.NDArray[np.uint32],
    keep: bool,
) -> tuple[
    npt.NDArray[np.uint64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int64],
    npt.NDArray[np.uint32],
    npt.NDArray[np.int64],
    npt.NDArray[np.uint32],
    npt.NDArray[np.uint16],
    npt.NDArray[np.uint32],
]:
    """Fingerprints of the conversations in [first, last)."""
    rows = last - first
    room = 0
    for row in range(first, last):
        needed = 0
        for message in range(text.bounds[row], text.bounds[row + 1]):
            size = text.ends[message] - text.starts[message]
            needed += size + 2 if text.is_ascii[message] else _SPREAD * size + 2
        room = max(room, needed)
    values = np.empty(room + len(shingle.windows) + len(shingle.grams), np.uint64)
    distinct = np.empty(len(values), np.uint32)
    capacity = 2
    while capacity < 2 * len(values):
        capacity *= 2
    table = np.zeros(capacity, np.uint64)
    n_bands = len(word_bands.seeds)
    bands = np.empty(rows * n_bands * 2, np.uint64)
    owners = np.empty(rows * n_bands * 2, np.int32)
    sizes = np.zeros((2, rows), np.int64)
    sketches = np.empty((2, rows * most), np.uint32)
    ends = np.zeros(2, np.int64)
    tags = np.empty(rows, np.uint16)
    signed = np.empty((rows if keep else 1, 2, len(permuted.a)), np.uint32)
    found = 0
    for row in range(rows):
        tokens = 0
        for message in range(text.bounds[first + row], text.bounds[first + row + 1]):
            content = text.normal if text.is_normal[message] else text.content
            tokens = _tokens(
                content, text.starts[message], text.ends[message], tables, shingle.seed, shingle.factor, values, tokens
            )
        signature = signed[row if keep else 0]
        if keep:
            signature[:] = np.uint32(0xFFFFFFFF)
        for scheme in range(2):
            if tokens == 0 or (scheme == 0 and tokens < SHORT) or (scheme == 1 and tokens >= BRIDGE):
                continue
            if scheme == 0:
                count = _windows(values, tokens, shingle.windows, np.uint64(0))
            else:
                count = 0
                for message in range(text.bounds[first + row], text.bounds[first + row + 1]):
                    content = text.normal if text.is_normal[message] else text.content
                    count = _spelling(content, text.starts[message], text.ends[message], tables, values, count)
                count = _windows(values, count, shingle.grams, shingle.gram_seed)
            if scheme == 0 and len(given):
                signature[0] = given[row]
            else:
                _sign(values, count, permuted, signature[scheme])
            _band(signature[scheme], word_bands if scheme == 0 else gram_bands, bands, found)
            owners[found : found + n_bands] = first + row
            found += n_bands
            unique = _distinct(values, count, table, 2 * row + scheme + 1, distinct)
            end = sketch_set(distinct, unique, least, sketches[scheme], ends[scheme], ends[scheme] + most)
            sizes[scheme, row] = end - ends[scheme]
            ends[scheme] = end
        tags[row] = _tag(sketches, ends - sizes[:, row], ends)
    return (
        bands[:found].copy(),
        owners[:found].copy(),
        sizes[0],
        sketches[0, : ends[0]].copy(),
        sizes[1],
        sketches[1, : ends[1]].copy(),
        tags,
        signed,
    )
