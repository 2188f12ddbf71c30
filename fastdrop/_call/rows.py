"""Which rows of the kernels' catalogue each public function calls; `warmup` reads it.

The public functions say so themselves, by the decorator `calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

# By the name of a public function; its backward's rows are among them.
ROWS: dict[str, tuple[str, ...]] = {}


def calls(*rows: str) -> Callable[[_F], _F]:
    """Register the rows that a public function calls; the function is returned as it is."""

    def register(function: _F) -> _F:
        ROWS[function.__name__] = rows
        return function

    return register
