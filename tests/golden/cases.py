"""The frozen cases: every public function and layer, called on inputs that are made of integers.

Each case has a name and an array. `tests.golden.file` keeps a digest of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.bias_act import ACTIVATIONS
from tests.support.oracle import Array
from tests.support.scenarios.digests import DTYPES, integers, layouts, numbers, special

from .batches import batches

Case = tuple[str, Array]
Where = dict[str, Any]

KEY = fd.Key(2**63 + 977, 2**40 + 3)
P = 0.3
PLAIN, MAPS, VOLUMES = (13, 77), (3, 5, 9, 7), (2, 3, 5, 6, 4)
LAYOUTS = ("C order", "Fortran order", "every other element")


def placements(shape: tuple[int, ...], shared: bool = True) -> dict[str, Where]:
    """Return placements of an array of a shape in a mask."""
    starts = tuple(range(3, 3 + len(shape)))
    full = tuple(n + 2 * s for n, s in zip(shape, starts, strict=True))
    found: dict[str, Where] = {
        "whole": {},
        "offset": {"offset": 2**35 - 501},
        "shard": {"offset": starts, "global_shape": full},
    }
    if shared:
        found["first axis shared"] = {"noise_shape": (1, *shape[1:])}
        found["last axis shared"] = {"noise_shape": (*shape[:-1], 1)}
        found["shard with a shared axis"] = {**found["shard"], "noise_shape": (1, *full[1:])}
    return found


def in_layouts(x: Array) -> Iterator[tuple[str, Array]]:
    """Yield arrays of the same numbers in several layouts."""
    yield from zip(LAYOUTS, layouts(x), strict=True)


def element_wise(dtype: Any) -> Iterator[Case]:
    """Functions that decide on elements, by one p."""
    functions: dict[str, Callable[..., Array]] = {
        "dropout": lambda x, **w: fd.dropout(x, P, rng=KEY, **w),
        "dropout, scale=1": lambda x, **w: fd.dropout(x, P, rng=KEY, scale=1.0, **w),
        "masked_fill": lambda x, **w: fd.masked_fill(x, P, 7, rng=KEY, **w),
        "alpha_dropout": lambda x, **w: fd.alpha_dropout(x, P, rng=KEY, **w),
        "alpha_dropout_backward": lambda x, **w: fd.alpha_dropout_backward(x, P, rng=KEY, **w),
        "gaussian_dropout": lambda x, **w: fd.gaussian_dropout(x, P, rng=KEY, **w),
        "gaussian_noise": lambda x, **w: fd.gaussian_noise(x, 0.7, rng=KEY, **w),
    }
    for layout, x in in_layouts(special(PLAIN, dtype)):
        for place, where in placements(PLAIN).items():
            for name, function in functions.items():
                yield f"{name}, {layout}, {place}", function(x, **where)
    x = numbers(PLAIN, dtype)
    for p in (0.0, 1e-6, 0.125, 0.5, 0.999, 1.0):
        yield f"dropout, p={p}", fd.dropout(x, p, rng=KEY)
    large = np.resize(
        x, (1 << 18) + 37
    )  # larger than the size up to which kernels assume cached data
    yield "dropout, large", fd.dropout(large, P, rng=KEY)


def by_p_arrays(dtype: Any) -> Iterator[Case]:
    """Functions by a p of each element, row or column."""
    p = (integers(PLAIN, 5) % np.uint64(257)).astype(np.float64) / 256
    for layout, x in in_layouts(special(PLAIN, dtype)):
        for kind, own in {"element": p, "row": p[:, :1], "column": p[:1]}.items():
            name = f"p of each {kind}, {layout}"
            yield f"dropout, {name}", fd.dropout(x, own, rng=KEY)
            yield f"dropout, scale=1, {name}", fd.dropout(x, own, rng=KEY, scale=1.0)
            yield f"masked_fill, {name}", fd.masked_fill(x, own, 7, rng=KEY)


def structured(dtype: Any) -> Iterator[Case]:
    """Functions that decide on channels, samples and blocks."""
    for layout, x in in_layouts(special(MAPS, dtype)):
        for place, where in placements(MAPS, shared=False).items():
            for form in ("channels_first", "channels_last"):
                more: Where = {"rng": KEY, "data_format": form, **where}
                name = f"{form}, {layout}, {place}"
                yield f"feature_dropout, {name}", fd.feature_dropout(x, P, **more)
                yield f"feature_alpha_dropout, {name}", fd.feature_alpha_dropout(x, P, **more)
                back = fd.feature_alpha_dropout_backward(x, P, **more)
                yield f"feature_alpha_dropout_backward, {name}", back
            for mode in ("row", "batch"):
                y = fd.drop_path(x, P, rng=KEY, mode=mode, **where)
                yield f"drop_path, {mode}, {layout}, {place}", y
        yield f"drop_block2d, {layout}", fd.drop_block2d(x, 0.2, 3, rng=KEY)
        coupled = fd.drop_block2d(x, 0.2, 3, rng=KEY, couple_channels=True, scale_by_keep=False)
        yield f"drop_block2d, coupled, unscaled, {layout}", coupled
    yield "drop_path, unscaled", fd.drop_path(x, P, rng=KEY, scale_by_keep=False)
    yield "drop_block3d", fd.drop_block3d(special(VOLUMES, dtype), 0.2, 3, rng=KEY)


def fused(dtype: Any) -> Iterator[Case]:
    """bias_act_dropout_add and softmax_dropout, with their gradients."""
    x, residual, dy = (numbers(PLAIN, dtype, seed) for seed in (1, 2, 3))
    bias = numbers(PLAIN[1:], dtype, 4)
    for act in ACTIVATIONS:
        for given, name in ((bias, "bias"), (None, "no bias")):
            for rest in (residual, None):
                what = f"{act}, {name}, {'no ' if rest is None else ''}residual"
                y = fd.bias_act_dropout_add(x, given, act, P, rng=KEY, residual=rest)
                yield f"bias_act_dropout_add, {what}", y
            gradients = fd.bias_act_dropout_add_backward(dy, x, given, act, P, rng=KEY)
            yield f"bias_act_dropout_add_backward, dx, {act}, {name}", gradients[0]
            if gradients[1] is not None:
                yield f"bias_act_dropout_add_backward, dbias, {act}, {name}", gradients[1]
    for (layout, mine), (_, its) in zip(in_layouts(x), in_layouts(residual), strict=True):
        for place, where in placements(PLAIN, shared=False).items():
            name = f"{layout}, {place}"
            yield f"zoneout, {name}", fd.zoneout(mine, its, P, rng=KEY, **where)
            dx, dh_prev = fd.zoneout_backward(mine, P, rng=KEY, **where)
            yield f"zoneout_backward, dx, {name}", dx
            yield f"zoneout_backward, dh_prev, {name}", dh_prev
        yield f"zoneout, evaluation, {layout}", fd.zoneout(mine, its, P, training=False)
    for (layout, mine), (_, its) in zip(in_layouts(x), in_layouts(dy), strict=True):
        for axis in (0, -1):
            for place, where in placements(PLAIN, shared=False).items():
                if place == "shard":  # the axis must be whole
                    full = list(PLAIN)
                    full[1 + axis], begin = PLAIN[1 + axis] + 9, [0, 0]
                    begin[1 + axis] = 4
                    where = {"offset": tuple(begin), "global_shape": tuple(full)}
                more: Where = {"axis": axis, "rng": KEY, **where}
                name = f"axis {axis}, {layout}, {place}"
                yield f"softmax_dropout, {name}", fd.softmax_dropout(mine, P, **more)
                back = fd.softmax_dropout_backward(its, mine, P, **more)
                yield f"softmax_dropout_backward, {name}", back


def layers(dtype: Any) -> Iterator[Case]:
    """Each layer: two forwards, their backwards, and one that comes with its own."""
    x, dy = numbers(MAPS, dtype, 1), numbers(MAPS, dtype, 2)
    volumes = numbers(VOLUMES, dtype)
    made: list[tuple[Any, Array, Array]] = [
        (fd.Dropout(P, rng=KEY), x, dy),
        (fd.Dropout(P, rng=KEY, noise_shape=(None, 1, 1, None), scale=1.0), x, dy),
        (fd.Dropout([0.1 * n for n in range(7)], rng=KEY), x, dy),
        (fd.AlphaDropout(P, rng=KEY), x, dy),
        (fd.FeatureDropout(P, rng=KEY), x, dy),
        (fd.FeatureAlphaDropout(P, rng=KEY), x, dy),
        (fd.DropPath(P, rng=KEY), x, dy),
        (fd.DropBlock2d(0.2, 3, rng=KEY), x, dy),
        (fd.DropBlock3d(0.2, 3, rng=KEY), volumes, volumes),
        (fd.GaussianDropout(P, rng=KEY), x, dy),
        (fd.GaussianNoise(0.5, rng=KEY), x, dy),
        (fd.SoftmaxDropout(P, rng=KEY), x, dy),
        (fd.BiasActDropoutAdd("gelu", P, rng=KEY), x, dy),
    ]
    for number, (layer, given, gradient) in enumerate(made):
        name = f"{type(layer).__name__}, {number}"
        for n in range(2):
            yield f"{name}, forward {n}", layer(given)
        for n in (1, 0):
            yield f"{name}, backward {n}", first_of(layer.backward(gradient))
        y, backward = layer.vjp(given)
        yield f"{name}, vjp", y
        yield f"{name}, vjp's backward", first_of(backward(gradient))
    rnn = fd.RNNDropout(0.2, 0.3, 0.4, rng=KEY)
    rnn.begin()
    for t in range(2):
        yield f"RNNDropout, input {t}", rnn.input(x, t)
        yield f"RNNDropout, output {t}", rnn.output(x, t)
        yield f"RNNDropout, state {t}", rnn.state(x, t)


def first_of(gradients: Any) -> Array:
    """Return the gradient by x."""
    found: Array = gradients[0] if isinstance(gradients, tuple) else gradients
    return found


def products(dtype: Any) -> Iterator[Case]:
    """Products with masks, with slices of them, and by broadcasting."""
    x = special(MAPS, dtype)
    mask = fd.Mask(MAPS, P, rng=KEY)
    yield "x * Mask", x * mask
    yield "x * Mask, slices", x[1:, ::2] * mask[1:, ::2]
    yield "x * Mask, transposed", x.T * mask.T
    yield "x * Mask, channels", x * (2 * fd.Mask((5, 1, 1), P, rng=KEY))


def without_dtype() -> Iterator[Case]:
    """Masks, keys, and what takes any dtype or none."""
    p = (integers(PLAIN, 5) % np.uint64(257)).astype(np.float64) / 256
    for shape in (PLAIN, MAPS):
        for place, where in placements(shape).items():
            for packed in (False, True):
                kept = fd.dropout_mask(shape, P, rng=KEY, packed=packed, **where)
                yield f"dropout_mask, {len(shape)} axes, {place}, packed={packed}", kept
    for kind, own in {"element": p, "row": p[:, :1], "column": p[:1]}.items():
        for packed in (False, True):
            kept = fd.dropout_mask(PLAIN, own, rng=KEY, packed=packed)
            yield f"dropout_mask, p of each {kind}, packed={packed}", kept
    yield "Mask as an array", np.asarray(fd.Mask(MAPS, P, rng=KEY))
    for name in ("u1", "i2", "i4", "i8", "c8", "c16", "?", "M8[s]"):
        x = (integers(PLAIN, 9) % np.uint64(127)).astype("i8").astype(name)
        value = x.reshape(-1)[5]
        yield f"masked_fill, {name}", fd.masked_fill(x, P, value, rng=KEY)
        for place, where in placements(PLAIN).items():
            y = fd.masked_fill(x, P, x[::-1], rng=KEY, **where)
            yield f"masked_fill from an array, {name}, {place}", y

    def net(x: Array, key: fd.Key) -> Array:
        return fd.dropout(x, P, rng=key)

    found = fd.mc_dropout(net, numbers(PLAIN, "f4"), 7, rng=KEY)
    yield "mc_dropout, mean", found.mean
    yield "mc_dropout, variance", found.variance
    keys = [KEY.fold_in(n) for n in (0, 1, 2**32, 2**62 - 1)] + [KEY.advanced(2**63)]
    for name in ("PCG64", "PCG64DXSM", "MT19937", "SFC64", "Philox"):
        keys.append(fd.as_key(getattr(np.random, name)(12345)))
    keys += [fd.as_key(np.random.SeedSequence(7)), fd.as_key(2**70), fd.as_key([1, 2, 3])]
    keys.append(fd.as_key(np.random.RandomState(7)))  # noqa: NPY002
    yield "keys", np.array(keys, np.uint64)
    yield from batches()


GROUPS: dict[str, Callable[[Any], Iterator[Case]]] = {
    "element-wise": element_wise,
    "arrays of p": by_p_arrays,
    "structured": structured,
    "fused": fused,
    "layers": layers,
    "products": products,
}


def cases(dtype: np.dtype[Any]) -> Iterator[Case]:
    """Make all calls in one dtype."""
    for group in GROUPS.values():
        for name, result in group(dtype):
            yield f"{dtype.name}: {name}", result


def everything() -> Iterator[Case]:
    """Make all calls."""
    for dtype in DTYPES:
        yield from cases(dtype)
    yield from without_dtype()
