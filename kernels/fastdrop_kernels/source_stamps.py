"""Detect whether the imported modules correspond to the kernels' source files.

The compiler caches kernels under a digest of the source files, which is valid only if the functions
in memory were made from these files. Two things can break this. A file may change after it was
imported; so this module is imported first, and stores the stat of each file. And Python may load
stale bytecode for a source file that was edited within a second and kept its size.

If the package is imported from a zip file, that is the one file. `contents` reads what is hashed.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
from collections.abc import Iterator
from typing import Any, NamedTuple


class Stamp(NamedTuple):
    """The stat of a source file, or of the zip file that has all of them."""

    path: str
    size: int
    modified: int  # mtime in nanoseconds, which can be set
    changed: int  # ctime in nanoseconds, which cannot


def _archive() -> str | None:
    """Return the zip file that this package is imported from, if it is one."""
    path = getattr(__spec__ and __spec__.loader, "archive", None)  # of `zipimport.zipimporter`
    return os.path.abspath(path) if isinstance(path, str) else None


# Absolute from now on: the working directory may change.
_ARCHIVE = _archive()
_FOLDER = os.path.dirname(os.path.abspath(__file__)) if "__file__" in globals() else None


def _python_files(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    files = [entry for entry in listed if _is_source(entry.name)]
    for entry in listed:
        if entry.is_dir() and entry.name != "__pycache__":
            files += _python_files(entry.path)
    return files


def _is_source(name: str) -> bool:
    return name.endswith((".py", ".pyc"))  # the second where there is only bytecode


def stamps() -> tuple[Stamp, ...]:
    """Return the stamps of all source files; none if there are no files, as in some frozen apps."""
    try:
        if _ARCHIVE:
            stats = [(_ARCHIVE, os.stat(_ARCHIVE))]
        else:
            files = _python_files(_FOLDER) if _FOLDER else []
            stats = [(file.path, file.stat()) for file in files]
    except OSError:
        return ()
    return tuple(Stamp(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats)


AT_IMPORT = stamps()


def are_those_imported() -> bool:
    """Return whether the files exist, and have not changed since before the first import."""
    return bool(AT_IMPORT) and stamps() == AT_IMPORT


def none_has_stale_bytecode() -> bool:
    """Return whether any bytecode that Python may have loaded corresponds to its source file."""
    # No bytecode lies beside a zip file, and what is in it is hashed.
    return all(_bytecode_is_right(stamp) for stamp in AT_IMPORT if stamp.path.endswith(".py"))


def contents() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each source file; files and zip files have the same order.

    What cannot be read yields bytes of which nobody else has a digest.
    """
    loader = type(__spec__.loader).__name__ if __spec__ else ""
    if loader not in _USUAL_LOADERS:  # it may make other functions of the sources
        yield loader, b""
    if _ARCHIVE:
        try:
            from importlib import resources

            yield from _archived(resources.files(__name__.rpartition(".")[0]))
        except Exception:  # the zip file was removed, or replaced by something else
            yield _ARCHIVE, os.urandom(16)
    for stamp in AT_IMPORT if not _ARCHIVE else ():
        try:
            with open(stamp.path, "rb") as opened:
                content = opened.read()
        except OSError:
            content = os.urandom(16)
        yield os.path.basename(stamp.path), content


_USUAL_LOADERS = ("SourceFileLoader", "SourcelessFileLoader", "zipimporter")


def _archived(folder: Any) -> Iterator[tuple[str, bytes]]:
    """Yield what `_python_files` finds, of a folder as `importlib.resources` has it."""
    listed = sorted(folder.iterdir(), key=lambda entry: str(entry.name))
    for entry in listed:
        if _is_source(entry.name):
            yield entry.name, entry.read_bytes()
    for entry in listed:
        if entry.is_dir():
            yield from _archived(entry)


_WRITING = 100_000_000  # nanoseconds, for reading a source, compiling it and writing bytecode


def _bytecode_is_right(source: Stamp) -> bool:
    try:
        file = importlib.util.cache_from_source(source.path)
        written = os.stat(file).st_mtime_ns
    except (OSError, NotImplementedError):
        return True  # there is no bytecode
    if written > max(source.modified, source.changed) + _WRITING:
        return True  # newer than the source: made from it, or rejected by Python
    # The source was replaced, copied or just written.
    try:
        with open(file, "rb") as opened:
            bytecode = opened.read()
        if _is_of_another_text(bytecode[:16], source):
            return True  # Python detects this too, and compiles the source
        # Comparing takes 2 ms for a file (Cascade Lake, November 2026).
        with open(source.path, "rb") as opened:
            text = opened.read()
        right: bool = marshal.loads(bytecode[16:]) == compile(
            text, source.path, "exec", dont_inherit=True
        )
    except Exception:  # unreadable, or of another Python version
        return False
    return right


def _is_of_another_text(header: bytes, source: Stamp) -> bool:
    """Return whether a bytecode file (PEP 552) records another mtime or size of its source."""
    flags, seconds, size = (int.from_bytes(header[k : k + 4], "little") for k in (4, 8, 12))
    is_dated = flags == 0  # validated by mtime and size, not by a hash
    here = source.modified // 10**9 & 0xFFFFFFFF, source.size & 0xFFFFFFFF
    return is_dated and (seconds, size) != here
