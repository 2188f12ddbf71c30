"""Data-loading workers: a sample's mask does not depend on which worker draws it, or when.

With a generator in each worker, masks depend on the number of workers and on which worker gets
which sample; forked workers that share a generator state even draw the same masks. A key derived
from epoch and sample depends on neither: 1 worker or 16, in any order, after a restart.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float32]


class Masked:
    """A data set of samples with masked features, for `torch.utils.data.DataLoader`.

    Set `epoch` before each epoch to get new masks.
    """

    def __init__(self, samples: Array, p: float, key: fd.Key) -> None:
        self.samples, self.p, self.key, self.epoch = samples, p, key, 0

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, n: int) -> tuple[Array, Array]:
        """Return a masked sample, and the original sample."""
        sample = self.samples[n]
        return fd.masked_fill(
            sample, self.p, 0, rng=self.key.fold_in(self.epoch).fold_in(n)
        ), sample


def run() -> None:
    """Compare two workers, which take the samples in another order, with none."""
    samples = np.random.default_rng(0).uniform(1, 2, (32, 100)).astype(np.float32)
    data = Masked(samples, 0.15, fd.Key(7))
    alone = [data[n][0] for n in range(len(data))]
    order = np.random.default_rng(1).permutation(len(data)).tolist()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for n, (masked, _) in zip(order, pool.map(data.__getitem__, order), strict=True):
            assert np.array_equal(masked, alone[n]), n
    assert abs(np.mean([masked == 0 for masked in alone]) - 0.15) < 0.03
    assert not np.array_equal(alone[0] == 0, alone[1] == 0)
    data.epoch = 1
    assert not np.array_equal(data[0][0], alone[0])
