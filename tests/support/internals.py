"""Private parts of the library that tests read or set, in one place.

Tests call the public API. A few promises need more: that a repeated call uses its plan, that the
plan cache is bounded, that small arrays can take the schedules of large ones, that one kernel gives
what another does. What these tests need of `fastdrop` and of the CPU's driver is named here; tests
of the CUDA kernels import the CUDA driver, which is what they test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._arrays import adapter, cupy_arrays, dispatch, numpy_arrays, overlap
from fastdrop._blocks import cut as block_cut
from fastdrop._blocks import stores as block_stores
from fastdrop._call import plan_cache
from fastdrop._check import keywords
from fastdrop._check import placement as placements
from fastdrop._functions import progress as progress_bars
from fastdrop._layers.function_layer import FunctionLayer
from fastdrop._tools import bits, cuda_warmup, self_check, warmup
from fastdrop_kernels import contract, layout
from fastdrop_kernels.cpu.codegen import compiler, notice
from fastdrop_kernels.cpu.host import call_plan, driver, kernel_call, work_sharing
from fastdrop_kernels.cpu.host.fast_call import DONE, UNFIT
from tests.support.oracle import Array

# Modules that their own tests patch or compare.
__all__ = [
    "DONE",
    "UNFIT",
    "FunctionLayer",
    "adapter",
    "bits",
    "block_cut",
    "block_stores",
    "call_plan",
    "kernel_call",
    "notice",
    "cupy_arrays",
    "keywords",
    "numpy_arrays",
    "progress_bars",
    "self_check",
    "work_sharing",
]

WARMUP_FUNCTIONS = warmup.FUNCTIONS  # names that `fastdrop.warmup` takes

c_strides = layout.c_strides  # shape -> strides of C order, in elements
placement = placements.placement_of  # shape, where it lies -> its index and strides in the mask
addresses = overlap.addresses  # an array of addresses, whatever memory they are of
NUMPY = numpy_arrays.NUMPY  # the adapter of NumPy's arrays, which blocks of Dask's call too
backend_of = dispatch.backend_of  # array -> the adapter of its library


def warmup_of(functions: str, dtypes: Any) -> list[tuple[str, str]]:
    """Return the functions that `warmup` makes ready, each with the name of a dtype."""
    return [(name, dtype.name) for name, dtype in warmup._wanted(functions, dtypes)]


def cuda_kernels_of(names: list[str], dtype: Any, p_arrays: bool) -> list[Any]:
    """Return the CUDA kernels that `warmup` compiles for functions."""
    wanted = warmup._wanted(names, dtype)
    return cuda_warmup.kernels(warmup._described(wanted, ["identity", "relu"], p_arrays))


def cupy_tables() -> Any:
    """Return the module of tables in the GPU's memory, which imports CuPy."""
    from fastdrop._arrays import cupy_tables as tables

    return tables


# The plan cache


def forget_plans() -> None:
    """Empty the plan cache."""
    plan_cache.forget()


def plan_count() -> int:
    """Return how many calls have a plan."""
    return len(plan_cache.plans)


def cupy_streams() -> ModuleType:
    """Return the module that orders streams, which imports CuPy."""
    from fastdrop._arrays import cupy_streams

    return cupy_streams


def cupy_views() -> ModuleType:
    """Return the module that views arrays of other libraries, which imports CuPy."""
    from fastdrop._arrays import cupy_views

    return cupy_views


def kernel_count() -> int:
    """Return how many kernels and routines are in memory."""
    return len(compiler._alive)


def compiled_count() -> int:
    """Return how many of them the process has compiled: they were not in the cache."""
    return sum(bool(dispatcher._cache_misses) for dispatcher in compiler._alive)


def no_call_has_a_plan() -> bool:
    """Say whether all remembered calls are of those that cannot be planned."""
    return all(plan is plan_cache._fits_none for plan in plan_cache.plans.values())


def limit_plan_cache(patch: pytest.MonkeyPatch, most: int) -> None:
    """Let the plan cache hold `most` calls at the most."""
    patch.setattr(plan_cache, "_MOST_PLANS", most)


def replace_plan_cache(patch: pytest.MonkeyPatch) -> None:
    """Start with an empty plan cache, and restore the present one afterwards."""
    patch.setattr(plan_cache, "plans", {})


def while_planning(patch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run an action whenever a call with NumPy arrays is planned."""
    backend = type(numpy_arrays.NUMPY)
    plan = backend.contiguous_plan

    def acting(*given: Any) -> Any:
        action()
        return plan(*given)

    patch.setattr(backend, "contiguous_plan", acting)


@contextmanager
def only_planned_calls() -> Iterator[None]:
    """Let every call that has no plan yet fail."""

    def fail(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("this call has a plan, and did not use it")

    with pytest.MonkeyPatch.context() as patch:
        for step in ("operands", "mask"):
            patch.setattr(adapter.Backend, step, fail)
        yield


# The CPU's driver


def fast_call(x: Array, p: float, key: fd.Key) -> Callable[[Array, Array], int]:
    """Return the compiled fast path of dropout on contiguous arrays, once its kernel is there."""
    factor = np.array(1 / (1 - p), np.float64 if x.dtype == np.float64 else np.float32)
    operation = driver.operation("drop", x.dtype)
    ready = driver.contiguous_call(operation, x.dtype, contract.threshold(p), factor)
    assert ready is not None
    ready.large(x, np.empty_like(x), 0, *key)
    return lambda x, y: ready.run(id(x), id(y), ready.record_at, 0, *key)


def set_cpu_limits(
    patch: pytest.MonkeyPatch,
    *,
    parallel_from: int | None = None,
    chunk: int | None = None,
    cached_bytes: int | None = None,
    nontemporal_from: int | None = None,
) -> None:
    """Set where the CPU driver changes its schedule, so that small arrays take that of large ones.

    Parameters
    ----------
    patch
        Restores the limits.
    parallel_from
        Elements from which on several threads share the work.
    chunk
        Elements that a thread takes at a time.
    cached_bytes
        Bytes up to which kernels do not prefetch.
    nontemporal_from
        Bytes from which on stores are nontemporal, where the processor has such kernels.
    """
    limits: dict[tuple[ModuleType, str], int | None] = {
        (work_sharing, "PARALLEL_FROM"): parallel_from,
        (work_sharing, "_CHUNK"): chunk,
        (call_plan, "CACHED_BYTES"): cached_bytes,
        (call_plan, "_NONTEMPORAL_FROM"): nontemporal_from,
    }
    for (module, name), value in limits.items():
        if value is not None:
            patch.setattr(module, name, value)
    forget_plans()  # which were made for other limits
