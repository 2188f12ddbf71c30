"""Layers and packed masks of CuPy arrays, which lie on the host: the CPU's kernels compute."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import HostDevice, cupy_or_skip, host_device

cupy_or_skip()


@pytest.fixture
def host() -> Iterator[HostDevice]:
    with host_device() as (device, _):
        yield device


@pytest.mark.parametrize("act", ["tanh", "identity"])
def test_the_epilogues_layer_is_that_of_numpys_arrays(
    host: HostDevice, act: str, rng: np.random.Generator
) -> None:
    layer, same = (fd.BiasActDropoutAdd(act, 0.4, rng=5) for _ in range(2))
    x, dy = rng.standard_normal((2, 3, 4, 10))
    bias, residual = rng.standard_normal((4, 1)), rng.standard_normal((3, 1, 10))
    for training in (True, False):
        mine = layer.forward(
            host.put(x), host.put(bias), residual=host.put(residual), training=training
        )
        oracle.assert_same(
            host.get(mine), same.forward(x, bias, residual=residual, training=training)
        )
    for _ in range(2):
        given = host.put(dy)
        gradients, true = layer.backward(given), same.backward(dy)
        for got, its in zip(gradients, true, strict=True):
            assert isinstance(got, host.cupy.ndarray)
            # Sums of CuPy's are in an order of their own, and cancel.
            np.testing.assert_allclose(host.get(got), np.asarray(its), rtol=1e-14, atol=1e-13)
        oracle.assert_same(host.get(gradients[0]), true[0])
    layer.forward(host.put(x), residual=host.put(x))
    given = host.put(dy)
    _, dbias, dresidual = layer.backward(given)
    assert dbias is None and dresidual is given


def test_a_layer_with_a_p_of_each_element(host: HostDevice) -> None:
    p = [0.1, 0.9, 0.5, 0.0, 1.0]
    layer, same = (fd.Dropout(p, rng=5) for _ in range(2))
    x = np.ones((4, 5))
    oracle.assert_same(host.get(layer(host.put(x))), same(x))
    oracle.assert_same(host.get(layer.backward(host.put(x))), same.backward(x))


def test_packed_masks_of_a_p_of_each_element(host: HostDevice) -> None:
    gpu_cases.check_packed_each(host)
