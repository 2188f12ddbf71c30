"""Digests of what every function gives in every dtype, on the processor that Numba compiles for.

``python -m tests.support.scenarios.digests CPU PART``: the environment names the processor, as in
NUMBA_CPU_NAME. Printed is a JSON object, from function and dtype to digest. PART is ``all``, or
``sums``: what is summed or approximated, in float32, which takes a fifth of the time.
``python -m tests.support.scenarios.digests --write`` writes tests/data/digests.json, which every
machine must agree with.

Inputs are made of integers, so that they are the same everywhere. Which NaN a NaN is may differ
between processors, and does not enter.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numba.core.registry import cpu_target

import fastdrop as fd
from tests.support.bias_act import ACTIVATIONS
from tests.support.oracle import ROOT, Array

FILE = ROOT / "tests" / "data" / "digests.json"
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
KEY = fd.Key(2**40 + 3, 2**63 + 11)
P = 0.3
# Odd lengths, which end inside every vector; rows of several parts of a sum; small ones.
PLAIN, MAPS, VOLUMES = (67, 331), (3, 5, 9, 7), (2, 3, 5, 6, 4)
ROWS = [(9, 7), (9, 49), (67, 331), (5, 1030), (4, 4099)]
LARGE = (1 << 18) + 37  # larger than what kernels assume to be cached, in every dtype
Named = tuple[str, Array]


def integers(shape: tuple[int, ...], seed: int) -> Array:
    """Return 64 bits of each element, by the finaliser of MurmurHash3."""
    k = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed << 40)
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        k = (k ^ (k >> np.uint64(33))) * np.uint64(multiplier)
    return np.asarray(k ^ (k >> np.uint64(33))).reshape(shape)


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 1) -> Array:
    """Return numbers of both signs and of sizes from 2**-18 to 4; a few are special."""
    bits = integers(shape, seed)
    whole = (bits % np.uint64(4095)).astype(np.int64) - 2047
    sizes = 2.0 ** -(9.0 + (bits >> np.uint64(60)) % 10)
    return np.asarray((whole * sizes).astype(dtype))


def special(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return numbers with zeros, infinities, NaN, and the largest and the smallest among them."""
    x = numbers(shape, dtype)
    finfo: Any = ml_dtypes.finfo
    info = finfo(x.dtype)
    some = [np.inf, -np.inf, np.nan, 0.0, -0.0, info.tiny, info.smallest_subnormal, info.max]
    places = x.reshape(-1)[3::41]
    places[...] = np.resize(np.array(some, x.dtype), places.size)
    return x


def layouts(x: Array) -> list[Array]:
    """Return arrays of the same numbers in C order, Fortran order, and with steps."""
    return [x, np.asfortranarray(x), np.repeat(x, 2, axis=-1)[..., ::2]]


def plain(dtype: Any) -> Iterator[Named]:
    """Functions of one array, element by element."""
    x = special(PLAIN, dtype)
    each = (integers(PLAIN, 5) % np.uint64(257)).astype(np.float64) / 256
    functions: dict[str, Callable[..., Array]] = {
        "dropout": lambda x, **where: fd.dropout(x, P, rng=KEY, **where),
        "masked_fill": lambda x, **where: fd.masked_fill(x, P, 7, rng=KEY, **where),
        "alpha_dropout": lambda x, **where: fd.alpha_dropout(x, P, rng=KEY, **where),
        "alpha_dropout_backward": lambda x, **where: fd.alpha_dropout_backward(
            x, P, rng=KEY, **where
        ),
        "gaussian_dropout": lambda x, **where: fd.gaussian_dropout(x, P, rng=KEY, **where),
        "gaussian_noise": lambda x, **where: fd.gaussian_noise(x, 0.7, rng=KEY, **where),
    }
    for name, function in functions.items():
        yield name, function(x)
        yield name, function(x, offset=2**35 - 5000)
        # Every layout of every function takes four times as long to compile.
        if name == "dropout" or x.dtype == np.float32 and name == "gaussian_noise":
            for given in layouts(x)[1:]:
                yield name, function(given)
            yield name, function(x, noise_shape=(None, 1))
    large = np.resize(x, LARGE)
    yield "dropout", fd.dropout(large, P, rng=KEY)
    for p in (each, each[:, :1], each[:1]):
        yield "dropout by p of each", fd.dropout(x, p, rng=KEY)
        yield "masked_fill by p of each", fd.masked_fill(x, p, 7, rng=KEY)


def structured(dtype: Any) -> Iterator[Named]:
    """Functions of whole parts."""
    x = special(MAPS, dtype)
    yield "feature_dropout", fd.feature_dropout(x, P, rng=KEY)
    yield "feature_alpha_dropout", fd.feature_alpha_dropout(x, P, rng=KEY)
    back = fd.feature_alpha_dropout_backward(x, P, rng=KEY)
    yield "feature_alpha_dropout_backward", back
    yield "drop_path", fd.drop_path(x, P, rng=KEY)
    yield "drop_block2d", fd.drop_block2d(x, 0.2, 3, rng=KEY)
    yield "drop_block3d", fd.drop_block3d(special(VOLUMES, dtype), 0.2, 3, rng=KEY)


def fused(dtype: Any) -> Iterator[Named]:
    """Bias, activation, dropout and residual, and the gradients, which are sums."""
    x, residual, dy = (numbers(PLAIN, dtype, seed) for seed in (1, 2, 3))
    bias = numbers(PLAIN[1:], dtype, 4)
    for act in ACTIVATIONS:
        name = f"bias_act_dropout_add, {act}"
        for given in layouts(x)[: 3 if act == "gelu" else 1]:
            args = bias, act, P
            yield name, fd.bias_act_dropout_add(given, *args, rng=KEY, residual=residual)
            dx, dbias, _ = fd.bias_act_dropout_add_backward(dy, given, *args, rng=KEY)
            yield f"{name}, backward", dx
            assert dbias is not None
            yield f"{name}, backward", dbias
        extreme = special(PLAIN, dtype)
        yield name, fd.bias_act_dropout_add(extreme, None, act, P, rng=KEY)
    # Sums along the axis of neighbours, and over many elements, of numbers that fill their float64.
    for shape, of in (((67, 331), (67, 1)), ((3, 9, 11), (9, 1)), ((300, 701), (1, 701))):
        given, gradient, few = (
            numbers(shape, dtype, 6),
            numbers(shape, dtype, 7),
            numbers(of, dtype, 8),
        )
        for laid in layouts(gradient):
            _, dbias, _ = fd.bias_act_dropout_add_backward(laid, given, few, "gelu", P, rng=KEY)
            assert dbias is not None
            yield "bias_act_dropout_add, sums", dbias


def softmaxes(dtype: Any) -> Iterator[Named]:
    """Softmax and its gradient, along rows of many lengths and across."""
    for shape in ROWS:
        x, dy = numbers(shape, dtype, 1), numbers(shape, dtype, 2)
        x[1], x[2, 3], x[3, 1::2] = -np.inf, np.nan, -np.inf
        for axis in (-1, 0) if x.size < 10_000 else (-1,):
            along: dict[str, Any] = {"axis": axis, "rng": KEY}
            for given in layouts(np.moveaxis(x, -1, axis)):
                yield "softmax_dropout", fd.softmax_dropout(given, P, **along)
                gradient = np.moveaxis(dy, -1, axis)
                back = fd.softmax_dropout_backward(gradient, given, P, **along)
                yield "softmax_dropout_backward", back
        yield "softmax_dropout", fd.softmax_dropout(x, training=False)


def layers() -> Iterator[Named]:
    """Each layer, forward and backward: functions by other names."""
    x, dy = numbers(MAPS, "f4", 1), numbers(MAPS, "f4", 2)
    made: list[Any] = [
        fd.Dropout(P, rng=KEY),
        fd.AlphaDropout(P, rng=KEY),
        fd.FeatureDropout(P, rng=KEY),
        fd.FeatureAlphaDropout(P, rng=KEY),
        fd.DropPath(P, rng=KEY),
        fd.DropBlock2d(0.2, 3, rng=KEY),
        fd.GaussianDropout(P, rng=KEY),
        fd.GaussianNoise(0.5, rng=KEY),
        fd.SoftmaxDropout(P, rng=KEY),
        fd.BiasActDropoutAdd("gelu", P, rng=KEY),
    ]
    for layer in made:
        for _ in range(2):
            yield type(layer).__name__, layer(x)
            back = layer.backward(dy)
            yield type(layer).__name__, back[0] if isinstance(back, tuple) else back
    volumes = fd.DropBlock3d(0.2, 3, rng=KEY)
    yield "DropBlock3d", volumes(numbers(VOLUMES, "f4"))
    yield "DropBlock3d", volumes.backward(numbers(VOLUMES, "f4", 2))


def masks() -> Iterator[Named]:
    """Masks, and what takes any dtype or none."""
    for shape in (PLAIN, MAPS):
        for where in ({}, {"offset": 2**35 - 77}, {"noise_shape": (*shape[:-1], 1)}):
            yield "dropout_mask", fd.dropout_mask(shape, P, rng=KEY, **where)
            yield "dropout_mask, packed", fd.dropout_mask(shape, P, rng=KEY, packed=True, **where)
    for kind in ("u1", "i2", "i4", "i8", "c16"):
        x = (integers(PLAIN, 9) % np.uint64(127)).astype(kind)
        yield f"masked_fill, {x.dtype.name}", fd.masked_fill(x, P, 3, rng=KEY)

    def net(x: Array, key: fd.Key) -> Array:
        return fd.dropout(x, P, rng=key)

    found = fd.mc_dropout(net, numbers(PLAIN, "f4"), 7, rng=KEY)
    yield "mc_dropout", found.mean
    yield "mc_dropout", found.variance


def everything() -> Iterator[Named]:
    """Call everything, and yield what was called, and its result."""
    for group in (plain, structured, fused, softmaxes):
        yield from of_dtypes(group, DTYPES)
    yield from layers()
    yield from masks()


def sums() -> Iterator[Named]:
    """Call what has no reference of the same bits, in float32."""
    for group in (fused, softmaxes):
        yield from of_dtypes(group, DTYPES[2:3])


PARTS = {"all": everything, "sums": sums}


def of_dtypes(
    group: Callable[[Any], Iterator[Named]], dtypes: Iterable[np.dtype[Any]]
) -> Iterator[Named]:
    """Call the functions of a group in some dtypes, and name these."""
    for dtype in dtypes:
        for name, result in group(dtype):
            assert result.dtype == dtype, name
            yield f"{name}, {dtype.name}", result


def same_nan(x: Array) -> Array:
    """Return an array in C order, in which every NaN is the same."""
    if x.dtype.kind not in "fV":
        return np.ascontiguousarray(x)
    return np.where(np.isnan(x.astype(np.float64)), x.dtype.type(np.nan), x)


def digests(results: Iterable[Named]) -> dict[str, str]:
    """Return the digest of each function in each dtype."""
    found: dict[str, Any] = {}
    for name, result in results:
        digest = found.setdefault(name, hashlib.sha256())
        digest.update(repr(result.shape).encode() + same_nan(result).tobytes())
    return {name: digest.hexdigest()[:16] for name, digest in found.items()}


def main(cpu: str, part: str = "all") -> None:
    """Print the digests, or write them."""
    if cpu == "--write":
        FILE.write_text(json.dumps(digests(everything()), indent=1) + "\n", encoding="utf-8")
        return
    name = cpu_target.target_context.codegen().magic_tuple()[1]
    assert cpu == name, f"Numba compiles for {name}, and not for {cpu}"
    print(json.dumps(digests(PARTS[part]())))


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main(*sys.argv[1:])
