"""A text that comes with Python, as a tensor of characters.

`_torch_training` learns to read it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastdrop.examples._python_text import Text, find_text

HELD_OUT = 0.1  # part of the text


class Corpus(NamedTuple):
    """A text as numbers of characters, of which the last part is not trained on."""

    about: str
    characters: str  # each that occurs, by its number
    train: Tensor
    held_out: Tensor


def load_corpus(text: Text | None = None) -> Corpus:
    """Return a text, by default that of `find_text`, as numbers; its end is held out."""
    about, content = text or find_text()
    characters = "".join(sorted(set(content)))
    numbers = {character: number for number, character in enumerate(characters)}
    tokens = torch.tensor([numbers[character] for character in content])
    end = len(tokens) - int(HELD_OUT * len(tokens))
    return Corpus(about, characters, tokens[:end], tokens[end:])


def minibatch(
    tokens: Tensor, samples: int, length: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return stretches of a text, and what follows each of their characters.

    They depend on the seed and the step alone, so they are the same for all networks and after a
    resume, and nothing is drawn from torch's default generator, from which dropout draws.
    """
    own = torch.Generator().manual_seed(seed * 1_000_003 + step)
    starts = torch.randint(len(tokens) - length, (samples, 1), generator=own)
    drawn = tokens[starts + torch.arange(length + 1)]
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()
