"""Dropout in torch: what is timed is validated, what is kept is counted, steps learn alike."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the benchmark of fastdrop.torch needs torch")

import torch  # noqa: E402

import fastdrop.torch as fdt  # noqa: E402
from bench import common, cpu, plot, results, timing, torch_calls, torch_steps  # noqa: E402
from bench.__main__ import main  # noqa: E402
from bench.check import Wrong  # noqa: E402
from bench.common import KI, RESULTS  # noqa: E402
from bench.torch_steps import FUSED, NONE, OURS, STEPS, TORCH, Step  # noqa: E402
from tests.support.systems import needs_proc  # noqa: E402

EAGER = ("torch", "fastdrop", "floor")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch have one thread: two wait for each other where other tests keep the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def timed(section: str, dtype: str, only: tuple[str, ...] = EAGER) -> list[results.Row]:
    x = common.fresh_input(KI, dtype)
    ways = torch_calls.contenders(section, dtype, only)
    operands = (x, common.fresh_output(x))
    return cpu.timed(section, ways, lambda dtype: operands, 1e-9, [], timing.ONCE)


@pytest.mark.parametrize("dtype", torch_calls.SIZES)
@pytest.mark.parametrize("section", torch_calls.TIMED)
def test_every_call_is_validated_and_timed(section: str, dtype: str) -> None:
    ids = [results.place(row) for row in timed(section, dtype)]
    of = "" if dtype == "float32" else f"/{dtype}"
    calls = [f"{name}{of}{one}" for name in EAGER[:2] for one in ("", f"/{torch_calls.ONE}")]
    assert ids == [*calls, f"floor{of}"]


@pytest.mark.parametrize("section", torch_calls.TIMED)
def test_another_mask_is_not_timed(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fdt.functional.dropout
    monkeypatch.setattr(fdt.functional, "dropout", lambda x, p: right(x, p, key=1))
    with pytest.raises(Wrong, match=r"fastdrop.torch, 1 Ki elements: .*differs from fastdrop"):
        timed(section, "float32", ("torch", "fastdrop"))


def test_what_is_kept_is_counted() -> None:
    found = {row["contender"]: row["bytes"] for row in torch_calls.kept("float32", KI, EAGER)}
    assert found == {"torch": 4 * KI, "fastdrop": 16}

    class Aside(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.aside = x * 2  # no hook sees it
            return x + 1

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * ctx.aside

    x = torch.ones(10, requires_grad=True)
    apply: Any = Aside.apply
    assert torch_steps.kept_bytes(lambda: apply(x).exp().sin(), [x]) == 40 + 40


@pytest.mark.parametrize("name", STEPS)
def test_steps_have_the_gradients_of_stored_masks(name: str) -> None:
    torch_steps.validate(name)


def test_a_step_with_other_masks_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    key = fdt.draw_key()
    monkeypatch.setattr(fdt, "draw_key", lambda: key)
    with pytest.raises(Wrong, match="mlp: fastdrop.torch has another loss or gradient"):
        torch_steps.validate("mlp")


@pytest.mark.parametrize("name", STEPS)
def test_all_variants_are_one_network(name: str) -> None:
    steps = [Step(name, variant) for variant in torch_steps.variants(name)]
    assert (FUSED in torch_steps.variants(name)) == (name == "encoder")
    batch = next(steps[0].batches)
    losses = [float(step.loss(*batch).detach()) for step in steps]
    assert len({*losses}) == len(losses)  # all of them drop, and draw their masks
    for step in steps:
        step.model.eval()
    none, *others = [float(step.loss(*batch).detach()) for step in steps]
    assert none == losses[0] and np.allclose(others, none, 1e-5)


@pytest.mark.parametrize("variant", [NONE, TORCH, OURS])
def test_a_network_learns(variant: str) -> None:
    step = Step("mlp", variant)
    batch = next(step.batches)
    first = float(step.loss(*batch).detach())
    for _ in range(60):
        step()
    assert float(step.loss(*batch).detach()) < 0.97 * first


@needs_proc
@pytest.mark.slow
def test_memory_of_a_step_is_measured_in_its_own_process() -> None:
    torchs, ours = (torch_steps.memory_alone("mlp", variant) for variant in (TORCH, OURS))
    # Of 256 x 2 x 512 hidden units torch keeps a float32 factor each; the input has no gradient.
    assert torchs["kept"] - ours["kept"] == 4 * 256 * 1024 - 2 * 16
    assert torchs["peak"] > ours["peak"] > 0


@pytest.mark.slow
def test_the_plot_is_drawn_and_small(tmp_path: Path) -> None:
    (path,) = plot.draw_all(results.load(RESULTS / "torch.json"), tmp_path / "torch.json")
    text = path.read_text("utf-8")
    assert path.name == "torch-steps.svg" and len(text) < 300_000 and "encoder" in text


def test_without_a_compiler_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch_calls, "COMPILER", "no-such-compiler")
    file = tmp_path / "file.json"
    part = ["--sections", "torch-step,kept", "--check", "--output", str(file)]
    assert main(["torch", *part]) == 0
    assert "no C++ compiler (no-such-compiler)" in capsys.readouterr().out
    rows = results.load(file)["rows"]
    assert {row["contender"] for row in rows} == {*EAGER}
    assert isinstance(results.load(file)["settings"]["vector_bytes"], int)


@pytest.mark.parametrize(
    ("option", "text"),
    [("--only", "no contender 'nobody'"), ("--sections", "no section 'nobody'")],
)
def test_errors_name_the_value(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["torch", option, "nobody"]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")  # by torch's own compiler
def test_check_makes_every_call_once_and_judges_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.json"
    assert main(["torch", "--check", "--output", str(file)]) == 0
    assert "Nothing was judged" in capsys.readouterr().out
    rows = results.load(file)["rows"]
    assert {row["section"] for row in rows} == {*torch_calls.TIMED, "kept", "steps"}
    if shutil.which(torch_calls.COMPILER):
        assert {row["contender"] for row in rows if "contender" in row} == {*torch_calls.CALLS}
