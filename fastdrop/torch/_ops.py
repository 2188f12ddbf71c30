"""The same functions as operators of torch's, which `torch.compile` and other tracers record.

`_elementwise` and `_fused` call them where calls are traced, see `is_traced`. An operator's schema
has plain arguments only, so a call is taken apart and put together again.

Such operators have rules for gradients and for `vmap`. They have none for the derivatives of
functorch (`torch.func.grad`, `jvp`) and of forward mode: calls under those take torch's operators,
and an operator that draws the mask.

They are defined by a schema and not by `torch.library.custom_op`, which derives one and checks at
each call that no result is an argument: 4 us a call in place of 13 (Zen 5, November 2026).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad
from torch.types import Number

from fastdrop_kernels import contract

from .._call.coefficients import SELU_FLOOR, alpha_scale
from . import _keys
from ._batches import batched
from ._compute import Masking, Placed, computed
from ._fused_calls import Epilogue, Softmax

# A graph of CUDA's would repeat what is read of the host, such as a key.
_UNCAPTURED = tuple(filter(None, (getattr(torch.Tag, "cudagraph_unsafe", None),)))
_library = torch.library.Library("fastdrop", "DEF")  # type: ignore[no-untyped-call]
_PLACED = "SymInt[] offset, SymInt[]? global_shape"
_SCALED = f"float p, float? scale, {_PLACED}"


def _define(
    schema: str,
    compute: Callable[..., Any],
    shaped: Callable[..., Any],
    tags: tuple[torch.Tag, ...] = (),
) -> Any:
    """Define an operator, for tensors on any device, and for fake ones by `shaped`; return it."""
    name = schema.partition("(")[0]
    define: Any = _library.define
    define(schema, tags=(torch.Tag.pt2_compliant_tag, *_UNCAPTURED, *tags))
    implement: Any = _library.impl
    implement(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastdrop::{name}", shaped, lib=_library)
    return getattr(torch.ops.fastdrop, name).default


def _like_first(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _differentiable(operator: Any, gradient: Callable[..., Any], save: Callable[..., None]) -> None:
    torch.library.register_autograd(operator, gradient, setup_context=save, lib=_library)


# --- keys


def _shape_of_key(distinct: Tensor, x: Tensor) -> Tensor:
    return torch.empty(2, dtype=torch.int64, device=_keys.CPU)


_draw_key = _define(
    "draw_key(Tensor distinct, Tensor x) -> Tensor",
    lambda distinct, x: _keys.drawn(),
    _shape_of_key,
    (torch.Tag.nondeterministic_seeded,),
)


def _draw_for_batch(
    info: Any, in_dims: Any, distinct: Tensor, x: Tensor
) -> tuple[Tensor, int | None]:
    if info.randomness == "error":
        raise RuntimeError(
            'a key is drawn inside of vmap: give vmap randomness="different" for a key of each '
            'element of the batch, "same" for one of all, or give the function a key'
        )
    if info.randomness == "same":
        return _draw_key(distinct, x), None
    return torch.stack([_draw_key(distinct, x) for _ in range(info.batch_size)]), 0


torch.library.register_vmap(_draw_key, _draw_for_batch, lib=_library)


def draw_key(x: Tensor) -> Tensor:
    """Draw a key for x from torch's default generator, as other calls do, as one operator.

    If x is an element of a batch of `vmap`, the key is of that element, or of all, as vmap is told.
    """
    # Compilers merge operators with the same arguments (but for torch's own random ones), and leave
    # `empty` alone: no two draws have the same.
    key: Tensor = _draw_key(torch.empty(0, device=_keys.CPU), x.detach())  # not differentiated
    return key


# --- element-wise functions


def _compute_mask(x: Tensor, key: Tensor, *call: Any) -> Tensor:
    return computed(x, key, _masking(*call))


_mask = _define(
    "mask(Tensor x, Tensor key, str operation, float p, Scalar? parameter, "
    f"SymInt[]? noise_shape, {_PLACED}) -> Tensor",
    _compute_mask,
    _like_first,
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, *call = inputs
    ctx.save_for_backward(key)
    ctx.call = _masking(*call)


def _gradient(ctx: Any, dy: Tensor) -> Any:
    (key,) = ctx.saved_tensors
    return mask(dy, key, ctx.call.gradient), *[None] * 7


def _mask_batch(info: Any, in_dims: Any, x: Tensor, key: Tensor, *call: Any) -> tuple[Tensor, int]:
    return batched(mask, info.batch_size, in_dims[:2], x, key, _masking(*call)), 0


_differentiable(_mask, _gradient, _save)
torch.library.register_vmap(_mask, _mask_batch, lib=_library)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_differentiated() -> bool:
    """Say whether functorch or forward mode differentiates."""
    if forward_ad._current_level >= 0:
        return True
    return any(level.key() != TransformType.Vmap for level in get_interpreter_stack() or ())


def mask(x: Tensor, key: Tensor, call: Masking) -> Tensor:
    """Do to x what a call says, by the mask of a key, as one operator."""
    if not is_differentiated():
        return _operator(x, key, call)
    p, value = call.p, 0.0
    none = torch.zeros_like(x, dtype=torch.bool)
    dropped = _operator(none, key, Masking("fill", p, True, call.placed))
    if call.operation == "drop":
        x = x * (contract.scale(p) if call.parameter is None else call.parameter)
    elif call.operation == "alpha":
        scale = alpha_scale(p)
        x = x * scale + SELU_FLOOR * scale * p
        value = SELU_FLOOR * scale * p - SELU_FLOOR * scale
    else:
        value = call.parameter
    return x.masked_fill(dropped, value)


def _operator(x: Tensor, key: Tensor, call: Masking) -> Tensor:
    noise_shape, offset, global_shape = call.placed
    about = call.operation, call.p, call.parameter, noise_shape, _starts(offset), global_shape
    y: Tensor = _mask(x, key, *about)
    return y


def _masking(
    operation: str,
    p: float,
    parameter: Number | None,
    noise_shape: Sequence[int] | None,
    offset: Sequence[int],
    global_shape: Sequence[int] | None,
) -> Masking:
    """Return the call that an operator's arguments say."""
    noise = None if noise_shape is None else tuple(noise_shape)
    full = None if global_shape is None else tuple(global_shape)
    about: Any = operation, p, parameter, noise, tuple(offset), full
    if parameter is not None and not parameter:  # zeros of both signs are equal
        return _make(*about)
    try:
        return _made(*about)
    except TypeError:  # symbols have no hash: sizes in code that is compiled for many
        return _make(*about)


def _make(
    operation: str,
    p: float,
    parameter: Number | None,
    noise: tuple[int, ...] | None,
    offset: tuple[int, ...],
    full: tuple[int, ...] | None,
) -> Masking:
    one = len(offset) == 1 and (full is None or len(full) != 1)
    return Masking(operation, p, parameter, Placed(noise, offset[0] if one else offset, full))


_made = functools.lru_cache(maxsize=256, typed=True)(_make)


def _starts(offset: Any) -> Sequence[int]:
    return offset if isinstance(offset, tuple) else [offset]  # which may be a symbol of a size


def _scaled(call: Masking) -> tuple[float, float | None, Sequence[int], Sequence[int] | None]:
    _, offset, global_shape = call.placed
    return call.p, call.parameter, _starts(offset), global_shape


def _dropping(
    p: float, scale: float | None, offset: Sequence[int], global_shape: Sequence[int] | None
) -> Masking:
    return _masking("drop", p, scale, None, offset, global_shape)


# --- softmax and dropout

_softmax = _define(
    f"softmax_dropout(Tensor x, Tensor key, int dim, {_SCALED}) -> Tensor",
    lambda x, key, dim, *masking: Softmax(dim, _dropping(*masking)).forward(x, key),
    _like_first,
)
_softmax_backward = _define(
    f"softmax_dropout_backward(Tensor dy, Tensor x, Tensor key, int dim, {_SCALED}) -> Tensor",
    lambda dy, x, key, dim, *masking: Softmax(dim, _dropping(*masking)).backward(dy, x, key),
    lambda dy, x, *_: torch.empty_like(x),
)


def _save_softmax(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, key, *ctx.call = inputs
    ctx.save_for_backward(x, key)


def _softmax_gradient(ctx: Any, dy: Tensor) -> Any:
    return _softmax_backward(dy, *ctx.saved_tensors, *ctx.call), *[None] * 6


_differentiable(_softmax, _softmax_gradient, _save_softmax)


def softmax(x: Tensor, key: Tensor, call: Softmax) -> Tensor:
    """Return softmax with dropout, as one operator."""
    y: Tensor = _softmax(x, key, call.dim, *_scaled(call.masking))
    return y


def softmax_backward(dy: Tensor, x: Tensor, key: Tensor, call: Softmax) -> Tensor:
    """Return the gradient of `softmax` by x, as one operator."""
    dx: Tensor = _softmax_backward(dy, x, key, call.dim, *_scaled(call.masking))
    return dx


# --- the epilogue of a linear layer


def _compute_epilogue_gradients(
    dy: Tensor, x: Tensor, bias: Tensor | None, key: Tensor, activation: str, *masking: Any
) -> tuple[Tensor, Tensor]:
    dx, dbias = Epilogue(activation, _dropping(*masking)).backward(dy, x, bias, key)
    return dx, dx.new_empty(0) if dbias is None else dbias


_epilogue = _define(
    "bias_act_dropout_add(Tensor x, Tensor? bias, Tensor? residual, Tensor key, str activation, "
    f"{_SCALED}) -> Tensor",
    lambda x, bias, residual, key, activation, *masking: Epilogue(
        activation, _dropping(*masking)
    ).forward(x, bias, residual, key),
    _like_first,
)
_epilogue_backward = _define(
    "bias_act_dropout_add_backward(Tensor dy, Tensor x, Tensor? bias, Tensor key, str activation, "
    f"{_SCALED}) -> (Tensor, Tensor)",
    _compute_epilogue_gradients,
    lambda dy, x, bias, *_: (
        torch.empty_like(dy),
        dy.new_empty(0 if bias is None else bias.shape),
    ),
)


def _save_epilogue(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, residual, key, *ctx.call = inputs
    ctx.save_for_backward(x, bias, key)
    ctx.residual = None if residual is None else residual.shape


def _epilogue_gradient(ctx: Any, dy: Tensor) -> Any:
    x, bias, key = ctx.saved_tensors
    dx, dbias = _epilogue_backward(dy, x, bias, key, *ctx.call)
    dresidual = None if ctx.residual is None else dy.sum_to_size(ctx.residual)
    return dx, None if bias is None else dbias, dresidual, *[None] * 6


_differentiable(_epilogue, _epilogue_gradient, _save_epilogue)


def epilogue(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, key: Tensor, call: Epilogue
) -> Tensor:
    """Return ``dropout(activation(x + bias)) + residual``, as one operator."""
    y: Tensor = _epilogue(x, bias, residual, key, call.activation, *_scaled(call.masking))
    return y


def epilogue_backward(
    dy: Tensor, x: Tensor, bias: Tensor | None, key: Tensor, call: Epilogue
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `epilogue` by x and bias, as one operator."""
    more = call.activation, *_scaled(call.masking)
    dx, dbias = _epilogue_backward(dy, x, bias, key, *more)
    return dx, None if bias is None else dbias
