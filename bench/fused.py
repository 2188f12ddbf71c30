"""More of the family: what is told more than x and p, or does more than to drop.

What else there is of an array (a bias, a residual, a gradient) is made from its shape, alike for
all who ask.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .check import SIGMAS
from .common import MI, Array, P
from .contender import Call, load
from .members import (
    ALL,
    CHANNELS,
    MULTIPLE,
    USUAL,
    Check,
    Goal,
    Member,
    Shape,
    Way,
    flat,
    lost_or_is,
    share,
)
from .ours import key

FEATURES, KEYS = 1024, 512  # the lengths of rows
REFRESH = 32  # calls


def _features(n: int) -> Shape:
    return n // FEATURES, FEATURES


def _rows(n: int) -> Shape:
    return n // KEYS, KEYS


def _channels(n: int) -> Shape:
    return n // MULTIPLE, CHANNELS, MULTIPLE // CHANNELS


@functools.lru_cache(maxsize=4)  # those of one member
def _given(name: str, shape: Shape) -> Array:
    """Return an array of that name: normal numbers without zeros."""
    rng = np.random.default_rng([*name.encode(), *shape])
    values: Array = rng.standard_normal(shape, np.float32)
    values[values == 0] = 1
    return values


def _bias(x: Any) -> Array:
    return _given("bias", tuple(x.shape[-1:]))


def _residual(x: Any) -> Array:
    return _given("residual", tuple(x.shape))


def _gradient(x: Any) -> Array:
    return _given("gradient", tuple(x.shape))


def _kept(p: float) -> Any:
    return np.float32(1 - p)


# p of each channel or element: P on average, from half of it to half more.


def _channel_rates(x: Any) -> Array:
    return np.linspace(P / 2, 3 * P / 2, x.shape[1], dtype=np.float32)[:, None]


@functools.lru_cache(maxsize=1)
def _rates_of(shape: Shape) -> Array:
    rates: Array = P * (np.float32(0.5) + np.random.default_rng(0).random(shape, np.float32))
    return rates


def _element_rates(x: Any) -> Array:
    return _rates_of(tuple(x.shape))


def _ours_each(rates: Callable[[Any], Array]) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        call, rng, each = load("fastdrop").dropout, key(), rates(x)
        return lambda: call(x, each, rng=rng, out=out)

    return way


def _usual_each(rates: Callable[[Any], Array]) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        random, q = np.random.default_rng().random, 1 - rates(x)
        return lambda: x * ((random(x.shape, np.float32) < q) / q)

    return way


def _torch_each(rates: Callable[[Any], Array]) -> Way:
    def way(x: Any, p: float, out: Array) -> Call:
        torch = load("torch")
        q = torch.from_numpy(1 - rates(x))
        return lambda: x * ((torch.rand_like(x) < q) / q)

    return way


def _is_each(rates: Callable[[Any], Array]) -> Check:
    """Elements are lost at their own rates: those of low ones, and those of high ones."""

    def check(x: Array, y: Array, p: float) -> str:
        lost, each = y == 0, np.broadcast_to(rates(x), x.shape)
        for part in (each < p, each >= p):
            likely = each[part].astype(np.float64)
            off = float(np.count_nonzero(lost[part]) - likely.sum())
            if not abs(off) < SIGMAS * math.sqrt((likely * (1 - likely)).sum()):
                return f"{off:+.0f} elements too many of {likely.size} are lost"
        return lost_or_is(y, lost, x / (1 - each))

    return check


def _relu(t: Array) -> Array:
    result: Array = np.maximum(t, np.float32(0))
    return result


def _gelu_tanh(t: Array) -> Array:
    # t**3, as it is often written, takes NumPy longer.
    result: Array = 0.5 * t * (1 + np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t * t * t)))
    return result


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": _relu, "gelu_tanh": _gelu_tanh}


def _torch_activation(act: str) -> Callable[[Any], Any]:
    functional = load("torch").nn.functional
    if act == "relu":
        return lambda t: functional.relu(t)
    return lambda t: functional.gelu(t, approximate="tanh")


def _ours_epilogue(act: str) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        call, rng = load("fastdrop").bias_act_dropout_add, key()
        bias, residual = _bias(x), _residual(x)
        return lambda: call(x, bias, act, p, rng=rng, residual=residual, out=out)

    return way


def _usual_epilogue(act: str) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        random, q, function = np.random.default_rng().random, _kept(p), _ACTIVATIONS[act]
        bias, residual = _bias(x), _residual(x)
        return lambda: function(x + bias) * ((random(x.shape, np.float32) < q) / q) + residual

    return way


def _torch_epilogue(act: str) -> Way:
    def way(x: Any, p: float, out: Array) -> Call:
        torch, function = load("torch"), _torch_activation(act)
        bias, residual = torch.from_numpy(_bias(x)), torch.from_numpy(_residual(x))
        drop = torch.nn.functional.dropout
        return lambda: drop(function(x + bias), p) + residual

    return way


def _is_epilogue(act: str) -> Check:
    def check(x: Array, y: Array, p: float) -> str:
        kept, residual = _ACTIVATIONS[act](x + _bias(x)) / _kept(p), _residual(x)
        lost, clear = y == residual, np.abs(kept) > 1e-3
        return lost_or_is(y, lost, kept + residual) or share(lost[clear], p, ())

    return check


def _ours_epilogue_backward(x: Array, p: float, out: Array) -> Call:
    call, rng = load("fastdrop").bias_act_dropout_add_backward, key()
    dy, bias = _gradient(x), _bias(x)
    return lambda: call(dy, x, bias, "relu", p, rng=rng, out=out)[:2]


def _usual_epilogue_backward(x: Array, p: float, out: Array) -> Call:
    """Take the scaled mask and ``x + bias`` from a forward that kept them."""
    q, dy, t = _kept(p), _gradient(x), x + _bias(x)
    mask = (np.random.default_rng().random(x.shape, np.float32) < q) / q

    def call() -> Any:
        dx = dy * mask * (t > 0)
        return dx, dx.sum(axis=0)

    return call


def _torch_epilogue_backward(x: Any, p: float, out: Array) -> Call:
    torch, leaf = load("torch"), x.detach().requires_grad_()
    bias = torch.from_numpy(_bias(x)).requires_grad_()
    y = torch.nn.functional.dropout(torch.relu(leaf + bias), p)
    return _torch_gradients(y, (leaf, bias), torch.from_numpy(_gradient(x)))


def _torch_gradients(y: Any, inputs: tuple[Any, ...], dy: Any) -> Call:
    gradients = load("torch").autograd.grad
    return lambda: gradients(y, inputs, dy, retain_graph=True)


def _is_epilogue_backward(x: Array, y: Array, p: float) -> str:
    lost, live = y == 0, x + _bias(x) > 0
    return lost_or_is(y, lost, _gradient(x) * live / _kept(p)) or share(lost[live], p, ())


def _softmax(x: Array) -> Array:
    e: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def _ours_softmax(x: Array, p: float, out: Array) -> Call:
    call, rng = load("fastdrop").softmax_dropout, key()
    return lambda: call(x, p, rng=rng, out=out)


def _usual_softmax(x: Array, p: float, out: Array) -> Call:
    random, q = np.random.default_rng().random, _kept(p)
    return lambda: _softmax(x) * ((random(x.shape, np.float32) < q) / q)


def _torch_softmax(x: Any, p: float, out: Array) -> Call:
    functional = load("torch").nn.functional
    return lambda: functional.dropout(functional.softmax(x, dim=-1), p)


def _is_softmax(x: Array, y: Array, p: float) -> str:
    lost = y == 0  # times the length of a row, probabilities are 1 on average
    return lost_or_is(y * KEYS, lost, _softmax(x) * KEYS / _kept(p)) or share(lost, p, ())


def _ours_softmax_backward(x: Array, p: float, out: Array) -> Call:
    call, rng, dy = load("fastdrop").softmax_dropout_backward, key(), _gradient(x)
    return lambda: call(dy, x, p, rng=rng, out=out)


def _usual_softmax_backward(x: Array, p: float, out: Array) -> Call:
    """Take the softmax and the scaled mask from a forward that kept them."""
    q, dy, s = _kept(p), _gradient(x), _softmax(x)
    mask = (np.random.default_rng().random(x.shape, np.float32) < q) / q

    def call() -> Any:
        g = dy * mask
        return s * (g - (g * s).sum(axis=-1, keepdims=True))

    return call


def _torch_softmax_backward(x: Any, p: float, out: Array) -> Call:
    torch, leaf = load("torch"), x.detach().requires_grad_()
    y = _torch_softmax(leaf, p, out)()
    return _torch_gradients(y, (leaf,), torch.from_numpy(_gradient(x)))


def _is_softmax_backward(x: Array, y: Array, p: float) -> str:
    """Find what was lost: of a row all but that tell the same sum, ``g - y / s``."""
    s, g = _softmax(x), _gradient(x) / _kept(p)
    of_lost = -y / s
    total = np.median(g + of_lost, axis=-1, keepdims=True)
    lost = np.abs(of_lost - total) < np.abs(g + of_lost - total)
    g = np.where(lost, np.float32(0), g)
    right = s * (g - (g * s).sum(axis=-1, keepdims=True))
    return lost_or_is(y * KEYS, np.zeros_like(lost), right * KEYS) or share(lost, p, ())


def _in_place(drop: Callable[[Array, float], Callable[[Array], object]]) -> Way:
    """Drop of probabilities where they lie, and bring them back every few calls.

    What is kept is scaled by every call, and would become inf; to bring back costs little then.
    """

    def way(x: Any, p: float, out: Array) -> Call:
        source = _softmax(np.asarray(x))
        work, calls, dropped = source.copy(), itertools.count(), drop(source, p)

        def call() -> Any:
            if next(calls) % REFRESH == 0:
                np.copyto(work, source)
            dropped(work)
            return work

        return call

    return way


def _ours_attention(source: Array, p: float) -> Callable[[Array], object]:
    call, rng = load("fastdrop").dropout, key()
    return lambda work: call(work, p, rng=rng, out=work)


def _usual_attention(source: Array, p: float) -> Callable[[Array], object]:
    random, q = np.random.default_rng().random, _kept(p)

    def call(work: Array) -> None:
        work *= (random(work.shape, np.float32) < q) / q

    return call


def _torch_attention(source: Array, p: float) -> Callable[[Array], object]:
    torch = load("torch")
    drop = torch.nn.functional.dropout
    return lambda work: drop(torch.from_numpy(work), p, inplace=True)


MEMBERS = (
    *(
        Member(
            f"p of each {what}",
            shape,
            _ours_each(rates),
            _usual_each(rates),
            _is_each(rates),
            _torch_each(rates),
        )
        for what, shape, rates in (
            ("channel", _channels, _channel_rates),
            ("element", flat, _element_rates),
        )
    ),
    *(
        Member(
            f"bias_act_dropout_add {act}",
            _features,
            _ours_epilogue(act),
            _usual_epilogue(act),
            _is_epilogue(act),
            _torch_epilogue(act),
            Goal(3.0, ALL, USUAL, (MI, 64 * MI)),
        )
        for act in _ACTIVATIONS
    ),
    Member(
        "bias_act_dropout_add relu backward",
        _features,
        _ours_epilogue_backward,
        _usual_epilogue_backward,
        _is_epilogue_backward,
        _torch_epilogue_backward,
    ),
    Member("softmax_dropout", _rows, _ours_softmax, _usual_softmax, _is_softmax, _torch_softmax),
    Member(
        "softmax_dropout backward",
        _rows,
        _ours_softmax_backward,
        _usual_softmax_backward,
        _is_softmax_backward,
        _torch_softmax_backward,
    ),
    Member(
        "attention dropout in place",
        _rows,
        _in_place(_ours_attention),
        _in_place(_usual_attention),
        _is_softmax,
        _in_place(_torch_attention),
    ),
)
