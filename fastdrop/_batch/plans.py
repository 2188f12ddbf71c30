"""Plans of calls of functions on batches, in the plan cache of all functions.

A small call takes longer to check than to compute. So the functions look up a plan under all that
decides it besides the arrays, the key and the offset: `key_of`. There is one if an equal call was
made; after it they call `remember`, see `fastdrop_kernels.cpu.batch.fast_rows`. Calls on a GPU, on
labelled arrays or with a `global_shape` have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._arrays.adapter import imported
from .._arrays.numpy_arrays import DONE, LOOK
from .._call import plan_cache
from .._call.plan_cache import PlanKey as PlanKey
from .._check.arguments import Array
from .._check.key import Key, KeyOnDevice, as_key

_INDEX_LIMIT = 1 << 62
_WORD = np.dtype(np.uint64)
_NUMBERS = frozenset({np.dtype(np.int64), _WORD})  # dtypes of numbers of samples, read as they are
_MOST_NUMBERS = 256  # of a list in the place of an array
_CHANGED = "an array was changed during the call, by another thread or the generator"
_NO_KEYS, _KEYS, _FOLDED = range(3)  # as in `fast_rows`, which imports Numba
_CONSTANT = plan_cache.NUMBERS | {str}
_ndarray = np.ndarray


def key_of(
    function: str,
    read: Sequence[Any],
    outs: Sequence[Any],
    rng: Any,
    sample_index: Any,
    offset: Any,
    global_shape: Any,
    *parameters: Any,
) -> PlanKey | None:
    """Return the key of a call; None if it has no plan.

    Parameters
    ----------
    function : str
        The function's name.
    read, outs : sequence
        Arrays that are read, and output arrays or None.
    rng, sample_index, offset, global_shape
        As the user gave them.
    *parameters
        All else that decides the call: numbers, strings, None, or tuples of integers. Equal ones of
        other types are others.
    """
    if global_shape is not None or type(offset) is not int or not 0 <= offset < _INDEX_LIMIT:
        return None
    form: list[Any] = [function]
    for x in read:
        if type(x) is not _ndarray:
            return None
        form += x.shape, x.dtype
    for out in outs:
        if out is None:
            form.append(None)
        elif type(out) is _ndarray:
            form += out.shape, out.dtype
        else:
            return None
    if type(rng) is not Key:
        if type(rng) is _ndarray and rng.ndim == 2:
            if rng.dtype != _WORD or rng.shape[1] != 2 or sample_index is not None:
                return None
            form.append(len(rng))
        elif isinstance(rng, KeyOnDevice):
            return None
    if sample_index is not None:
        if type(sample_index) is _ndarray:
            if not sample_index.ndim:
                return None
        elif type(sample_index) is not list:
            return None
        form.append((len(sample_index),))
    for parameter in parameters:
        kind = type(parameter)
        if kind is tuple:
            for number in parameter:
                if type(number) is not int:
                    return None
        elif kind not in _CONSTANT:  # what may change, or is like a number, has no plan
            return None
        form += kind, parameter
    return tuple(form)


def planned(
    key: PlanKey | None,
    read: Sequence[Any],
    outs: Sequence[Any],
    rng: Any,
    sample_index: Any,
    offset: Any,
) -> list[Array] | None:
    """Make a call by its plan, if there is one, and return what was written.

    If None is returned, nothing was done, and no generator was asked.
    """
    try:
        plan = plan_cache.plans.get(key)  # type: ignore[arg-type]
    except TypeError:  # a parameter that is not hashable
        return None
    return plan and plan(read, outs, rng, sample_index, offset)  # type: ignore[return-value]


def remember(
    key: PlanKey | None,
    made: Any,
    read: Sequence[Any],
    written: Sequence[Array],
    rng: Any,
    sample_index: Any,
    between: Sequence[Array] = (),
) -> None:
    """Make a plan of a call that was made, `made` being what `call.run` returned.

    `written` are the targets of the outputs, and `read` the arrays that were given, in the order of
    `key_of`. If `made` is a list of calls for samples without keys, `between` are the arrays that
    one writes for another.
    """
    if key is None or made is None:
        return
    known = plan_cache.plans
    try:
        if key in known:
            return
    except TypeError:  # as in `planned`
        return
    keys, samples = _NO_KEYS, 0
    if sample_index is not None:
        keys, samples = _FOLDED, len(sample_index)
    elif type(rng) is _ndarray and rng.ndim == 2:
        keys, samples = _KEYS, len(rng)
    driver = imported("fastdrop_kernels.cpu.batch.fast_rows")
    wanted = [(a.shape, a.dtype) for a in written]
    if isinstance(made, list):
        assert not keys
        plan = _plan_of_several(driver, made, read, written, between, wanted)
    else:
        ready = driver.fast_rows(made, read, written, keys, samples)
        plan = ready and _plan(ready, len(read), wanted, keys)
    if plan:  # with other arrays, an equal call may have one
        plan_cache.remember(known, key, plan)


def _plan(
    ready: Any, inputs: int, wanted: list[tuple[tuple[int, ...], np.dtype[Any]]], keys: int
) -> Callable[..., Any]:
    run, record_at, share, own, table_shape, alive = ready
    empty = np.empty
    unused = (0,) * (imported("fastdrop_kernels.cpu.batch.fast_rows").ARRAYS - inputs - len(wanted))

    def plan(
        read: Sequence[Array],
        outs: Sequence[Any],
        rng: Any,
        sample_index: Any,
        offset: int,
        alive: Any = alive,
    ) -> list[Array] | None:
        made = [empty(*new) if out is None else out for out, new in zip(outs, wanted, strict=True)]
        memory = None if own is None else empty(*own)
        samples = table = None
        if keys:
            if offset:
                return None
            samples = _samples(rng, sample_index)
            if samples is None:
                return None
            table = empty(table_shape, _WORD)
        more = (
            0 if memory is None else id(memory),
            0 if samples is None else id(samples),
            0 if table is None else id(table),
            *map(id, read),
            *map(id, made),
            *unused,
        )
        seed = stream = 0
        asked = False
        if keys != _KEYS:
            if rng is None:
                rng = as_key()
            elif type(rng) is not Key:
                if not run(record_at, LOOK, 0, 0, *more):
                    return None
                rng, asked = as_key(rng), True
            seed, stream = rng
        done = run(record_at, offset, seed, stream, *more)
        if done == DONE:
            return made
        if done:
            share(memory, seed, stream, (read, made, table, alive))
            return made
        if asked:
            raise RuntimeError(_CHANGED)
        return None

    return plan


def _plan_of_several(
    driver: Any,
    calls: Sequence[Any],
    read: Sequence[Array],
    written: Sequence[Array],
    between: Sequence[Array],
    wanted: list[tuple[tuple[int, ...], np.dtype[Any]]],
) -> Callable[..., Any] | None:
    """Return a plan of calls that are made one after the other, all with the key of the first."""
    arrays, parts = [*read, *between, *written], []
    for one in calls:
        used = [k for k, a in enumerate(arrays) if driver.address_of_array(a) in one.addresses]
        inputs = [arrays[k] for k in used if k < len(read) + len(between) * (one is not calls[0])]
        outputs = [arrays[k] for k in used[len(inputs) :]]
        ready = driver.fast_rows(one, inputs, outputs, _NO_KEYS, 0)
        if ready is None:
            return None
        parts.append((ready, used, (0,) * (driver.ARRAYS - len(used))))
    if {k for _, used, _ in parts for k in used} != set(range(len(arrays))):
        return None  # a copy was read or written
    needed, empty = [(a.shape, a.dtype) for a in between], np.empty

    def plan(
        read: Sequence[Array], outs: Sequence[Any], rng: Any, sample_index: Any, offset: int
    ) -> list[Array] | None:
        made = [empty(*new) if out is None else out for out, new in zip(outs, wanted, strict=True)]
        arrays = [*read, *[empty(*new) for new in needed], *made]
        ids = [*map(id, arrays)]
        prepared = []
        for (run, at, share, own, _, alive), used, unused in parts:
            memory = None if own is None else empty(*own)
            more = id(memory) if own else 0, 0, 0, *[ids[k] for k in used], *unused
            if not run(at, LOOK, 0, 0, *more):
                return None
            prepared.append((run, at, share, more, memory, alive))
        seed, stream = as_key(rng)
        for run, at, share, more, memory, alive in prepared:
            done = run(at, offset, seed, stream, *more)
            if not done:
                raise RuntimeError(_CHANGED)
            if done != DONE:
                share(memory, seed, stream, (arrays, alive))
        return made

    return plan


def _samples(rng: Any, sample_index: Any) -> Array | None:
    """Return keys or numbers of samples as an array in C order of 64-bit words."""
    if sample_index is None:
        given: Array = rng
    elif type(sample_index) is _ndarray:
        if sample_index.dtype not in _NUMBERS or sample_index.ndim != 1:
            return None
        given = sample_index
    else:
        if len(sample_index) > _MOST_NUMBERS:
            return None
        for number in sample_index:
            if type(number) is not int:
                return None
        given = np.array(sample_index)
        if given.dtype not in _NUMBERS:
            return None
    flags = given.flags
    return given if flags.c_contiguous and flags.aligned else np.array(given)
