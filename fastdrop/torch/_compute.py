"""Masks applied to the memory of tensors: the one place where torch's tensors meet fastdrop.

`_autograd` and `_ops` call it with tensors whose gradients are not recorded. Tensors on the CPU are
viewed as NumPy arrays, without a copy, and tensors on a GPU are handed to the public functions as
they are, which view them through DLPack on torch's current stream.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._call.coefficients import alpha_scale
from .._check.key import made_key
from .._functions.alpha import alpha_dropout
from .._functions.dropout import dropout, masked_fill
from ._keys import words

Lengths: TypeAlias = "tuple[int, ...]"


class Placed(NamedTuple):
    """Where a tensor lies in its mask; see `fastdrop.dropout`."""

    noise_shape: Lengths | None = None
    offset: int | Lengths = 0
    global_shape: Lengths | None = None


WHOLE = Placed()


class Masking(NamedTuple):
    """What is done to a tensor by a mask: all that a call needs beside the tensor and the key."""

    operation: str  # "drop", "alpha" or "fill"
    p: float
    parameter: Any = None  # the factor of kept elements, or what replaces dropped ones
    placed: Placed = WHOLE

    @property
    def gradient(self) -> Masking:
        """What the backward does to the gradient: all of these operations are affine."""
        return _gradient(self)


@functools.lru_cache(maxsize=256)
def _gradient(call: Masking) -> Masking:
    if call.operation == "drop":
        return call
    scale = alpha_scale(call.p) if call.operation == "alpha" else 1.0
    return Masking("drop", call.p, scale, call.placed)


_FUNCTIONS: dict[str, Callable[[Masking], tuple[Callable[..., Any], dict[str, Any]]]] = {
    "drop": lambda call: (dropout, {"scale": call.parameter}),
    "alpha": lambda call: (alpha_dropout, {}),
    "fill": lambda call: (masked_fill, {"value": call.parameter}),
}


def apply_mask(x: Tensor, key: Tensor, call: Masking, out: Tensor) -> None:
    """Write to `out` what a call makes of x; they are the same, or disjoint."""
    if not out.numel():
        return
    function, more = _FUNCTIONS[call.operation](call)
    function(
        array(x),
        p=call.p,
        rng=made_key(*words(key)),
        out=array(out),
        **more,
        **call.placed._asdict(),
    )


def computed(x: Tensor, key: Tensor, call: Masking, inplace: bool = False) -> Tensor:
    """Do the same to a tensor whose gradient is not recorded."""
    if inplace and not x.is_neg():
        apply_mask(x, key, call, x)
        return x
    y = torch.empty_like(x)
    apply_mask(x, key, call, y)
    return x.copy_(y) if inplace else y


@contextlib.contextmanager
def sharing(x: Tensor) -> Iterator[None]:
    """Let a call on the memory of x use as many threads as torch does."""
    yield


def array(x: Tensor) -> Any:
    """Return what the public functions take in the place of a tensor, without a copy."""
    x = x.detach()
    if not x.is_cpu:
        return x
    if x.is_neg():
        x = x.resolve_neg()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(_bfloat16())
    return x.numpy()


@functools.cache
def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "a bfloat16 tensor of this layout needs ml_dtypes: pip install ml_dtypes"
        ) from None
    known: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return known
