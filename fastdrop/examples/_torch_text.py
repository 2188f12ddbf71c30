"""A text that comes with Python, as a tensor of characters.

`_torch_training` learns to read it.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 8_000  # characters
HELD_OUT = 0.1  # part of the text
MODULES = ("argparse", "heapq", "random", "statistics", "textwrap")


class Text(NamedTuple):
    """A text, and what it is."""

    about: str
    characters: str


def find_text() -> Text:
    """Return Python's licence; where it is not, the sources of modules, or docstrings."""
    for text in _texts():
        if len(text.characters) >= LEAST:
            return text
    return _docstrings()


def _texts() -> Iterator[Text]:
    yield from _licences()
    yield _sources()


def _licences() -> Iterator[Text]:
    for folder in (sysconfig.get_path("stdlib"), os.path.dirname(os.__file__), sys.base_prefix):
        for name in ("LICENSE.txt", "LICENSE"):
            path = Path(folder, name)
            try:
                yield Text(f"Python's licence, {path}", path.read_text(encoding="utf-8"))
            except (OSError, UnicodeError):
                continue


def _sources() -> Text:
    try:
        sources = [inspect.getsource(importlib.import_module(name)) for name in MODULES]
    except (ImportError, OSError, TypeError):  # such as where there are compiled files alone
        sources = []
    return Text(f"the sources of Python's {', '.join(MODULES)}", "".join(sources))


def _docstrings() -> Text:
    docs = [inspect.getdoc(thing) or "" for _, thing in sorted(vars(builtins).items())]
    return Text("the docstrings of Python's builtins", "\n\n".join(docs))


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
