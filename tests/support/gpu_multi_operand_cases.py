"""Cases of multi-operand functions and per-element p, for a GPU or CuPy arrays over host memory."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import bias_act, gpu_cases, oracle
from tests.support.bias_act import EXACT
from tests.support.devices import Device
from tests.support.gpu_cases import KEY, Layout, laid
from tests.support.oracle import Array
from tests.support.per_element import expected as dropped
from tests.support.per_element import kept_by

# Tolerance of approximated activations, relative to the largest term that is added.
TOLERANCE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-20, "float64": 2.0**-49}
COLUMNS = gpu_cases.COLUMNS
# Shapes of bias and residual (or None) for an x of `gpu_cases.SHAPE`.
PARTS: tuple[tuple[tuple[int, ...] | None, tuple[int, ...] | None], ...] = (
    ((COLUMNS,), gpu_cases.SHAPE),
    ((gpu_cases.ROWS, 1), (1, COLUMNS)),
    ((), None),
    (None, gpu_cases.SHAPE),
    (None, None),
)


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.asarray((3 * np.random.default_rng().standard_normal(shape)).astype(dtype))


def agree(act: str, made: Array, expected: Array, *parts: Array) -> None:
    """Bit for bit where the activation is exact; else within the tolerance of the largest part."""
    if act in EXACT:
        oracle.assert_same(np.ascontiguousarray(made), np.ascontiguousarray(expected))
        return
    sizes = sum(np.abs(part.astype(np.float64)) for part in (expected, *parts))
    off = np.abs(made.astype(np.float64) - expected.astype(np.float64))
    assert (off <= TOLERANCE[made.dtype.name] * sizes).all()


def check_bias_act(
    device: Device, dtype: Any, act: str, layout: Layout, parts: int = 0, p: float = 0.3
) -> None:
    """bias_act_dropout_add and its gradient equal the reference, in a layout."""
    x, dy = (numbers(gpu_cases.SHAPE, dtype) for _ in "ab")
    bias, residual = (None if s is None else numbers(s, dtype) for s in PARTS[parts])
    put = [None if a is None else device.put(a) for a in (bias, residual)]
    here, there = laid(device, x, layout), laid(device, dy, layout)
    where: dict[str, Any] = {"rng": KEY, "offset": 2**35 - 77}
    kept, factor = oracle.mask(x.shape, p, KEY, offset=2**35 - 77), contract.scale(p)

    y = fd.bias_act_dropout_add(here.array, put[0], act, p, residual=put[1], **where)
    expected = bias_act.rounded_forward(x, bias, act, kept, factor, residual).astype(dtype)
    added = np.zeros_like(x) if residual is None else residual
    agree(act, device.get(y), expected, x, added)
    out = laid(device, oracle.poisoned(x.shape, dtype), layout)
    target = out.array
    again = fd.bias_act_dropout_add(
        here.array, put[0], act, p, residual=put[1], out=target, **where
    )
    assert again is target
    out.assert_holds(device.get(y))
    here.assert_holds(x)

    dx, dbias, same = fd.bias_act_dropout_add_backward(
        there.array, here.array, put[0], act, p, **where
    )
    assert same is not None
    gradient = bias_act.rounded_gradient(dy, x, bias, act, kept, factor).astype(dtype)
    agree(act, device.get(dx), gradient, dy)
    if bias is None:
        assert dbias is None
        return
    mine: Any = dbias
    full = (1,) * (2 - bias.ndim) + bias.shape
    axes = tuple(axis for axis, length in enumerate(full) if length == 1)
    back = device.get(dx).astype(np.float64)
    right = back.sum(axes, keepdims=True).reshape(bias.shape)
    size = np.abs(back).sum(axes, keepdims=True).reshape(bias.shape)
    assert mine.shape == bias.shape
    assert mine.dtype == x.dtype
    eps = TOLERANCE[x.dtype.name] / 2
    assert (np.abs(device.get(mine).astype(np.float64) - right) <= eps * size).all()


def check_overlap(device: Device) -> None:
    """Results may overwrite any input, or a part of one."""
    x, bias = numbers((40, 50), np.float32), numbers((50,), np.float32)
    for shape in ((40, 50), (1, 50)):
        memory = device.put(x)
        residual = memory[: shape[0]]
        kept, factor = oracle.mask(x.shape, 0.4, fd.Key(3)), contract.scale(0.4)
        expected = bias_act.rounded_forward(x, bias, "relu", kept, factor, x[: shape[0]])
        fd.bias_act_dropout_add(
            device.put(x), device.put(bias), "relu", 0.4, rng=3, residual=residual, out=memory
        )
        oracle.assert_same(device.get(memory), expected)


def check_zoneout(device: Device, dtype: Any, layout: Layout, p: float = 0.3) -> None:
    """Zoneout, its expectation and its gradients equal the reference, in a layout."""
    x, h_prev, dy = (gpu_cases.numbers(dtype) for _ in "abc")
    here, there = laid(device, x, layout), laid(device, h_prev, layout)
    where: dict[str, Any] = {"rng": KEY, "offset": 2**35 - 77}
    kept = oracle.mask(x.shape, p, KEY, offset=2**35 - 77)

    def agrees(made: Any, expected: Array) -> None:
        oracle.assert_same(np.ascontiguousarray(device.get(made)), expected)

    expected = np.where(kept, x, h_prev)
    agrees(fd.zoneout(here.array, there.array, p, **where), expected)
    agrees(fd.zoneout(here.array, device.put(h_prev[:1]), p, **where), np.where(kept, x, h_prev[0]))
    both = laid(device, h_prev, layout)
    assert fd.zoneout(here.array, (target := both.array), p, out=target, **where) is target
    both.assert_holds(expected)
    here.assert_holds(x)

    computed = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    first, second = computed(p), computed(1 - p)
    with np.errstate(all="ignore"):
        mean = h_prev.astype(computed) * first + x.astype(computed) * second
        shares = [(dy.astype(computed) * q).astype(dtype) for q in (second, first)]
    agrees(fd.zoneout(here.array, there.array, p, training=False), mean.astype(dtype))

    gradient, zero = laid(device, dy, layout), np.zeros((), dtype)
    dx, dh_prev = fd.zoneout_backward(gradient.array, p, **where)
    agrees(dx, np.where(kept, dy, zero))
    agrees(dh_prev, np.where(kept, zero, dy))
    gradient.assert_holds(dy)
    for made, share in zip(
        fd.zoneout_backward(gradient.array, p, training=False), shares, strict=True
    ):
        agrees(made, share)
    dx, dh_prev = fd.zoneout_backward((target := gradient.array), p, out=target, **where)
    assert dx is target
    gradient.assert_holds(np.where(kept, dy, zero))
    agrees(dh_prev, np.where(kept, zero, dy))


def check_fill_from(device: Device, dtype: Any, layout: Layout, p: float = 0.3) -> None:
    """masked_fill from an array equals the choice, in a layout."""
    x, value = (gpu_cases.numbers(dtype) for _ in "ab")
    here, there = laid(device, x, layout), laid(device, value, layout)
    for place in ({"offset": 2**35 - 77}, {"noise_shape": (None, 1)}):
        where: dict[str, Any] = {"rng": KEY, **place}
        kept = oracle.mask(x.shape, p, KEY, **place)
        expected = np.where(kept, x, value)
        made = fd.masked_fill(here.array, p, there.array, **where)
        oracle.assert_same(np.ascontiguousarray(device.get(made)), expected)
        made = fd.masked_fill(here.array, p, device.put(value[0]), **where)
        oracle.assert_same(np.ascontiguousarray(device.get(made)), np.where(kept, x, value[0]))
        both = laid(device, value, layout)
        assert fd.masked_fill(here.array, p, (target := both.array), out=target, **where) is target
        both.assert_holds(expected)
        here.assert_holds(x)


# Shapes of p for an x of `gpu_cases.SHAPE`.
OF_P: tuple[tuple[int, ...], ...] = ((COLUMNS,), (gpu_cases.ROWS, 1), gpu_cases.SHAPE, ())


def check_per_element(device: Device, dtype: Any, layout: Layout, of_p: tuple[int, ...]) -> None:
    """Dropout, fill and mask by per-element p equal the reference."""
    p = np.random.default_rng().random(of_p)
    edges = [1.0, 0.0, 1 - 2**-53, 1 - 2**-33, 1.5 * 2**-32][: p.size]
    p.flat[: len(edges)] = edges
    for place in ({"offset": 2**35 - 77}, {"noise_shape": (None, 1)}):
        if "noise_shape" in place and p.shape[-1:] not in ((), (1,)):
            continue
        where: dict[str, Any] = {"rng": KEY, **place}
        kept = kept_by(p, gpu_cases.SHAPE, KEY, **place)
        x = gpu_cases.numbers(dtype)
        here = laid(device, x, layout)
        for scale in (None, -1.5):
            expected = dropped(x, p, scale, KEY, **place)
            made = fd.dropout(here.array, p, scale=scale, **where)
            oracle.assert_same(np.ascontiguousarray(device.get(made)), expected)
            board = laid(device, x, layout)
            fd.dropout((both := board.array), p, scale=scale, out=both, **where)
            board.assert_holds(expected)
        for moved in ("int8", dtype, "complex128"):
            x = gpu_cases.numbers(moved)
            there = laid(device, x, layout)
            filled = fd.masked_fill(there.array, p, 7, **where)
            expected = np.where(kept, x, x.dtype.type(7))
            oracle.assert_same(np.ascontiguousarray(device.get(filled)), expected)
        marks = fd.dropout_mask(x.shape, p, like=here.array, **where)
        assert isinstance(marks, device.cupy.ndarray)
        oracle.assert_same(device.get(marks), kept)
        out = laid(device, np.ones(x.shape, np.bool_), layout)
        assert fd.dropout_mask(x.shape, p, out=(target := out.array), **where) is target
        oracle.assert_same(np.ascontiguousarray(out.values()), kept)
        here.assert_holds(here.view(here.before))
