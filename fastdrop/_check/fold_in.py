"""`Key.fold_in`: interpreted at first, then by a compiled kernel.

`contract.fold_in` takes 4 to 8 us on NumPy scalars. The compiled kernel takes 0.3 us, but needs
Numba, whose import takes half a second. So the kernel is used once the process has loaded the CPU
kernels for something else and derives more than a few keys. `Key` calls `fold_in` here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from fastdrop_kernels import contract, forks
from fastdrop_kernels.shielded import import_in_progress, run_shielded

_INTERPRETED = 16  # keys derived before the compiled kernel is considered
_DRIVER = "fastdrop_kernels.cpu.host.driver"
_folds = 0


def _interpreted(seed: int, stream: int, n: int) -> tuple[int, int]:
    """Return seed and stream of the n-th key that is derived from a key, ``0 <= n < 2**62``."""
    global _folds, fold_in
    _folds += 1  # not atomic: a lost count only delays the kernel
    if _folds > _INTERPRETED and _DRIVER in sys.modules and not import_in_progress(_DRIVER):
        fold_in = run_shielded(_load)
        return fold_in(seed, stream, n)
    first, second = contract.fold_in(np.uint64(seed), np.uint64(stream), np.uint64(n))
    return int(first), int(second)


# Callers look this name up at each call, because `_interpreted` replaces it.
fold_in: Callable[[int, int, int], tuple[int, int]] = _interpreted


def _load() -> Callable[[int, int, int], tuple[int, int]]:
    with forks.importing:
        from fastdrop_kernels.cpu.host import fold_in as keys

        return keys.fold_in_kernel()
