"""Masks of a batch of tensors, as `torch.vmap` asks for them.

The rule of the functions of `_elementwise` and of the operators of `_ops`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._compute import Masking


def batched(
    mask: Callable[[Tensor, Tensor, Masking], Tensor],
    size: int,
    dims: tuple[int | None, int | None],
    x: Tensor,
    key: Tensor,
    call: Masking,
) -> Tensor:
    """Do a call to each of a batch of tensors, with a key of each, or one mask for all of them.

    `mask` does it to one. `dims` are the axes of the batch in x and key; None if all have the
    same. That of the result is 0.
    """
    of_x, of_key = dims
    if of_x is not None:
        x = x.movedim(of_x, 0)
    if of_key is None:
        return mask(x, key, _shared(call, tuple(x.shape)))
    keys = key.movedim(of_key, 0).unbind()
    each = x.unbind() if of_x is not None else [x] * size
    return torch.stack([mask(one, own, call) for one, own in zip(each, keys, strict=True)])


def _shared(call: Masking, shape: tuple[int, ...]) -> Masking:
    """Return the call on a batch of a shape that decides once for all along its first axis."""
    noise_shape, offset, global_shape = call.placed
    inner = shape[1:]
    noise = inner if global_shape is None else global_shape
    if noise_shape is not None:
        noise = tuple(m if n is None else n for n, m in zip(noise_shape, noise, strict=True))
    placed = call.placed._replace(noise_shape=(1, *noise))
    if global_shape is not None:
        start = offset if isinstance(offset, tuple) else (offset,) * len(inner)
        placed = placed._replace(offset=(0, *start), global_shape=(shape[0], *global_shape))
    return call.at(placed)
