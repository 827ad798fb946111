from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pipeline.snapshots import Dataset

# With CI set the same examples each time, so that a commit passes or fails for what it holds.
settings.register_profile("mill", deadline=None, print_blob=False, derandomize="CI" in os.environ)
settings.load_profile("mill")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests don't depend on the key of whoever runs them."""
    monkeypatch.delenv("CORPUSMILL_KEY", raising=False)
    monkeypatch.delenv("CORPUSMILL_KEY_FILE", raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data beside the project; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not there: this test reads public data beside the project")
    return SHARED


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two nights, never changed."""
    from tests.nights import mill_nights

    folder = tmp_path_factory.mktemp("nights")
    mill_nights(folder, 2)
    return folder / "out"


@pytest.fixture
def dataset_of_nights(nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dataset:
    """A copy of it to change."""
    from pipeline.snapshots import Dataset
    from transforms.storage import Storage

    shutil.copytree(nights, tmp_path / "out")
    capsys.readouterr()
    return Dataset(Storage(), str(tmp_path / "out"))
