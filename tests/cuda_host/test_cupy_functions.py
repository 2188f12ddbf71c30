"""Every function over CuPy arrays on the host: its values, in every layout and at every place.

The kernels are CUDA's, compiled for the host, or the CPU's. On a GPU, tests/gpu/test_bits.py
compares by the same cases.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import pytest

from tests.support import gpu_cases, joint_cases
from tests.support.devices import HostDevice, cupy_or_skip
from tests.support.gpu_cases import CALLS, LAYOUTS, PLACES, Call, Layout

cupy_or_skip()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_function_in_every_layout(host: HostDevice, call: Call, layout: Layout) -> None:
    gpu_cases.check(host, call, layout, 0.3, {})


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_function_at_every_place(host: HostDevice, place: dict[str, Any]) -> None:
    for call in CALLS:
        gpu_cases.check(host, call, LAYOUTS[0], 0.3, place)
    gpu_cases.check_packed(host, gpu_cases.SHAPE, 0.3, place)


@pytest.mark.parametrize("p", gpu_cases.PROBABILITIES)
def test_every_function_at_every_probability(host: HostDevice, p: float) -> None:
    for call in CALLS:
        gpu_cases.check(host, call, LAYOUTS[1], p, {})
    gpu_cases.check_packed(host, gpu_cases.SHAPE, p, {})


@pytest.mark.parametrize("n", gpu_cases.SIZES[:-1])
def test_sizes_around_those_that_are_treated_at_once(host: HostDevice, n: int) -> None:
    for call in CALLS:
        for behind in (0, 3):
            gpu_cases.check_size(host, call, n, behind, {"offset": 5})


@pytest.mark.parametrize(
    ("dtype", "act"),
    [
        *((dtype, act) for dtype in ("float32", "float64") for act in joint_cases.ACTIVATIONS),
        *((dtype, "relu") for dtype in ("float16", ml_dtypes.bfloat16)),
    ],
    ids=str,
)
def test_the_epilogue_and_its_gradient(host: HostDevice, dtype: Any, act: str) -> None:
    for layout in LAYOUTS[:4]:
        joint_cases.check_epilogue(host, dtype, act, layout)


def test_epilogues_with_and_without_their_parts(host: HostDevice) -> None:
    for parts in range(len(joint_cases.PARTS)):
        joint_cases.check_epilogue(host, "float32", "identity", LAYOUTS[0], parts)
    joint_cases.check_epilogue(host, "float32", "relu", LAYOUTS[0], 1, p=1.0)


def test_an_epilogue_may_be_written_over_what_it_reads(host: HostDevice) -> None:
    joint_cases.check_overlap(host)


@pytest.mark.parametrize("of_p", joint_cases.OF_P, ids=str)
def test_a_p_of_each_element(host: HostDevice, of_p: tuple[int, ...]) -> None:
    for dtype in gpu_cases.FLOATS if of_p == (gpu_cases.COLUMNS,) else ["float32"]:
        for layout in LAYOUTS[:3]:
            joint_cases.check_each(host, dtype, layout, of_p)
