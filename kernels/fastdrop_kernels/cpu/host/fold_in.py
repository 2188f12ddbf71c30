"""The compiled kernel of `contract.fold_in`, with which `fastdrop.Key` derives keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import types

from ... import contract
from ...shielded import shielded
from ..codegen.compiler import kernel
from ..codegen.intrinsics import intrinsic
from ..codegen.vectors import Lanes
from ..elements.sampler import U64

_WORDS = types.UniTuple(U64, 2)


@intrinsic
def folded(typingctx: Any, seed: Any, stream: Any, n: Any) -> Any:
    """Derive a key. Traced, because Numba takes a second to compile Philox (November 2026)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = contract.fold_in(*(Lanes(builder, a) for a in args))
        return context.make_tuple(builder, signature.return_type, [word.value for word in words])

    return _WORDS(U64, U64, U64), codegen


@functools.cache
@shielded
def fold_in_kernel() -> Callable[[int, int, int], tuple[int, int]]:
    """Return kernel ``(seed, stream, n) -> (seed, stream)``, the n-th key derived from a key."""

    def run(seed: Any, stream: Any, n: Any) -> Any:
        return folded(seed, stream, n)

    return kernel("fold-in", run, _WORDS(U64, U64, U64))
