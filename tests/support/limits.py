"""The sizes from which calls go another way, lowered, so that small arrays go the ways of large."""

from __future__ import annotations

import pytest

from fastdrop._call import plan_cache
from fastdrop_kernels.cpu.host import call_plan, work_sharing

_WHERE = {
    "PARALLEL_FROM": work_sharing,  # elements
    "_CHUNK": work_sharing,  # elements
    "NEAR_BYTES": call_plan,
    "_NONTEMPORAL_FROM": call_plan,  # bytes
}


def set_limits(patch: pytest.MonkeyPatch, **limits: int) -> None:
    """Set limits by their names, until the end of a test; no plan that was made before is used."""
    for name, number in limits.items():
        patch.setattr(_WHERE[name], name, number)
    plan_cache.forget()
