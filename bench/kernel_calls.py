"""Calls of every CUDA kernel whose instructions are counted, through the CUDA driver.

`instructions` makes them with a launcher that counts. Arrays are aligned to 64 bytes and have whole
groups of elements, so that all warps are full and take the common path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .common import Array, dtype_of, load

GROUPS = 256 * 4 * 16  # 16 blocks of 256 threads with up to 4 groups: some uniforms are ties
KEY = (2**40 + 3, 2**63 + 11)
FLOATS = ("float32", "float16", "bfloat16", "float64")
PS = (0.1, 0.3, 0.5)  # at 0.5 alone the threshold ends with zeros, and no uniform is a tie
ROWS = (1024, 4096)  # lengths of rows of softmax


class KernelCall(NamedTuple):
    """A call; `make` returns the arrays that it reads and writes, the output first."""

    function: str
    dtype: str
    p: float
    make: Callable[[], list[Array]]
    unit: int = 16  # bytes of the output that are one thread's group

    @property
    def name(self) -> str:
        """What ``--only`` compares with, and what complaints say."""
        return f"{self.function}, {self.dtype}, p = {self.p:g}"


def _empty(size: int, dtype: Any) -> Array:
    memory = np.zeros(size * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64
    array: Array = memory[start : start + memory.size - 64].view(dtype)
    return array


def _numbers(size: int, dtype: Any, seed: int = 0) -> Array:
    array = _empty(size, dtype)
    array[...] = np.random.default_rng(seed).standard_normal(size).astype(dtype)
    return array


def _element_wise(
    row: str,
    dtype: str,
    p: float,
    *variant: Any,
    operands: int = 0,
    value: Any = None,
    offset: int = 0,
    runs: int = 0,
) -> Callable[[], list[Array]]:
    """Return a call of an operation of the catalogue on contiguous arrays.

    With `runs`, elements of rows of that length share a decision.
    """

    def make() -> list[Array]:
        driver, contract = load("fastdrop_kernels.cuda.driver"), load("fastdrop_kernels.contract")
        kind = np.dtype(bool) if row == "mark" else dtype_of(dtype)
        size = GROUPS * 16 // kind.itemsize
        y = _empty(size, kind)
        inputs = [_numbers(size, kind, n) for n in range(1 + operands if row != "mark" else 0)]
        shown = [a.reshape(-1, runs) if runs else a for a in (y, *inputs)]
        computed = np.float64 if dtype == "float64" else np.float32
        factor = contract.scale(p) if value is None else value
        parameter = np.array(factor, kind if row == "fill" else computed)
        driver.apply(
            driver.operation(row, None if row == "mark" else kind, *variant),
            shown[1] if inputs else shown[0],
            shown[0],
            offset,
            (1, 0) if runs else None,
            *KEY,
            contract.threshold(p),
            parameter,
            tuple(shown[2:]),
        )
        return [y, *inputs]

    return make


def _packed(p: float) -> Callable[[], list[Array]]:
    def make() -> list[Array]:
        driver, contract = load("fastdrop_kernels.cuda.driver"), load("fastdrop_kernels.contract")
        y = _empty(GROUPS * 4, np.uint8)
        driver.pack(y, (8 * y.size,), 0, None, *KEY, contract.threshold(p))
        return [y]

    return make


def _per_element(row: str, dtype: str) -> Callable[[], list[Array]]:
    """Return a call with a p of each element."""

    def make() -> list[Array]:
        driver = load("fastdrop_kernels.cuda.driver")
        kind = dtype_of(dtype)
        operation = driver.per_element(row, None if row == "mark" else kind)
        size = GROUPS * 16 // kind.itemsize
        p = np.random.default_rng(7).random(size) / 2
        y, operands = _empty(size, kind), list[Array]()
        for given in driver.per_element_operands(operation, p, None):
            operands.append(_empty(size, given.dtype))
            operands[-1][...] = given
        x = [] if row == "mark" else [_numbers(size, kind)]
        driver.apply(
            operation, *(x or [y]), y, 0, None, *KEY, 1, np.zeros((), np.float32), tuple(operands)
        )
        return [y, *x, *operands]

    return make


def _softmax(dtype: str, p: float, row: int, backward: bool) -> Callable[[], list[Array]]:
    def make() -> list[Array]:
        driver = load("fastdrop_kernels.cuda.softmax_driver")
        contract = load("fastdrop_kernels.contract")
        kind, rows = dtype_of(dtype), 8192 // row
        flat = [_empty(rows * row, kind), *(_numbers(rows * row, kind, n) for n in (0, 1))]
        y, x, dy = (a.reshape(rows, row) for a in flat)
        computed = np.float64 if dtype == "float64" else np.float32
        rest = (1, 0, None, *KEY, contract.threshold(p), np.array(contract.scale(p), computed))
        if backward:
            driver.softmax_dropout_backward(x, dy, y, *rest)
        else:
            driver.softmax_dropout(x, y, *rest)
        return [y, x, dy] if backward else [y, x]

    return make


def calls() -> Iterator[KernelCall]:
    """Yield all of them."""
    for dtype in FLOATS:
        for p in PS:
            yield KernelCall("dropout", dtype, p, _element_wise("drop", dtype, p))
    for dtype in FLOATS:
        for offset in (4, 5):  # groups that begin within a Philox block, or go on in the next
            call = _element_wise("drop", dtype, 0.1, offset=offset)
            yield KernelCall(f"dropout, offset={offset}", dtype, 0.1, call)
    for p in PS:
        yield KernelCall("dropout_mask", "bool", p, _element_wise("mark", "bool", p))
    for p in PS:
        yield KernelCall("dropout_mask, packed", "bits", p, _packed(p), 4)
    for dtype in ("float32", "float16", "float64"):
        call = _element_wise("fill", dtype, 0.1, value=-1)
        yield KernelCall("masked_fill", dtype, 0.1, call)
    for dtype in ("float32", "float16", "float64"):
        call = _element_wise("fill_from", dtype, 0.1, operands=1)
        yield KernelCall("masked_fill from an array", dtype, 0.1, call)
    for dtype in FLOATS:
        call = _element_wise("alpha", dtype, 0.1, value=(0.8, 0.3, -1.4))
        yield KernelCall("alpha_dropout", dtype, 0.1, call)
    for dtype in FLOATS:
        call = _element_wise("zoneout", dtype, 0.1, False, operands=1, value=(0.1, 0.9))
        yield KernelCall("zoneout", dtype, 0.1, call)
    for dtype in FLOATS:
        yield KernelCall("dropout, p of each element", dtype, 0.1, _per_element("drop", dtype))
    call = _per_element("mark", "bool")
    yield KernelCall("dropout_mask, p of each element", "bool", 0.1, call)
    for dtype in FLOATS:
        call = _element_wise("drop", dtype, 0.1, runs=4096)
        yield KernelCall("feature_dropout", dtype, 0.1, call)
    for function, row in (
        ("gaussian_dropout", "gaussian_drop"),
        ("gaussian_noise", "gaussian_add"),
    ):
        for dtype in FLOATS:
            call = _element_wise(row, dtype, 0.1, value=math.sqrt(0.1 / 0.9))
            yield KernelCall(function, dtype, 0.1, call)
    for backward in (False, True):
        for length in ROWS:
            for dtype in ("float32", "bfloat16"):
                function = f"softmax_dropout{'_backward' * backward}, rows of {length:,}"
                yield KernelCall(function, dtype, 0.1, _softmax(dtype, 0.1, length, backward))
    for act, dtype in (
        *(("relu", "float32"), ("relu", "bfloat16")),
        *((act, "bfloat16") for act in ("gelu", "silu", "gelu_tanh")),
    ):
        call = _element_wise("bias_act_drop", dtype, 0.1, act, True, True, operands=2)
        yield KernelCall(f"bias_act_dropout_add, {act}", dtype, 0.1, call)
        call = _element_wise("bias_act_drop_backward", dtype, 0.1, act, True, operands=2)
        yield KernelCall(f"bias_act_dropout_add_backward, {act}", dtype, 0.1, call)
