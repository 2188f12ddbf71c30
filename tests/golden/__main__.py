"""``python -m tests.golden``: compare every result with its digest, or add those of new cases.

With ``--write``, digests of cases that are new are added; one that would change is refused.
"""

from __future__ import annotations

import sys

import numpy as np

from . import file
from .cases import everything


def main() -> int:
    """Compare or write; return the exit status."""
    with np.errstate(all="ignore"):
        found = file.digests(everything())
    kept = file.load()
    if "--write" in sys.argv[1:]:
        try:
            print(f"{file.save(found)} of {len(found)} are new")
        except file.Frozen as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    changed = [name for name in kept if found.get(name) != kept[name]]
    print("\n".join(changed) or f"All {len(kept)} results are what they were.")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
