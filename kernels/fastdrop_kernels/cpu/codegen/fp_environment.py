"""The floating-point environment: set the IEEE defaults in a kernel, and restore it at the end.

A thread may be set to flush subnormals to zero (``torch.set_flush_denormal``), to another rounding
mode, or to trap. The pool's workers are not, so results would depend on which thread computed an
element. Kernels call these two intrinsics, on x86-64 for MXCSR and on AArch64 for FPCR; on other
processors they do nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .intrinsics import intrinsic
from .target import IS_AARCH64, IS_X86_64

_I32, _I64, _BYTE = ir.IntType(32), ir.IntType(64), ir.IntType(8)
# The control bits, which are compared, and their defaults. MXCSR has status flags too. FPCR has
# none: those are in FPSR. Its zero is rounding to nearest, and nothing else: no flushing (FZ, FZ16,
# FIZ), no alternative half precision (AHP), no alternative handling (AH), no traps.
_CONTROL, _DEFAULT = (0xFFC0, 0x1F80) if IS_X86_64 else (0xFFFFFFFF, 0)
_WORD, _TYPE = (_I64, types.uint64) if IS_AARCH64 else (_I32, types.uint32)


def _intrinsic(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    fnty = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, fnty, name)
    return builder.call(function, arguments)


def _read(builder: Any) -> Any:
    if IS_AARCH64:
        return _intrinsic(builder, "llvm.aarch64.get.fpcr", _I64)
    place = cgutils.alloca_once(builder, _I32)
    _intrinsic(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), _pointer(builder, place))
    return builder.load(place)


def _write(builder: Any, value: Any) -> None:
    if IS_AARCH64:
        _intrinsic(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), value)
        return
    place = cgutils.alloca_once(builder, _I32)
    builder.store(value, place)
    _intrinsic(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), _pointer(builder, place))


def _pointer(builder: Any, place: Any) -> Any:
    return builder.bitcast(place, _BYTE.as_pointer())


def _write_unless_default(builder: Any, before: Any, value: Any) -> None:
    """Write a value if the environment before the kernel was not the default one."""
    control = builder.and_(before, ir.Constant(_WORD, _CONTROL))
    changed = builder.icmp_unsigned("!=", control, ir.Constant(_WORD, _DEFAULT))
    with builder.if_then(changed, likely=False):
        _write(builder, value)


@intrinsic
def set_default_fp_env(typingctx: Any) -> Any:
    """Set the IEEE defaults; return what was set, for `restore_fp_env`.

    2 ns on x86-64 (November 2026).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not IS_X86_64 and not IS_AARCH64:
            return ir.Constant(_WORD, _DEFAULT)
        before = _read(builder)
        _write_unless_default(builder, before, ir.Constant(_WORD, _DEFAULT))
        return before

    return _TYPE(), codegen


@intrinsic
def restore_fp_env(typingctx: Any, before: Any) -> Any:
    """Restore the environment that `set_default_fp_env` returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if IS_X86_64 or IS_AARCH64:
            _write_unless_default(builder, args[0], args[0])
        return context.get_dummy_value()

    return types.void(_TYPE), codegen
