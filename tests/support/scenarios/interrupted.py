"""Ctrl-C, as it were, in the middle of a process's first call; the next one must succeed.

``python -m tests.support.scenarios.interrupted MODULE...``: when the imports of these modules
begin, one strike each.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

import numpy as np

import fastdrop as fd

assert sys.platform != "win32"


class Struck(BaseException):
    """What the handler raises: no Exception, as KeyboardInterrupt is none."""


class Striker(MetaPathFinder):
    """Sends a signal when a module is looked for."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.left = set(modules)

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Find nothing."""
        if name in self.left:
            self.left.remove(name)
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0.05)


def strike(*_: Any) -> None:
    raise Struck


def call() -> None:
    y = fd.dropout(np.ones(1000, np.float32), 0.5, rng=42)
    assert y[:8].tolist() == [2, 2, 0, 0, 0, 0, 2, 0], y[:8]


if __name__ == "__main__":
    warnings.simplefilter("error")
    signal.signal(signal.SIGUSR1, strike)
    striker = Striker(sys.argv[1:])
    sys.meta_path.insert(0, striker)
    struck = 0
    for _ in sys.argv[1:]:
        try:
            call()
        except Struck:
            struck += 1
    call()
    assert not striker.left, f"nobody imported {striker.left}: this tests nothing"
    print("struck", struck)
