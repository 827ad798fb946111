"""Numbers of ids: those of a dictionary, however the ids come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.numbering import Numbering

words = st.integers(0, 3)


@given(st.lists(st.lists(st.tuples(words, words), max_size=40), max_size=8))
def test_numbers_are_those_of_a_dictionary(batches):
    numbers, known = Numbering(), {}
    for batch in batches:
        expected = [known.setdefault(one, len(known)) for one in batch]
        assert numbers.number(np.array(batch, np.uint64).reshape(-1, 2)).tolist() == expected
    assert list(map(tuple, numbers.ids.tolist())) == list(known)
    assert len(numbers) == len(known)


def test_it_widens_as_ids_come():
    ids = np.random.default_rng(5).integers(0, 1 << 63, (5000, 2), np.uint64)
    numbers = Numbering()
    assert numbers.number(ids[:3000]).tolist() == list(range(3000))
    assert numbers.number(np.concatenate([ids[1000:], ids[:10]])).tolist() == [*range(1000, 5000), *range(10)]
    assert (numbers.ids == ids).all()
