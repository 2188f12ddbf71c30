"""SpecAugment's masks: bands of time and frequency, filled while the batch is copied.

Widths that depend on a sample's length are computed here; `fastdrop_kernels.*.batch.bands` draws
the bands and fills them.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.catalogue import FLOAT_TYPES
from fastdrop_kernels.rows import BandGeometry, Rows, band_geometry, whole_rows

from .._arrays import overlap
from .._arrays.adapter import Backend
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.fill_values import filling
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from . import call, plans
from .keys import SampleKeys, checked_keys
from .ready import compiles
from .row_arguments import checked_row_lengths, checked_share

_UINT64 = np.dtype(np.uint64)
_LONGEST = 1 << 32  # of an axis
_MOST_BANDS = 1 << 16


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.name not in FLOAT_TYPES:
        raise TypeError(
            f"x has dtype {dtype}, which is not supported: give {', '.join(FLOAT_TYPES)}"
        )


@checks_keywords
@compiles("bands", "float32", "float64", check=_check_dtype)
def spec_augment(
    x: ArrayLike,
    *,
    time_masks: int = 2,
    time_width: int = 100,
    freq_masks: int = 2,
    freq_width: int = 27,
    p_max: float = 1.0,
    value: Any = 0.0,
    time_axis: int = -2,
    freq_axis: int = -1,
    row_lengths: ArrayLike | None = None,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Fill random bands of time and of frequency in spectrograms, in one pass.

    These are the masks of SpecAugment [1]_, whose time warping is not done. **The gradient** with
    respect to `x` is the same call on the gradient, with value 0, the same key and other arguments.

    Parameters
    ----------
    x : array_like
        Spectrograms, of float16, bfloat16, float32 or float64. The first axis that is neither time
        nor frequency is that of samples, which have their own bands; all others, such as channels,
        share them. An array of two axes is one sample.
    time_masks, freq_masks : int
        How many bands are drawn along time and along frequency. Bands may overlap, and a band may
        be of width 0.
    time_width, freq_width : int
        The greatest width of a band: each width from 0 on is equally likely, and each start from 0
        on with which the band fits. The defaults are those of the paper's policy LD.
    p_max : float
        In [0, 1]. Bands of time are at most ``floor(p_max * L)`` wide, L being the time axis's
        length or the sample's row length. So they are never longer than the sample.
    value : float or array, optional
        What fills bands; an array of shape (samples,) and the dtype of `x` has a value for each
        sample: ``value=x.mean((1, 2))`` fills each with its mean.
    time_axis, freq_axis : int
        Which axes are time and frequency.
    row_lengths : array_like of int, of shape (samples,), optional
        How many steps in time samples have without their padding. The padding is copied as it is,
        and bands of time are drawn as for samples of these lengths.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (samples, 2) and dtype uint64: one for each sample, as `sample_keys`
        returns them.
    sample_index : array_like of int, optional
        Numbers of the samples, with which the key is folded.
    offset, global_shape
        As in `dropout`, for some of the samples of a larger batch; `offset` alone is added to mask
        indices. Not with keys of samples.
    out : ndarray, optional
        Output array of the shape and dtype of `x`; it may be `x`, of which only bands are written.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory layout of `x`, or `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn or written.

    References
    ----------
    .. [1] D. Park et al., "SpecAugment: a simple data augmentation method for automatic speech
       recognition", Interspeech 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((6, 24), np.float32)
    >>> y = fd.spec_augment(x, time_masks=1, time_width=2, freq_masks=1, freq_width=8, rng=6)
    >>> for row in y:
    ...     print("".join(".#"[int(e)] for e in row))
    ##########..############
    ........................
    ........................
    ##########..############
    ##########..############
    ##########..############
    """
    if unknown or x is MISSING:
        raise_argument_error("spec_augment", unknown, x=x)
    key = None
    if row_lengths is None and type(value) is float and (value or math.copysign(1.0, value) > 0):
        of_bands = time_masks, time_width, freq_masks, freq_width, p_max, value
        where = rng, sample_index, offset, global_shape
        axes = time_axis, freq_axis
        key = plans.key_of("spec_augment", (x,), (out,), *where, *axes, *of_bands, out is x)
    read = () if out is x else (x,)
    if planned := plans.planned(key, read, (out,), rng, sample_index, offset):
        return planned[0]
    backend = call.backend_for(x, "x")
    given = backend.array(x)
    _check_dtype(given.dtype)
    shape = given.shape
    time, frequency, sample = _axes(shape, time_axis, freq_axis)
    samples = 1 if sample is None else shape[sample]
    times = arguments.whole("time_masks", time_masks, 0)
    # More than the axis has is as good as all of it.
    widest = min(arguments.whole("time_width", time_width, 0), shape[time])
    bands = _frequency_bands(freq_masks, freq_width, shape[frequency])
    share = checked_share("p_max", p_max, "the most of the time axis that a band may take")
    elements = math.prod(shape) // max(1, samples)
    _check_bands(times, bands[0], elements, given.size)
    of_samples = () if sample is None else (samples,)
    lengths = checked_row_lengths(
        row_lengths, of_samples, shape[time], "the shape of the samples", "the time axis"
    )
    keys = checked_keys(
        rng, sample_index, None if sample is None else samples, "x, beside time and frequency,"
    )
    first = _first_index(shape, keys, offset, global_shape, sample, elements)
    values = _values(backend, value, given, samples)
    of_rows = np.array([shape[time]], np.int64) if lengths is None else lengths.reshape(-1)
    most = np.minimum(np.floor(share * of_rows).astype(np.int64), widest)
    of_each = np.empty((len(of_rows), 2), np.uint64)
    of_each[:, 0], of_each[:, 1] = of_rows, most

    def rows_of(own: npt.NDArray[np.uint64] | None) -> Rows:
        return whole_rows((samples,), elements, first, None, own)

    def augment(source: Array, target: Array, geometry: BandGeometry, in_place: bool) -> None:
        driver = call.driver_of(backend, "bands")
        words = driver.scratch_words(samples, times + bands[0])
        both = target, backend.empty((words,), _UINT64)
        near = backend.table(of_each, target, lengths is not None)
        where = source, geometry, (times, *bands), near, values, in_place
        how = call.run(backend, "bands", "spec_augment", both, rows_of, keys, *where)
        if memory == order == tuple(range(given.ndim)):
            plans.remember(key, how, read, (target,), rng, sample_index)

    # A new array lies in memory as x does, and `out` is written in C order.
    memory = tuple(range(given.ndim))
    if out is None and given.size:
        memory = tuple(sorted(memory, key=lambda axis: -given.strides[axis]))
    order = memory
    geometry = _geometry(shape, order, time, frequency, sample)
    if geometry is None:  # samples lie behind time and frequency
        assert sample is not None
        order = (sample, *(axis for axis in range(given.ndim) if axis != sample))
        geometry = _geometry(shape, order, time, frequency, sample)
        assert geometry is not None
    inputs = (values,) if np.ndim(value) else ()  # which `out` must not overlap
    with backend.ordered((given, *inputs), out, keys.rng, given if out is None else None):
        if out is None:
            source = call.contiguous(backend, given.transpose(order))
            made = backend.empty(source.shape, source.dtype)
            if given.size:
                augment(source, made, geometry, False)
            made = made.transpose(_inverse(order))
            if order != memory:
                lying = backend.empty(tuple(shape[axis] for axis in memory), made.dtype)
                lying = lying.transpose(_inverse(memory))
                backend.copy(made, lying)
                made = lying
            return backend.result(made, None)
        in_place = _is_same(backend, given, out)
        result = call.Output(
            backend, out, shape, given.dtype, inputs if in_place else (given, *inputs)
        )
        target = result.target
        if not given.size:
            return result.finished()
        source = call.contiguous(backend, given)
        if order == memory:
            same = overlap.same(backend.addresses(source), backend.addresses(target))
            augment(source, target, geometry, same)
        else:
            ordered = call.contiguous(backend, source.transpose(order))
            result_in_order = backend.empty(ordered.shape, ordered.dtype)
            augment(ordered, result_in_order, geometry, False)
            backend.copy(result_in_order.transpose(_inverse(order)), target)
        return result.finished()


def _axes(shape: tuple[int, ...], time_axis: Any, freq_axis: Any) -> tuple[int, int, int | None]:
    """Return the axes of time, frequency and samples."""
    if len(shape) < 2:
        raise ValueError(f"x has shape {shape}: give an array with axes for time and frequency")
    axes = []
    for name, value in (("time_axis", time_axis), ("freq_axis", freq_axis)):
        number = arguments.integer(name, value)
        if not -len(shape) <= number < len(shape):
            raise ValueError(
                f"{name}={detect.short(number)} is none of the {len(shape)} axes of x: give one "
                f"from {-len(shape)} to {len(shape) - 1}"
            )
        axes.append(number % len(shape))
    time, frequency = axes
    if time == frequency:
        raise ValueError(
            f"time_axis={time_axis} and freq_axis={freq_axis} are the same axis: give two"
        )
    for name, axis in (("time", time), ("frequency", frequency)):
        if shape[axis] >= _LONGEST:
            raise ValueError(f"the {name} axis has {shape[axis]} elements: give fewer than 2**32")
    sample = next((axis for axis in range(len(shape)) if axis not in axes), None)
    return time, frequency, sample


def _frequency_bands(freq_masks: Any, freq_width: Any, length: int) -> tuple[int, int, int]:
    """Return the number of bands of frequency, the axis's length, and the most of a band."""
    number = arguments.whole("freq_masks", freq_masks, 0)
    width = arguments.whole("freq_width", freq_width, 0)
    if number and length and width > length:
        raise ValueError(
            f"freq_width={detect.short(width)} is more than the frequency axis has, {length}: give "
            "a smaller one"
        )
    return number, length, min(width, length)


def _check_bands(times: int, frequencies: int, elements: int, size: int) -> None:
    bands = times + frequencies
    asked = f"time_masks={detect.short(times)} and freq_masks={detect.short(frequencies)} are more"
    if bands > _MOST_BANDS:
        raise ValueError(f"{asked} than {_MOST_BANDS} bands: give fewer masks")
    if size and 2 * bands > elements:
        raise ValueError(
            f"{asked} than the {elements // 2} bands that samples of {elements} elements have "
            "draws for: give fewer masks"
        )


def _first_index(
    shape: tuple[int, ...],
    keys: SampleKeys,
    offset: Any,
    global_shape: Any,
    sample: int | None,
    elements: int,
) -> int:
    """Return the mask index of the first sample."""
    place = call.sample_placement(shape, keys, offset, global_shape, "x")
    if global_shape is None:
        return place.first
    full = arguments.lengths("global_shape", global_shape)
    for axis, (n, whole) in enumerate(zip(shape, full, strict=True)):
        if axis != sample and n != whole:
            raise ValueError(
                f"global_shape={full} and the shape of x, {shape}, differ along axis {axis}: bands "
                "are drawn for whole samples, so only their axis can be cut"
            )
    if sample is None:
        return 0
    starts = (0,) * len(full) if offset == 0 else arguments.lengths("offset", offset)
    return starts[sample] * elements


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=lambda place: order[place]))


def _geometry(
    shape: tuple[int, ...], order: tuple[int, ...], time: int, frequency: int, sample: int | None
) -> BandGeometry | None:
    """Return the geometry if axes are put in an order."""
    axes = {axis: place for place, axis in enumerate(order)}
    lengths = tuple(shape[axis] for axis in order)
    of_sample = None if sample is None else axes[sample]
    return band_geometry(lengths, axes[time], axes[frequency], of_sample)


def _values(backend: Backend, value: Any, x: Array, samples: int) -> Array:
    """Return a value for all samples or each, of the dtype of x, where x lies."""
    if detect.is_array(value) and np.ndim(value):
        given = backend.array(value, "value")
        if given.shape != (samples,):
            raise ValueError(
                f"value has shape {given.shape}: give a number, or one for each of the {samples} "
                "samples"
            )
        if given.dtype != x.dtype:
            raise TypeError(
                f"value has dtype {given.dtype}, and x has {x.dtype}: give value.astype(x.dtype)"
            )
        return call.contiguous(backend, given)
    if type(value) is float and value == 0.0 and math.copysign(1.0, value) > 0:
        value = 0  # whose conversion is cached
    return backend.table(filling(value, x.dtype).reshape(1), x)


def _is_same(backend: Backend, x: Array, out: Any) -> bool:
    """Say whether `out` is x, or another view of just its elements."""
    if getattr(out, "shape", None) != x.shape or getattr(out, "dtype", None) != x.dtype:
        return False
    return overlap.same(backend.addresses(x), backend.addresses(backend.writable(out)))
