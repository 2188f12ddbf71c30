"""Masking of CuPy's tokens; the same function as in `fastdrop_kernels.cpu.batch.tokens`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...contract import BLOCK
from ...rows import Rows
from ...tokens import Rule, Special
from ..driver import Array
from ..modules import Module
from .launch import batch_module, run_rows


@functools.cache
def module() -> Module:
    """Return the module of all sizes of tokens."""
    return batch_module(
        "tokens", [(f"mask_tokens_{size}", f"mask_tokens<{size}>") for size in (1, 2, 4, 8)]
    )


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `mask_tokens` of a dtype may launch."""
    return [f"mask_tokens_{dtype.itemsize}"]


def mask_tokens(
    y: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    ids: Array,
    rule: Rule,
    special: Special,
    *,
    key_pointer: int | None = None,
) -> None:
    """Write inputs and labels, ``y``, of tokens `ids`; all are in C order and of one dtype.

    The inputs may be the ids themselves. The arrays of `special` are in device memory.
    """
    threads = rows.number * -(-rows.length // BLOCK)
    kernel, nothing = f"mask_tokens_{ids.dtype.itemsize}", ids
    read = [nothing if a is None else a for a in (special.marks, special.table, special.ids)]
    words = [*rule, *special.words()]
    key = seed, stream
    run_rows(module(), kernel, threads, rows, (ids, *y, *read), *key, words, key_pointer)
