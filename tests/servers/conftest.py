"""What the tests on real servers run the mill on, and what it makes of that on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_run import cut, digests, made_corpus, mill

SETS = ["--set", "write.shard_bytes=40000", "--set", "split.group_by=metadata.user_id"]
UNITS = ["--set", "read.unit_bytes=20000"]


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of about 300 records with something to redact in each, two of them packed."""
    return cut(list(map(personal, made_corpus(300))), tmp_path_factory.mktemp("corpus") / "logs", 6, 1)


def personal(record: Any) -> Any:
    """A record in which the user says who it is; broken lines as they are."""
    if isinstance(record, bytes) or "user_id" not in record:
        return record
    asked, *rest = record["messages"]
    number = record["user_id"]
    said = f"{asked['content']} Write to user{number}@example.com or call 212-555-{number:04}."
    return record | {"messages": [asked | {"content": said}, *rest]}


@pytest.fixture(scope="session")
def expected(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digest of each data file by its name, as this machine alone makes them."""
    output = tmp_path_factory.mktemp("local") / "out"
    assert mill("run", "--input", logs, "--output", output, *SETS, *UNITS) == 0
    return digests(output)
