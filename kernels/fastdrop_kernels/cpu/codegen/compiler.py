"""Compiling and caching of kernels.

Numba's own file cache does not see edits in another file, never hits for closures, and raises at
import or in the user's call where nothing can be written. So kernels are kept here by a digest of
*every* kernel source, Numba's version, the processor and the signature: a file found under that
name is right by construction, and any failure of the cache means compiling, never an error.
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
# Of Numba's settings those that change the code, beside the processor's.
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
_OUR_FILE = re.compile(rf".+-[0-9a-f]{{32}}\.kernel|{_TEMPORARY}.+\.tmp")
# Without Numba's runtime: no kernel has an object in it, and code that named the runtime could not
# be loaded from the cache before Numba has loaded that and much else (0.3 s).
_OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy", "boundscheck": False}
INLINED = {
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
}

# A function that LLVM inlines into each of its callers.
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
    """Say whether what is compiled now is what the digest is of."""
    return _SOURCES_WERE_IMPORTED and sources.are_those_imported()


def cache_folder() -> Path:
    """Folder of the compiled kernels: FASTDROP_CACHE_DIR, else the user's cache folder."""
    named = os.environ.get("FASTDROP_CACHE_DIR")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "fastdrop"


class _KernelCache(NullCache):  # type: ignore[misc]
    """One file a kernel; a load that fails is a miss, a save that fails is forgotten."""

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
        """Compile result from the cache, or None."""
        try:
            if not _digest_is_true():
                return None
            path = self._path(sig, target_context.codegen())
            data = path.read_bytes()
            checksum, payload = data[:32], data[32:]
            # LLVM would crash on damaged code, and code would on another kernel's arguments.
            if _checksum(path, payload) != checksum:
                return None
            loaded = CompileResult._rebuild(target_context, *pickle.loads(payload))
            _mark_used(path)
            return loaded
        except Exception:  # a broken or missing file, a full disk, another Numba: compile
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compile result, whole or not at all."""
        try:
            if not _digest_is_true():
                return
            path = self._path(sig, data.codegen)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not by tempfile, whose files are for one user alone: an image's cache is for all.
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
    """Note that a file was used: its time of change, for that of access is often not kept."""
    with contextlib.suppress(OSError):  # a folder that may only be read
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)


def _remove_unused(folder: Path) -> None:
    """Remove what no process has used for long: kernels of other versions, and what was cut off.

    Once a process, and only of one that has compiled something. The folder may be one that others
    use too, so that only names of ours count.
    """
    if folder in _looked_through:
        return
    _looked_through.add(folder)
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
    # LLVM finds code by its name, Numba's of the function and a number that counts in each process.
    # Functions of one name, kept by different processes, may so have one name in a third.
    function.__qualname__ = re.sub(r"\W", "_", name)
    dispatcher = njit(**_OPTIONS, **options)(function)
    dispatcher._cache = _KernelCache(name)
    dispatcher.compile(signature)
    _alive.append(dispatcher)  # owns the machine code
    (result,) = dispatcher.overloads.values()
    return result


def kernel(name: str, function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """Compile a function to be called from Python, with exactly these types and no other.

    Returns Numba's C entry point and not the dispatcher, which would look up the argument types
    again at each call (0.5 us of a small call's 3).
    """
    with global_compiler_lock:  # which forks wait for, see `forks`
        result = _compile(name, function, signature, {"no_cfunc_wrapper": True})
        entry_point: Callable[..., Any] = result.entry_point
        _addresses[entry_point] = _address(result, result.fndesc.llvm_func_name)
    return entry_point


def address_of_kernel(entry_point: Callable[..., Any]) -> int:
    """Return where the code of a kernel begins, for what calls it as Numba's functions do."""
    return _addresses[entry_point]


def _address(result: Any, name: str) -> int:
    address: int = result.library.get_pointer_to_function(name)
    if not address:
        raise RuntimeError(f"{name} is not in the code that was compiled")
    return address


def routine(name: str, function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function with loops, to be called from kernels and other routines.

    It is known to them by a symbol's name only, so that it is compiled once, and optimised by
    itself: all that its loops need to vectorise must be known inside it (constant steps, no
    overlap, `wide_vectors`). Two other ways were tried. Functions that LLVM inlines or links are
    optimised again with each caller, 7 s for the first kernel, and where LLVM inlines them only
    after their loops were vectorised, the loops ran 8 times slower. Inlined by Numba
    (``inline="always"``) they ran well, but a kernel took 15 to 30 s to compile, spent in copying
    Numba's intermediate representation.
    """
    symbol = f"fastdrop_{name}_{_DIGEST[:16]}"
    with global_compiler_lock:
        result = _compile(name, function, signature, {"no_cpython_wrapper": True})
        address = _address(result, result.fndesc.llvm_cfunc_wrapper_name)
        llvm.add_symbol(symbol, address)
    return types.ExternalFunction(symbol, signature)


_alive: list[Any] = []
_addresses: dict[Callable[..., Any], int] = {}
_looked_through: set[Path] = set()
