"""Other tools over the same texts, each as its own documents say, at a threshold of 0.8 and 128 values.

    PEERS_VENV/bin/python benchmarks/dedupe_peers.py TOOL BODIES.parquet WORK RESULT

BODIES has `number` and `body`. Writes RESULT/result.json and RESULT/kept_for.npy as the engine does. Imports
are not timed. Where a tool takes tokens, it gets the same word 5-shingles as the engine, made in Python.

Which record one gives way to: in rensa and datasketch the most similar (by the tool's own estimate) of the
kept ones that its index returns; in the others, which keep one of each component, that one.
"""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.dedupe_truth import shingles_of

THRESHOLD, VALUES = 0.8, 128
Run = Callable[[list[str], Path], list[int]]


def prepare_datasketch() -> Run:
    from datasketch import MinHash, MinHashLSH

    def run(bodies: list[str], _: Path) -> list[int]:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=VALUES)
        signatures: dict[int, MinHash] = {}
        kept_for = []
        for number, body in enumerate(bodies):
            signature = MinHash(num_perm=VALUES)
            signature.update_batch([" ".join(one).encode() for one in shingles_of(body)])
            met = index.query(signature) if not signature.is_empty() else []
            if met:
                kept_for.append(max(met, key=lambda one: (signature.jaccard(signatures[one]), -one)))
            else:
                kept_for.append(-1)
                signatures[number] = signature
                index.insert(number, signature)
        return kept_for

    return run


def prepare_rensa() -> Run:
    from rensa import RMinHash, RMinHashDeduplicator

    def run(bodies: list[str], _: Path) -> list[int]:
        index = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=VALUES, use_lsh=True)
        signatures: dict[int, RMinHash] = {}
        kept_for = []
        for number, body in enumerate(bodies):
            shingles = [" ".join(one) for one in shingles_of(body)]
            signature = RMinHash(num_perm=VALUES, seed=42)
            signature.update(shingles)
            if not shingles or index.add(str(number), signature):
                kept_for.append(-1)
                signatures[number] = signature
            else:
                met = [int(one) for one in index.get_duplicates(signature)]
                kept_for.append(max(met, key=lambda one: (signature.jaccard(signatures[one]), -one)))
        return kept_for

    return run


def prepare_text_dedup() -> Run:
    from text_dedup import minhash, utils

    def run(bodies: list[str], work: Path) -> list[int]:
        work.mkdir(parents=True)
        source = work / "bodies.jsonl"
        with source.open("w") as out:
            for number, body in enumerate(bodies):
                out.write(json.dumps({"number": number, "body": body}) + "\n")
        arguments = ["--path", "json", "--data_files", str(source), "--split", "train", "--cache_dir", str(work / "cache"),
                     "--output", str(work / "out"), "--column", "body", "--num_perm", str(VALUES), "--num_proc", "1",
                     "--threshold", str(THRESHOLD), "--debug", "--no-clean_cache"]  # fmt: skip
        minhash.main.main(arguments, standalone_mode=False)
        with (work / "out" / "uf.pkl").open("rb") as stored:
            found: utils.UnionFind = pickle.load(stored)
        # It keeps the record that is its component's own root.
        roots = [found.find(number) if number in found.parent else number for number in range(len(bodies))]
        return [-1 if root == number else root for number, root in enumerate(roots)]

    return run


def prepare_datatrove() -> Run:
    from datatrove.data import Document
    from datatrove.io import get_datafolder
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64))
    sign = MinhashDedupSignature("nowhere", config)  # made once before: it loads a tokenizer

    def run(bodies: list[str], work: Path) -> list[int]:
        signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
        sign.output_folder = get_datafolder(signatures)
        sign.run((Document(text=body, id=str(number)) for number, body in enumerate(bodies)), 0, 1)
        for rank in range(config.num_buckets):
            MinhashDedupBuckets(signatures, buckets, config=config).run(None, rank, config.num_buckets)
        MinhashDedupCluster(buckets, clusters, config=config, save_cluster_id=True).run(None, 0, 1)
        kept_for = [-1] * len(bodies)
        removed_file, clusters_file = work / "clusters" / "000000.remove", work / "clusters" / "000000.clusters"
        removed = set(np.fromfile(removed_file, "<u4").tolist()) if removed_file.exists() else set()
        pairs = np.fromfile(clusters_file, "<u4").reshape(-1, 2).tolist() if clusters_file.exists() else []
        keeper = {cluster: number for number, cluster in pairs if number not in removed}
        for number, cluster in pairs:
            if number in removed:
                kept_for[number] = keeper[cluster]
        return kept_for

    return run


TOOLS = {
    "rensa": prepare_rensa,
    "datasketch": prepare_datasketch,
    "text-dedup": prepare_text_dedup,
    "datatrove": prepare_datatrove,
}


def main() -> None:
    tool, source, work, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    run = TOOLS[tool]()
    table = pq.read_table(source)
    bodies, numbers = table.column("body").to_pylist(), table.column("number").to_numpy()
    run(bodies[:32], work / "warm")
    base = _peak_bytes()
    cpu, start = _cpu(), time.monotonic()
    found = np.array(run(bodies, work / "run"), np.int64)
    result = {"records": len(bodies), "cpu_seconds": _cpu() - cpu, "seconds": time.monotonic() - start,
              "base_bytes": base, "peak_bytes": _peak_bytes()}  # fmt: skip
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "kept_for.npy", np.where(found >= 0, numbers[found], -1))
    (target / "result.json").write_text(json.dumps(result))
    shutil.rmtree(work, ignore_errors=True)


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
