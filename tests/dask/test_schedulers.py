"""Dask's schedulers: one thread a block, and the same bits on all of them, also after losses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.dask_cases import (
    CALLS,
    CHUNKS,
    KEY,
    NO_DISTRIBUTED,
    as_it_is,
    dask_array,
    fd,
    in_blocks,
    normal,
)
from tests.support.internals import NUMPY
from tests.support.oracle import data

da = dask_array()
SOME = ("dropout", "array of p", "bias_act_dropout_add", "Mask", "softmax_dropout")


def long() -> Any:
    """Return an array of many blocks."""
    return normal((600, 40))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_local_schedulers(scheduler: str) -> None:
    x = normal()
    for name in SOME:
        lazy = CALLS[name](da.from_array(x, chunks=CHUNKS), in_blocks)
        computed = lazy.compute(scheduler=scheduler, num_workers=4)
        assert data(computed) == data(CALLS[name](x, as_it_is)), name


def test_blocks_run_on_one_thread_and_leave_the_limit_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: set[int] = set()

    def counted(x: Any, *call: Any, **more: Any) -> Any:
        counts.add(fd.get_num_threads())
        return apply(x, *call, **more)

    apply = NUMPY.apply
    monkeypatch.setattr(NUMPY, "apply", counted)
    x = da.from_array(long(), chunks=50)
    with fd.threads(3):
        fd.dropout(x, 0.3, rng=KEY).compute(scheduler="threads", num_workers=3)
        fd.dropout(x, 0.3, rng=KEY).compute(scheduler="synchronous")
        assert fd.get_num_threads() == 3
    assert counts == {1}


def test_map_overlap_before_and_after() -> None:
    x = long()
    lazy = da.from_array(x, chunks=(70, 40))
    expected = fd.dropout(x, 0.3, rng=KEY)

    def smooth(block: Any) -> Any:
        return block + np.roll(block, 1, 0) + np.roll(block, -1, 0)

    whole = da.from_array(expected, chunks=(70, 40))
    after = fd.dropout(lazy, 0.3, rng=KEY).map_overlap(smooth, depth=1, boundary="periodic")
    reference = whole.map_overlap(smooth, depth=1, boundary="periodic").compute()
    assert data(after.compute()) == data(reference)
    smoothed = lazy.map_overlap(smooth, depth=1, boundary="periodic")
    dropped = fd.dropout(smoothed, 0.3, rng=KEY)
    assert data(dropped.compute()) == data(fd.dropout(smoothed.compute(), 0.3, rng=KEY))


def test_persisted_arrays() -> None:
    x = long()
    lazy = da.from_array(x, chunks=50).persist()
    y = fd.dropout(lazy, 0.3, rng=KEY).persist()
    assert data(fd.dropout(y, 0.5, rng=1).compute()) == data(
        fd.dropout(fd.dropout(x, 0.3, rng=KEY), 0.5, rng=1)
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes of two threads."""
    distributed = pytest.importorskip("distributed", reason=NO_DISTRIBUTED)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as opened,
    ):
        yield opened


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # distributed's own
def test_distributed_workers(client: Any) -> None:
    x = normal()
    for name in SOME:
        lazy = CALLS[name](da.from_array(x, chunks=CHUNKS), in_blocks)
        assert data(client.compute(lazy).result()) == data(CALLS[name](x, as_it_is)), name
    kept = client.persist(fd.dropout(da.from_array(x, chunks=CHUNKS), 0.3, rng=KEY))
    assert data(kept.compute()) == data(fd.dropout(x, 0.3, rng=KEY))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_worker_that_is_killed_leaves_the_result_the_same(client: Any) -> None:
    x = normal((4000, 40))

    def slowly(block: Any) -> Any:
        import time

        time.sleep(0.05)
        return block

    lazy = da.from_array(x, chunks=(50, 40)).map_blocks(slowly, dtype=x.dtype)
    y = fd.dropout(fd.dropout(lazy, 0.3, rng=KEY).persist(), 0.5, rng=1)
    future = client.compute(y)
    before = set(client.scheduler_info(n_workers=-1)["workers"])
    victim = client.run(os.getpid, workers=[sorted(before)[0]])
    (pid,) = victim.values()
    assert not future.done()
    os.kill(pid, 9)
    assert data(future.result()) == data(fd.dropout(fd.dropout(x, 0.3, rng=KEY), 0.5, rng=1))
    client.wait_for_workers(2)
    pids = client.run(os.getpid)
    assert pid not in pids.values()


def peak() -> int:
    if sys.platform == "win32":
        return 0
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB on Linux")
@pytest.mark.filterwarnings("default")
def test_the_memory_of_a_worker_is_flat(client: Any) -> None:
    def reduced(gibibytes: float) -> Any:
        rows = int(gibibytes * 2**30) // (4 * 1024)
        x = da.ones((rows, 1024), chunks=(1024, 1024), dtype=np.float32)  # 4 MiB a block
        return fd.dropout(x, 0.5, rng=KEY).sum(dtype=np.float64)

    client.compute(reduced(0.25)).result()
    first = max(client.run(peak).values())
    client.compute(reduced(4)).result()
    assert max(client.run(peak).values()) - first < 64 * 1024
