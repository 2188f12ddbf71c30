"""Dask arrays: lazy results, of one task for each block.

`dispatch.backend_of` returns this backend for a Dask array, and `mask_backend_of` for chunks. When
it is called the arguments have been checked; it asks for the key, once, and builds a graph. What a
task does is in `block_calls`. Dask is imported by the functions that build graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from .._check import detect, labels
from .._check.arguments import Array
from .._check.key import AnyRNG, as_key
from .._check.placement import Placement
from .._check.probabilities import check_dtype
from . import block_calls
from .adapter import BOOL, BYTE, Backend, Operation
from .block_calls import BlockCall, backend_in_memory, in_mask

Chunks = tuple[tuple[int, ...], ...]


def _meta(x: Any) -> Any:
    """Return an array of the kind that x, or its blocks, are of."""
    return x._meta if detect.is_dask(x) else x


class DaskBackend(Backend):
    """Dask arrays of NumPy's or CuPy's. `chunks` are those of masks that are drawn."""

    takes_operands = True
    is_lazy = True

    def __init__(self, chunks: Any = None) -> None:
        self._chunks = chunks

    def array(self, x: Any, name: str = "x") -> Array:
        if labels.is_lazy(x):
            x = x.variable._data
        if not detect.is_dask(x):  # which stands beside a Dask array, or is what a mask is like
            return backend_in_memory(x).array(x, name)
        if any(math.isnan(length) for length in x.shape):
            raise ValueError(
                f"{name} has chunks of unknown sizes, and the mask depends on where an element "
                f"lies: call {name}.compute_chunk_sizes() before"
            )
        meta = x._meta
        if not detect.is_cupy(meta) and (type(meta) is not np.ndarray or detect.is_masked(meta)):
            raise TypeError(
                f"{name} is a Dask array of {detect.kind_of(meta)}, and fastdrop computes on NumPy "
                f"arrays: give {name}.map_blocks(f), where f makes them, such as numpy.asarray"
            )
        result: Array = x
        return result

    def is_like(self, other: Backend) -> bool:
        return other.takes_operands  # `check_same_device` looks closer

    def check_same_device(self, name: str, operand: Array, x: Array) -> None:
        theirs, ours = _meta(operand), _meta(x)
        if not backend_in_memory(ours).is_like(backend_in_memory(theirs)):
            raise TypeError(
                f"{name} is made of {detect.kind_of(theirs)}, and x of {detect.kind_of(ours)}: "
                "bring one to where the other is"
            )

    def writable(self, out: Any) -> NoReturn:
        raise TypeError(
            "out is given, and the result is a Dask array, which is computed later: leave it out, "
            "and write the result by dask.array.store(result, out)"
        )

    def to_device(self, value: Array, x: Array) -> Array:
        return backend_in_memory(_meta(x)).to_device(value, _meta(x))

    def constant(self, value: Array, x: Any) -> Array:
        call = block_calls.Constant(value, detect.is_cupy(_meta(x)))
        result: Array = _blockwise(call, "constant", x.chunks, (), x._meta)
        return result

    def probabilities(self, p: Any) -> Array:
        if not detect.is_dask(p):
            return super().probabilities(p)
        lazy = self.array(p, "p")  # whose numbers are checked when they are computed
        check_dtype(lazy.dtype)
        if detect.is_cupy(_meta(p)):
            raise TypeError("p is a Dask array of CuPy's: give one of NumPy arrays")
        return lazy

    def apply(
        self,
        operation: Operation,
        x: Any,
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        value: Array,
        operands: Sequence[Array] = (),
    ) -> Array:
        if out is not None:
            self.writable(out)
        operation.of(backend_in_memory(_meta(x)).driver)  # what may fail, before rng is asked
        drawn = in_mask(x.shape, placement, _key(rng), threshold)
        call = block_calls.Apply(*drawn, operation, x.dtype, value)
        return self._result_of(call, operation.name, x, operands)

    def softmax(self, x: Any, out: Any, axis: int, *drawing: Any) -> Array:
        return self._rows("softmax", x, (), out, axis, *drawing)

    def softmax_gradient(self, x: Any, dy: Array, out: Any, axis: int, *drawing: Any) -> Array:
        self.check_same_device("dy", dy, x)
        return self._rows("softmax-gradient", x, (dy,), out, axis, *drawing)

    def _rows(
        self,
        name: str,
        x: Any,
        operands: Sequence[Array],
        out: Any,
        axis: int,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        value: Array,
    ) -> Array:
        if out is not None:
            self.writable(out)
        if len(x.chunks[axis]) > 1:
            raise ValueError(
                f"x has {len(x.chunks[axis])} chunks along axis {axis}, and a softmax needs the "
                f"whole axis in one: give x.rechunk({{{axis}: -1}})"
            )
        drawn = in_mask(x.shape, placement, _key(rng), threshold)
        call = block_calls.Softmax(*drawn, axis, x.dtype, value)
        return self._result_of(call, name, x, operands)

    def _result_of(self, call: BlockCall, name: str, x: Any, operands: Sequence[Array]) -> Array:
        return self.result(_blockwise(call, name, x.chunks, (x, *operands), x._meta), None)

    def product(self, call: BlockCall, x: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return what a call makes of blocks of x, which broadcasts to a shape."""
        from dask.array.core import normalize_chunks
        from dask.array.utils import meta_from_array

        new: tuple[Any, ...] = ("auto",) * (len(shape) - x.ndim)
        kept = zip(x.chunks, x.shape, shape[len(new) :], strict=True)
        asked = new + tuple([own if n == m else "auto" for own, n, m in kept])
        chunks = normalize_chunks(asked, shape, dtype=dtype)
        meta = meta_from_array(x._meta, len(shape), dtype)
        return _blockwise(call, "mask-product", chunks, (x,), meta)

    def mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        like: Array | None = None,
        p: Array | None = None,
        packed: bool = False,
    ) -> Array:
        from dask.array.utils import meta_from_array

        if out is not None:
            self.writable(out)
        chunks = self._chunks_of_mask(shape, like, packed)
        near = np.empty(0) if like is None else _meta(like)
        each = () if p is None else (p,)
        drawn = in_mask(shape, placement, _key(rng), threshold)
        if packed:
            draw = block_calls.DrawPacked(*drawn, detect.is_cupy(near), shape)
            elements, meta = math.prod(shape[1:]), meta_from_array(near, 1, BYTE)
            sizes = tuple([(rows * elements + 7) // 8 for rows in chunks[0]])
            packed_mask: Array = _blockwise(draw, "packed-mask", chunks, each, meta, sizes)
            return packed_mask
        unpacked = block_calls.Draw(*drawn, detect.is_cupy(near))
        result: Array = _blockwise(
            unpacked, "mask", chunks, each, meta_from_array(near, len(shape), BOOL)
        )
        return result

    def _chunks_of_mask(self, shape: tuple[int, ...], like: Any, packed: bool) -> Chunks:
        from dask.array.core import normalize_chunks

        asked = self._chunks
        if asked is None:
            asked = like.chunks if detect.is_dask(like) and like.shape == shape else "auto"
        try:
            chunks: Chunks = normalize_chunks(asked, shape, dtype=BOOL)
            if any(n < 0 for axis in chunks for n in axis):
                raise ValueError("a chunk has a negative length")
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"chunks={detect.short(asked)} are none of an array of shape {shape} ({error}): "
                "give what dask.array.zeros takes"
            ) from None
        return _whole_bytes(chunks, shape, isinstance(asked, str)) if packed else chunks

    def sum_to(self, x: Any, shape: tuple[int, ...]) -> Array:
        import dask.array

        if shape == x.shape:
            result: Array = x
            return result
        added = x.ndim - len(shape)
        full = (1,) * added + shape
        sums: Any = dask.array.reduction(
            x,
            block_calls.block_sums,
            block_calls.rounded_sums,
            combine=block_calls.total_sums,
            axis=tuple([axis for axis, length in enumerate(full) if length == 1]),
            keepdims=True,
            split_every=16,  # Dask's default may be configured, and the order goes by it
            dtype=x.dtype,
            name="fastdrop-sums",
        )
        result = sums[(0,) * added]
        return result

    def per_element_operands(
        self, operation: Operation, p: Array, factor: Array | None, near: Array
    ) -> Sequence[Array]:
        return (p,)  # the blocks' own backends make of it what their kernels read

    # The rest of the interface is about memory, which only blocks have. Nothing calls it.

    def _of_blocks(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Dask array has no memory: its blocks have")

    driver = softmax_driver = property(_of_blocks)
    empty = empty_like = copy = addresses = no_overlap = _of_blocks
    broadcast = pack_each = float64_sums = _of_blocks


class LabelledDaskBackend(DaskBackend):
    """One array of xarray that holds a Dask array; results have its labels, and stay lazy."""

    def __init__(self, x: Any) -> None:
        super().__init__()
        self.labelled_x = x

    def result(self, array: Array, out: Any) -> Array:
        return labels.labelled(self.labelled_x, array)  # type: ignore[no-any-return]


DASK = DaskBackend()
_OLDEST_DASK = 2024, 12  # whose `blockwise` takes an `ArraySliceDep`


def _key(rng: AnyRNG) -> Any:
    return as_key(rng)  # type: ignore[arg-type]  # which is what it may refuse


def _blockwise(
    call: BlockCall,
    name: str,
    chunks: Chunks,
    arrays: Sequence[Array],
    meta: Any,
    sizes: tuple[int, ...] | None = None,
) -> Any:
    """Return the Dask array of calls on blocks, each with the slices of the block.

    `arrays` broadcast to the chunks. `sizes` are those of the results of blocks that are cut along
    the first axis alone, if they have one axis and another length.
    """
    import dask.array
    from dask.layers import ArraySliceDep

    if tuple(map(int, dask.__version__.split(".")[:2])) < _OLDEST_DASK:
        raise ImportError(
            f"Dask {dask.__version__} cannot tell a task where its block lies: install 2024.12.1, "
            "or a later one"
        )
    blocks = chunks if sizes is None else chunks[:1]
    axes = tuple(range(len(blocks)))
    inputs = [part for array in arrays for part in _input(array, chunks)]
    return dask.array.blockwise(
        *(call, axes, ArraySliceDep(blocks), axes, *inputs),
        align_arrays=False,  # `_input` has aligned them
        concatenate=True,  # along axes that the result has not, which are in one chunk
        adjust_chunks=None if sizes is None else {0: sizes},
        meta=meta,
        dtype=meta.dtype,
        token=f"fastdrop-{name}",
    )


def _input(array: Any, chunks: Chunks) -> tuple[Any, tuple[int, ...] | None]:
    """Return an array as an input of blocks, and which axes of the result its own are."""
    import dask.array

    axes = tuple(range(len(chunks) - array.ndim, len(chunks)))
    own = tuple(
        [
            chunks[axis] if length == sum(chunks[axis]) else (1,)
            for axis, length in zip(axes, array.shape, strict=True)
        ]
    )
    if not detect.is_dask(array):
        if array.size == 1:
            return np.copy(array) if isinstance(array, np.ndarray) else array, None  # in each task
        return dask.array.from_array(array, chunks=own), axes
    if array.chunks != own:
        array = array.rechunk(own)
    if array.chunks != own:  # Dask leaves empty arrays as they are
        array = dask.array.zeros(array.shape, dtype=array.dtype, chunks=own)
    return array, axes


def _whole_bytes(chunks: Chunks, shape: tuple[int, ...], are_free: bool) -> Chunks:
    """Return chunks of a packed mask: along its first axis alone, and each of whole bytes.

    Where the chunks are free, these are like the given ones.
    """
    if not shape:
        return ((1,),)
    elements = math.prod(shape[1:])
    rows = 8 // math.gcd(elements, 8)  # that fill whole bytes
    first, *others = chunks
    if are_free:
        largest = math.prod(max(chunk, default=0) for chunk in chunks)
        length = max(largest // max(elements, 1) // rows, 1) * rows
        full, rest = divmod(shape[0], length)
        first = (length,) * full + ((rest,) if rest or not full else ())
    elif any(len(chunk) > 1 for chunk in others):
        raise ValueError(
            f"chunks={chunks} cut a packed mask along several axes, and its bytes follow each "
            "other in C order: cut it along the first axis alone"
        )
    elif any(length % rows for length in first[:-1]):
        raise ValueError(
            f"chunks={chunks} do not cut a packed mask where bytes end: give chunks of a multiple "
            f"of {rows} along the first axis"
        )
    return (tuple(first), *[(n,) for n in shape[1:]])
