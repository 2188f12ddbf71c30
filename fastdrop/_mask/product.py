"""Products of arrays and masks: by which kernel, in which dtype, and where the result goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays.adapter import Backend, Operation
from .._arrays.dispatch import backend_of, plain_arrays
from .._call import plan_cache
from .._call.coefficients import coefficients_of
from .._call.elementwise import element_wise
from .._check import arguments, detect
from .._check.arguments import Array
from .._check.placement import Placement
from .._functions.dropout import DROPOUT

if TYPE_CHECKING:
    from .mask import Mask

_MASK = "product with a mask"
_FLOAT64 = np.dtype(np.float64)
_FLIPPED, _ALL = slice(None, None, -1), slice(None)


def product(mask: Mask, x: Any, out: Any = None) -> Any:
    """Return ``x * mask`` for an array of NumPy's or CuPy's, written to `out` if that is given."""
    known, what = plan_cache.plans, None
    if type(x) in plain_arrays and _alike(x, out):
        if x.shape == mask._flat and x.dtype.char in "fde" and x.dtype.isnative:
            return _by_dropout(mask, x, out)
        if mask._scale != 0.0:  # zeros of both signs are equal
            steps = None if out is None else out.strides
            where = _where(type(x), mask._first, mask._steps, mask)
            what = _MASK, type(x), x.shape, x.dtype, x.strides, steps, where
            if plan := known.get(what):
                result = plan(x, out, mask._key, mask._first)
                if result is not None:
                    return result
    backend = backend_of(x)
    xs = backend.array(x)
    if backend.is_lazy:
        from .lazy_product import lazy_product

        dtype = _dtype_of_product(xs.dtype) or _nothing_times_mask(xs.dtype)
        return lazy_product(mask, backend, xs, _broadcast(xs.shape, mask.shape), dtype, out)
    with backend.ordered((xs,), out):
        return _product(mask, backend, x, xs, out, known, what)


def _product(
    mask: Mask,
    backend: Backend,
    x: Any,
    xs: Array,
    out: Any,
    known: plan_cache.Plans,
    what: plan_cache.PlanKey | None,
) -> Any:
    """Return the product of x, which kernels read as xs; `what` is the key of its plan."""
    dtype = _dtype_of_product(xs.dtype)
    if dtype is None:
        return _stored_product(mask, backend, xs, out)
    shape, layout = _broadcast(xs.shape, mask.shape), mask._layout
    if xs.shape == shape and xs.dtype == dtype and dtype.kind != "c" and _alike(xs, out):
        if layout.shape == shape and layout.is_contiguous:
            y = _by_dropout(mask, x, out)
            return y if out is not None else _without_axes(y)
        if what is not None and min(layout.strides, default=0) >= 0:
            steps = _padded(layout.strides, shape)
            return _placed(known, what, mask, backend, xs, out, layout.first, steps)
    if out is None:
        y = _new(backend, xs, shape, dtype)
        _write(mask, backend, _converted(xs, dtype), y)
        return _without_axes(y)
    target = backend.writable(out)
    _check_out(target, xs, shape, dtype)
    if target.dtype == dtype:
        _write(mask, backend, _converted(xs, dtype), target)
    else:
        y = backend.empty(shape, dtype)
        _write(mask, backend, _converted(xs, dtype), y)
        _assign(backend, y, target)
    return out


def _where(kind: type, first: int, steps: Any, mask: Mask) -> tuple[Any, ...]:
    """Return what a prepared product depends on: for NumPy's arrays any first index will do.

    `steps` are the shape of a whole mask, shape and steps of a view, or steps alone, in a tuple.
    """
    return None if kind is np.ndarray else first, steps, mask._p, mask._scale


def _itself(first: int) -> int:
    return first


def _without_axes(y: Any) -> Any:
    """Return the number in an array without axes, as NumPy's ufuncs do."""
    return y[()] if type(y) is np.ndarray and not y.shape else y


def _alike(x: Any, out: Any) -> bool:
    """Say whether `out`, if there is one, is of the kind, shape and dtype of x."""
    return out is None or (type(out) is type(x) and out.dtype is x.dtype and out.shape == x.shape)


def _dtype_of_product(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype of the product: None where no kernel multiplies.

    A float stays what it is, as beside a Python float; integers become float64.
    """
    if dtype.kind in "biu":
        return _FLOAT64
    native = dtype if dtype.isnative else dtype.newbyteorder("=")
    if native.char in "efdFD" or arguments.is_bfloat16(native):
        return native
    return None


def _nothing_times_mask(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a product with the stored mask."""
    result: np.dtype[Any] = np.multiply(np.empty(0, dtype), np.empty(0)).dtype
    return result


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    if shapes[0] == shapes[1]:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"x has shape {shapes[0]}, and the mask has {shapes[1]}, which do not broadcast "
            "together: give a mask of the shape of x, or of one that broadcasts to it"
        ) from None


def _new(backend: Backend, x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a new array where x lies, of its layout if it has its shape."""
    if x.shape == shape and x.dtype == dtype:
        return backend.empty_like(x)
    if x.shape == shape and isinstance(x, np.ndarray):
        return np.empty_like(x, dtype, subok=False)
    return backend.empty(shape, dtype)


def _converted(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x.dtype == dtype else x.astype(dtype)


def _check_out(out: Array, x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise what a ufunc would raise for its `out`, before anything is written."""
    if out.shape != shape and _fits(shape, out.shape) is False:
        raise ValueError(
            f"out has shape {out.shape}, and x * mask has {shape}: give one of that shape"
        )
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only: give an array that may be written to")
    if out.dtype != dtype:
        # NumPy's own error, if there is one, and nothing else.
        nothing = (np.empty(0, d) for d in (x.dtype, dtype, out.dtype))
        one, other, target = nothing
        np.multiply(one, other, out=target)


def _fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    inner = full[len(full) - len(shape) :]
    return len(shape) <= len(full) and all(n in (1, m) for n, m in zip(shape, inner, strict=True))


def _by_dropout(mask: Mask, x: Array, out: Any) -> Array:
    """Multiply an array of the shape of the mask, whose elements follow each other."""
    return element_wise(
        DROPOUT, x, mask._p, mask._scale, mask._key, True, None, mask._first, None, out
    )


def _padded(strides: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the steps along all axes of a shape that a mask broadcasts to."""
    return (0,) * (len(shape) - len(strides)) + strides


def _write(mask: Mask, backend: Backend, x: Array, y: Array) -> None:
    """Write the product to y, of the shape of the result and the dtype of x."""
    layout = mask._layout
    if x.shape != y.shape:
        x = backend.broadcast(x, y.shape)
    if layout.shape == y.shape and layout.is_contiguous and x.dtype.kind != "c":
        _by_dropout(mask, x, y)
        return
    first, strides = layout.first, _padded(layout.strides, y.shape)
    if any(step < 0 for step in strides):
        # Kernels walk through a mask upwards.
        for step, n in zip(strides, y.shape, strict=True):
            first += min(step, 0) * (n - 1)
        turn = tuple([_FLIPPED if step < 0 else _ALL for step in strides])
        x, y, strides = x[turn], y[turn], tuple(map(abs, strides))
    if x.dtype.kind == "c":
        # Pairs of floats, which share a decision.
        part = np.dtype(f"f{x.dtype.itemsize // 2}")
        x, y, strides = x[..., None].view(part), y[..., None].view(part), (*strides, 0)
    what = None
    if mask._scale != 0.0 and type(x) is type(y):
        where = _where(type(x), first, (strides,), mask)
        what = _MASK, type(x), x.shape, x.dtype, x.strides, y.strides, where
    _placed(plan_cache.plans, what, mask, backend, x, y, first, strides)


def _placed(
    known: plan_cache.Plans,
    what: plan_cache.PlanKey | None,
    mask: Mask,
    backend: Backend,
    x: Array,
    out: Any,
    first: int,
    strides: tuple[int, ...],
) -> Array:
    """Return the product of x and a mask of its shape, in which it has a placement."""
    if what is not None and (plan := known.get(what)):
        result = plan(x, out, mask._key, first)
        if result is not None:
            return result
    dtype = x.dtype
    placement, coefficients = (
        Placement(first, strides),
        coefficients_of(mask._p, dtype, mask._scale),
    )

    operation = Operation("drop", dtype)
    if what is not None and what not in known:
        made = backend.plan(operation, x, out, placement, *coefficients, _itself)
        result = plan_cache.remember(known, what, made)(x, out, mask._key, first)
        if result is not None:
            return result
    return backend.apply(operation, x, out, placement, mask._key, *coefficients)


def _assign(backend: Backend, y: Array, out: Any) -> None:
    if detect.is_cupy(out):
        out[...] = y
    else:
        np.copyto(out, y, casting="same_kind")


def _stored_product(mask: Mask, backend: Backend, x: Array, out: Any) -> Any:
    """Return the product with the stored mask: longer floats, objects, time differences."""
    stored: Any = backend.to_device(mask._stored(), x)
    y: Any = np.multiply(x, stored) if out is None else np.multiply(x, stored, out=out)
    if y.dtype.kind in "fc" and isinstance(y, np.ndarray):
        np.copyto(y, 0, where=stored == 0.0)  # NaN times 0 is NaN
    return y
