"""`Mask`: a mask as an object that NumPy loops store and multiply by, in the 16 bytes of its key.

Products with arrays run the dropout kernel, by `_fast` for contiguous arrays and by `product` for
all others. `ArrayLikeMask` has the rest of the array interface.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NoReturn

import numpy as np

from fastdrop_kernels import contract

from .._call import plan_cache
from .._call.plan_cache import contiguous_key
from .._check import arguments, detect, foreign
from .._check.arguments import Array, ShapeLike
from .._check.key import RNG, Key, as_key
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._functions.dropout import DROPOUT
from . import layout as layouts
from .as_array import ArrayLikeMask, overrides, without_masks
from .layout import Layout
from .product import product


class Mask(ArrayLikeMask):
    """A dropout mask that is drawn again at each use: 16 bytes, whatever its shape.

    A training loop that stores ``mask = (np.random.rand(*x.shape) < q) / q`` and multiplies by it,
    forward and backward, stores ``mask = fd.Mask(x.shape, 1 - q)`` instead. Nothing else in the
    loop changes: ``x * mask``, ``mask * x``, ``x *= mask`` and ``np.multiply(x, mask, out=y)`` run
    the kernel of `dropout`, on NumPy and CuPy arrays.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the mask. It broadcasts against arrays as an array of that shape does.
    p : float
        Probability of **dropping** an element, in [0, 1]: one number. For an array of p, see
        `dropout`.
    rng : Key, int, Generator, numpy.random, or anything else that `as_key` takes
        The mask is drawn from it, see `as_key`. It is converted to a key once, here, so all
        products with this mask drop the same elements. None takes fresh entropy.
    scale : float, optional
        Factor of the kept elements, instead of ``1 / (1 - p)``: 1.0 is "vanilla" dropout.

    Attributes
    ----------
    shape, ndim, size, dtype
        Those of the array that the mask represents; `dtype` is float64.
    nbytes : int
        16, the bytes of the key.
    p, key, scale : float, Key, float
        Drop probability, key, and factor of the kept elements.

    Raises
    ------
    TypeError
        If an argument has a wrong type.
    ValueError
        If an argument has an invalid value.

    See Also
    --------
    dropout : The same product as a function, with `out`, `noise_shape`, and arrays of p.
    dropout_mask : The mask as an array of bool, or packed to bits.

    Notes
    -----
    **Products.** ``x * mask`` is ``fd.dropout(x, mask.p, rng=mask.key, scale=mask.scale)``: floats
    keep their dtype, as beside a Python float (float16, bfloat16, float32, float64; complex numbers
    too, real and imaginary part sharing a decision), and integers and bools become float64. Dropped
    elements are exactly +0.0, whatever they were: a stored mask gives NaN for NaN and infinities,
    and -0.0 for negative numbers. Other dtypes (longdouble, objects), and ``np.multiply`` with
    ``where=``, ``dtype=`` or ``casting=``, multiply by the stored mask. A number
    multiplies the scale and gives a new mask: ``mask / q``, ``2 * mask``. ``x *= mask`` for an
    `x` of integers raises NumPy's error, as with a stored mask.

    **Views.** Integers, slices, ``...`` and ``None`` in an index, ``mask.T`` and
    ``mask.transpose`` give views: masks with the same key and another layout. A product with
    ``mask[2:4]`` drops what ``mask`` drops there. ``mask.reshape`` gives a view if the mask is
    C-contiguous. As for an array, integers along all axes give a number.

    **As an array.** ``np.asarray(mask)`` draws the stored mask, in float64, and ``mask.astype``
    in another dtype; other operators, other NumPy functions, and advanced indexing draw it too.

    **Comparison.** ``mask == other`` compares two masks as wholes: shape, p, scale, key and
    layout. Equal masks have equal hashes, and a mask equals its pickled copy and the value of its
    repr. With arrays and numbers, the comparison is element-wise, as for an array.

    **Other libraries.** With a Dask array, products are lazy, and each block draws its own part of
    the mask. With a CuPy array, ``x * mask``, ``x *= mask`` and ``cupy.multiply`` run
    on its device. In HIPS autograd, the mask is a constant like any array, for derivatives of any
    order. Objects that wrap arrays, such as xarray's, multiply by it. pandas multiplies by the
    stored mask (write ``x = x * mask``; pandas does not support ``x *= mask``), and so do
    subclasses of ndarray other than memmap.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((2, 4), np.float32)
    >>> mask = fd.Mask(x.shape, 0.5, rng=42)
    >>> mask
    Mask((2, 4), 0.5, rng=Key(seed=42, stream=0))
    >>> x * mask
    array([[2., 2., 0., 0.],
           [0., 0., 2., 0.]], dtype=float32)
    >>> mask.nbytes
    16

    The backward pass multiplies by the same mask, and a part of it by a part:

    >>> dy = np.full((1, 4), 3.0)
    >>> dy * mask[1:]
    array([[0., 0., 6., 0.]])
    >>> np.asarray(mask[:, ::2])
    array([[2., 0.],
           [0., 2.]])
    """

    __slots__ = ("_first", "_flat", "_key", "_p", "_scale", "_shape", "_steps", "_view")

    __array_priority__ = 1000.0  # above CuPy's arrays, which still use it in places
    __pandas_priority__ = 5000  # above DataFrame's 4000, which would treat a mask as a list

    _shape: tuple[int, ...]
    _p: float
    _scale: float | None  # as given
    _key: Key
    _view: Layout | None  # None for a mask that is not a view
    # The shape if the mask is contiguous, for the fast path's check; else None. Also None for a
    # 0-dimensional mask, whose products are scalars.
    _flat: tuple[int, ...] | None
    _first: int
    _steps: tuple[Any, ...]  # equal for layouts that differ in the first index only

    @checks_keywords
    def __new__(
        cls,
        shape: ShapeLike,
        p: float = 0.5,
        *,
        rng: RNG = None,
        scale: float | None = None,
        **unknown: NoReturn,
    ) -> Mask:
        """Check the arguments, and convert `rng` to a key."""
        if unknown or shape is MISSING:
            raise_argument_error("Mask", unknown, shape=shape)
        if type(shape) is not tuple or type(p) is not float:
            _check_kinds(shape, p)
        lengths = arguments.shape(shape)
        chance = arguments.probability(p) + 0.0  # no -0.0
        factor = None if scale is None else arguments.real("scale", scale)
        return _new_mask(lengths, chance, factor, as_key(rng), None)

    @classmethod
    def like(
        cls,
        x: Any,
        p: float = 0.5,
        *,
        rng: RNG = None,
        scale: float | None = None,
        **unknown: NoReturn,
    ) -> Mask:
        """Return a mask of the shape of `x`.

        Parameters
        ----------
        x : array_like
            Any object with a shape; its elements are not read.
        p, rng, scale
            As for `Mask`.

        Returns
        -------
        Mask

        Examples
        --------
        >>> import numpy as np
        >>> import fastdrop as fd
        >>> fd.Mask.like(np.ones((2, 3)), 0.25, rng=1).shape
        (2, 3)
        """
        if unknown:
            raise_argument_error("Mask", unknown)
        shape = getattr(x, "shape", None)
        if shape is None and not isinstance(x, list | tuple | int | float | complex):
            raise TypeError(f"{detect.described('x', x)}, which has no shape: give an array")
        lengths = np.shape(x) if shape is None else tuple(shape)
        return cls(lengths, p, rng=rng, scale=scale)

    # Attributes.

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that the mask represents."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """float64, the dtype of the stored mask."""
        return _FLOAT64

    @property
    def nbytes(self) -> int:
        """16, the bytes of the key."""
        return 16

    @property
    def p(self) -> float:
        """Probability of dropping an element."""
        return self._p

    @property
    def key(self) -> Key:
        """The key that the mask is drawn from."""
        return self._key

    @property
    def scale(self) -> float:
        """Factor of the kept elements."""
        return contract.scale(self._p) if self._scale is None else self._scale

    @property
    def _layout(self) -> Layout:
        return layouts.whole(self._shape) if self._view is None else self._view

    def _identity(self) -> tuple[Any, ...]:
        layout = self._layout
        return layout[:3], self._p, self.scale, self._key

    def __eq__(self, other: object) -> Any:
        """Return whether another mask is equal; compare element-wise with arrays."""
        if isinstance(other, Mask):
            return self._identity() == other._identity()
        return self._equal(other)

    def __ne__(self, other: object) -> Any:
        """Return whether another mask differs; compare element-wise with arrays."""
        if isinstance(other, Mask):
            return self._identity() != other._identity()
        return self._not_equal(other)

    def __hash__(self) -> int:
        """Return a hash consistent with ``==``."""
        return hash(self._identity())

    def __repr__(self) -> str:
        """Return an expression of `Mask` and `Key` that evaluates to an equal mask."""
        shape, suffix = layouts.as_expression(self._layout)
        scale = "" if self._scale is None else f", scale={self._scale!r}"
        return f"Mask({shape!r}, {self._p!r}, rng={self._key!r}{scale}){suffix}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a constructor call and the layout of the view."""
        make = functools.partial(Mask, rng=self._key, scale=self._scale)
        whole = self._shape if self._view is None else (0,)
        return make, (whole, self._p), self._view and tuple(self._view)

    def __setstate__(self, view: tuple[Any, ...]) -> None:
        """Restore the layout of the view."""
        self._set_view(Layout(*view))

    def __copy__(self) -> Mask:
        """Return the mask itself, which is immutable."""
        return self

    def __deepcopy__(self, memo: Any) -> Mask:
        """Return the mask itself, which is immutable."""
        return self

    # Products.

    def _times(self, x: Array, out: Any) -> Any:
        """Multiply a NumPy array, by a cached plan if it has this mask's shape."""
        if x.shape == self._flat:
            key = contiguous_key(DROPOUT, x, self._p, self._scale, out)
            if plan := plan_cache.plans.get(key):  # type: ignore[arg-type]
                y = plan(x, out, self._key, self._first)
                if y is not None:
                    return y
        return product(self, x, out)

    def __mul__(self, other: Any) -> Any:
        """Multiply with an array; a number gives a mask of another scale."""
        if type(other) is _ndarray:
            return self._times(other, None)
        result = self._multiplied(other)
        return super().__mul__(other) if result is None else result

    def __rmul__(self, other: Any) -> Any:
        """Multiply with an array; a number gives a mask of another scale."""
        if type(other) is _ndarray:
            return self._times(other, None)
        result = self._multiplied(other)
        return super().__rmul__(other) if result is None else result

    def _multiplied(self, other: Any) -> Any:
        """Return the product with a number or by the kernel; None for the stored mask to do it."""
        number = _number(other)
        if number is not None:
            return self._scaled(self.scale * number)
        if type(other) in _AS_ARRAYS:
            return product(self, np.asarray(other))
        if isinstance(other, np.ndarray | np.generic | Mask):
            return None
        if detect.is_dask(other) or detect.on_gpu(other):
            return product(self, other)
        if detect.is_tensor(other):
            arguments.array(other)  # raises TypeError
        return None

    def __truediv__(self, other: Any) -> Any:
        """Divide by an array; a number gives a mask of another scale."""
        if number := _number(other):
            result = self._scaled(self.scale / number)
            if result is not None:
                return result
        return super().__truediv__(other)

    def _scaled(self, scale: float) -> Mask | None:
        """Return the mask with another scale; None if the scale is not finite."""
        if not math.isfinite(scale):
            return None
        return _new_mask(self._shape, self._p, scale, self._key, self._view)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Multiply by the kernel; compute all other ufuncs with the stored mask."""
        if ufunc is _multiply and method == "__call__":
            x, other = inputs
            if other is not self:
                x, other = other, x
            out = None
            if kwargs:
                out = kwargs["out"][0] if "out" in kwargs and len(kwargs) == 1 else _NO_KERNEL
            if out is not _NO_KERNEL:
                if type(x) is _ndarray:
                    return self._times(x, out)
                if out is None and _number(x) is not None:
                    return self * x
                if type(x) in _AS_ARRAYS:
                    return product(self, np.asarray(x), out)
                if detect.is_dask(x) or detect.is_cupy(x):
                    return product(self, x, out)
        for out in kwargs.get("out", ()):
            if isinstance(out, Mask):
                raise TypeError("out is a Mask, which cannot be written to: give an array")
        for x in inputs:
            if overrides(x):  # for instance xarray's, which unwraps its array
                result = x.__array_ufunc__(ufunc, method, *inputs, **kwargs)
                if result is not NotImplemented:
                    return result
        return getattr(ufunc, method)(*without_masks(inputs), **kwargs)

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        """Do the same as `__array_ufunc__` for CuPy's element-wise kernels, which call this."""
        import cupy

        if kernel is cupy.multiply and not kwargs.keys() - {"out"}:
            x, other, *rest = args
            if other is not self:
                x = other
            if detect.is_cupy(x):
                return product(self, x, rest[0] if rest else kwargs.get("out"))
        return kernel(*without_masks(args), **kwargs)

    def _stored(self) -> Array:
        ones = np.ones(self._shape)
        stored: Array = product(self, ones, ones)
        return stored

    def _viewed(self, layout: Layout) -> Mask:
        return _new_mask(layout.shape, self._p, self._scale, self._key, layout)

    def _set_view(self, view: Layout) -> None:
        self._view, self._shape, self._first = view, view.shape, view.first
        self._flat = view.shape if view.shape and view.is_contiguous else None
        self._steps = view.shape, view.strides


def _new_mask(
    shape: tuple[int, ...], p: float, scale: float | None, key: Key, view: Layout | None
) -> Mask:
    """Make a mask of checked values."""
    mask = object.__new__(Mask)
    mask._p, mask._scale, mask._key = p, scale, key
    if view is None:
        mask._view, mask._shape, mask._first, mask._flat = None, shape, 0, shape or None
        mask._steps = shape
    else:
        mask._set_view(view)
    return mask


def _check_kinds(shape: Any, p: Any) -> None:
    """Raise TypeError for a key, which would pass for a shape, and for an array of p."""
    for name, value in (("shape", shape), ("p", p)):
        if isinstance(value, Key):
            raise TypeError(f"{name} is a Key: give rng={value!r}")
    if isinstance(p, np.ndarray) and not p.shape:
        raise TypeError(f"p={detect.short(p)} is an array without axes: give p.item()")
    if isinstance(p, np.ndarray | list | tuple):
        raise TypeError(
            f"p has shape {foreign.shape_of(p)}, and a Mask has one p for all elements: give "
            "one number, or take fastdrop.dropout, whose p may be an array"
        )


def _number(value: Any) -> float | None:
    """Return a real number as a float; None for anything else, longdouble included."""
    if type(value) in _FLOATS or isinstance(value, int | np.integer | np.bool_):
        return float(value)
    return None


_FLOAT64 = np.dtype(np.float64)
_FLOATS = frozenset((float, np.float64, np.float32, np.float16))
_AS_ARRAYS = frozenset((list, tuple, np.memmap))  # NumPy's products of these are plain arrays too
_NO_KERNEL = object()
_ndarray, _multiply = np.ndarray, np.multiply
