"""`warmup` for a GPU: what it compiles is what calls launch, and lies where CuPy looks for it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import __main__ as command
from fastdrop_kernels.cuda import compile_ahead, compile_worker, driver, modules, operations
from fastdrop_kernels.cuda.compile_ahead import CompileError, Kernel
from fastdrop_kernels.cuda.launch import Launch
from tests.support import nvrtc, systems
from tests.support.cuda_host.cases import BFLOAT16
from tests.support.devices import cupy_or_skip, host_device
from tests.support.internals import WARMUP_FUNCTIONS, cuda_kernels_of
from tests.support.subprocesses import KILL, assert_succeeds, run_python
from tests.support.warmup_calls import DTYPES, calls_of

needs_nvrtc = pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT)
PLAIN = Kernel(operations.of_elements("drop", "float32").module, "drop_float32_contiguous_32")
ADVANCE = Kernel(modules.ADVANCE, "advance")


class Recorder:
    """A launcher that only remembers what it should have launched."""

    def __init__(self) -> None:
        self.kernels: set[tuple[str, str]] = set()

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def launch(self, launch: Launch) -> None:
        self.kernels.add((launch.module.name, launch.kernel))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    made = Recorder()
    monkeypatch.setattr(driver, "_launcher", made)
    yield made


# Nothing is computed, so that sums are of arbitrary numbers.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
# DropBlock computes with CuPy's own kernels, too, which need a GPU.
@pytest.mark.parametrize("name", [n for n in WARMUP_FUNCTIONS if not n.startswith("drop_block")])
def test_all_that_a_function_launches_is_compiled(name: str, recorder: Recorder) -> None:
    dtype, by_p = DTYPES.get(name, "float32"), name in ("dropout", "masked_fill", "dropout_mask")
    compiled = {(k.module.name, k.name) for k in cuda_kernels_of([name], dtype, by_p)}
    with host_device(driver) as (device, _):
        for place in (slice(None), slice(None, None, 3)):
            for shape in ((30, 50), (50, 30)):
                x = device.put(np.ones(shape, dtype))
                a = (x if shape[0] == 30 else x.T)[:, place]
                if name.startswith(("feature", "drop_block", "drop_path")) and place.step:
                    continue
                there: dict[str, Any] = {"fd": fd, "a": a, "p": 0.3, "one_like": {"like": a}}
                there["bias"] = device.put(np.ones(a.shape[1], dtype))
                there["column"] = device.put(np.ones((a.shape[0], 1), dtype))
                there["images"] = device.put(np.ones((4, 3, 16, 17), dtype))
                there["volumes"] = device.put(np.ones((2, 2, 9, 8, 7), dtype))
                there["some"] = [np.full(s, 0.3) for s in (a.shape[1], (a.shape[0], 1), a.shape)]
                code = calls_of(name)
                if name == "dropout_mask":
                    code = code.replace("packed=k", "packed=k, like=a")
                code = code.replace("out=a.copy()", "out=a")  # no kernel of CuPy's runs here
                exec(code, there)
    assert recorder.kernels and recorder.kernels <= compiled, recorder.kernels - compiled


def test_the_common_kernels_come_first() -> None:
    found = cuda_kernels_of(["dropout"], BFLOAT16, False)
    assert found[0].name == "drop_bfloat16_contiguous_32" and found[-1] == ADVANCE
    assert len(found) == 21  # ten kernels of dropout, ten of fills that copy, and DeviceKey's
    assert len(set(found)) == len(found)


# CuPy's own function, told that there is a device and kept from loading anything on it. A kernel
# that it would compile is an error.
LOOK_UP = """
import os
from types import SimpleNamespace

import cupy
from cupy._core import raw
from cupy.cuda import compiler, function
from fastdrop_kernels.cuda import modules, operations

class Unloaded(function.Module):
    def load(self, cubin):
        print("loaded", cubin[1:4].decode())

def compiled(*given):
    raise AssertionError("it is not there")

compiler.function = SimpleNamespace(Module=Unloaded)
compiler._get_arch = lambda: "90"
for owner, name in ((raw, "_get_raw_module"), (compiler, "_get_arch_for_options_for_nvrtc")):
    setattr(owner, name, getattr(owner, name).__wrapped__)
compiler._compile_using_nvrtc_no_warning = compiler.compile_using_nvrtc = compiled
module = operations.of_elements("drop", "float32").module
code = modules.source(module, os.environ["KERNEL"])
cupy.RawModule(code=code, options=modules.OPTIONS, backend="nvrtc").compile()
"""


@needs_nvrtc
def test_cupy_finds_what_was_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy_or_skip()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    assert list(compile_ahead.compile_ahead([PLAIN], ["90"], processes=3)) == [PLAIN]
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".cubin"
    assert assert_succeeds(run_python(LOOK_UP, KERNEL=PLAIN.name)) == "loaded ELF\n"
    other = run_python(LOOK_UP, KERNEL="drop_float32_any_32")
    assert other.status == 1 and "it is not there" in other.stderr
    # Again, for two GPUs: what is there stays as it is.
    before = file.stat().st_mtime_ns
    list(compile_ahead.compile_ahead([PLAIN], ["90", "80"], processes=2))
    assert len(list(tmp_path.iterdir())) == 2 and file.stat().st_mtime_ns == before


@needs_nvrtc
@pytest.mark.slow
def test_the_command_compiles_in_parallel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cupy_or_skip()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    asked = ["warmup", "--cuda", "--dtypes", "float32,float16", "--functions", "softmax_dropout"]
    assert command.main([*asked, "--arch", "90"]) == 0
    assert "ready in" in capsys.readouterr().out
    # Of each dtype forward and backward, and ten fills that copy; and the advance of a DeviceKey.
    assert len(list(tmp_path.glob("*.cubin"))) == 25


class Watched(compile_ahead._Worker):
    """A process that compiles, remembered."""

    made: list[Watched] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Watched]]:
    cupy_or_skip()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile_ahead, "_Worker", Watched)
    Watched.made = []
    yield Watched.made
    assert Watched.made and all(worker.process.returncode is not None for worker in Watched.made)


@needs_nvrtc
def test_a_kernel_that_does_not_compile_is_named(processes: list[Watched]) -> None:
    wrong = modules.Module("wrong", others=(("wrong", "no C++"),))
    with pytest.raises(CompileError, match=r"compiling wrong for sm_90: CompileException: .*error"):
        list(compile_ahead.compile_ahead([Kernel(wrong, "wrong")], ["90"]))


@systems.needs_signals
@needs_nvrtc
def test_a_process_that_dies_is_an_error_and_the_others_are_ended(
    processes: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Watched.ask

    def killed(self: Watched, what: str, request: list[Any]) -> None:
        if self is processes[0]:
            os.kill(self.process.pid, KILL)
        ask(self, what, request)

    monkeypatch.setattr(Watched, "ask", killed)
    with pytest.raises(CompileError, match="compiling advance for sm_80: a process was killed by"):
        list(compile_ahead.compile_ahead([ADVANCE], ["90", "80"][::-1], processes=2))


@needs_nvrtc
def test_an_interruption_ends_the_processes(processes: list[Watched]) -> None:
    with pytest.raises(KeyboardInterrupt):
        with closing(compile_ahead.compile_ahead([ADVANCE, PLAIN], ["90"], processes=2)) as done:
            for _ in done:
                raise KeyboardInterrupt
    assert len(processes) == 2


class Told:
    """A process that answers at once, and notes what it was asked."""

    asked: list[tuple[int, str]] = []

    def __init__(self) -> None:
        self.process = SimpleNamespace(stdout="a pipe, which Windows cannot select")

    def ask(self, what: str, request: list[Any]) -> None:
        self.asked.append((id(self), what.partition(" for")[0]))

    def answer(self) -> None:
        pass

    def end(self) -> None:
        pass


def test_on_windows_processes_answer_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_ahead, "_Worker", Told)
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(Told, "asked", asked)
    kernels = [Kernel(modules.ADVANCE, name) for name in "abcde"]
    monkeypatch.setattr(sys, "platform", "win32")
    done = list(compile_ahead.compile_ahead(kernels, ["90"], processes=2))
    monkeypatch.undo()
    assert done == kernels
    assert [what for _, what in asked] == [f"compiling {name}" for name in "abcde"]
    workers = [worker for worker, _ in asked]
    assert len(set(workers)) == 2 and workers[:2] * 2 == workers[:4]


def test_a_frozen_application_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy_or_skip()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(compile_ahead, "_Worker", None)
    with pytest.raises(RuntimeError, match="a frozen application has not"):
        fd.warmup("float32", device="cuda", arch="90")


def test_without_a_gpu_the_reason_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cupy = cupy_or_skip()
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error)
    else:
        pytest.skip("there is a GPU")
    assert command.main(["warmup", "--cuda"]) == 2
    said = capsys.readouterr().err
    assert reason in said and "arch='90'" in said
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    with pytest.raises(RuntimeError, match="CUPY_CACHE_IN_MEMORY=1"):
        fd.warmup(device="cuda", arch="90")


def test_without_cupy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastdrop-kernels\[cuda13\]'"):
        fd.warmup(device="cuda", arch="90")


def test_wrong_arguments_are_named_before_anything_is_compiled() -> None:
    cupy_or_skip()
    with pytest.raises(ValueError, match="device='gpu': give 'cpu' or 'cuda'"):
        fd.warmup(device="gpu")
    with pytest.raises(ValueError, match="arch='90' is that of a GPU"):
        fd.warmup([], arch="90")
    for wrong in ("sm_90", ["90", "9"], [90], "9.0"):
        with pytest.raises(ValueError, match="is not a compute capability: give one such as '90'"):
            fd.warmup(device="cuda", arch=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capabilities", "newest", "expected"),
    [(["90"], "121", ["90"]), (["90", "90"], "121", ["90"]), (["75", "90"], "121", ["75", "90"]),
     (["130"], "121", ["121"])],
)  # fmt: skip
def test_it_compiles_for_what_cupy_compiles_for(
    capabilities: list[str], newest: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cupy = cupy_or_skip()
    from cupy.cuda import compiler

    current = [0]

    class Device:
        def __init__(self, number: int | None = None) -> None:
            self.number = current[0] if number is None else number
            self.compute_capability = capabilities[self.number]

        def __enter__(self) -> None:
            current[0] = self.number

        def __exit__(self, *error: object) -> None:
            current[0] = 0

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: len(capabilities))
    monkeypatch.setattr(cupy.cuda, "Device", Device)
    monkeypatch.setattr(compiler.device, "Device", Device)
    monkeypatch.setattr(compiler, "_get_max_compute_capability", lambda: newest)
    monkeypatch.setattr(compiler, "_get_arch", compiler._get_arch.__wrapped__)
    assert compile_worker.architectures() == expected
