"""Masks of spans as CuPy arrays; the same functions as `fastdrop_kernels.cpu.batch.spans`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...rows import Rows
from ..driver import Array
from ..modules import Module
from .launch import batch_module, run_rows

_KINDS = {"overlapping": "Overlapping", "spaced": "Spaced", "spanbert": "SpanBert", "t5": "T5"}
_SETS = 3  # at most
_ELEMENTS = 16  # that a thread writes


@functools.cache
def module() -> Module:
    """Return the module of all kinds."""
    drawing = [(f"spans_{kind}", f"draw_spans<fastdrop::{name}>") for kind, name in _KINDS.items()]
    return batch_module("spans", [*drawing, ("spans_write", "write_kept")])


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `spans` may launch."""
    return [name for name, _ in module().others]


def scratch_words(rows: int, length: int) -> int:
    """Return how many words of memory `spans` needs beside the mask."""
    return _SETS * rows * -(-length // 64)


def spans(
    mask: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    kind: str,
    plans: Array,
    numbers: tuple[int, int],
    thresholds: Array,
    *,
    key_pointer: int | None = None,
) -> None:
    """Write a mask, of bytes in C order that are 0 in spans and else 1.

    The second array of `mask` is scratch memory; plans and thresholds are in device memory.
    """
    kept, sets = mask
    words = -(-rows.length // 64), 3 if len(plans) > 1 else 0
    more = (thresholds.size, 0) if kind == "spanbert" else numbers
    arguments = rows, (kept, plans, thresholds, sets), seed, stream, (*words, *more), key_pointer
    run_rows(module(), f"spans_{kind}", rows.number, *arguments)
    threads = rows.number * -(-rows.length // _ELEMENTS)
    run_rows(module(), "spans_write", threads, *arguments)
