"""Which CUDA kernels functions launch; `warmup` has them compiled ahead."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np

from fastdrop_kernels.cuda import batch as batches
from fastdrop_kernels.cuda import compile_ahead, driver, modules, operations, softmax_driver
from fastdrop_kernels.cuda.compile_ahead import CompileError, Kernel

from .._arrays.adapter import Operation
from .._functions.progress import Tracked


def architectures(arch: Any) -> list[str]:
    """Return the compute capabilities to compile for: those given, or of the GPUs here."""
    if importlib.util.find_spec("cupy") is None:
        raise ModuleNotFoundError(
            "warmup(device='cuda') compiles with CuPy, which is not installed: pip install "
            "'fastdrop-kernels[cuda13]' (or [cuda12])",
            name="cupy",
        )
    if os.environ.get("CUPY_CACHE_IN_MEMORY") == "1":
        raise RuntimeError(
            "CUPY_CACHE_IN_MEMORY=1: CuPy keeps no compiled kernels, so none can be compiled "
            "ahead; unset it"
        )
    if getattr(sys, "frozen", False):  # sys.executable is the application, and would start itself
        raise RuntimeError(
            "warmup(device='cuda') starts Python to compile, which a frozen application has not: "
            "the first calls compile what they need, and CuPy keeps it"
        )
    if arch is not None:
        given = [arch] if isinstance(arch, str) else list(arch)
        for each in given:
            if not isinstance(each, str) or not re.fullmatch(r"[1-9]\d{1,2}", each, re.ASCII):
                raise ValueError(
                    f"arch={each!r} is not a compute capability: give one such as '90'"
                )
        return list(dict.fromkeys(given))
    try:
        return compile_ahead.architectures()
    except CompileError as error:
        raise RuntimeError(
            f"warmup(device='cuda') finds no GPU ({error}): give the compute capability of the one "
            "that will be used, such as arch='90'"
        ) from None


def _of(operation: Any) -> Iterator[Kernel]:
    module = operation.module
    return (Kernel(module, name) for name in modules.kernels(module))


def kernels(
    wanted: Iterable[tuple[str, np.dtype[Any], list[Operation], str]],
) -> list[Kernel]:
    """Return the kernels of functions; common ones first.

    Given by name, dtype and operations; and by their family, functions on batches.
    """
    found: list[Kernel] = []
    for function, dtype, named, family in wanted:
        for each in named:
            if each.name == "pack" and each.given is not None:
                continue  # bits of several thresholds are packed by CuPy
            found += _of(each.of(driver))
        if dtype.itemsize in operations.RAW:  # copies, such as of results that overlap x
            found += _of(driver.operation("fill", dtype))
        if function.startswith("softmax_dropout"):
            module = softmax_driver.MODULES[dtype.name]
            backward = function.endswith("_backward")
            found += [Kernel(module, name) for name in modules.kernels(module)][backward:]
        if family:
            batch = importlib.import_module(f"{batches.__name__}.{family}")
            found += [Kernel(batch.module(), name) for name in batch.kernels(dtype)]
    found.sort(key=_is_rare)
    return list(dict.fromkeys(chain(found, [Kernel(modules.ADVANCE, "advance")])))


def _is_rare(kernel: Kernel) -> bool:
    """Say whether a kernel is for arrays of 2**31 elements and more."""
    return kernel.name.endswith("_64") and bool(kernel.module.schedules)


def compile_all(wanted: list[Kernel], architectures: list[str], shown: Tracked) -> None:
    """Compile kernels in parallel processes, and show the progress."""
    with closing(compile_ahead.compile_ahead(wanted, architectures)) as done:
        for _ in shown(done, len(wanted) * len(architectures)):
            pass
