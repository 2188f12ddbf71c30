"""Draws of elements: whole rows of uniforms at once, and further draws of single elements.

The functions on batches call these. Rows of uniforms are drawn to memory by the contiguous loop;
what single elements need more is computed by the contract's own functions.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ... import contract
from ... import device as _registered  # the contract's functions, for compiled code
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import intrinsic
from ..codegen.vectors import Lanes
from ..elements.operations import PACK, UNIFORMS
from ..elements.sampler import POINTER, U64
from ..loops.call_descriptor import call_state, set_coefficients, set_key
from ..loops.contiguous import CACHED, contiguous_loop

__all__ = [
    "SECOND_DRAW",
    "call_state",
    "draw32",
    "keep_bits",
    "precedes",
    "rejected_below",
    "set_coefficients",
    "set_derived_key",
    "set_key",
    "uniform_below",
    "uniforms",
]

assert _registered
# Added to the index of an element, it gives draw 1 in the place of draw 0: bit 63 of the index is
# bit 28 of counter word 1, which is that of levels 2 and 3.
SECOND_DRAW = np.uint64(1 << 63)


def uniforms() -> Any:
    """Routine ``(memory, memory, n, index, call)``: the uniforms of n elements, as uint32.

    `call` is a `call_state` after `set_key`. Element k's is at ``4 * k``. `memory` must have room
    for n of them.
    """
    return contiguous_loop(UNIFORMS, CACHED)


def keep_bits() -> Any:
    """Routine ``(memory, memory, n, index, call)``: whether n elements are kept, a bit for each.

    `call` is a `call_state` after `set_key` and ``set_coefficients(call, threshold, 0)``, with a
    threshold that is not degenerate. `memory` must have room for whole groups of 64 bytes.
    """
    return contiguous_loop(PACK, CACHED)


@intrinsic
def _draw32(typingctx: Any, seed: Any, stream: Any, index: Any, draw: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return contract.draw32(*(Lanes(builder, a) for a in args)).value

    return U64(U64, U64, U64, U64), codegen


@functools.cache
@shielded
def draw32() -> Any:
    """Routine ``(seed, stream, index, draw) -> uniform``: a 32-bit draw of one element."""

    def run(seed: Any, stream: Any, index: Any, draw: Any) -> Any:
        return _draw32(seed, stream, index, draw)

    return routine("draw32", run, U64(U64, U64, U64, U64))


@device
def rejected_below(n: Any) -> Any:
    """Return ``2**32 mod n``; see `contract.rejected_below`."""
    return contract.rejected_below(n)


@functools.cache
@shielded
def uniform_below() -> Any:
    """Routine ``(seed, stream, index, draw, n) -> integer`` in [0, n), exactly uniform."""

    def run(seed: Any, stream: Any, index: Any, draw: Any, n: Any) -> Any:
        return contract.uniform_below(seed, stream, index, draw, n)

    return routine("uniform-below", run, types.uint64(*[U64] * 5))


@functools.cache
@shielded
def set_derived_key() -> Any:
    """Routine ``(call, seed, stream, n)``: write the key `contract.derive` n to a call state."""

    def run(call: Any, seed: Any, stream: Any, n: Any) -> None:
        derived_seed, derived_stream = contract.derive(seed, stream, n)
        set_key(call, derived_seed, derived_stream)

    return routine("set-derived-key", run, types.void(POINTER, U64, U64, U64))


@functools.cache
@shielded
def precedes() -> Any:
    """Routine ``(seed, stream, i, j, draw) -> 1 or 0``: see `contract.precedes`."""

    def run(seed: Any, stream: Any, i: Any, j: Any, draw: Any) -> Any:
        return np.uint64(contract.precedes(seed, stream, i, j, draw))

    return routine("precedes", run, U64(*[U64] * 5))
