"""``python -m fastdrop``: show the environment, and check that masks are right on this machine.

``python -m fastdrop warmup`` compiles kernels ahead, by `fastdrop.warmup`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, get_num_threads, warmup
from ._tools.self_check import checks, found_cupy

_FEATURES = ("sse4.2", "avx", "avx2", "f16c", "avx512f", "avx512bw", "neon", "sve")


def _threading_layers() -> str:
    modules = {"workqueue": "workqueue", "omppool": "omp", "tbbpool": "tbb"}
    found = [layer for name, layer in modules.items() if util.find_spec(f"numba.np.ufunc.{name}")]
    return f"fastdrop's own pool (of Numba's, which are not used: {', '.join(found)})"


def _gpu() -> str:
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


def report() -> list[tuple[str, str]]:
    """Return the environment as names and values: versions, CPU, GPU, threads, cache."""
    import llvmlite
    import llvmlite.binding as llvm
    import numba

    from fastdrop_kernels import contract
    from fastdrop_kernels.cpu.codegen import target
    from fastdrop_kernels.cpu.codegen.compiler import cache_folder

    try:
        cache = _cache(cache_folder())
    except (RuntimeError, OSError) as error:  # no home folder, or no access to it
        cache = f"none ({error})"
    features = [name for name in _FEATURES if target.has(name)]
    return [
        ("fastdrop", f"{__version__}, mask contract version {contract.VERSION}"),
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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop",
        description="Show the environment, and check that masks are right on this machine.",
    )
    about = "compile kernels ahead, as fastdrop.warmup does"
    command = parser.add_subparsers(dest="command").add_parser(
        "warmup", help=about, description=f"{about[0].upper()}{about[1:]}; lists have commas."
    )
    for name, text in (
        ("dtypes", "default: float32,float64"),
        ("functions", "default: dropout,masked_fill,dropout_mask"),
        ("activations", "of bias_act_dropout_add; default: all"),
        ("arch", "with --cuda, compute capabilities such as 90; default: of the GPUs here"),
    ):
        command.add_argument(f"--{name}", type=_names, metavar="NAMES", help=text)
    command.add_argument("--p-arrays", action="store_true", help="for arrays of p, too")
    command.add_argument("--cuda", action="store_true", help="kernels of the GPU, not of the CPU")
    return parser


def _warm_up(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in ("dtypes", "functions", "activations", "arch")}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    start = time.perf_counter()
    try:
        warmup(**chosen, p_arrays=args.p_arrays, device="cuda" if args.cuda else "cpu")
    except (TypeError, ValueError, RuntimeError, ImportError) as error:
        print(f"fastdrop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastdrop: interrupted; what was compiled is kept", file=sys.stderr)
        return 130
    print(f"ready in {time.perf_counter() - start:.1f} s")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Print the report and the self-check; return 1 if that fails. Or compile ahead."""
    args = _parser().parse_args(argv)
    if args.command == "warmup":
        return _warm_up(args)
    for name, value in report():
        print(f"{name + ':':17}{value}")
    print("\nself-check, exact comparison with the NumPy reference:")
    start = time.perf_counter()
    failed = 0
    for name, passed in checks():
        print(f"  {'ok    ' if passed else 'FAILED'} {name}", flush=True)
        failed += not passed
    print(
        f"{'all passed' if not failed else f'{failed} FAILED'} "
        f"in {time.perf_counter() - start:.1f} s"
    )
    if failed:
        print("Masks drawn on this machine are wrong. Please report it, with all of the above.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
