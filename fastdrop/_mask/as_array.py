"""What a mask does as the array that it stands for: views, and what reads elements."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from .._arrays.dispatch import backend_of
from .._check import detect
from .._check.arguments import Array
from . import layout as layouts
from .layout import Layout

if TYPE_CHECKING:
    from .mask import Mask


def _operator(
    compute: Callable[[Any, Any], Any], reflected: bool = False
) -> Callable[[StandsForArray, Any], Any]:
    """Return a method that computes with the stored mask."""

    def method(self: StandsForArray, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        stored = self._stored_beside(other)
        return compute(other, stored) if reflected else compute(stored, other)

    return method


class StandsForArray:
    """An object that NumPy, and operators, take for an array, which is made when it is read."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def _layout(self) -> Layout: ...
        def _viewed(self, layout: Layout) -> Mask: ...
        def _stored(self) -> Array: ...

    # Views.

    def __getitem__(self, index: Any) -> Any:
        """Return a view by basic indexing; otherwise what the stored mask has there."""
        layout = layouts.indexed(self._layout, index)
        if layout is None:
            return self._stored()[index]
        view = self._viewed(layout)
        items = index if type(index) is tuple else (index,)
        if not layout.shape and all(map(layouts.is_integer, items)):
            return view._stored()[()]
        return view

    @property
    def T(self) -> Mask:  # noqa: N802
        """The view with its axes in the opposite order."""
        return self.transpose()

    def transpose(self, *axes: Any) -> Mask:
        """Return the view with its axes in another order, as `numpy.ndarray.transpose`."""
        order = axes[0] if len(axes) == 1 and not layouts.is_integer(axes[0]) else axes or None
        return self._viewed(layouts.transposed(self._layout, order))

    def reshape(self, *shape: Any, order: Any = "C", copy: bool | None = None) -> Any:
        """Return a view of another shape, or an array where elements do not follow each other."""
        given = shape[0] if len(shape) == 1 and not layouts.is_integer(shape[0]) else shape
        lengths = tuple([operator.index(n) for n in given])
        layout = layouts.reshaped(self._layout, lengths) if order == "C" and not copy else None
        return (
            self._stored().reshape(lengths, order=order) if layout is None else self._viewed(layout)
        )

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        """Refuse: a mask is a function of its key."""
        raise TypeError("a Mask cannot be changed: numpy.asarray(mask) is an array that can")

    # Elements.

    def _stored_beside(self, other: Any) -> Any:
        """Return the array, where an array of CuPy's lies if the other is one."""
        stored = self._stored()
        return backend_of(other).to_device(stored, other) if detect.is_cupy(other) else stored

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Make the array; NumPy asks for it."""
        if copy is False:
            raise ValueError("a Mask is drawn when it is read, and has no memory to share")
        made = self._stored()
        return made if dtype is None else made.astype(dtype, copy=False)

    def astype(self, dtype: npt.DTypeLike, **options: Any) -> Array:
        """Return the array in a dtype; `options` as of `numpy.ndarray.astype`."""
        made: Array = self._stored().astype(dtype, **options)
        return made

    def __len__(self) -> int:
        """Return the length of the first axis."""
        if not self.shape:
            raise TypeError("len() of a mask without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Go along the first axis."""
        if not self.shape:
            raise TypeError("iteration over a mask without axes")
        if len(self.shape) == 1:
            return iter(self._stored())
        return (self[n] for n in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        """Say whether an element is equal to a number."""
        return value in self._stored()

    def __bool__(self) -> bool:
        """Return the truth value of a single element."""
        if (size := math.prod(self.shape)) != 1:
            raise ValueError(
                f"the truth value of a Mask of {size} elements is ambiguous: write `mask is not "
                "None`, or numpy.any(mask)"
            )
        return bool(self._stored().item())

    def __getattr__(self, name: str) -> NoReturn:
        """Say how an array's other attributes are reached."""
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise AttributeError(
                f"a Mask has no {name}: numpy.asarray(mask).{name} is that of the stored mask"
            )
        raise AttributeError(f"'Mask' object has no attribute {name!r}")

    __add__, __radd__ = _operator(operator.add), _operator(operator.add, True)
    __sub__, __rsub__ = _operator(operator.sub), _operator(operator.sub, True)
    __mul__, __rmul__ = _operator(operator.mul), _operator(operator.mul, True)
    __truediv__, __rtruediv__ = _operator(operator.truediv), _operator(operator.truediv, True)
    __floordiv__ = _operator(operator.floordiv)
    __rfloordiv__ = _operator(operator.floordiv, True)
    __mod__, __rmod__ = _operator(operator.mod), _operator(operator.mod, True)
    __divmod__, __rdivmod__ = _operator(divmod), _operator(divmod, True)
    __pow__, __rpow__ = _operator(operator.pow), _operator(operator.pow, True)
    __matmul__, __rmatmul__ = _operator(operator.matmul), _operator(operator.matmul, True)
    __lt__, __le__ = _operator(operator.lt), _operator(operator.le)
    __gt__, __ge__ = _operator(operator.gt), _operator(operator.ge)
    _equal, _not_equal = _operator(operator.eq), _operator(operator.ne)

    def __neg__(self) -> Array:
        """Return the array times -1."""
        return -self._stored()

    def __pos__(self) -> Array:
        """Return the array."""
        return self._stored()

    def __abs__(self) -> Array:
        """Return the absolute values of the array."""
        return np.abs(self._stored())


_OPERANDS = (StandsForArray, np.ndarray, np.generic, int, float, complex, list, tuple)


def _is_operand(value: Any) -> bool:
    """Say whether a mask computes with an object, and does not leave that to it."""
    return (
        isinstance(value, _OPERANDS)
        or detect.is_cupy(value)
        or hasattr(type(value), "__pandas_priority__")
    )


def overrides(x: Any) -> bool:
    """Say whether x, of another library, has NumPy's functions ask it first."""
    if isinstance(x, StandsForArray) or detect.is_cupy(x):
        return False
    return getattr(type(x), "__array_ufunc__", None) not in (None, np.ndarray.__array_ufunc__)


def without_masks(operands: tuple[Any, ...]) -> list[Any]:
    """Return operands with the stored mask, where the arrays among them lie, for each mask."""
    near = next(filter(detect.is_cupy, operands), None)
    return [x._stored_beside(near) if isinstance(x, StandsForArray) else x for x in operands]
