"""The JAX recipe: fastdrop's masks in compiled functions, their derivatives and batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same, mask
from tests.support.subprocesses import run_scenario

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install jax")
import jax.numpy as jnp  # noqa: E402

from fastdrop.examples.recipes import jax_callback as recipe  # noqa: E402

KEY = fd.Key(7, 2**63 + 9)
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
compiled = jax.jit(recipe.dropout, static_argnums=(1, 2))


def values(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_a_key_of_jax_is_a_key(kind: str) -> None:
    x = values((3, 41))
    key = jax.random.fold_in(jax.random.key(2**31 - 5, impl=kind), 8)
    words = np.asarray(jax.random.key_data(key)).astype(object)  # so that shifts do not overflow
    expected = fd.Key(words[0] * 2**32 + words[1])
    if kind == "rbg":
        expected = fd.Key(expected.seed, words[2] * 2**32 + words[3])
    assert recipe.fastdrop_key(jax.random.key_data(key)) == expected
    dropped = fd.dropout(x, 0.3, rng=expected)
    run = jax.jit(recipe.dropout, static_argnums=1)
    for given in (key, jax.random.key_data(key), np.asarray(jax.random.key_data(key))):
        assert_same(np.asarray(run(x, 0.3, given)), dropped)
        assert_same(np.asarray(recipe.dropout(x, 0.3, given)), dropped)
    assert_same(np.asarray(recipe.dropout(x, 0.3, expected)), dropped)
    assert recipe.fastdrop_key(jax.random.key_data(jax.random.key(42))) == fd.Key(42)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (8,), (3, 0), (5, 7, 3), (2**16 + 1,)], ids=str)
@pytest.mark.parametrize("p", [0, 0.1, 0.5, 1])
def test_masks(shape: tuple[int, ...], p: float) -> None:
    words = np.array([1, 2, 3, 4], np.uint32)
    key = recipe.fastdrop_key(words)
    drawn = jax.jit(recipe.keep_mask, static_argnums=(0, 1))(shape, p, words, np.uint32(0))
    assert_same(np.asarray(drawn), mask(shape, p, key))
    assert_same(np.asarray(drawn), fd.dropout_mask(shape, p, rng=key))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_those_of_dropout(dtype: Any, p: float) -> None:
    # All numbers of a half type, infinities and NaN among them; but XLA takes subnormals for 0.
    if np.dtype(dtype).itemsize == 2:
        x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    else:
        bits = np.random.default_rng(0).integers(1 << 32, size=1 << 16, dtype=np.uint32)
        x = np.append(
            bits.view(np.float32), np.array([np.nan, np.inf, -np.inf, -0.0] * 8, np.float32)
        )
    with np.errstate(all="ignore"):
        expected = fd.dropout(x, p, rng=KEY)
        y = np.asarray(compiled(x, p, KEY))
        size = abs(x.astype(np.float32))
        compared = ~(size < np.finfo(np.float32).tiny) | (size == 0)
        found, right = (array.astype(np.float32)[compared] for array in (y, expected))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(found, right)
    numbers = ~np.isnan(right)
    assert np.array_equal(np.signbit(found)[numbers], np.signbit(right)[numbers])
    dropped = ~fd.dropout_mask(x.shape, p, rng=KEY)
    assert not y[dropped].view(np.uint8).any()  # NaN and infinities are gone, and it is +0
    assert compared.mean() > 0.98


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_dropout_of_gradients(dtype: Any) -> None:
    x, dy = (values((5, 33), seed).astype(dtype) for seed in (0, 1))
    y, backward = jax.vjp(lambda x: recipe.dropout(x, 0.3, KEY), x)
    (dx,) = backward(dy)
    assert_same(np.asarray(y), fd.dropout(x, 0.3, rng=KEY))
    assert_same(np.asarray(dx), fd.dropout(dy, 0.3, rng=KEY))


def test_the_backward_keeps_a_key_and_an_offset_alone() -> None:
    _, backward = jax.vjp(lambda x: recipe.dropout(x, 0.3, KEY), values((5, 33)))
    kept = [leaf for leaf in jax.tree.leaves(backward) if hasattr(leaf, "nbytes")]
    assert 0 < sum(leaf.nbytes for leaf in kept) <= 20


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda f: f,
    "jit": lambda f: jax.jit(f),
    "checkpoint": lambda f: jax.jit(jax.checkpoint(f)),
}


@pytest.mark.parametrize("wrapped", WRAPPERS.values(), ids=WRAPPERS)
def test_derivatives_of_second_order(wrapped: Callable[[Any], Any]) -> None:
    x = values((4, 9))
    factor = fd.dropout(np.ones_like(x), 0.5, rng=KEY)

    def loss(drop: Callable[[Any], Any]) -> Any:
        return wrapped(lambda x: jnp.sum(jnp.tanh(drop(x)) ** 2))

    ours, by_hand = loss(lambda x: recipe.dropout(x, 0.5, KEY)), loss(lambda x: x * factor)
    for derivative in (jax.grad, lambda f: jax.jacrev(jax.grad(f))):
        found, expected = (np.asarray(derivative(f)(x)) for f in (ours, by_hand))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert found.any() and np.array_equal(found == 0, expected == 0)


def test_a_mask_is_a_constant_to_forward_derivatives() -> None:
    x, words = values((4, 9)), np.array([0, 7], np.uint32)
    factor = fd.dropout(np.ones_like(x), 0.5, rng=7)

    def loss(x: Any) -> Any:
        kept = recipe.keep_mask(x.shape, 0.5, words, np.uint32(0))
        return jnp.sum(jnp.tanh(jnp.where(kept, 2 * x, 0)) ** 2)

    found = jax.jit(jax.hessian(loss))(x)
    expected = jax.hessian(lambda x: jnp.sum(jnp.tanh(x * factor) ** 2))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match="custom_vjp"):  # as docs/recipes.md says
        jax.jvp(lambda x: recipe.dropout(x, 0.5, KEY), (x,), (x,))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the batches that callbacks are given, one for each callback."""
    shapes = []
    right = recipe.draw

    def draw(size: int, p: float, calls: Any) -> Any:
        shapes.append(calls.shape[:-1])
        return right(size, p, calls)

    monkeypatch.setattr(recipe, "draw", draw)
    jax.clear_caches()
    return shapes


def test_a_batch_of_keys_is_drawn_by_one_callback(calls: list[tuple[int, ...]]) -> None:
    x = values((3, 4, 21))
    keys = jax.random.split(jax.random.key(1), (3, 4))
    of_rows = jax.vmap(jax.vmap(lambda x, key: recipe.dropout(x, 0.5, key)))
    y = np.asarray(jax.jit(of_rows)(x, keys))
    assert calls == [(3, 4)]
    dx = np.asarray(jax.jit(jax.grad(lambda x: jnp.sum(of_rows(x, keys))))(x))
    for n in np.ndindex(3, 4):
        key = recipe.fastdrop_key(jax.random.key_data(keys[n]))
        assert_same(y[n], fd.dropout(x[n], 0.5, rng=key))
        assert_same(dx[n], fd.dropout(np.ones_like(x[n]), 0.5, rng=key))


def test_rows_of_one_key(calls: list[tuple[int, ...]]) -> None:
    x = values((5, 21))
    key = jax.random.key(1)
    # With one key for all rows, all have one mask, as with `jax.random.bernoulli`.
    y = jax.jit(jax.vmap(lambda x: recipe.dropout(x, 0.5, key)))(x)
    assert_same(np.asarray(y), fd.dropout(x, 0.5, rng=1, noise_shape=(1, 21)))
    assert calls == [()]
    # With offsets, each has its part of one.
    offsets = 21 * np.arange(5)
    y = jax.jit(jax.vmap(lambda x, n: recipe.dropout(x, 0.5, key, n)))(x, offsets)
    assert_same(np.asarray(y), fd.dropout(x, 0.5, rng=1))
    assert calls == [(), (5,)]
    # One x under many keys: samples of Monte Carlo dropout.
    keys = jax.random.split(key, 3)
    samples = jax.jit(jax.vmap(lambda key: recipe.dropout(x, 0.5, key)))(keys)
    for sample, words in zip(samples, jax.random.key_data(keys), strict=True):
        assert_same(np.asarray(sample), fd.dropout(x, 0.5, rng=recipe.fastdrop_key(words)))


def test_calls_outside_of_jit_compile_once(calls: list[tuple[int, ...]]) -> None:
    x = values((5, 23))
    function = recipe.differentiable.fun
    sizes = []
    for n in range(4):
        jax.grad(lambda x, n=n: jnp.sum(recipe.dropout(x, 0.5, jax.random.key(n))))(x)
        sizes.append(function._cache_size())
    assert calls == [()] * 8
    assert len(set(sizes)) == 1


def test_scans() -> None:
    x, key = values((6, 5)), jax.random.key(9)

    def step(h: Any, row: Any) -> Any:
        n, x = row
        h = h + recipe.dropout(x, 0.5, jax.random.fold_in(key, n))
        return h, h

    _, states = jax.jit(lambda x: jax.lax.scan(step, jnp.zeros(5), (jnp.arange(6), x)))(x)
    h = np.zeros(5, np.float32)
    for n, row in enumerate(x):
        found = recipe.fastdrop_key(jax.random.key_data(jax.random.fold_in(key, n)))
        h = h + fd.dropout(row, 0.5, rng=found)
        assert_same(np.asarray(states[n]), h)


def test_a_donated_argument() -> None:
    given = values((64, 1024))
    x = jnp.array(given)
    y = jax.jit(lambda x: recipe.dropout(x, 0.5, KEY), donate_argnums=0)(x)
    assert x.is_deleted()
    assert_same(np.asarray(y), fd.dropout(given, 0.5, rng=KEY))


@pytest.mark.skipif(not hasattr(jax, "enable_x64"), reason="this JAX has no enable_x64")
def test_float64() -> None:
    with jax.enable_x64(True):
        x = np.random.default_rng(0).standard_normal((5, 33))
        y = compiled(x, 0.3, KEY)
    assert_same(np.asarray(y), fd.dropout(x, 0.3, rng=KEY))


def test_errors_come_before_the_callback() -> None:
    x = np.ones(3, np.float32)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"from 0 to 1, and not (-0\.1|1\.5|nan)"):
            recipe.dropout(x, p, KEY)
    for key in (np.zeros(3, np.uint32), np.zeros(2, np.int32)):
        with pytest.raises(ValueError, match="2 or 4 words of uint32"):
            recipe.dropout(x, 0.5, key)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system sets no affinity")
@pytest.mark.parametrize("processors", [1, 2])
def test_callbacks_do_not_wait_for_each_other(processors: int) -> None:
    """Nor do they on one processor, where JAX has one thread to compute on.

    There, three callbacks that took 1 Mi elements as their argument hung in JAX 0.4.35.
    """
    if processors > len(getattr(os, "sched_getaffinity", lambda of: [0])(0)):
        pytest.skip("this process has fewer processors")
    checked = run_scenario("jax_callbacks", processors).split()
    assert checked == ["large_arrays", "callbacks_at_once", "many_keys", "shards"]
