"""Calls of `fastdrop.torch` that children and threads make, and what they must give.

The scenarios `torch_processes` and `torch_ddp` use it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F

N = 1 << 18  # of which several threads share the work
P = 0.3


def ignore_torchs_warnings() -> None:
    """Ignore what torch's own code is warned of, where warnings are errors."""
    warnings.filterwarnings("ignore", ".*torch.jit.*deprecated")
    warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)


def expected(seed: int) -> Tensor:
    """What `check` compares with, from fastdrop's functions of arrays."""
    kept = torch.from_numpy(fd.dropout_mask(N, P, rng=fd.Key(seed)))
    return torch.where(kept, torch.tensor(1 / (1 - P), dtype=torch.float32), torch.tensor(0.0))


def check(seed: int, factors: Tensor) -> None:
    """Call forward and backward of large and small tensors, with keys of a seed."""
    x = torch.ones(N, requires_grad=True)
    y = F.dropout(x, P, key=seed)
    y.backward(torch.full((N,), 2.0))  # type: ignore[no-untyped-call]
    assert torch.equal(y, factors)
    assert torch.equal(x.grad, 2 * factors)  # type: ignore[arg-type]
    small = torch.ones(100, requires_grad=True)
    F.dropout(small, P, key=seed).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(small.grad, factors[:100])  # type: ignore[arg-type]
    rows = torch.zeros(N // 64, 64, requires_grad=True)
    z = F.softmax_dropout(rows, P, key=seed)
    z.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(z, factors.reshape(rows.shape) / 64)


def drawn(n: int = 64) -> list[float]:
    """A mask by torch's default generator."""
    return F.dropout(torch.ones(n), 0.5).tolist()


def keyed() -> fdt.Dropout:
    """A module with a key of its own, that has counted two forwards."""
    layer = fdt.Dropout(0.5, key=fd.Key(7, 1))
    for _ in range(2):
        layer(torch.ones(64))
    return layer
