"""`Key.fold_in`: by the contract's own text at first, by a compiled kernel once that is cheap.

The text takes 4 to 8 us, run on NumPy's scalars. Compiled, it takes 0.3, but Numba would have to be
imported for it. So the kernel is taken by a process that has the CPU's kernels anyway, and folds
more than a few keys.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from fastdrop_kernels import contract, forks
from fastdrop_kernels.shielded import is_being_imported, uninterrupted

_FEW = 16
_DRIVER = "fastdrop_kernels.cpu.host.driver"
_folds = 0


def _by_the_text(seed: int, stream: int, n: int) -> tuple[int, int]:
    """Return seed and stream of the n-th key that is derived from a key, ``0 <= n < 2**62``."""
    global _folds, fold_in
    _folds += 1  # threads may lose some; then the kernel comes a few folds later
    if _folds > _FEW and _DRIVER in sys.modules and not is_being_imported(_DRIVER):
        fold_in = uninterrupted(_load)
        return fold_in(seed, stream, n)
    first, second = contract.fold_in(np.uint64(seed), np.uint64(stream), np.uint64(n))
    return int(first), int(second)


fold_in: Callable[[int, int, int], tuple[int, int]] = (
    _by_the_text  # looked up at each call, for it is replaced
)


def _load() -> Callable[[int, int, int], tuple[int, int]]:
    with forks.importing:
        from fastdrop_kernels.cpu.host import fold_in as keys

        return keys.fold_in_kernel()
