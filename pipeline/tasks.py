"""The tasks of the DAG: each loads what its references name, calls a kernel, and keeps its result.

A task's result is a small mapping: counts, and for every kind of run that it wrote the segments' offsets.
"""

from __future__ import annotations

import base64
import functools
import itertools
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from pipeline.commit import commit_run
from pipeline.config import load_keys
from pipeline.errors import hush_threads
from pipeline.plan import Plan, decided_uri, load_plan
from transforms.bands import BANDS, NEW, publish_bands, refs_of, unpack_bands, unpack_parts
from transforms.candidates import (
    CROWDS,
    HEADS,
    PAIRS,
    call_heads,
    find_candidates,
    follow_heads,
    pair_words,
    pairs_of,
)
from transforms.cluster import CROSS, VERDICTS, cluster_edges
from transforms.components import LABELS, forest_of, join_labels, label_keys
from transforms.decided import DECIDED, is_replaced, load_decided, mark_sketches, of_decided
from transforms.exact import distinct, elect_records, id_words, is_in_sorted
from transforms.hashing import Keys
from transforms.index import (
    OWNERS,
    PUBLISHED,
    REFS,
    Index,
    distinct_owners,
    key_words,
    match_owners,
    parts_of,
    parts_to_merge,
    put_part,
)
from transforms.kept import Kept, gather_kept
from transforms.left import NOTHING_LEFT, Left, match_left, newest_of
from transforms.merge import PUBLISHED_RUNS, Places, Shard, merge_shard, shards_of
from transforms.mill import MillOptions, mill_unit, runs_of
from transforms.once import TaskFault, Work
from transforms.options import SplitOptions, WriteOptions
from transforms.published import read_published, sign_published
from transforms.regroup import regroup_segment
from transforms.runs import FLUSH_BYTES, Runs, RunWriter, Segment, segment_of, segments_of
from transforms.search import (
    HELD,
    SEATS,
    bar_newcomers,
    hold_out,
    in_sample,
    resolve_held,
    sample_of,
    search_segment,
    seat_splits,
    seats_of,
)
from transforms.settle import FOLLOWERS, SETTLED, TORN, drop_torn, follow_dropped, follow_known, settle_records
from transforms.split import BINS, DROPS, EVAL, TRAIN, Cut, best_drops, choose_cut
from transforms.storage import Storage, join
from transforms.suppress import is_suppressed, load_suppressed
from transforms.told import add_told, tell_clusters
from transforms.verify import (
    EDGES,
    SKETCHES,
    attach_sketches,
    compare_pairs,
    drop_implied,
    elect_sketches,
    mark_earlier,
    publish_sketches,
    sketch_refs,
)

KEY_ON_WORKERS = "CORPUSMILL_KEY_ON_WORKERS"  # set: workers have the secret key in their own environment

_ROWS = 65_536  # at a time, where rows are objects
_FEWEST_LED = 64  # members of a band: its leaders are told once, and not in pairs, where more of them follow
_CHUNKS = 64  # in which counts by bin travel
_TOLD = ("dropped", "dropped_bytes", "unsearched", "sampled", "recalled")  # what is added up of searches
_BY_SEGMENT = ("drops", "renamed")  # runs by segments of keys, each of which spans several of texts
REGROUPED = 1 << 24  # writers of regrouped runs count from here: no run has so many units or shards
_RUNS = {"eval_bands": BANDS, "eval_sketches": SKETCHES, "refs": REFS, "owned": OWNERS, "left": OWNERS, **PUBLISHED_RUNS,
         "pairs": PAIRS, "crowds": CROWDS, "heads": HEADS, "calls": PAIRS, "met": PAIRS, "sides": SKETCHES, "peers": SKETCHES, "leads": REFS, "edges": EDGES,
         "forests": LABELS, "labels": LABELS, "routed": EDGES, "verdicts": VERDICTS,
         "cross": CROSS, "settled": SETTLED, "seats": SEATS, "torn": TORN, "followers": FOLLOWERS, "fallen": DROPS, "known": FOLLOWERS, "held": HELD, "newcomers": HELD, "barred": DROPS, "guards": HELD,
         "drops": DROPS, "renamed": FOLLOWERS}  # fmt: skip

Reference = tuple[int, int, int]
Grouped = tuple[int, dict[str, Iterable[Reference]]]
Kinds = dict[str, Iterable[Reference]]
Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; the rest is in the plan, in the work folder."""

    storage: Storage
    output: str
    work: str
    options: MillOptions
    split: SplitOptions
    write: WriteOptions
    accept: bool = False  # commit in spite of gates
    keep_work: bool = False

    @property
    def plan(self) -> Plan:
        return load_plan(self.storage, self.work)

    @property
    def index(self) -> Index:
        """What is published already."""
        return Index(self.storage, self.output, parts_of(self.plan.base.index))

    @property
    def left(self) -> Index:
        """What was published until it was gone back over."""
        return Index(self.storage, self.output, parts_of(self.plan.base.left))

    def __getstate__(self) -> dict[str, Any]:
        """Leaves for the workers: with the secret key, unless the workers are said to have it themselves."""
        state = dict(self.__dict__)
        keys = self.options.keys
        if keys.secret is not None and os.environ.get(KEY_ON_WORKERS):
            state |= {"options": replace(self.options, keys=Keys(keys.salt)), "key_check": keys.check}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrives in a worker. Raises TaskFault where the worker's own key is not the driver's."""
        state = dict(state)
        check = state.pop("key_check", None)
        if check is not None:
            keys = load_keys(state["options"].keys.salt)
            if keys.check != check:
                raise TaskFault("a worker has another secret key than the driver, or none: set CORPUSMILL_KEY there")
            state["options"] = replace(state["options"], keys=keys)
        self.__dict__.update(state)
        hush_threads()


@dataclass(frozen=True)
class Tasks:
    """The tasks of one job. All are deterministic, and may be run again, or twice at once."""

    job: Job

    def mill(self, number: int) -> Result:
        """Read to Sign for a work unit."""
        job = self.job
        result = self._once(
            "mill", number, lambda: mill_unit(job.plan.source(number), job.options, job.storage, job.work)
        )
        Metrics.counter("corpusmill", "read").inc(result["read"])
        Metrics.counter("corpusmill", "quarantined").inc(sum(result["quarantined"].values()))
        return result

    def blocks(self, result: Result, kinds: Sequence[str]) -> Iterator[tuple[int, tuple[str, Reference]]]:
        """References to runs, each keyed by its block of writers and its segment, as the number of a task."""
        shape = self.job.plan.shape
        for kind in kinds:
            for writer, number, start, end in self.references(result, kind):
                yield writer // shape.block * shape.unit_segments + number, (kind, (writer, start, end))

    def regroup(self, group: Grouped) -> Result:
        """The runs of a segment of a block of writers as one, cut finer."""
        number, kinds = group
        job, of = self.job, self.job.plan.shape.unit_segments
        writer = REGROUPED + number

        def make() -> Result:
            runs = {kind: self._runs(kind) for kind in kinds}
            mine = {kind: _segments(references) for kind, references in kinds.items()}
            cuts = {kind: job.options.cut(kind) for kind in kinds}
            return regroup_segment(number % of, of, runs, mine, cuts, writer, job.storage.spool(job.work))

        return self._once(f"regroup_{min(kinds)}", number, make, writer)

    def count(self, group: Grouped) -> int:
        """Distinct records of a segment of keys."""
        segment, kinds = group

        def make() -> Result:
            facts = self._runs("facts").table(_segments(kinds["facts"]))
            _, elected = elect_records(facts, exact=self.job.options.dedupe.exact)
            return {"distinct": int(elected.sum())}

        return int(self._once("count", segment, make)["distinct"])

    def candidates(self, group: Grouped) -> Result:
        """Pairs of a segment of bands, by their leaders; members of crowded bands, and the heads that they follow.

        A call has a segment for its follower: one in which records follow the head.
        """
        segment, kinds = group

        def make() -> Result:
            segments = self.job.options.segments
            packed = self._runs("bands").table(_segments(kinds["bands"]))
            parts = self._with_published(segment, kinds, unpack_parts(packed))
            found = find_candidates(parts, max(_FEWEST_LED, 4 * segments))
            heads, targets = call_heads(found, segments)
            keys = _by_segment(targets, segments)
            leaders = heads.column("ref").to_numpy()
            calls = pairs_of([_by_ref(leaders) | keys >> np.uint64(32)])
            return {
                "runs": {
                    "pairs": self._write("pairs", segment, found.pairs, _by_ref(found.pairs.column("a").to_numpy())),
                    "crowds": self._write(
                        "crowds", segment, found.crowds, _by_ref(found.crowds.column("ref").to_numpy())
                    ),
                    "heads": self._write("heads", segment, heads, keys),
                    "calls": self._write("calls", segment, calls, _by_ref(calls.column("a").to_numpy())),
                }
            }

        return self._once("candidates", segment, make, segment)

    def attach(self, group: Grouped) -> Result:
        """Distinct pairs whose leader is in the segment, and the sketches of the leaders, by the follower; the sketches of
        the segment's published records in crowds, so that of the index sketches are read once."""
        segment, kinds = group

        def make() -> Result:
            found = self._runs("pairs").read(_segments(kinds["pairs"]))
            called = self._runs("calls").read(_segments(kinds["calls"]))
            pairs = pairs_of(pair_words(batch) for _, batch in found)
            wanted = pairs_of([pair_words(pairs), *(pair_words(batch) for _, batch in called)])
            leaders = wanted.column("a").to_numpy()
            crowded = self._runs("crowds").table(_segments(kinds["crowds"])).column("ref").to_numpy()
            published = self._published_sketches(segment, kinds, np.concatenate([leaders, crowded]))
            peers = published.filter(pa.array(np.isin(sketch_refs(published), crowded)))
            runs = {"peers": self._write("peers", segment, peers)}
            if wanted.num_rows:
                sketches = self._sketches(segment, kinds, leaders, published)
                sides, targets = attach_sketches(wanted, sketches, self.job.options.segments)
                keys = _by_segment(targets, self.job.options.segments)
                runs["met"] = self._write("met", segment, pairs, _by_ref(pairs.column("b").to_numpy()))
                runs["sides"] = self._write("sides", segment, sides, keys)
                if self.job.plan.shape.is_parted:
                    leads = pa.table([pc.unique(wanted.column("a"))], schema=REFS)
                    runs["leads"] = self._write("leads", segment, leads)
            return {"runs": runs, "first": {"leads": segment, "peers": segment}}

        return self._once("attach", segment, make, segment)

    def verify(self, group: Grouped) -> Result:
        """Edges of the pairs whose follower is in the segment."""
        segment, kinds = group

        def make() -> Result:
            met = self._runs("met").table(_segments(kinds["met"]))
            heads = self._runs("heads").table(_segments(kinds["heads"])).sort_by("band").combine_chunks()
            crowds = self._runs("crowds").table(_segments(kinds["crowds"]))
            pairs = pairs_of([pair_words(met), *follow_heads(crowds, heads)])
            if pairs.num_rows == 0:
                return {"runs": {}}
            left = elect_sketches(self._runs("sides").table(_segments(kinds["sides"])))
            published = self._published_sketches(segment, kinds, ())  # which follow nobody
            right = self._sketches(segment, kinds, pairs.column("b").to_numpy(), published)
            edges = drop_implied(compare_pairs(pairs, left, right, self._leak_threshold))
            if not self.job.plan.shape.is_parted:
                return {"runs": {"edges": self._write("edges", segment, edges)}, "pairs": pairs.num_rows}
            leads = self._runs("leads").table(_segments(kinds["leads"]))
            forest = forest_of(edges, leads.column("ref").to_numpy())
            return {
                "runs": {
                    "edges": self._write("edges", segment, edges, id_words(edges.column("a"))[:, 0]),
                    "forests": self._write("forests", segment, forest),
                },
                "pairs": pairs.num_rows,
            }

        return self._once("verify", segment, make, segment)

    def join(self, forests: Iterable[tuple[int, Reference]]) -> Result:
        """The labels of leaders, by the leader."""

        def make() -> Result:
            found = self._runs("forests").read(_segments(reference for _, reference in forests))
            labels = join_labels(batch for _, batch in found)
            keyed = ((batch, id_words(batch.column("id"))[:, 0]) for batch in labels)
            return {"runs": {"labels": self._put("labels", 0, keyed, self.job.options.segments)}}

        return self._once("join", 0, make)

    def route(self, group: Grouped) -> Result:
        """Edges whose leader is in the segment, by part."""
        segment, kinds = group

        def make() -> Result:
            edges, labels = (self._runs(kind).table(_segments(kinds[kind])) for kind in ("edges", "labels"))
            parts = self.job.plan.shape.parts
            return {"runs": {"routed": self._write("routed", segment, edges, label_keys(edges, labels), parts)}}

        return self._once("route", segment, make, segment)

    def cluster(self, edges: Iterable[tuple[int, Reference]], counts: Iterable[int]) -> Result:
        """Verdicts on all records that resemble another, and the look-alikes in different units."""
        return self._once("cluster", 0, lambda: self._cluster(0, "edges", (one for _, one in edges), counts))

    def cluster_part(self, group: Grouped, counts: Iterable[int]) -> Result:
        """The same of a part of the edges; parts count from 1 here."""
        part, kinds = group
        number = 1 + part
        return self._once("cluster", number, lambda: self._cluster(number, "routed", kinds["routed"], counts), number)

    def _cluster(self, number: int, kind: str, edges: Iterable[Reference], counts: Iterable[int]) -> Result:
        distinct, dedupe = sum(counts), self.job.options.dedupe
        found = self._runs(kind).rows(_segments(edges))
        clusters = cluster_edges(found, dedupe.threshold, distinct, again=self.job.plan.reads_again)
        keyed = ((batch, self._by_key(batch)) for batch in clusters.verdicts)
        return {
            "runs": {
                "verdicts": self._put("verdicts", number, keyed, self.job.options.segments),
                "cross": self._write("cross", number, clusters.cross),
            },
            "parts": [number],
            "distinct": distinct,
            **tell_clusters(clusters, dedupe),
        }

    def add_clusters(self, numbers: Iterable[int], counts: Iterable[int]) -> Result:
        """What is told of the clusters of all parts, as if they had been found by one task."""

        def make() -> Result:
            distinct, dedupe = sum(counts), self.job.options.dedupe
            nothing, parts = tell_clusters(cluster_edges((), dedupe.threshold, distinct), dedupe), sorted(numbers)
            results = Work(self.job.storage, self.job.work).results(("cluster", number) for number in parts)
            return {"runs": {}, "parts": parts, "distinct": distinct, **add_told([nothing, *results], dedupe)}

        return self._once("cluster", 0, make)

    def owners(self, group: Grouped) -> Result:
        """What is published of the groups and source ids of a segment of owners, for the segments that ask."""
        segment, kinds = group

        def make() -> Result:
            claims = self._runs("claims").table(_segments(kinds["claims"]))
            asked = key_words("owners", claims)
            job, segments = self.job, self.job.options.segments
            owned, keys = match_owners(claims, job.index.read("owners", segment, segments, asked))
            runs = {"owned": self._write("owned", segment, owned, keys)}
            if job.plan.base.left:
                left, keys = match_left(claims, job.left.read("owners", segment, segments, asked), owned)
                runs["left"] = self._write("left", segment, left, keys)
            return {"runs": runs}

        return self._once("owners", segment, make, segment)

    def settle(self, group: Grouped) -> Result:
        """What becomes of the records of a segment of keys before the cut."""
        segment, kinds = group

        def make() -> Result:
            options, plan = self.job.options, self.job.plan
            facts = self._runs("facts").table(_segments(kinds["facts"]))
            settled = settle_records(
                facts,
                self._runs("verdicts").table(_segments(kinds["verdicts"])),
                options.keys,
                exact=options.dedupe.exact,
                published=self.job.index.read("records", segment, options.segments, facts.column("key").to_numpy()),
                owned=self._runs("owned").table(_segments(kinds["owned"])),
                eval_open=not plan.base.frozen,
                rebuild=plan.is_rebuild,
                decided=self._decided,
                left=self._left(segment, kinds, facts),
            )
            share = options.text_segments // options.segments
            below = self._by_key(settled.rows) << np.uint64(options.segments.bit_length() - 1)  # the segment's own bits
            seats = seats_of(settled.rows) if options.dedupe.near else SEATS.empty_table()
            leaders = settled.followers.select(["kept_id"]).rename_columns(["id"])
            return {
                "runs": {
                    "settled": self._write("settled", segment, settled.rows, below, share),
                    "seats": self._write("seats", segment, seats, seats.column("word").to_numpy()),
                    "torn": self._write("torn", segment, settled.torn),
                    "followers": self._write("followers", segment, settled.followers, self._by_key(leaders)),
                    "fallen": self._write("fallen", segment, settled.fallen),
                    "known": self._write("known", segment, settled.known),
                },
                "first": {"settled": segment * share, "fallen": segment, "known": segment},
                "kept": int(settled.counts.sum()),
                "pinned": settled.pinned.tolist(),
                "n_bytes": settled.n_bytes,
                "counts": _pack_counts(settled.counts),
            }

        return self._once("settle", segment, make, segment)

    @staticmethod
    def sizes(result: Result) -> Result:
        """What is added up of a segment."""
        return {name: result[name] for name in ("kept", "pinned", "n_bytes")}

    @staticmethod
    def counts(result: Result) -> Iterator[tuple[int, bytes]]:
        """Counts by bin, in chunks."""
        for chunk, packed in result["counts"].items():
            yield int(chunk), base64.b64decode(packed)

    @staticmethod
    def add_counts(chunks: Iterable[bytes]) -> bytes:
        """The sum of chunks; associative."""
        total = np.zeros(BINS // _CHUNKS, np.int64)
        for chunk in chunks:
            total += np.frombuffer(zlib.decompress(chunk), np.int64)
        return zlib.compress(total.tobytes(), 1)

    def cut(self, chunks: Iterable[tuple[int, bytes]], sizes: Iterable[Result]) -> Result:
        """The cut of the splits, and what there is to cut."""

        def make() -> Result:
            counts = np.zeros((_CHUNKS, BINS // _CHUNKS), np.int64)
            for chunk, packed in chunks:
                counts[chunk] = np.frombuffer(zlib.decompress(packed), np.int64)
            kept, n_bytes, pinned = 0, 0, [0, 0, 0]
            for size in sizes:
                kept, n_bytes = kept + size["kept"], n_bytes + size["n_bytes"]
                pinned = [one + more for one, more in zip(pinned, size["pinned"], strict=True)]
            cut = choose_cut(counts.ravel(), self.job.split, self.job.plan.base.settlement(pinned))
            return {
                "cut": [cut.eval_end, cut.val_end, list(cut.passed), cut.val_capped, cut.frozen],
                "kept": kept,
                "n_bytes": n_bytes,
            }

        return self._once("cut", 0, make)

    def hold(self, group: Grouped, cut: Result) -> Result:
        """Held-out records of a segment of ids that look-alikes are searched for in crowds, and a sample of all."""
        segment, kinds = group

        def make() -> Result:
            crowds, seats = self._crowds(kinds["crowds"]), self._seats(kinds["seats"])
            splits = seat_splits(seats, cut_of(cut))
            sample = sample_of(segment, self.job.options.segments)
            seated = seats.column("word").to_numpy()[splits > TRAIN]
            some = refs_of(seated[in_sample(seated, 2 * sample)])
            wanted = np.concatenate([crowds.column("ref").to_numpy(), some])
            sketches = self._sketches(segment, kinds, wanted, self._runs("peers").table(_segments(kinds["peers"])))
            held = hold_out(crowds, seats, sketches, cut_of(cut), sample)
            return {"runs": {"held": self._write("held", segment, held)}}

        return self._once("hold", segment, make, segment)

    def newcomers(self, held: Iterable[tuple[int, Reference]]) -> Result:
        """New records that would be held out and are in crowded bands, in one piece."""

        def make() -> Result:
            rows = self._runs("held").table(_segments(reference for _, reference in held))
            new = pc.equal(rows.column("published"), NEW)
            crowded = pc.greater(pc.list_value_length(rows.column("bands")), 0)
            return {"runs": {"newcomers": self._write("newcomers", 0, rows.filter(pc.and_(new, crowded)))}}

        return self._once("newcomers", 0, make, 0)

    def bar(self, group: Grouped, newcomers: Result) -> Result:
        """New records that would be held out and resemble published train of a segment of ids in a crowded band."""
        segment, kinds = group

        def make() -> Result:
            askers = self._runs("newcomers").table(_all_segments(newcomers, "newcomers"))
            bands = distinct(pc.list_flatten(askers.column("bands")).to_numpy())
            crowds = self._crowds(kinds["crowds"])
            crowds = crowds.filter(pa.array(is_in_sorted(crowds.column("band").to_numpy(), bands))).combine_chunks()
            if crowds.num_rows == 0:
                return {"runs": {}}
            peers = self._runs("peers").table(_segments(kinds["peers"]))
            sketches = self._sketches(segment, kinds, crowds.column("ref").to_numpy(), peers)
            drops = bar_newcomers(askers, crowds, sketches, self._leak_threshold)
            return {"runs": {"barred": self._write("barred", segment, drops)}}

        return self._once("bar", segment, make, segment)

    def resolve(
        self,
        cut: Result,
        held: Iterable[tuple[int, Reference]],
        clustered: Result,
        torn: Iterable[tuple[int, Reference]],
        barred: Iterable[tuple[int, Reference]] = (),
    ) -> Result:
        """Records that give way to verified look-alikes in another split; who is held out then."""

        def make() -> Result:
            options = self.job.options
            cross = pa.Table.from_batches(self._written("cross", "cluster", clustered["parts"]), CROSS)
            table, undecided, resembling = (
                self._runs(kind).table(_segments(reference for _, reference in references))
                for kind, references in (("held", held), ("torn", torn), ("barred", barred))
            )
            words = distinct(np.concatenate([id_words(cross.column(side))[:, 0] for side in "ab"]))
            batches = self._written("seats", "settle", range(options.segments)) if len(words) else ()
            seated = pa.Table.from_batches(
                (batch.filter(pa.array(is_in_sorted(batch.column("word").to_numpy(), words))) for batch in batches),
                SEATS,
            ).sort_by("word")
            near_train = best_drops(pa.concat_tables([drop_torn(undecided, cut_of(cut)), resembling]))
            guards, drops = resolve_held(table, cross, seated, cut_of(cut), self._leak_threshold, near_train)
            writer = options.segments  # after those of the searches
            return {
                **cut,
                "runs": {
                    "drops": self._write("drops", writer, drops, self._by_key(drops)),
                    "guards": self._write("guards", writer, guards),
                },
                "dropped": drops.num_rows,
                "dropped_bytes": int(np.sum(drops.column("n_bytes").to_numpy())),
            }

        return self._once("resolve", 0, make, self.job.options.segments)

    def search(self, group: Grouped, resolved: Result) -> Result:
        """Train records of a segment of ids that resemble a held-out one of a crowded band."""
        segment, kinds = group

        def make() -> Result:
            runs = self._runs
            guards = runs("guards").table(_all_segments(resolved, "guards"))
            if guards.num_rows == 0:
                return {"runs": {}, **dict.fromkeys(_TOLD, 0)}
            gone = id_words(runs("drops").table(_all_segments(resolved, "drops")).column("id"))
            sketches = elect_sketches(self._runs("sketches").table(_segments(kinds["sketches"])))
            crowds, seats = self._crowds(kinds["crowds"]), self._seats(kinds["seats"])
            found = search_segment(crowds, seats, sketches, guards, cut_of(resolved), gone, self._leak_threshold)
            return {
                "runs": {"drops": self._write("drops", segment, found.drops, self._by_key(found.drops))},
                "dropped": found.drops.num_rows,
                "dropped_bytes": int(np.sum(found.drops.column("n_bytes").to_numpy())),
                "unsearched": found.unsearched,
                "sampled": found.sampled,
                "recalled": found.recalled,
            }

        return self._once("search", segment, make, segment)

    def follow(self, group: Grouped) -> Result:
        """Near-duplicates of the records of a segment of keys that are left out, with which they go, or published already
        under another id."""
        segment, kinds = group
        writer = self.job.options.segments + 1 + segment  # after Resolve

        def make() -> Result:
            followers = self._runs("followers").table(_segments(kinds["followers"]))
            if followers.num_rows == 0:
                return {"runs": {}}
            gone = [self._runs(kind).table(_segments(kinds[kind])) for kind in ("fallen", "drops")]
            drops = follow_dropped(followers, pa.concat_tables(gone))
            renamed = follow_known(followers, self._runs("known").table(_segments(kinds["known"])))
            return {
                "runs": {
                    "drops": self._write("drops", writer, drops, self._by_key(drops)),
                    "renamed": self._write("renamed", writer, renamed, self._by_key(renamed)),
                }
            }

        return self._once("follow", segment, make, writer)

    @staticmethod
    def told(result: Result) -> Result:
        """What is added up of a search."""
        return {name: result[name] for name in _TOLD}

    def look_alikes(self, resolved: Result, searches: Iterable[Result]) -> Result:
        """What gave way to look-alikes in all, how well they were found, and the number of shards of what is left."""

        def make() -> Result:
            told = list(searches)
            searched = {name: sum(one[name] for one in told) for name in _TOLD}
            n_bytes = resolved["n_bytes"] - resolved["dropped_bytes"] - searched["dropped_bytes"]
            return {
                **{name: resolved[name] for name in ("cut", "kept", "n_bytes")},
                **searched,
                "dropped": resolved["dropped"] + searched["dropped"],
                "shards": max(1, -(-n_bytes // self.job.write.shard_bytes)),
            }

        return self._once("look_alikes", 0, make)

    def spread(
        self, result: Result, kinds: Sequence[str], size: Result
    ) -> Iterator[tuple[int, tuple[str, tuple[int, Reference]]]]:
        """The references to segments of keys, for each shard that reads the segment."""
        options = self.job.options
        for kind in kinds:
            segments = options.segments if kind in _BY_SEGMENT else options.text_segments
            for writer, segment, start, end in self.references(result, kind):
                for shard in shards_of(segment, segments, size["shards"]):
                    yield shard, (kind, (segment, (writer, start, end)))

    @staticmethod
    def shards(size: Result) -> Iterator[tuple[int, tuple[str, tuple[int, Reference]]]]:
        """Every shard, so that each has its task even where it has no records."""
        for shard in range(size["shards"]):
            yield shard, ("every", (0, (0, 0, 0)))

    @staticmethod
    def lines(result: Result) -> tuple[int, int]:
        """A work unit and its lines."""
        return result["unit"], result["lines"]

    def line_bases(self, lines: Iterable[tuple[int, int]]) -> list[int]:
        """The line of its input that each work unit starts after."""
        counts = dict(lines)
        bases, shard, base = [], -1, 0
        for number, unit in enumerate(self.job.plan.units):
            base = base if unit.shard == shard else 0
            shard = unit.shard
            bases.append(base)
            base += counts[number]
        return bases

    def merge(
        self, group: tuple[int, dict[str, Iterable[tuple[int, Reference]]]], size: Result, bases: list[int]
    ) -> Result:
        """The files of a shard, and the runs of which the index is made."""
        number, kinds = group
        job, plan = self.job, self.job.plan
        references: dict[str, dict[int, list[Segment]]] = {}
        for kind in ("texts", "rejects", "settled", *_BY_SEGMENT):
            by_segment = references[kind] = defaultdict(list)
            for segment, reference in kinds[kind]:
                share = job.options.text_segments // job.options.segments if kind in _BY_SEGMENT else 1
                for part in range(segment * share, (segment + 1) * share):
                    by_segment[part].append(Segment(*reference))
        places = Places(
            job.storage,
            job.work,
            job.output,
            plan.name,
            tuple(one.name for one in plan.inputs),
            tuple(unit.shard for unit in plan.units),
            tuple(bases),
            job.options.unit_cut("published"),
        )
        shard = Shard(number, size["shards"])
        result = self._once(
            "merge",
            number,
            lambda: {
                **merge_shard(
                    shard,
                    references,
                    job.options.text_segments,
                    cut_of(size),
                    job.write,
                    places,
                    self._carried(shard),
                    self._watched(),
                ),
                "merged": self._to_merge("records", shard.index, shard.count),
            },
        )
        kept = sum(one["rows"] for one in result["files"] if one["kind"] in ("parquet",))
        Metrics.counter("corpusmill", "kept").inc(kept)
        return {name: result[name] for name in ("writer", "runs")}

    @staticmethod
    def number(result: Result) -> int:
        """The number of a shard that is merged, or of a part of the clusters."""
        return int(result["writer"])

    def _carried(self, shard: Shard) -> pa.Table:
        """What the shard's part of the index takes over: to a rebuild what it does not read again."""
        if not self.job.plan.is_rebuild:
            return self._with_merged("records", shard.index, shard.count, PUBLISHED.empty_table())
        return self._kept("records", self.job.index.read("records", shard.index, shard.count))

    def _kept(self, kind: str, rows: pa.Table) -> pa.Table:
        """The rows of `records` or `owners` that a rebuild takes over: of eval, and of what a human decided."""
        return rows.filter(pc.or_(pc.equal(rows.column("split"), EVAL), of_decided(kind, rows, self._decided)))

    def _left(self, segment: int, kinds: Kinds, facts: pa.Table) -> Left:
        """What was published of FACTS of a segment, and of their owners, until it was gone back over, rebuilt or forgotten."""
        job, left = self.job, NOTHING_LEFT
        if job.plan.base.left:
            records = job.left.read("records", segment, job.options.segments, facts.column("key").to_numpy())
            left = Left(records, self._runs("left").table(_segments(kinds["left"])))
        trained = load_suppressed(job.storage, job.options.suppressed).trained
        if not len(trained):
            return left
        again = facts.filter(is_suppressed(facts, trained, job.options.keys)).select(["key", "id"])
        split = pa.array(np.full(again.num_rows, TRAIN, np.int8))
        rows = again.append_column(PUBLISHED.field("split"), split)
        rows = rows.append_column(PUBLISHED.field("replaced_by"), pa.nulls(again.num_rows, pa.binary(16)))
        return left._replace(records=pa.concat_tables([left.records, rows.cast(PUBLISHED)]))

    @property
    def _decided(self) -> pa.Table:
        """DECIDED of a rebuild."""
        job = self.job
        return load_decided(job.storage, decided_uri(job.work)) if job.plan.base.decided else DECIDED.empty_table()

    def guard(self, number: int) -> Result:
        """Bands and sketches of a file of eval or of corrected records, signed anew: a rebuild may sign in another way."""
        job, options = self.job, self.job.options

        def make() -> Result:
            bands, sketches = [BANDS.empty_table()], [SKETCHES.empty_table()]
            path, split = job.plan.guards[number]
            for said in read_published(job.storage, join(job.output, path)):
                for tables, batch in zip(
                    (bands, sketches), sign_published(said, split, options.dedupe, options.keys), strict=True
                ):
                    tables.append(pa.Table.from_batches([batch]))
            rows = {"bands": pa.concat_tables(bands), "sketches": pa.concat_tables(sketches)}
            sizes = {"bands": options.band_segments, "sketches": options.segments}
            return {
                "runs": {
                    f"eval_{kind}": self._write(f"eval_{kind}", number, table, key_words(kind, table), sizes[kind])
                    for kind, table in rows.items()
                }
            }

        return self._once("guard", number, make, number)

    def kept_refs(self, group: Grouped) -> Result:
        """The refs of the records of a segment of ids that the run publishes, sorted."""
        segment, kinds = group

        def make() -> Result:
            published = key_words("sketches", self._runs("published").table(_segments(kinds["published"])))
            replaced = id_words(is_replaced(self._decided).column("owner"))[:, 0]
            replaced = replaced[segment_of(replaced, self.job.options.segments) == segment]
            refs = distinct(refs_of(np.concatenate([published, replaced])))
            return {"runs": {"refs": self._write("refs", segment, pa.table([pa.array(refs)], schema=REFS))}}

        return self._once("kept_refs", segment, make, segment)

    def carried_segments(self) -> Result:
        """As a run that is in every segment of ids, where a rebuild may take over what is in its index."""
        plan = self.job.plan
        return {"runs": {"every": list(range(plan.shape.segments + 1)) if plan.is_rebuild else [0]}}

    def _watched(self) -> list[str]:
        """Ids of which the report says what became of them."""
        told = Work(self.job.storage, self.job.work).result("cluster", 0) or {"largest": [], "borderline": []}
        pairs = told["borderline"]
        return sorted({one["id"] for one in told["largest"]} | {pair[side] for pair in pairs for side in "ab"})

    def index_ids(self, group: Grouped) -> int:
        """The parts of the index by id and by owner, of a segment of either."""
        segment, kinds = group

        def make() -> Result:
            job, count = self.job, self.job.options.segments
            published = self._runs("published").table(_segments(kinds["published"]))
            owners = self._runs("owners").table(_segments(kinds["owners"]))
            new = elect_sketches(self._runs("sketches").table(_segments(kinds["sketches"])))
            replaced = is_replaced(self._decided).select(["owner", "split"]).rename_columns(["id", "split"])
            sketches = publish_sketches(new, pa.concat_tables([published.select(["id", "split"]), replaced]))
            if job.plan.is_rebuild:
                sketches = pa.concat_tables([sketches, self._published("sketches", segment, count, kinds)])
                owners = pa.concat_tables([owners, self._kept("owners", job.index.read("owners", segment, count))])
            return self._parts(segment, count, {"owners": owners, "sketches": sketches})

        self._once("index_ids", segment, make)
        return segment

    def index_bands(self, group: Grouped, refs: Iterable[tuple[int, Reference]]) -> int:
        """The part of the index of a segment of bands."""
        segment, kinds = group

        def make() -> Result:
            count = self.job.options.band_segments
            kept = _kept(self.job.storage, self.job.work, tuple(sorted(reference for _, reference in refs)))
            bands = publish_bands(unpack_bands(self._runs("bands").table(_segments(kinds["bands"]))), kept)
            if self.job.plan.is_rebuild:
                bands = pa.concat_tables([bands, self._published("bands", segment, count, kinds)])
            return self._parts(segment, count, {"bands": bands})

        self._once("index_bands", segment, make)
        return segment

    def _parts(self, number: int, count: int, of: dict[str, pa.Table]) -> Result:
        """Parts of the index by kind, with what small ones of nights before hold; `merged` are the paths of those."""
        job, files, merged = self.job, [], []
        for kind, new in of.items():
            rows = self._with_merged(kind, number, count, new)
            rows = distinct_owners(rows) if kind == "owners" else rows
            files.append(put_part(job.storage, job.output, job.plan.name, kind, number, count, rows).as_dict())
            merged += self._to_merge(kind, number, count)
        return {"files": files, "merged": merged}

    def _to_merge(self, kind: str, number: int, count: int) -> list[str]:
        """Paths of the small parts that a part of the index takes in. A rebuild makes all of it anew."""
        plan = self.job.plan
        return [] if plan.is_rebuild else [one.path for one in parts_to_merge(kind, number, count, plan.base.small)]

    def _with_merged(self, kind: str, number: int, count: int, rows: pa.Table) -> pa.Table:
        """Rows of a part of the index, and those of the parts that it takes in."""
        parts = parts_of(self._to_merge(kind, number, count))
        return pa.concat_tables([rows, *Index(self.job.storage, self.job.output, parts).all(kind)])

    def commit(self, numbers: Iterable[int], size: Result, ids: Iterable[int], bands: Iterable[int]) -> int:
        """The manifest, last; a breach of the gates leaves a note of it instead."""
        merged = len(set(numbers))
        if merged != size["shards"]:
            raise RuntimeError(f"{merged} of {size['shards']} shards were merged")
        job = self.job
        tasks = [("merge", number) for number in range(size["shards"])]
        tasks += [("index_ids", number) for number in sorted(ids)] + [
            ("index_bands", number) for number in sorted(bands)
        ]
        commit_run(job.storage, job.output, job.work, tasks, accept=job.accept, keep_work=job.keep_work)
        return merged

    @staticmethod
    def references(result: Result, kind: str) -> Iterator[tuple[int, int, int, int]]:
        """(writer, segment, start, end) for the segments of a run of a result."""
        writer = int(result["writer"] if "writer" in result else result.get("unit", 0))
        first = result.get("first", {}).get(kind, 0)
        for number, segment in segments_of(writer, result["runs"].get(kind, [0])):
            yield writer, first + number, segment.start, segment.end

    def _once(self, stage: str, task: int, make: Any, writer: int = 0) -> Result:
        result = Work(self.job.storage, self.job.work).once(stage, task, make)
        return {**result, "writer": writer} if writer else result

    def _runs(self, kind: str) -> Runs:
        storage, folder = self.job.storage, self.job.work
        if kind in _RUNS:
            return Runs(storage, folder, kind, _RUNS[kind])
        return runs_of(storage, folder)[kind]

    def _write(
        self,
        kind: str,
        writer: int,
        rows: pa.Table,
        keys: npt.NDArray[np.uint64] | None = None,
        segments: int | None = None,
    ) -> list[int]:
        """Puts a run; its rows go to the segments of `keys`, or all to one."""
        segments = 1 if keys is None else segments or self.job.options.segments
        keys = np.zeros(rows.num_rows, np.uint64) if keys is None else keys
        batches = rows.to_batches(max_chunksize=max(1, FLUSH_BYTES * rows.num_rows // max(rows.nbytes, 1)))
        starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
        parts = (keys[start:end] for start, end in itertools.pairwise(starts))
        return self._put(kind, writer, zip(batches, parts, strict=True), segments)

    def _put(
        self, kind: str, writer: int, keyed: Iterable[tuple[pa.RecordBatch, npt.NDArray[np.uint64]]], segments: int
    ) -> list[int]:
        """Puts a run of batches, each with the keys of its rows (uint64[N])."""
        runs = self._runs(kind)
        with RunWriter(runs.schema, segments, self.job.storage.spool(self.job.work)) as run:
            for batch, keys in keyed:
                run.append(batch, segment_of(keys, segments))
            return run.finish(runs, writer)

    def _sketches(
        self,
        segment: int,
        kinds: Kinds,
        refs: npt.NDArray[np.uint32],
        published: pa.Table,
    ) -> pa.Table:
        """The elected sketches of a segment of ids that the refs name, new ones and those among `published`."""
        new = (batch for _, batch in self._runs("sketches").read(_segments(kinds["sketches"])))
        wanted, count, plan = distinct(refs), self.job.options.segments, self.job.plan
        both = (*published.to_batches(), *new)
        chosen = [batch.filter(pa.array(is_in_sorted(sketch_refs(batch), wanted))) for batch in both]
        sketches = pa.Table.from_batches(chosen, SKETCHES)
        for index in (self.job.left if plan.base.left else None, self.job.index if plan.is_rebuild else None):
            if index is not None:
                before = index.read("sketches", segment, count, _by_ref(wanted), 32)
                sketches = mark_earlier(sketches, newest_of(before, "id"))
        return elect_sketches(mark_sketches(sketches, is_replaced(self._decided)))

    def _published_sketches(self, segment: int, kinds: Kinds, refs: npt.ArrayLike) -> pa.Table:
        """The sketches of what is published before the run that the refs name, or to a rebuild all of eval's."""
        wanted = _by_ref(distinct(np.asarray(refs, np.uint32)))
        return self._published("sketches", segment, self.job.options.segments, kinds, wanted, 32)

    def _written(self, kind: str, stage: str, tasks: Iterable[int]) -> Iterator[pa.RecordBatch]:
        """All that some tasks of a stage wrote of a kind, those that are done.

        By their results, a task at a time: so many references would be too large for a side input.
        """
        done = Work(self.job.storage, self.job.work)
        for task in tasks:
            result = done.result(stage, task)
            if result is not None:
                yield from (
                    batch for _, batch in self._runs(kind).read(_all_segments({**result, "writer": task}, kind))
                )

    def _published(
        self,
        kind: str,
        segment: int,
        segments: int,
        kinds: Kinds,
        wanted: npt.NDArray[np.uint64] | None = None,
        bits: int = 64,
    ) -> pa.Table:
        """Bands or sketches of what is published before the run: those `wanted` (`Index.read`), or to a rebuild all of eval."""
        if self.job.plan.is_rebuild:
            return self._runs(f"eval_{kind}").table(_segments(kinds[f"eval_{kind}"]))
        return self.job.index.read(kind, segment, segments, wanted, bits)

    def _with_published(
        self, segment: int, kinds: Kinds, parts: Iterable[tuple[pa.Table, npt.NDArray[np.uint16]]]
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.uint16]]]:
        """Parts of the new BANDS of a segment, each followed by those of its bands that are published before the run."""
        for bands, tags in parts:
            asked = bands.column("band").to_numpy()
            published = self._published("bands", segment, self.job.options.band_segments, kinds, asked)
            if self.job.plan.is_rebuild:  # whatever was asked for
                published = published.filter(
                    pa.array(is_in_sorted(published.column("band").to_numpy(), distinct(asked)))
                )
            if published.num_rows:
                bands = pa.concat_tables([bands, published]).combine_chunks()
            yield bands, tags

    @property
    def _leak_threshold(self) -> float:
        return self.job.options.dedupe.leak_threshold

    def _crowds(self, references: Iterable[Reference]) -> pa.Table:
        """CROWDS of a segment of ids, sorted."""
        crowds = self._runs("crowds").table(_segments(references))
        return crowds.sort_by([("ref", "ascending"), ("band", "ascending")]).combine_chunks()

    def _seats(self, references: Iterable[Reference]) -> pa.Table:
        """SEATS of a segment of ids, sorted."""
        return self._runs("seats").table(_segments(references)).sort_by("word").combine_chunks()

    def _by_key(self, rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.uint64]:
        """uint64[N]: the shuffle keys of the ids."""
        if "key" in rows.schema.names:
            return np.asarray(rows.column("key").to_numpy(), np.uint64)
        keys, found = self.job.options.keys, np.empty(rows.num_rows, np.uint64)
        place = 0
        for batch in rows.to_batches(max_chunksize=_ROWS) if isinstance(rows, pa.Table) else (rows,):
            for one in batch.column("id").to_pylist():
                found[place] = keys.shuffle_key(one)
                place += 1
        return found


def cut_of(result: Result) -> Cut:
    """The cut in a result of `Tasks.cut`."""
    eval_end, val_end, passed, val_capped, frozen = result["cut"]
    return Cut(eval_end, val_end, tuple(passed), val_capped, frozen)


def _segments(references: Iterable[Reference]) -> list[Segment]:
    return [Segment(*reference) for reference in references]


@functools.lru_cache(maxsize=1)
def _kept(storage: Storage, work: str, references: tuple[Reference, ...]) -> Kept:
    """What the run publishes, of the runs of Kept refs in the order of their segments; read once a worker."""
    runs = Runs(storage, work, "refs", REFS)
    return gather_kept(runs.table([segment]).column("ref").to_numpy() for segment in _segments(references))


def _all_segments(result: Result, kind: str) -> list[Segment]:
    return [Segment(writer, start, end) for writer, _, start, end in Tasks.references(result, kind)]


def _by_ref(refs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """uint64[N]: refs as the keys that they begin."""
    return np.asarray(refs.astype(np.uint64) << np.uint64(32))


def _by_segment(targets: npt.NDArray[np.int64], segments: int) -> npt.NDArray[np.uint64]:
    """uint64[N]: for each segment of ids the first key that falls into it."""
    return np.asarray(targets.astype(np.uint64) << np.uint64(65 - segments.bit_length()))


def _pack_counts(counts: npt.NDArray[np.int64]) -> dict[str, str]:
    """Counts by bin as base64 of their compressed chunks; empty chunks are left out."""
    packed = {}
    for number, chunk in enumerate(counts.reshape(_CHUNKS, -1)):
        if chunk.any():
            packed[str(number)] = base64.b64encode(zlib.compress(chunk.tobytes(), 1)).decode()
    return packed
