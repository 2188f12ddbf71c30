"""Two processes that train one model, or share its activations, on gloo.

``python -m tests.support.scenarios.torch_ddp SCENARIO FOLDER``
"""

from __future__ import annotations

import copy
import datetime
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fastdrop.torch as fdt
from fastdrop.torch import functional as F

from . import torch_calls as calls

RANKS = 2
PATIENCE = datetime.timedelta(seconds=60)


def _gathered(x: Tensor) -> list[Tensor]:
    """The tensors of all ranks."""
    every = [torch.empty_like(x) for _ in range(RANKS)]
    dist.all_gather(every, x.contiguous())
    return every


def _batch(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(RANKS * 6, 8, generator=generator)


class Model(nn.Module):
    """Dropout between layers; its masks are kept to be looked at."""

    def __init__(self, key: Any = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 4)
        self.dropout = fdt.Dropout(0.5, key=key)
        self.mask = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.first(x).sigmoid())
        self.mask = (y != 0).detach()
        return self.second(y)  # type: ignore[no-any-return]


def masks(rank: int) -> None:
    """Ranks with different seeds draw different masks, and their parameters stay in step."""
    torch.manual_seed(0)
    model = Model()
    trained = DistributedDataParallel(model)
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    for same in (False, True):
        torch.manual_seed(100 if same else 100 + rank)
        for step in range(3):
            optimiser.zero_grad()
            trained(_batch(step)[rank::RANKS]).square().mean().backward()
            optimiser.step()
            first, second = _gathered(model.mask)
            assert torch.equal(first, second) is same
            for parameter in model.parameters():
                first, second = _gathered(parameter.detach())
                assert torch.equal(first, second)


def _loss(y: Tensor) -> Tensor:
    return (y**2).sum()


def gradients_are_those_of_one_process(rank: int) -> None:
    """Each rank has its rows of one mask: the gradients add up to those of one process."""
    torch.manual_seed(0)
    model = nn.Linear(8, 16)
    whole = copy.deepcopy(model)
    trained = DistributedDataParallel(model)
    key, batch = fdt.draw_key(), _batch(0)
    n = len(batch) // RANKS
    place: dict[str, Any] = {"offset": (rank * n, 0), "global_shape": (len(batch), 16)}
    _loss(F.dropout(trained(batch[rank * n :][:n]), 0.5, key=key, **place)).backward()  # type: ignore[no-untyped-call]
    _loss(F.dropout(whole(batch), 0.5, key=key)).backward()  # type: ignore[no-untyped-call]
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad * RANKS, other.grad)  # DDP takes the mean


SPLIT: dict[str, Callable[..., Tensor]] = {
    "dropout": F.dropout,
    "alpha_dropout": functools.partial(F.alpha_dropout, training=True),
    "drop_path": F.drop_path,
    "feature_dropout": F.feature_dropout,
    "softmax_dropout": F.softmax_dropout,
    "bias_act_dropout_add": functools.partial(F.bias_act_dropout_add, act="gelu"),
}


def activations(rank: int) -> None:
    """Parts of a tensor on two ranks, put together, are that of one process, bit for bit."""
    torch.manual_seed(5)  # the same on both
    x, dy = torch.randn(6, 10, 8), torch.randn(6, 10, 8)
    for name, function in SPLIT.items():
        # A softmax needs its axis, and decisions that are shared along axes are drawn by rows.
        for axis in (0, 1) if name not in ("drop_path",) else (0,):
            key = fdt.draw_key()
            whole = x.clone().requires_grad_()
            y = function(whole, p=0.4, key=key)
            y.backward(dy)  # type: ignore[no-untyped-call]
            n = x.shape[axis] // RANKS
            offset = [0, 0, 0]
            offset[axis] = rank * n
            part = x.narrow(axis, rank * n, n).clone().requires_grad_()
            place: dict[str, Any] = {"offset": offset, "global_shape": x.shape}
            z = function(part, p=0.4, key=key, **place)
            z.backward(dy.narrow(axis, rank * n, n))  # type: ignore[no-untyped-call]
            assert part.grad is not None and whole.grad is not None
            assert torch.equal(torch.cat(_gathered(z.detach()), axis), y.detach()), (name, axis)
            assert torch.equal(torch.cat(_gathered(part.grad), axis), whole.grad), (name, axis)


SCENARIOS = {
    "masks": masks,
    "gradients": gradients_are_those_of_one_process,
    "activations": activations,
}


def _run(rank: int, folder: str) -> None:
    calls.ignore_torchs_warnings()
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{Path(folder).absolute() / 'rendezvous'}",
        rank=rank,
        world_size=RANKS,
        timeout=PATIENCE,
    )
    for scenario in SCENARIOS.values():
        scenario(rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    calls.ignore_torchs_warnings()
    spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    spawn(_run, args=(sys.argv[1],), nprocs=RANKS)
    print("done")
