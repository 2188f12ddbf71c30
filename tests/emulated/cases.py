"""The golden cases that run in the emulator, in parts that are made one by one."""

from __future__ import annotations

from collections.abc import Iterator

from tests.golden.cases import GROUPS, Case, without_dtype
from tests.support.scenarios.digests import DTYPES

Part = tuple[str, Iterator[Case]]

# With --short. All functions are among these in one dtype, and float16 is converted by instructions
# that x86-64 does not have.
SHORT = {
    "float32": ("element-wise", "arrays of p", "structured", "fused"),
    "float16": ("element-wise",),
}


def parts(short: bool) -> Iterator[Part]:
    """Yield parts: what the names of a part's cases begin with, and its cases."""
    for dtype in DTYPES:
        for group in SHORT.get(dtype.name, ()) if short else GROUPS:
            yield f"{dtype.name}: ", GROUPS[group](dtype)
    yield "", without_dtype()
