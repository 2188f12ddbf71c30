"""Small calls: the dropout of a step, and what is made beside it: keys, layers, masks, shards.

Most hidden layers have 10 to 2,000 elements, where what a call costs is Python's part of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from .check import Wrong
from .common import KI, Array
from .contender import Call, Contender, Step, Steps, load
from .ours import exact, key

SIZES = (10, 32, 64, 256, KI, 2 * KI, 4 * KI)
PARTS_SHAPE = (32, 64)  # what noise shapes and shards are taken of
PARTS_ELEMENTS = 2 * KI
FAR = 1 << 20  # shards begin in as many rows


def masked(x: Array, p: float, out: Array) -> Call:
    """Multiply by a mask that is there."""
    mask = load("fastdrop").Mask(x.shape, p, rng=key())
    return lambda: x * mask


def layer_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Go forward and backward through a layer."""
    layer = load("fastdrop").Dropout(p, rng=key())
    return Step(lambda: (layer(x), None), lambda _: layer.backward(dy))


def mask_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Keep a mask for the backward pass, as the idioms do: another one for each step."""
    make, rng = load("fastdrop").Mask, np.random.default_rng()

    def forward() -> tuple[Array, Any]:
        mask = make(x.shape, p, rng=rng)
        return x * mask, mask

    return Step(forward, lambda mask: dy * mask)


def ours(name: str, label: str, steps: Steps) -> Contender:
    """Return a contender of which the step is timed; alone, it makes that step's forward call."""

    def setup(x: Array, p: float, out: Array) -> Call:
        step = steps(x, -x, p, out, out)
        return lambda: step.forward()[0]

    return Contender(f"fastdrop-{name}", label, "ours", setup, "fastdrop", steps=steps)


# What is made beside a call. Setups check what they time, for most of it is no dropout of x.


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise Wrong(f"{what}: {found!r} instead of {expected!r}")


def _folded(x: Array, p: float, out: Array) -> Call:
    fold_in, ahead = key().fold_in, itertools.count().__next__
    contract = load("fastdrop_kernels.contract")
    words = contract.fold_in(*map(np.uint64, (*key(), 7)))
    _same(tuple(fold_in(7)), tuple(map(int, words)), "fold_in")
    return lambda: fold_in(ahead())


def _entropy(x: Array, p: float, out: Array) -> Call:
    as_key = load("fastdrop").as_key
    _same(as_key() == as_key(), False, "as_key() twice the same")
    return lambda: as_key()


def _new_layer(x: Array, p: float, out: Array) -> Call:
    library, rng = load("fastdrop"), key()
    make = library.Dropout
    if not np.array_equal(make(0.5, rng=rng)(x), library.dropout(x, 0.5, rng=rng)):
        raise Wrong("a new layer's first forward is not that of its key")
    return lambda: make(0.5, rng=rng)


def _new_mask(x: Array, p: float, out: Array) -> Call:
    make, random = load("fastdrop").Mask, np.random
    mask = make(x.shape, 0.5, rng=random)
    _same(np.array_equal(np.asarray(mask), np.asarray(mask)), True, "a mask twice")
    _same(mask == make(x.shape, 0.5, rng=random), False, "a new mask is the last one")
    return lambda: make(x.shape, 0.5, rng=random)


def _noise(kind: Callable[[tuple[int, ...]], Any]) -> Callable[[Array, float, Array], Call]:
    def setup(x: Array, p: float, out: Array) -> Call:
        dropout, rng = load("fastdrop").dropout, key()
        rows, shape = x.reshape(-1, PARTS_SHAPE[1]), (x.size // PARTS_SHAPE[1], 1)
        given = kind(shape)
        kept = load("fastdrop").dropout_mask(shape, p, rng=rng)
        if not np.array_equal(
            dropout(rows, p, rng=rng, noise_shape=given) != 0, kept & (rows != 0)
        ):
            raise Wrong(f"noise_shape={given!r} drops other rows than its mask")
        return lambda: dropout(rows, p, rng=rng, noise_shape=given)

    return setup


def _sliced(ours: bool) -> Callable[[Array, float, Array], Call]:
    """Take the rows of one step of time, ``x[:, t]``, as recurrent networks do: 64 x 8 of them."""

    def setup(x: Array, p: float, out: Array) -> Call:
        part = x.reshape(64, -1, 8)[:, 1]
        if not ours:
            q = 1 - p
            return lambda: part * ((np.random.rand(*part.shape) < q) / q)  # noqa: NPY002
        library = load("fastdrop")
        layer = library.Dropout(p, rng=key())
        if not np.array_equal(layer(part), library.dropout(part.copy(), p, rng=key())):
            raise Wrong("a layer drops other elements of a slice than of its copy")
        return lambda: layer(part)

    return setup


def _shard(step: int) -> Callable[[Array, float, Array], Call]:
    """Call with a shard of a large mask that begins `step` rows further on at each call."""

    def setup(x: Array, p: float, out: Array) -> Call:
        library, rng = load("fastdrop"), key()
        rows = x.reshape(-1, PARTS_SHAPE[1])
        whole = (FAR + len(rows), PARTS_SHAPE[1])
        starts = itertools.cycle(range(0, FAR, step)) if step else itertools.repeat(0)
        begin, dropout = starts.__next__, library.dropout
        mask = library.dropout_mask((len(rows) + 5, PARTS_SHAPE[1]), p, rng=rng)[5:]
        part = dropout(rows, p, rng=rng, offset=(5, 0), global_shape=whole)
        if not np.array_equal(part != 0, mask & (rows != 0)):
            raise Wrong("a shard is not that part of the whole mask")
        return lambda: dropout(rows, p, rng=rng, offset=(begin(), 0), global_shape=whole)

    return setup


def _part(name: str, label: str, setup: Callable[[Array, float, Array], Call]) -> Contender:
    return Contender(name, label, "ours", setup, "fastdrop", kind="made")


PARTS = (
    _part("fold_in", "key.fold_in(n)", _folded),
    _part("as_key", "fd.as_key()", _entropy),
    _part("new-layer", "fd.Dropout(0.5, rng=key)", _new_layer),
    _part("new-mask", "fd.Mask(shape, 0.5, rng=np.random)", _new_mask),
    _part("noise-tuple", "noise_shape=(32, 1)", _noise(tuple)),
    _part("noise-list", "noise_shape=[32, 1]", _noise(list)),
    _part("noise-array", "noise_shape=np.array([32, 1])", _noise(np.array)),
    _part("slice-idiom", "the idiom of x[:, t], 64 x 8", _sliced(ours=False)),
    _part("slice", "a layer's forward of x[:, t], 64 x 8", _sliced(ours=True)),
    _part("shard", "a shard, the same at each call", _shard(0)),
    _part("shard-moving", "a shard, another at each call", _shard(1)),
)
MASK = Contender(
    "fastdrop-mask", "fastdrop, new array, x * fd.Mask", "ours", masked, "fastdrop", exact=exact
)
STEPS = (
    ours("layer-step", "fastdrop, a layer", layer_steps),
    ours("mask-step", "fastdrop, a new fd.Mask, y = x * mask, dx = dy * mask", mask_steps),
)


def other_work() -> Callable[[], object]:
    """Return what a network does between two calls of dropout, about a millisecond of it.

    It puts other code and other data into the caches that a call made again and again would have
    to itself: weights of 2 MiB go through the second-level cache in each product.
    """
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(shape, np.float32) for shape in ((32, 512), (512, KI)))

    def work() -> Array:
        h: Array = np.maximum(x @ weights, 0)
        h = np.exp(h - h.max(axis=1, keepdims=True))
        h /= h.sum(axis=1, keepdims=True)
        np.multiply(weights, 1, out=weights)
        return h

    return work
