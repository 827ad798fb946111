"""Alike: published records that corrected ones resemble. What has been replaced or cut is no longer there to resemble.

Leaks, in another split, are looked for with every sketch of the index, bands or none. Near-duplicates, in the same split,
are found by bands, as those of a night are.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.exact import distinct
from transforms.index import Index
from transforms.reasons import SPLITS
from transforms.search import first_alike, similarities
from transforms.verify import sets_of
from transforms.write import hex_ids


def replaced_records(index: Index) -> tuple[set[str], set[str]]:
    """Ids of the records that were replaced or cut, and of those that were ever put in their place."""
    ids: set[str] = set()
    by: set[str] = set()
    for rows in index.all("records"):
        replaced = rows.filter(pc.is_valid(rows.column("replaced_by")))
        ids.update(hex_ids(replaced.column("id")).to_pylist())
        by.update(hex_ids(replaced.column("replaced_by")).to_pylist())
    return ids, by


def find_leaks(index: Index, mine: pa.Table, gone: Collection[str], threshold: float) -> dict[str, str]:
    """By id of `mine` (SKETCHES), which record of another split it resembles: of those in the index that are not `gone`,
    or of `mine`."""
    words, grams = sets_of(mine, "words"), sets_of(mine, "grams")
    own, ids = mine.column("published").to_numpy(), hex_ids(mine.column("id")).to_pylist()
    found: dict[str, str] = {}
    for sketches in [mine, *index.all("sketches")]:
        theirs = _without(sketches, gone)
        other_words, other_grams = sets_of(theirs, "words"), sets_of(theirs, "grams")
        others = theirs.column("published").to_numpy()
        for row, identity in enumerate(ids):
            rows = np.flatnonzero(others != own[row])
            other = first_alike(words, grams, row, other_words, other_grams, rows, threshold)
            if other >= 0 and identity not in found:
                found[identity] = f"{theirs.column('id')[other].as_py().hex()} of {SPLITS[others[other]]}"
    return found


def find_near_duplicates(
    index: Index, bands: pa.Table, mine: pa.Table, spared: Collection[str], threshold: float
) -> dict[str, tuple[str, float]]:
    """By id of each published record that one of `mine` (BANDS, SKETCHES) resembles in the same split: which, and how much.

    Of several the one that it resembles most, else the first by id. Those that are `spared` are not looked at.
    """
    met = index.read("bands", 0, 1, bands.column("band").to_numpy()).column("ref").to_numpy()
    refs = distinct(met.astype(np.uint64) << np.uint64(32))
    theirs = _without(index.read("sketches", 0, 1, refs, 32), spared)
    words, grams, other_words, other_grams = (
        sets_of(one, name) for one in (mine, theirs) for name in ("words", "grams")
    )
    own, others = (one.column("published").to_numpy() for one in (mine, theirs))
    ids, other_ids = (hex_ids(one.column("id")).to_pylist() for one in (mine, theirs))
    found: dict[str, tuple[str, float]] = {}
    for row in sorted(range(len(ids)), key=ids.__getitem__):
        rows: npt.NDArray[np.int64] = np.flatnonzero(others == own[row])
        for other, like in zip(
            rows.tolist(), similarities(words, grams, row, other_words, other_grams, rows), strict=True
        ):
            if like >= threshold and like > found.get(other_ids[other], ("", 0.0))[1]:
                found[other_ids[other]] = ids[row], float(like)
    return found


def _without(sketches: pa.Table, ids: Collection[str]) -> pa.Table:
    among = pc.is_in(
        sketches.column("id"), value_set=pa.array([bytes.fromhex(one) for one in sorted(ids)], pa.binary(16))
    )
    return sketches.filter(pc.invert(among)).combine_chunks()
