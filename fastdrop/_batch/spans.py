"""Masks of spans, as wav2vec 2.0, SpanBERT and T5 draw them for each row.

The numbers of spans and of masked elements are computed here, for each length of a row, and given
to `fastdrop_kernels.*.batch.spans`, which draws by them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract
from fastdrop_kernels.rows import Rows, whole_rows

from .._arrays.adapter import BOOL
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import Placement
from . import call, plans
from .keys import SampleKeys, checked_keys
from .ready import compiles
from .row_arguments import checked_row_lengths, checked_share

_KINDS = ("wav2vec2", "spanbert", "t5")
# As published: the share, and the length of spans.
_PUBLISHED = {"wav2vec2": (0.65, 10), "spanbert": (0.15, 5.0), "t5": (0.15, 3.0)}
_MAX_LENGTH = 10  # of SpanBERT's spans
_MOST_LENGTHS = 1 << 12
_LONGEST_ROW = 1 << 32
_UINT64 = np.dtype(np.uint64)

# Of an array of row lengths: an array of shape (rows, 3), see `fastdrop_kernels.cpu.batch.spans`.
_Plan = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint64]]


@checks_keywords
@compiles("spans")
def mask_spans(
    shape: ShapeLike,
    p: float | None = None,
    *,
    n: int | None = None,
    length: float | None = None,
    kind: str = "wav2vec2",
    min_spacing: int | None = None,
    min_spans: int = 0,
    max_length: int | None = None,
    row_lengths: ArrayLike | None = None,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    like: Any = None,
    **unknown: NoReturn,
) -> Array:
    """Draw a mask of spans along the last axis: **True where kept**, False in spans.

    That is what `dropout_mask` returns, and the complement of what most span code calls its mask:
    for True in spans, write ``~mask_spans(...)``. Each row is drawn by itself, by a published rule.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the mask; rows lie along the last axis.
    p : float, optional
        In [0, 1]. wav2vec 2.0 [1]_: a row of L elements has ``p * L / length`` spans, rounded up or
        down at random; as they overlap, a share of about ``1 - exp(-p)`` is masked. SpanBERT [2]_:
        ``ceil(p * L)`` elements are masked. T5 [3]_: ``round(p * L)`` are, but one at least, and
        one is kept. If neither p nor n is given, p is as published: 0.65, 0.15, 0.15. With p = 0
        nothing is masked.
    n : int, optional
        Instead of p: the number of spans of a row ("wav2vec2").
    length : float, optional
        Length of a span. "wav2vec2": an integer, the length of all. "spanbert": the mean of the
        geometric distribution, before lengths above `max_length` are ruled out (the paper's p =
        0.2 is ``1 / length``). "t5": the mean of a row's spans. By default as published: 10, 5, 3.
    kind : {"wav2vec2", "spanbert", "t5"}
        The rule. "wav2vec2": starts are drawn without replacement from all places where a span
        fits, and spans may overlap. "spanbert": a span's length and its first element, which is not
        masked yet, are drawn until enough elements are masked; the last span is cut there, and
        spans end with the row. "t5": ``round(masked / length)`` spans that do not touch, and as
        many gaps, of which the first is at the row's beginning; all such masks are equally likely.
    min_spacing : int, optional
        The least number of kept elements between two spans ("wav2vec2"). Spans do not overlap
        then, and all arrangements are equally likely. At 0 they may touch. None: they may overlap.
    min_spans : int
        The least number of spans of a row by p ("wav2vec2"), where as many fit.
    max_length : int, optional
        The greatest length of a span ("spanbert"), by default 10.
    row_lengths : array_like of int, of shape ``shape[:-1]``, optional
        How long rows are without their padding, which is never masked. Rows are drawn as rows of
        these lengths.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (samples, 2) and dtype uint64: one for each sample along the first axis,
        as `sample_keys` returns them.
    sample_index : array_like of int, optional
        Numbers of the samples along the first axis, with which the key is folded.
    offset, global_shape
        As in `dropout`, for some of the rows of a larger mask. Not with keys of samples.
    out : ndarray of bool, optional
        Output array of that shape.
    like : array_like, optional
        An array of the library and on the device that the mask is to be of.

    Returns
    -------
    ndarray of bool
        True = kept, False = in a span.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn. Spans that are
        longer than the last axis are an error; rows that are shorter by their `row_lengths` have
        none.

    References
    ----------
    .. [1] A. Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech
       representations", NeurIPS 2020. Its code never starts a span at the last place that fits;
       here, all places are equally likely.
    .. [2] M. Joshi et al., "SpanBERT: improving pre-training by representing and predicting spans",
       TACL 8, 2020.
    .. [3] C. Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
       transformer", JMLR 21, 2020.

    Examples
    --------
    >>> import fastdrop as fd
    >>> kept = fd.mask_spans((1, 40), n=2, length=5, rng=44)
    >>> masked = ~kept
    >>> print("".join(".#"[int(m)] for m in masked[0]))
    ..#####...................#####.........
    """
    if unknown or shape is MISSING:
        raise_argument_error("mask_spans", unknown, shape=shape)
    key = None
    if like is None and row_lengths is None:
        where = (), (out,), rng, sample_index, offset, global_shape
        of_spans = p, n, length, kind, min_spacing, min_spans, max_length
        key = plans.key_of("mask_spans", *where, shape, *of_spans)
        if planned := plans.planned(key, (), (out,), rng, sample_index, offset):
            return planned[0]
    size = arguments.shape(shape)
    if not size:
        raise ValueError("shape=() has no axes: give that of the rows, or (rows, length)")
    if size[-1] >= _LONGEST_ROW:
        raise ValueError(f"shape={size} has rows of {size[-1]} elements: give rows below 2**32")
    rule = arguments.choice("kind", kind, _KINDS)
    least = arguments.whole("min_spans", min_spans, 0)
    _reject_options(
        rule, n=n, min_spacing=min_spacing, min_spans=least or None, max_length=max_length
    )
    plan_of, kernel, numbers, thresholds = _rule(
        rule, p, n, length, min_spacing, least, max_length, size[-1]
    )
    lengths = checked_row_lengths(row_lengths, size[:-1], size[-1], "shape[:-1]", "the last axis")
    arguments.check_like(like)
    name, lies_there = ("out", out) if like is None else ("like", like)
    backend = call.backend_for(lies_there, name)
    samples = size[0] if len(size) > 1 else None
    keys = checked_keys(rng, sample_index, samples, "shape[:-1]")
    place = _placement(size, keys, offset, global_shape)
    near = None if like is None else backend.array(like, "like")

    def rows_of(own: npt.NDArray[np.uint64] | None) -> Rows:
        strides = None if place.strides is None else place.strides[:-1]
        return whole_rows(size[:-1], size[-1], place.first, strides, own)

    with backend.ordered((), out, keys.rng, near if out is None else None):
        made = call.Output(backend, out, size, BOOL)
        if math.prod(size):
            target = made.target
            of_rows = np.array([size[-1]], np.int64) if lengths is None else lengths.ravel()
            of_each = backend.table(plan_of(of_rows), target, lengths is not None)
            table = backend.table(thresholds, target)
            words = call.driver_of(backend, "spans").scratch_words(math.prod(size[:-1]), size[-1])
            both = target, backend.empty((words,), _UINT64)
            what = kernel, of_each, numbers, table
            how = call.run(backend, "spans", "spans", both, rows_of, keys, *what)
            plans.remember(key, how, (), (target,), rng, sample_index)
        return made.finished()


def _placement(
    size: tuple[int, ...], keys: SampleKeys, offset: Any, global_shape: Any
) -> Placement:
    place = call.sample_placement(size, keys, offset, global_shape, "shape")
    if global_shape is not None:
        full = arguments.lengths("global_shape", global_shape)
        if full[-1] != size[-1]:
            raise ValueError(
                f"global_shape={full} has rows of {full[-1]} elements, and shape={size} of "
                f"{size[-1]}: spans are drawn for whole rows, so only other axes can be cut"
            )
    return place


def _reject_options(kind: str, **options: Any) -> None:
    """Raise for an option that another kind has."""
    of = {"n": "wav2vec2", "min_spacing": "wav2vec2", "min_spans": "wav2vec2"}
    for name, value in options.items():
        owner = of.get(name, "spanbert")
        if value is not None and kind != owner:
            raise ValueError(
                f"{name}={detect.short(value)} is for kind={owner!r}, and kind is {kind!r}: leave "
                "it out"
            )


def _rule(
    kind: str,
    p: Any,
    n: Any,
    length: Any,
    min_spacing: Any,
    least: int,
    max_length: Any,
    longest: int,
) -> tuple[_Plan, str, tuple[int, int], npt.NDArray[np.uint32]]:
    """Check the arguments of a rule: how rows are planned, its kernel, numbers and thresholds."""
    published, usual = _PUBLISHED[kind]
    if p is not None and n is not None:
        raise ValueError(
            f"p={detect.short(p)} and n={detect.short(n)} are given: give the share, or the number "
            "of spans"
        )
    share = checked_share("p", published if p is None else p, "the share of a row to mask")
    none = np.empty(0, np.uint32)
    if kind == "wav2vec2":
        long = arguments.whole("length", usual if length is None else length, 1)
        if long > longest:
            raise ValueError(
                f"length={detect.short(long)} is more than the last axis has, {longest}: give "
                "shorter spans"
            )
        spacing = None if min_spacing is None else arguments.whole("min_spacing", min_spacing, 0)
        number = None if n is None else arguments.whole("n", n, 0)
        if number is not None and least:
            raise ValueError(
                f"n={detect.short(n)} and min_spans={least!r} are given: leave out min_spans"
            )
        # More than a row's elements are as good as that many.
        apart = None if spacing is None else min(spacing, longest)
        plan = functools.partial(_counts, share, number, long, apart, least)
        return plan, "overlapping" if apart is None else "spaced", (long, apart or 0), none
    mean = arguments.real("length", usual if length is None else length)
    if mean < 1:
        raise ValueError(f"length={length!r} is below 1: give the mean length of spans")
    if kind == "t5":
        return functools.partial(_segments, share, mean), "t5", (0, 0), none
    most = arguments.whole("max_length", _MAX_LENGTH if max_length is None else max_length, 1)
    if most > _MOST_LENGTHS:
        raise ValueError(
            f"max_length={detect.short(most)} is above {_MOST_LENGTHS}: give a smaller one"
        )
    return functools.partial(_budgets, share), "spanbert", (0, 0), geometric_thresholds(mean, most)


def _counts(
    share: float,
    number: int | None,
    length: int,
    spacing: int | None,
    least: int,
    lengths: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint64]:
    """Return the plans of spans of one length: number of spans, and the chance of one more."""
    if spacing is None:
        fit = np.maximum(lengths - length + 1, 0)
    else:
        fit = np.where(lengths >= length, (lengths + spacing) // (length + spacing), 0)
    if number is None:
        expected = share * lengths / length
        whole = np.floor(expected)
        rounding = np.rint((expected - whole) * contract.ALWAYS).astype(np.int64)
        count = whole.astype(np.int64) + rounding // contract.ALWAYS
        rounding %= contract.ALWAYS
    else:
        count = np.full(lengths.shape, min(number, _LONGEST_ROW), np.int64)
        rounding = np.zeros(lengths.shape, np.int64)
    if not share and number is None:
        least = 0
    rounding[count < least] = 0
    count = np.maximum(count, min(least, _LONGEST_ROW))
    rounding[count >= fit] = 0
    return _plans(lengths, np.minimum(count, fit), rounding)


def _budgets(share: float, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the plans of SpanBERT: number of elements to mask."""
    budget = np.minimum(np.ceil(share * lengths).astype(np.int64), lengths)
    return _plans(lengths, budget, np.zeros_like(budget))


def _segments(share: float, mean: float, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the plans of T5: numbers of elements to mask, and of spans."""
    wanted = np.rint(share * lengths).astype(np.int64)
    masked = np.minimum(np.maximum(wanted, 1), lengths - 1)
    if not share:
        masked[...] = 0
    masked = np.maximum(masked, 0)  # rows of no element
    spans = np.maximum(np.rint(masked / mean).astype(np.int64), 1)
    return _plans(lengths, masked, np.minimum(spans, np.minimum(masked, lengths - masked)))


def _plans(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(np.stack(columns, axis=-1).astype(np.uint64))


@functools.lru_cache(maxsize=64)
def geometric_thresholds(mean: float, most: int) -> npt.NDArray[np.uint32]:
    """Return ``round_half_even(P(length <= k) * 2**32)`` for k below `most`, and below 2**32.

    The distribution is geometric, of a mean, if lengths above `most` are ruled out.
    """
    import decimal  # not at import, which it would slow down

    with decimal.localcontext() as context:
        context.prec = 60
        longer = 1 - 1 / decimal.Decimal(mean)  # P(length > 1), without a greatest length
        whole, power, found = 1 - longer**most if longer else decimal.Decimal(1), longer, []
        for _ in range(1, most):
            at_most = (1 - power) / whole * contract.ALWAYS
            threshold = int(at_most.to_integral_value(decimal.ROUND_HALF_EVEN))
            if threshold >= contract.ALWAYS:
                break
            found.append(threshold)
            power *= longer
    thresholds = np.array(found, np.uint32)
    thresholds.flags.writeable = False
    return thresholds
