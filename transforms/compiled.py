"""Compilation of kernels: once a machine, kept on disk; each worker then loads them in a fraction of a second."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

_config: Any = numba.config
Kernel = TypeVar("Kernel", bound=Callable[..., object])


# Whole numbers in kernels: NumPy's unsigned words and these give floats where they are mixed.
signed = cast("Callable[[Any], int]", np.int64)


def compiled(kernel: Kernel) -> Kernel:
    """The kernel as machine code, without Python's lock; compiled at its first call where no compiled copy is kept."""
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    before = _config.CACHE_DIR
    _config.CACHE_DIR = _folder()
    try:
        return cast(Kernel, numba.njit(cache=True, **options)(kernel))
    except (RuntimeError, OSError):  # no folder that the compiled copy could be kept in
        return cast(Kernel, numba.njit(**options)(kernel))
    finally:
        _config.CACHE_DIR = before


@functools.cache
def _folder() -> str:
    """Where compiled copies are kept: a folder for this state of all kernels, since they hold parts of each other.

    Numba by itself looks at the file of a kernel alone, and would keep what was compiled with the others as they were.
    """
    sources = sorted(path for path in Path(__file__).parent.glob("*.py") if b"@compiled" in path.read_bytes())
    state = hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()
    base = _config.CACHE_DIR or str(Path(__file__).parent / "__pycache__")
    if not os.access(base if os.path.isdir(base) else os.path.dirname(base), os.W_OK):
        base = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "corpusmill")
    return os.path.join(base, f"kernels-{state}")
