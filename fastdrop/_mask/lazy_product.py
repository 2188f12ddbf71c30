"""Products of Dask arrays and masks: lazy, each block times the part of the mask that it lies in.

`product` calls it. Nothing of it is imported before a Dask array has come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop_kernels import threads

from .._arrays.block_calls import BlockCall, Slices

if TYPE_CHECKING:
    from .mask import Mask


def lazy_product(
    mask: Mask,
    backend: Any,
    x: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    out: Any,
) -> Any:
    """Return the product of a Dask array of a backend, of a shape and dtype."""
    if out is not None:
        backend.writable(out)
    return backend.product(_Times(mask), x, shape, dtype)


@dataclass(frozen=True, slots=True, eq=False)
class _Times(BlockCall):
    """The product of a block and what lies there of a mask, which broadcasts to the product."""

    mask: Mask

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # Layout, p, scale and key; the repr of a view says how it was made, and may differ.
        return "fastdrop.times", self.mask._identity()

    def __call__(self, where: Slices, block: Any) -> Any:
        """Return the product of a block."""
        mask = self.mask
        own = where[len(where) - mask.ndim :]
        index = [slice(None) if n == 1 else at for at, n in zip(own, mask.shape, strict=True)]
        with threads.using(1):
            return block * mask[tuple(index) + (...,)]
