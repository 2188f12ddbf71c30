"""The example of a kernel of one's own is right, says so, and sees when it is not."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="the example needs rich")

from fastdrop.examples import own_kernel
from tests.support.subprocesses import assert_succeeds, run_python


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_kernel, "SHAPE", (13, 37))  # of no whole number of blocks
    monkeypatch.setattr(own_kernel, "ROUNDS", 2)
    monkeypatch.setenv("COLUMNS", "100")


def test_all_ways_give_the_same_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_kernel.main() == 0
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    rows = {row[0]: row[1:] for row in cells if len(row) == 4}
    assert len(rows) == 3
    assert all(row[-1] == "yes" and float(row[0]) > 0 for row in rows.values())


def test_a_wrong_kernel_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = own_kernel.fused

    def wrong(x: Any, bias: Any) -> Any:
        y = right(x, bias)
        y.flat[-1] = np.nextafter(y.flat[-1], np.float32(9))
        return y

    monkeypatch.setattr(own_kernel, "fused", wrong)
    assert own_kernel.main() == 1
    assert "NO" in capsys.readouterr().out


@pytest.mark.slow
def test_the_gpu_s_kernel_gives_the_same_bits_in_the_simulator() -> None:
    pytest.importorskip("numba.cuda", reason="this Numba has no CUDA: pip install numba-cuda")
    code = (
        "from fastdrop.examples import own_kernel as e; e.SHAPE, e.ROUNDS = (13, 37), 1\n"
        "raise SystemExit(e.main())"
    )
    out = assert_succeeds(run_python(code, NUMBA_ENABLE_CUDASIM="1", COLUMNS="100"))
    assert "simulator of a GPU, 6 x 50: equal to the bit." in out


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_kernel, "find_spec", lambda name: None)
    assert own_kernel.main() == 1
    assert "pip install 'fastdrop-kernels[examples]'" in capsys.readouterr().err
    assert sys.modules["fastdrop.examples.own_kernel"] is own_kernel
