"""The same functions as operators of torch's, which `torch.compile` and other tracers record.

`_elementwise` and `_fused` call them where calls are traced, see `is_traced`. An operator's schema
has plain arguments only, so a call is taken apart and put together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.types import Number

from . import _keys
from ._batches import batched
from ._compute import Masking, Placed, computed
from ._fused_calls import Epilogue, Softmax

_TAGS = (torch.Tag.nondeterministic_seeded,)


@custom_op("fastdrop::draw_key", mutates_args=(), tags=_TAGS)
def _draw_key(distinct: Tensor, x: Tensor) -> Tensor:
    return _keys.drawn()


@_draw_key.register_fake
def _(distinct: Tensor, x: Tensor) -> Tensor:
    return torch.empty(2, dtype=torch.int64, device=_keys.CPU)


@_draw_key.register_vmap
def _(info: Any, in_dims: Any, distinct: Tensor, x: Tensor) -> tuple[Tensor, int | None]:
    if info.randomness == "error":
        raise RuntimeError(
            'a key is drawn inside of vmap: give vmap randomness="different" for a key of each '
            'element of the batch, "same" for one of all, or give the function a key'
        )
    if info.randomness == "same":
        return _draw_key(distinct, x), None
    return torch.stack([_draw_key(distinct, x) for _ in range(info.batch_size)]), 0


def draw_key(x: Tensor) -> Tensor:
    """Draw a key for x from torch's default generator, as other calls do, as one operator.

    If x is an element of a batch of `vmap`, the key is of that element, or of all, as vmap is told.
    """
    # Compilers merge operators with the same arguments (but for torch's own random ones), and leave
    # `empty` alone: no two draws have the same.
    key: Tensor = _draw_key(torch.empty(0, device=_keys.CPU), x)
    return key


@custom_op("fastdrop::mask", mutates_args=())
def _mask(
    x: Tensor,
    key: Tensor,
    operation: str,
    p: float,
    parameter: Number | None,
    noise_shape: Sequence[int] | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Tensor:
    call = _call(operation, p, parameter, noise_shape, offset, global_shape)
    return computed(x, key, call)


@_mask.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, *call = inputs
    ctx.save_for_backward(key)
    ctx.call = _call(*call)


def _gradient(ctx: Any, dy: Tensor) -> Any:
    (key,) = ctx.saved_tensors
    return mask(dy, key, ctx.call.gradient), *[None] * 7


_mask.register_autograd(_gradient, setup_context=_save)


@_mask.register_vmap
def _(info: Any, in_dims: Any, x: Tensor, key: Tensor, *call: Any) -> Any:
    return batched(mask, info.batch_size, in_dims[:2], x, key, _call(*call)), 0


def mask(x: Tensor, key: Tensor, call: Masking) -> Tensor:
    """Do to x what a call says, by the mask of a key, as one operator."""
    noise_shape, offset, global_shape = call.placed
    about = call.operation, call.p, call.parameter, noise_shape, _starts(offset), global_shape
    y: Tensor = _mask(x, key, *about)
    return y


def _call(
    operation: str,
    p: float,
    parameter: Number | None,
    noise_shape: Sequence[int] | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Masking:
    noise = None if noise_shape is None else tuple(noise_shape)
    if global_shape is None:
        return Masking(operation, p, parameter, Placed(noise, offset[0]))
    start = offset[0] if len(offset) == 1 and len(global_shape) != 1 else tuple(offset)
    return Masking(operation, p, parameter, Placed(noise, start, tuple(global_shape)))


@custom_op("fastdrop::softmax_dropout", mutates_args=())
def _softmax(
    x: Tensor,
    key: Tensor,
    dim: int,
    p: float,
    scale: float | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Tensor:
    return _softmax_call(dim, p, scale, offset, global_shape).forward(x, key)


@custom_op("fastdrop::softmax_dropout_backward", mutates_args=())
def _softmax_backward(
    dy: Tensor,
    x: Tensor,
    key: Tensor,
    dim: int,
    p: float,
    scale: float | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Tensor:
    return _softmax_call(dim, p, scale, offset, global_shape).backward(dy, x, key)


@_softmax.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_softmax_backward.register_fake
def _(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _save_softmax(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, key, *ctx.call = inputs
    ctx.save_for_backward(x, key)


def _softmax_gradient(ctx: Any, dy: Tensor) -> Any:
    return _softmax_backward(dy, *ctx.saved_tensors, *ctx.call), *[None] * 6


_softmax.register_autograd(_softmax_gradient, setup_context=_save_softmax)


def softmax(x: Tensor, key: Tensor, call: Softmax) -> Tensor:
    """Return softmax with dropout, as one operator."""
    y: Tensor = _softmax(x, key, call.dim, *_scaled(call.masking))
    return y


def _softmax_call(dim: int, *masking: Any) -> Softmax:
    p, scale, offset, global_shape = masking
    return Softmax(dim, _call("drop", p, scale, None, offset, global_shape))


@custom_op("fastdrop::bias_act_dropout_add", mutates_args=())
def _epilogue(
    x: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    key: Tensor,
    activation: str,
    p: float,
    scale: float | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Tensor:
    return _epilogue_call(activation, p, scale, offset, global_shape).forward(
        x, bias, residual, key
    )


@custom_op("fastdrop::bias_act_dropout_add_backward", mutates_args=())
def _epilogue_backward(
    dy: Tensor,
    x: Tensor,
    bias: Tensor | None,
    key: Tensor,
    activation: str,
    p: float,
    scale: float | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    call = _epilogue_call(activation, p, scale, offset, global_shape)
    dx, dbias = call.backward(dy, x, bias, key)
    return dx, dx.new_empty(0) if dbias is None else dbias


@_epilogue.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_epilogue_backward.register_fake
def _(dy: Tensor, x: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(dy), dy.new_empty(0 if bias is None else bias.shape)


def _save_epilogue(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, residual, key, *ctx.call = inputs
    ctx.save_for_backward(x, bias, key)
    ctx.residual = None if residual is None else residual.shape


def _epilogue_gradient(ctx: Any, dy: Tensor) -> Any:
    x, bias, key = ctx.saved_tensors
    dx, dbias = _epilogue_backward(dy, x, bias, key, *ctx.call)
    dresidual = None if ctx.residual is None else dy.sum_to_size(ctx.residual)
    return dx, None if bias is None else dbias, dresidual, *[None] * 6


_epilogue.register_autograd(_epilogue_gradient, setup_context=_save_epilogue)


def epilogue(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor, call: Epilogue
) -> Tensor:
    """Return ``dropout(activation(x + bias)) + residual``, as one operator."""
    y: Tensor = _epilogue(x, bias, residual, key, call.activation, *_scaled(call.masking))
    return y


def _epilogue_call(activation: str, *masking: Any) -> Epilogue:
    p, scale, offset, global_shape = masking
    return Epilogue(activation, _call("drop", p, scale, None, offset, global_shape))


def _scaled(call: Masking) -> tuple[float, float | None, Sequence[int], Sequence[int] | None]:
    _, offset, global_shape = call.placed
    return call.p, call.parameter, _starts(offset), global_shape


def _starts(offset: Any) -> Sequence[int]:
    return [offset] if isinstance(offset, int) else offset
