"""The CUDA C++ of the functions on batches compiles without a GPU, and stays in registers."""

from __future__ import annotations

import importlib

import pytest

from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import FAMILIES
from tests.support import nvrtc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT),
]

# Bytes that kernels may keep in memory, where registers do not suffice: `keep_k` along another axis
# than the last draws each element by Philox calls of its own.
SPILLED = {"keep_k_block_other": 64, "keep_k_warp_2_other": 64}


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_compiles(family: str, architecture: str) -> None:
    module = importlib.import_module(f"fastdrop_kernels.cuda.batch.{family}").module()
    cubin, _, reports = nvrtc.compiled(module, architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(module))
    for kernel, report in reports.items():
        assert max(report.stack, report.spilled) <= SPILLED.get(kernel, 0), kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel  # two blocks at once
