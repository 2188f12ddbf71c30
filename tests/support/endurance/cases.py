"""All cases by name, and one of them by seed and number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import batches, elements, objects, wholes
from .draws import Draw

CASES: dict[str, tuple[Callable[[Draw], None], int]] = {
    **elements.CASES,
    **wholes.CASES,
    **batches.CASES,
    **objects.CASES,
}
_NAMES = tuple(CASES)
_UNTIL = np.cumsum([weight for _, weight in CASES.values()])


class CaseError(AssertionError):
    """A case that failed, with what it had drawn."""


def name_of(d: Draw) -> str:
    """The name of a case, which is the first that it draws."""
    return _NAMES[int(np.searchsorted(_UNTIL, d.r.integers(_UNTIL[-1]), "right"))]


def run_case(seed: int, number: int) -> tuple[str, int]:
    """Run a case; return its name, and how many elements were compared."""
    d = Draw(seed, number)
    name = name_of(d)
    try:
        CASES[name][0](d)
    except BaseException as error:
        raise CaseError(f"{name}: {', '.join(d.notes)}") from error
    return name, d.elements
