"""The cases of functions that read several arrays on a GPU: on a real one, or on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import Device
from tests.support.gpu_cases import KEY, Layout, laid
from tests.support.oracle import Array

ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh")
EXACT = ("identity", "relu")
# Units in the last place of what is added up, between the CPU's activations and CUDA's.
TOLERANCE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-20, "float64": 2.0**-49}
COLUMNS = gpu_cases.COLUMNS
# Shapes of bias and residual beside an array of `gpu_cases.SHAPE`; None where there is none.
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


def check_epilogue(
    device: Device, dtype: Any, act: str, layout: Layout, parts: int = 0, p: float = 0.3
) -> None:
    """The epilogue and its gradient, in a layout, beside the CPU's."""
    x, dy = (numbers(gpu_cases.SHAPE, dtype) for _ in "ab")
    bias, residual = (None if s is None else numbers(s, dtype) for s in PARTS[parts])
    put = [None if a is None else device.put(a) for a in (bias, residual)]
    here, there = laid(device, x, layout), laid(device, dy, layout)
    where: dict[str, Any] = {"rng": KEY, "offset": 2**35 - 77}

    y = fd.bias_act_dropout_add(here.array, put[0], act, p, residual=put[1], **where)
    expected = fd.bias_act_dropout_add(x, bias, act, p, residual=residual, **where)
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
    gradient, sums, _ = fd.bias_act_dropout_add_backward(dy, x, bias, act, p, **where)
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
    assert sums is not None
    assert sums.shape == bias.shape


def check_overlap(device: Device) -> None:
    """Results may be written over anything that is read, or over a part of it."""
    x, bias = numbers((40, 50), np.float32), numbers((50,), np.float32)
    for shape in ((40, 50), (1, 50)):
        memory = device.put(x)
        residual = memory[: shape[0]]
        expected = fd.bias_act_dropout_add(x, bias, "relu", 0.4, rng=3, residual=x[: shape[0]])
        fd.bias_act_dropout_add(
            device.put(x), device.put(bias), "relu", 0.4, rng=3, residual=residual, out=memory
        )
        oracle.assert_same(device.get(memory), expected)


# Shapes of p beside an array of `gpu_cases.SHAPE`.
OF_P: tuple[tuple[int, ...], ...] = ((COLUMNS,), (gpu_cases.ROWS, 1), gpu_cases.SHAPE, ())


def check_each(device: Device, dtype: Any, layout: Layout, of_p: tuple[int, ...]) -> None:
    """Dropout, fill and mask by a p of each element, beside the CPU's, which are exact."""
    p = np.random.default_rng().random(of_p)
    edges = [1.0, 0.0, 1 - 2**-53, 1 - 2**-33, 1.5 * 2**-32][: p.size]
    p.flat[: len(edges)] = edges
    for place in ({"offset": 2**35 - 77}, {"noise_shape": (None, 1)}):
        if "noise_shape" in place and p.shape[-1:] not in ((), (1,)):
            continue
        where: dict[str, Any] = {"rng": KEY, **place}
        x = gpu_cases.numbers(dtype)
        here = laid(device, x, layout)
        for scale in (None, -1.5):
            expected = fd.dropout(x, p, scale=scale, **where)
            made = fd.dropout(here.array, p, scale=scale, **where)
            oracle.assert_same(np.ascontiguousarray(device.get(made)), expected)
            board = laid(device, x, layout)
            fd.dropout((both := board.array), p, scale=scale, out=both, **where)
            board.assert_holds(expected)
        for moved in ("int8", dtype, "complex128"):
            x = gpu_cases.numbers(moved)
            there = laid(device, x, layout)
            filled = fd.masked_fill(there.array, p, 7, **where)
            expected = fd.masked_fill(x, p, 7, **where)
            oracle.assert_same(np.ascontiguousarray(device.get(filled)), expected)
        marks = fd.dropout_mask(x.shape, p, like=here.array, **where)
        assert isinstance(marks, device.cupy.ndarray)
        expected = fd.dropout_mask(x.shape, p, **where)
        oracle.assert_same(device.get(marks), expected)
        out = laid(device, np.ones(x.shape, np.bool_), layout)
        assert fd.dropout_mask(x.shape, p, out=(target := out.array), **where) is target
        oracle.assert_same(np.ascontiguousarray(out.values()), expected)
        here.assert_holds(here.view(here.before))
