"""Keys of calls: drawn from torch's generator, or made of what users give.

The functions of `functional` call `key_tensor`.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Generator, Tensor

from .._check.key import Key
from . import _cuda, _keys, _ops

KeyLike: TypeAlias = Key | int | Tensor | Generator | None


def draw_key(generator: Generator | None = None) -> Tensor:
    """Draw a key from a generator of torch.

    Parameters
    ----------
    generator : torch.Generator, optional
        None is torch's default generator of the CPU, which `torch.manual_seed` seeds.

    Returns
    -------
    Tensor
        Of shape (2,) and dtype int64, on the CPU: seed and stream of a `fastdrop.Key`, as signed
        integers of the same bits.
    """
    return key_tensor(generator, torch.empty(0, device="cpu"))


def key_tensor(key: KeyLike, x: Tensor) -> Tensor:
    """Return a key for x as a tensor; None draws one from torch's generator.

    It lies on the CPU, where reading it waits for nothing. But in a CUDA graph, which would repeat
    it, a key of None is drawn on the GPU, by the generator there, anew at each replay. So is one of
    a generator on the device of x, which need not wait for it.
    """
    if key is None:
        if torch.compiler.is_compiling():
            return _ops.draw_key(x)
        if x.is_cuda and _cuda.is_capturing():
            return _keys.drawn(device=x.device)
        return _keys.drawn()
    if isinstance(key, Tensor):
        return _keys.checked(key)
    if not isinstance(key, Generator):
        return _keys.as_tensor(key)
    if torch.compiler.is_compiling():
        raise TypeError(
            "key is a torch.Generator, which compiled code cannot draw from: draw the key before, "
            "key = fastdrop.torch.draw_key(generator), and give that"
        )
    drawn = _keys.drawn(key)
    return drawn if drawn.device == x.device else drawn.cpu()
