"""``python -m tests.emulated.kernels VERSION``: compile kernels of the golden cases for AArch64.

They are put into the cache of kernels (FASTDROP_CACHE_DIR), where a Python of that ``sys.version``
finds them if its Numba, llvmlite and processor settings are the same. LLVM runs some 15 times
faster here than in an emulator. `run` calls this; kernels that are missed are compiled there.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from tests.support import cross


def main(version: str, short: bool) -> None:
    """Compile."""
    sys.version = version
    cross.set_target(cross.TARGETS["aarch64-linux"])
    names: list[str] = []
    cross.call_no_kernels(lambda name, library: names.append(name))
    warnings.simplefilter("ignore")
    with np.errstate(all="ignore"):
        for calls in _calls(short):
            # Nothing was computed, and what is in the results may be refused by the next step.
            with contextlib.suppress(Exception):
                for _ in calls:
                    pass
    print(f"emulated: {len(names)} kernels and routines are compiled for AArch64, or were before")


def _calls(short: bool) -> Iterator[Iterable[object]]:
    from tests.golden.batches import FAMILIES
    from tests.support.scenarios import fp_environment

    from .cases import parts

    yield from (cases for _, cases in parts(short))
    yield from (family() for family in FAMILIES)  # each, though one is refused
    yield from (fp_environment.calls(name) for name in fp_environment.CALLS)


if __name__ == "__main__":
    main(sys.argv[1], "--short" in sys.argv[2:])
