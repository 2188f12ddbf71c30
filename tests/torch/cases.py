"""Tensors, their layouts, and calls of each function, with what `fastdrop` gives for the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

import fastdrop as fd
from fastdrop.torch import functional as F
from tests.support.oracle import Array, assert_same

# Its stream, and the seed's complement, are negative as int64.
KEY = fd.Key(0x0123456789ABCDEF, 0xFEDCBA9876543210)
# Forward-mode differentiation and functorch make torch compile rules of its own with it.
TORCHS_OWN_WARNINGS = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Normal random numbers, without touching torch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def array(x: Tensor) -> Array:
    """The values of a tensor as an array in C order."""
    x = x.detach().clone(memory_format=torch.contiguous_format)
    if x.dtype == torch.bfloat16:
        return np.asarray(x.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return x.numpy()


def assert_equal(actual: Tensor, expected: Array) -> None:
    """The same shape, dtype and bits."""
    assert_same(array(actual), expected)


def mask_of(y: Tensor) -> Array:
    """What dropout of ones kept."""
    return array(y) != 0


def generator_state() -> bytes:
    """The state of torch's default generator."""
    return torch.get_rng_state().numpy().tobytes()


def with_steps(x: Tensor) -> Tensor:
    """The same values, every second of one axis and every third of the other of a tensor."""
    wide = x.new_full((*[2 * n for n in x.shape[:1]], *x.shape[1:-1], 3 * x.shape[-1]), 7.0)
    view = wide[1::2, ..., 2::3]
    view.copy_(x)
    return view


def transposed(x: Tensor) -> Tensor:
    """The same values, whose memory runs along the axes in reverse."""
    axes = tuple(range(x.dim()))[::-1]
    return x.permute(axes).contiguous().permute(axes)


def rows_of_a_wider(x: Tensor) -> Tensor:
    """The same values in a part of a tensor with more columns."""
    return torch.cat([x, x], -1)[..., : x.shape[-1]]


def channels_last(x: Tensor) -> Tensor:
    """The same values with the channels of a sample side by side."""
    return x.contiguous(memory_format=torch.channels_last)


def behind_an_offset(x: Tensor) -> Tensor:
    """The same values in memory that begins an element later than torch allocates it."""
    memory = x.new_full((x.numel() + 1,), 7.0)
    view = memory[1:].view(x.shape)
    view.copy_(x)
    return view


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.clone,
    "transposed": transposed,
    "channels_last": channels_last,
    "steps": with_steps,
    "rows of a wider tensor": rows_of_a_wider,
    "behind an offset": behind_an_offset,
}

TorchCall: TypeAlias = Callable[..., Tensor]


class Call(NamedTuple):
    """A function of tensors, and the same function of arrays; both take a key and a placement."""

    torch: TorchCall
    numpy: Callable[..., Any]
    inplace: bool = True


CALLS: dict[str, Call] = {
    "dropout": Call(
        lambda x, **more: F.dropout(x, 0.3, **more), lambda x, **more: fd.dropout(x, 0.3, **more)
    ),
    "scale": Call(
        lambda x, **more: F.dropout(x, 0.3, scale=-0.7, **more),
        lambda x, **more: fd.dropout(x, 0.3, scale=-0.7, **more),
    ),
    "alpha_dropout": Call(
        lambda x, **more: F.alpha_dropout(x, 0.3, True, **more),
        lambda x, **more: fd.alpha_dropout(x, 0.3, **more),
    ),
    "masked_fill": Call(
        lambda x, **more: F.masked_fill(x, 0.3, 7.25, **more),
        lambda x, **more: fd.masked_fill(x, 0.3, 7.25, **more),
    ),
    "feature_dropout": Call(
        lambda x, **more: F.feature_dropout(x, 0.3, **more),
        lambda x, **more: fd.feature_dropout(x, 0.3, **more),
    ),
    "feature_alpha_dropout": Call(
        lambda x, **more: F.feature_alpha_dropout(x, 0.3, True, **more),
        lambda x, **more: fd.feature_alpha_dropout(x, 0.3, **more),
    ),
    "drop_path": Call(
        lambda x, **more: F.drop_path(x, 0.3, **more),
        lambda x, **more: fd.drop_path(x, 0.3, **more),
    ),
    "drop_path of the batch": Call(
        lambda x, **more: F.drop_path(x, 0.3, mode="batch", scale=0.5, **more),
        lambda x, **more: fd.dropout(x, 0.3, noise_shape=(1,) * x.ndim, scale=0.5, **more),
    ),
    "softmax_dropout": Call(
        lambda x, **more: F.softmax_dropout(x, 0.3, **more),
        lambda x, **more: fd.softmax_dropout(x, 0.3, **more),
        inplace=False,
    ),
    "bias_act_dropout_add": Call(
        lambda x, **more: F.bias_act_dropout_add(x, act="gelu", p=0.3, **more),
        lambda x, **more: fd.bias_act_dropout_add(x, act="gelu", p=0.3, **more),
        inplace=False,
    ),
}
