"""Processes that share work with `fastdrop.torch`: forked, spawned, and a DataLoader's workers.

``python -m tests.support.scenarios.torch_processes SCENARIO``
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import fastdrop.torch as fdt
from fastdrop.torch import functional as F

from . import torch_calls as calls
from .children import fork, wait

SEEDS = range(3, 7)


def use_threads() -> dict[int, Tensor]:
    """Let this process use its threads, torch's and fastdrop's; returns what children must get."""
    x = torch.ones(256, 256)
    assert (x @ x).sum() == 256**3
    factors = {seed: calls.expected(seed) for seed in SEEDS}
    for seed, expected in factors.items():
        calls.check(seed, expected)
    return factors


def forked() -> None:
    """Children, and their own children, compute what their parent does."""
    factors = use_threads()
    x, dy = torch.ones(calls.N, requires_grad=True), torch.full((calls.N,), 2.0)
    arrays = {seed: expected.numpy() for seed, expected in factors.items()}

    def compute() -> None:
        # torch's own kernels hang in a child whose parent used the OpenMP runtime, unless the child
        # asks for one thread. Ours do not.
        for seed, expected in arrays.items():
            y = F.dropout(x, calls.P, key=seed)
            (dx,) = torch.autograd.grad(y, x, dy)
            assert np.array_equal(y.detach().numpy(), expected)
            assert np.array_equal(dx.numpy(), 2 * expected)
        torch.set_num_threads(1)
        for seed, factor in factors.items():
            calls.check(seed, factor)

    def compute_and_fork() -> None:
        compute()
        wait(fork(compute))

    wait(*(fork(compute_and_fork) for _ in range(3)))
    for seed, factor in factors.items():
        calls.check(seed, factor)


def _work(queue: Any, layer: fdt.Dropout, x: Tensor, y: Tensor, seed: int) -> None:
    calls.ignore_torchs_warnings()
    torch.set_num_threads(1)  # as forked processes must, for torch's own kernels
    calls.check(seed, calls.expected(seed))
    y.copy_(F.dropout(x, calls.P, key=seed))
    x += 1  # which the parent sees
    assert layer.key is not None
    queue.put((layer(torch.ones(64)).tolist(), layer.key.tolist(), calls.drawn()))


def _processes(method: str) -> None:
    """Modules by pickle and tensors in shared memory, of a process and its children."""
    use_threads()
    layer, x, y = calls.keyed(), torch.ones(calls.N).share_memory_(), torch.zeros(calls.N)  # type: ignore[no-untyped-call]
    y.share_memory_()  # type: ignore[no-untyped-call]
    context: Any = torch.multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    for n, seed in enumerate(SEEDS[:2]):
        child = context.Process(target=_work, args=(queue, layer, x, y, seed), daemon=True)
        child.start()
        child.join(60)
        assert child.exitcode == 0, child.exitcode
        mask, key, drawn = queue.get()
        assert mask == F.dropout(torch.ones(64), 0.5, key=torch.tensor([7, 3])).tolist()
        assert key == [7, 4]
        assert len(drawn) == 64
        assert torch.equal(x, torch.full((calls.N,), 2.0 + n))
        assert torch.equal(y, (1.0 + n) * calls.expected(seed))
    assert layer.key is not None and layer.key.tolist() == [7, 3]


class Augmented(Dataset[list[float]]):
    """Samples that workers drop features of."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> list[float]:
        return calls.drawn()


def _epoch(method: str, seed: int, workers: int = 2) -> list[list[float]]:
    loader = DataLoader(
        Augmented(),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
        multiprocessing_context=method if workers else None,
        timeout=60 if workers else 0,
    )
    return list(loader)


def _loader(method: str) -> None:
    """Workers draw masks of their own seeds, which come from the loader's generator."""
    use_threads()
    first = _epoch(method, 1)
    assert len({tuple(mask) for mask in first}) == len(first) == 8
    assert _epoch(method, 1) == first
    other = _epoch(method, 2)
    assert not {tuple(mask) for mask in first} & {tuple(mask) for mask in other}


SCENARIOS: dict[str, Callable[[], None]] = {
    "forked": forked,
    "fork": functools.partial(_processes, "fork"),
    "spawn": functools.partial(_processes, "spawn"),
    "loader_fork": functools.partial(_loader, "fork"),
    "loader_spawn": functools.partial(_loader, "spawn"),
}

if __name__ == "__main__":
    calls.ignore_torchs_warnings()
    SCENARIOS[sys.argv[1]]()
    print("done")
