"""The compiled pass agrees with the plain definitions of tokens, shingles, MinHash values, bands and sketches."""

import random

import datasketch
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms import fingerprints
from transforms.fingerprints import fingerprint_messages, fingerprint_texts
from transforms.hashing import Keys
from transforms.letters import JOINS_BIT, letters
from transforms.minhash import EMPTY, band_hashes, band_keys, datasketch_signatures, permutations, sign
from transforms.options import DedupeOptions
from transforms.shingles import BRIDGE, SHORT, gram_texts, jaccard, shingle_texts, spell, tokenize
from transforms.sketches import BITS, CAP, EXACT, LEVEL_WORDS, Sketches, estimate, least_count

KEYS = Keys("test salt")
OPTIONS = DedupeOptions()

_JOINING = "".join(chr(point) for point in np.flatnonzero(letters().codes & JOINS_BIT))
_ODD = "ﬁßİŒǅ①㌀㍿ﷺ한각ㅏ་゙ཱཱི́̂ｶﾞกำเນຳខ្មែမြန်מא־เ\u200d\u00ad…!\n\u2028\x00𝔘𠮷🇩"
letter = (
    st.sampled_from("ab éÉ東のไ.\n")
    | st.sampled_from(_ODD)
    | st.sampled_from(_JOINING)
    | st.characters(exclude_categories=["Cs"])
)
text = st.text(letter, max_size=120) | st.lists(st.text(letter, max_size=6), max_size=40).map(" ".join)


def expected(said: str, options: DedupeOptions, keys: Keys):
    """(bands, words' hashes, grams' hashes) of one text by the plain definitions."""
    tokens = len(tokenize(said))
    permuted = permutations(options.num_perm, keys)
    bands, sets = [], []
    for scheme, hashes, used in (
        (b"", shingle_texts([said], options.shingle, keys), tokens >= SHORT),
        (b"grams", gram_texts([said], keys), 0 < tokens < BRIDGE),
    ):
        values = hashes.values if used else hashes.values[:0]
        sets.append(values)
        if used:
            banded = band_keys(options.bands, options.rows, keys, scheme)
            bands += band_hashes(sign(hashes, permuted), banded)[0].tolist()
    return bands, *sets


def sketch_of(hashes: np.ndarray, least: int) -> list[int]:
    """The sketch of a set, plainly."""
    halves = sorted({int(one) >> 32 for one in hashes})
    if len(halves) <= EXACT:
        return halves
    level = 0
    while sum(one >> (32 - level) == 0 for one in halves) > CAP:
        level += 1
    sketch = [level]
    while True:
        within = [one for one in halves if one >> (32 - level) == 0]
        words = [0] * (LEVEL_WORDS - 1)
        for one in within:
            words[one % BITS // 32] ^= 1 << one % 32
        sketch += [len(within), *words]
        level += 1
        if len(within) <= least:
            return sketch


def row_of(sketches: Sketches, row: int) -> list[int]:
    return sketches.values[sketches.offsets[row] : sketches.offsets[row + 1]].tolist()


@given(st.lists(text, max_size=6))
@example(["ｶ", "゙ ｶ゙", "e", "́"])
@example(["a " * 14, "a b " * 7 + "c", "x" * 3000, "-" * 3000, "東" * 23, "東" * 24, "ﷺ" * 50])
@settings(max_examples=300)
def test_the_pass_agrees_with_the_plain_definitions(texts):
    prints = fingerprint_texts(pa.array(texts, pa.string()), OPTIONS, KEYS)
    least = least_count(OPTIONS.leak_threshold)
    bands, owners = [], []
    for row, said in enumerate(texts):
        mine, words, grams = expected(said, OPTIONS, KEYS)
        bands += mine
        owners += [row] * len(mine)
        assert row_of(prints.words, row) == sketch_of(words, least)
        assert row_of(prints.grams, row) == sketch_of(grams, least)
    assert prints.bands.tolist() == bands
    assert prints.owners.tolist() == owners


def test_every_character_agrees_beside_letters():
    every = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    chunks = ["a" + "a".join(every[first : first + 499]) for first in range(0, len(every), 499)]
    options = DedupeOptions(shingle=1)
    prints = fingerprint_texts(pa.array(chunks), options, KEYS)
    plain = shingle_texts(chunks, 1, KEYS)
    least = least_count(options.leak_threshold)
    for row, said in enumerate(chunks):
        words = plain.values[plain.offsets[row] : plain.offsets[row + 1]]
        if len(tokenize(said)) >= SHORT:
            assert row_of(prints.words, row) == sketch_of(words, least)


@given(st.lists(st.lists(st.none() | text, max_size=4), max_size=5))
def test_messages_are_one_text_a_message_a_line(conversations):
    contents = pa.array([one for messages in conversations for one in messages], pa.string())
    bounds = np.concatenate(([0], np.cumsum([len(one) for one in conversations]))).astype(np.int64)
    spoken = contents.is_valid().to_numpy(zero_copy_only=False)
    by_message = fingerprint_messages(contents, spoken, bounds, OPTIONS, KEYS)
    joined = ["\n".join(one or "" for one in messages) for messages in conversations]
    by_text = fingerprint_texts(pa.array(joined, pa.string()), OPTIONS, KEYS)
    assert by_message.bands.tolist() == by_text.bands.tolist()
    assert by_message.words.values.tolist() == by_text.words.values.tolist()
    assert by_message.grams.values.tolist() == by_text.grams.values.tolist()


@given(st.lists(text, max_size=4), st.lists(text, max_size=4))
def test_fingerprints_are_batch_invariant_and_read_slices(left, right):
    whole = pa.array([*left, *right], pa.string())
    both = fingerprint_texts(whole, OPTIONS, KEYS)
    first = fingerprint_texts(whole[: len(left)], OPTIONS, KEYS)
    second = fingerprint_texts(whole[len(left) :], OPTIONS, KEYS)
    assert both.bands.tolist() == [*first.bands.tolist(), *second.bands.tolist()]
    assert both.words.values.tolist() == [*first.words.values.tolist(), *second.words.values.tolist()]
    assert both.owners.tolist() == [*first.owners.tolist(), *(second.owners + len(left)).tolist()]


def test_many_conversations_are_printed_as_few_are(monkeypatch):
    texts = pa.array([f"conversation {number} says these words and no others" for number in range(10)])
    whole = fingerprint_texts(texts, DedupeOptions(), KEYS)
    monkeypatch.setattr(fingerprints, "_AT_ONCE", 3)
    parts = fingerprint_texts(texts, DedupeOptions(), KEYS)
    assert whole.owners.max() == 9
    for one, other in ((whole.bands, parts.bands), (whole.owners, parts.owners), (whole.tags, parts.tags)):
        assert one.tolist() == other.tolist()
    assert [row_of(whole.words, row) for row in range(10)] == [row_of(parts.words, row) for row in range(10)]


@given(st.lists(text, max_size=5))
def test_signatures_are_datasketchs_scheme(texts):
    prints = fingerprint_texts(pa.array(texts, pa.string()), OPTIONS, KEYS, signatures=True)
    permuted = permutations(OPTIONS.num_perm, KEYS)
    for row, said in enumerate(texts):
        hashes = shingle_texts([said], OPTIONS.shingle, KEYS).values
        reference = datasketch.MinHash(
            OPTIONS.num_perm,
            hashfunc=lambda value: int(value) & 0xFFFFFFFF,
            permutations=tuple(permuted),
            scheme="affine32",
        )
        for value in hashes:
            reference.update(value)
        if len(tokenize(said)) >= SHORT:
            assert (prints.signatures[row, 0] == reference.hashvalues).all()
        else:
            assert (prints.signatures[row, 0] == EMPTY).all()


def test_datasketchs_own_format():
    said = " ".join(f"word{number}" for number in range(40))
    made = datasketch.MinHash(64)
    for at in range(36):
        made.update(" ".join(f"word{number}" for number in range(at, at + 5)).encode())
    signatures = datasketch_signatures([said, ""], 5, 64)
    assert (signatures[0] == made.hashvalues).all()
    assert (signatures[1] == EMPTY).all()
    options = DedupeOptions(signature="datasketch")
    prints = fingerprint_texts(pa.array([said, "hi", said]), options, KEYS, signatures=True)
    assert (prints.signatures[0, 0] == datasketch_signatures([said], 5, 128)[0]).all()
    assert prints.bands[:25].tolist() == prints.bands[50:].tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("请问怎么退款在订单页申请", "请问，怎么退款？在订单页，申请。"),
        ("ありがとうございます", "ありがとう ございます。"),
        ("ขอบคุณมากครับ", "ขอบคุณ, มาก ครับ!"),
        ("東京 Tower 2020", "東京Tower，2020"),
        ("thanks a lot", "Thanks, a lot!"),
    ],
)
def test_short_texts_are_the_same_whatever_their_punctuation(one, other):
    assert spell(one) == spell(other)
    prints = fingerprint_texts(pa.array([one, other], pa.string()), OPTIONS, KEYS)
    assert row_of(prints.grams, 0) == row_of(prints.grams, 1) != []


def test_what_says_nothing_resembles_nobody():
    prints = fingerprint_texts(pa.array(["", "…!?", "\n\n", None, " "]), OPTIONS, KEYS)
    assert len(prints.bands) == len(prints.words.values) == len(prints.grams.values) == 0
    assert len(fingerprint_texts(pa.array([], pa.string()), OPTIONS, KEYS).bands) == 0


@pytest.mark.parametrize("one", ["a", "東", "…", "ﷺ", "é"])
def test_a_mebibyte_of_one_character(one):
    said = one * ((1 << 20) // len(one.encode()))
    prints = fingerprint_texts(pa.array([said, "hello there"]), OPTIONS, KEYS)
    _, words, grams = expected(said, OPTIONS, KEYS)
    least = least_count(OPTIONS.leak_threshold)
    assert row_of(prints.words, 0) == sketch_of(words, least)
    assert row_of(prints.grams, 0) == sketch_of(grams, least)
    assert len(row_of(prints.grams, 1)) == len({spell("hello there")[at : at + 5] for at in range(7)})


def similarity(left: Sketches, a: int, right: Sketches, b: int) -> float:
    return estimate(left.values, *left.offsets[a : a + 2].tolist(), right.values, *right.offsets[b : b + 2].tolist())


@pytest.mark.parametrize(
    ("size", "over"), [(20, 0.0), (60, 0.01), (190, 0.025), (700, 0.035), (1500, 0.045), (9000, 0.055)]
)
def test_sketches_give_the_upper_end_of_the_jaccard_index(size, over):
    """Two standard errors up: the truth is hardly ever above it, and on average not more than `over` below it."""
    chooser = random.Random(size)
    words = [f"w{number}" for number in range(5000)]
    off = []
    texts = []
    for _ in range(60):
        said = chooser.choices(words, k=size + 4)
        changed = list(said)
        for place in chooser.sample(range(size), k=max(1, round(size * chooser.choice([0.02, 0.04, 0.06])))):
            changed[place] = "changed"
        texts += [" ".join(said), " ".join(changed)]
    prints = fingerprint_texts(pa.array(texts), OPTIONS, KEYS)
    plain = shingle_texts(texts, OPTIONS.shingle, KEYS)
    for pair in range(0, 120, 2):
        sets = [plain.values[plain.offsets[one] : plain.offsets[one + 1]] for one in (pair, pair + 1)]
        off.append(similarity(prints.words, pair, prints.words, pair + 1) - jaccard(*sets))
    assert np.mean(np.array(off) < -1e-9) <= 0.05
    assert np.mean(off) <= over + 1e-9


def test_sketches_of_every_size_meet_their_neighbours():
    """A text with one word more is never beyond comparison, whatever form its sketch has."""
    words = [f"w{number}" for number in range(6000)]
    sizes = [20, 24, 35, 36, 37, 500, 1020, 1027, 1028, 1029, 1040, 2050, 2060, 4200]
    for size in sizes:
        prints = fingerprint_texts(pa.array([" ".join(words[:size]), " ".join(words[: size + 2])]), OPTIONS, KEYS)
        truth = (size - 4) / (size - 2)
        assert abs(similarity(prints.words, 0, prints.words, 1) - truth) < 0.04
