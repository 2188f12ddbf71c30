"""``python -m bench sweep``: the plain dropout kernel with other launch shapes, on a GPU.

A shape is the number of threads of a block, and of groups of 16 bytes that a thread has in flight.
The kernel of each is compiled with these settings, compared with the CPU's result, and timed in
rounds beside a copy. `modules.py` has the shape in use.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import fastdrop  # noqa: F401  # finds the kernels where nothing is installed
from fastdrop_kernels import contract
from fastdrop_kernels.cuda import compile_ahead, modules, operations
from fastdrop_kernels.cuda.compile_ahead import CompileError, Kernel
from fastdrop_kernels.cuda.launch import launches

from . import common, report
from .check import Wrong, key
from .common import MI, BenchError, P, chosen, load, size_label
from .gpu import PIECE, QUICK_ROUNDS, Sets, complaint, facts, load_cupy, sets_needed
from .gpu_timer import Timer
from .results import Row, made, save
from .timing import summarise

DTYPES, SIZES = ("bfloat16",), (64 * MI, 256 * MI)
BATCH_SECONDS = 3e-3


class Shape(NamedTuple):
    """A launch shape."""

    threads: int
    in_flight: int

    def __str__(self) -> str:
        """Name it, as on the command line."""
        return f"{self.threads}x{self.in_flight}"


PRESENT = Shape(modules.THREADS, modules.IN_FLIGHT)
SHAPES = tuple(itertools.starmap(Shape, itertools.product((128, 256, 512, 1024), (1, 2, 4))))


def kernel_of(dtype: str, shape: Shape) -> Kernel:
    """Return the plain kernel with a launch shape."""
    module = operations.of_elements("drop", dtype).module
    settings = (("THREADS", shape.threads), ("IN_FLIGHT", shape.in_flight))
    name = modules.kernel_name(module, modules.CONTIGUOUS, index32=True)
    return Kernel(module, name, () if shape == PRESENT else settings)


class Dropout:
    """The plain kernel of a launch shape, launched by CuPy."""

    def __init__(self, cupy: Any, dtype: str, shape: Shape) -> None:
        kernel = kernel_of(dtype, shape)
        code = modules.source(kernel.module, kernel.name, **dict(kernel.settings))
        made = cupy.RawModule(code=code, options=modules.OPTIONS, backend="nvrtc")
        self.shape, self.operation = shape, operations.of_elements("drop", dtype)
        self.function = made.get_function(kernel.name)
        self.computed = np.dtype(np.float64 if dtype == "float64" else np.float32)

    def call(self, x: Any, y: Any) -> Callable[[], None]:
        """Return a call for arrays, whose argument is made once."""
        n, size = x.size, x.itemsize
        factor = np.array(1 / (1 - P), self.computed).tobytes()
        seed, stream = key()
        (launch,) = launches(
            self.operation, [y.data.ptr, x.data.ptr], (n,), ((size,), (size,)), 0, (1,), seed,
            stream, contract.threshold(P), factor,
        )  # fmt: skip
        groups = -(-n // self.operation.storage.group)
        grid = -(-groups // (self.shape.threads * self.shape.in_flight))
        argument = np.frombuffer(launch.argument, np.dtype((np.void, len(launch.argument))))
        kernel, block = self.function, (self.shape.threads,)
        return functools.partial(kernel, (grid,), block, (argument,))


def _compile(dtypes: Sequence[str], shapes: Sequence[Shape], architecture: str) -> list[str]:
    """Compile all in parallel; returns a note if that fails, for each is compiled when used."""
    if os.environ.get("FASTDROP_REHEARSAL"):  # where a stand-in compiles
        return []
    wanted = [kernel_of(dtype, shape) for dtype in dtypes for shape in shapes]
    try:
        compiling = compile_ahead.compile_ahead(
            wanted, [architecture], processes=common.usable_cpus()
        )
        with contextlib.closing(compiling) as each:
            list(each)
    except CompileError as error:
        return [f"not compiled ahead: {error}"]
    return []


def check(cupy: Any, sets: Sets, dropout: Dropout) -> None:
    """Compare a shape's result with the CPU's, at both ends and in the middle."""
    x, y = sets.whole["X"][0], sets.whole["Y"][0]
    sets.whole["Y"].view(np.uint8).fill(0xAB)
    dropout.call(x, y)()
    cupy.cuda.Device().synchronize()
    n = sets.elements
    for start in sorted({0, max(0, n // 2 - PIECE // 2), max(0, n - PIECE)}):
        piece = slice(start, start + PIECE)
        if wrong := complaint("ours", x[piece].get(), y[piece].get(), start):
            raise Wrong(f"{dropout.shape}, {sets.dtype}, {size_label(n)}: {wrong}")


def timed(
    cupy: Any, timer: Timer, sets: Sets, dropouts: Sequence[Dropout], wrong: list[str]
) -> list[Row]:
    """Validate, then time what is right and a copy in rounds, each beginning with the next."""
    runtime, stream = cupy.cuda.runtime, cupy.cuda.get_current_stream().ptr
    x, y = (list(sets.whole[name]) for name in ("X", "Y"))
    kind, size = runtime.memcpyDeviceToDevice, x[0].nbytes

    def copy(i: int) -> Callable[[], object]:
        return functools.partial(
            runtime.memcpyAsync, y[i].data.ptr, x[i].data.ptr, size, kind, stream
        )

    turns: dict[str, list[Callable[[], object]]] = {"copy": [copy(i) for i in range(sets.count)]}
    for dropout in dropouts:
        try:
            check(cupy, sets, dropout)
        except Wrong as error:
            wrong.append(str(error))
            continue
        turns[str(dropout.shape)] = [dropout.call(x[i], y[i]) for i in range(sets.count)]
    samples: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(QUICK_ROUNDS + 1):
        names = list(turns)[turn % len(turns) :] + list(turns)[: turn % len(turns)]
        for name in names:
            following = itertools.cycle(turns[name])
            call = lambda each=following: next(each)()  # noqa: E731
            once, host = timer.batch(call, 3, 20e-6)
            calls = max(3, min(100, int(BATCH_SECONDS / max(once, 1e-9))))
            samples[name].append(timer.batch(call, calls, host)[0])
    samples = {name: values[1:] for name, values in samples.items()}  # the first only warms
    found = summarise(samples, dict.fromkeys(samples, "copy"))
    base = common.identity("copy", sets.dtype, "")
    about = {"section": "sweep", "dtype": sets.dtype, "elements": sets.elements, "base": base}
    first = {**about, "contender": "copy", "variant": "", **found.pop("copy")}
    return [first, *({**about, "contender": "fastdrop", "variant": n, **found[n]} for n in found)]


def main(args: argparse.Namespace) -> int:
    """Sweep, and write what was found after each size."""
    cupy = load_cupy()
    about = facts(cupy)
    dtypes = args.dtypes or DTYPES
    for dtype in dtypes:
        chosen((dtype,), tuple(operations.FLOATS), "dtype")
    names = chosen(args.only, [str(shape) for shape in SHAPES], "launch shape")
    shapes = [shape for shape in SHAPES if str(shape) in names]
    if any(n % 16 for n in args.sizes or ()):
        raise BenchError("sizes have to be multiples of 16, whose groups are whole")
    notes = _compile(dtypes, shapes, str(cupy.cuda.Device().compute_capability))
    timer, rows, wrong = Timer(cupy), list[Row](), list[str]()

    def made_ready(dtype: str) -> Iterator[Dropout]:
        for shape in shapes:
            try:
                yield Dropout(cupy, dtype, shape)
            except Exception as error:  # the headers may refuse it; not the one in use
                if shape == PRESENT:
                    raise
                notes.append(common.failure(dtype, str(shape), error))

    labels = {
        "copy": {"label": "copy, cudaMemcpyAsync", "role": "roof"},
        "fastdrop": {"label": "fastdrop", "role": "ours"},
    }
    for dtype in dtypes:
        dropouts = list(made_ready(dtype))
        for n in args.sizes or SIZES:
            one = 2 * n * common.dtype_of(dtype).itemsize
            sets = Sets(cupy, n, dtype, sets_needed(one, about["l2_kib"] * 1024))
            rows += timed(cupy, timer, sets, dropouts, wrong)
            settings = {"p": P, "rounds": QUICK_ROUNDS, "present": str(PRESENT)}
            results = made(rows, settings, labels, notes)
            results["hardware"] = about | {"os": results["hardware"]["os"]}
            results["versions"]["cupy"] = load("cupy").__version__
            if args.output:
                save(results, args.output)
            del sets
            cupy.get_default_memory_pool().free_all_blocks()
    report.show(results, report.console())
    if wrong:
        raise BenchError("; ".join(wrong))
    return 0
