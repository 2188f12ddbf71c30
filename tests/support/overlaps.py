"""Pairs of views of one array that overlap in part."""

from __future__ import annotations

from tests.support.oracle import Array


def overlapping(kind: str, base: Array) -> tuple[Array, Array]:
    """Two views of `base` (80 by 80) that overlap in part: input and output."""
    line = base.reshape(-1)
    views = {
        "forward": (line[:-5], line[5:]),
        "backward": (line[5:], line[:-5]),
        "far forward": (line[:-3000], line[3000:]),
        "reversed": (line, line[::-1]),
        "transposed": (base, base.T),
        "rows down": (base[:-1], base[1:]),
        "rows up": (base[1:], base[:-1]),
        "other steps": (line[: line.size // 2], line[::2]),
        "columns": (base[:, :-2], base[:, 2:]),
        "interleaved": (line[::2], line[1::2]),
    }
    return views[kind]


OVERLAPS = [
    "forward", "backward", "far forward", "reversed", "transposed", "rows down", "rows up",
    "other steps", "columns", "interleaved",
]  # fmt: skip
