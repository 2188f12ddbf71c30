"""Random erasing: rectangles of images, filled with a value, in place or into a new array.

They are filled by `fastdrop_kernels.*.batch.erasing`. Those of images on a GPU are drawn on the CPU
before, by `fastdrop_kernels.cpu.batch.rectangles`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract
from fastdrop_kernels.rows import whole_rows

from .._arrays import overlap
from .._arrays.adapter import Backend, imported
from .._call.coefficients import compute_type
from .._call.operands import operand
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.fill_values import check_fillable, filling, fillings, is_several
from .._check.key import AnyRNG, KeyOnDevice
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from . import call, plans
from .keys import SampleKeys, checked_keys, key_of
from .ready import compiles

_FIRST, _LAST, _NOISE = "channels_first", "channels_last", "noise"
_MOST_COUNT = 1 << 20  # rectangles of an image
_MOST_PIXELS = 1 << 32  # of an image, so that a place in it is one integer of the contract


class _Form(NamedTuple):
    """The axes of images: planes of rows of pixels of elements."""

    height: int
    width: int
    channels: int
    last: bool  # whether the channels are the last axis

    @property
    def pixel(self) -> int:
        """Elements of a pixel in memory."""
        return self.channels if self.last else 1


def _check_dtype(dtype: np.dtype[Any]) -> None:
    check_fillable(dtype, "random_erasing", "images")


@checks_keywords
@compiles("erasing", "uint8", "float32", check=_check_dtype, draws_here=True)
def random_erasing(
    images: ArrayLike,
    p: float = 0.5,
    *,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: Any = 0,
    count: int = 1,
    data_format: str = "channels_first",
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Erase a rectangle of each image, with probability `p`: Random Erasing, and Cutout.

    Area and ratio of a rectangle are drawn as in torchvision [1]_: the area uniformly, as a share
    of the image's, and the logarithm of the ratio of height to width uniformly. Ten are tried, and
    the first that is lower and narrower than the image is placed uniformly. If there is none, the
    image stays as it is.

    Parameters
    ----------
    images : array_like
        Of shape (images, channels, height, width), or (images, height, width, channels) by
        `data_format`, or (images, height, width). Of any dtype that `masked_fill` takes. Arrays in
        C order are the fastest.
    p : float
        Probability of erasing an image, in [0, 1].
    scale : (float, float)
        Least and largest share of the area, in [0, 1].
    ratio : (float, float)
        Least and largest ratio of height to width. Cutout has ``(1, 1)``, and a scale of two equal
        numbers.
    value : scalar, array_like or "noise"
        What the elements become. One axis is a colour, with a number for each channel; any other
        array broadcasts to `images`, such as another batch. "noise" draws a standard normal number
        for each element. Conversions are those of `masked_fill`.
    count : int
        Rectangles of an image. They may overlap.
    data_format : {"channels_first", "channels_last"}
        Where the channels of images with four axes are.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (images, 2) and dtype uint64: one for each image, as `sample_keys` returns
        them. Not a `DeviceKey`.
    sample_index : array_like of int, optional
        Numbers of the images, with which the key is folded.
    offset, global_shape
        As in `dropout`, for a part of a larger batch: of whole images. Not with keys of samples.
    out : ndarray, optional
        Output array of the shape and dtype of `images`. If it is `images`, only the rectangles are
        written.

    Returns
    -------
    ndarray
        A new array, or `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn.

    Notes
    -----
    An image is erased where `dropout` would drop its first element. The rectangles are computed on
    the CPU, in float64 without a library's exponential function, so they are the same on any
    machine and for arrays on a GPU. ``docs/contract.md`` defines them.

    References
    ----------
    .. [1] Z. Zhong et al., "Random erasing data augmentation", AAAI 2020.
    .. [2] T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks
       with Cutout", arXiv:1708.04552.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.random_erasing(np.ones((1, 4, 8), np.uint8), 1.0, rng=2)
    array([[[1, 1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 0, 1, 1, 1],
            [1, 1, 1, 1, 0, 1, 1, 1],
            [1, 1, 1, 1, 0, 1, 1, 1]]], dtype=uint8)
    """
    if unknown or images is MISSING:
        raise_argument_error("random_erasing", unknown, images=images)
    key = None
    if type(scale) is tuple and type(ratio) is tuple and _is_plain(value):
        parameters = p, *scale, "and", *ratio, value, count, data_format, out is images
        where = rng, sample_index, offset, global_shape
        key = plans.key_of("random_erasing", (images,), (out,), *where, *parameters)
    read = () if out is images else (images,)
    if planned := plans.planned(key, read, (out,), rng, sample_index, offset):
        return planned[0]
    backend = call.backend_for(images, "images")
    xs = backend.array(images, "images")
    threshold = contract.threshold(
        arguments.probability(p, meaning="the probability of erasing an image")
    )
    numbers = _numbers(*_limits("scale", scale, 0.0), *_limits("ratio", ratio, None))
    many = arguments.whole("count", count, 1)
    if many > _MOST_COUNT:
        raise ValueError(f"count={detect.short(many)} is above {_MOST_COUNT}: give fewer")
    form = _form(xs.shape, data_format)
    _check_dtype(xs.dtype)
    values = _values(value, xs, backend, form)
    if isinstance(rng, KeyOnDevice):
        raise TypeError(
            "rng is a DeviceKey, and the rectangles are drawn on the CPU: give rng.key(), which "
            "waits for the device"
        )
    keys = checked_keys(rng, sample_index, xs.shape[0], "images")
    place = call.sample_placement(xs.shape, keys, offset, global_shape, "images")
    if global_shape is not None:
        full = arguments.lengths("global_shape", global_shape)
        if full[1:] != xs.shape[1:]:
            raise ValueError(
                f"global_shape={full} has larger images than {xs.shape[1:]}: a part of a batch is "
                "one of whole images"
            )
    inputs = (xs,) if values is None else (xs, values)
    with backend.ordered(inputs, out, keys.rng):
        output, source, target = _memory(backend, xs, out)
        if target.size:
            settings = threshold, many, numbers, place.first
            how = _erase(backend, keys, source, target, values, form, settings)
            plans.remember(key, how, read, (target,), rng, sample_index)
        result: Array = output.finished()
    return result


def _erase(
    backend: Backend,
    keys: SampleKeys,
    source: Array,
    target: Array,
    values: Array | None,
    form: _Form,
    settings: tuple[int, int, npt.NDArray[np.float64], int],
) -> Any:
    """Draw the rectangles and fill them; a generator is asked here. Returns as `call.run` does."""
    *of_rectangles, first = settings
    steps: tuple[int, ...] = (0,) * 5
    if values is not None:
        values = backend.undisturbed(values, backend.addresses(target))
        steps = _steps(values.strides, form)
    driver = call.driver_of(backend, "erasing")
    on_cpu = imported("fastdrop_kernels.cpu.batch.rectangles")
    seed, stream, own, _ = key_of(keys, backend, target)
    rows = whole_rows(target.shape[:1], math.prod(target.shape[1:]), first, keys=own)
    size = form.height, form.width
    drawing = on_cpu.Drawing(*of_rectangles)
    if not call.is_on_cpu(backend):
        drawing = backend.table(on_cpu.rectangles(rows, seed, stream, drawing, *size), target, True)
    if rows.table is not None:
        rows = rows._replace(table=backend.table(rows.table, target, True))
    where = source, values, drawing, *size, form.pixel, steps
    return driver.erase(target, rows, seed, stream, *where)


def _is_plain(value: Any) -> bool:
    """Return whether equal values of its type are the same: no array, NaN or negative zero."""
    if type(value) is float:
        return bool(value > 0 or value < 0) or (value == 0 and math.copysign(1.0, value) > 0)
    return type(value) is int or type(value) is str


class _InPlace:
    """What a call writes if `out` is the array that it reads; as `call.Output`."""

    def __init__(self, backend: Backend, x: Array, out: Any) -> None:
        self._backend, self._x, self._out = backend, x, out
        self.target = call.contiguous(backend, x)

    def finished(self) -> Array:
        """Return `out`."""
        if self.target is not self._x:
            self._backend.copy(self.target, self._x)
        return self._backend.result(self._x, self._out)


def _memory(backend: Backend, xs: Array, out: Any) -> tuple[Any, Array, Array]:
    """Return what finishes a call, and the arrays in C order that it reads and writes."""
    if out is not None:
        result = backend.output(out, xs.shape, xs.dtype, xs)
        seen = backend.addresses(result)
        if overlap.same(backend.addresses(xs), seen) and not overlap.overlaps_itself(seen):
            here = _InPlace(backend, result, out)
            return here, here.target, here.target
    made = call.Output(backend, out, xs.shape, xs.dtype, (xs,))
    return made, call.contiguous(backend, xs), made.target


def _form(shape: tuple[int, ...], data_format: Any) -> _Form:
    last = arguments.choice("data_format", data_format, (_FIRST, _LAST)) == _LAST
    if len(shape) not in (3, 4):
        raise ValueError(
            f"images has shape {shape}: give (images, channels, height, width), (images, height, "
            "width, channels) with data_format='channels_last', or (images, height, width)"
        )
    if len(shape) == 3:
        form = _Form(shape[1], shape[2], 1, False)
    elif last:
        form = _Form(shape[1], shape[2], shape[3], True)
    else:
        form = _Form(shape[2], shape[3], shape[1], False)
    if form.height * form.width > _MOST_PIXELS:
        raise ValueError(
            f"images has shape {shape}, of {form.height * form.width} pixels each: give images of "
            "at most 2**32"
        )
    return form


def _limits(name: str, value: Any, least: float | None) -> tuple[float, float]:
    """Return a pair of numbers, the smaller first, that are at least `least`, or above 0."""
    arguments.reject_rng(name, value)
    several = isinstance(value, tuple | list | np.ndarray) and np.ndim(value) > 0
    if not several or len(value) != 2:
        raise TypeError(f"{detect.described(name, value)}: give two numbers, the smaller first")
    low, high = (arguments.real(f"{name}[{k}]", number) for k, number in enumerate(value))
    if low > high:
        raise ValueError(
            f"{name}={detect.short(value)} is not in order: give the smaller number first"
        )
    if least is None and low <= 0:
        raise ValueError(
            f"{name}={detect.short(value)} has a number that is not positive: give ratios above 0"
        )
    if least is not None and not least <= low <= high <= 1:
        raise ValueError(
            f"{name}={detect.short(value)} is not in [0, 1]: give shares of an image's area"
        )
    return low, high


@functools.lru_cache(maxsize=64)
def _numbers(
    least: float, most: float, least_ratio: float, most_ratio: float
) -> npt.NDArray[np.float64]:
    """Return what rectangles are made of, see `rectangles` of the kernels."""
    import decimal  # not at import, which it would slow down

    with decimal.localcontext() as context:
        context.prec = 60  # so that the logarithms are rounded correctly, on any machine
        low, high = (float(decimal.Decimal(r).ln()) for r in (least_ratio, most_ratio))
    numbers = np.array([least, most - least, low, high - low])
    numbers.flags.writeable = False
    return numbers


def _values(value: Any, xs: Array, backend: Backend, form: _Form) -> Array | None:
    """Return values that broadcast to images, where they lie; None for noise."""
    if isinstance(value, str):
        if value != _NOISE:
            raise ValueError(f"value={value!r}: give a number, an array, or 'noise'")
        try:
            compute_type(xs.dtype, "images")
        except TypeError:
            raise TypeError(
                f"value='noise' is of normal numbers, and images has dtype {xs.dtype}: give an "
                "array of noise of that dtype"
            ) from None
        return None
    if not is_several(value):
        return backend.table(filling(value, xs.dtype, "images"), xs)
    if isinstance(value, np.ndarray):
        value = fillings(value, xs.dtype, "images")
    elif isinstance(value, list | tuple):
        value = backend.to_device(fillings(value, xs.dtype, "images"), xs)
    if getattr(value, "ndim", 0) == 1:  # a colour
        if value.shape[0] != form.channels:
            raise ValueError(
                f"value has shape {value.shape}, and images has {form.channels} channels: give a "
                "number for each, or an array with more axes that broadcasts to images"
            )
        if xs.ndim == 3:
            value = value.reshape(())
        elif not form.last:
            value = value.reshape(-1, 1, 1)
    return operand("value", value, xs, backend, "images")


def _steps(strides: tuple[int, ...], form: _Form) -> tuple[int, ...]:
    """Return the bytes between values along images, planes, rows, pixels, elements of a pixel."""
    if len(strides) == 3:
        image, row, pixel = strides
        return image, 0, row, pixel, 0
    if form.last:
        image, row, pixel, element = strides
        return image, 0, row, pixel, element
    image, plane, row, pixel = strides
    return image, plane, row, pixel, 0
