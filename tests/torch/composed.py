"""Calls of each function by a tensor and a key alone, and the same by torch's operators.

Tests of compilers, of transforms and of checkpoints compare one with the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as of_torch

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.support.oracle import alpha_numbers

P = 0.3
SHARD: dict[str, Any] = {"offset": (1, 2), "global_shape": (9, 11)}
Call: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]


class Case(NamedTuple):
    """A call, and what it must give."""

    call: Call
    oracle: Callable[[Tensor, Tensor], Tensor]
    exact: bool = True  # the oracle rounds as the kernels do


def keep(x: Tensor, key: Tensor, shape: tuple[int, ...] | None = None, **where: Any) -> Tensor:
    """The mask of a key, drawn by fastdrop itself, of a tensor of two axes."""
    shape = tuple(x.shape) if shape is None else shape
    return torch.from_numpy(fd.dropout_mask(shape, P, rng=fdt.key_of(key), **where))


def scaled(x: Tensor, kept: Tensor, scale: float = 1 / (1 - P)) -> Tensor:
    return torch.where(kept, x * scale, torch.zeros((), dtype=x.dtype))


def _alpha(x: Tensor, kept: Tensor) -> Tensor:
    a, b, c = alpha_numbers(P)
    return torch.where(kept, x * a + b, torch.tensor(c, dtype=x.dtype))


def _epilogue(x: Tensor, key: Tensor) -> Tensor:
    y = of_torch.gelu(x + x[0] * 0.5)
    return scaled(y, keep(x, key)) + x.sin()


# Of tensors of two axes, at most 8 by 9.
CASES: dict[str, Case] = {
    "dropout": Case(
        lambda x, key: F.dropout(x, P, key=key), lambda x, key: scaled(x, keep(x, key))
    ),
    "scale": Case(
        lambda x, key: F.dropout(x, P, scale=0.5, key=key),
        lambda x, key: scaled(x, keep(x, key), 0.5),
    ),
    "shard": Case(
        lambda x, key: F.dropout(x, P, **SHARD, key=key),
        lambda x, key: scaled(x, keep(x, key, **SHARD)),
    ),
    "shifted": Case(
        lambda x, key: F.dropout(x, P, offset=7, key=key),
        lambda x, key: scaled(x, keep(x, key, offset=7)),
    ),
    "shared": Case(
        lambda x, key: F.dropout(x, P, noise_shape=(None, 1), key=key),
        lambda x, key: scaled(x, keep(x, key, (x.shape[0], 1))),
    ),
    "in place": Case(
        lambda x, key: F.dropout(x.clone(), P, inplace=True, key=key),
        lambda x, key: scaled(x, keep(x, key)),
    ),
    "feature_dropout": Case(
        lambda x, key: F.feature_dropout(x[None], P, key=key)[0],
        lambda x, key: scaled(x, keep(x, key, (x.shape[0], 1))),
    ),
    "dropout1d": Case(
        lambda x, key: F.dropout1d(x, P, key=key),
        lambda x, key: scaled(x, keep(x, key, (x.shape[0], 1))),
    ),
    "drop_path": Case(
        lambda x, key: F.drop_path(x, P, key=key),
        lambda x, key: scaled(x, keep(x, key, (x.shape[0], 1))),
    ),
    "drop_path of batches": Case(
        lambda x, key: F.drop_path(x, P, mode="batch", key=key),
        lambda x, key: scaled(x, keep(x, key, (1, 1))),
    ),
    "alpha_dropout": Case(
        lambda x, key: F.alpha_dropout(x, P, True, key=key),
        lambda x, key: _alpha(x, keep(x, key)),
    ),
    "feature_alpha_dropout": Case(
        lambda x, key: F.feature_alpha_dropout(x, P, True, key=key),
        lambda x, key: _alpha(x, keep(x, key)),
    ),
    "masked_fill": Case(
        lambda x, key: F.masked_fill(x, P, 2.5, key=key),
        lambda x, key: x.masked_fill(~keep(x, key), 2.5),
    ),
    "dropout_mask": Case(
        lambda x, key: x * F.dropout_mask(x.shape, P, key=key),
        lambda x, key: x * keep(x, key),
    ),
    "softmax_dropout": Case(
        lambda x, key: F.softmax_dropout(x, P, key=key),
        lambda x, key: scaled(torch.softmax(x, -1), keep(x, key)),
        exact=False,
    ),
    "softmax_dropout of columns": Case(
        lambda x, key: F.softmax_dropout(x, P, 0, key=key),
        lambda x, key: scaled(torch.softmax(x, 0), keep(x, key)),
        exact=False,
    ),
    # The bias and the residual are computed from x, so that there are paths between the inputs.
    "bias_act_dropout_add": Case(
        lambda x, key: F.bias_act_dropout_add(x, x[0] * 0.5, "gelu", P, residual=x.sin(), key=key),
        _epilogue,
        exact=False,
    ),
    "dropout of a linear layer": Case(
        lambda x, key: F.bias_act_dropout_add(x, None, "identity", P, key=key),
        lambda x, key: scaled(x, keep(x, key)),
    ),
}


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Normal random numbers, without touching torch's default generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def some_keys(n: int) -> Tensor:
    """Keys, one a row, all of them different."""
    generator = torch.Generator().manual_seed(n)
    return torch.stack([fdt.draw_key(generator) for _ in range(n)])
