"""The report: what went in, what came out, and why the rest did not. Counts, ids and reasons; never content."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pipeline.decontaminate import contamination_of
from pipeline.errors import UsageError
from pipeline.plan import Plan
from pipeline.snapshots import Dataset, kept
from pipeline.templates import render
from transforms.reasons import MEANING, SPLITS, Drop, Outcome, Reason
from transforms.storage import join
from transforms.write import Written, file_digest

MOST_PAIRS = 12  # borderline pairs a side
_ELSEWHERE = {"outcome": "", "place": ""}  # of a record of an earlier snapshot
# Precision and recall of redaction by spans under the default policy: see "Quality of redaction" in the README.
MEASURED = (
    (
        "e-mail addresses, phone numbers, cards, IBANs, IP, MAC and crypto addresses, NHS, NPI, ABA, DEA numbers",
        0.995,
        1.0,
    ),
    ("identifiers of ten other countries, each switched on", 1.0, 1.0),
    ("SSNs, numbers of bank accounts, licences and passports, with words that say so", 0.986, 1.0),
    ("secrets with a prefix or form of their own", 1.0, 1.0),
    ("secrets by their keyword: passwords, bearer tokens and others", 1.0, 0.993),
)
MOST_SHARDS = 1000  # rows of the page's table of inputs; report.json and the inputs file have all


def build_report(
    dataset: Dataset, plan: Plan, accounting: Mapping[str, Any], added: Mapping[str, Any], summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Writes report.json and index.html; returns the manifest's entries.

    The report is on one run, whose accounts are `added`; `accounting` is of all that the snapshot holds.
    """
    return put_report(dataset, plan.name, report_values(plan, added, summary) | {"dataset": accounting})


def put_report(dataset: Dataset, name: str, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Writes report.json and index.html of a snapshot's name; returns the manifest's entries."""
    entries = []
    for file, content in (
        ("report.json", orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"),
        ("index.html", report_page(report).encode()),
    ):
        path = join("report", name, file)
        dataset.storage.put(dataset.uri(path), content)
        entries.append(Written(path, "report", None, 0, len(content), file_digest(io.BytesIO(content))).as_dict())
    return entries


def report_values(plan: Plan, accounting: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json says."""
    entities: Counter[str] = Counter()
    for unit in summary["units"]:
        entities.update(unit["entities"])
    notes: Counter[str] = Counter()
    for unit in summary["units"]:
        notes.update(unit["notes"])
    clusters = summary["clusters"]
    return {
        "snapshot": plan.number,
        "plan": plan.id,
        "operation": plan.operation,
        "accounting": accounting,
        "kept": kept(accounting),
        "input": {
            "shards": len(plan.inputs),
            "bytes": plan.input_bytes,
            "notes": dict(sorted(notes.items())),
            "corrupt": sorted({plan.inputs[unit["shard"]].name for unit in summary["units"] if unit["corrupt"]}),
        },
        "splits": {str(split): accounting[split] for split in SPLITS},
        "entities": dict(sorted(entities.items(), key=lambda one: (-one[1], one[0]))),
        "measured": [{"what": what, "precision": right, "recall": found} for what, right, found in MEASURED],
        "duplicates": {
            "threshold": plan.config["dedupe"]["threshold"],
            "leak_threshold": plan.config["dedupe"]["leak_threshold"],
            "distinct": clusters["distinct"],
            "verified_pairs": clusters["edges"],
            "largest_clusters": [{**one, **summary["seen"].get(one["id"], _ELSEWHERE)} for one in clusters["largest"]],
            "divided_units": clusters["divided"],
            "similarities": clusters["similarities"],
            "borderline": borderline(clusters["borderline"], summary["seen"]),
            "look_alikes": look_alikes(summary["cut"]),
        },
        "benchmarks": contamination_of(plan, summary["units"]),
        "shards": summary["accounts"],
        "config": plan.config,
        "versions": plan.versions,
    }


def borderline(pairs: Iterable[Mapping[str, Any]], seen: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """The pairs nearest to the threshold of which both records are in train, or gave way to one that is; the most alike first."""
    shown: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for pair in pairs:
        side = shown[pair["dropped"]]
        wanted = (Outcome.TRAIN, Outcome.DUPLICATE if pair["dropped"] else Outcome.TRAIN)
        told = [seen.get(pair[name], _ELSEWHERE) for name in "ab"]
        if tuple(one["outcome"] for one in told) == wanted and len(side) < MOST_PAIRS:
            side.append({**pair, "place_a": told[0]["place"], "place_b": told[1]["place"]})
    return sorted([*shown[True], *shown[False]], key=lambda one: (-one["similarity"], one["a"], one["b"]))


def look_alikes(cut: Mapping[str, Any]) -> dict[str, Any] | None:
    """How well look-alikes of val and eval were found, measured by comparing a sample of those with every record: pairs
    that are alike, and those of them that lost a record or are in one split."""
    if "sampled" not in cut:
        return None
    sampled, found = cut["sampled"], cut["recalled"]
    return {
        "dropped": cut["dropped"],
        "sampled": sampled,
        "found": found,
        "missed": sampled - found,
        "recall": found / sampled if sampled else None,
        "recall_at_least": lower_bound(found, sampled) if sampled else None,
        "unsearched": cut["unsearched"],
    }


def lower_bound(found: int, of: int) -> float:
    """The least share that `found` of a sample of `of` speak for, at 95 %, one-sided (Wilson 1927, J. Am. Stat. Assoc. 22).

    >>> round(lower_bound(12, 12), 2), round(lower_bound(950, 1000), 2)
    (0.82, 0.94)
    """
    share, spread = found / of, 1.6449**2 / of
    return (share + spread / 2 - math.sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread)


def report_page(report: Mapping[str, Any]) -> str:
    """index.html for what report.json says: one file, no remote asset."""
    accounting = report["accounting"]
    read = max(accounting["read"], 1)
    flow = [(str(split), accounting[split], accounting[split] / read) for split in SPLITS]
    flow += [
        ("duplicate", accounting["duplicate"], accounting["duplicate"] / read),
        ("quarantined", sum(accounting["quarantined"].values()), sum(accounting["quarantined"].values()) / read),
        ("dropped", sum(accounting["dropped"].values()), sum(accounting["dropped"].values()) / read),
    ]
    reasons = [
        (outcome, reason, count, MEANING[kind(reason)])
        for outcome, kind in (("quarantined", Reason), ("dropped", Drop))
        for reason, count in sorted(accounting[outcome].items(), key=lambda one: (-one[1], one[0]))
    ]
    shards = [
        {**one, "quarantined": sum(one["quarantined"].values()), "dropped": sum(one["dropped"].values())}
        for one in report["shards"][:MOST_SHARDS]
    ]
    return render(
        "report.html",
        report={"changes": {}, "benchmarks": [], "measured": [], **report},
        flow=flow,
        reasons=reasons,
        shards=shards,
        most_alike=max((one["dropped"] + one["kept"] for one in report["duplicates"]["similarities"]), default=0),
        left_out=len(report["shards"]) - len(shards),
    )


def newest_report(dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a snapshot's report. Raises UsageError where it is missing or damaged."""
    try:
        uri = max(uri for uri in dataset.files(manifest, "report") if uri.endswith("/report.json"))
        return dict(orjson.loads(dataset.storage.read(uri)))
    except (FileNotFoundError, ValueError):
        raise UsageError("report.json is missing or damaged", f"corpusmill verify {dataset.root}") from None


def rebuild_page(dataset: Dataset) -> str:
    """Writes the page again from report.json where it is not as the manifest says; returns its URI."""
    manifest = dataset.manifest()
    # In the order of the snapshots: of a manifest that lists the reports of several, the last.
    uris = {uri.rsplit("/", 1)[1]: uri for uri in sorted(dataset.files(manifest, "report"))}
    page = report_page(newest_report(dataset, manifest)).encode()
    if not dataset.storage.exists(uris["index.html"]) or dataset.storage.read(uris["index.html"]) != page:
        dataset.storage.put(uris["index.html"], page)
    dataset.derive()
    return uris["index.html"]
