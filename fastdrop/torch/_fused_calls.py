"""Softmax with dropout, and the epilogue of a linear layer: calls to the kernels, and gradients.

`_fused` and `_ops` make them, on tensors whose gradients are not recorded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._functions.bias_act import (
    bias_act_dropout_add,
    bias_act_dropout_add_backward,
    gradient_by_x,
)
from .._functions.softmax import softmax_dropout, softmax_dropout_backward
from ._compute import Masking, array, calling
from ._memory import empty_like


class Softmax(NamedTuple):
    """A softmax with dropout: all that a call needs beside the scores and the key."""

    dim: int
    masking: Masking

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        """Return the result, by the kernels."""
        y = empty_like(x)
        with calling(x, key, self.masking.p) as rng:
            softmax_dropout(array(x), rng=rng, **self._settings(), out=array(y))
        return y

    def backward(self, dy: Tensor, x: Tensor, key: Tensor) -> Tensor:
        """Return the gradient by x, by the kernels."""
        dx = empty_like(x)
        with calling(x, key, self.masking.p) as rng:
            more = self._settings()
            softmax_dropout_backward(array(dy), array(x), rng=rng, **more, out=array(dx))
        return dx

    def _settings(self) -> dict[str, Any]:
        call, placed = self.masking, self.masking.placed
        more = {"offset": placed.offset, "global_shape": placed.global_shape}
        return {"p": call.p, "axis": self.dim, "scale": call.parameter, **more}


class Epilogue(NamedTuple):
    """What follows a matrix product: bias, activation, dropout, residual."""

    activation: str
    masking: Masking

    def forward(
        self, x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor
    ) -> Tensor:
        """Return the result, by the kernels."""
        y = empty_like(x)
        with calling(x, key, self.masking.p) as rng:
            more = {"residual": _operand(residual), "out": array(y)}
            bias_act_dropout_add(array(x), _operand(bias), rng=rng, **self._settings(), **more)
        return y

    def backward(
        self, dy: Tensor, x: Tensor, bias: Tensor | None, key: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by x and bias, by the kernels."""
        dx = empty_like(dy)
        with calling(dy, key, self.masking.p) as rng:
            more = {"rng": rng, "training": True, **self._settings(), "out": array(dx)}
            given = array(dy), array(x), _operand(bias)
            if not dy.is_cpu:
                gradient_by_x(*given, **more)
            else:
                dbias = bias_act_dropout_add_backward(*given, **more)[1]
        if bias is None:
            return dx, None
        return dx, _tensor(dbias, bias) if dy.is_cpu else _summed(dx, bias.shape)

    def _settings(self) -> dict[str, Any]:
        call, placed = self.masking, self.masking.placed
        more = {"offset": placed.offset, "global_shape": placed.global_shape}
        return {"act": self.activation, "p": call.p, "scale": call.parameter, **more}


def _operand(x: Tensor | None) -> Any:
    return None if x is None else array(x)


def _tensor(x: Any, like: Tensor) -> Tensor:
    """Return an array that the public functions made as a tensor of the dtype of another."""
    if like.dtype == torch.bfloat16:
        return torch.from_numpy(x.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(x)


def _summed(x: Tensor, shape: torch.Size) -> Tensor:
    """Return sums of x over what broadcasts to it from a shape, in float64 and rounded once.

    By torch, so that its allocator knows the result and its streams.
    """
    full = (1,) * (x.dim() - len(shape)) + shape
    axes = [axis for axis, n in enumerate(full) if n == 1]
    if not axes:
        return x.clone()
    return x.sum(axes, keepdim=True, dtype=torch.float64).to(x.dtype).view(shape)
