"""NumPy arrays: who computes on them, and the driver of the CPU's kernels."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastdrop_kernels import forks
from fastdrop_kernels.layout import c_strides
from fastdrop_kernels.shielded import uninterrupted

from .._check import arguments, detect, labels
from .._check.arguments import Array
from .._check.key import AnyRNG, Key, as_key
from .._check.placement import Place
from .._check.shard_offsets import IndexOf
from . import overlap
from .adapter import BOOL, BYTE, NO_VALUE, Again, Backend, Operation, imported

_loaded_driver: Any = None


def cpu_driver() -> Any:
    """Return the driver of the CPU's kernels."""
    # Imported at the first call: Numba takes half a second.
    global _loaded_driver
    if _loaded_driver is None:
        _loaded_driver = uninterrupted(_load_driver)
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

    def given(self, out: Any) -> Array:
        if not isinstance(out, np.ndarray) or detect.is_masked(out):
            where = " on a GPU, where x is not" if detect.on_gpu(out) else ""
            raise TypeError(f"out is a {detect.kind_of(out)}{where}: give a numpy.ndarray")
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

    def apart(self, x: Array, y: Array) -> bool:
        return y.flags.forc and x.flags.owndata and y.flags.owndata

    def pack_each(
        self, target: Array, shape: tuple[int, ...], place: Place, rng: AnyRNG, p: Array
    ) -> None:
        seed, stream, _ = self.key(rng, target)
        own = np.broadcast_to(p.copy() if np.may_share_memory(p, target) else p, shape)
        self.driver.pack_each(target, shape, *place, seed, stream, own)

    def repeatable(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        place: Place,
        threshold: int,
        value: Array,
        index_of: IndexOf,
    ) -> Again | None:
        if not x.size or (out is not None and overlap.within(out)):
            return None
        driver = self.driver
        strides = x.strides, (np.empty_like(x) if out is None else out).strides
        ready = driver.repeatable(operation(driver), x.shape, *strides, *place, threshold, value)
        return ready and _again(ready, index_of)

    def repeatable_by_p(
        self,
        operation: Operation,
        x: Array,
        p: Array,
        out: Any,
        place: Place,
        value: Array,
        index_of: IndexOf,
    ) -> Again | None:
        if not x.size or not p.flags.forc or (out is not None and overlap.within(out)):
            return None
        driver = self.driver
        strides = x.strides, (np.empty_like(x) if out is None else out).strides
        ready = driver.repeatable_by_p(operation(driver), p, x.shape, *strides, *place, value)
        return ready and _again_by_p(ready, index_of)

    def repeatable_mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        place: Place,
        threshold: int,
        like: Array | None = None,
        packed: bool = False,
        index_of: IndexOf | None = None,
    ) -> Again | None:
        driver, elements = self.driver, math.prod(shape)
        if packed:
            operation, steps = driver.packing(), c_strides(shape)
            new: Any = ((elements + 7) // 8,), BYTE
            fits = out is None or out.flags.c_contiguous
        else:
            operation, steps = driver.marking(), c_strides(shape) if out is None else out.strides
            new = shape, BOOL
            fits = out is None or not overlap.within(out)
        if not elements or not fits:
            return None
        ready = driver.repeatable(operation, shape, None, steps, *place, threshold, NO_VALUE)
        first = place.first
        return ready and _again(ready, index_of or (lambda offset: first), *new)


def _again(
    ready: Any,
    index_of: IndexOf,
    shape: tuple[int, ...] = (),
    dtype: np.dtype[Any] | None = None,
) -> Again:
    """Return the calls of what the driver made ready; of a mask, with what a new one is like."""
    run, record_at, several, alive = ready
    reads, empty, empty_like = dtype is None, np.empty, np.empty_like

    # What the record names lives as long as this does.
    def again(x: Any, out: Any, rng: AnyRNG, offset: Any, alive: Any = alive) -> Any:
        index = index_of(offset)
        if index is None:
            return None
        if out is None:
            out = empty_like(x) if reads else empty(shape, dtype)
        target = id(out)
        source = id(x) if reads else target
        if type(rng) is Key and several is None:
            seed, stream = rng
            return out if run(source, target, record_at, index, seed, stream, 1) else None
        # What has to go the long way must not have asked rng.
        if not run(source, target, record_at, index, 0, 0, 0):
            return None
        seed, stream = as_key(rng)  # type: ignore[arg-type]
        if several is None:
            if not run(source, target, record_at, index, seed, stream, 1):
                raise RuntimeError("x or out was changed while rng was asked for a key")
            return out
        several(x if reads else out, out, index, seed, stream)
        return out

    return again


def _again_by_p(ready: Any, index_of: IndexOf) -> Again:
    """Return the calls by a p of each element of what the driver made ready."""
    run, record_at, several, alive = ready

    def again(x: Any, p: Any, out: Any, rng: AnyRNG, offset: Any, alive: Any = alive) -> Any:
        index = index_of(offset)
        if index is None:
            return None
        if out is None:
            out = np.empty_like(x)
        arrays = id(x), id(out), id(p), record_at, index
        if type(rng) is Key and several is None:
            return out if run(*arrays, *rng, 1) else None
        if not run(*arrays, 0, 0, 0):
            return None
        key = as_key(rng)  # type: ignore[arg-type]
        if several is not None:
            several(x, out, p, index, *key)
        elif not run(*arrays, *key, 1):
            raise RuntimeError("x, p or out was changed while rng was asked for a key")
        return out

    return again


NUMPY = NumpyBackend()


class LabelledBackend(NumpyBackend):
    """One array of pandas or xarray: its values are computed with, and results have its labels."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def result(self, made: Array, out: Any) -> Array:
        return labels.labelled(self.x, made) if out is None else super().result(made, out)

    def mask(self, *arguments: Any, **more: Any) -> Array:
        """Draw a mask of NumPy's, which lies where x lies and has no labels."""
        return NUMPY.mask(*arguments, **more)
