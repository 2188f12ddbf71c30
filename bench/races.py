"""``python -m bench.races TOOL``: calls of all kinds of kernels, under NVIDIA's compute-sanitizer.

Two steps of `bench.first`. The sanitizer runs this file again, by itself; without a tool the calls
are only made. They take a second: a sanitizer makes that ten to thirty.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import common
from .common import parse_names
from .verdict import SKIPPED

LENGTHS = (7, 33, 512, 4097)  # of rows: below and above a warp, aligned, and of several blocks
DTYPES = ("bfloat16", "float32")  # a checker takes its time for each kernel
FOUND = 9  # exit status of a sanitizer that has found something
UNABLE = "Device not supported"  # what it says in some virtual machines


def sanitizer() -> str | None:
    """Return the path of compute-sanitizer, which CUDA's toolkit has."""
    folders = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    beside = [str(Path(folder) / "bin") for folder in (*folders, "/usr/local/cuda") if folder]
    if compiler := shutil.which("nvcc"):
        beside.append(str(Path(compiler).resolve().parent))
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(beside)
    )


def calls(cupy: Any, n: int, dtype: str) -> None:
    """Make calls on rows of length n: those with shared memory, epilogues, and several layouts."""
    fd = common.load("fastdrop")
    rng = np.random.default_rng(n)
    host = rng.standard_normal((9, n)).astype(common.dtype_of(dtype))
    x, dy = cupy.asarray(host), cupy.asarray(host[::-1].copy())
    bias, act = cupy.asarray(host[0].copy()), "gelu" if n % 2 else "relu"
    for p in (0.0, 0.3):
        fd.softmax_dropout(x, p, rng=1)
        fd.softmax_dropout_backward(dy, x, p, rng=1)
    fd.softmax_dropout(x, 0.3, rng=1, axis=0)
    fd.bias_act_dropout_add(x, bias, act, 0.3, residual=dy, rng=1)
    fd.bias_act_dropout_add_backward(dy, x, None, act, 0.3, rng=1)  # no sums, which are CuPy's
    for layout in (x, x.T, x[:, 1:], x[::2]):
        fd.dropout(layout, 0.3, rng=1)
    fd.dropout(x, 0.3, rng=1, noise_shape=(None, 1))
    fd.dropout(x, 0.3, rng=1, offset=3, out=x)
    fd.dropout_mask(x.shape, 0.3, rng=1, packed=True, like=x)
    fd.gaussian_noise(x, 0.1, rng=1)


def run(dtypes: tuple[str, ...]) -> None:
    """Make all calls; allocations come one by one, so that a checker sees the bounds of each."""
    cupy = common.load("cupy")
    cupy.cuda.set_allocator(None)
    for dtype in dtypes:
        for n in LENGTHS:
            calls(cupy, n, dtype)
    cupy.cuda.Device().synchronize()
    print(f"all calls made: rows of {LENGTHS}, {', '.join(dtypes)}")


def main() -> int:
    """Make the calls, under a tool if one is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.races", description=__doc__)
    parser.add_argument("tool", nargs="?", choices=("memcheck", "racecheck", "initcheck"))
    parser.add_argument("--dtypes", type=parse_names, default=DTYPES)
    args = parser.parse_args()
    if args.tool is None or os.environ.get("FASTDROP_REHEARSAL"):  # nothing of a GPU to check
        run(args.dtypes)
        return 0
    if (program := sanitizer()) is None:
        print("compute-sanitizer is not here: CUDA's toolkit has it")
        return SKIPPED
    again = [sys.executable, "-m", "bench.races", "--dtypes", ",".join(args.dtypes)]
    command = [program, "--tool", args.tool, "--error-exitcode", str(FOUND), *again]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    if UNABLE in done.stdout:
        print(f"compute-sanitizer: {UNABLE}")
        return SKIPPED
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
