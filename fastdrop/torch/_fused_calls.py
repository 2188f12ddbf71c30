"""Softmax with dropout, and the epilogue of a linear layer: calls to the kernels, and gradients.

`_fused` and `_ops` make them, on tensors whose gradients are not recorded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .._check.key import made_key
from .._functions.bias_act import bias_act_dropout_add, bias_act_dropout_add_backward
from .._functions.softmax import softmax_dropout, softmax_dropout_backward
from ._compute import Masking, array, sharing
from ._keys import words


class Softmax(NamedTuple):
    """A softmax with dropout: all that a call needs beside the scores and the key."""

    dim: int
    masking: Masking

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        """Return the result, by the kernels."""
        y = torch.empty_like(x)
        with sharing(x):
            softmax_dropout(array(x), **self._settings(key), out=array(y))
        return y

    def backward(self, dy: Tensor, x: Tensor, key: Tensor) -> Tensor:
        """Return the gradient by x, by the kernels."""
        dx = torch.empty_like(x)
        with sharing(x):
            softmax_dropout_backward(array(dy), array(x), **self._settings(key), out=array(dx))
        return dx

    def _settings(self, key: Tensor) -> dict[str, Any]:
        _, p, scale, placed = self.masking
        more = {"offset": placed.offset, "global_shape": placed.global_shape}
        return {"p": p, "axis": self.dim, "rng": made_key(*words(key)), "scale": scale, **more}


class Epilogue(NamedTuple):
    """What follows a matrix product: bias, activation, dropout, residual."""

    activation: str
    masking: Masking

    def forward(
        self, x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor
    ) -> Tensor:
        """Return the result, by the kernels."""
        y = torch.empty_like(x)
        more = {"residual": _operand(residual), "out": array(y)}
        with sharing(x):
            bias_act_dropout_add(array(x), _operand(bias), **self._settings(key), **more)
        return y

    def backward(
        self, dy: Tensor, x: Tensor, bias: Tensor | None, key: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by x and bias, by the kernels."""
        dx = torch.empty_like(dy)
        settings = self._settings(key)
        with sharing(dy):
            _, dbias, _ = bias_act_dropout_add_backward(
                array(dy), array(x), _operand(bias), **settings, out=array(dx)
            )
        return dx, None if bias is None else _tensor(dbias, bias)

    def _settings(self, key: Tensor) -> dict[str, Any]:
        _, p, scale, placed = self.masking
        more = {"offset": placed.offset, "global_shape": placed.global_shape}
        rng = made_key(*words(key))
        return {"act": self.activation, "p": p, "rng": rng, "scale": scale, **more}


def _operand(x: Tensor | None) -> Any:
    return None if x is None else array(x)


def _tensor(x: Any, like: Tensor) -> Tensor:
    """Return an array that the public functions made as a tensor of the dtype of another."""
    if like.is_cpu:
        x = np.asarray(x)  # a sum over all axes is a scalar
    if like.dtype == torch.bfloat16 and like.is_cpu:
        return torch.from_numpy(x.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(x) if like.is_cpu else from_dlpack(x)
