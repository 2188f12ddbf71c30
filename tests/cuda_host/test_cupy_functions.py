"""Every function with CuPy arrays over host memory: values in every layout and placement.

The kernels are CUDA's, compiled for the host, or the CPU's. On a GPU, tests/gpu/test_bits.py
compares by the same cases.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import pytest

from tests.support import gpu_cases, gpu_multi_operand_cases
from tests.support.bias_act import ACTIVATIONS
from tests.support.devices import HostDevice, cupy_or_skip
from tests.support.gpu_cases import CALLS, LAYOUTS, PLACES, QUICK_CALLS, Call, Layout
from tests.support.slow import slow_unless

cupy_or_skip()


OTHERS = tuple(call for call in CALLS if call not in QUICK_CALLS)
every_call = pytest.mark.parametrize(
    "calls", [QUICK_CALLS, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["quick", "others"]
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize(
    "call", slow_unless(lambda call: call in QUICK_CALLS, CALLS), ids=lambda call: call.name
)
def test_every_function_in_every_layout(host: HostDevice, call: Call, layout: Layout) -> None:
    gpu_cases.check(host, call, layout, 0.3, {})


@pytest.mark.parametrize("place", PLACES, ids=str)
@every_call
def test_every_function_at_every_placement(
    host: HostDevice, calls: list[Call], place: dict[str, Any]
) -> None:
    for call in calls:
        gpu_cases.check(host, call, LAYOUTS[0], 0.3, place)
    gpu_cases.check_packed(host, gpu_cases.SHAPE, 0.3, place)


@pytest.mark.parametrize("p", gpu_cases.PROBABILITIES)
@every_call
def test_every_function_at_every_probability(host: HostDevice, calls: list[Call], p: float) -> None:
    for call in calls:
        gpu_cases.check(host, call, LAYOUTS[1], p, {})
    gpu_cases.check_packed(host, gpu_cases.SHAPE, p, {})


@pytest.mark.parametrize("n", gpu_cases.SIZES[:-1])
@every_call
def test_sizes_around_those_of_vectors_warps_and_blocks(
    host: HostDevice, calls: list[Call], n: int
) -> None:
    for call in calls:
        for behind in (0, 3):
            gpu_cases.check_size(host, call, n, behind, {"offset": 5})


@pytest.mark.parametrize(
    ("dtype", "act"),
    [
        *slow_unless(
            lambda dtype, act: dtype == "float32" and act in ("identity", "relu", "gelu"),
            ("float32", "float64"),
            ACTIVATIONS,
        ),
        *slow_unless(lambda *_: False, ("float16", ml_dtypes.bfloat16), ["relu"]),
    ],
    ids=str,
)
def test_bias_act_dropout_add_and_its_gradient(host: HostDevice, dtype: Any, act: str) -> None:
    for layout in LAYOUTS[:4]:
        gpu_multi_operand_cases.check_bias_act(host, dtype, act, layout)


def test_bias_act_dropout_add_with_and_without_bias_and_residual(host: HostDevice) -> None:
    for parts in range(len(gpu_multi_operand_cases.PARTS)):
        gpu_multi_operand_cases.check_bias_act(host, "float32", "identity", LAYOUTS[0], parts)
    gpu_multi_operand_cases.check_bias_act(host, "float32", "relu", LAYOUTS[0], 1, p=1.0)


@pytest.mark.parametrize("dtype", slow_unless(lambda d: d == "float32", gpu_cases.FLOATS), ids=str)
def test_zoneout_and_its_gradients(host: HostDevice, dtype: Any) -> None:
    for layout in LAYOUTS[:4]:
        gpu_multi_operand_cases.check_zoneout(host, dtype, layout)


@pytest.mark.parametrize("dtype", slow_unless(lambda d: d == "uint8", gpu_cases.MOVED), ids=str)
def test_masked_fill_from_an_array(host: HostDevice, dtype: Any) -> None:
    for layout in LAYOUTS[:4]:
        gpu_multi_operand_cases.check_fill_from(host, dtype, layout)


def test_bias_act_dropout_add_may_overwrite_its_inputs(host: HostDevice) -> None:
    gpu_multi_operand_cases.check_overlap(host)


@pytest.mark.parametrize("dtype", slow_unless(lambda d: d == "float32", gpu_cases.FLOATS), ids=str)
@pytest.mark.parametrize("of_p", gpu_multi_operand_cases.OF_P, ids=str)
def test_per_element_p(host: HostDevice, of_p: tuple[int, ...], dtype: Any) -> None:
    for layout in LAYOUTS[:3]:
        gpu_multi_operand_cases.check_per_element(host, dtype, layout, of_p)
