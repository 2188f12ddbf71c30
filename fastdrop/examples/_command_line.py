"""Argument types and the check for missing packages, shared by the examples' command lines."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

FIGURE_TYPES = (".png", ".pdf", ".svg")


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def seed_number(text: str) -> int:
    """Parse an integer in [0, 2**64)."""
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text}: has to be in [0, 2**64)")
    return int(text)


def figure_file(text: str) -> Path:
    """Parse the name of a figure file; fail before the computation if it cannot be written."""
    path = Path(text)
    if path.suffix.lower() not in FIGURE_TYPES:
        raise argparse.ArgumentTypeError(f"{text}: has to end in one of {', '.join(FIGURE_TYPES)}")
    target = path if path.exists() else path.parent
    if path.is_dir() or not os.access(target, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: cannot write a file there")
    return path


def are_installed(packages: dict[str, str]) -> bool:
    """Return whether all packages (module to name) are installed; if not, print how to install."""
    missing = [name for module, name in packages.items() if find_spec(module) is None]
    if missing:
        print(
            f"This example needs {' and '.join(missing)}: pip install 'fastdrop-kernels[examples]'",
            file=sys.stderr,
        )
    return not missing
