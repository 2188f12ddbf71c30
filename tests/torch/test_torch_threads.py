"""Calls use as many threads as torch does, and many threads may call at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.support import internals
from tests.support.subprocesses import assert_succeeds, run_python
from tests.support.systems import needs_proc

P = 0.3
N = 1 << 20  # elements, which several threads share

CALLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "dropout": lambda x, key: F.dropout(x, P, key=key),
    "strided": lambda x, key: F.dropout(x.T, P, key=key),
    "alpha_dropout": lambda x, key: F.alpha_dropout(x, P, True, key=key),
    "masked_fill": lambda x, key: F.masked_fill(x, P, 2.0, key=key),
    "drop_path": lambda x, key: F.drop_path(x, P, key=key),
    "softmax_dropout": lambda x, key: F.softmax_dropout(x, P, key=key),
    "bias_act_dropout_add": lambda x, key: F.bias_act_dropout_add(
        x, x[0].detach(), "gelu", P, residual=x, key=key
    ),
    "gradient of a bias": lambda x, key: F.bias_act_dropout_add(
        x.detach(), x[0], "silu", P, key=key
    ),
}


@pytest.fixture
def set_torchs_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def numbers() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1024, N // 1024, generator=generator)


def both(call: Callable[[Tensor, int], Tensor], x: Tensor, key: int) -> list[Tensor]:
    """The result of a call, and its gradient."""
    leaf = x.clone().requires_grad_()
    y = call(leaf, key)
    y.backward(torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape))  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return [y.detach(), leaf.grad]


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_number_of_threads(
    name: str, set_torchs_threads: Callable[[int], None], set_threads: Callable[[int], None]
) -> None:
    found = []
    set_threads(4)
    for count in (1, 2, 3):
        set_torchs_threads(count)
        found.append(both(CALLS[name], numbers(), 5))
    set_threads(1)  # fastdrop's own number is a limit, too
    found.append(both(CALLS[name], numbers(), 5))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


COUNTED = """
import os, time, torch
import fastdrop as fd
from fastdrop.torch import functional as F

def threads():
    return set(os.listdir("/proc/self/task"))

def work():
    x = torch.ones(1 << 11, 1 << 10, requires_grad=True)
    for call in (F.dropout, F.softmax_dropout, F.drop_path, F.bias_act_dropout_add):
        call(x, p=0.3).backward(torch.ones_like(x))
    F.dropout(x.detach().T, 0.3)

fd.set_num_threads(3)
torch.set_num_threads(COUNT)
before = threads()
work()
for _ in range(200):  # threads that compiled kernels may be ending; those of a pool stay
    started = threads() - before
    if not started:
        break
    time.sleep(0.05)
print(len(started))
"""


@needs_proc
@pytest.mark.parametrize("count", [1, 3])
def test_torch_set_num_threads_is_obeyed(count: int) -> None:
    """With one thread, neither fastdrop's pool nor the OpenMP runtime has any other."""
    script = COUNTED.replace("COUNT", str(count))
    assert_succeeds(run_python(script))  # compiles, which a thread of its own may do
    started = int(assert_succeeds(run_python(script)))
    assert started == 0 if count == 1 else started >= 2


def test_a_context_without_torch_keeps_fastdrops_number(
    set_torchs_threads: Callable[[int], None], set_threads: Callable[[int], None]
) -> None:
    set_threads(3)
    set_torchs_threads(1)
    F.dropout(torch.ones(N), P)
    assert fd.get_num_threads() == 3
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("threads", [8])
def test_many_threads_call_forward_and_backward_at_once(threads: int) -> None:
    x = numbers()
    keys = range(threads * 2)
    expected = {
        (name, key): both(call, x, key)
        for name, call in CALLS.items()
        for key in (keys if name == "dropout" else keys[:1])
    }
    barrier = threading.Barrier(threads)

    def work(which: int) -> list[str]:
        barrier.wait(60)
        wrong = []
        for _ in range(2):
            for (name, key), results in expected.items():
                if name != "dropout" or key % threads == which:
                    found = both(CALLS[name], x, key)
                    same = [torch.equal(a, b) for a, b in zip(found, results, strict=True)]
                    if not all(same):
                        wrong.append(f"{name} {key}")
        return wrong

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, range(threads))) == [[]] * threads


def test_threads_draw_different_masks_from_the_default_generator() -> None:
    torch.manual_seed(1)
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: tuple(fdt.draw_key().tolist()), range(400)))
        masks = list(pool.map(lambda _: F.dropout(torch.ones(128), 0.5), range(100)))
    assert len(set(keys)) == 400
    assert len({tuple(mask.tolist()) for mask in masks}) == 100


def test_a_backward_on_another_thread_draws_the_same_mask() -> None:
    x = torch.ones(1000, requires_grad=True)
    y = F.dropout(x, P)

    def backward() -> None:
        torch.manual_seed(5)
        y.sum().backward()  # type: ignore[no-untyped-call]

    thread = threading.Thread(target=backward)
    thread.start()
    thread.join(60)
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_repeated_fused_calls_are_shared_by_torchs_threads(
    monkeypatch: pytest.MonkeyPatch, set_torchs_threads: Callable[[int], None]
) -> None:
    """A team shares fewer elements than the pool does, for which plans are made."""
    shared: list[int] = []
    together = internals.kernel_call.run_together  # type: ignore[attr-defined]

    def noted(work: Any, threads: int) -> None:
        shared.append(threads)
        together(work, threads)

    monkeypatch.setattr(internals.kernel_call, "run_together", noted)
    set_torchs_threads(2)
    x, other, bias = torch.ones(256, 1024), torch.ones(256, 1024), torch.ones(1024)
    calls: list[Callable[[], Tensor]] = [
        lambda: F.bias_act_dropout_add(x, bias, "relu", 0.1, residual=other),
        lambda: F.bias_act_dropout_add(x, None, "identity", 0.1, residual=other),
        lambda: F.masked_fill(x, 0.5, other),
    ]
    for call in calls * 3:
        shared.clear()
        with fd.threads(2):
            call()
        assert shared == [2]
