"""Intrinsics for kernels: LLVM instructions that Numba's language has no expression for.

Loops and kernels call them. All of it is LLVM IR that every target can lower, if necessary to
several instructions. Addresses are ``uint64``, pointers are ``voidptr``, offsets are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _numba_intrinsic

intrinsic: Callable[[Callable[..., Any]], Any] = _numba_intrinsic
_BYTE = ir.IntType(8)
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Set the attributes of the calling function that allow 512-bit vectors.

    LLVM prefers 256 bits on several Intel CPUs, for their lower clock with AVX-512. Philox is 1.6
    times faster with 512 bits on a Cascade Lake (November 2026). Without AVX-512 the attributes
    have no effect. The stack is realigned too, so that spilled vectors do not straddle cache lines
    (2.5 instead of 1.9 Gelem/s of bits).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite's own method accepts only enum attributes; these are string attributes.
        names = ('"prefer-vector-width"="512"', '"min-legal-vector-width"="512"', '"stackrealign"')
        for attribute in names:
            set.add(builder.function.attributes, attribute)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def pointer_in(typingctx: Any, slot: Any) -> Any:
    """Load the pointer stored at the address `slot`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _BYTE.as_pointer().as_pointer()))

    return types.voidptr(types.uint64), codegen


@intrinsic
def pointer_at(typingctx: Any, address: Any) -> Any:
    """Convert an integer to a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], _BYTE.as_pointer())

    return types.voidptr(types.uint64), codegen


@intrinsic
def advance(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """Add an offset to a pointer, in bytes modulo 2**64, so that offsets can be negative."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return types.voidptr(types.voidptr, types.uint64), codegen


@intrinsic
def address_of(typingctx: Any, pointer: Any) -> Any:
    """Convert a pointer to an integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], _I64)

    return types.uint64(types.voidptr), codegen


def _typed(context: Any, builder: Any, pointer: Any, offset: Any, ty: Any) -> Any:
    place = builder.gep(pointer, [offset])
    return builder.bitcast(place, context.get_value_type(ty).as_pointer())


def loader(ty: types.Type) -> Any:
    """Return ``load(pointer, offset)`` for a Numba scalar type, at any alignment."""

    @intrinsic
    def load(typingctx: Any, pointer: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_typed(context, builder, args[0], args[1], ty), align=1)

        return ty(types.voidptr, types.uint64), codegen

    return load


def storer(ty: types.Type) -> Any:
    """Return ``store(pointer, offset, value)`` for a Numba scalar type, at any alignment."""

    @intrinsic
    def store(typingctx: Any, pointer: Any, offset: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = _typed(context, builder, args[0], args[1], ty)
            builder.store(args[2], place, align=1)
            return context.get_dummy_value()

        return types.void(types.voidptr, types.uint64, ty), codegen

    return store


@intrinsic
def take(typingctx: Any, cursor: Any, count: Any) -> Any:
    """Do an atomic fetch-and-add on the uint64 at `cursor`; returns the previous value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(args[0], _I64.as_pointer())
        return builder.atomic_rmw("add", place, args[1], "monotonic")

    return types.uint64(types.voidptr, types.uint64), codegen


def scratch_in(builder: Any, nbytes: int) -> Any:
    """Allocate `nbytes` on the generated function's stack, aligned to a cache line."""
    # Not cgutils.alloca_once, which zeroes byte by byte: that takes time at each call, and two
    # minutes of compilation for 34 KiB (November 2026).
    with builder.goto_entry_block():
        memory = builder.alloca(ir.ArrayType(_BYTE, nbytes))
    memory.align = 64
    return builder.bitcast(memory, _BYTE.as_pointer())


def scratch(nbytes: int) -> Any:
    """Return ``allocate()``, which allocates `nbytes` on the stack, aligned to a cache line."""

    @intrinsic
    def allocate(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return scratch_in(builder, nbytes)

        return types.voidptr(), codegen

    return allocate


def prefetch(builder: Any, pointer: Any, offset: int, to_write: bool) -> None:
    """Prefetch the cache line at ``pointer + offset``; never faults, whatever the address."""
    byte_ptr = _BYTE.as_pointer()
    fnty = ir.FunctionType(ir.VoidType(), [byte_ptr, _I32, _I32, _I32])
    fn = cgutils.get_or_insert_function(builder.module, fnty, "llvm.prefetch.p0")
    hints = [ir.Constant(_I32, k) for k in (int(to_write), 3, 1)]  # to all cache levels; data
    builder.call(fn, [builder.gep(pointer, [ir.Constant(_I64, offset)]), *hints])


def store_fence(builder: Any) -> None:
    """Order all stores before the fence, nontemporal ones too, before later ones; x86 only."""
    fnty = ir.FunctionType(ir.VoidType(), [])
    builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.x86.sse.sfence"), [])


@intrinsic
def copy_bytes(typingctx: Any, target: Any, source: Any, nbytes: Any) -> Any:
    """Copy bytes between ranges that do not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, *args, 1, align=1)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.voidptr, types.uint64), codegen


@intrinsic
def clear_bytes(typingctx: Any, pointer: Any, nbytes: Any) -> Any:
    """Set bytes to zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, *args, 0)
        return context.get_dummy_value()

    return types.void(types.voidptr, types.uint64), codegen


def cleared(nbytes: int) -> Any:
    """Return ``clear(pointer)``, which sets `nbytes` bytes to zero."""

    @intrinsic
    def clear(typingctx: Any, pointer: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            cgutils.memset(builder, args[0], ir.Constant(_I64, nbytes), 0)
            return context.get_dummy_value()

        return types.void(types.voidptr), codegen

    return clear


@intrinsic
def call_at(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the routine at an address with a tuple of arguments; it returns nothing."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = cgutils.unpack_tuple(builder, args[1])
        kinds = ir.FunctionType(ir.VoidType(), [argument.type for argument in given])
        builder.call(builder.inttoptr(args[0], kinds.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.uint64, arguments), codegen


@intrinsic
def call_kernel_at(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the kernel at an address, in Numba's calling convention, with a tuple of numbers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = signature.args[1].types
        pointer = context.call_conv.get_function_type(types.void, numbers).as_pointer()
        callee = builder.inttoptr(args[0], pointer)
        given = cgutils.unpack_tuple(builder, args[1])
        context.call_conv.call_function(builder, callee, types.void, numbers, given)
        return context.get_dummy_value()

    return types.void(types.uint64, arguments), codegen
