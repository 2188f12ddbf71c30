"""The CUDA C++ of spans and bands compiles for the oldest and the newest architecture."""

from __future__ import annotations

import pytest

from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import bands, spans
from tests.support import nvrtc

pytestmark = [
    pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT),
    pytest.mark.slow,
]


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("module", [spans.module(), bands.module()], ids=lambda m: m.name)
def test_a_module_compiles_to_kernels_that_stay_in_registers(
    module: modules.Module, architecture: str
) -> None:
    cubin, _, reports = nvrtc.compiled(module, architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(module))
    for kernel, report in reports.items():
        assert report.stack == report.spilled == 0, kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel  # two blocks at once
