"""Private parts of the library that tests read or set, in one place.

Tests call the public API. A few promises need more: that a repeated call uses its plan, that the
plan cache is bounded, that small arrays can take the schedules of large ones, that one kernel gives
what another does. What these tests need of `fastdrop` and of the CPU's driver is named here; tests
of the CUDA kernels import the CUDA driver, which is what they test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import pytest

from fastdrop._arrays import adapter, cupy_arrays, dispatch, numpy_arrays, overlap
from fastdrop._call import coefficients, plan_cache
from fastdrop._check import keywords
from fastdrop._check import placement as placements
from fastdrop._functions import dropout
from fastdrop._functions import progress as progress_bars
from fastdrop._layers.function_layer import FunctionLayer
from fastdrop._tools import self_check, warmup
from fastdrop_kernels import layout
from fastdrop_kernels.cpu.host import driver

# Modules that their own tests patch or compare.
__all__ = [
    "FunctionLayer",
    "adapter",
    "cupy_arrays",
    "keywords",
    "numpy_arrays",
    "progress_bars",
    "self_check",
]

WARMUP_FUNCTIONS = warmup.FUNCTIONS  # names that `fastdrop.warmup` takes
c_strides = layout.c_strides  # shape -> strides of C order, in elements
placement = placements.place  # shape, noise_shape, offset, global_shape -> index, index strides
addresses = overlap.addresses  # an array of addresses, whatever memory they are of
backend_of = dispatch.backend_of  # array -> the adapter of its library


# The plan cache


def forget_plans() -> None:
    """Empty the plan cache."""
    plan_cache.forget()


def plan_count() -> int:
    """Return how many calls have a plan."""
    return len(plan_cache.calls)


def no_call_has_a_plan() -> bool:
    """Say whether all remembered calls are of those that cannot be planned."""
    return all(plan is plan_cache._not_again for plan in plan_cache.calls.values())


def calls_seen_once() -> int:
    """Return how many calls wait for a second one like them."""
    return len(plan_cache._seen)


def limit_plan_cache(patch: pytest.MonkeyPatch, most: int) -> None:
    """Let the plan cache hold `most` calls at the most."""
    patch.setattr(plan_cache, "_MOST_CALLS", most)


def replace_plan_cache(patch: pytest.MonkeyPatch) -> None:
    """Start with an empty plan cache, and restore the present one afterwards."""
    patch.setattr(plan_cache, "calls", {})
    patch.setattr(plan_cache, "_seen", set())


def let_all_call_hashes_collide(patch: pytest.MonkeyPatch) -> None:
    """Let every call look as if one like it had been made before."""

    class Everything(set[int]):
        def __contains__(self, number: object) -> bool:
            return True

    patch.setattr(plan_cache, "_seen", Everything())


def while_planning(patch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run an action whenever a call with NumPy arrays is planned."""
    backend = type(numpy_arrays.NUMPY)
    plan = backend.repeatable

    def acting(*given: Any) -> Any:
        action()
        return plan(*given)

    patch.setattr(backend, "repeatable", acting)


@contextmanager
def only_planned_calls() -> Iterator[None]:
    """Let every call that has no plan yet fail."""

    def fail(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("this call has a plan, and did not use it")

    with pytest.MonkeyPatch.context() as patch:
        for step in ("operands", "mask"):
            patch.setattr(adapter.Backend, step, fail)
        yield


# The fast path of the CPU


def fast_path(p: float, dtype: np.dtype[Any]) -> Any:
    """Return what `fastdrop.dropout` keeps of calls with this p and dtype: kernel and record."""
    return dropout._express[p, None, dtype]


def replace_fast_paths(patch: pytest.MonkeyPatch) -> None:
    """Start without fast paths, and restore the present ones afterwards."""
    fresh: dict[Any, Any] = {}
    patch.setattr(dropout, "_express", fresh)
    patch.setattr(coefficients, "EXPRESS", fresh)


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
    limits = {
        "PARALLEL_FROM": parallel_from,
        "_PART": chunk,
        "NEAR_BYTES": cached_bytes,
        "_NONTEMPORAL_FROM": nontemporal_from,
    }
    for name, value in limits.items():
        if value is not None:
            patch.setattr(driver, name, value)
