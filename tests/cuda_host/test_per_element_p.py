"""Per-element p in CUDA C++, compiled for the host: dropout, fills and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdrop_kernels import contract, probabilities
from fastdrop_kernels.cuda import driver
from tests.support.cuda_host.cases import SPREADS, made
from tests.support.cuda_host.host import HostLauncher
from tests.support.cuda_host.per_element_cases import FILLED, MARKED, WIDE, arrays, check
from tests.support.oracle import Array
from tests.support.slow import slow_unless


@pytest.mark.parametrize(
    "dtype", slow_unless(lambda dtype: dtype in (FILLED[0], MARKED), [*FILLED, MARKED]), ids=str
)
def test_masked_fill_and_masks_by_per_element_thresholds(
    dtype: np.dtype[Any], cuda_on_host: HostLauncher, rng: np.random.Generator
) -> None:
    shape, forms = (6, 8, 16), set()
    places: list[dict[str, Any]] = [
        {"offset": 2**35 - 3},
        {"noise_shape": (6, 1, 16)},
        {"offset": (1, 2, 3), "global_shape": (9, 11, 21)},
    ]
    for spread in SPREADS.values():
        for place in places:
            check(*arrays(dtype, shape, 0, None, spread), rng, **place)
            forms.add(cuda_on_host.names[-1].split("_")[-2])
    check(*arrays(dtype, (5003,), 8), rng, offset=5)
    # Fortran order and mixed orders: rows across memory, and single elements.
    for axes, steps in (((2, 1, 0), (1, 1, 1)), ((1, 2, 0), (2, -1, 1))):
        out = made(shape, dtype, 0, axes, steps)
        _, inputs = arrays(dtype, shape)
        check(out, inputs, rng, noise_shape=(6, 8, 16) if axes[0] == 2 else (6, 1, 1))
        forms.add(cuda_on_host.names[-1].split("_")[-2])
    assert forms >= {"contiguous", "strided", "transposed", "any"}, forms


def test_thresholds_and_factors_are_those_of_a_scalar_p(rng: np.random.Generator) -> None:
    ties = (rng.integers(0, 2**32, 500) + 0.5) * 2.0**-32
    edges = [0.0, -0.0, 1.0, 1 - 2**-53, 1 - 2**-33, 1 - 2**-32, 2**-33, 1.5 * 2**-32, 5e-324]
    p = np.concatenate([rng.random(500), ties, edges])
    assert probabilities.thresholds(p).tolist() == [contract.threshold(v) for v in p.tolist()]
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        own = probabilities.factors(p, None, dtype)
        scales = [np.inf if v == 1 else contract.scale(v) for v in p.tolist()]
        assert own.tobytes() == np.array(scales, dtype).tobytes()
        given = probabilities.factors(p, np.array(-1.5, dtype), dtype)
        assert given.tobytes() == np.where(p == 1, np.inf, -1.5).astype(dtype).tobytes()


def operands(operation: Any) -> list[Array]:
    return list(driver.per_element_operands(operation, np.array([[0.5], [1.0]]), None))


def test_operations_take_only_the_operands_that_they_read() -> None:
    for dtype in FILLED:
        (t,) = operands(driver.per_element("fill", dtype, True))
        assert (t.dtype, t.tolist()) == (WIDE, [[2**31], [2**32]])
    (t,) = operands(driver.per_element("mark", None, True))
    assert (t.dtype, t.tolist()) == (WIDE, [[2**31], [2**32]])
    half, double = np.dtype(np.float16), np.dtype(np.float64)
    for dtype, computed in ((half, np.dtype(np.float32)), (double, double)):
        t, factor = operands(driver.per_element("drop", dtype, False))
        assert (t.dtype, t.tolist()) == (np.dtype(np.uint32), [[2**31], [2**32 - 1]])
        assert (factor.dtype, factor.tolist()) == (computed, [[2.0], [np.inf]])
