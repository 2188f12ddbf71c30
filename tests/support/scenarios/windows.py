"""The package in a process without what Windows lacks, and in workers that such a one spawns.

``python -m tests.support.scenarios.windows calls|pool|executor``
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.without_posix import remove

# Also in spawned workers, which import this module as the main one.
remove(system=sys.platform if sys.argv[1:] in (["pool"], ["executor"]) else "win32")
sys.modules["cupy"] = None  # type: ignore[assignment]  # it is this system's

import numpy as np  # noqa: E402

import fastdrop as fd  # noqa: E402

KEY = fd.Key(42)


def calls() -> None:
    """Call a function of each kind; what they give is compared elsewhere."""
    x = np.arange(1, 1 + 64 * 96, dtype=np.float32).reshape(64, 96)
    y = fd.dropout(x, 0.5, rng=KEY)
    kept = fd.dropout_mask(x.shape, 0.5, rng=KEY)
    assert np.array_equal(y, np.where(kept, 2 * x, 0))
    assert np.array_equal(fd.masked_fill(x, 0.5, -1, rng=KEY), np.where(kept, x, -1))
    assert np.array_equal(fd.dropout(np.asfortranarray(x), 0.5, rng=KEY), y)
    assert np.array_equal(x * fd.Mask(x.shape, 0.5, rng=KEY), y)
    large = np.ones(3 << 20, np.float32)  # on several threads
    with fd.threads(2):
        assert np.array_equal(fd.dropout(large, 0.5, rng=KEY)[: y.size] != 0, kept.ravel())
    layer = fd.Dropout(0.5, rng=KEY)
    assert np.array_equal(layer(x), y)
    assert np.array_equal(layer.backward(x), y)
    assert (fd.keep_k((8, 32), 5, rng=KEY).sum(1) == 5).all()
    assert fd.as_key() != fd.as_key()
    with tempfile.TemporaryDirectory() as folder:
        file = np.memmap(Path(folder) / "x.bin", np.float32, "w+", shape=x.shape)
        file[:] = x
        fd.apply_blocks(fd.dropout, file, None, 0.5, rng=KEY, block_bytes=4096)
        assert np.array_equal(file, y)
        del file
    fd.show_versions()


def work(layer: fd.Dropout, key: fd.Key, mask: fd.Mask) -> list[Any]:
    """What workers do with pickled layers and keys."""
    x = np.ones((4, 8), np.float32)
    return [*(fd.dropout(x, 0.5, rng=key), layer(x), x * mask), layer.state_dict(), fd.as_key()]


def check(results: list[list[Any]]) -> None:
    """Compare what workers did with the same here."""
    layer, key, mask = arguments()
    for *arrays, state, _ in results:
        *expected, after, _ = work(fd.Dropout(0.5, rng=key), key, mask)
        for given, right in zip(arrays, expected, strict=True):
            assert np.array_equal(given, right)
        assert state == after != layer.state_dict()
    fresh = [result[-1] for result in results]
    assert len({*fresh, fd.as_key()}) == len(fresh) + 1


def arguments() -> tuple[fd.Dropout, fd.Key, fd.Mask]:
    """Return a layer, a key and a mask."""
    return fd.Dropout(0.5, rng=KEY), KEY, fd.Mask((4, 8), 0.5, rng=KEY)


def pool() -> None:
    """A pool of processes, as multiprocessing has it."""
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        check(workers.starmap(work, [arguments()] * 2, chunksize=1))


def executor() -> None:
    """The same of concurrent.futures."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as workers:
        check(list(workers.map(work, *zip(*[arguments()] * 4, strict=True))))


SCENARIOS: dict[str, Callable[[], None]] = {
    "calls": calls,
    "pool": pool,
    "executor": executor,
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]]()
    print("done")
