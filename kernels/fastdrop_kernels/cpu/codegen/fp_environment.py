"""The floating-point environment: set the IEEE defaults in a kernel, and restore it at the end.

A thread may be set to flush subnormals to zero (``torch.set_flush_denormal``), to another rounding
mode, or to trap. The pool's workers are not, so results would depend on which thread computed an
element. Kernels call these two intrinsics; on processors other than x86-64 they do nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .intrinsics import intrinsic
from .target import IS_X86_64

_I32, _BYTE = ir.IntType(32), ir.IntType(8)
_CONTROL, _DEFAULT = 0xFFC0, 0x1F80  # of MXCSR: the control bits without the status flags


def _call(builder: Any, name: str, place: Any) -> None:
    fnty = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, fnty, name)
    builder.call(function, [builder.bitcast(place, _BYTE.as_pointer())])


@intrinsic
def set_default_fp_env(typingctx: Any) -> Any:
    """Set the IEEE defaults, in 2 ns (November 2026); return the MXCSR for `restore_fp_env`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not IS_X86_64:
            return ir.Constant(_I32, _DEFAULT)
        place = cgutils.alloca_once(builder, _I32)
        _call(builder, "llvm.x86.sse.stmxcsr", place)
        before = builder.load(place)
        control = builder.and_(before, ir.Constant(_I32, _CONTROL))
        changed = builder.icmp_unsigned("!=", control, ir.Constant(_I32, _DEFAULT))
        with builder.if_then(changed, likely=False):
            builder.store(ir.Constant(_I32, _DEFAULT), place)
            _call(builder, "llvm.x86.sse.ldmxcsr", place)
        return before

    return types.uint32(), codegen


@intrinsic
def restore_fp_env(typingctx: Any, before: Any) -> Any:
    """Restore the MXCSR that `set_default_fp_env` returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if IS_X86_64:
            control = builder.and_(args[0], ir.Constant(_I32, _CONTROL))
            changed = builder.icmp_unsigned("!=", control, ir.Constant(_I32, _DEFAULT))
            with builder.if_then(changed, likely=False):
                place = cgutils.alloca_once(builder, _I32)
                builder.store(args[0], place)
                _call(builder, "llvm.x86.sse.ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.uint32), codegen
