"""A text that comes with Python. The examples that learn to read it call `find_text`."""

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

LEAST = 8_000  # characters
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
