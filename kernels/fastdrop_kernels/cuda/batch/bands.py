"""SpecAugment of CuPy arrays; the same functions as `fastdrop_kernels.cpu.batch.bands`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...rows import BandGeometry, Rows
from ..driver import Array
from ..modules import Module
from .launch import batch_module, run_rows

_SIZES = (2, 4, 8)  # of elements, in bytes
_BYTES = 16  # that a thread writes


@functools.cache
def module() -> Module:
    """Return the module of all sizes of elements."""
    filling = [(f"bands_fill_{8 * size}", f"fill_bands<{size}>") for size in _SIZES]
    return batch_module("bands", [("bands_draw", "draw_bands"), *filling])


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `spec_augment` of a dtype may launch."""
    return ["bands_draw", f"bands_fill_{8 * dtype.itemsize}"]


def scratch_words(samples: int, bands: int) -> int:
    """Return how many words of memory `spec_augment` needs beside the result."""
    return 2 * samples * bands


def spec_augment(
    y: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    geometry: BandGeometry,
    bands: tuple[int, int, int, int],
    plans: Array,
    values: Array,
    in_place: bool,
    *,
    key_pointer: int | None = None,
) -> None:
    """Copy x to y, with bands filled, both in C order.

    The second array of `y` is scratch memory; plans and values are in device memory.
    """
    filled, drawn = y
    itemsize, line = x.dtype.itemsize, geometry.line
    lines = x.size // line
    words = [
        *(geometry.sample_step // line, geometry.outer_step // line, geometry.outer),
        *(line, geometry.scale, geometry.time_is_inner, *bands),
        *(2 if len(plans) > 1 else 0, itemsize if len(values) > 1 else 0, int(in_place), lines),
    ]
    arguments = rows, (filled, x, plans, values, drawn), seed, stream, words, key_pointer
    run_rows(module(), "bands_draw", rows.number, *arguments)
    threads = lines * -(-line * itemsize // _BYTES)
    run_rows(module(), f"bands_fill_{8 * itemsize}", threads, *arguments)
