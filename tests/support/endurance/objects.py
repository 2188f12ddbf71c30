"""Cases of what has state, of keys, and of arrays in blocks; layers are also shared by threads."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import normals, oracle, softmax
from tests.support.oracle import Array, mask

from .draws import Draw


def layer(d: Draw) -> None:
    """A layer's forwards, and their backwards in reverse order."""
    shape, dtype, key, p = d.shape(2, 4), d.dtype(), d.key(), d.p()
    kind = d.note("layer", d.one_of(tuple(_LAYERS)))
    made, forward, backward = _LAYERS[kind](p, key, shape)
    steps = int(d.r.integers(1, 4))
    for step in range(steps):
        x = d.array(shape, dtype)
        d.compare(d.call(made, x), forward(np.array(x, order="C"), key.advanced(step)))
    state = made.state_dict()
    assert state["forwards"] == steps if "forwards" in state else made.forwards == steps
    for step in reversed(range(steps)):
        dy = d.array(shape, dtype)
        d.compare(d.call(made.backward, dy), backward(np.array(dy, order="C"), key.advanced(step)))
    x = d.array(shape, dtype)
    y, its = d.call(made.vjp, x)
    d.compare(y, forward(np.array(x, order="C"), key.advanced(steps)))
    dy = d.array(shape, dtype)
    d.compare(d.call(its, dy), backward(np.array(dy, order="C"), key.advanced(steps)))
    made.eval()
    assert made(x) is x


_Way = Callable[[Array, fd.Key], Array]
_Layer = tuple[Any, _Way, _Way]


def _dropout(p: float, key: fd.Key, shape: tuple[int, ...], **named: Any) -> _Layer:
    def way(x: Array, key: fd.Key) -> Array:
        return oracle.dropped(x, p, key, **named)

    return fd.Dropout(p, rng=key, **named), way, way


def _features(p: float, key: fd.Key, shape: tuple[int, ...]) -> _Layer:
    noise = (*shape[:2], *[1] * (len(shape) - 2))

    def way(x: Array, key: fd.Key) -> Array:
        return oracle.dropped(x, p, key, noise_shape=noise)

    return fd.FeatureDropout(p, rng=key), way, way


def _path(p: float, key: fd.Key, shape: tuple[int, ...]) -> _Layer:
    noise = (shape[0], *[1] * (len(shape) - 1))

    def way(x: Array, key: fd.Key) -> Array:
        return oracle.dropped(x, p, key, noise_shape=noise)

    return fd.DropPath(p, rng=key), way, way


def _alpha(p: float, key: fd.Key, shape: tuple[int, ...]) -> _Layer:
    a, b, c = oracle.alpha_numbers(p)

    def forward(x: Array, key: fd.Key) -> Array:
        return oracle.affine(mask(x.shape, p, key), x, a, b, c)

    def backward(dy: Array, key: fd.Key) -> Array:
        return oracle.affine(mask(dy.shape, p, key), dy, a, -0.0, 0.0)

    return fd.AlphaDropout(p, rng=key), forward, backward


def _noise(p: float, key: fd.Key, shape: tuple[int, ...]) -> _Layer:
    def forward(x: Array, key: fd.Key) -> Array:
        return normals.expected("plus", x, p, key)

    def backward(dy: Array, key: fd.Key) -> Array:
        return dy

    return fd.GaussianNoise(p, rng=key), forward, backward


_LAYERS: dict[str, Callable[[float, fd.Key, tuple[int, ...]], _Layer]] = {
    "Dropout": _dropout,
    "Dropout of rows": lambda p, key, shape: _dropout(
        p, key, shape, noise_shape=(shape[0], *[1] * (len(shape) - 1))
    ),
    "FeatureDropout": _features,
    "DropPath": _path,
    "AlphaDropout": _alpha,
    "GaussianNoise": _noise,
}

SHARED = fd.Dropout(0.3, rng=fd.Key(99, 2**64 - 5000))  # by all threads
_FACTOR = contract.scale(0.3)


def shared_layer(d: Draw) -> None:
    """A layer that all threads call: each backward is of its own forward."""
    shape, dtype = d.shape(1, 3), d.dtype()
    xs = [d.array(shape, dtype) for _ in range(2)]
    one = np.ones(shape, dtype)
    if d.chance(0.5):
        ways = [d.call(SHARED.vjp, x) for x in xs]
        pairs = [(x, y, d.call(back, one)) for x, (y, back) in zip(xs, ways, strict=True)]
    else:
        ys = [d.call(SHARED, x) for x in xs]
        back = [d.call(SHARED.backward, one) for _ in ys][::-1]
        pairs = list(zip(xs, ys, back, strict=True))
    for x, y, dx in pairs:
        kept = np.array(dx, order="C") != 0
        d.compare(y, oracle.applied(kept, np.array(x, order="C"), _FACTOR))
        if kept.size > 20_000:
            assert abs(kept.mean() - 0.7) < 0.05


def softmax_layer(d: Draw) -> None:
    """`SoftmaxDropout`, which keeps its input."""
    shape, dtype, key, p = (3, int(d.r.integers(1, 300))), d.dtype(), d.key(), d.p()
    made = fd.SoftmaxDropout(p, rng=key)
    x, dy = (softmax.numbers(shape, dtype, d.r) for _ in range(2))
    given = d.laid(x)
    d.compare(d.call(made, given), softmax.exact_forward(x, p, key))
    d.compare(d.call(made.backward, d.laid(dy)), softmax.exact_backward(dy, x, p, key))


def rnn_layer(d: Draw) -> None:
    """`RNNDropout` over a few steps, forward and backward."""
    key, p, locked = d.key(), (d.p(), d.p(), d.p()), d.chance(0.5)
    rnn = fd.RNNDropout(*p, rng=key, variational=locked)
    rnn.begin()
    x = d.values((int(d.r.integers(1, 9)), int(d.r.integers(1, 90))), d.dtype())
    for t in d.r.permutation(3).tolist():
        for part, name in enumerate(("input", "output", "state")):
            own = key.fold_in(part) if locked else key.fold_in(part).advanced(t)
            expected = oracle.dropped(x, p[part], own)
            d.compare(d.call(getattr(rnn, name), x, t), expected)
            d.compare(d.call(getattr(rnn, name + "_backward"), x, t), expected)


def keys(d: Draw) -> None:
    """Keys: folding, advancing, what they are made of, and back from JSON and pickle."""
    key, n = d.key(), int(d.r.integers(0, 2**62))
    seed, stream = contract.fold_in(np.uint64(key.seed), np.uint64(key.stream), np.uint64(n))
    folded = key.fold_in(n)
    assert (folded.seed, folded.stream) == (int(seed), int(stream))
    assert key.advanced(n) == fd.Key(key.seed, (key.stream + n) % 2**64)
    assert fd.Key(*json.loads(json.dumps(key))) == key == pickle.loads(pickle.dumps(key))
    numbers = d.r.integers(0, 2**62, int(d.r.integers(0, 50)))
    made = [tuple(map(int, row)) for row in d.call(fd.sample_keys, key, numbers)]
    assert made == [tuple(key.fold_in(int(i))) for i in numbers]
    assert fd.as_key(key) is key or fd.as_key(key) == key
    assert fd.as_key(key.seed) == fd.Key(key.seed)
    d.elements += len(made)


def blocks(d: Draw) -> None:
    """`apply_blocks`, in place and into another array, from a block on."""
    shape, dtype, key, p = d.shape(1, 3, 40_000), d.dtype(), d.key(), d.p()
    x = d.values(shape, dtype)
    expected = oracle.dropped(x, p, key)
    limit = max(64, x.nbytes // int(d.r.integers(1, 9)))
    target = x.copy() if d.chance(0.5) else oracle.poisoned(shape, dtype)
    source = target if d.chance(0.3) and target[...].tobytes() == x.tobytes() else x
    d.call(fd.apply_blocks, fd.dropout, source, target, p, rng=key, block_bytes=limit)
    d.compare(target, expected)


CASES = {
    "layers": (layer, 5),
    "shared layer": (shared_layer, 2),
    "SoftmaxDropout": (softmax_layer, 1),
    "RNNDropout": (rnn_layer, 1),
    "Key": (keys, 2),
    "apply_blocks": (blocks, 1),
}
