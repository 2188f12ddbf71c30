"""``python -m tests.golden``: compare every result with its digest, or add those of new cases.

With ``--write``, digests of cases that are new are added; one that would change is refused. With
``--short``, it compares what has no dtype and what is of float32, in half the time: for other
versions of Python, NumPy and Numba.
"""

from __future__ import annotations

import sys
from itertools import chain

import numpy as np

from fastdrop._check import arguments

from . import file
from .cases import cases, everything, without_dtype

SHORT = ("float32",)


def main() -> int:
    """Compare or write; return the exit status."""
    short = "--short" in sys.argv[1:]
    made = chain(without_dtype(), *(cases(arguments.dtype(name)) for name in SHORT))
    with np.errstate(all="ignore"):
        found = file.digests(made if short else everything())
    kept = file.load()
    if short:
        kept = {name: kept[name] for name in kept.keys() & found.keys()}
        assert kept.keys() == found.keys()
    if "--write" in sys.argv[1:]:
        try:
            print(f"{file.save(found)} of {len(found)} are new")
        except file.Frozen as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    changed = [name for name in sorted(kept) if found.get(name) != kept[name]]
    print("\n".join(changed) or f"All {len(kept)} results are what they were.")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
