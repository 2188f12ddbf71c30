"""NumPy arrays: who computes on them, and the driver of the CPU's kernels."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastdrop_kernels import forks
from fastdrop_kernels.layout import c_strides
from fastdrop_kernels.shielded import run_shielded

from .._check import arguments, detect, labels
from .._check.arguments import Array
from .._check.key import AnyRNG, Key, as_key
from .._check.placement import Placement
from .._check.shard_offsets import IndexOf
from . import overlap
from .adapter import BOOL, BYTE, NO_VALUE, Backend, Operation, Plan, imported

_loaded_driver: Any = None


def cpu_driver() -> Any:
    """Return the driver of the CPU's kernels."""
    # Imported at the first call: Numba takes half a second.
    global _loaded_driver
    if _loaded_driver is None:
        _loaded_driver = run_shielded(_load_driver)
    return _loaded_driver


def _load_driver() -> Any:
    with forks.importing, _uncollected():
        from fastdrop_kernels.cpu.host import driver

        return driver


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be looked for: Numba's import makes none, and it is 15% faster."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class NumpyBackend(Backend):
    """NumPy arrays, and all that NumPy makes arrays of, on the CPU."""

    takes_operands = True

    @property
    def driver(self) -> Any:
        return cpu_driver()

    @property
    def softmax_driver(self) -> Any:
        return imported("fastdrop_kernels.cpu.host.softmax")

    def array(self, x: Any, name: str = "x") -> Array:
        return arguments.array(x, name)

    def is_like(self, other: Backend) -> bool:
        return isinstance(other, NumpyBackend)

    def writable(self, out: Any) -> Array:
        if not isinstance(out, np.ndarray) or detect.is_masked(out):
            where = " on a GPU, where x is not" if detect.on_gpu(out) else ""
            raise TypeError(f"out is {detect.a_kind_of(out)}{where}: give a numpy.ndarray")
        return out

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        result = super().output(out, shape, dtype, x)
        if not result.flags.writeable:
            raise ValueError("out is read-only: give an array that may be written to")
        return result

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.empty(shape, dtype)

    def empty_like(self, x: Array) -> Array:
        return np.empty_like(x, subok=False)

    def copy(self, source: Array, target: Array) -> None:
        np.copyto(target, source)

    def addresses(self, x: Array) -> Array:
        return x

    def no_overlap(self, x: Array, y: Array) -> bool:
        return y.flags.forc and x.flags.owndata and y.flags.owndata

    def pack_each(
        self, target: Array, shape: tuple[int, ...], placement: Placement, rng: AnyRNG, p: Array
    ) -> None:
        seed, stream, _ = self.key(rng, target)
        own = np.broadcast_to(p.copy() if np.may_share_memory(p, target) else p, shape)
        self.driver.pack_each(target, shape, *placement, seed, stream, own)

    def contiguous_plan(
        self, operation: Operation, dtype: np.dtype[Any], threshold: int, value: Array
    ) -> Plan | None:
        # Other dtypes that look alike to compiled code may differ in size or unit.
        if dtype.kind not in "biufc" and not arguments.is_bfloat16(dtype):
            return None
        driver = self.driver
        ready = driver.contiguous_call(operation.of(driver), dtype, threshold, value)
        return ready and _contiguous_plan(ready, dtype)

    def plan(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        placement: Placement,
        threshold: int,
        value: Array,
        index_of: IndexOf,
        operands: Sequence[Array] = (),
    ) -> Plan | None:
        if not x.size or (out is not None and overlap.overlaps_itself(out)):
            return None
        driver, shape = self.driver, x.shape
        chosen, of_y = operation.of(driver), (np.empty_like(x) if out is None else out).strides
        if not operands:
            where = *placement, threshold, value
            ready = driver.layout_call(chosen, shape, x.strides, of_y, *where)
            return ready and _layout_plan(ready, index_of)
        inputs = x, *[np.broadcast_to(a, shape) for a in operands]
        strides = [*[a.strides for a in inputs], of_y]
        ready = driver.operands_call(chosen, shape, strides, placement.strides, threshold, value)
        return ready and _operands_plan(ready, len(inputs), index_of)

    def per_element_plan(
        self,
        operation: Operation,
        x: Array,
        p: Array,
        out: Any,
        placement: Placement,
        value: Array,
        index_of: IndexOf,
    ) -> Plan | None:
        if not x.size or not p.flags.forc or (out is not None and overlap.overlaps_itself(out)):
            return None
        driver = self.driver
        strides = x.strides, (np.empty_like(x) if out is None else out).strides
        where = *strides, *placement, value
        ready = driver.per_element_call(operation.of(driver), p, x.shape, *where)
        return ready and _per_element_plan(ready, index_of)

    def mask_plan(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        threshold: int,
        like: Array | None = None,
        packed: bool = False,
        index_of: IndexOf | None = None,
    ) -> Plan | None:
        driver, elements = self.driver, math.prod(shape)
        if packed:
            operation, steps = driver.operation("pack"), c_strides(shape)
            new: Any = ((elements + 7) // 8,), BYTE
            fits = out is None or out.flags.c_contiguous
        else:
            operation = driver.operation("mark")
            steps = c_strides(shape) if out is None else out.strides
            new = shape, BOOL
            fits = out is None or not overlap.overlaps_itself(out)
        if not elements or not fits:
            return None
        ready = driver.layout_call(operation, shape, None, steps, *placement, threshold, NO_VALUE)
        first = placement.first
        return ready and _layout_plan(ready, index_of or (lambda offset: first), *new)


def _contiguous_plan(ready: Any, dtype: np.dtype[Any]) -> Plan:
    """Return the plan of a fast call on contiguous arrays of a dtype."""
    run, record_at, large, alive = ready
    empty = np.empty

    # What the record names lives as long as this does. A layer gives its key, and the number n of
    # its forward, so that no key has to be made: 0.1 us.
    def plan(x: Any, out: Any, rng: AnyRNG, offset: Any, n: int = 0, alive: Any = alive) -> Any:
        if out is None:
            out = empty(x.shape, x.dtype)
        if rng is None:  # fresh entropy may be taken in vain
            rng = as_key()
        if type(rng) is Key:
            seed, stream = rng
            if n:
                stream = (stream + n) & _WORD
        elif run(id(x), id(out), record_at, LOOK, 0, 0):
            seed, stream = as_key(rng)  # type: ignore[arg-type]
        else:
            return None
        status = run(id(x), id(out), record_at, offset, seed, stream)
        if status == DONE:
            return out
        if not status:
            return _unfit(rng)
        large(x, out, offset, seed, stream)
        return out

    return plan


def _layout_plan(
    ready: Any,
    index_of: IndexOf,
    shape: tuple[int, ...] = (),
    dtype: np.dtype[Any] | None = None,
) -> Plan:
    """Return the plan of a fast call on arrays of one layout; of a mask, with that of a new one."""
    run, record_at, large, alive = ready
    reads, empty, empty_like = dtype is None, np.empty, np.empty_like

    def plan(x: Any, out: Any, rng: AnyRNG, offset: Any, n: int = 0, alive: Any = alive) -> Any:
        index = index_of(offset)
        if index is None:
            return None
        if out is None:
            out = empty_like(x) if reads else empty(shape, dtype)
        source = x if reads else out
        if rng is None:
            rng = as_key()
        if type(rng) is Key:
            seed, stream = rng
            if n:
                stream = (stream + n) & _WORD
        elif run(id(source), id(out), record_at, LOOK, 0, 0):
            seed, stream = as_key(rng)  # type: ignore[arg-type]
        else:
            return None
        status = run(id(source), id(out), record_at, index, seed, stream)
        if status == DONE:
            return out
        if not status:
            return _unfit(rng)
        large(source, out, index, seed, stream)
        return out

    return plan


def _per_element_plan(ready: Any, index_of: IndexOf) -> Plan:
    """Return the plan of a fast call by an array of p, which is given behind x."""
    run, record_at, large, alive = ready

    def plan(x: Any, p: Any, out: Any, rng: AnyRNG, offset: Any, alive: Any = alive) -> Any:
        index = index_of(offset)
        if index is None:
            return None
        if out is None:
            out = np.empty_like(x)
        if rng is None:
            rng = as_key()
        if type(rng) is not Key and not run(id(x), id(out), id(p), record_at, LOOK, 0, 0):
            return None
        key = as_key(rng)  # type: ignore[arg-type]
        status = run(id(x), id(out), id(p), record_at, index, *key)
        if status == DONE:
            return out
        if not status:
            return _unfit(rng)
        large(x, out, p, index, *key)
        return out

    return plan


def _operands_plan(ready: Any, count: int, index_of: IndexOf) -> Plan:
    """Return the plan of a fast call that reads x and operands, `count` arrays in all."""
    run, record_at, large, alive = ready
    unused = (0,) * (_INPUTS - count)

    def plan(inputs: Any, out: Any, rng: AnyRNG, offset: Any, alive: Any = alive) -> Any:
        index = index_of(offset)
        if index is None:
            return None
        y = np.empty_like(inputs[0]) if out is None else out
        ids = id(y), *map(id, inputs), *unused
        if rng is None:
            rng = as_key()
        if type(rng) is not Key and not run(record_at, LOOK, 0, 0, *ids):
            return None
        seed, stream = as_key(rng)  # type: ignore[arg-type]
        status = run(record_at, index, seed, stream, *ids)
        if status == DONE:
            return y
        if not status:
            return _unfit(rng)
        large(inputs, y, index, seed, stream)
        return y

    return plan


def _unfit(rng: AnyRNG) -> None:
    """Refuse arrays that fitted until a generator was asked for a key: it has moved on."""
    if type(rng) is not Key:
        raise RuntimeError("an array was changed while rng was asked for a key")


# What the driver's fast calls return, and take (see `fastdrop_kernels.cpu.host.fast_call`), known
# here without importing Numba.
DONE, LOOK = 1, 1 << 63
_INPUTS = 3  # whose ids it takes, of operations with operands
_WORD = (1 << 64) - 1

NUMPY = NumpyBackend()


class LabelledBackend(NumpyBackend):
    """One array of pandas or xarray: its values are computed with, and results have its labels."""

    def __init__(self, x: Any) -> None:
        self.labelled_x = x

    def result(self, array: Array, out: Any) -> Array:
        return (
            labels.labelled(self.labelled_x, array) if out is None else super().result(array, out)
        )

    def mask(self, *arguments: Any, **more: Any) -> Array:
        """Draw a mask of NumPy's, which lies where x lies and has no labels."""
        return NUMPY.mask(*arguments, **more)
