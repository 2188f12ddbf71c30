"""Calls with operands that are like an earlier one: they go straight to their plan.

Functions that read arrays beside x look for a plan with `repeated`, before they check anything, and
make their calls by `apply`, which makes the plan of calls that have none yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._arrays.adapter import Backend, Operation, Plan
from .._check.arguments import Array
from .._check.key import AnyRNG
from .._check.placement import Placement
from .._check.shard_offsets import index_of, plain
from . import plan_cache
from .plan_cache import PlanKey, Plans, operands_key


class Repeated(NamedTuple):
    """A call that may have a plan."""

    plan: Plan | None  # if it has one
    known: Plans  # when the call began
    key: PlanKey
    inputs: tuple[Any, ...]  # x and the operands that there are
    where: tuple[Any, Any, Any]  # noise_shape, offset and global_shape, plain

    def by_plan(self, out: Any, rng: AnyRNG) -> Array | None:
        """Make the call by its plan. None: there is none that fits, and nothing was done."""
        inputs = self.inputs
        if self.plan is None:
            return None
        return self.plan(inputs if len(inputs) > 1 else inputs[0], out, rng, self.where[1])


def repeated(
    function: str,
    inputs: Sequence[Any],
    variant: str,
    p: Any,
    parameter: Any,
    training: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> Repeated | None:
    """Return a call as plans know it, from what the user gave; None if it can have none.

    `inputs` are x and the operands, None where one is missing; `variant` is what else decides.
    """
    if training is not True or type(variant) is not str or _has_team():
        return None
    if type(noise_shape) is list or type(noise_shape) is np.ndarray:
        noise_shape = plain(noise_shape)
    if type(offset) is not int:
        offset = plain(offset)
    x, *operands = inputs
    where = noise_shape, offset, global_shape
    key = operands_key((function, variant), x, operands, p, parameter, *where, out)
    known = plan_cache.plans
    try:
        plan = None if key is None else known.get(key)
    except TypeError:  # a dtype that cannot be hashed
        key = None
    if key is None:
        return None
    given = tuple([array for array in inputs if array is not None])
    return Repeated(plan, known, key, given, where)


def apply(
    call: Repeated | None,
    backend: Backend,
    operation: Operation,
    x: Array,
    out: Any,
    placement: Placement,
    rng: AnyRNG,
    threshold: int,
    value: Array,
    operands: Sequence[Array] = (),
) -> Array:
    """Apply an operation by the backend, by a new plan if `call` can have one."""
    if call is not None and call.plan is None:
        noise_shape, offset, global_shape = call.where
        find = index_of(x.shape, placement, noise_shape, offset, global_shape)
        arrays, where = (x, *operands), (placement, threshold, value, find)
        made = None
        # Plans read the caller's arrays: where one had to be converted, there can be none.
        if len(arrays) == len(call.inputs) and all(map(_same, arrays, call.inputs)):
            made = backend.plan(operation, x, out, *where, operands)
        plan = plan_cache.remember(call.known, call.key, made)
        result = call._replace(plan=plan).by_plan(out, rng)
        if result is not None:
            return result
    return backend.apply(operation, x, out, placement, rng, threshold, value, operands)


def _has_team() -> bool:
    """Say whether a team shares fewer elements among its threads than plans allow for."""
    # Imported by the first kernel, and by whoever sets a team; at import it would be felt.
    threads = sys.modules.get("fastdrop_kernels.threads")
    return threads is not None and threads.team_and_parallel_from() != (None, None)


def _same(a: Any, b: Any) -> bool:
    return a is b
