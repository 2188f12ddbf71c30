"""OpenMP runtimes that tests can find, and teams of their threads."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys
from pathlib import Path
from typing import Any

from fastdrop_kernels.cpu.host.openmp import OpenMPTeam, team_of
from tests.support.scenarios import SKIPPED

RUNTIMES = ("torch", "libgomp")


class RuntimeIsMissing(Exception):
    """Says why there is no team."""


def load(which: str) -> str:
    """Load a runtime, or a library that is linked to one; return the name of its file."""
    if which == "torch":
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            raise RuntimeIsMissing("torch is not installed")
        importlib.import_module("torch")
        return str(Path(spec.origin).parent / "lib" / "libtorch_cpu.so")
    name = ctypes.util.find_library("gomp")
    if name is None:
        raise RuntimeIsMissing("libgomp is not installed")
    ctypes.CDLL(name)
    return name


def team(which: str) -> OpenMPTeam:
    """Return a team of a runtime, which shares calls of any size."""
    made = team_of(load(which))
    if made is None:
        raise RuntimeIsMissing(f"{which} has no OpenMP runtime with GOMP_parallel here")
    made.parallel_from, made.chunk = 1, 256
    return made


def team_or_exit(which: str) -> OpenMPTeam:
    """Return the same, in a process that exits if there is none."""
    try:
        return team(which)
    except RuntimeIsMissing as missing:
        print(missing)
        sys.exit(SKIPPED)


def count_regions(team: OpenMPTeam) -> list[int]:
    """Let a team append the number of threads of each parallel region to a list; return it."""
    regions: list[int] = []
    parallel: Any = team._parallel
    kinds = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint

    def counted(entry: int, words: int, threads: int, flags: int) -> None:
        regions.append(threads)
        parallel(entry, words, threads, flags)

    team._parallel = ctypes.CFUNCTYPE(None, *kinds)(counted)  # also called by compiled code
    return regions
