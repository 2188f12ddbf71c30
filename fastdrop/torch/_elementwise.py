"""The element-wise functions on tensors, and their gradients: which way a call takes.

The functions of `functional` call `mask`. A plain tensor whose gradient nobody records is computed
at once; one whose gradient is recorded goes through an `autograd.Function` that saves the key
alone. What functorch transforms (`vmap`, `torch.func`) and forward-mode differentiation see needs a
slower function with their rules. What is traced (`torch.compile`, fake tensors, subclasses) is
recorded as one operator of `_ops`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from . import _ops
from ._batches import batched
from ._compute import Masking, computed

_PLAIN = frozenset({Tensor, torch.nn.Parameter})
_compiling = torch.compiler.is_dynamo_compiling
_transforming = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_records, _strided = torch.is_grad_enabled, torch.strided
# By the vmap before functorch's, which gradients of batches (``is_grads_batched``) still use.
_is_batched = torch._C._functorch.is_legacy_batchedtensor


def is_traced(x: Tensor) -> bool:
    """Say whether a call is recorded and not made: then it must be one operator of torch's."""
    return (
        _compiling()
        or type(x) not in _PLAIN
        or _dispatch_modes() > 0
        or x.is_meta
        or _is_batched(x)
    )


def is_transformed() -> bool:
    """Say whether a transform of functorch's or forward-mode differentiation is on."""
    return _transforming() or forward_ad._current_level >= 0


def is_eager(x: Tensor) -> bool:
    """Say whether a call is neither traced nor transformed, on a plain tensor on the CPU.

    For most calls it is all there is to check: 0.5 us, in place of 1.3 one by one.
    """
    return not (
        _compiling()
        or type(x) not in _PLAIN
        or not x.is_cpu
        or x.layout is not _strided
        or x.is_nested
        or _transforming()
        or forward_ad._current_level >= 0
        or _dispatch_modes()
        or _is_batched(x)
    )


def eager_mask(x: Tensor, key: Tensor, call: Masking) -> Tensor:
    """Do the same as `mask` to a tensor that `is_eager`."""
    if x.requires_grad and _records():
        result: Tensor = _recorded(x, key, call, False)
        return result
    return computed(x, key, call)


def mask(x: Tensor, key: Tensor, call: Masking, inplace: bool = False) -> Tensor:
    """Do to x what a call says, by the mask of a key; recorded for gradients."""
    if is_traced(x):
        y = _ops.mask(x, key, call)
        return x.copy_(y) if inplace else y
    if is_transformed():
        y = _TransformedMask.apply(x, key, call)  # type: ignore[no-untyped-call]
        return x.copy_(y) if inplace else y
    if x.requires_grad and _records():
        result: Tensor = _recorded(x, key, call, inplace)
        return result
    return computed(x, key, call, inplace)


class _Mask(Function):
    """The function in eager mode. Its forward takes `ctx`, which is 3 times as fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: Tensor, call: Masking, inplace: bool) -> Tensor:
        ctx.save_for_backward(key)
        ctx.call = call
        if inplace:
            ctx.mark_dirty(x)
        return computed(x, key, call, inplace)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (key,) = ctx.saved_tensors
        apply = computed if not _records() and is_eager(dy) else mask
        return apply(dy, key, ctx.call.gradient), None, None, None


# What `Function.apply` does besides is for functorch, which never comes here, and takes 1.2 us.
_recorded: Any = super(Function, _Mask).apply


class _TransformedMask(Function):
    """The function with the rules of functorch and of forward-mode differentiation."""

    @staticmethod
    def forward(x: Tensor, key: Tensor, call: Masking) -> Tensor:
        return computed(x, key, call)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, key, ctx.call = inputs
        ctx.save_for_backward(key)
        ctx.save_for_forward(key)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (key,) = ctx.saved_tensors
        return mask(dy, key, ctx.call.gradient), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
        (key,) = ctx.saved_tensors
        return mask(dx, key, ctx.call.gradient)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, key: Tensor, call: Masking) -> Any:
        return batched(mask, info.batch_size, in_dims[:2], x, key, call), 0
