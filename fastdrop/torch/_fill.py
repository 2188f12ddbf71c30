"""`masked_fill` by a tensor of values: dropped elements take the value in their own place.

`functional.masked_fill` calls `fill_from`. A call whose gradient is recorded saves the key alone.
What is traced or transformed takes torch's `where`, by a mask that `_elementwise` draws.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import increment_version

from .._functions.dropout import masked_fill
from ._compute import Masking, array, calling
from ._elementwise import is_traced, is_transformed, mask
from ._memory import empty_like


def is_by_tensor(value: Tensor) -> bool:
    """Say whether a value is read as a tensor; else it is one number, of any dtype."""
    return value.numel() != 1 or value.requires_grad or is_traced(value) or is_transformed()


def fill_from(x: Tensor, value: Tensor, key: Tensor, call: Masking, inplace: bool) -> Tensor:
    """Return x, or `value` where x is dropped; recorded for gradients.

    `call` says p and where x lies in the mask: it is the gradient by x.
    """
    if is_traced(x) or is_traced(value) or is_transformed():
        y = _composed(x, value, key, call)
        return x.copy_(y) if inplace else y
    if torch.is_grad_enabled() and (x.requires_grad or value.requires_grad):
        result: Tensor = _FillFrom.apply(x, value, key, call, inplace)  # type: ignore[no-untyped-call]
        return result
    y = _computed(x, value, key, call, x if inplace else empty_like(x))
    if inplace and not x.is_inference():
        increment_version(x)
    return y


def _composed(x: Tensor, value: Tensor, key: Tensor, call: Masking) -> Tensor:
    """Return the result by torch's operators, whose gradients of any order torch knows."""
    none = torch.zeros_like(x, dtype=torch.bool)
    dropped = mask(none, key, Masking("fill", call.p, True, call.placed))
    return torch.where(dropped, value, x)


def _computed(x: Tensor, value: Tensor, key: Tensor, call: Masking, out: Tensor) -> Tensor:
    """Write to `out`, which is x or disjoint from it; no gradient is recorded."""
    if not out.numel():
        return out
    if out.is_neg() or out.is_conj():  # whose memory is not what it says
        return out.copy_(_computed(x, value, key, call, torch.empty_like(x)))
    with calling(x, key, call.p) as rng:
        of_value = array(value.expand(x.shape))
        masked_fill(array(x), call.p, of_value, rng=rng, out=array(out), **call.placed._asdict())
    return out


class _FillFrom(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, value: Tensor, key: Tensor, call: Masking, inplace: bool
    ) -> Tensor:
        ctx.save_for_backward(key)
        ctx.call, ctx.shape = call, value.shape
        if inplace:
            ctx.mark_dirty(x)
        return _computed(x, value, key, call, x if inplace else empty_like(x))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (key,) = ctx.saved_tensors
        of_x, of_value, *_ = ctx.needs_input_grad
        dx = mask(dy, key, ctx.call) if of_x else None
        dvalue = None
        if of_value:  # never dy - dx, which is NaN where a kept gradient is infinite
            zeros = torch.zeros((), dtype=dy.dtype, device=dy.device).expand(dy.shape)
            dvalue = fill_from(zeros, dy, key, ctx.call, False).sum_to_size(ctx.shape)
        return dx, dvalue, None, None, None
