"""Training of a small transformer on a text, with each kind of dropout, and its checkpoints.

The example `torch_step` makes a `Trainer` for each of `VARIANTS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import fastdrop.torch as fdt
from fastdrop.examples._torch_models import Encoder, Fused
from fastdrop.examples._torch_parts import OPTIMISER, PartClock, Seconds
from fastdrop.examples._torch_text import Corpus, minibatch

HEADS, LEARNING_RATE = 4, 4e-3
NONE, TORCH, OURS, FUSED = "no dropout", "torch", "fastdrop", "fastdrop, fused"


class Settings(NamedTuple):
    """What a training is determined by, beside the text and the kind of dropout."""

    seed: int = 0
    steps: int = 100
    samples: int = 32  # of a minibatch
    length: int = 64  # characters of a sample
    width: int = 128
    p: float = 0.1


def _encoder(
    settings: Settings, characters: int, p: float | None = None, fused: Fused | None = None
) -> Encoder:
    width, p = settings.width, settings.p if p is None else p
    sizes = characters, settings.length, width, HEADS, 4 * width
    return Encoder(*sizes, p=p, fused=fused, causal=True)


VARIANTS: dict[str, Callable[[Settings, int], Encoder]] = {
    NONE: lambda settings, n: _encoder(settings, n, 0.0),
    TORCH: _encoder,
    OURS: lambda settings, n: fdt.convert(_encoder(settings, n)),
    FUSED: lambda settings, n: fdt.convert(_encoder(settings, n, fused=fdt.functional)),
}


class Step(NamedTuple):
    """A training step: its loss, and its time."""

    loss: float
    seconds: float
    parts: Seconds | None  # if they were timed


class Trainer:
    """A network in training, with its optimiser and the state of the generator that it draws from.

    Parameters
    ----------
    variant : str
        The kind of dropout, one of `VARIANTS`.
    settings : Settings
        The seed determines initial weights, minibatches and masks.
    corpus : Corpus
        The text.
    """

    def __init__(self, variant: str, settings: Settings, corpus: Corpus) -> None:
        self.variant, self.settings, self.corpus = variant, settings, corpus
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = VARIANTS[variant](settings, len(corpus.characters))
            self.rng_state = torch.get_rng_state()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE)
        self.clock = PartClock(self.model)
        self.step = 0

    def train_step(self, parts: bool = False) -> Step:
        """Train on the next minibatch, and time it, or also its parts."""
        settings = self.settings
        batch = minibatch(
            self.corpus.train, settings.samples, settings.length, settings.seed, self.step
        )
        # Trainers take turns in one process: each has torch's default generator to itself.
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.rng_state)
            loss, seconds = self._timed(batch, self.clock if parts else None)
            self.rng_state = torch.get_rng_state()
        self.step += 1
        return Step(loss.item(), seconds, self.clock.seconds if parts else None)

    def _timed(self, batch: tuple[Tensor, Tensor], clock: PartClock | None) -> tuple[Tensor, float]:
        self.model.train()
        start = time.perf_counter()
        if clock:
            clock.begin()
        loss = self._loss(*batch)
        if clock:
            clock.end_forward(loss)
        torch.autograd.backward(loss)
        if clock:
            clock.end_backward()
        before = time.perf_counter()
        self.optimiser.step()
        self.optimiser.zero_grad()
        end = time.perf_counter()
        if clock:
            clock.seconds[OPTIMISER, ""] = end - before
        return loss, end - start

    def _loss(self, tokens: Tensor, following: Tensor) -> Tensor:
        return F.cross_entropy(self.model(tokens).flatten(0, 1), following.flatten())

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Return the mean loss on the text that is not trained on, without dropout."""
        length = self.settings.length
        text = self.corpus.held_out
        windows = text[: (len(text) - 1) // length * length + 1].unfold(0, length + 1, length)
        self.model.eval()
        return self._loss(windows[:, :-1], windows[:, 1:]).item()

    def save(self, path: Path) -> None:
        """Write a checkpoint: with torch's dropout, too, nothing of dropout's own is in it."""
        state = {
            "variant": self.variant,
            "settings": self.settings._asdict(),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng_state": self.rng_state,
            "threads": torch.get_num_threads(),  # sums of another number are rounded otherwise
        }
        torch.save(state, path)

    @classmethod
    def load(cls, path: Path, corpus: Corpus) -> Trainer:
        """Return the trainer that `save` wrote."""
        state = torch.load(path, weights_only=True)
        torch.set_num_threads(state["threads"])
        trainer = cls(state["variant"], Settings(**state["settings"]), corpus)
        trainer.model.load_state_dict(state["model"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.step, trainer.rng_state = state["step"], state["rng_state"]
        return trainer
