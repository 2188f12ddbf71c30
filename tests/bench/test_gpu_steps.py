"""Parts of a first run on a GPU, by the stand-in for CuPy: a wrong kernel is not timed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import gpu, gpu_timer, races, sweep, verdict, warm
from bench.check import is_close, key
from bench.common import KI, Array, P, fresh_input
from bench.first import STAND_IN
from bench.results import load
from fastdrop_kernels.cuda import modules
from tests.support.cuda_host.host import COMPILER
from tests.support.oracle import ROOT
from tests.support.subprocesses import Finished, assert_succeeds, run_python

needs_gxx = pytest.mark.skipif(COMPILER is None, reason="g++ is not here to compile the kernels")


def by_the_stand_in(code: str, **environment: str) -> Finished:
    """Run code where `import cupy` finds the stand-in."""
    paths = os.pathsep.join([str(STAND_IN), str(ROOT), str(ROOT / "kernels")])
    return run_python(code, PYTHONPATH=paths, FASTDROP_REHEARSAL="1", **environment)


EXACT = """
import numpy as np, cupy, fastdrop as fd
x = np.random.default_rng().standard_normal((30, 50)).astype(np.float32)
there = cupy.asarray(x)
for mine, a in ((x, there), (x.T, there.T), (x[:, 1:], there[:, 1:])):
    y = fd.dropout(a, 0.3, rng=7)
    assert type(y) is cupy.ndarray and y.strides == fd.dropout(mine, 0.3, rng=7).strides
    assert (y.get() == fd.dropout(mine, 0.3, rng=7)).all()
print("exact")
"""

WRONG = """
from pathlib import Path
from bench.__main__ import main
from fastdrop_kernels.cuda import modules
right = modules.header
modules.header = lambda **settings: right(**settings).replace(
    "mask_position(p.index + u64(first))", "mask_position(p.index + u64(first) + 8)"
)
{command}
"""


@needs_gxx
def test_the_stand_in_runs_the_cuda_kernels() -> None:
    assert assert_succeeds(by_the_stand_in(EXACT)) == "exact\n"


@needs_gxx
@pytest.mark.parametrize(
    "command",
    [
        'main(["sweep", "--sizes", "64Ki", "--only", "256x4"])',
        'main(["gpu", "--quick", "--sizes", "64Ki", "--dtypes", "float32", "--only", "fastdrop"])',
    ],
    ids=["sweep", "gpu"],
)
def test_a_wrong_kernel_is_an_error_and_not_timed(command: str) -> None:
    assert "mask_position(p.index + u64(first))" in modules.header()
    done = by_the_stand_in(WRONG.format(command=f"raise SystemExit({command})"))
    assert done.status == 2 and "differs from the CPU's from element 0 on" in done.stderr
    assert "fastdrop, out=y" not in done.stdout and "256x4" not in done.stdout


@needs_gxx
def test_beside_what_is_wrong_the_others_are_timed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    only = "fastdrop,fastdrop-softmax,cupy"
    arguments = ["gpu", "--quick", "--sizes", "64Ki", "--dtypes", "float32", "--only", only]
    arguments += ["--output", str(file)]
    done = by_the_stand_in(WRONG.format(command=f"raise SystemExit(main({arguments}))"))
    assert done.status == 2 and "differs from the CPU's from element 0 on" in done.stderr
    found = {row["contender"] for row in load(file)["rows"]}
    assert found == {"copy", "copy-kernel", "cupy", "fastdrop-softmax"}


@needs_gxx
def test_a_shape_that_the_headers_refuse_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    arguments = ["sweep", "--sizes", "64Ki", "--only", "256x4,128x2", "--output", str(file)]
    code = """
from bench.__main__ import main
from fastdrop_kernels.cuda import modules
right, refused = modules.header, 'static_assert(false, "no such shape");'
modules.header = lambda **settings: right(**settings) + refused * bool(settings)
"""
    assert_succeeds(by_the_stand_in(f"{code}raise SystemExit(main({arguments}))"))
    text = file.read_text()
    assert "left out, it fails: 128x2" in text and '"variant": "256x4"' in text
    assert '"variant": "128x2"' not in text


@needs_gxx
@pytest.mark.slow
def test_every_launch_shape_is_exact(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    arguments = ["sweep", "--sizes", "64Ki", "--output", str(file)]
    code = f"from bench.__main__ import main\nraise SystemExit(main({arguments}))"
    assert_succeeds(by_the_stand_in(code))
    (line,) = verdict.shapes(tmp_path)
    assert "the present 256x4 takes" in line
    assert {str(shape) for shape in sweep.SHAPES} <= set(file.read_text().split('"'))


def test_the_present_shape_is_swept_and_is_the_kernel_that_calls_launch() -> None:
    assert sweep.PRESENT in sweep.SHAPES
    present = sweep.kernel_of("bfloat16", sweep.PRESENT)
    assert present.settings == () and present.name == "drop_bfloat16_contiguous_32"
    kernels = [sweep.kernel_of("bfloat16", shape) for shape in sweep.SHAPES]
    sources = {modules.source(k.module, k.name, **dict(k.settings)) for k in kernels}
    assert len(sources) == len(sweep.SHAPES)
    assert modules.source(present.module, present.name) in sources
    assert present in warm.kernels()


class Spinning:
    """A CuPy on a device of 1 GHz, and a clock; nothing but kernels takes time."""

    def __init__(self) -> None:
        self.now, self.recorded, self.spun = 0.0, list[float](), list[int]()
        device = SimpleNamespace(synchronize=lambda: None)
        self.cuda = SimpleNamespace(
            Device=lambda: device, Event=self.event, get_elapsed_time=lambda a, b: b.at - a.at
        )

    def perf_counter(self) -> float:
        return self.now

    def event(self) -> Any:
        made = SimpleNamespace(synchronize=lambda: None)

        def record() -> None:
            made.at = 1e3 * self.now
            self.recorded.append(self.now)

        made.record = record
        return made

    def RawKernel(self, code: str, name: str) -> Any:  # noqa: N802
        assert f"void {name}(long long cycles)" in code

        def spin(grid: Any, block: Any, arguments: Any) -> None:
            (cycles,) = arguments
            assert type(cycles) is np.int64
            self.spun.append(int(cycles))
            self.now += int(cycles) * 1e-9

        return spin


def test_the_clocks_are_warm_before_a_spin_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = Spinning()
    monkeypatch.setattr(gpu_timer, "time", cupy)
    timer = gpu_timer.Timer(cupy)
    assert cupy.recorded[0] >= gpu_timer.WARM_SECONDS == 50e-3
    assert timer.rate == pytest.approx(1e9)
    before = len(cupy.spun)

    def call() -> None:
        cupy.now += 1e-5

    assert timer.batch(call, 7, host=1e-4) == pytest.approx((1e-5, 1e-5))
    assert cupy.spun[before:] == [int(timer.rate * gpu_timer.SPARE * 7e-4)]
    timer.batch(call, 5, host=1.0)  # the device is never held for long
    assert cupy.spun[-1] == int(timer.rate * gpu_timer.MOST_SECONDS)
    timer.batch(call, 5, host=1.0, own_stream=True)
    assert len(cupy.spun) == before + 2


def test_wrong_softmaxes_are_found() -> None:
    import fastdrop as fd

    x, dy = (fresh_input(64 * KI).reshape(-1, gpu.ROW) for _ in "ab")
    right = fd.softmax_dropout(x, P, rng=key(), offset=gpu.ROW)
    back = fd.softmax_dropout_backward(dy, x, P, rng=key(), offset=gpu.ROW)

    def complaint(given: Array, first: int, forward: bool) -> str:
        scores, gradient, y = (a.reshape(-1) for a in (x, dy, given))
        return gpu.softmax_complaint(scores, gradient, y, first, forward)

    assert complaint(right, gpu.ROW, True) == complaint(back, gpu.ROW, False) == ""
    for first, given, forward in ((0, right, True), (0, back, False), (gpu.ROW, back, True)):
        assert "instead of" in complaint(given, first, forward)
    for value in (np.nan, 1e-12):  # where an element is dropped
        off = right.copy()
        off[tuple(np.argwhere(right == 0)[7])] = value
        assert "instead of 0" in is_close(off, right, zeros=True)
    assert is_close(off, right, zeros=False) == ""


def test_a_sanitizer_that_is_not_there_or_cannot_work_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FASTDROP_REHEARSAL", raising=False)
    monkeypatch.setattr(sys, "argv", ["races", "racecheck"])
    monkeypatch.setattr(races, "sanitizer", lambda: None)
    assert races.main() == verdict.SKIPPED
    assert "compute-sanitizer is not here" in capfd.readouterr().out
    tool = tmp_path / "compute-sanitizer"
    monkeypatch.setattr(races, "sanitizer", lambda: str(tool))
    for says, status, expected in (
        ("Error: Device not supported", 1, verdict.SKIPPED),
        ("1 hazard", races.FOUND, races.FOUND),
        ("0 hazards", 0, 0),
    ):
        tool.write_text(f"#!/bin/sh\necho {says} $2 $4\nexit {status}\n")
        tool.chmod(0o755)
        assert races.main() == expected
        assert f"{says} racecheck {races.FOUND}" in capfd.readouterr().out


TRITON = """
import numpy as np, torch
from bench import triton_dropout
from bench.check import is_dropout
from bench.common import fresh_input

x = fresh_input(20_000)
y, again = (torch.empty(x.size) for _ in "ab")
for made in (y, again):
    triton_dropout.dropout(torch.from_numpy(x), made, 0.1, 2026)
assert torch.equal(y, again)
print(is_dropout(x, y.numpy(), 0.1) or "dropout")
"""


def test_the_kernel_of_tritons_tutorial_is_dropout_in_the_interpreter() -> None:
    for name in ("torch", "triton"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    more = [ROOT, ROOT / "kernels", os.environ.get("PYTHONPATH", "")]
    paths = os.pathsep.join(map(str, more))
    done = run_python("import warnings; warnings.simplefilter('ignore')" + TRITON,
                      PYTHONPATH=paths, TRITON_INTERPRET="1")  # fmt: skip
    assert assert_succeeds(done) == "dropout\n"
