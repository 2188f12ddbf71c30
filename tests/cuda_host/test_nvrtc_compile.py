"""The CUDA C++ compiles for every architecture, without a GPU, and no kernel uses local memory."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastdrop_kernels.cuda import modules, operations
from fastdrop_kernels.cuda.batch import keep
from tests.support import nvrtc
from tests.support.cuda_host.functors import FUNCTORS

pytestmark = pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT)

# Of the operations of several operands, those that need the most registers or instructions.
JOINT = (
    operations.of_elements("bias_act_drop", "bfloat16", "gelu", True, True),
    operations.of_elements("bias_act_drop", "float32", "relu", True, True),
    operations.of_elements("bias_act_drop_backward", "float16", "gelu", True),
    operations.of_elements("bias_act_drop_backward", "float64", "gelu", True),
)
# Each module takes a compiler some seconds. `python -m tests.support.nvrtc` has all for all
# architectures; here are dropout, masks and fills, and of the others those with the fewest
# registers to spare.
PLAIN = [o for name in ("drop", "fill", "mark", "pack") for o in operations.family(name).values()]
TIGHT = (
    operations.of_elements("alpha", "bfloat16"),
    operations.of_elements("gaussian_drop", "float16"),
    operations.of_elements("gaussian_add", "bfloat16"),
    operations.per_element("drop", np.dtype("float16")),
    operations.per_element("fill", np.dtype("u1")),
)
ENDS = nvrtc.ARCHITECTURES[0], nvrtc.ARCHITECTURES[-1]


def architectures(operation: operations.Operation) -> tuple[str, ...]:
    """Those that an operation is compiled for here.

    Half types are rounded in other ways on each architecture; fills, which only move, are alike.
    """
    if operation in operations.family("fill").values():
        return ENDS[1:]
    return nvrtc.ARCHITECTURES if "float16" in operation.name else ENDS


CASES = [
    *((o, a) for o in PLAIN for a in architectures(o)),
    *((o, "sm_90") for o in (*TIGHT, *FUNCTORS, *JOINT)),
]
# A second each: the one architecture without bfloat16 instructions, and the newest.
QUICK = [("drop_bfloat16", "sm_75"), ("drop_float16", "sm_90")]


@pytest.mark.parametrize(
    ("operation", "architecture"),
    [
        pytest.param(
            o, a, id=f"{o.name}-{a}", marks=[] if (o.name, a) in QUICK else pytest.mark.slow
        )
        for o, a in CASES
    ],
)
def test_a_module_compiles_to_kernels_that_stay_in_registers(
    operation: operations.Operation, architecture: str
) -> None:
    module = operation.module
    cubin, ptx, reports = nvrtc.compiled(module, architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(module))
    for kernel, report in reports.items():
        assert report.stack == report.spilled == 0, kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel  # two blocks at once
    if operation in operations.EVERY or "relu" in operation.name:
        assert ".ftz" not in ptx, "subnormal numbers would be taken for zeros"
        written = re.sub(r"// begin inline asm.*?// end inline asm", "", ptx, flags=re.DOTALL)
        assert "fma." not in written, "products would not be rounded before they are added to"


def test_the_module_that_advances_keys_compiles() -> None:
    assert set(nvrtc.compiled(modules.ADVANCE, "sm_90").reports) == {"advance"}


def test_a_call_compiles_one_kernel() -> None:
    module, name = operations.of_elements("drop", "float32").module, "drop_float32_contiguous_32"
    assert set(nvrtc.compiled(module, "sm_90", name).reports) == {name}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ENDS)
def test_kernels_that_keep_k_compile(architecture: str) -> None:
    """Some spill a few registers, for ties alone; none has an array in local memory."""
    cubin, _, reports = nvrtc.compiled(keep.module(), architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(keep.module()))
    for kernel, report in reports.items():
        assert max(report.stack, report.spilled) <= 64, kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel
