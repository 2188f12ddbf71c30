"""Compile kernels with Numba, and cache them on disk.

The loops call `kernel` and `routine` to compile functions. Numba's own file cache ignores edits in
other files, never hits for closures, and raises if nothing can be written. Here a cache file is
named by a digest of *all* kernel sources, Numba's version, the processor and the signature, so a
file found under that name is valid. If the cache fails in any way, kernels are compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba import njit, types
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock

from ... import source_stamps as sources

_DAY, _UNUSED_DAYS = 86400.0, 90
_TEMPORARY = "fastdrop-"
# Numba's settings that change the generated code, in addition to the target's.
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
_OUR_FILE = re.compile(rf".+-[0-9a-f]{{32}}\.kernel|{_TEMPORARY}.+\.tmp")
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


def _digest() -> str:
    """Return a digest of every kernel source."""
    digest = hashlib.sha256()
    for stamp in sources.AT_IMPORT:
        digest.update(Path(stamp.path).name.encode() + b"\0")
        try:
            digest.update(Path(stamp.path).read_bytes() + b"\0")
        except OSError:
            digest.update(os.urandom(16))
    return digest.hexdigest()


_DIGEST = _digest()
_SOURCES_WERE_IMPORTED = sources.none_has_stale_bytecode()


def _digest_is_true() -> bool:
    """Return whether the functions in memory correspond to the sources of the digest."""
    return _SOURCES_WERE_IMPORTED and sources.are_those_imported()


def cache_folder() -> Path:
    """Return the cache folder: FASTDROP_CACHE_DIR, else a folder in the user's cache folder."""
    chosen = os.environ.get("FASTDROP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "fastdrop"


class _KernelCache(NullCache):  # type: ignore[misc]
    """Cache with one file for each kernel; a failing load is a miss, a failing save is ignored."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = (
            _DIGEST,
            numba.__version__,
            llvmlite.__version__,
            sys.version,
            repr([getattr(config, name, None) for name in _SETTINGS]),
            repr(codegen.magic_tuple()),
            repr(sig),
        )
        digest = hashlib.sha256("\n".join(key).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{digest[:32]}.kernel"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compile result from the cache, or None."""
        try:
            if not _digest_is_true():
                return None
            path = self._path(sig, target_context.codegen())
            data = path.read_bytes()
            checksum, payload = data[:32], data[32:]
            # LLVM would crash on damaged code, and a kernel on another kernel's arguments.
            if _checksum(path, payload) != checksum:
                return None
            loaded = CompileResult._rebuild(target_context, *pickle.loads(payload))
            _mark_used(path)
            return loaded
        except Exception:  # a missing or broken file, for example: compile
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compile result to the cache, atomically."""
        try:
            if not _digest_is_true():
                return
            path = self._path(sig, data.codegen)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not by tempfile, whose files only one user can read: caches in images are shared.
            temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            handle = os.open(temporary, flags, 0o666)
            try:
                with os.fdopen(handle, "wb") as file:
                    payload = pickle.dumps(data._reduce(), protocol=5)
                    file.write(_checksum(path, payload) + payload)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            _remove_unused(path.parent)
        except Exception:
            return


def _checksum(path: Path, payload: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + payload).digest()


def _mark_used(path: Path) -> None:
    """Update the mtime of a used file; access times are often not recorded."""
    with contextlib.suppress(OSError):  # a read-only folder
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)


def _remove_unused(folder: Path) -> None:
    """Remove files that have not been used for long: old kernels, and interrupted writes.

    Done once per process, and only after a compilation. The folder may contain other files, so only
    files with our names are removed.
    """
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may do the same
            ours = _OUR_FILE.fullmatch(file.name)
            if ours and time.time() - file.stat().st_mtime > _UNUSED_DAYS * _DAY:
                file.unlink()


def _compile(name: str, function: Callable[..., Any], signature: Any, options: Any) -> Any:
    if config.DISABLE_JIT:
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, and fastdrop's kernels exist only compiled: unset it"
        )
    # LLVM symbols contain the function's name and a counter of the process. Two functions of the
    # same name, cached by different processes, could have the same symbol in a third process.
    function.__qualname__ = re.sub(r"\W", "_", name)
    dispatcher = njit(**_OPTIONS, **options)(function)
    dispatcher._cache = _KernelCache(name)
    dispatcher.compile(signature)
    _alive.append(dispatcher)  # owns the machine code
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
    symbol = f"fastdrop_{name}_{_DIGEST[:16]}"
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
_cleaned: set[Path] = set()
