from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mill", deadline=None, print_blob=False)
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
