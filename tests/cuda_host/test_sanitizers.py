"""The CUDA kernels, compiled for the host, under sanitizers: they stay in memory of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cuda_host import host

TOPICS = ("layouts", "half_types", "launches")


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.skipif(host.COMPILER is None, reason="g++ is not here")
def test_no_kernel_reads_or_writes_what_is_not_its_own() -> None:
    """The tests of these topics under the address and the undefined-behaviour sanitizer."""
    assert host.COMPILER
    asan, ubsan = (
        subprocess.run(
            [host.COMPILER, f"-print-file-name=lib{name}.so"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("asan", "ubsan")
    )
    if not os.path.isabs(asan):
        pytest.skip("the sanitizers' libraries are not here")
    environment = dict(os.environ)
    environment |= {host.SANITIZED: "1", "LD_PRELOAD": f"{asan} {ubsan}"}
    environment["ASAN_OPTIONS"] = "detect_leaks=0"
    files = [str(Path(__file__).with_name(f"test_{topic}.py")) for topic in TOPICS]
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"),
            *files,
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
