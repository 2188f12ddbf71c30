"""On a GPU: repeated calls use the plan of the first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import gpu_cases, gpu_repeated_calls
from tests.support import repeated_calls as family
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_repeated_calls import LAYOUTS_OF_REPEATED_CALLS, WHERES

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("where", WHERES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS_OF_REPEATED_CALLS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=str)
def test_repeated_calls_with_other_values_arrays_and_keys(
    gpu: Device, dtype: Any, layout: Any, where: dict[str, Any]
) -> None:
    gpu_repeated_calls.check_layout(gpu, dtype, layout, where)


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=str)
def test_arrays_of_any_alignment(gpu: Device, dtype: Any) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy {gpu.cupy.__version__} takes no {dtype}")
    gpu_repeated_calls.check_alignments(gpu, dtype)


def test_overlap_is_as_if_there_were_none(gpu: Device) -> None:
    gpu_repeated_calls.check_overlaps(gpu)


def test_every_kind_of_key(gpu: Device) -> None:
    gpu_repeated_calls.check_keys(gpu)


def test_every_error_is_that_of_a_first_call(gpu: Device) -> None:
    gpu_repeated_calls.check_refusals(gpu)


@pytest.mark.parametrize("member", family.MEMBERS, ids=lambda member: member.name)
@pytest.mark.parametrize("layout", ["C", "F", "stepped"])
def test_repeated_calls_of_every_function(gpu: Device, member: family.Member, layout: str) -> None:
    for where in family.WHERES:
        family.check_later_calls(gpu, member, layout, where)
