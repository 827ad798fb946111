"""Sorted refs and bits of refs answer alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.kept import gather_kept

_REFS = st.integers(0, 2**32 - 1) | st.integers(2**31 - 20, 2**31 + 20)


@given(st.sets(_REFS, max_size=60), st.lists(_REFS, max_size=60), st.integers(0, 70), st.lists(_REFS, max_size=3))
def test_the_kept_are_told_from_all_others(kept, others, most_sorted, cuts):
    refs = np.array(sorted(kept), np.uint32)
    parts = np.split(refs, np.searchsorted(refs, sorted(cuts)))
    asked = np.array([*kept, *others], np.uint32)
    found = gather_kept(parts, most_sorted)
    assert (found.bitmap is None) == (len(kept) <= most_sorted)
    assert found.has(asked).tolist() == np.isin(asked, refs).tolist()
