"""On a GPU: multi-operand functions and per-element p equal the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdrop_kernels import contract, reference
from tests.support import gpu_cases, gpu_multi_operand_cases, oracle
from tests.support.bias_act import ACTIVATIONS
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_cases import KEY, LAYOUTS

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_dropout_add_and_its_gradient(gpu: Device, dtype: Any, act: str) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy takes no {np.dtype(dtype)}")
    for layout in LAYOUTS:
        gpu_multi_operand_cases.check_bias_act(gpu, dtype, act, layout)


@pytest.mark.parametrize("parts", range(len(gpu_multi_operand_cases.PARTS)))
def test_bias_act_dropout_add_with_and_without_bias_and_residual(gpu: Device, parts: int) -> None:
    for act in ("identity", "relu", "gelu"):
        for p in (0.0, 0.3, 1.0):
            gpu_multi_operand_cases.check_bias_act(gpu, "float32", act, LAYOUTS[0], parts, p)


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
def test_zoneout_and_its_gradients(gpu: Device, dtype: Any) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy takes no {np.dtype(dtype)}")
    for layout in LAYOUTS:
        gpu_multi_operand_cases.check_zoneout(gpu, dtype, layout)


@pytest.mark.parametrize("dtype", gpu_cases.MOVED, ids=str)
def test_masked_fill_from_an_array(gpu: Device, dtype: Any) -> None:
    for layout in LAYOUTS:
        gpu_multi_operand_cases.check_fill_from(gpu, dtype, layout)


def test_bias_act_dropout_add_may_overwrite_its_inputs(gpu: Device) -> None:
    gpu_multi_operand_cases.check_overlap(gpu)


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
@pytest.mark.parametrize("spread", [(1, 1), (0, 1), (1, 0), (0, 0)], ids=str)
def test_elements_have_their_own_thresholds_and_factors(
    gpu: Device, dtype: Any, spread: tuple[int, int]
) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy takes no {np.dtype(dtype)}")
    from fastdrop_kernels.cuda import driver

    rng = np.random.default_rng()
    shape = (300, 410)
    x = gpu_multi_operand_cases.numbers(shape, dtype)
    computed = np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)
    small = tuple(n if s else 1 for n, s in zip(shape, spread, strict=True))
    index = reference.mask_index(shape)
    words: Any = np.uint64(KEY.seed), np.uint64(KEY.stream), index
    u = np.asarray(contract.uniform32(*words))
    t = u[: small[0], : small[1]].astype(np.int64) + rng.integers(-1, 2, small)
    t = np.clip(t, 0, 2**32 - 1).astype(np.uint32)
    factor = rng.standard_normal(small).astype(computed)
    factor[rng.random(small) < 0.1] = np.inf
    kept = (u >= t) & np.isfinite(factor)
    wide = np.broadcast_to(factor, shape)
    operands = tuple(gpu.cupy.broadcast_to(gpu.put(a), shape) for a in (t, factor))
    for transposed in (False, True):
        given = gpu.put(np.ascontiguousarray(x.T)).T if transposed else gpu.put(x)
        y = gpu.cupy.empty_like(given)
        operation, nothing = driver.per_element("drop", np.dtype(dtype)), np.zeros(())
        driver.apply(operation, given, y, 0, None, *KEY, 1, nothing, operands=operands)
        with np.errstate(all="ignore"):
            product = (x.astype(computed) * wide).astype(dtype)
        expected = np.where(kept, product, np.zeros((), dtype))
        oracle.assert_same(np.ascontiguousarray(gpu.get(y)), expected)


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
@pytest.mark.parametrize("of_p", gpu_multi_operand_cases.OF_P, ids=str)
def test_per_element_p(gpu: Device, dtype: Any, of_p: tuple[int, ...]) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy takes no {np.dtype(dtype)}")
    for layout in LAYOUTS:
        gpu_multi_operand_cases.check_per_element(gpu, dtype, layout, of_p)
