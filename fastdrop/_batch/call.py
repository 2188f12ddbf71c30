"""The way of a call on a batch: whose arrays, what is written, and the call of a driver.

The functions on batches call `backend_for`, `Output` and `run`. The drivers are modules of the same
name for the CPU (`fastdrop_kernels.cpu.batch`) and CUDA (`fastdrop_kernels.cuda.batch`), with the
same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdrop_kernels.rows import Rows

from .._arrays import overlap
from .._arrays.adapter import Backend, imported
from .._arrays.dispatch import backend_of
from .._arrays.numpy_arrays import NumpyBackend
from .._check import detect
from .._check.arguments import Array
from .._check.placement import Placement, placement_of
from .keys import SampleKeys, key_of


def backend_for(x: Any, name: str) -> Backend:
    """Return the backend of an array, so called in errors; raise if it has no batch functions."""
    backend = backend_of(x)
    if backend.is_lazy:
        raise TypeError(
            f"{name} is {detect.a_kind_of(x)}, which is lazy: call this on its blocks, with an "
            "offset and global_shape for each, or on x.compute()"
        )
    if not backend.takes_operands:
        raise TypeError(
            f"{name} is {detect.a_kind_of(x)}, and functions on batches have kernels for NumPy's "
            "and CuPy's arrays: install CuPy, which views Numba's"
        )
    return backend


def is_on_cpu(backend: Backend) -> bool:
    """Return whether a backend's arrays are in the memory of the CPU."""
    return isinstance(backend, NumpyBackend)


def driver_of(backend: Backend, family: str) -> Any:
    """Return the driver of a family of functions for a backend's arrays."""
    where = "cpu" if is_on_cpu(backend) else "cuda"
    return imported(f"fastdrop_kernels.{where}.batch.{family}")


class Output:
    """What a call writes: a new array or `out`, in C order.

    Parameters
    ----------
    backend : Backend
        Whose arrays these are.
    out : object
        What the user gave, or None for a new array.
    shape, dtype
        Of the result.
    inputs : sequence of array
        Arrays that are read, which `out` must not overlap.
    name : str
        What the array is called in errors.
    any_strides : bool
        Whether the driver writes arrays of any strides.

    Attributes
    ----------
    target : array
        The array that a driver writes, in C order unless it takes any strides.
    """

    def __init__(
        self,
        backend: Backend,
        out: Any,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        inputs: Sequence[Array] = (),
        name: str = "out",
        any_strides: bool = False,
    ) -> None:
        self._backend, self._out = backend, out
        if out is None:
            self._result = self.target = backend.empty(shape, dtype)
            return
        near = inputs[0] if inputs else None
        try:
            self._result = backend.output(out, shape, dtype, near)
        except (TypeError, ValueError) as error:
            if name == "out":
                raise
            raise type(error)(str(error).replace("out", name)) from None
        written = backend.addresses(self._result)
        if overlap.overlaps_itself(written):
            raise ValueError(f"{name} overlaps itself, as broadcast views do: give another array")
        for x in inputs:
            if np.may_share_memory(written, backend.addresses(x), max_work=1):  # type: ignore[arg-type]
                raise ValueError(
                    f"{name} overlaps an array that is read: give one of memory of its own"
                )
        in_order = any_strides or written.flags.c_contiguous
        fits = in_order and written.flags.aligned
        self.target = self._result if fits else backend.empty(shape, dtype)

    def finished(self) -> Array:
        """Return what the user gets, after a driver wrote `target`."""
        if self.target is not self._result:
            self._backend.copy(self.target, self._result)
        return self._backend.result(self._result, self._out)


def contiguous(backend: Backend, x: Array) -> Array:
    """Return an input in C order and aligned: itself, or a copy."""
    seen = backend.addresses(x)
    if seen.flags.c_contiguous and seen.flags.aligned:
        return x
    copied = backend.empty(x.shape, x.dtype)
    backend.copy(x, copied)
    return copied


def run(
    backend: Backend,
    family: str,
    function: str,
    y: Any,
    rows_of: Any,
    keys: SampleKeys,
    *arguments: Any,
) -> Any:
    """Call ``function(y, rows, seed, stream, *arguments)`` of the driver of a family.

    Returns what `plans.remember` takes.

    Parameters
    ----------
    y : array
        What is written, in C order, or several as a tuple.
    rows_of : callable
        ``rows_of(keys) -> Rows`` for the samples' own keys, an array of shape (samples, 2), or for
        None.
    keys : SampleKeys
        What the keys are made of. A generator is asked here.
    *arguments : object
        What else the driver takes.
    """
    driver = driver_of(backend, family)
    first = y[0] if isinstance(y, tuple) else y
    seed, stream, own, more = key_of(keys, backend, first)
    rows: Rows = rows_of(own)
    if rows.table is not None:
        rows = rows._replace(table=backend.table(rows.table, first, rows.has_keys))
    return getattr(driver, function)(y, rows, seed, stream, *arguments, **more)


def sample_placement(
    shape: tuple[int, ...], keys: SampleKeys, offset: Any, global_shape: Any, name: str
) -> Placement:
    """Return the placement of an array; with samples' own keys it has none but its start."""
    if keys.are_own and (global_shape is not None or type(offset) is not int or offset):
        given = "offset" if global_shape is None else "global_shape"
        raise ValueError(
            f"{given} is given, and each sample has a key of its own, by which its mask is the "
            "same in any part of a batch: leave it out"
        )
    return placement_of(shape, None, offset, global_shape, name)
