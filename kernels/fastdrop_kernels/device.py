"""The mask contract for code that users compile with Numba: importing this lets it be called.

Functions are registered for Numba's generic target, which `numba.njit` and `numba.cuda.jit` both
look at, and stay plain Python: one definition under one name everywhere, and nothing of CUDA is
imported. Where they are called they are inlined by LLVM, on either target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import overload, register_jitable

from . import contract
from .contract import U64

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_BLOCK = np.uint64(contract.BLOCK)
_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)

_OPTIONS = {"forceinline": True, "error_model": "numpy"}


def compiled(function: _Function) -> _Function:
    """Let compiled code, for CPU and GPU, call a function, which is returned as it is."""
    result: _Function = register_jitable(**_OPTIONS)(function)
    return result


def compiled_as(function: Callable[..., Any], implementation: Callable[..., Any]) -> None:
    """Let compiled code call a function, and mean another that has the same parameters."""

    @overload(function, jit_options=_OPTIONS, strict=False)  # type: ignore[untyped-decorator]
    def _implementation(*types: Any) -> Callable[..., Any]:
        return implementation


for _function in contract.COMPILED:
    compiled(_function)


@compiled
def keep_one(seed: U64, stream: U64, index: U64, threshold: U64) -> Any:
    """Say what `contract.keep` says, of one element: level 1 is drawn only to settle a tie."""
    first = contract.half(seed, stream, index, _ZERO)
    upper = threshold >> _HALF_BITS
    if first != upper:
        return first > upper
    return contract.half(seed, stream, index, _ONE) >= (threshold & _HALF)


@compiled
def _half_of(pair: tuple[U64, U64], lane: U64) -> U64:
    """Return the half of one of a block's 8 elements."""
    word = pair[0] if lane < np.uint64(4) else pair[1]
    return (word >> ((lane & np.uint64(3)) * _HALF_BITS)) & _HALF


@compiled
def keep_block(seed: U64, stream: U64, block: U64, threshold: U64) -> U64:
    """Return which elements of a block are kept, element ``8 * block + j`` in bit ``j``."""
    bits = contract.block_bits(seed, stream, block, _ZERO)
    # Masked although it is never larger, for what is known to be short is compared in 32 bits.
    upper = (threshold >> _HALF_BITS) & np.uint64(0x1FFFF)
    kept = lane = _ZERO
    tied = False
    while lane < _BLOCK:  # a range would count in signed integers
        half = _half_of(bits, lane)
        if half > upper:
            kept |= _ONE << lane
        if half == upper:
            tied = True
        lane += _ONE
    if tied:
        again = contract.block_bits(seed, stream, block, _ONE)
        lane = _ZERO
        while lane < _BLOCK:
            if _half_of(bits, lane) == upper and _half_of(again, lane) >= threshold & _HALF:
                kept |= _ONE << lane
            lane += _ONE
    return kept
