"""What the tasks of a Dask graph do: a call on one block of an array, placed in the whole mask.

`dask_arrays` puts these calls into graphs. Dask's workers call them with the slices that say where
a block lies, the block, and what it is computed with. They run the backend of the block, on one
thread: Dask runs several blocks at once. Dask is not imported here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fastdrop_kernels import threads
from fastdrop_kernels.catalogue import CATALOGUE
from fastdrop_kernels.layout import c_strides

from .._check import detect
from .._check.arguments import Array
from .._check.key import Key
from .._check.placement import Placement
from .adapter import BOOL, Backend, Operation
from .numpy_arrays import NUMPY

Slices: TypeAlias = tuple[slice, ...]


def backend_in_memory(block: Any) -> Backend:
    """Return the backend of a block, or of the `meta` of a Dask array."""
    if detect.is_cupy(block):
        return _on_gpu()
    return NUMPY


def _on_gpu() -> Backend:
    from .cupy_arrays import cupy_backend

    return cupy_backend()


def shape_of(where: Slices) -> tuple[int, ...]:
    """Return the shape of a block."""
    return tuple([at.stop - at.start for at in where])


# Without a generated ``__eq__``, which would compare arrays, and take the hash away.
@dataclass(frozen=True, slots=True, eq=False)
class BlockCall:
    """A function of a block, made of a few numbers: small when pickled, and with a token."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call of the constructor, which takes fewer bytes than a state."""
        return type(self), self._values()

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what Dask makes a token of: equal calls have the same one, in any process."""
        return f"fastdrop.{type(self).__qualname__}", *self._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field.name) for field in dataclasses.fields(self)])


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCall(BlockCall):
    """A call on a block of an array that lies in a mask: from an index on, with these strides."""

    first: int
    strides: tuple[int, ...]
    seed: int
    stream: int
    threshold: int

    def drawn(self, where: Slices) -> tuple[Placement, Key, int]:
        """Return the placement of a block, the key and the threshold."""
        first, contiguous, step = self.first, True, 1
        for at, stride in zip(reversed(where), reversed(self.strides), strict=True):
            first += at.start * stride
            length = at.stop - at.start
            contiguous = contiguous and (length == 1 or stride == step)
            step *= length
        # Whole rows follow each other in the mask, which is faster: 0.53 instead of 0.69 ms for
        # 16 MiB of float32 on one thread (Zen 5, 2026-11).
        placement = Placement(first, None if contiguous else self.strides)
        return placement, Key(self.seed, self.stream), self.threshold


def in_mask(
    shape: tuple[int, ...], placement: Placement, key: Key, threshold: int
) -> tuple[int, tuple[int, ...], int, int, int]:
    """Return the first fields of a `PlacedCall`, for an array of a shape."""
    strides = c_strides(shape) if placement.strides is None else placement.strides
    return int(placement.first), tuple(map(int, strides)), key.seed, key.stream, threshold


def _checked(backend: Backend, block: Any, where: Slices, dtype: np.dtype[Any]) -> Array:
    """Return a block as kernels read it; raise if it is not what its Dask array says."""
    x = backend.array(block, "a block")
    shape = shape_of(where)
    if x.shape != shape or x.dtype != dtype:
        raise ValueError(
            f"a block has shape {x.shape} and dtype {x.dtype}, and its Dask array says {shape} and "
            f"{dtype}: give the true chunks, dtype or meta to the function that made it"
        )
    return x


@dataclass(frozen=True, slots=True, eq=False)
class Apply(PlacedCall):
    """An operation on each element of x, with the operands that it reads beside x."""

    operation: Operation
    dtype: np.dtype[Any]
    value: Array

    def __call__(self, where: Slices, block: Any, *operands: Any) -> Array:
        """Return the result on a block."""
        backend, operation = backend_in_memory(block), self.operation
        x = _checked(backend, block, where, self.dtype)
        with threads.using(1):
            if operation.given is not None:
                scaled = operation.given and CATALOGUE[operation.name].is_scaled
                p, factor = backend.probabilities(operands[0]), self.value if scaled else None
                operands = tuple(backend.per_element_operands(operation, p, factor, x))
            return backend.apply(operation, x, None, *self.drawn(where), self.value, operands)


@dataclass(frozen=True, slots=True, eq=False)
class Softmax(PlacedCall):
    """Softmax and dropout of whole rows; given the result's gradient too, the gradient of x."""

    axis: int
    dtype: np.dtype[Any]
    value: Array

    def __call__(self, where: Slices, block: Any, *dy: Any) -> Array:
        """Return the result on a block."""
        backend = backend_in_memory(block)
        x = _checked(backend, block, where, self.dtype)
        run: Any = backend.softmax_gradient if dy else backend.softmax
        with threads.using(1):
            result: Array = run(x, *dy, None, self.axis, *self.drawn(where), self.value)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Draw(PlacedCall):
    """A mask, by one p or by an array of p."""

    on_gpu: bool

    def __call__(self, where: Slices, *p: Any) -> Array:
        """Return a block of the mask."""
        return self._drawn(shape_of(where), where, p, False)

    def _drawn(
        self, shape: tuple[int, ...], where: Slices, p: tuple[Any, ...], packed: bool
    ) -> Array:
        backend = _on_gpu() if self.on_gpu else NUMPY
        each = backend.probabilities(*p) if p else None
        near = backend.empty((0,), BOOL)  # on the current device
        with threads.using(1):
            return backend.mask(shape, None, *self.drawn(where), near, each, packed)


@dataclass(frozen=True, slots=True, eq=False)
class DrawPacked(Draw):
    """A packed mask, cut along its first axis where bytes end."""

    shape: tuple[int, ...]  # of the whole mask

    def __call__(self, where: Slices, *p: Any) -> Array:
        """Return the bytes of a block."""
        if self.shape:  # otherwise the one element is the first of one
            where = (*where, *[slice(0, n) for n in self.shape[1:]])
        else:
            where = ()
        return self._drawn(shape_of(where), where, p, True)


@dataclass(frozen=True, slots=True, eq=False)
class Constant(BlockCall):
    """An array whose elements are all one number."""

    value: Array  # NumPy's, of which Dask makes a token
    on_gpu: bool

    def __call__(self, where: Slices) -> Array:
        """Return a block, which takes no memory."""
        backend: Any = _on_gpu() if self.on_gpu else NUMPY
        value = backend.cupy.array(self.value) if self.on_gpu else self.value
        constant: Array = backend.broadcast(value, shape_of(where))
        return constant


# The functions of a reduction, see `dask.array.reduction`. The order of the additions depends on
# the chunks, and not on which worker is ready first: Dask concatenates in the order of the blocks.


def block_sums(block: Any, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Return the sums of a block in float64."""
    full = tuple([1 if n in axis else length for n, length in enumerate(block.shape)])
    if not block.size:  # and nothing is imported for a `meta`
        zeros: Array = detect.namespace(block).zeros(full)
        return zeros
    with threads.using(1), np.errstate(all="ignore"):
        return backend_in_memory(block).float64_sums(block, full)


def total_sums(sums: Any, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Return sums of the sums of several blocks."""
    with np.errstate(all="ignore"):
        total: Array = sums.sum(axis, keepdims=keepdims)
    return total


def rounded_sums(sums: Any, axis: tuple[int, ...], keepdims: bool, dtype: np.dtype[Any]) -> Array:
    """Return sums of the sums of all blocks, rounded once."""
    with np.errstate(all="ignore"):
        return total_sums(sums, axis, keepdims).astype(dtype)
