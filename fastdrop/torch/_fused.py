"""Softmax with dropout, and the epilogue of a linear layer, on tensors; and their gradients.

The functions of `functional` call `softmax` and `epilogue`, which take the ways that `_elementwise`
describes. Both are not linear, so their backwards need the input, which is saved: it is what torch
saves for its softmax or its activation, too. Second derivatives, forward-mode differentiation and
functorch transforms take the same function as torch's operators and the dropout of `_elementwise`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as of_torch

from . import _ops
from ._elementwise import is_traced, is_transformed, mask
from ._fused_calls import Epilogue, Softmax

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "gelu": of_torch.gelu,
    "gelu_tanh": lambda x: of_torch.gelu(x, approximate="tanh"),
    "silu": of_torch.silu,
    "tanh": torch.tanh,
}


def _composed_softmax(x: Tensor, key: Tensor, call: Softmax) -> Tensor:
    """Return the result by torch's softmax, whose gradients of any order torch knows."""
    return mask(torch.softmax(x, call.dim), key, call.masking)


def softmax(x: Tensor, key: Tensor, call: Softmax) -> Tensor:
    """Return softmax with dropout; recorded for gradients."""
    if is_traced(x) and not _ops.is_differentiated():
        return _ops.softmax(x, key, call)
    if is_traced(x) or is_transformed():
        return _composed_softmax(x, key, call)
    if x.requires_grad and torch.is_grad_enabled():
        result: Tensor = _Softmax.apply(x, key, call)  # type: ignore[no-untyped-call]
        return result
    return call.forward(x, key)


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, key: Tensor, call: Softmax) -> Tensor:
        ctx.save_for_backward(x, key)
        ctx.call = call
        return call.forward(x, key)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, key = ctx.saved_tensors
        if _is_recorded_once():
            return _ops.softmax_backward(dy, x, key, ctx.call), None, None
        if _is_composed(dy):
            (dx,) = _again(lambda x: _composed_softmax(x, key, ctx.call), (x,), dy, (True,))
            return dx, None, None
        return ctx.call.backward(dy, x, key), None, None


def _composed_epilogue(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor, call: Epilogue
) -> Tensor:
    """Return the result by torch's operators, whose gradients of any order torch knows."""
    y = ACTIVATIONS[call.activation](x if bias is None else x + bias)
    y = mask(y, key, call.masking)
    return y if residual is None else y + residual


def epilogue(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor, call: Epilogue
) -> Tensor:
    """Return ``dropout(activation(x + bias)) + residual``; recorded for gradients."""
    if is_traced(x) and not _ops.is_differentiated():
        return _ops.epilogue(x, bias, residual, key, call)
    if is_traced(x) or is_transformed():
        return _composed_epilogue(x, bias, residual, key, call)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, bias, residual)
    ):
        result: Tensor = _Epilogue.apply(  # type: ignore[no-untyped-call]
            x, bias, residual, key, call
        )
        return result
    return call.forward(x, bias, residual, key)


class _Epilogue(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        key: Tensor,
        call: Epilogue,
    ) -> Tensor:
        # Without an activation, the gradient does not depend on x.
        linear = call.activation == "identity"
        ctx.save_for_backward(None if linear else x, None if linear else bias, key)
        ctx.call, ctx.shapes = call, [t if t is None else t.shape for t in (bias, residual)]
        return call.forward(x, bias, residual, key)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, bias, key = ctx.saved_tensors
        of_bias, of_residual = ctx.shapes
        of_x, need_bias, need_residual, *_ = ctx.needs_input_grad
        dx = dbias = None
        if x is None:
            if of_x or need_bias:
                dx = mask(dy, key, ctx.call.masking)
            dbias = dx.sum_to_size(of_bias) if need_bias else None  # type: ignore[union-attr]
        elif _is_recorded_once():
            dx, dbias = _ops.epilogue_backward(dy, x, bias, key, ctx.call)
        elif _is_composed(dy):
            dx, dbias = _again(
                lambda x, bias: _composed_epilogue(x, bias, None, key, ctx.call),
                (x, bias),
                dy,
                (of_x, need_bias),
            )
        elif of_x or need_bias:
            dx, dbias = ctx.call.backward(dy, x, bias, key)
        dresidual = dy.sum_to_size(of_residual) if need_residual else None
        return dx if of_x else None, dbias if need_bias else None, dresidual, None, None


def _is_recorded_once() -> bool:
    """Say whether a compiler records a backward, as compiled autograd does, and no second one."""
    return (
        torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not _ops.is_differentiated()
    )


def _is_composed(dy: Tensor) -> bool:
    """Say whether torch's operators give the gradient: a second one, or one of a transform's."""
    return torch.is_grad_enabled() or is_transformed() or is_traced(dy)


def _again(
    function: Callable[..., Tensor], given: tuple[Any, ...], dy: Tensor, needed: Any
) -> tuple[Tensor | None, ...]:
    """Return gradients by some inputs of a function that torch differentiates."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: an input may be computed from another one, by which alone the gradient is wanted.
        aliases: list[Any] = [None if t is None else t.view_as(t) for t in given]
        y = function(*aliases)
    wanted = [t for t, need in zip(aliases, needed, strict=True) if need]
    more = {"create_graph": recorded, "retain_graph": recorded}
    found = iter(torch.autograd.grad(y, wanted, dy, **more) if wanted else ())
    return tuple([next(found) if need else None for need in needed])
