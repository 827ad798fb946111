"""The tools that `make test-deploy` installs, and the container image's file tree, made without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of kubeconform, fake-gcs-server, schemas and linters."""
    folder = os.environ.get("CORPUSMILL_TOOLS")
    assert folder, "run `make test-deploy`, which installs what these tests need"
    return Path(folder)


@dataclass(frozen=True)
class Step:
    """An instruction of a Dockerfile, and the stage it is in."""

    stage: str
    word: str
    text: str


def steps_of(dockerfile: Path) -> list[Step]:
    """The instructions of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE))
    steps, stage = [], ""
    for line in text.splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            _, _, stage = rest.rpartition(" AS ")
        steps.append(Step(stage, word, rest.strip()))
    return steps


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/corpusmill of the image: the steps of the stage `build`, run in folders that stand for its own."""
    root = tmp_path_factory.mktemp("image")
    root.chmod(0o755)
    for parent in root.parents:
        if parent.is_relative_to(tmp_path_factory.getbasetemp().parent):
            parent.chmod(0o755)  # the image's user is another than ours
    source, target = root / "src", root / "opt" / "corpusmill"
    source.mkdir()
    target.parent.mkdir()
    for step in steps_of(DEPLOY / "Dockerfile"):
        if step.stage != "build" or step.word == "FROM":
            continue
        if step.word == "WORKDIR":
            assert step.text == "/src"
        elif step.word == "COPY":
            *names, place = step.text.split()
            for name in names:
                _copy(REPOSITORY / name, source / (place if (REPOSITORY / name).is_dir() else "."))
        elif step.word == "RUN":
            line = step.text.replace("/opt/corpusmill", str(target)).replace("--no-cache ", "")  # the cache is ours
            done = subprocess.run(line, shell=True, cwd=source, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        else:
            raise AssertionError(f"the stage `build` has a step of another kind: {step.word}")
    return target


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
