"""Simulated nights: what is published stays, nothing leaks, and a night costs what it weighs.

.venv/bin/python benchmarks/nightly.py                            # both, in a quarter of an hour; exit 3 where a figure is not reached
.venv/bin/python benchmarks/nightly.py --cost 0                   # 30 nights on 4,000 conversations, every check
.venv/bin/python benchmarks/nightly.py --nights 0 --cost 1200000  # the cost of a night beside a build, and of the index

The first night is a backlog, each other one brings `--share` of it: new conversations of users old and new, copies
and near-copies of earlier nights, broken lines. Every night goes in with `corpusmill run … --date`; each is checked
from its files, against the nights before and, in the end, against one full build of all nights.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.nightly_cases import SPLITS, Fate, Judge, Texts
from pipeline.history import compare_snapshots
from pipeline.snapshots import Dataset, add_accounts, total
from transforms.hashing import Keys
from transforms.shingles import shingle_texts
from transforms.sign import bodies
from transforms.storage import Storage

THRESHOLD, LEAK_THRESHOLD = 0.8, 0.7
COST_SHARE = 0.05  # of a build's time that a night of 1 % may take
INDEX_BYTES = 320  # a record
BACKLOG_LINES = 75_000  # a file
COST_NIGHTS = 3
LEAK_SHARE = 0.01  # of the held-out records that may have a pair between the two
KEYS = Keys("benchmark")
OPTIONS = ["--set", "redact.enabled=false", "--set", "split.group_by=metadata.user_id"]

Record = dict[str, Any]


@dataclass
class Night:
    """A night that was taken in, and what was found wrong with it."""

    number: int
    seconds: float
    findings: list[str] = field(default_factory=list)


class Writer:
    """Makes nights: what users say is drawn from a vocabulary of Zipf's kind, as in `benchmarks.corpus`."""

    def __init__(self, seed: int) -> None:
        self._chooser = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        words = ["".join(self._chooser.choices(letters, k=self._chooser.randint(2, 10))) for _ in range(30_000)]
        self._pool = self._chooser.choices(words, [1 / (rank + 10) for rank in range(len(words))], k=1_000_000)
        self._earlier: list[Record] = []  # a sample of what was said before
        self._users = 0

    def night(self, count: int) -> list[bytes]:
        """The lines of a night: 70 % new, 12 % copies, 16 % near-copies from slight to strong, 2 % broken."""
        lines, fresh = [], []
        for _ in range(count):
            draw = self._chooser.random()
            if draw < 0.02:
                lines.append(self._chooser.choice([b'{"messages": [', b'{"messages": []}', b"", b"null"]))
            elif draw < 0.14 and self._earlier:
                lines.append(json.dumps(self._chooser.choice(self._earlier)).encode())
            elif draw < 0.30 and self._earlier:
                lines.append(json.dumps(self._near(self._chooser.choice(self._earlier))).encode())
            else:
                fresh.append(self._fresh())
                lines.append(json.dumps(fresh[-1]).encode())
                if len(self._earlier) < 100:
                    self._earlier.append(fresh[-1])
        self._earlier += fresh
        self._chooser.shuffle(self._earlier)
        del self._earlier[20_000:]
        return lines

    def _user(self, new: float) -> int | None:
        """A user who came before or, with that chance, a new one; now and then nobody known."""
        draw = self._chooser.random()
        if draw < 0.1:
            return None
        if draw < 0.1 + 0.9 * new or not self._users:
            self._users += 1
            return self._users
        return self._chooser.randrange(1, self._users + 1)

    def _fresh(self) -> Record:
        messages = []
        for turn in range(2 * self._chooser.randint(1, 3)):
            start, length = self._chooser.randrange(len(self._pool) - 100), self._chooser.randint(8, 60)
            messages.append({"role": "assistant" if turn % 2 else "user", "content": " ".join(self._pool[start : start + length])})  # fmt: skip
        return _record(messages, self._user(0.3))

    def _near(self, record: Record) -> Record:
        """A copy with a tenth of its words at most changed, by any user: on both sides of the thresholds."""
        share = self._chooser.choice([0.0, 0.01, 0.02, 0.04, 0.07, 0.1])
        messages = []
        for message in record["messages"]:
            words = [
                self._chooser.choice(self._pool) if self._chooser.random() < share else word
                for word in message["content"].split()
            ]
            messages.append({**message, "content": " ".join(words)})
        messages[0]["content"] += f" {self._chooser.choice(self._pool)}"
        return _record(messages, self._user(0.5))


def _record(messages: list[Record], user: int | None) -> Record:
    return {"messages": messages} if user is None else {"messages": messages, "user_id": user}


def run_mill(logs: str, output: Path, *more: str) -> float:
    """Takes in logs; returns seconds."""
    return command("run", "--input", logs, "--output", str(output), *OPTIONS, *more)


def command(*arguments: str) -> float:
    """Runs a command of the mill; returns seconds. Raises RuntimeError with what it said where it fails."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - start


def check_night(dataset: Dataset, number: int) -> Iterator[str]:
    """What is wrong with snapshot `number`, looked at from its manifest, its lineage and the snapshot before."""
    manifest = dataset.manifest(number)
    added = manifest["added"]
    if added["read"] != total(added):
        yield f"{added['read']} lines read, {total(added)} accounted for"
    fates: Counter[str] = Counter()
    for fate in lineage(dataset, manifest, number):
        fates[fate["outcome"]] += 1
    if sum(fates.values()) != added["read"] or any(fates[split] != added[split] for split in SPLITS):
        yield "the lineage has other numbers than the accounts"
    groups: dict[str, str] = {}
    torn = set()
    for row in rows(dataset, manifest, ["group"]):
        if row["group"] and groups.setdefault(row["group"], row["split"]) != row["split"]:
            torn.add(row["group"])
    if torn:
        yield f"{len(torn)} groups are in several splits"
    if number == 1:
        return
    before = dataset.manifest(number - 1)
    if add_accounts([before["accounting"], added]) != manifest["accounting"]:
        yield "the accounts are not those of the night before and of this night"
    found = compare_snapshots(dataset, number - 1, number)
    if found["moved"]:
        yield f"records moved: {found['moved']}"
    if any(found["out"].values()):
        yield f"published records went: {found['out']}"
    if eval_digests(before) != eval_digests(manifest):
        yield "the files of eval changed"


def check_compacted(dataset: Dataset, before: int) -> Iterator[str]:
    """What a compaction changed, against the snapshot before: it may change nothing but files."""
    was, now = dataset.manifest(before), dataset.manifest()
    found = compare_snapshots(dataset, before, dataset.latest())
    if found["moved"] or any(found["in"].values()) or any(found["out"].values()):
        yield f"records moved, came or went: {found}"
    if was["accounting"] != now["accounting"]:
        yield "the accounts are not those of before"
    if eval_digests(was) != eval_digests(now):
        yield "the files of eval changed"
    fates = [sorted(json.dumps(fate, sort_keys=True) for fate in lineage(dataset, one)) for one in (was, now)]
    if fates[0] != fates[1]:
        yield "the lineage is not that of before"


def eval_digests(manifest: dict[str, Any]) -> dict[str, str]:
    """Digest of each file of eval that has records."""
    return {one["path"]: one["digest"] for one in manifest["files"] if one.get("split") == "eval" and one["rows"]}


def rows(dataset: Dataset, manifest: dict[str, Any], columns: list[str]) -> Iterator[Record]:
    """The rows of all splits, with their split."""
    for one in manifest["files"]:
        if one["kind"] == "parquet":
            for row in pq.read_table(dataset.uri(one["path"]), columns=columns).to_pylist():
                yield {**row, "split": one["split"]}


def lineage(dataset: Dataset, manifest: dict[str, Any], number: int | None = None) -> Iterator[Record]:
    """The fates of all lines, or of those that one snapshot took in."""
    for one in manifest["files"]:
        if one["kind"] == "lineage" and (number is None or one["path"].split("/")[1].startswith(f"{number:06d}")):
            yield from pq.read_table(dataset.uri(one["path"])).to_pylist()


@dataclass(frozen=True)
class Leaks:
    """Pairs across splits by brute force: at or above the dedupe threshold, and held-out records with one below it."""

    looked_at: int
    strong: list[tuple[str, str]]
    weak: int

    def findings(self) -> Iterator[str]:
        if self.strong:
            yield f"{len(self.strong)} pairs across splits have a Jaccard index of at least {THRESHOLD}"
        if self.weak > LEAK_SHARE * self.looked_at:
            yield f"{self.weak} of {self.looked_at} val and eval records have a pair between the thresholds"


def find_leaks(dataset: Dataset, manifest: dict[str, Any], sample: int | None = None) -> Leaks:
    """The exact Jaccard index of every val and eval record, or of a sample of them, with every record elsewhere."""
    from scipy import sparse

    ids, splits, texts = [], [], []
    for one in manifest["files"]:
        if one["kind"] == "parquet":
            table = pq.read_table(dataset.uri(one["path"]), columns=["id", "messages"])
            ids += table.column("id").to_pylist()
            splits += [one["split"]] * table.num_rows
            texts += [text for chunk in table.column("messages").chunks for text in bodies(chunk)]
    shingles = shingle_texts(texts, 5, KEYS)
    sizes = np.diff(shingles.offsets)
    _, columns = np.unique(shingles.values, return_inverse=True)
    shape = (len(ids), int(columns.max(initial=0)) + 1)
    sets = sparse.csr_matrix((np.ones(len(columns), np.int32), columns, shingles.offsets), shape=shape)
    split_of = np.array(splits)
    held = np.flatnonzero(split_of != "train")
    if sample is not None and sample < len(held):
        held = np.random.default_rng(0).choice(held, sample, replace=False)
    strong, weak = [], 0
    for start in range(0, len(held), 256):
        mine = held[start : start + 256]
        shared = (sets[mine] @ sets.T).tocoo()
        index = shared.data / (sizes[mine][shared.row] + sizes[shared.col] - shared.data)
        apart = split_of[mine][shared.row] != split_of[shared.col]
        for row, column in zip(*(one[apart & (index >= THRESHOLD)] for one in (shared.row, shared.col)), strict=True):
            strong.append((ids[mine[row]], ids[column]))
        weak += len(set(shared.row[apart & (index >= LEAK_THRESHOLD) & (index < THRESHOLD)].tolist()))
    return Leaks(len(held), strong, weak)


def best_fates(dataset: Dataset) -> dict[str, Fate]:
    """The fate of each id: where it is kept, else why its first line is not."""
    fates: dict[str, Fate] = {}
    manifest = dataset.manifest()
    for number in dataset.numbers():
        for row in lineage(dataset, manifest, number):
            if row["id"] is None:
                continue
            before = fates.get(row["id"])
            kept = row["outcome"] in SPLITS
            if before is None or kept or (before.reason == "exact" and before.outcome == "duplicate"):
                reason = "" if kept else row["reasons"][0]
                fates[row["id"]] = Fate(row["outcome"], reason, row["kept_id"], row["group"], number)
    return fates


def compare_with_full(nightly: Dataset, full: Dataset, logs: Path) -> tuple[list[dict[str, str | None]], list[str]]:
    """Ids that fared otherwise night by night than in one build, each with its cause; findings for those without."""
    mine, other = best_fates(nightly), best_fates(full)
    lines = (line.rstrip(b"\n") for path in sorted(logs.glob("*.jsonl")) for line in path.open("rb"))
    cuts = {number: _cut(nightly, number) for number in nightly.numbers()}
    keys = Keys(nightly.manifest()["config"]["split"]["salt"])
    texts = Texts(lines, KEYS)
    judge = Judge(mine, other, texts.alike, keys, cuts, _cut(full, full.latest()), THRESHOLD, LEAK_THRESHOLD)
    cases: list[dict[str, str | None]] = []
    findings: Counter[str] = Counter()
    for one in sorted(mine.keys() | other.keys()):
        if one not in mine or one not in other:
            findings["ids are in the lineage of only one of the two"] += 1
        elif (mine[one].outcome, mine[one].reason) != (other[one].outcome, other[one].reason):
            cause = judge.cause(one)
            cases.append({"id": one, "one_build": str(other[one]), "nights": str(mine[one]), "cause": cause})
            if cause is None:
                findings[
                    f"ids are {other[one]} in one build, {mine[one]} night by night, for no reason that shows"
                ] += 1
    return cases, [f"{count} {text}" for text, count in sorted(findings.items())]


def _cut(dataset: Dataset, number: int) -> tuple[int, int, bool]:
    """(eval_end, val_end, frozen) by which a snapshot cut its splits: eval fills in the first."""
    split = dataset.manifest(number)["split"]
    return split["eval_end"], split["val_end"], number > 1


def index_bytes(manifest: dict[str, Any]) -> dict[str, float]:
    """Bytes of the index a published record, by kind and in all."""
    kept = max(sum(manifest["accounting"][split] for split in SPLITS), 1)
    sizes: Counter[str] = Counter()
    for one in manifest["files"]:
        if one["kind"] == "index":
            sizes[one["path"].rsplit("/", 1)[1].split("-")[0]] += one["bytes"]
    return {name: round(size / kept, 1) for name, size in [*sorted(sizes.items()), ("all", sizes.total())]}


def index_findings(n_bytes: float) -> list[str]:
    """What is wrong with so many bytes a record."""
    return [f"the index has {n_bytes} bytes a record, more than {INDEX_BYTES}"] if n_bytes > INDEX_BYTES else []


def simulate(folder: Path, nights: int, first: int, share: float, seed: int, sample: int | None) -> dict[str, Any]:
    """Takes in the nights, checks each, builds all at once beside them, and compacts them."""
    shutil.rmtree(folder, ignore_errors=True)
    logs = folder / "logs"
    logs.mkdir(parents=True)
    writer = Writer(seed)
    nightly = Dataset(Storage(), str(folder / "nightly"))
    done: list[Night] = []
    for number in range(1, nights + 1):
        date = f"2026-{1 + (number - 1) // 28:02d}-{1 + (number - 1) % 28:02d}"
        _write(logs / f"{date}.jsonl", writer.night(first if number == 1 else max(1, int(first * share))))
        seconds = run_mill(f"{logs}/{{date}}.jsonl", Path(nightly.root), "--date", date)
        done.append(Night(number, seconds, list(check_night(nightly, number))))
        _tell(done[-1], nightly)
    manifest = nightly.manifest()
    leaks = find_leaks(nightly, manifest, sample)
    full = Dataset(Storage(), str(folder / "full"))
    run_mill(f"{logs}/*.jsonl", Path(full.root))
    cases, unexplained = compare_with_full(nightly, full, logs)
    (folder / "cases.json").write_text(json.dumps(cases, indent=1))
    before = index_bytes(manifest)["all"]
    command("compact", nightly.root, "--min-files", "2")
    compacted = [*check_compacted(nightly, nights)] if nightly.latest() > nights else ["nothing was compacted"]
    return {
        "records": sum(manifest["accounting"][split] for split in SPLITS),
        "findings": [f"night {one.number}: {text}" for one in done for text in one.findings]
        + [f"in the end: {text}" for text in (*leaks.findings(), *unexplained)]
        + [f"compacted: {text}" for text in compacted],
        "leaks": {"looked_at": leaks.looked_at, "strong": len(leaks.strong), "weak": leaks.weak},
        "other_fates_than_in_a_full_build": dict(Counter(
            f"{case['cause']}: {case['one_build']} in one build, {case['nights']} night by night" for case in cases
        ).most_common()),
        "each_of_them": str(folder / "cases.json"),
        "index_bytes_a_record": {"after_the_nights": before, "compacted": index_bytes(nightly.manifest())["all"]},
    }  # fmt: skip


def measure_cost(folder: Path, lines: int, share: float, seed: int) -> dict[str, Any]:
    """Seconds of a build, with redaction, and of nights that bring a share of it: the first compiles nothing any more, the median counts."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    writer, dataset, more = Writer(seed), Dataset(Storage(), str(folder / "out")), ("--set", "redact.enabled=true")
    for number in range(max(1, lines // BACKLOG_LINES)):
        _write(folder / "logs" / f"backlog-{number:03d}.jsonl", writer.night(min(lines, BACKLOG_LINES)))
    nights = [max(1, int(lines * share))] * COST_NIGHTS
    for number, count in enumerate(nights):
        _write(folder / "logs" / f"night-{number}.jsonl", writer.night(count))
    build = run_mill(f"{folder}/logs/backlog-*.jsonl", Path(dataset.root), *more)
    took = [run_mill(f"{folder}/logs/night-{number}.jsonl", Path(dataset.root), *more) for number in range(len(nights))]
    median = sorted(took)[len(took) // 2]
    alone = run_mill(f"{folder}/logs/night-0.jsonl", folder / "alone", *more)
    index = index_bytes(dataset.manifest())
    findings = []
    if median > COST_SHARE * build:
        findings.append(f"a night of {share:.0%} took {median / build:.1%} of the build, more than {COST_SHARE:.0%}")
    findings += index_findings(index["all"])
    return {
        "lines": lines,
        "published": sum(dataset.manifest()["accounting"][split] for split in SPLITS),
        "findings": findings,
        "seconds": {
            "build": round(build, 1),
            "nights": [round(one, 1) for one in took],
            "night_alone": round(alone, 1),
        },
        "night_share_of_build": round(median / build, 4),
        "index_bytes_a_record": index,
    }


def _write(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def _tell(night: Night, dataset: Dataset) -> None:
    added = dataset.manifest(night.number)["added"]
    said = "; ".join(night.findings) or "all right"
    print(
        f"night {night.number:>2}: {night.seconds:6.1f} s, read {added['read']:>7,}, "
        + ", ".join(f"{split} +{added[split]:,}" for split in SPLITS)
        + f", duplicate {added['duplicate']:,}, dropped {sum(added['dropped'].values()):,}: {said}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=30, help="0: costs only")
    parser.add_argument("--first", type=int, default=4000, help="lines of the first night")
    parser.add_argument("--share", type=float, default=0.01, help="lines of each other night, as a share of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, help="held-out records to compare by brute force; all without it")
    parser.add_argument(
        "--cost",
        type=int,
        default=4_800_000,
        help="lines of the build that costs are measured beside, redacted; 0: none",
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/corpusmill-bench/nightly"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if options.nights:
        found["nights"] = simulate(options.folder / "nights", options.nights, options.first, options.share, options.seed, options.sample)  # fmt: skip
        found["nights"]["findings"] += index_findings(found["nights"]["index_bytes_a_record"]["after_the_nights"])
    if options.cost:
        found["cost"] = measure_cost(options.folder / "cost", options.cost, options.share, options.seed)
    print(json.dumps(found, indent=2))
    sys.exit(3 if any(one["findings"] for one in found.values()) else 0)


if __name__ == "__main__":
    main()
