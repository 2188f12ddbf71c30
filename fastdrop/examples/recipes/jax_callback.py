"""JAX: dropout in compiled functions, by `jax.pure_callback` and `jax.custom_vjp`.

The callback takes a key and returns packed bits; XLA unpacks and applies them in one loop, fused
with what is around it. No array of x's size goes through Python. The backward pass is the same
function of the gradient: it keeps the key alone, and can be differentiated again.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.test_util import check_grads

import fastdrop as fd


def fastdrop_key(words: npt.ArrayLike) -> fd.Key:
    """Return the key of 2 or 4 words: the seed's high and low half, and the stream's.

    So ``jax.random.key(42)``, whose data are ``[0, 42]``, draws the masks of ``fd.Key(42)``.
    """
    halves = np.asarray(words).tolist()
    return fd.Key(*(high << 32 | low for high, low in zip(halves[::2], halves[1::2], strict=True)))


def draw(size: int, p: float, calls: Any) -> npt.NDArray[np.uint8]:
    """Draw a packed mask for the words and the offset of each call: the callback, on the host.

    It runs on one of the threads that JAX computes on, and must not wait there for JAX: it calls
    nothing of it, and its argument is a few words. Arguments above 100 KiB may be copied on another
    of these threads, and in JAX 0.4.35 `numpy.asarray` of them hung on one processor.
    """
    calls = np.asarray(calls)
    batch = calls.shape[:-1]
    packed = np.empty((*batch, -(-size // 8)), np.uint8)
    for n in np.ndindex(batch):
        key, offset = fastdrop_key(calls[n][:-1]), int(calls[n][-1])
        fd.dropout_mask(size, p, rng=key, offset=offset, packed=True, out=packed[n])
    return packed


def keep_mask(shape: tuple[int, ...], p: float, words: Any, offset: Any) -> Any:
    """Return `fd.dropout_mask` of the key in a compiled function, a constant to derivatives."""
    size = math.prod(shape)
    packed = jax.pure_callback(
        functools.partial(draw, size, p),
        jax.ShapeDtypeStruct((-(-size // 8),), jnp.uint8),
        jnp.append(words, offset),  # one argument: each takes 20 us (Zen 5, 2026-11)
        vmap_method="expand_dims",  # one callback for all calls of a batch
    )
    bits = packed[:, None] >> jnp.arange(8, dtype=jnp.uint8) & 1
    return bits.reshape(-1)[:size].reshape(shape) != 0


def apply(p: float, x: Any, words: Any, offset: Any) -> Any:
    """Scale what the mask keeps, and select: half types are rounded once, as fastdrop's are."""
    computed = jnp.promote_types(x.dtype, jnp.float32)
    scale = jnp.asarray(1 / (1 - p) if p < 1 else 0, computed)
    scaled = (x.astype(computed) * scale).astype(x.dtype)
    return jnp.where(keep_mask(x.shape, p, words, offset), scaled, 0)


# Compiled even if what calls it is not: outside of `jit`, each call would trace a new callback.
differentiable = jax.custom_vjp(jax.jit(apply, static_argnums=0), nondiff_argnums=(0,))
differentiable.defvjp(
    lambda p, x, *key: (differentiable(p, x, *key), key),
    lambda p, key, dy: (differentiable(p, dy, *key), None, None),
)


def dropout(x: Any, p: float, key: Any, offset: Any = 0) -> Any:
    """Drop elements of x by a key: JAX's, its 2 or 4 words (uint32), or an `fd.Key`.

    `p` is a Python number. `offset` (below 2**32, and it may be traced) is the place of x's first
    element in a larger array, of whose mask a row or a shard then draws its own part.
    """
    if not 0 <= p <= 1:  # here, because an error in a callback is lost or kills the computation
        raise ValueError(f"p is a probability from 0 to 1, and not {p}")
    if isinstance(key, fd.Key):
        halves = (half for n in (key.seed, key.stream) for half in divmod(n, 1 << 32))
        key = np.fromiter(halves, np.uint32, 4)
    elif jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    if key.dtype != np.uint32 or key.shape not in ((2,), (4,)):
        raise ValueError(f"a key is 2 or 4 words of uint32, and not {key.shape} of {key.dtype}")
    return differentiable(p, jnp.asarray(x), key, jnp.asarray(offset, jnp.uint32))


def run() -> None:
    """Check values, derivatives of first and second order, and batches with a key for each row."""
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    key = jax.random.key(42)
    factor = fd.dropout(np.ones_like(x), 0.5, rng=fd.Key(42))  # 0 or 2
    assert np.array_equal(jax.jit(dropout, static_argnums=1)(x, 0.5, key), x * factor)

    def loss(x: Any) -> Any:
        # dropout is linear: what follows it is not, or its second derivatives would be 0.
        return jnp.sum(jnp.sin(dropout(x, 0.5, key)))

    gradient = jax.jit(jax.grad(loss))(x)
    np.testing.assert_allclose(gradient, np.cos(x * factor) * factor, rtol=1e-5)
    curvature = jax.jit(jax.grad(lambda x: jax.grad(loss)(x).sum()))(x)
    np.testing.assert_allclose(curvature, -np.sin(x * factor) * factor**2, rtol=1e-5, atol=1e-6)
    check_grads(loss, (x,), order=2, modes=["rev"], atol=0.05, rtol=0.05)

    keys = jax.random.split(key, len(x))
    rows = jax.jit(jax.vmap(dropout, in_axes=(0, None, 0)), static_argnums=1)(x, 0.5, keys)
    for row, each, words in zip(rows, x, jax.random.key_data(keys), strict=True):
        assert np.array_equal(row, fd.dropout(each, 0.5, rng=fastdrop_key(words)))
    places = np.arange(0, x.size, x.shape[1])
    of_one_mask = jax.vmap(dropout, in_axes=(0, None, None, 0))(x, 0.5, key, places)
    assert np.array_equal(of_one_mask, x * factor)
