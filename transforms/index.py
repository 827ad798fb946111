"""Index: what a later refresh needs to know of published records, in files that are read where they lie.

    records    key, id, split, replaced_by   by shuffle key: copies of it are duplicates
    owners     owner, split, id, replaced_by by owner: a source id, or a group (`id` is null), sticks to its split
    sketches   as in the runs                by id
    bands      as in the runs                by band

Part `i` of `n` of a kind holds the rows whose 64-bit key lies in `Shard(i, n)`, sorted by it. A task of a
refresh reads the parts that its segment overlaps, of every snapshot; nothing of the index is shuffled.

A small part weighs more for each row, so a new one takes in small ones of nights before it, as the levels of a log-structured
merge tree do: so of n nights some log n parts are left, and each row is written log n times at most.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bands import BANDS, refs_of
from transforms.exact import distinct, id_words
from transforms.parts import ALL, Asked, pack_part, unpack_part, words_of
from transforms.storage import DamageFault, Storage, join
from transforms.verify import SKETCHES
from transforms.write import Written, file_digest, shard_name

PUBLISHED = pa.schema(
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
        pa.field("replaced_by", pa.binary(16)),  # the human correction that stands in its place
    ]
)

OWNERS = pa.schema(
    [
        pa.field("owner", pa.binary(16), nullable=False),
        pa.field("split", pa.int8(), nullable=False),
        pa.field("id", pa.binary(16)),
        pa.field("replaced_by", pa.binary(16)),  # as that of the record
    ]
)

REFS = pa.schema([pa.field("ref", pa.uint32(), nullable=False)])

SCHEMAS = {"records": PUBLISHED, "owners": OWNERS, "sketches": SKETCHES, "bands": BANDS}
SMALL_BYTES = 256 << 10  # 256 KiB: from there on what a part weighs beside its rows is nothing
_KEYS = {"records": "key", "owners": "owner", "sketches": "id", "bands": "band"}
_ORDER = {"records": ("key", "id"), "owners": ("owner", "split", "id"), "sketches": ("id",), "bands": ("band", "ref")}
_OWNERS_IN = {"owners": ("owner",), "sketches": ("group",)}
_AT_ONCE = (
    4  # parts read by a task: the most of it goes by without Python's lock, and a store answers several at a time
)
_NAME = re.compile(r"(records|owners|sketches|bands)-(\d{5,})-of-(\d{5,})\.parquet$")


@dataclass(frozen=True)
class Part:
    """A file of the index: part `number` of `count` of a kind; `path` is relative to the dataset's folder."""

    kind: str
    path: str
    number: int
    count: int

    def overlaps(self, segment: int, segments: int) -> bool:
        """Whether keys of a segment of `segments` may be in it.

        >>> Part("bands", "", 1, 3).overlaps(0, 2), Part("bands", "", 2, 3).overlaps(0, 2)
        (True, False)
        """
        return self.number * segments < (segment + 1) * self.count and segment * self.count < (
            (self.number + 1) * segments
        )


def parts_of(paths: Iterable[str]) -> tuple[Part, ...]:
    """The parts among paths of index files. Raises ValueError for a path that is none."""
    parts = []
    for path in sorted(paths):
        found = _NAME.search(path)
        if found is None:
            raise ValueError("a file of the index has no name of the index")
        parts.append(Part(found[1], path, int(found[2]), int(found[3])))
    return tuple(parts)


def parts_to_merge(kind: str, number: int, count: int, small: Mapping[str, int]) -> tuple[Part, ...]:
    """The small parts that a new one of a kind, `number` of `count`, takes in; `small` are rows by path.

    The last of them, from the first that has no more rows than all after it.

    >>> small = {f"index/{night:06d}-x/bands-00000-of-00001.parquet": rows for night, rows in enumerate([90, 20, 10, 10])}
    >>> [one.path[6:12] for one in parts_to_merge("bands", 0, 1, small)]
    ['000001', '000002', '000003']
    """
    mine = tuple(one for one in parts_of(small) if (one.kind, one.number, one.count) == (kind, number, count))
    rows = [small[one.path] for one in mine]
    places = range(len(rows) - 1)
    first = next((place for place in places if rows[place] <= sum(rows[place + 1 :])), len(rows))
    return mine[first:]


@dataclass(frozen=True)
class Index:
    """The index of all live snapshots of a dataset. Reading it raises DamageFault where a part is missing or damaged."""

    storage: Storage
    root: str
    parts: tuple[Part, ...] = ()

    def read(
        self,
        kind: str,
        segment: int,
        segments: int,
        wanted: npt.NDArray[np.uint64] | None = None,
        bits: int = 64,
    ) -> pa.Table:
        """The rows of a kind in one segment of keys, snapshot by snapshot.

        `wanted` leaves only those whose first `bits` bits of the key are among these, given as uint64[N] with the rest 0:
        a night asks for few of what is published.
        """
        low, high = -(-(segment << 64) // segments), -(-((segment + 1) << 64) // segments) - 1
        asked = Asked(low, high, None if wanted is None else distinct(wanted), bits)
        mine = [part for part in self.parts if part.kind == kind and part.overlaps(segment, segments)]
        if wanted is not None and not len(wanted):
            mine = []
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            tables = list(readers.map(lambda part: self._part(part, asked), mine))
        return pa.concat_tables([SCHEMAS[kind].empty_table(), *tables]).combine_chunks()

    def all(self, kind: str) -> Iterator[pa.Table]:
        """Every part of a kind."""
        for part in self.parts:
            if part.kind == kind:
                yield self._part(part, ALL)

    def _part(self, part: Part, asked: Asked) -> pa.Table:
        """The rows of a part that are asked for. Raises DamageFault."""
        try:
            with self.storage.open(join(self.root, part.path)) as stream:
                rows = unpack_part(part.kind, stream, _KEYS[part.kind], asked)
        except (FileNotFoundError, pa.ArrowInvalid):
            raise DamageFault(part.path) from None
        except OSError as error:
            if type(error) is not OSError or error.errno is not None:  # Arrow's own say neither
                raise
            raise DamageFault(part.path) from None
        schema = SCHEMAS[part.kind]
        for field in list(schema)[rows.num_columns :]:  # of a file that is older than a column
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.cast(schema)


def key_words(kind: str, rows: pa.Table) -> npt.NDArray[np.uint64]:
    """uint64[N]: the keys by which rows of a kind are partitioned."""
    return words_of(rows.column(_KEYS[kind]))


def without(
    kind: str, rows: pa.Table, ids: Iterable[bytes], owners: Iterable[bytes], others: pa.Table | None = None
) -> pa.Table:
    """The rows of a kind that speak neither of records `ids` nor of `owners`: groups and source ids.

    A row of bands names a record by its ref, which another record may share: `others` are the BANDS of those that stay.
    """
    named = pa.array(ids, pa.binary(16))
    if kind == "bands":
        refs = refs_of(np.ascontiguousarray(id_words(named)[:, 0]))
        gone = np.isin(rows.column("ref").to_numpy(), refs)
        if others is not None and others.num_rows:
            stay = set(zip(*(others.column(name).to_pylist() for name in ("band", "ref")), strict=True))
            for row in np.flatnonzero(gone).tolist():
                gone[row] = (rows.column("band")[row].as_py(), rows.column("ref")[row].as_py()) not in stay
        return rows.filter(pa.array(~gone)).combine_chunks()
    gone = pc.is_in(rows.column("id"), value_set=named)
    for name in _OWNERS_IN.get(kind, ()):
        gone = pc.or_(gone, pc.is_in(rows.column(name), value_set=pa.array(owners, pa.binary(16))))
    return rows.filter(pc.invert(gone)).combine_chunks()


def put_part(storage: Storage, root: str, folder: str, kind: str, number: int, count: int, rows: pa.Table) -> Written:
    """Writes a part, its rows in order; returns the manifest's entry."""
    rows = rows.sort_by([(name, "ascending") for name in _ORDER[kind]])
    content = pack_part(kind, rows, _KEYS[kind])
    path = join("index", folder, shard_name(kind, number, count, "parquet"))
    storage.put(join(root, path), content)
    return Written(path, "index", None, rows.num_rows, len(content), file_digest(io.BytesIO(content)))


def distinct_owners(owners: pa.Table) -> pa.Table:
    """OWNERS without repetition."""
    return owners.group_by(list(OWNERS.names)).aggregate([]).cast(OWNERS)


def match_owners(claims: pa.Table, owners: pa.Table) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
    """OWNERS for each of the claims (owner, key) whose owner is published, and uint64[N] the keys that claim them.

    An owner has one split: what is published never moves. Raises RuntimeError where it has two.
    """
    owners = distinct_owners(owners)
    groups = owners.filter(pc.is_null(owners.column("id")))
    if len(groups.column("owner").unique()) != groups.num_rows:
        raise RuntimeError("a group is published in two splits")
    owners = owners.sort_by([(name, "ascending") for name in OWNERS.names]).combine_chunks()
    columns = [(name, "first") for name in OWNERS.names[1:]]
    first = owners.group_by("owner", use_threads=False).aggregate(columns)
    place = pc.index_in(claims.column("owner"), value_set=first.column("owner").combine_chunks())
    known = claims.filter(pc.is_valid(place))
    rows = first.take(place.drop_null()).rename_columns(OWNERS.names).cast(OWNERS)
    return rows, np.asarray(known.column("key").to_numpy(), np.uint64)
