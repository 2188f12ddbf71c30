"""Make the contract's functions callable from code that Numba compiles, for CPU and GPU.

Functions are registered for Numba's generic target, which both `numba.njit` and `numba.cuda.jit`
use, and stay plain Python. LLVM inlines them into their callers on either target. Importing this
module registers the functions of `contract`, and does not import Numba's CUDA target. The module
`fastdrop.device` and the kernels in `numba_cuda` use it.
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
    """Register a function to be called from compiled code, for CPU and GPU; return it unchanged."""
    result: _Function = register_jitable(**_OPTIONS)(function)
    return result


def compiled_as(function: Callable[..., Any], implementation: Callable[..., Any]) -> None:
    """Register another function, with the same parameters, as the compiled form of a function."""

    @overload(function, jit_options=_OPTIONS, strict=False)  # type: ignore[untyped-decorator]
    def _implementation(*types: Any) -> Callable[..., Any]:
        return implementation


for _function in contract.COMPILED:
    compiled(_function)


@compiled
def keep_one(seed: U64, stream: U64, index: U64, threshold: U64) -> Any:
    """Return the result of `contract.keep` for one element; level 1 is drawn only for a tie."""
    first = contract.half(seed, stream, index, _ZERO)
    upper = threshold >> _HALF_BITS
    if first != upper:
        return first > upper
    return contract.half(seed, stream, index, _ONE) >= (threshold & _HALF)


@compiled
def _half_of(pair: tuple[U64, U64], lane: U64) -> U64:
    """Return the 16 bits of element `lane` of a block."""
    word = pair[0] if lane < np.uint64(4) else pair[1]
    return (word >> ((lane & np.uint64(3)) * _HALF_BITS)) & _HALF


@compiled
def keep_block(seed: U64, stream: U64, block: U64, threshold: U64) -> U64:
    """Return which elements of a block are kept, element ``8 * block + j`` in bit ``j``."""
    bits = contract.block_bits(seed, stream, block, _ZERO)
    # The mask changes no bit, but tells LLVM that 32-bit comparisons suffice.
    upper = (threshold >> _HALF_BITS) & np.uint64(0x1FFFF)
    kept = lane = _ZERO
    tied = False
    while lane < _BLOCK:  # a range would use signed integers
        half = _half_of(bits, lane)
        if half > upper:
            kept |= _ONE << lane
        if half == upper:
            tied = True
        lane += _ONE
    if tied:
        low_bits = contract.block_bits(seed, stream, block, _ONE)
        lane = _ZERO
        while lane < _BLOCK:
            if _half_of(bits, lane) == upper and _half_of(low_bits, lane) >= threshold & _HALF:
                kept |= _ONE << lane
            lane += _ONE
    return kept
