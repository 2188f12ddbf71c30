"""What the library runs on: versions, CPU, GPU, threads, cache.

`fastdrop.show_versions` and ``python -m fastdrop`` print it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .threads import get_num_threads

_FEATURES = ("sse4.2", "avx", "avx2", "f16c", "avx512f", "avx512bw", "neon", "sve")


def _threading_layers() -> str:
    from importlib import util

    modules = {"workqueue": "workqueue", "omppool": "omp", "tbbpool": "tbb"}
    found = [layer for name, layer in modules.items() if util.find_spec(f"numba.np.ufunc.{name}")]
    return f"fastdrop's own pool (of Numba's, which are not used: {', '.join(found)})"


def _gpu() -> str:
    from .self_check import found_cupy

    cupy, reason = found_cupy()
    if reason:
        return f"none ({reason})"
    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(n)["name"] for n in range(runtime.getDeviceCount())]
    listed = ", ".join(name.decode() if isinstance(name, bytes) else name for name in names)
    return f"{listed}; CuPy {cupy.__version__}, CUDA {runtime.runtimeGetVersion()}"


def _cache(folder: Path) -> str:
    files = len(list(folder.glob("*.kernel"))) if folder.is_dir() else 0
    parent = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    state = f"{files} kernels" if os.access(parent, os.W_OK) else "not writable: no caching"
    return f"{folder} ({state})"


def _version() -> str:
    from .. import __version__

    return __version__


def report() -> list[tuple[str, str]]:
    """Return the environment as names and values: versions, CPU, GPU, threads, cache."""
    import platform

    import llvmlite
    import llvmlite.binding as llvm
    import numba

    from fastdrop_kernels import contract
    from fastdrop_kernels.cpu.codegen import target
    from fastdrop_kernels.cpu.codegen.kernel_cache import cache_folder

    try:
        cache = _cache(cache_folder())
    except (RuntimeError, OSError) as error:  # no home folder, or no access to it
        cache = f"none ({error})"
    features = [name for name in _FEATURES if target.has(name)]
    return [
        ("fastdrop", f"{_version()}, mask contract version {contract.VERSION}"),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("NumPy", np.__version__),
        ("Numba", f"{numba.__version__}, llvmlite {llvmlite.__version__}"),
        ("CPU", f"{llvm.get_host_cpu_name()}: {' '.join(features)}"),
        ("vectors", f"{8 * target.VECTOR_BYTES} bits, as Numba's settings allow"),
        ("threads", str(get_num_threads())),
        ("threading layer", _threading_layers()),
        ("GPU", _gpu()),
        ("cache folder", cache),
    ]


def show_versions() -> None:
    """Print what fastdrop runs on: versions, CPU features, threads, GPU, cache folder.

    Put it into a report of a bug. ``python -m fastdrop`` prints it too, and checks masks.
    """
    for name, value in report():
        print(f"{name + ':':17}{value}")
