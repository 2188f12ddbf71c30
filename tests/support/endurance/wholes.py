"""Cases of functions that decide for more than an element: channels, samples, blocks, rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import oracle, per_element, softmax
from tests.support.drop_block import expected_of
from tests.support.oracle import Array, mask

from .draws import Draw
from .elements import check_call


def feature_dropout(d: Draw) -> None:
    """Whole channels, also of alpha dropout and by an array of p."""
    shape, dtype, (rng, key) = d.shape(2), d.dtype(), d.rng()
    last = d.chance(0.5)
    inner = (1,) * (len(shape) - 2)
    noise = (None, *inner, None) if last else (None, None, *inner)
    where = d.place(shape, noise=False)
    full = where.get("global_shape", shape)
    lengths = tuple(1 if one == 1 else n for one, n in zip(noise, full, strict=True))
    x = d.array(shape, dtype)
    named: dict[str, Any] = {**where, "rng": rng}
    named["data_format"] = "channels_last" if last else "channels_first"
    plain, p = np.array(x, order="C"), d.p()
    kept = mask(shape, p, key, **where, noise_shape=lengths)
    kind = d.note("kind", d.one_of(("plain", "plain", "alpha", "alpha, backward")))
    if kind == "plain":
        expected = oracle.applied(kept, plain, contract.scale(p))
        check_call(d, fd.feature_dropout, x, (p,), named, expected)
        return
    a, b, c = oracle.alpha_numbers(p)
    if kind == "alpha":
        expected = oracle.affine(kept, plain, a, b, c)
        check_call(d, fd.feature_alpha_dropout, x, (p,), named, expected)
        return
    expected = oracle.affine(kept, plain, a, -0.0, 0.0)
    check_call(d, fd.feature_alpha_dropout_backward, x, (p,), named, expected)


def drop_path(d: Draw) -> None:
    """Whole samples, by a number or an array of p."""
    shape, dtype, (rng, key) = d.shape(1), d.dtype(), d.rng()
    x, by_keep = d.array(shape, dtype), d.chance(0.7)
    plain = np.array(x, order="C")
    ones = (1,) * (len(shape) - 1)
    if d.chance(0.3):
        p = d.note("p", d.r.random((shape[0], *ones)))
        noise = (shape[0], *ones)
        scale = None if by_keep else 1.0
        expected = per_element.expected(plain, p, scale, key, noise_shape=noise)
        given: Any = p
        named: dict[str, Any] = {"rng": rng}
    else:
        given, mode = d.p(), d.note("mode", d.one_of(("row", "batch")))
        where = d.place(shape, noise=False)
        full = where.get("global_shape", shape)
        noise = (full[0] if mode == "row" else 1, *ones)
        kept = mask(shape, given, key, **where, noise_shape=noise)
        factor = contract.scale(given) if by_keep else 1.0
        expected = oracle.applied(kept, plain, factor)
        named = {**where, "rng": rng, "mode": mode}
    check_call(d, fd.drop_path, x, (given,), {**named, "scale_by_keep": by_keep}, expected)


def drop_block(d: Draw) -> None:
    """Blocks of neighbours in planes and volumes."""
    axes = d.note("axes", d.one_of((2, 2, 3)))
    most = 20 if axes == 2 else 9
    shape = tuple(int(n) for n in d.r.integers(1, (4, 4, *[most] * axes)))
    dtype, (rng, key), p = d.note("dtype", d.dtype()), d.rng(), d.p()
    size = int(d.r.integers(1, min(shape[2:]) + 1))
    x = d.array(d.note("shape", shape), dtype)
    expected = expected_of(np.array(x, order="C"), p, size, key)
    function = fd.drop_block2d if axes == 2 else fd.drop_block3d
    check_call(d, function, x, (p, size), {"rng": rng}, expected)


def softmax_dropout(d: Draw) -> None:
    """Softmax and dropout, and the gradient: to the bit along the last axis."""
    shape, dtype, key = d.shape(1, 4), d.dtype(), d.key()
    x = d.laid(softmax.numbers(shape, dtype, d.r))
    axis = d.note("axis", int(d.r.integers(-1, len(shape) - 1)))
    p = d.p()
    last = axis in (-1, len(shape) - 1)
    where = d.place(shape, noise=False, whole=-1) if last else {}
    plain = np.array(x, order="C")
    if plain.size and last and d.chance(0.2):
        plain.reshape(-1)[d.r.integers(0, plain.size, 3)] = -np.inf
        x = d.laid(plain)
    backward = d.chance(0.4)
    dy = d.laid(softmax.numbers(shape, dtype, d.r))
    wide = np.array(dy, order="C")
    named: dict[str, Any] = {**where, "rng": key, "axis": axis}
    if last and shape[-1] and plain.size:
        if backward:
            expected = softmax.exact_backward(wide, plain, p, key, **where)
            check_call(d, fd.softmax_dropout_backward, dy, (x, p), named, expected)
        else:
            expected = softmax.exact_forward(plain, p, key, **where)
            check_call(d, fd.softmax_dropout, x, (p,), named, expected)
        return
    if not plain.size:
        return
    if backward:
        made = d.call(fd.softmax_dropout_backward, dy, x, p, **named)
        softmax.assert_gradient_close(np.array(made, order="C"), wide, plain, p, axis, key)
    else:
        made = d.call(fd.softmax_dropout, x, p, **named)
        true = softmax.forward(plain, p, axis, key)
        softmax.assert_close(np.array(made, order="C"), true, plain, axis)
    d.elements += made.size


def mc_dropout(d: Draw) -> None:
    """Samples of Monte Carlo dropout, and their mean."""
    shape, dtype, key, p = d.shape(1, 3, 3000), np.dtype(np.float64), d.key(), d.p()
    x = d.array(shape, dtype, special=False)
    n = int(d.r.integers(1, 5))

    def one_pass(x: Array, key: fd.Key) -> Array:
        return fd.dropout(x, p, rng=key)

    made = d.call(fd.mc_dropout, one_pass, x, n, rng=key, return_samples=True)
    plain = np.array(x, order="C")
    samples = np.stack([oracle.dropped(plain, p, key.fold_in(t)) for t in range(n)])
    d.compare(made.samples, samples)
    np.testing.assert_allclose(made.mean, samples.mean(0), rtol=1e-9, atol=1e-9)


CASES = {
    "feature_dropout": (feature_dropout, 3),
    "drop_path": (drop_path, 2),
    "drop_block": (drop_block, 2),
    "softmax_dropout": (softmax_dropout, 4),
    "mc_dropout": (mc_dropout, 1),
}
