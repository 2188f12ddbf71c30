"""The checks of calls on tensors, which the public functions share.

Those of `functional` call them before a key is drawn. `masked` also makes the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .._check import arguments
from .._check.detect import described
from .._check.placement import placement_of
from ._compute import Masking, Placed
from ._draws import KeyLike, key_tensor
from ._elementwise import mask

_F = TypeVar("_F", bound=Callable[..., Tensor])
_compiling = torch.compiler.is_compiling


def overridable(function: _F) -> _F:
    """Let subclasses of Tensor, and tracers of torch.fx, replace a function, as they do torch's."""

    @functools.wraps(function)
    def call(input: Tensor, *args: Any, **more: Any) -> Any:
        if has_torch_function_unary(input):
            return handle_torch_function(call, (input,), input, *args, **more)
        return function(input, *args, **more)

    return call  # type: ignore[return-value]


def masked(
    operation: str,
    x: Tensor,
    p: Any,
    training: bool,
    inplace: bool,
    key: KeyLike,
    noise_shape: Sequence[int | None] | None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
    parameter: Any = None,
) -> Tensor:
    """Check a call of an element-wise function, and make it."""
    p = arguments.probability(p)
    if not training or p == 0.0:
        return x
    placed = placed_in(x, noise_shape, offset, global_shape)
    check(x, inplace, any_dtype=operation == "fill")
    return mask(x, key_tensor(key, x), Masking(operation, p, parameter, placed), inplace)


def placed_in(
    x: Tensor,
    noise_shape: Sequence[int | None] | None,
    offset: int | Sequence[int],
    global_shape: Sequence[int] | None,
) -> Placed:
    """Return where a tensor lies in its mask, of plain integers; raise ValueError if it cannot."""
    full = None if global_shape is None else tuple(global_shape)
    shape = x.shape if full is None else full
    noise = None
    if noise_shape is not None and len(noise_shape) == len(shape):
        noise = tuple([m if n is None else n for n, m in zip(noise_shape, shape, strict=True)])
    start = offset if isinstance(offset, int) else tuple(offset)
    if not _compiling():  # sizes may be symbols there, and the operator checks them
        placement_of(tuple(x.shape), noise or noise_shape, start, full, "input")
    return Placed(noise, start, full)


_FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


def check(x: Tensor, inplace: bool, any_dtype: bool = False) -> None:
    """Refuse tensors that cannot be computed with, or not written to."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{described('input', x)}: give a torch.Tensor")
    if x.layout is not torch.strided:
        raise NotImplementedError(f"input has the layout {x.layout}: give input.to_dense()")
    if x.dtype not in _FLOATS and not any_dtype:
        way = ".real and .imag one by one," if x.is_complex() else ".float(),"
        raise NotImplementedError(
            f"input has {x.dtype}, which is none of float16, bfloat16, float32 and float64: give "
            f"its {way} or use masked_fill"
        )
    if not inplace:
        return
    if x.requires_grad and x.is_leaf and torch.is_grad_enabled():
        raise RuntimeError(
            "input is a leaf that requires a gradient, and inplace=True would overwrite it: give "
            "inplace=False"
        )
    if 0 in x.stride() and any(n > 1 and not s for n, s in zip(x.shape, x.stride(), strict=True)):
        raise RuntimeError(
            "input has elements that share memory, and inplace=True would write them twice: give "
            "input.clone()"
        )


def check_operand(name: str, operand: Tensor, x: Tensor) -> None:
    if operand.dtype != x.dtype or operand.device != x.device:
        raise TypeError(
            f"{name} is of {operand.dtype} on {operand.device}, and input of {x.dtype} on "
            f"{x.device}: give {name}.to(input)"
        )
    try:
        fits = operand.expand(x.shape) is not None
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(operand.shape)}, which does not broadcast to that of input, "
            f"{tuple(x.shape)}"
        )
