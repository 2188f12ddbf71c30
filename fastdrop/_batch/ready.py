"""What the functions on batches compile; `warmup` reads it.

The public functions say so themselves, by the decorator `compiles`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])


class Compiled(NamedTuple):
    """The kernels of a function on batches."""

    family: str  # name of the drivers, see `call.driver_of`
    usual: tuple[str, ...]  # dtypes that are made ready if none are given; () if it has none
    check: Callable[[np.dtype[Any]], object]  # raises a TypeError for dtypes that it does not take
    draws_here: bool  # whether the CPU has to draw for arrays on a GPU


# By the name of a public function.
COMPILED: dict[str, Compiled] = {}


def compiles(
    family: str,
    *usual: str,
    check: Callable[[np.dtype[Any]], object] = lambda dtype: None,
    draws_here: bool = False,
) -> Callable[[_F], _F]:
    """Register what a public function compiles; the function is returned as it is."""

    def register(function: _F) -> _F:
        COMPILED[function.__name__] = Compiled(family, usual, check, draws_here)
        return function

    return register
