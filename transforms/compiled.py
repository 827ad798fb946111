"""Compilation of kernels: once a machine, kept on disk; each worker then loads them in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(kernel: Kernel) -> Kernel:
    """The kernel as machine code, without Python's lock; compiled at its first call where no compiled copy is kept."""
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return cast(Kernel, numba.njit(cache=True, **options)(kernel))
    except RuntimeError:  # no folder that the compiled copy could be kept in
        return cast(Kernel, numba.njit(**options)(kernel))
