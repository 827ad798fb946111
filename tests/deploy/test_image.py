"""The container image: its steps, run without a container engine, and what they make, run as its user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.deploy.conftest import DEPLOY, REPOSITORY, steps_of

USER = 1000


def test_every_image_but_dataflows_runs_as_a_plain_user():
    users: dict[str, str] = {}
    bases: dict[str, str] = {}
    last = ""
    for step in steps_of(DEPLOY / "Dockerfile"):
        if step.word == "FROM":
            base, _, stage = step.text.partition(" AS ")
            last = base
            bases[stage or "last"] = base
            users[stage or "last"] = users.get(base, "root")
        elif step.word == "USER":
            users[step.stage or "last"] = step.text
    assert last == "corpusmill"  # what is built without --target
    assert users["corpusmill"] == users["worker"] == users["last"] == f"{USER}:{USER}"
    assert users["dataflow"] == "root"
    assert all(":" in base or base in users or base.startswith("${") for base in bases.values())


def test_the_bases_are_pinned():
    pins = [step.text for step in steps_of(DEPLOY / "Dockerfile") if step.word == "ARG"]
    assert len(pins) == 3
    assert all(":" in pin.partition("=")[2] for pin in pins)


def as_user(command: list[str], scratch: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as the image's user, who can write into `scratch` only, with the image's environment."""
    os.chown(scratch, USER, USER)
    (variables,) = [
        step.text for step in steps_of(DEPLOY / "Dockerfile") if step.word == "ENV" and step.stage == "corpusmill"
    ]
    env = dict(part.split("=", 1) for part in variables.split())
    env = {name: value.replace("/tmp", str(scratch)) for name, value in env.items()}
    path = f"{Path(command[0]).parent}:/usr/bin:/bin"
    plain = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    return subprocess.run(
        [*plain, *command],
        env={**env, "PATH": path, **environment},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_image_makes_a_dataset_with_only_one_folder_to_write_to(image, tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "chat.jsonl").write_bytes((REPOSITORY / "examples/logs/chat-en-1.jsonl").read_bytes())
    before = {path: path.stat().st_mtime_ns for path in image.rglob("*")}
    done = as_user(
        [str(image / "bin" / "corpusmill"), "run", "--input", str(logs), "--output", str(scratch / "out")], scratch
    )
    assert done.returncode == 0, done.stderr
    assert (scratch / "out/snapshots/000001.json").exists()
    assert {path: path.stat().st_mtime_ns for path in image.rglob("*")} == before
    refused = as_user(
        [str(image / "bin" / "corpusmill"), "run", "--input", str(logs), "--output", str(tmp_path)], scratch
    )
    assert refused.returncode == 2, refused.stderr  # it could not have written elsewhere
