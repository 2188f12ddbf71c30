"""The cache of compiled kernels on disk.

`compiler` gives Numba a `KernelCache` for each kernel. Numba's own file cache ignores edits in
other files, never hits for closures, and raises if nothing can be written. Here a file is named by
a digest of *all* kernel sources, Numba's version, the processor and the signature, so a file found
under that name is valid. If the cache fails in any way, kernels are compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult

from ... import source_stamps as sources
from . import notice

_DAY, _UNUSED_DAYS = 86400.0, 90
_TEMPORARY = "fastdrop-"
# Numba's settings that change the generated code, in addition to the target's.
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
_OUR_FILE = re.compile(rf".+-[0-9a-f]{{32}}\.kernel|{_TEMPORARY}.+\.tmp")


def _digest() -> str:
    """Return a digest of every kernel source."""
    digest = hashlib.sha256()
    for name, content in sources.contents():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


DIGEST = _digest()
_SOURCES_WERE_IMPORTED = sources.none_has_stale_bytecode()


def _digest_is_true() -> bool:
    """Return whether the functions in memory correspond to the sources of the digest."""
    if not sources.AT_IMPORT:
        _problems.append(_NO_SOURCES)
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


class KernelCache(NullCache):  # type: ignore[misc]
    """Cache with one file for each kernel; a failing load is a miss, a failing save is ignored."""

    def __init__(self, name: str, misses: Callable[[], object]) -> None:
        """Make the cache of a kernel, which calls ``misses()`` if it does not have it."""
        self._name, self._misses = name, misses

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = (
            DIGEST,
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
        found = self._loaded(sig, target_context)
        if found is None:
            self._misses()
        return found

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        try:
            if not _digest_is_true():
                return None
            path = self._path(sig, target_context.codegen())
            data = path.read_bytes()
            if not _is_trusted(path):
                return None
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
                _replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            _remove_unused(path.parent)
        except Exception as error:
            _problems.append(_Problem(f"cannot be written ({error})"))


class _Problem(NamedTuple):
    """What is wrong with the cache, and what helps."""

    what: str
    way_out: str = "Set FASTDROP_CACHE_DIR to a folder of yours"


_NO_SOURCES = _Problem(
    "is not used, because the modules of fastdrop_kernels are neither files nor in a zip file",
    "Let the frozen application contain their .py files (PyInstaller: --collect-all)",
)
_problems: list[_Problem] = []  # until `warn_of_problems` says so
_warned = False


def kept_in() -> str:
    """Return the folder in which kernels are kept, for people; "" if they cannot be."""
    try:
        return "" if _problems else notice.shortened(cache_folder())
    except RuntimeError:  # there is no home folder
        return ""


def warn_of_problems() -> None:
    """Warn once in a process if kernels could not be kept, or were not trusted.

    Called after a compilation, and not inside Numba, where an exception would leave half of one.
    """
    global _warned
    if _warned or not _problems:
        return
    _warned = True
    try:
        folder = str(cache_folder())
    except RuntimeError as error:  # there is no home folder
        folder = f"({error})"
    warnings.warn(
        f"fastdrop's cache of compiled kernels, {folder}, {_problems[0].what}: every process "
        f"compiles its kernels anew, some seconds each. {_problems[0].way_out}",
        RuntimeWarning,
        stacklevel=2,
    )


def _is_trusted(path: Path) -> bool:
    """Return whether nobody else can have written a file, which is code that will be run.

    Whoever names a folder by FASTDROP_CACHE_DIR trusts its owner, but not everyone who can write.
    """
    for place in (path, path.parent):
        found = place.stat()
        others = (
            os.name == "posix" and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        )
        owners = {0, _user()}
        if others:
            _problems.append(_Problem(f"has {place.name!r}, which every user may write to"))
            return False
        if found.st_uid not in owners and not os.environ.get("FASTDROP_CACHE_DIR"):
            _problems.append(_Problem(f"has {place.name!r}, which another user owns"))
            return False
    return True


def _replace(temporary: Path, path: Path) -> None:
    """Move a new file to its name."""
    try:
        os.replace(temporary, path)
    except PermissionError:
        # Windows replaces no file that another process has open; it is the same kernel.
        if os.name != "nt" or not path.exists():
            raise
        temporary.unlink()


def _user() -> int:
    if sys.platform == "win32":
        return 0  # the owner of every file there
    else:  # noqa: RET505  # for mypy, which takes what follows a return for unreachable
        return os.geteuid()


def _checksum(path: Path, payload: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + payload).digest()


def _mark_used(path: Path) -> None:
    """Update the mtime of a used file; access times are often not recorded."""
    with contextlib.suppress(OSError):  # a read-only folder
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)


_cleaned: set[Path] = set()


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
