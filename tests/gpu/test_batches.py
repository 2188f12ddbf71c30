"""On a GPU: the functions on batches give NumPy's results, also in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_batch_cases import CALLS, OWN, check

need_a_gpu()
pytestmark = pytest.mark.gpu
Captured = Callable[..., tuple[Any, Any]]


@pytest.mark.parametrize("name", CALLS)
def test_results_are_those_of_numpy(gpu: Device, name: str) -> None:
    for rng in (1, fd.Key(2**63 + 5, 11), fd.sample_keys(7, OWN)):
        check(gpu, name, rng=rng)
    check(gpu, name, rng=5, sample_index=OWN)
    check(gpu, name, rng=5, offset=2**40 + 3)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "random_erasing"])
def test_a_graph_draws_anew_at_each_replay_and_reads_its_tables(gpu: Device, name: str) -> None:
    cupy, start = gpu.cupy, fd.Key(2**63 + 5, 9)
    key = fd.cuda.DeviceKey(start)
    written: list[Any] = []

    def call() -> None:
        written[:] = CALLS[name](gpu.put, rng=key)
        key.advance()

    call()  # so that kernels are loaded, and tables are there
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        arrays = [gpu.put(x) for x in CALLS[name].reads]
        stream.synchronize()
        left = iter(arrays)
        stream.begin_capture()
        made = CALLS[name](lambda x: next(left), rng=key)
        key.advance()
        graph = stream.end_capture()
    for n in range(300):  # others, in the place of which tables could come
        fd.keep_k((2, n + 2), n % 2, rng=1, like=made[0])
    for n in range(1, 4):
        graph.launch(stream)
        stream.synchronize()
        wanted = CALLS[name](np.asarray, rng=start.advanced(n))
        for a, b in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(gpu.get(a), b)
