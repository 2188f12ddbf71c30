"""The source files of the kernels: whether what was imported is what they say.

Compiled kernels are cached under a digest of these files, and that is right only if the functions
in memory come from the very same text. Two things may come between. A file may change after it was
imported, so this module is imported first, and remembers what all of them looked like. And Python
itself takes stale bytecode for a source that was edited within a second and kept its size.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """What changes when a file does."""

    path: str
    size: int
    modified: int  # nanoseconds; can be set to anything
    changed: int  # nanoseconds; cannot


def _python_files(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    files = [entry for entry in listed if entry.name.endswith(".py")]
    for entry in listed:
        if entry.is_dir() and entry.name != "__pycache__":
            files += _python_files(entry.path)
    return files


def stamps() -> tuple[Stamp, ...]:
    """Return a stamp of every source file; none where they cannot be seen, as in a zip file."""
    try:
        files = _python_files(os.path.dirname(os.path.abspath(__file__)))
        stats = [(file.path, file.stat()) for file in files]
    except OSError:
        return ()
    return tuple(Stamp(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats)


AT_IMPORT = stamps()


def are_those_imported() -> bool:
    """Say whether the files can be seen, and are what they were before any was imported."""
    return bool(AT_IMPORT) and stamps() == AT_IMPORT


def none_has_stale_bytecode() -> bool:
    """Say whether whatever bytecode Python may have taken is that of the files."""
    return all(_bytecode_is_right(stamp) for stamp in AT_IMPORT)


_WRITING = 100_000_000  # nanoseconds, for reading a source, compiling it and writing bytecode


def _bytecode_is_right(source: Stamp) -> bool:
    try:
        file = importlib.util.cache_from_source(source.path)
        written = os.stat(file).st_mtime_ns
    except (OSError, NotImplementedError):
        return True  # there is none
    if written > max(source.modified, source.changed) + _WRITING:
        return True  # it is younger, and so Python made it from this text, or will not take it
    # The file was replaced, copied or only just written.
    try:
        with open(file, "rb") as opened:
            bytecode = opened.read()
        if _is_of_another_text(bytecode[:16], source):
            return True  # Python sees that, too, and takes the source
        # Comparing takes 2 ms for a file.
        with open(source.path, "rb") as opened:
            text = opened.read()
        right: bool = marshal.loads(bytecode[16:]) == compile(
            text, source.path, "exec", dont_inherit=True
        )
    except Exception:  # unreadable, or made by another Python
        return False
    return right


def _is_of_another_text(header: bytes, source: Stamp) -> bool:
    """Say whether a bytecode file (PEP 552) is of a source of another time or size."""
    flags, seconds, size = (int.from_bytes(header[k : k + 4], "little") for k in (4, 8, 12))
    is_dated = flags == 0  # and not named by a hash of the source
    here = source.modified // 10**9 & 0xFFFFFFFF, source.size & 0xFFFFFFFF
    return is_dated and (seconds, size) != here
