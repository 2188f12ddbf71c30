"""``python -m bench.warm``: compile all that the tests and benchmarks on a GPU launch.

The second step of `bench.first`. Kernels go into CuPy's cache, in parallel processes, the common
ones first. Beside them those of the CPU are compiled, with which results are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import sys
import time

import fastdrop  # noqa: F401  # finds the kernels where nothing is installed
from fastdrop_kernels import catalogue
from fastdrop_kernels.cuda import compile_ahead, modules, operations, softmax_driver
from fastdrop_kernels.cuda.compile_ahead import CompileError, Kernel

from . import common

# On the CPU: functions and dtypes, a process each.
ON_THE_CPU = (
    ("dropout_mask", "float32"),
    *itertools.product(("softmax_dropout",), ("float32", "bfloat16")),
    *itertools.product(("dropout",), ("float32", "bfloat16", "float16", "float64")),
)


def kernels() -> list[Kernel]:
    """Return the kernels, each once, the common ones first."""
    acts = list(itertools.product(operations.FLOATS, catalogue.ACTIVATIONS))
    several = [operations.of_elements("bias_act_drop", *each, True, True) for each in acts]
    several += [
        operations.of_elements("bias_act_drop_backward", *each, True)
        for each in acts
        if each[1] != "identity"
    ]
    several += [
        operations.of_elements("zoneout", dtype, mean)
        for dtype, mean in itertools.product(operations.FLOATS, (False, True))
    ]
    # Without a bias or a residual, the tests use some activations in float32.
    some = [("float32", act) for act in ("identity", "relu", "gelu")]
    parts = ((False, False), (False, True), (True, False))
    several += [
        operations.of_elements("bias_act_drop", *each, *there)
        for each, there in itertools.product(some, parts)
    ]
    several += [operations.of_elements("bias_act_drop_backward", *each, False) for each in some[1:]]
    listed = [operation.module for operation in (*operations.EVERY, *several)]
    listed += [modules.ADVANCE, *softmax_driver.MODULES.values()]
    found = [Kernel(module, name) for module in listed for name in modules.kernels(module)]
    # 64-bit indices are for arrays of 2**31 elements: masks and fills of bytes, in the tests.
    large = ("mark_", "pack_", "fill_1_")
    found = [k for k in found if not k.name.endswith("_64") or k.name.startswith(large)]
    return found


def main() -> int:
    """Compile; 1 if something cannot be compiled."""
    parser = argparse.ArgumentParser(prog="python -m bench.warm", description=__doc__)
    parser.add_argument("--arch", help="compute capability, such as 90 (default: the GPU's)")
    parser.add_argument("--most", type=int, help="compile so many kernels (default: all)")
    args = parser.parse_args()
    begun, done = time.monotonic(), 0
    command = [sys.executable, "-m", "fastdrop", "warmup", "--functions"]
    on_the_cpu = [
        subprocess.Popen([*command, function, "--dtypes", dtype])
        for function, dtype in (ON_THE_CPU[:1] if args.most else ON_THE_CPU)
    ]
    try:
        found = [args.arch] if args.arch else compile_ahead.architectures()
        wanted = kernels()[: args.most]
        print(f"{len(wanted)} kernels for {', '.join(found)}, {common.usable_cpus()} processes")
        compiling = compile_ahead.compile_ahead(wanted, found, processes=common.usable_cpus())
        with contextlib.closing(compiling) as each:
            for done, kernel in enumerate(each, 1):
                if done % 100 == 0:
                    print(f"{time.monotonic() - begun:.1f} s: {done}, {kernel.name}", flush=True)
    except CompileError as error:
        for process in on_the_cpu:
            process.kill()
        print(error)
        return 1
    print(f"{done} kernels in {time.monotonic() - begun:.1f} s", flush=True)
    failed = [process.args for process in on_the_cpu if process.wait()]
    print(f"and the CPU's in {time.monotonic() - begun:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
