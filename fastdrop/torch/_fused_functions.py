"""`softmax_dropout` and `bias_act_dropout_add` on tensors.

They check their arguments, draw a key, and call `_fused`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._check import arguments
from ._checks import (
    check,
    check_operand,
    check_parameter,
    overridable,
    placed_in,
    probability,
)
from ._compute import Masking
from ._draws import KeyLike, key_tensor
from ._fused import ACTIVATIONS, epilogue, softmax
from ._fused_calls import Epilogue, Softmax


@overridable
def softmax_dropout(
    input: Tensor,
    p: float = 0.5,
    dim: int = -1,
    training: bool = True,
    *,
    key: KeyLike = None,
    scale: float | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Compute the softmax along an axis, and drop elements of it at random, in one pass.

    The result is ``dropout(softmax(input, dim), p)``, as attention computes from its scores. The
    scores and the key are kept for the backward, and neither the softmax nor a mask.

    Parameters
    ----------
    input : Tensor
        Scores, with at least one axis; masked positions are -inf.
    p : float
        Probability of **dropping** an element, in [0, 1].
    dim : int
        Axis of the softmax.
    training : bool
        False omits the dropout, as p = 0 does: the result is that of `torch.softmax`.
    key, scale, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        As `dropout`. Rows of -inf alone give +0.0, where torch gives NaN.

    Raises
    ------
    IndexError
        If there is no such axis, as torch.
    ValueError, NotImplementedError
        As `dropout`.
    """
    p = probability(p)
    axes, dim = input.dim(), arguments.integer("dim", dim)
    if not -axes <= dim < axes:
        raise IndexError(f"dim={dim} is out of range for an input of {axes} axes")
    if not training or p == 0.0:
        return torch.softmax(input, dim)
    placed = placed_in(input, None, offset, global_shape)
    if placed.global_shape is not None and placed.global_shape[dim] != input.shape[dim]:
        raise ValueError(
            f"input has length {input.shape[dim]} along dim={dim}, and global_shape="
            f"{placed.global_shape} another: a softmax needs the whole axis, so cut along others"
        )
    check(input, False)
    check_parameter("drop", scale, input)
    call = Softmax(dim % axes, Masking("drop", p, scale, placed))
    return softmax(input, key_tensor(key, input), call)


@overridable
def bias_act_dropout_add(
    input: Tensor,
    bias: Tensor | None = None,
    act: str = "identity",
    p: float = 0.5,
    training: bool = True,
    *,
    key: KeyLike = None,
    residual: Tensor | None = None,
    scale: float | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Return ``dropout(act(input + bias), p) + residual``, in one pass over memory.

    For the backward, `input`, `bias` and the key are kept; the key alone if `act` is "identity".

    Parameters
    ----------
    input : Tensor
        As in `dropout`.
    bias, residual : Tensor, optional
        Of the dtype and device of `input`; they broadcast to it.
    act : {"identity", "relu", "gelu", "gelu_tanh", "silu", "tanh"}
        The activation, as in `fastdrop.bias_act_dropout_add`.
    p : float
        Probability of **dropping** an element, in [0, 1].
    training : bool
        False omits the dropout only.
    key, scale, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        A new tensor of the shape, dtype and layout of `input`.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `dropout`; also if `act` is not one of these, or a bias or residual does not fit.
    """
    p = probability(p) if training else 0.0
    arguments.choice("act", act, tuple(ACTIVATIONS))
    placed = placed_in(input, None, offset, global_shape)
    check(input, False)
    check_parameter("drop", scale, input)
    for name, tensor in (("bias", bias), ("residual", residual)):
        if tensor is not None:
            check_operand(name, tensor, input)
    drawn = key_tensor(key if p else 0, input)
    return epilogue(input, bias, residual, drawn, Epilogue(act, Masking("drop", p, scale, placed)))
