"""The kernels that mask tokens compile with NVRTC, and use no local memory."""

from __future__ import annotations

import pytest

from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import tokens
from tests.support import nvrtc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT),
]


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_the_kernels_stay_in_registers(architecture: str) -> None:
    module = tokens.module()
    cubin, _, reports = nvrtc.compiled(module, architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(module))
    for kernel, report in reports.items():
        assert report.stack == report.spilled == 0, kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel
        print(kernel, report)
