"""Other ways to call fastdrop, each beside the plain call of the same size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .common import Array, fresh_output, placed
from .contender import Call, Contender, Expected, load
from .contenders import BY_NAME
from .ours import STREAM, STREAM_WITHOUT_TIES, draw, key, scaled

Shape = tuple[int, ...]
# Channels, and neighbours that share a decision: short runs.
CHANNELS, SHARED = 64, 16
LONG = 4096  # neighbours in a long run, of which sizes are multiples
OFFSET = 12_345  # no multiple of any block or tile
VALUE = 103


@dataclass(frozen=True)
class Form:
    """How a variant of `fastdrop.dropout` is called.

    Attributes
    ----------
    shape : callable
        The array's shape, for a number of elements.
    keep : callable
        ``keep(shape, p)`` is the mask expected, True = kept, broadcastable to the shape. It is cut
        from whole masks in C order, and so does not repeat what fastdrop is asked for.
    arguments : callable
        ``arguments(shape)`` are the call's further arguments.
    order : {"C", "F"}
        The memory layout.
    in_place : bool
        Whether the output is the input.
    stream : int
        Of the key.
    """

    shape: Callable[[int], Shape] = lambda n: (n,)
    keep: Callable[[Shape, float], Array] = draw
    arguments: Callable[[Shape], dict[str, Any]] = lambda shape: {}
    order: Any = "C"
    in_place: bool = False
    stream: int = STREAM

    def setup(self, x: Array, p: float, out: Array) -> Call:
        """Lay the input out and return the call."""
        shape = self.shape(x.size)
        source = placed(x.reshape(shape), self.order)  # a copy: it may be overwritten
        target = source if self.in_place else fresh_output(source)
        arguments = self.arguments(shape)
        dropout, rng = load("fastdrop").dropout, key(self.stream)
        return lambda: dropout(source, p, rng=rng, out=target, **arguments)

    def exact(self, x: Array, p: float) -> Expected:
        """Yield the result expected."""
        shape = self.shape(x.size)
        product = scaled(x, p).reshape(shape)
        yield "the mask cut from the whole", np.where(self.keep(shape, p), product, x.dtype.type(0))


def _square(n: int) -> Shape:
    rows = 1 << (n.bit_length() // 2)
    while n % rows:
        rows //= 2
    return rows, n // rows


def _channels(n: int) -> Shape:
    return n // (CHANNELS * SHARED), SHARED, CHANNELS


def _planes(n: int) -> Shape:
    return n // (CHANNELS * SHARED), CHANNELS, SHARED


def _long_rows(n: int) -> Shape:
    return n // LONG, LONG


def _long_planes(n: int) -> Shape:
    planes = math.gcd(n // LONG, SHARED)
    return n // (LONG * planes), planes, LONG


def _shared_rows(shape: Shape) -> Shape:
    return shape[0], 1, shape[2]


def _shared_planes(shape: Shape) -> Shape:
    return shape[0], shape[1], 1


def _shard_of_rows(shape: Shape) -> dict[str, Any]:
    rows, columns = shape
    return {"offset": (3, 0), "global_shape": (rows + 3, columns)}


def _shard_of_columns(shape: Shape) -> dict[str, Any]:
    rows, columns = shape
    return {"offset": (0, 3), "global_shape": (rows, columns + 3)}


FORMS = {
    "no tie up to 64 Ki": Form(
        keep=lambda shape, p: draw(shape, p, STREAM_WITHOUT_TIES), stream=STREAM_WITHOUT_TIES
    ),
    "in place": Form(in_place=True),
    "Fortran order": Form(_square, order="F"),
    "noise_shape (N, 1, C)": Form(
        _channels,
        lambda shape, p: draw(_shared_rows(shape), p),
        lambda shape: {"noise_shape": _shared_rows(shape)},
    ),
    "noise_shape (N, C, 1)": Form(
        _planes,
        lambda shape, p: draw(_shared_planes(shape), p),
        lambda shape: {"noise_shape": _shared_planes(shape)},
    ),
    "long noise_shape (N, 1, C)": Form(
        _long_planes,
        lambda shape, p: draw(_shared_rows(shape), p),
        lambda shape: {"noise_shape": _shared_rows(shape)},
    ),
    "long noise_shape (N, C, 1)": Form(
        _long_planes,
        lambda shape, p: draw(_shared_planes(shape), p),
        lambda shape: {"noise_shape": _shared_planes(shape)},
    ),
    "long noise_shape (1, C, 1)": Form(
        _long_planes,
        lambda shape, p: draw((1, shape[1], 1), p),
        lambda shape: {"noise_shape": (1, shape[1], 1)},
    ),
    "long shard of columns": Form(
        _long_rows,
        lambda shape, p: draw((shape[0], shape[1] + 3), p)[:, 3:],
        _shard_of_columns,
    ),
    "offset": Form(
        keep=lambda shape, p: draw((shape[0] + OFFSET,), p)[OFFSET:],
        arguments=lambda shape: {"offset": OFFSET},
    ),
    "shard of rows": Form(
        _square,
        lambda shape, p: draw((shape[0] + 3, shape[1]), p)[3:],
        _shard_of_rows,
    ),
    "shard of columns": Form(
        _square,
        lambda shape, p: draw((shape[0], shape[1] + 3), p)[:, 3:],
        _shard_of_columns,
    ),
}
# 0.125 is a threshold whose low 16 bits are 0: no tie would need further bits.
RATES = {"p = 0.5": 0.5, "p = 0.125": 0.125}


def _mask(x: Array, p: float, out: Array) -> Call:
    target, mask, rng = placed(np.ones(x.shape, np.bool_)), load("fastdrop").dropout_mask, key()
    return lambda: mask(x.shape, p, rng=rng, out=target)


def _exact_mask(x: Array, p: float) -> Expected:
    yield "the mask", draw(x.shape, p)


def _packed(x: Array, p: float, out: Array) -> Call:
    target = placed(np.ones((x.size + 7) // 8, np.uint8))
    mask, rng = load("fastdrop").dropout_mask, key()
    return lambda: mask(x.shape, p, rng=rng, packed=True, out=target)


def _exact_packed(x: Array, p: float) -> Expected:
    yield "the mask packed by NumPy", np.packbits(draw(x.shape, p), bitorder="little")


def _fill(x: Array, p: float, out: Array) -> Call:
    source = placed(np.arange(x.size, dtype=np.int32))
    target, fill, rng = fresh_output(source), load("fastdrop").masked_fill, key()
    return lambda: fill(source, p, VALUE, rng=rng, out=target)


def _exact_fill(x: Array, p: float) -> Expected:
    source = np.arange(x.size, dtype=np.int32)
    yield "numpy.where", np.where(draw(x.shape, p), source, np.int32(VALUE))


OTHERS = {
    "dropout_mask": (_mask, _exact_mask),
    "dropout_mask, packed": (_packed, _exact_packed),
    "masked_fill int32": (_fill, _exact_fill),
}


def variants_of(plain: Contender) -> tuple[Contender, ...]:
    """Return a contender and its variants."""
    made = [replace(plain, variant=name, p=p) for name, p in RATES.items()]
    made += [
        replace(plain, variant=name, setup=form.setup, exact=form.exact, kind="exact")
        for name, form in FORMS.items()
    ]
    made += [
        replace(plain, variant=name, setup=setup, exact=exact, kind="exact")
        for name, (setup, exact) in OTHERS.items()
    ]
    return plain, *made


def variants() -> tuple[Contender, ...]:
    """Return every variant, on one thread and on all."""
    return *variants_of(BY_NAME["fastdrop-1"]), *variants_of(BY_NAME["fastdrop"])
