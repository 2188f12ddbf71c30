"""Which launches a layout takes, and what is passed to the CUDA kernels."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastdrop_kernels import contract, reference
from fastdrop_kernels.cuda import driver, launch, modules, operations, softmax_driver
from tests.support.cuda_host import host
from tests.support.cuda_host.cases import (
    ALWAYS,
    KEY,
    check,
    dtype_of,
    kept_at,
    made,
    settings_of_launches,
)
from tests.support.cuda_host.functors import RESIDUAL
from tests.support.cuda_host.host import HostLauncher
from tests.support.internals import c_strides
from tests.support.oracle import Array, assert_same, poisoned


@pytest.mark.usefixtures("cuda_on_host")
def test_field_offsets_are_those_of_the_header() -> None:
    class Field(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p), ("offset", ctypes.c_size_t)]

    fields: dict[str, int] = {}
    for field in (Field * 64).in_dll(host.library_of(modules.ADVANCE), "FIELDS"):
        if field.name is None:
            break
        fields[field.name.decode()] = field.offset
    call = launch.ADDRESSES_AND_KEY.size + launch.CALL.size
    assert list(fields.values()) == [
        *(0, 32, 40, 48, 56, 64, 96, 100),  # what ADDRESSES_AND_KEY and CALL pack
        *(call + at for at in (0, 8, 16, 48, 64, 80, 136, 144)),  # LAYOUT
        *(0, 8, 16, 48, 52, launch.AXIS.size),  # and AXIS
    ]
    assert (launch.ADDRESSES_AND_KEY.size, call) == (56, 104)
    assert launch.LAYOUT.size == 144


@pytest.mark.parametrize(
    ("what", "shape", "order", "steps", "place", "form"),
    [
        ("drop float32", (3000,), (0,), (1,), {}, "contiguous"),
        ("drop float32", (30, 100), (0, 1), (1, 1), {"noise_shape": (1, 100)}, "strided"),
        ("drop float32", (30, 100), (0, 1), (1, 1), {"noise_shape": (30, 1)}, "runs"),
        ("drop float32", (30, 100), (1, 0), (1, 1), {}, "transposed"),
        ("drop float32", (30, 100), (0, 1), (1, 2), {}, "any"),
        ("drop float32", (30, 100), (1, 0), (-1, -2), {}, "transposed"),
    ],
)
def test_each_layout_takes_its_kernel(
    what: str,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    steps: tuple[int, ...],
    place: dict[str, Any],
    form: str,
    cuda_on_host: HostLauncher,
    rng: np.random.Generator,
) -> None:
    dtype = dtype_of(what)
    check(what, made(shape, dtype, 0, order, steps), made(shape, dtype), 1 << 31, rng, **place)
    assert cuda_on_host.names[-1] == f"drop_float32_{form}_32"


@pytest.mark.usefixtures("cuda_on_host")
@pytest.mark.parametrize("p_is_one", [False, True])
def test_degenerate_p_draws_nothing_and_reads_nothing_dropped(p_is_one: bool) -> None:
    y = poisoned((40, 50), np.float32)
    x = np.full((40, 50), np.nan, np.float32)
    threshold, one = (ALWAYS if p_is_one else 0), np.float32(1).tobytes()
    # Where all is dropped x is never read: its address may be invalid.
    at = 16 if p_is_one else x.ctypes.data
    made_launches = list(
        launch.launches(
            operations.of_elements("drop", "float32"), [y.ctypes.data, at], y.shape,
            (y.strides, x.strides), 3,
            c_strides(y.shape), *KEY, threshold, one,
        )
    )  # fmt: skip
    assert [m.kernel for m in made_launches] == ["drop_float32_runs_32"]
    assert driver._launcher is not None
    driver._launcher.launch(made_launches[0])
    assert y.tobytes() == bytes(y.nbytes) if p_is_one else np.isnan(y).all()


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_an_array_too_large_for_a_launch_is_split(
    blocks: int, cuda_on_host: HostLauncher, rng: np.random.Generator
) -> None:
    dtype = np.dtype(np.float32)
    shape = (5, 6001)
    for order in ((0, 1), (1, 0)):
        before = len(cuda_on_host.names)
        with settings_of_launches(MAX_BLOCKS=blocks):
            y, x = made(shape, dtype, 4, order), made(shape, dtype, 8, order)
            check("drop float32", y, x, 0x80000001, rng, offset=7)
        assert len(cuda_on_host.names) - before > 1


def test_packed_masks_are_split_along_the_outer_axis_alone(cuda_on_host: HostLauncher) -> None:
    """Bits are packed in C order, whichever axes a noise_shape shares."""
    for shape, noise_shape in (
        ((3, 9000), (1, 9000)),
        ((60, 4004), (60, 1)),
        ((40, 600, 100), None),
    ):
        index = reference.mask_index(shape, noise_shape)
        steps = tuple(
            0 if n == 1 else step
            for n, step in zip(noise_shape or shape, c_strides(noise_shape or shape), strict=True)
        )
        y = poisoned((-(-math.prod(shape) // 8),), np.dtype(np.uint8))
        before = len(cuda_on_host.names)
        with settings_of_launches(MAX_BLOCKS=1):
            driver.pack(y, shape, 0, steps, *KEY, 1 << 31)
        kept = contract.keep(np.uint64(KEY.seed), np.uint64(KEY.stream), index, np.uint64(1 << 31))
        assert_same(y, np.packbits(kept.ravel(), bitorder="little"))
        assert len(cuda_on_host.names) - before > 1


@pytest.mark.usefixtures("counting", "cuda_on_host")
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_operation_of_three_operands_is_one_functor(
    order: Any, rng: np.random.Generator
) -> None:
    # dropout(x + bias) * scale + residual, the bias broadcast along rows.
    shape = (33, 70)
    x, residual = (
        np.asarray(rng.standard_normal(shape).astype(np.float32), order=order) for _ in "ab"
    )
    bias = np.broadcast_to(rng.standard_normal(70).astype(np.float32), shape)
    for by in (0, 4, 8):
        y = made(shape, np.dtype(np.float32), by, (0, 1) if order == "C" else (1, 0)).array
        arrays = (y, x, bias, residual)
        assert driver._launcher is not None
        for one in launch.launches(
            RESIDUAL, [a.ctypes.data for a in arrays], shape, tuple(a.strides for a in arrays), 5,
            c_strides(shape), *KEY, 1 << 30, np.float32(1.25).tobytes(),
        ):  # fmt: skip
            driver._launcher.launch(one)
        kept = kept_at({"offset": 5}, shape, 1 << 30)
        expected = np.where(kept, (x + bias) * np.float32(1.25), np.float32(0)) + residual
        assert_same(np.ascontiguousarray(y), expected)


def test_magic_numbers_divide_every_index(rng: np.random.Generator) -> None:
    numerators = [0, 1, 2**31 - 1, *rng.integers(0, 2**31, 200).tolist()]
    for length in [1, 2, 3, 5, 7, 8, 641, 2**16, 2**16 + 1, 2**30, 2**31 - 1,
                   *rng.integers(1, 2**31, 200).tolist()]:  # fmt: skip
        *_, magic, shift = launch.AXIS.unpack(launch.packed_axis((length, 0)))
        for n in (*numerators, length - 1, length, min(2 * length, 2**31 - 1)):
            assert ((n * magic >> 32) + n) >> shift == n // length


def test_modules_name_their_kernels_after_the_operation() -> None:
    module = operations.of_elements("drop", "bfloat16").module
    entry = "FASTDROP_KERNEL(drop_bfloat16_strided_64, STRIDED, fastdrop::u64, "
    entry += "(FASTDROP_IN_FLIGHT + 0) / 1, fastdrop::Drop<fastdrop::Bfloat16>)"
    assert entry in modules.source(module)
    assert "#include" not in modules.source(module)


def test_a_kernel_has_a_source_of_its_own() -> None:
    drop = operations.of_elements("drop", "bfloat16").module
    names = [f"drop_bfloat16_{s.lower()}_{n}" for n in (32, 64) for s in modules.SCHEDULES]
    assert list(modules.kernels(drop)) == names
    for module in (drop, modules.ADVANCE, softmax_driver.MODULES["float32"]):
        for name in modules.kernels(module):
            text = modules.source(module, name).removeprefix(modules.header())
            assert text.startswith("FASTDROP_") and text.count("\n") == 1
            assert f"({name}," in text.replace(")", ",")


def test_settings_of_the_header_may_be_changed() -> None:
    assert "#define FASTDROP_THREADS 128\n" in modules.header(THREADS=128)
    assert f"#define FASTDROP_THREADS {modules.THREADS}\n" in modules.header()


def test_the_launcher_gives_cupy_one_argument_by_value(
    cuda_on_host: HostLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What stands in for CuPy reads the argument as CuPy does: of a NumPy array of one element, the
    # memory. Whether CuPy itself agrees is for a machine that has it.
    made_modules = []

    class RawModule:
        def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
            assert (options, backend) == (modules.OPTIONS, "nvrtc")
            made_modules.append(code)

        def get_function(self, name: str) -> Callable[..., None]:
            def kernel(grid: tuple[int], block: tuple[int], args: tuple[Array]) -> None:
                (argument,) = args
                assert argument.size == 1
                at = argument.__array_interface__["data"][0]
                data = ctypes.string_at(at, argument.nbytes)
                module = operations.operation("mark").module
                cuda_on_host.launch(launch.Launch(module, name, *grid, *block, data))

            return kernel

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
    monkeypatch.delitem(sys.modules, "fastdrop_kernels.cuda.cupy_launcher", raising=False)
    from fastdrop_kernels.cuda.cupy_launcher import CupyLauncher

    monkeypatch.delitem(sys.modules, "fastdrop_kernels.cuda.cupy_launcher")
    runner = CupyLauncher()
    for shape in ((1000,), (20, 50)):
        out = poisoned(shape, np.bool_)
        for one in launch.launches(
            operations.operation("mark"), [out.ctypes.data], shape, (out.strides,), 0,
            c_strides(shape), *KEY,
            1 << 31,
        ):  # fmt: skip
            runner.launch(one)
        np.testing.assert_array_equal(out, kept_at({}, shape, 1 << 31))
    # One kernel ran, and no other was compiled.
    assert made_modules == [
        modules.source(operations.operation("mark").module, "mark_contiguous_32")
    ]
