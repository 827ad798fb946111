"""The report: what went in, what came out, and why the rest did not. Counts, ids and reasons; never content."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.errors import UsageError
from pipeline.plan import Plan
from pipeline.snapshots import Dataset, kept
from pipeline.templates import render
from transforms.reasons import MEANING, SPLITS, Drop, Reason
from transforms.storage import join
from transforms.write import Written, file_digest

MOST_SHARDS = 1000  # rows of the page's table of inputs; report.json and the inputs file have all


def build_report(
    dataset: Dataset, plan: Plan, accounting: Mapping[str, Any], added: Mapping[str, Any], summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Writes report.json and index.html; returns the manifest's entries.

    The report is on one run, whose accounts are `added`; `accounting` is of all that the snapshot holds.
    """
    report = report_values(plan, added, summary) | {"dataset": accounting}
    entries = []
    for name, content in (
        ("report.json", orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"),
        ("index.html", report_page(report).encode()),
    ):
        path = join("report", plan.name, name)
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
        "duplicates": {
            "threshold": plan.config["dedupe"]["threshold"],
            "leak_threshold": plan.config["dedupe"]["leak_threshold"],
            "distinct": clusters["distinct"],
            "verified_pairs": clusters["edges"],
            "largest_clusters": clusters["largest"],
            "divided_units": clusters["divided"],
            "look_alikes": {
                "dropped": summary["cut"]["dropped"],
                "unsearched": summary["cut"]["unsearched"],
                "sampled": summary["cut"]["sampled"],
                "recalled": summary["cut"]["recalled"],
            },
        },
        "shards": summary["accounts"],
        "config": plan.config,
        "versions": plan.versions,
    }


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
        report=report,
        flow=flow,
        reasons=reasons,
        shards=shards,
        left_out=len(report["shards"]) - len(shards),
    )


def rebuild_page(dataset: Dataset) -> str:
    """Writes the page again from report.json where it is not as the manifest says; returns its URI."""
    manifest = dataset.manifest()
    # In the order of the snapshots: of a manifest that lists the reports of several, the last.
    uris = {uri.rsplit("/", 1)[1]: uri for uri in sorted(dataset.files(manifest, "report"))}
    try:
        page = report_page(orjson.loads(dataset.storage.read(uris["report.json"]))).encode()
    except (FileNotFoundError, KeyError, ValueError):
        raise UsageError("report.json is missing or damaged", f"corpusmill verify {dataset.root}") from None
    if not dataset.storage.exists(uris["index.html"]) or dataset.storage.read(uris["index.html"]) != page:
        dataset.storage.put(uris["index.html"], page)
    dataset.derive()
    return uris["index.html"]
