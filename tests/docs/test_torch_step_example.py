"""The example of a training step in torch: its table, its parts, its text, and its checkpoints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the example needs torch")
pytest.importorskip("matplotlib", reason="the example needs matplotlib")
pytest.importorskip("rich", reason="the example needs rich")

import torch

import fastdrop.torch as fdt
from fastdrop.examples import _python_text, torch_step
from fastdrop.examples._python_text import Text
from fastdrop.examples._torch_models import Encoder
from fastdrop.examples._torch_parts import BACKWARD, DROPOUT, FORWARD, OPTIMISER, PARTS
from fastdrop.examples._torch_text import Corpus, load_corpus, minibatch
from fastdrop.examples._torch_training import FUSED, NONE, OURS, TORCH, VARIANTS, Settings, Trainer

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SMALL = Settings(seed=3, steps=6, samples=4, length=16, width=16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, threads of torch mostly wait for each other."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


def losses(trainer: Trainer, steps: int = 6) -> list[float]:
    return [trainer.train_step().loss for _ in range(steps)]


def test_a_quick_run_prints_the_table_and_writes_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    figure, checkpoint = tmp_path / "figure.png", tmp_path / "checkpoint.pt"
    options = ["--quick", "--threads", "1", "--output", str(figure)]
    assert torch_step.main([*options, "--checkpoint", str(checkpoint)]) == 0
    assert figure.read_bytes().startswith(PNG_MAGIC)
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    rows = {row[0]: row[1:] for row in cells if row}
    assert list(rows)[:6] == [*PARTS, "step"]
    assert rows["dropout's share"][0] == "-"
    for part in PARTS:
        assert all(float(t) >= 0 for cell in rows[part] for t in cell.split("+"))
    for name in ("loss in training", "loss held out"):
        assert all(0 < float(loss) < 6 for loss in rows[name])
        assert rows[name][2] == rows[name][3] != rows[name][1]  # fused, and torch's
    said = " ".join(out.split())
    assert all(name in said for name in VARIANTS)
    assert "Text: " in said and "torch has 1 thread." in said
    assert "the losses of all 6 steps are identical, bit for bit" in said
    assert torch.load(checkpoint, weights_only=True)["step"] == 6


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_divided_into_parts(variant: str, corpus: Corpus) -> None:
    trainer = Trainer(variant, SMALL, corpus)
    trainer.train_step()
    step = trainer.train_step(parts=True)
    assert step.parts is not None
    assert {part for part, _ in step.parts} == set(PARTS)
    assert 0 < sum(step.parts.values()) < step.seconds
    dropout = {direction for part, direction in step.parts if part == DROPOUT}
    assert dropout == ({FORWARD} if variant == NONE else {FORWARD, BACKWARD})
    assert min(step.parts[part, BACKWARD] for part in PARTS if part not in (DROPOUT, OPTIMISER)) > 0


def test_time_goes_to_the_part_in_which_it_is_spent(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dropout, forward and backward, is made to take 50 ms."""

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            time.sleep(0.05)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            time.sleep(0.05)
            return dy

    slow: Any = Slow.apply
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: slow(x))
    trainer = Trainer(TORCH, SMALL, corpus)
    trainer.train_step()
    parts = trainer.train_step(parts=True).parts
    assert parts is not None
    modules = sum(isinstance(m, torch.nn.Dropout) for m in trainer.model.modules())
    for direction in (FORWARD, BACKWARD):
        others = sum(t for (part, way), t in parts.items() if way == direction and part != DROPOUT)
        assert modules * 0.05 <= parts[DROPOUT, direction] < modules * 0.05 + 1
        assert others < modules * 0.05


def test_timing_parts_changes_no_result_and_leaves_no_hooks(corpus: Corpus) -> None:
    plain, timed = (Trainer(OURS, SMALL, corpus) for _ in range(2))
    assert losses(plain) == [timed.train_step(parts=step % 2 == 1).loss for step in range(6)]
    assert not timed.clock._handles and not timed.clock._nodes


def test_networks_begin_alike_and_differ_in_dropout_alone(corpus: Corpus) -> None:
    trainers = {variant: Trainer(variant, SMALL, corpus) for variant in VARIANTS}
    weights = [list(trainer.model.parameters()) for trainer in trainers.values()]
    for others in zip(*weights, strict=True):
        assert all(torch.equal(others[0], other) for other in others)
    found = {variant: losses(trainer, 3) for variant, trainer in trainers.items()}
    assert found[FUSED] == pytest.approx(found[OURS], rel=1e-5)
    assert len({found[v][0] for v in (NONE, TORCH, OURS)}) == 3
    modules = {type(m) for m in trainers[OURS].model.modules() if isinstance(m, torch.nn.Dropout)}
    assert modules == {fdt.Dropout}


def test_characters_that_follow_are_not_seen(corpus: Corpus) -> None:
    torch.manual_seed(0)
    model = Encoder(5, 8, 16, 4, 32, causal=True).eval()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
    other = tokens.clone()
    other[0, 5:] = 3
    a, b = model(tokens), model(other)
    assert torch.equal(a[:, :5], b[:, :5]) and not torch.allclose(a[:, 5:], b[:, 5:])


def test_it_learns(corpus: Corpus) -> None:
    trainer = Trainer(OURS, Settings(steps=40, samples=8, length=32, width=32), corpus)
    before = trainer.held_out_loss()
    losses(trainer, 40)
    assert trainer.held_out_loss() < before - 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_is_resumed_bit_for_bit(variant: str, corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer = Trainer(variant, SMALL, corpus)
    losses(trainer, 3)
    trainer.save(path)
    rest = losses(trainer, 3)
    torch.rand(5)  # the state of the default generator does not matter
    assert losses(Trainer.load(path, corpus), 3) == rest


def test_another_result_of_a_resumed_training_raises(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer = Trainer(OURS, SMALL, corpus)
    trainer.save(path)
    whole = losses(trainer)
    monkeypatch.setattr(torch_step, "resumed_losses", lambda path: whole)
    torch_step.check_resume(whole, path, corpus)
    with pytest.raises(RuntimeError, match="resumed in this process, the losses differ"):
        torch_step.check_resume([*whole[:-1], whole[-1] + 1e-6], path, corpus)
    monkeypatch.setattr(torch_step, "resumed_losses", lambda path: whole[::-1])
    with pytest.raises(RuntimeError, match="resumed in a new process, the losses differ"):
        torch_step.check_resume(whole, path, corpus)
    without = Trainer(NONE, SMALL, corpus)
    without.save(path)
    whole = losses(without)
    monkeypatch.setattr(torch_step, "resumed_losses", lambda path: whole)
    with pytest.raises(RuntimeError, match="another state of the generator, the losses are the sa"):
        torch_step.check_resume(whole, path, corpus)


def test_minibatches_are_of_seed_and_step(corpus: Corpus) -> None:
    state = torch.get_rng_state()
    x, following = minibatch(corpus.train, 4, 16, 1, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.shape == following.shape == (4, 16)
    assert torch.equal(x[:, 1:], following[:, :-1])
    assert torch.equal(x, minibatch(corpus.train, 4, 16, 1, 2)[0])
    assert not torch.equal(x, minibatch(corpus.train, 4, 16, 1, 3)[0])
    assert not torch.equal(x, minibatch(corpus.train, 4, 16, 2, 2)[0])


def test_there_is_a_text_wherever_python_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_python_text.find_text().characters) >= _python_text.LEAST
    monkeypatch.setattr(_python_text, "_licences", lambda: iter([Text("too short", "MIT")]))
    text = _python_text.find_text()
    assert text.about.startswith("the sources of") and "def " in text.characters
    monkeypatch.setattr(_python_text, "MODULES", ("sys",))  # which has none
    text = _python_text.find_text()
    assert text.about.startswith("the docstrings") and "iterable" in text.characters
    assert len(text.characters) >= _python_text.LEAST


def test_a_text_is_numbered_and_its_end_is_held_out() -> None:
    corpus = load_corpus(Text("abc", "abcab" * 4))
    assert corpus.characters == "abc" and len(corpus.train) == 18
    assert corpus.train[:4].tolist() == [0, 1, 2, 0] and corpus.held_out.tolist() == [0, 1]


def test_missing_packages_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)  # what makes Python's import fail
    assert torch_step.main(["--quick"]) == 1
    assert "rich: pip install 'fastdrop-kernels[examples]'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert torch_step.main(["--quick"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "This example needs torch: pip install torch --index-url "
        "https://download.pytorch.org/whl/cpu"
    ]


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--steps=0", "'0' is not a whole number"),
        ("--threads=all", "'all' is not a whole number"),
        ("--width=30", "has to be a multiple of 4"),
        ("--output=figure.txt", "has to end in"),
        (f"--output=no{os.sep}such{os.sep}figure.png", "cannot write"),
    ],
)
def test_a_bad_option_is_refused_before_training(
    option: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        torch_step.main([option])
    assert exit_info.value.code == 2
    assert complaint in capsys.readouterr().err
