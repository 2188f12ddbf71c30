"""Compile kernels with Numba, or load them from the cache on disk.

The loops call `kernel` and `routine` to compile functions. They call `kernel_cache`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from . import notice
from .kernel_cache import DIGEST, KernelCache, kept_in, warn_of_problems

# Without Numba's runtime: kernels use no objects, and code that refers to the runtime could only be
# loaded from the cache after Numba has loaded that and much else (0.3 s, November 2026).
_OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy", "boundscheck": False}
INLINED = {
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
}

# Decorator of functions that LLVM inlines into each of their callers.
device: Callable[..., Any] = njit(**INLINED)


def _compile(name: str, function: Callable[..., Any], signature: Any, options: Any) -> Any:
    if config.DISABLE_JIT:
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, and fastdrop's kernels exist only compiled: unset it"
        )
    # LLVM symbols contain the function's name and a counter of the process. Two functions of the
    # same name, cached by different processes, could have the same symbol in a third process.
    function.__qualname__ = re.sub(r"\W", "_", name)
    dispatcher = njit(**_OPTIONS, **options)(function)
    with notice.compilation(kept_in) as misses:
        dispatcher._cache = KernelCache(name, misses)
        dispatcher.compile(signature)
    _alive.append(dispatcher)  # owns the machine code
    warn_of_problems()
    (result,) = dispatcher.overloads.values()
    return result


def kernel(name: str, function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """Compile a function to be called from Python with exactly these argument types.

    Returns Numba's C entry point instead of the dispatcher, which would look up the argument types
    at each call (0.5 us of a small call's 3 us, November 2026).
    """
    with global_compiler_lock:  # forks wait for this lock, see `forks`
        result = _compile(name, function, signature, {"no_cfunc_wrapper": True})
        entry_point: Callable[..., Any] = result.entry_point
        _addresses[entry_point] = _address(result, result.fndesc.llvm_func_name)
    return entry_point


def address_of_kernel(entry_point: Callable[..., Any]) -> int:
    """Return the address of a kernel's code, for callers with Numba's calling convention."""
    return _addresses[entry_point]


def _address(result: Any, name: str) -> int:
    address: int = result.library.get_pointer_to_function(name)
    if not address:
        raise RuntimeError(f"{name} is not in the code that was compiled")
    return address


def routine(name: str, function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function with loops, to be called from kernels and other routines.

    Callers refer to it by a symbol only. So it is compiled once, and optimised in isolation: all
    that its loops need for vectorisation must be known in it (constant strides, no overlap,
    `wide_vectors`). Two alternatives were measured (November 2026). Functions that LLVM inlines or
    links are optimised again with each caller, which takes 7 s for the first kernel; if LLVM
    inlines them after vectorisation, their loops run 8 times slower. Functions that Numba inlines
    (``inline="always"``) run well, but a kernel takes 15 to 30 s to compile, spent on copying IR.
    """
    symbol = f"fastdrop_{name}_{DIGEST[:16]}"
    with global_compiler_lock:
        llvm.add_symbol(symbol, callback(name, function, signature))
    return types.ExternalFunction(symbol, signature)


def callback(name: str, function: Callable[..., Any], signature: Any) -> int:
    """Compile a function to be called from C; return its address."""
    with global_compiler_lock:
        result = _compile(name, function, signature, {"no_cpython_wrapper": True})
        return _address(result, result.fndesc.llvm_cfunc_wrapper_name)


_alive: list[Any] = []
_addresses: dict[Callable[..., Any], int] = {}
