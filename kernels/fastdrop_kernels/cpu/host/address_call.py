"""Calls by addresses, for arrays that are not NumPy's, such as torch's tensors.

`driver` returns them from `address_call`. They do the same as its `contiguous_call`, for elements
that are contiguous at two addresses: small calls by the compiled fast path, and large ones by a
plan of `call_plan`.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy.typing as npt

from ...threads import team_and_parallel_from, thread_count
from ..elements.operations import Operation
from ..loops.call_descriptor import make_descriptor
from . import call_plan
from .call_plan import CallPlan
from .fast_call import (
    DONE,
    LOOK,
    UNFIT,
    contiguous_record,
    fast_call_by_addresses,
    fast_call_on_team,
    set_kernel,
)
from .openmp import OpenMPTeam
from .work_sharing import is_shared, weight

# ``(x_at, y_at, n, index, seed, stream) -> whether it was made``; see `address_call`.
AddressCall: TypeAlias = Callable[[int, int, int, int, int, int], bool]

_ANY_DTYPE = 1  # which is not read
_MOST_PLANS = 64


def address_call(operation: Operation, threshold: int, value: npt.NDArray[Any]) -> AddressCall:
    """Return ``call(x_at, y_at, n, index, seed, stream)``.

    It applies an operation to n contiguous elements at `x_at`, and writes to `y_at`, which may be
    the same address; where no x is read, `x_at` is `y_at`. It returns True. If the two overlap
    otherwise, n is 0, or `index` is 2**62 or above, it does nothing and returns False. Threads are
    those of the context, see `threads.using`.

    ``call.on_team(x_at, y_at, n, index, seed, stream, region_at)`` makes large calls on the team of
    a region, see `OpenMPTeam.region_at`, and ``call.on_one_thread`` small ones, without looking at
    the context: 1 us less. They return False, and do nothing, where `call` has to make the call.
    """
    itemsize, cost = operation.target.itemsize, weight(operation)
    descriptor = make_descriptor(0, threshold, value)
    run, run_on_team = fast_call_by_addresses(), fast_call_on_team()
    alone_from = call_plan.nontemporal_from(operation)
    alone = contiguous_record(_ANY_DTYPE, itemsize, descriptor, alone_from, cost)
    by_plan = contiguous_record(_ANY_DTYPE, itemsize, descriptor, 0)
    (alone_at, _), (by_plan_at, _) = alone.buffer_info(), by_plan.buffer_info()
    plans: dict[int, CallPlan] = {}  # by n: a training loop has few

    def large(x_at: int, y_at: int, n: int, index: int, seed: int, stream: int) -> None:
        plan = plans.get(n)
        if plan is None:
            plan = call_plan.of_contiguous(operation, n, n * itemsize, threshold, value)
            if plan.kernel is not None:
                set_kernel(alone, plan.kernel, call_plan.is_prefetched(n * itemsize))
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plans[n] = plan
        slots = array.array("Q", (x_at, y_at))
        at, _ = slots.buffer_info()
        plan.run(at, at + 8, x_at == y_at, index, seed, stream, slots)

    def call(x_at: int, y_at: int, n: int, index: int, seed: int, stream: int) -> bool:
        if not is_shared(n * cost):
            status = run(x_at, y_at, alone_at, n, index, seed, stream)
        elif (team := team_and_parallel_from()[0]) is not None and type(team) is OpenMPTeam:
            region_at = team.region_at(thread_count())
            status = run_on_team(x_at, y_at, alone_at, n, index, seed, stream, region_at)
        else:
            status = run(x_at, y_at, by_plan_at, n, index, seed, stream)
        if status == DONE:
            return True
        if status == UNFIT or index == LOOK:
            return False
        large(x_at, y_at, n, index, seed, stream)
        return True

    def on_team(
        x_at: int, y_at: int, n: int, index: int, seed: int, stream: int, region_at: int
    ) -> bool:
        return run_on_team(x_at, y_at, alone_at, n, index, seed, stream, region_at) == DONE  # type: ignore[no-any-return]

    def on_one_thread(x_at: int, y_at: int, n: int, index: int, seed: int, stream: int) -> bool:
        return run(x_at, y_at, alone_at, n, index, seed, stream) == DONE  # type: ignore[no-any-return]

    call.on_team, call.on_one_thread = on_team, on_one_thread  # type: ignore[attr-defined]
    call.alive = alone, by_plan, descriptor  # type: ignore[attr-defined]
    return call
