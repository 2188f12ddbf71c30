"""Numba's kernels for a GPU, compiled for real processors on a machine without a driver.

They become PTX by NVVM, and that becomes machine code by nvJitLink, which reports on it. Both come
from packages: ``pip install -e '.[cuda-check]'``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="this Numba has no CUDA: pip install numba-cuda")

from numba import cuda, types

from fastdrop import device
from fastdrop_kernels import catalogue
from fastdrop_kernels.numba_cuda import driver, kernels, operations
from fastdrop_kernels.numba_cuda.operations import Operation
from tests.support.devices import numba_cuda_complaint

# Kernels compile alike for all of these, but for the rounding of half types: the newest is quick.
PROCESSORS = [
    pytest.param((7, 5), marks=pytest.mark.slow),
    pytest.param((8, 0), marks=pytest.mark.slow),
    (9, 0),
]
DROP_FLOAT32 = operations.operation("drop", np.dtype(np.float32))
MARK = operations.operation("mark")
OPERATIONS = [
    *(operations.operation("drop", np.dtype(kind)) for kind in ("float16", "float32", "float64")),
    *(operations.operation("fill", np.dtype((np.void, size))) for size in catalogue.SIZES),
    MARK,
]
I64, U64 = types.int64, types.uint64


def _missing() -> str:
    if getattr(cuda, "implementation", "") != "NVIDIA":
        return "Numba's own CUDA finds no compiler in packages: pip install -e '.[cuda-check]'"
    try:
        from cuda.bindings import nvjitlink, nvvm

        nvvm.version()
        nvjitlink.version()
    except Exception as error:
        return f"NVVM or nvJitLink is missing: pip install -e '.[cuda-check]' ({error})"
    return numba_cuda_complaint()


MISSING = _missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(params=PROCESSORS, ids=lambda cc: "sm_{}{}".format(*cc))
def compiled(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any, Any], tuple[str, str]]:
    """Compile a kernel for a processor: its PTX, and the report on its machine code."""
    processor: tuple[int, int] = request.param
    # What a kernel calls, Numba compiles for the current device, and there is none.
    present = SimpleNamespace(compute_capability=processor)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: present)

    def compile_it(kernel: Any, arguments: tuple[Any, ...]) -> tuple[str, str]:
        fresh = cuda.jit(kernel.py_func)
        ptx: str
        ptx, _ = cuda.compile(
            fresh.py_func, types.void(*arguments), cc=processor, device=False, abi="numba"
        )
        return ptx, report(ptx, "sm_{}{}".format(*processor))

    return compile_it


def report(ptx: str, processor: str) -> str:
    from cuda.bindings import nvjitlink

    text = ptx.encode()
    handle = nvjitlink.create(2, [f"-arch={processor}", "-verbose"])
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, text, len(text), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    return log.decode()


def check(ptx: str, log: str, draws: int, registers: int) -> None:
    """All is inlined and in registers, and Philox multiplies as often as it must."""
    assert ".local" not in ptx
    assert not re.search(r"\bcall\b|\.func\b", ptx)
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
    used = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    assert used and max(used) <= registers
    # Two multiplications a round by Philox's constants, and none wider than of 32-bit words: the
    # machine multiplies them in one instruction where the other operand is known to be a word.
    constants = {str(c) for c in (0xD2511F53, 0xCD9E8D57)}
    products = re.findall(r"mul\.(lo\.s64|wide\.u32)\s+%\w+, (%\w+), (-?\d+);", ptx)
    philox = [(kind, operand) for kind, operand, by in products if by in constants]
    assert 0 < len(philox) <= 20 * draws
    is_word = words_of(ptx)
    for kind, operand in philox:
        assert kind == "wide.u32" or is_word(operand), operand


def words_of(ptx: str) -> Callable[[str], bool]:
    """Return what says whether the upper half of a 64-bit operand is 0, by what writes it."""
    writers: dict[str, list[tuple[str, str, str]]] = {}
    for operator, to, first, second in re.findall(
        r"([\w.]+)\s+(%rd\d+), ([^\s,;]+)(?:, ([^\s,;]+))?;", ptx
    ):
        writers.setdefault(to, []).append((operator, first, second))

    @functools.cache  # an operand is reached along many paths
    def is_word(operand: str) -> bool:
        if not operand.startswith("%"):
            return operand.isdigit() and int(operand) < 2**32
        return operand in writers and all(writes_word(*writer) for writer in writers[operand])

    def writes_word(operator: str, first: str, second: str) -> bool:
        if operator == "and.b64":
            return is_word(second)
        if operator == "shr.u64":
            return second.isdigit() and int(second) >= 32
        if operator in ("xor.b64", "or.b64"):
            return is_word(first) and is_word(second)
        return operator == "cvt.u64.u32"

    return is_word


def numba_type(dtype: np.dtype[Any]) -> Any:
    return getattr(types, dtype.name)


def types_of(operation: Operation) -> tuple[Any, Any]:
    """Those of memory and of the parameter."""
    parameter = operation.parameter or np.dtype(np.uint8)
    return types.Array(numba_type(operation.target), 1, "C"), numba_type(parameter)


Compiled = Callable[[Any, Any], tuple[str, str]]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_tile_kernels_compile(compiled: Compiled, operation: Operation) -> None:
    memory, parameter = types_of(operation)
    arguments = (memory, memory, I64, U64, U64, U64, U64, parameter)
    ptx, log = compiled(kernels.tiles(operation), arguments)
    check(ptx, log, draws=2, registers=64 if operation.target.itemsize < 16 else 96)
    if operation.name == "drop-float16":
        assert "cvt.f32.f16" in ptx and "cvt.rn.f16.f32" in ptx and "mul.f32" in ptx
    # All 8 loads come before the first draw, so that the thread waits for memory once.
    size = 8 * operation.target.itemsize
    kind = rf"ld\.global\.(v2\.)?\w{size if size < 128 else 64}\b"
    drawn = ptx.index("3528531795")  # 0xD2511F53
    ahead = len(re.findall(kind, ptx[:drawn]))
    assert ahead >= 8 if operation.source is not None else ahead == 0


@pytest.mark.parametrize("count", [np.uint32, np.uint64])
@pytest.mark.parametrize("axes", [1, 2, 4])
def test_element_kernels_compile(compiled: Compiled, axes: int, count: Any) -> None:
    operation = DROP_FLOAT32
    memory, parameter = types_of(operation)
    columns = (types.UniTuple(I64, axes),) * 4
    arguments = (memory, memory, I64, *columns, I64, I64, I64, U64, U64, U64, parameter)
    ptx, log = compiled(kernels.elements(operation, count), arguments)
    check(ptx, log, draws=2, registers=64)
    if count is np.uint32:
        assert not re.search(r"\b(div|rem)\.[su]64", ptx)


def test_packing_kernels_compile(compiled: Compiled) -> None:
    memory, columns = types.uint8[::1], (types.UniTuple(I64, 3),) * 2
    ptx, log = compiled(kernels.packed(np.uint32), (memory, I64, *columns, I64, U64, U64, U64))
    check(ptx, log, draws=2 * 8, registers=64)
    ptx, log = compiled(kernels.packed_blocks(), (memory, I64, U64, U64, U64, U64))
    check(ptx, log, draws=2, registers=64)


def test_a_user_s_kernel_compiles(compiled: Compiled) -> None:
    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(x: Any, y: Any, seed: Any, stream: Any, p: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            kept = device.keep(seed, stream, i, device.threshold(p))
            y[i] = x[i] if kept else np.float32(0)

    memory = types.float32[::1]
    ptx, log = compiled(kernel, (memory, memory, U64, U64, types.float64))
    check(ptx, log, draws=2, registers=64)


def test_small_grids_raise_no_warning_of_numba() -> None:
    """Warnings are errors here: Numba warns when a launch is configured, which needs no device."""
    for kernel in (kernels.tiles(MARK), kernels.packed_blocks()):
        driver._launch(kernel, 1, kernels.TILE, 0)
