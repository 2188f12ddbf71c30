"""A team of OpenMP threads: those that an array library's own CPU kernels run on.

Between parallel regions an OpenMP runtime's threads spin for a while, waiting for the next one. The
pool's threads would compete with them for the processors: dropout of 1 Mi float32 that a torch.mm
has just written takes 186 us on the pool's two threads, 167 on one, and 117 as a parallel region of
torch's own runtime (Zen 5, two cores, November 2026). `team_of` makes such a team, for
`threads.using`.

libgomp, GCC's runtime, kills or hangs a forked child at its first parallel region if the parent
ever had one. So no team is used in a forked process.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import sys
from typing import Any

from ...threads import Work, fork_count
from .kernel_call import KernelCall, region_words, team_entry

_FORKED = 0x40  # Linux's PF_FORKNOEXEC: forked, and no program was executed since


class OpenMPTeam:
    """The threads of an OpenMP runtime; see `threads.Team`.

    Each Python thread that runs work has a team of its own, as for the library's own kernels.
    """

    # Time on two threads relative to one, of calls by addresses, repeated, and after a torch.mm
    # that wrote x: 64 Ki float32 0.87 and 0.60, 128 Ki 0.86 and 0.53, 1 Mi 0.78 and 0.70; 32 Ki in
    # chunks of 16 Ki 0.9 and 1.0. All threads begin at once, so few chunks are enough: in chunks
    # of 8 Ki, 128 Ki take 2% more, 2 Mi 17% (Zen 5, two cores, November 2026).
    parallel_from = 1 << 16
    chunk = 1 << 15

    def __init__(self, parallel: Any) -> None:
        self._parallel, self._forks = parallel, fork_count()
        self._regions: dict[int, array.array[int]] = {}

    def is_usable(self) -> bool:
        """Return whether this is the process in which the team was made."""
        return self._forks == fork_count()

    def region_at(self, threads: int) -> int:
        """Return the address of the words of a region on so many threads, see `kernel_call`."""
        words = self._regions.get(threads)
        if words is None:
            at = ctypes.cast(self._parallel, ctypes.c_void_p).value or 0
            words = self._regions.setdefault(threads, region_words(at, threads, self.chunk))
        return words.buffer_info()[0]

    def run(self, work: Work, threads: int) -> bool:
        """Run a `KernelCall` in one parallel region, and return True; return False for others.

        The runtime may use fewer threads. They run compiled code only, which raises nothing. The
        region is one call of ctypes, without the GIL, and a signal handler runs only after it.
        """
        if type(work) is not KernelCall:
            return False
        words, _alive = work.words(threads)
        self._parallel(team_entry(), words.buffer_info()[0], threads, 0)
        return True


def team_of(library: str) -> OpenMPTeam | None:
    """Return the team of the OpenMP runtime that a loaded shared library is linked to.

    None if it is linked to none, or is not loaded: no runtime is loaded for this. None in a forked
    process, whose parent may have used the runtime; and except on Linux, where that is not known.
    """
    loaded = _loaded(library)
    if loaded is None or fork_count() or _is_forked():
        return None
    # Looked up in the library and in those that it is linked to. LLVM's runtime has this function
    # of libgomp, too.
    parallel = getattr(loaded, "GOMP_parallel", None)
    if parallel is None:
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return OpenMPTeam(parallel)


def _loaded(library: str) -> ctypes.CDLL | None:
    """Return a shared library if it is loaded, on Linux; else None."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    return None


def _is_forked() -> bool:
    """Return whether this process was forked, even before this module was imported."""
    try:
        with open("/proc/self/stat", "rb") as file:
            *_, fields = file.read().rpartition(b")")
        return bool(int(fields.split()[6]) & _FORKED)
    except (OSError, ValueError, IndexError):
        return True  # unknown
