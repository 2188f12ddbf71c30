"""`dropout`, `alpha_dropout`, `masked_fill` and `dropout_mask` on tensors.

They check their arguments, draw a key, and call `mask` of `_elementwise`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .._check import arguments
from ._checks import (
    FLOATS,
    check,
    check_operand,
    check_parameter,
    check_tensor,
    masked,
    overridable,
    placed_in,
    probability,
)
from ._compute import WHOLE, Masking
from ._draws import KeyLike, key_tensor
from ._elementwise import eager_mask, is_eager, mask
from ._fill import fill_from, is_by_tensor
from ._keys import drawn


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
    scale: float | None = None,
    noise_shape: Sequence[int | None] | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Drop elements at random and scale the others, as `torch.nn.functional.dropout` does.

    One pass over memory; the backward draws the mask again, so that only the key is kept for it.

    Parameters
    ----------
    input : Tensor
        float16, bfloat16, float32 or float64, of any shape and strides, on the CPU or a GPU.
    p : float
        Probability of **dropping** an element, in [0, 1].
    training : bool
        False returns `input` itself.
    inplace : bool
        Whether to write the result to `input`, and return that.
    key : Tensor, fastdrop.Key, int or torch.Generator, optional
        What the mask is drawn from: a tensor of two int64, such as `draw_key` returns, or what
        `fastdrop.as_key` takes. A generator of torch's is asked for a key. None asks torch's
        default generator of the CPU, which `torch.manual_seed` seeds, for any device; but while a
        CUDA graph is captured, that of the GPU. A tensor may lie on a GPU, where kernels read it.
    scale : float, optional
        Factor of the kept elements, instead of ``1 / (1 - p)``.
    noise_shape : sequence of int and None, optional
        Shape of the mask, which broadcasts against `input`: 1 shares a decision along an axis.
    offset, global_shape
        Where `input` lies in a larger tensor, as in `fastdrop.dropout`.

    Returns
    -------
    Tensor
        Of the shape, dtype, layout and device of `input`; `input` itself if `training` is False or
        p is 0, as in torch. Dropped elements are exactly +0.0, even if they were NaN or infinite.

    Raises
    ------
    ValueError
        If p, `noise_shape`, `offset` or `global_shape` is invalid.
    NotImplementedError
        If the dtype is not one of these; it is a RuntimeError, as torch's.
    RuntimeError
        If `inplace` is True, and `input` is a leaf that requires a gradient, or has elements that
        share memory.

    Notes
    -----
    The mask of a key is ``fastdrop.dropout_mask(input.shape, p, rng=fastdrop.torch.key_of(key))``,
    bit for bit: on the CPU and a GPU, for all dtypes, compiled or not.

    Examples
    --------
    >>> import torch
    >>> from fastdrop.torch import functional as F
    >>> F.dropout(torch.ones(8), 0.5, key=42)
    tensor([2., 2., 0., 0., 0., 0., 2., 0.])
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            dropout, (input,), input, p, training, inplace, key=key, scale=scale,
            noise_shape=noise_shape, offset=offset, global_shape=global_shape,
        )  # fmt: skip
    if not (type(p) is float and 0.0 <= p <= 1.0):
        check_tensor(input)
        p = probability(p)
    usual = noise_shape is None and global_shape is None and type(offset) is int and not offset
    if usual and scale is None and training and p and not inplace and is_eager(input):
        if input.dtype in FLOATS:
            drawn_key = drawn() if key is None else key_tensor(key, input)
            return eager_mask(input, drawn_key, _usual.get(p) or _make_usual(p))
    check_tensor(input)
    if not training or p == 0.0:
        return input
    check(input, inplace)
    check_parameter("drop", scale, input)
    placed = WHOLE if usual else placed_in(input, noise_shape, offset, global_shape)
    return mask(input, key_tensor(key, input), Masking("drop", p, scale, placed), inplace)


# By p, for training loops, which have a few. Compiled code would be compiled again after a change.
_usual: dict[float, Masking] = {}
_MOST_USUAL = 256


def _make_usual(p: float) -> Masking:
    """Return dropout of whole tensors by p, and keep it."""
    if len(_usual) >= _MOST_USUAL:
        _usual.clear()
    call = _usual[p] = Masking("drop", p)
    return call


@overridable
def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    key: KeyLike = None,
    noise_shape: Sequence[int | None] | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Set elements at random to the saturation value of SELU, and preserve mean 0 and variance 1.

    It is `torch.nn.functional.alpha_dropout`, with its default of no training, and as
    `fastdrop.alpha_dropout`, which has the formulas.

    Parameters
    ----------
    input, p, training, inplace, key, noise_shape, offset, global_shape
        As in `dropout`, and the elements dropped are the same.

    Returns
    -------
    Tensor
        As `dropout`.

    Raises
    ------
    ValueError, NotImplementedError, RuntimeError
        As `dropout`.
    """
    return masked("alpha", input, p, training, inplace, key, noise_shape, offset, global_shape)


@overridable
def masked_fill(
    input: Tensor,
    p: float,
    value: float | Tensor,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
    noise_shape: Sequence[int | None] | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Replace elements by a value at random, each with probability `p`; keep the others.

    The elements are those that `dropout` drops, for the same key and p.

    Parameters
    ----------
    input : Tensor
        Of any dtype of floats or integers, or bool.
    p : float
        Probability of replacing an element, in [0, 1].
    value : number or Tensor
        The fill value, which must fit the dtype of `input`. A tensor of one element without a
        gradient is such a number. Any other has the dtype and device of `input` and broadcasts to
        it, and an element takes the value in its own place: another batch, noise, or a learned
        embedding.
    training, inplace, key, noise_shape, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        As `dropout`. Its gradient is that of `input` where that was kept, and that of `value`
        elsewhere.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `dropout`; also if the value does not fit the dtype, or does not broadcast.

    Examples
    --------
    Masked-token training, 15% of the tokens replaced by 103:

    >>> import torch
    >>> from fastdrop.torch import functional as F
    >>> F.masked_fill(torch.arange(8), 0.5, 103, key=42)
    tensor([  0,   1, 103, 103, 103, 103,   6, 103])

    A learned embedding in the place of whole tokens, as in masked autoencoders and wav2vec 2.0:

    >>> embedding = torch.nn.Parameter(torch.zeros(16))
    >>> F.masked_fill(torch.ones(2, 50, 16), 0.4, embedding, noise_shape=(None, None, 1)).shape
    torch.Size([2, 50, 16])
    """
    if isinstance(value, Tensor):
        if is_by_tensor(value):
            p = probability(p)
            if not training or p == 0.0:
                return input
            check(input, inplace, any_dtype=True)
            check_operand("value", value, input)
            placed = placed_in(input, noise_shape, offset, global_shape)
            by_x = Masking("drop", p, 1.0, placed)
            return fill_from(input, value, key_tensor(key, input), by_x, inplace)
        value = value.item()
    return masked(
        "fill", input, p, training, inplace, key, noise_shape, offset, global_shape, value
    )


def dropout_mask(
    shape: int | Sequence[int],
    p: float = 0.5,
    *,
    key: KeyLike = None,
    device: torch.device | str | None = None,
    noise_shape: Sequence[int | None] | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Draw the mask that `dropout` applies to a tensor of a given shape.

    Parameters
    ----------
    shape : int or sequence of int
        Shape of the tensor.
    p : float
        Probability of dropping, in [0, 1].
    device : torch.device, optional
        Where the mask is to lie; None is torch's default.
    key, noise_shape, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        bool, True = kept.

    Raises
    ------
    TypeError, ValueError
        As `fastdrop.dropout_mask`.

    Examples
    --------
    >>> from fastdrop.torch import functional as F
    >>> F.dropout_mask(8, 0.5, key=42).int()
    tensor([1, 1, 0, 0, 0, 0, 1, 0], dtype=torch.int32)
    """
    if not torch.compiler.is_compiling():  # sizes may be symbols there
        shape = arguments.lengths("shape", shape)
    kept = torch.ones(shape, dtype=torch.bool, device=device)
    return masked_fill(
        kept, p, False, key=key, noise_shape=noise_shape, offset=offset, global_shape=global_shape
    )
