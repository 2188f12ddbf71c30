"""Hypothesis strategies for placements and thresholds of CUDA launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from .cases import ALWAYS

thresholds = st.one_of(st.sampled_from([0, 1, 1 << 31, ALWAYS - 1, ALWAYS]), st.integers(0, ALWAYS))


@st.composite
def placements(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Where an array of a shape lies in a mask: offset, global_shape and noise_shape."""
    place: dict[str, Any] = {}
    full = shape
    where = draw(st.sampled_from(["whole", "offset", "shard"]))
    if where == "offset":
        place["offset"] = draw(st.integers(0, 2**62))
    elif where == "shard":
        start = tuple(draw(st.integers(0, 9)) for _ in shape)
        full = tuple(s + n + draw(st.integers(0, 9)) for s, n in zip(start, shape, strict=True))
        place |= {"offset": start, "global_shape": full}
    if draw(st.booleans()):
        place["noise_shape"] = tuple(draw(st.sampled_from([1, n])) for n in full)
    return place
