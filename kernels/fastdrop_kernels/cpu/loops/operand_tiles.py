"""Tiles: operations of several inputs, put to stretches of elements whose noise is in memory.

Whatever the layout, one loop computes: every input is a *side*, a pointer and a step, and is either
read where it lies, elements that are neighbours, or from a buffer of this tile. A number that is
the same for all is a side of step 0, and a row that is repeated is written to its buffer once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    copy_bytes,
    intrinsic,
    pointer_at,
    scratch,
    wide_vectors,
)
from ..codegen.vectors import I16, I32, I64, load
from ..elements.operations import Operation
from ..elements.sampler import HALVES, POINTER, U64, load64, store64
from .apply import apply_vector

COUNT = HALVES  # elements that are computed at once
_COUNT = np.uint64(COUNT)
_ONE, _EIGHT, _SIDE = np.uint64(1), np.uint64(8), np.uint64(16)  # bytes of a side


class Form(NamedTuple):
    """What loops around tiles are told of an operation: the bytes of elements, and its noise."""

    inputs: tuple[int, ...]  # x, and the operands
    output: int
    exact: bool

    @property
    def name(self) -> str:
        """A name for what is compiled for it."""
        noise = "uniforms" if self.exact else "marks"
        return f"{'-'.join(map(str, self.inputs))}-to-{self.output}-{noise}"

    @property
    def columns(self) -> int:
        """How many steps an axis has: of the inputs, of y, and of the mask index."""
        return len(self.inputs) + 2


def form_of(operation: Operation) -> Form:
    """Return an operation's form."""
    kinds = operation.source, *operation.operands
    sizes = tuple([kind.itemsize for kind in kinds])
    return Form(sizes, operation.target.itemsize, operation.exact)


@intrinsic
def call_tile(
    typingctx: Any, tile: Any, sides: Any, noise: Any, step: Any, y: Any, m: Any, value: Any
) -> Any:
    """Call the routine of `tile_loop` at an address.

    So what is around it is compiled once for all operations of a form: 1.5 s, and the tile 0.3.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = ir.FunctionType(ir.VoidType(), [a.type for a in args[1:]])
        builder.call(builder.inttoptr(args[0], kinds.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(U64, POINTER, POINTER, U64, POINTER, U64, POINTER), codegen


@functools.cache
@shielded
def tile_address(operation: Operation) -> int:
    """Return where the routine of `tile_loop` is."""
    address: int = llvm.address_of_symbol(tile_loop(operation).symbol)
    return address


def offsets(sizes: Sequence[int], count: int) -> tuple[np.uint64, ...]:
    """Return where buffers of so many elements lie, one behind the other, and where they end."""
    return tuple([np.uint64(count * sum(sizes[:k])) for k in range(len(sizes) + 1)])


@device
def put_side(sides: Any, k: Any, pointer: Any, step: Any) -> None:
    """Say where the k-th input lies, and how many bytes apart its elements are."""
    store64(sides, _SIDE * k, address_of(pointer))
    store64(sides, _SIDE * k + _EIGHT, step)


def _vectors(operation: Operation) -> Any:
    """Intrinsic ``(sides, noise, noise_step, y, count, value)``: whole vectors."""
    kinds = operation.source, *operation.operands
    out_bytes = COUNT * operation.target.itemsize

    @intrinsic
    def vectors(
        typingctx: Any, sides: Any, noise: Any, noise_step: Any, y: Any, count: Any, value: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sides, noise, noise_step, y, count, value = args
            numbers = builder.bitcast(sides, I64.as_pointer())

            def number(k: int) -> Any:
                return builder.load(builder.gep(numbers, [ir.Constant(I64, k)]))

            def many(step: Any) -> Any:
                return builder.mul(step, ir.Constant(I64, COUNT))

            inputs = [
                (builder.inttoptr(number(2 * k), noise.type), many(number(2 * k + 1)))
                for k in range(len(kinds))
            ]
            parameters = operation.parameters(builder, value)
            noise_bytes = many(noise_step)
            with cgutils.for_range(builder, count) as loop:

                def behind(pointer: Any, step: Any) -> Any:
                    return builder.gep(pointer, [builder.mul(loop.index, step)])

                x, *others = (behind(*side) for side in inputs)
                there = behind(noise, noise_bytes)
                if operation.exact:
                    drawn = load(builder, there, 0, I32, COUNT)
                else:
                    drawn = load(builder, there, 0, I16, COUNT) >= 1
                operands = [
                    kind.load(builder, pointer, 0, COUNT, None)
                    for kind, pointer in zip(operation.operands, others, strict=True)
                ]
                target = behind(y, ir.Constant(I64, out_bytes))
                apply_vector(operation, drawn, x, target, 0, COUNT, parameters, None, operands)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, POINTER, U64, POINTER), codegen

    return vectors


@functools.cache
def tile_loop(operation: Operation) -> Any:
    """Routine ``(sides, noise, noise_step, y, m, value)``: m neighbours.

    `sides` are the pointers and steps of the inputs; steps are an element's bytes, or 0.
    """
    vectors, sizes = _vectors(operation), form_of(operation).inputs
    inputs, out_size = np.uint64(len(sizes)), np.uint64(operation.target.itemsize)
    places = offsets(sizes, COUNT)
    last_sides, last_inputs = scratch(16 * len(sizes)), scratch(int(places[-1]))
    made_scratch = scratch(COUNT * operation.target.itemsize)

    def tile(sides: Any, noise: Any, noise_step: Any, y: Any, m: Any, value: Any) -> None:
        wide_vectors()
        rest = m % _COUNT
        whole = m - rest
        vectors(sides, noise, noise_step, y, whole // _COUNT, value)
        if rest:
            # What is no whole vector is computed as one, in memory of our own.
            last, given, made = last_sides(), last_inputs(), made_scratch()
            for k in range(inputs):
                address, step = load64(sides, _SIDE * k), load64(sides, _SIDE * k + _EIGHT)
                if step:
                    copied = advance(given, places[k])
                    copy_bytes(copied, pointer_at(address + whole * step), rest * step)
                    put_side(last, k, copied, step)
                else:
                    put_side(last, k, pointer_at(address), step)
            vectors(last, advance(noise, whole * noise_step), noise_step, made, _ONE, value)
            copy_bytes(advance(y, whole * out_size), made, rest * out_size)

    signature = types.void(POINTER, POINTER, U64, POINTER, U64, POINTER)
    return routine(f"{operation.name}-tile", tile, signature)
