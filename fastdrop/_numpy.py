"""NumPy arrays: who computes on them, and the driver of the CPU's kernels."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastdrop_kernels import forks
from fastdrop_kernels.uninterrupted import uninterrupted

from . import _arguments as arguments
from . import _libraries as libraries
from . import _overlap as overlap
from ._arguments import Array, Place
from ._backend import Again, Backend, Operation, imported
from ._key import Key, as_key
from .cuda import AnyRNG

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
        from fastdrop_kernels.cpu import driver

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
        return imported("fastdrop_kernels.cpu.softmax_driver")

    def array(self, x: Any, name: str = "x") -> Array:
        return arguments.array(x, name)

    def given(self, out: Any) -> Array:
        if not isinstance(out, np.ndarray) or libraries.is_masked(out):
            where = " on a GPU, where x is not" if libraries.on_gpu(out) else ""
            raise TypeError(f"out is a {libraries.kind_of(out)}{where}: give a numpy.ndarray")
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
        out: Array | None,
        place: Place,
        threshold: int,
        value: Array,
    ) -> Again | None:
        driver = self.driver
        if not (driver.LAYOUT_IS_KNOWN and x.size):
            return None
        if out is not None and overlap.within(out):
            return None
        strides = x.strides, (np.empty_like(x) if out is None else out).strides
        run = driver.repeatable(operation(driver), x.shape, *strides, *place, threshold, value)
        empty_like, may_share_memory = np.empty_like, np.may_share_memory

        def again(x: Array, out: Array | None, rng: AnyRNG) -> Array | None:
            if out is None:
                out = empty_like(x)
            else:
                flags = out.flags
                if not flags.writeable:
                    return None
                # Of arrays that own their memory it is known that they do not overlap, or are one.
                apart = out is x or (flags.owndata and x.flags.owndata)
                if not apart and may_share_memory(x, out):
                    return None
            run(x, out, *(rng if type(rng) is Key else as_key(rng)))  # type: ignore[arg-type]
            return out

        return again


NUMPY = NumpyBackend()
