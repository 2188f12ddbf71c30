"""Calls like earlier ones on a GPU, which only look where the arrays lie."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import family_repeats as family
from tests.support import gpu_cases, repeat_cases
from tests.support.devices import Device, need_a_gpu
from tests.support.repeat_cases import LAYOUTS_OF_REPEATS, WHERES

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("where", WHERES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS_OF_REPEATS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=str)
def test_other_numbers_arrays_and_keys(
    gpu: Device, dtype: Any, layout: Any, where: dict[str, Any]
) -> None:
    repeat_cases.check_layout(gpu, dtype, layout, where)


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=str)
def test_arrays_that_begin_anywhere(gpu: Device, dtype: Any) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy {gpu.cupy.__version__} takes no {dtype}")
    repeat_cases.check_alignments(gpu, dtype)


def test_overlap_is_as_if_there_were_none(gpu: Device) -> None:
    repeat_cases.check_overlaps(gpu)


def test_every_kind_of_key(gpu: Device) -> None:
    repeat_cases.check_keys(gpu)


def test_every_refusal_is_that_of_a_first_call(gpu: Device) -> None:
    repeat_cases.check_refusals(gpu)


@pytest.mark.parametrize("member", family.MEMBERS, ids=lambda member: member.name)
@pytest.mark.parametrize("layout", ["C", "F", "stepped"])
def test_later_calls_of_the_family(gpu: Device, member: family.Member, layout: str) -> None:
    for where in family.WHERES:
        family.check_later_calls(gpu, member, layout, where)
