"""The sm_90 machine code of the CUDA kernels, interpreted, equals the reference bit for bit.

NVRTC and nvdisasm need no GPU; `tests/support/sass` runs what they give, and checks the alignment
and the bounds of every access. A test compiles one module, and runs every kernel of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastdrop_kernels.cuda import driver, modules, softmax_driver
from fastdrop_kernels.cuda.operations import PACK, Operation
from tests.cuda_host import test_activations as activations
from tests.cuda_host import test_softmax as softmax
from tests.support.cuda_host import operand_cases, per_element_cases
from tests.support.cuda_host.cases import (
    ALWAYS,
    FLOATS,
    KEY,
    MOVED,
    WIDE,
    Made,
    check,
    dtype_of,
    kept_at,
    made,
    settings_of_launches,
    tied_threshold,
)
from tests.support.internals import placement
from tests.support.oracle import POISON, assert_same, poisoned
from tests.support.sass import launcher
from tests.support.sass.launcher import MachineCodeLauncher
from tests.support.softmax import assert_close, assert_gradient_close, forward, numbers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(launcher.absent()), reason=launcher.absent() or "present"),
]

FAR = 2**35 - 200  # elements, just before the block number needs a second word
OFFSETS = (0, 4, 5, FAR, 2**62 + 3)
SHARD = {"offset": (1, 2, 3), "global_shape": (9, 11, 130)}
# p of 0.5, 0.1, 1 and 0, and one whose threshold ends with 16 zero bits: of it no uniform is a tie.
THRESHOLDS = (1 << 31, 0x1999999A, ALWAYS, 0x4CCC0000, 0)
# Of all operations, those that cover every functor, and dropout, fills and masks of every type.
ONE_OPERAND = [
    *(f"drop {dtype}" for dtype in FLOATS),
    *(f"fill {dtype}" for dtype in MOVED),
    *("mark", "alpha float32", "alpha bfloat16"),
    *("times float16", "times float64", "plus bfloat16", "plus float32"),
]
OPERANDS = [
    *(f"each {dtype}" for dtype in FLOATS),
    *("zoneout float32", "zoneout mean float16", "zoneout bfloat16"),
    *("from int8", "from int16", "from float32", "from complex128"),
    *("relu bias residual float32", "relu bias residual bfloat16", "back relu bias float16"),
]
NAMES = {"mark": "mark", "times": "gaussian_drop", "plus": "gaussian_add"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> MachineCodeLauncher:
    """The launcher of the CUDA driver, which runs machine code."""
    running = MachineCodeLauncher()
    monkeypatch.setattr(driver, "_launcher", running)
    return running


class Layout(NamedTuple):
    """A layout of y, as `made` takes it, and where y lies in the mask."""

    shape: tuple[int, ...]
    place: dict[str, Any]
    order: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    by: int = 0

    def made(self, dtype: np.dtype[Any]) -> Made:
        return made(self.shape, dtype, self.by, self.order, self.steps)


def layouts(dtype: np.dtype[Any]) -> Iterator[Layout]:
    """Yield layouts for every schedule; each has groups that are cut by blocks, and tails."""
    full = 16 * 1024 // dtype.itemsize  # elements of a CUDA block of the schedule CONTIGUOUS
    for offset in OFFSETS:
        yield Layout((full + 13,), {"offset": offset}, by=dtype.itemsize)
    yield Layout((7,), {})
    for offset in OFFSETS:  # STRIDED
        yield Layout((5, 67), {"offset": offset}, steps=(2, 1))
    yield Layout((3, 9, 40), SHARD, steps=(1, 2, 1))
    yield Layout((3, 9, 40), {"noise_shape": (3, 1, 40), "offset": FAR})
    for offset in (0, FAR):  # RUNS
        yield Layout((20, 67), {"noise_shape": (20, 1), "offset": offset})
    for offset in OFFSETS:  # TRANSPOSED
        yield Layout((37, 50), {"offset": offset}, order=(1, 0))
    yield Layout((3, 9, 40), SHARD, order=(2, 1, 0), steps=(1, 1, 2))
    for offset in OFFSETS[1:]:  # ANY
        yield Layout((20, 35), {"offset": offset}, steps=(1, 2))


def every_layout(dtype: np.dtype[Any]) -> Iterator[tuple[int, Layout, int]]:
    """Yield layouts with thresholds, while indices have 32 bits, and then 64.

    A layout has a threshold with a tie in one of these, and in the other one without.
    """
    for bits, settings in enumerate(({}, WIDE)):
        with settings_of_launches(**settings):
            for number, layout in enumerate(layouts(dtype)):
                if (number + bits) % 2:
                    yield number, layout, THRESHOLDS[number % len(THRESHOLDS)]
                else:
                    tie = tied_threshold(layout.place, layout.shape, 11 * number, bits)
                    yield number, layout, tie


def assert_every_kernel_ran(machine: MachineCodeLauncher, operation: Operation) -> None:
    assert set(machine.names) == set(modules.kernels(operation.module))
    for name, report in launcher.loaded(operation.module).reports.items():
        assert report.stack == report.spilled == 0, f"{name} uses local memory"


@pytest.mark.parametrize("what", ONE_OPERAND)
def test_operations_of_one_operand(
    what: str, machine: MachineCodeLauncher, rng: np.random.Generator
) -> None:
    dtype = dtype_of(what)
    for number, layout, threshold in every_layout(dtype):
        x = None if what == "mark" else made(layout.shape, dtype, (0, dtype.itemsize)[number % 2])
        check(what, layout.made(dtype), x, threshold, rng, **layout.place)
    name = what.split()[0]
    operation = driver.operation(NAMES.get(name, name), None if what == "mark" else dtype)
    assert_every_kernel_ran(machine, operation)


@pytest.mark.parametrize("what", OPERANDS)
def test_operations_of_several_operands(
    what: str, machine: MachineCodeLauncher, rng: np.random.Generator
) -> None:
    dtype, *_ = dtypes = operand_cases.dtypes_of(what)
    for number, layout, threshold in every_layout(dtype):
        # Dense, misaligned by an element, or one row for all.
        by, row = (number % 3 == 1) * np.arange(len(dtypes)), number % 3 == 2
        steps = (0, *[1] * (len(layout.shape) - 1)) if row and len(layout.shape) > 1 else None
        inputs = [
            made(layout.shape, kind, int(k * kind.itemsize % 16), None, steps if n else None)
            for n, (kind, k) in enumerate(zip(dtypes, by, strict=True))
        ]
        operand_cases.check(what, layout.made(dtype), inputs, threshold, rng, **layout.place)
    assert_every_kernel_ran(machine, operand_cases.operation_of(what))


@pytest.mark.parametrize("dtype", [np.dtype(np.uint8), per_element_cases.MARKED], ids=str)
def test_fills_and_masks_by_a_p_of_each_element(
    dtype: np.dtype[Any], machine: MachineCodeLauncher, rng: np.random.Generator
) -> None:
    for _, layout, _ in every_layout(dtype):
        out, inputs = per_element_cases.arrays(dtype, layout.shape)
        per_element_cases.check(layout.made(dtype), inputs, rng, **layout.place)
    drawn = "mark" if dtype == per_element_cases.MARKED else "fill"
    assert_every_kernel_ran(machine, driver.per_element(drawn, dtype))


def test_packed_masks(machine: MachineCodeLauncher) -> None:
    for _, layout, threshold in every_layout(np.dtype(np.uint8)):
        size = math.prod(layout.shape)
        for shape in (layout.shape, (size // 40 * 32 + 5,)):
            place: dict[str, Any] = layout.place if shape == layout.shape else {"offset": 3}
            bits = made((-(-math.prod(shape) // 8),), np.dtype(np.uint8), layout.by)
            index, strides = placement(
                shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
            )
            driver.pack(bits.array, shape, index, strides, *KEY, threshold)
            kept = kept_at(place, shape, threshold).ravel()
            assert_same(bits.array, np.packbits(kept, bitorder="little"))
            bits.array[...] = POISON
            assert (bits.memory == POISON).all()
    assert_every_kernel_ran(machine, PACK)


# Where the hardware's approximate functions take part, results are compared within the tolerances
# of the host tests, by those tests. Functions that are off by a unit in the last place must stay
# within them, too.
ERRORS = (0, 1, -1)


@pytest.mark.parametrize("dtype", FLOATS[1:], ids=str)
def test_softmax(
    dtype: np.dtype[Any], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    for error in ERRORS:
        running = MachineCodeLauncher(approximation_error=error)
        monkeypatch.setattr(driver, "_launcher", running)
        for shape in ((3, 5, 49), (2, 1030)) if error == 0 else ((3, 5, 49),):
            softmax.test_every_element_is_softmax_times_mask_in_every_layout(dtype, shape, rng)
        if error == 0:  # where rows lie is nothing to an approximation
            softmax.test_rows_of_any_alignment_and_offset(dtype, rng)
            softmax.test_infinities_nan_and_degenerate_p(dtype)
        x, dy = (numbers((2, 9000), dtype, rng) for _ in "xd")  # rows that a whole block shares
        y = softmax.made(x, poisoned(x.shape, dtype), -1)
        assert_close(y, forward(x, softmax.P), x, -1)
        dx = softmax.gradient(dy, x, poisoned(x.shape, dtype), -1)
        assert_gradient_close(dx, dy, x, softmax.P, -1)
    assert set(running.names) == set(modules.kernels(softmax_driver.MODULES[dtype.name]))


@pytest.mark.parametrize(
    "name",
    ["gelu_bias_residual_bias_act_drop_bfloat16", "silu_bias_bias_act_drop_backward_float16"],
)
def test_smooth_activations(
    name: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    for error in ERRORS:
        running = MachineCodeLauncher(approximation_error=error)
        monkeypatch.setattr(driver, "_launcher", running)
        activations.test_activations_and_their_gradients(name, rng)


def test_a_key_in_memory_is_read_and_advanced(machine: MachineCodeLauncher) -> None:
    key = np.array([KEY.seed, KEY.stream - 1], np.uint64)
    pointer = int(key.__array_interface__["data"][0])
    driver.advance(pointer)
    assert key.tolist() == list(KEY)
    y = made((1000,), np.dtype(np.bool_)).array
    parameters = 0, None, 1, 2, 1 << 31, np.zeros(())
    driver.apply(driver.operation("mark"), y, y, *parameters, key_pointer=pointer)
    np.testing.assert_array_equal(y, kept_at({}, (1000,), 1 << 31))
