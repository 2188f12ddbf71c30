"""How everybody else computes dropout: the idioms of NumPy, and the other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import Array
from .contender import Call, Step, load


def multiply(x: Array, p: float, out: Array) -> Call:
    """Multiply by a constant: reads and writes what dropout does, and draws nothing."""
    s = x.dtype.type(1 / (1 - p))
    return lambda: np.multiply(x, s, out=out)


def multiply_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Multiply input and gradient by a constant."""
    s = x.dtype.type(1 / (1 - p))
    return Step(
        lambda: (np.multiply(x, s, out=y), None),
        lambda _: np.multiply(dy, s, out=dx),
    )


# Exactly as the public loops write it, and so in float64 whatever x is.


def _cs231n_mask(x: Array, p: float) -> Array:
    q = 1 - p
    return (np.random.rand(*x.shape) < q) / q  # noqa: NPY002 - that is the idiom


def _binomial_mask(x: Array, p: float) -> Array:
    q = 1 - p
    return np.random.binomial(1, q, x.shape) / q  # noqa: NPY002 - that is the idiom


def cs231n(x: Array, p: float, out: Array) -> Call:
    """Draw uniforms, compare, divide, multiply."""
    return lambda: x * _cs231n_mask(x, p)


def binomial(x: Array, p: float, out: Array) -> Call:
    """Draw 0 or 1 from the binomial distribution, divide, multiply."""
    return lambda: x * _binomial_mask(x, p)


def cs231n_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Keep the mask, scale and all, for the backward pass."""

    def forward() -> tuple[Array, Array]:
        mask = _cs231n_mask(x, p)
        return x * mask, mask

    return Step(forward, lambda mask: dy * mask)


CHUNK = 65536


def _keeper(bits_of: Any, p: float) -> Any:
    """Return ``keep(mask)``, which fills a bool array from 16-bit integers."""
    raw, threshold = bits_of.random_raw, np.uint16(round(p * 65536))

    def keep(mask: Array) -> None:
        bits = raw((mask.size + 3) // 4).view(np.uint16)[: mask.size]
        np.greater_equal(bits, threshold, out=mask)

    return keep


def _sixteen_bits(bits_of: Any, x: Array, p: float, out: Array) -> Call:
    keep, s = _keeper(bits_of, p), x.dtype.type(1 / (1 - p))
    mask = np.empty(min(CHUNK, x.size), np.bool_)
    parts = [
        (x[i : i + CHUNK], out[i : i + CHUNK], mask[: min(CHUNK, x.size - i)])
        for i in range(0, x.size, CHUNK)
    ]

    def call() -> Array:
        for source, target, kept in parts:
            keep(kept)
            np.multiply(source, s, out=target)
            np.multiply(target, kept, out=target)
        return out

    return call


def numpy_best(x: Array, p: float, out: Array) -> Call:
    """Do the fastest of some twenty formulations tried.

    SFC64's raw 64-bit words seen as 16-bit integers: 2 times faster to draw than
    Generator.integers(dtype=uint16). Multiplying by the mask: 2 times faster than putmask, copyto,
    indexing or where=. Chunks: 15% at 16 Mi.
    """
    return _sixteen_bits(np.random.SFC64(), x, p, out)


def numpy_best_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Keep a byte an element for the backward pass."""
    keep, s = _keeper(np.random.SFC64(), p), x.dtype.type(1 / (1 - p))
    starts = range(0, x.size, CHUNK)

    def forward() -> tuple[Array, Array]:
        mask = np.empty(x.size, np.bool_)
        for i in starts:
            part = slice(i, i + CHUNK)
            keep(mask[part])
            np.multiply(x[part], s, out=y[part])
            np.multiply(y[part], mask[part], out=y[part])
        return y, mask

    def backward(mask: Array) -> Array:
        for i in starts:
            part = slice(i, i + CHUNK)
            np.multiply(dy[part], s, out=dx[part])
            np.multiply(dx[part], mask[part], out=dx[part])
        return dx

    return Step(forward, backward)


def randomgen_best(x: Array, p: float, out: Array) -> Call:
    """Do the same with the fastest of randomgen's 64-bit generators.

    Of 16 Ki words: Xoroshiro128 36 us, MWC128X and Romu 41, SFC64 (randomgen's or NumPy's) 43.
    """
    return _sixteen_bits(load("randomgen").Xoroshiro128(), x, p, out)


def randomgen_philox(x: Array, p: float, out: Array) -> Call:
    """Do the same with a counter-based generator, whose masks could be drawn again.

    With 64-bit words, of which no bit is wasted; Philox4x32 gives 32 in each 64-bit word.
    """
    return _sixteen_bits(load("randomgen").Philox(number=2, width=64), x, p, out)


def torch(x: Array, p: float, out: Array) -> Call:
    """Call PyTorch's dropout on a tensor that shares x's memory."""
    library = load("torch")
    dropout = library.nn.functional.dropout
    tensor = library.from_numpy(x)
    return lambda: dropout(tensor, p, training=True)


def torch_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Let autograd keep what it needs."""
    library = load("torch")
    dropout, grad = library.nn.functional.dropout, library.autograd.grad
    tensor = library.from_numpy(x).requires_grad_()
    gradient = library.from_numpy(dy)

    def forward() -> tuple[Any, Any]:
        result = dropout(tensor, p, training=True)
        return result.detach(), result  # the same memory, to be looked at as an array

    return Step(forward, lambda result: grad(result, tensor, gradient)[0])


def _jax_dropout(p: float) -> Any:
    jax, jnp = load("jax"), load("jax.numpy")

    def dropout(x: Any, key: Any) -> Any:  # as flax does it
        return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    return dropout


def jax(x: Array, p: float, out: Array) -> Call:
    """Draw and select in one compiled function."""
    library = load("jax")
    dropout, key = library.jit(_jax_dropout(p)), library.random.key(2026)
    tensor = load("jax.numpy").asarray(x)
    return lambda: dropout(tensor, key).block_until_ready()


def jax_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Compile forward and backward by themselves, as where layers lie between them."""
    library, asarray = load("jax"), load("jax.numpy").asarray
    dropout, key = _jax_dropout(p), library.random.key(2026)
    forward = library.jit(lambda x, key: library.vjp(lambda x: dropout(x, key), x))
    backward = library.jit(lambda kept, dy: kept(dy)[0])
    tensor, gradient = asarray(x), asarray(dy)
    return Step(
        lambda: library.block_until_ready(forward(tensor, key)),
        lambda kept: backward(kept, gradient).block_until_ready(),
    )


def _tensorflow_dropout(p: float) -> Any:
    tf = load("tensorflow")

    @tf.function  # type: ignore[untyped-decorator]
    def dropout(x: Any, seed: Any) -> Any:
        return tf.nn.experimental.stateless_dropout(x, p, seed=seed)

    # The seed has to be an argument: with a constant one TensorFlow draws the mask of up to some Mi
    # elements once, when it compiles the graph, and never again.
    seed = tf.constant([2026, 1])
    return lambda x: dropout(x, seed)


def tensorflow(x: Array, p: float, out: Array) -> Call:
    """Draw under a key in a graph: not slower than eagerly at any size, and faster at most."""
    dropout, tensor = _tensorflow_dropout(p), load("tensorflow").constant(x)
    return lambda: dropout(tensor)


def tensorflow_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Let a gradient tape keep what it needs."""
    tf, dropout = load("tensorflow"), _tensorflow_dropout(p)
    tensor, gradient = tf.constant(x), tf.constant(dy)

    def forward() -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            result = dropout(tensor)
        return result, (tape, result)

    return Step(forward, lambda kept: kept[0].gradient(kept[1], tensor, gradient))
