"""drop_block2d and drop_block3d equal a slow implementation of torchvision's formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from tests.support.drop_block import expected_of, kept_mask
from tests.support.gradients import assert_backward_is_the_gradient
from tests.support.oracle import Array, applied, assert_same, data, key_from, poisoned
from tests.support.slow import slow_unless

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
FUNCTIONS = {2: fd.drop_block2d, 3: fd.drop_block3d}


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype in DTYPES[2:], DTYPES))
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 3, 12, 9), 1),
        ((2, 3, 12, 9), 2),
        ((2, 3, 12, 9), 3),
        ((2, 3, 12, 9), 5),
        ((2, 3, 7, 9), 7),
        ((3, 2, 7, 7), 7),
        ((2, 2, 6, 7, 8), 3),
        ((2, 2, 6, 7, 8), 4),
        ((0, 2, 6, 7), 3),
    ],
)
def test_it_equals_the_formula(
    shape: tuple[int, ...], size: int, dtype: Any, rng: np.random.Generator
) -> None:
    function = FUNCTIONS[len(shape) - 2]
    x = rng.standard_normal(shape).astype(dtype)
    for p in (0.0, 0.1, 0.5, 1.0):
        key = key_from(rng)
        expected = expected_of(x, p, size, key)
        assert_same(function(x, p, size, rng=key), expected)
        out = poisoned(shape, dtype)
        assert function(x, p, size, rng=key, out=out) is out
        assert_same(out, expected)


@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 10)] * 2),
    cut=st.integers(0, 9),
    p=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_blocks_of_any_size_in_any_shape(
    shape: tuple[int, ...], cut: int, p: float, seed: int
) -> None:
    size = 1 + cut % min(shape[2:])
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    assert_same(fd.drop_block2d(x, p, size, rng=seed), expected_of(x, p, size, fd.Key(seed)))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_torch_grows_the_blocks_alike(dimensions: int, size: int) -> None:
    torch = pytest.importorskip("torch")
    shape = (3, 4, *[9] * dimensions)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    grid = (*shape[:2], *[9 - size + 1] * dimensions)
    p = 0.3
    gamma = (p * 9**dimensions) / (size**dimensions * (9 - size + 1) ** dimensions)
    starts = torch.from_numpy(~fd.dropout_mask(grid, gamma, rng=5)).float()
    pad = torch.nn.functional.pad(starts, [size // 2] * 2 * dimensions)
    pool = getattr(torch.nn.functional, f"max_pool{dimensions}d")
    kept = 1 - pool(pad, kernel_size=size, stride=1, padding=size // 2)
    variable = torch.from_numpy(x).requires_grad_()
    y = variable * kept * (kept.numel() / (1e-6 + kept.sum()))
    function = FUNCTIONS[dimensions]
    np.testing.assert_allclose(function(x, p, size, rng=5), y.detach().numpy(), rtol=1e-6)
    y.backward(torch.from_numpy(x))
    assert variable.grad is not None
    np.testing.assert_allclose(function(x, p, size, rng=5), variable.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_backward_is_the_same_call(dimensions: int, rng: np.random.Generator) -> None:
    function = FUNCTIONS[dimensions]

    def call(x: Array) -> Array:
        return function(x, 0.3, 2, rng=3)

    assert_backward_is_the_gradient(call, call, rng.standard_normal((2, 2, *[4] * dimensions)))


def test_the_mean_of_ones_is_kept_exactly_but_for_eps() -> None:
    y = fd.drop_block2d(np.ones((8, 8, 20, 20)), 0.2, 5, rng=1)
    assert abs(y.mean() - 1) < 1e-9
    # Blocks overlap, and so somewhat less than p is dropped.
    assert 0.15 < (y == 0).mean() < 0.2


@pytest.mark.parametrize("eps", [0.0, 1e-6, 3.0, 1])
def test_eps_is_added_to_the_count(eps: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 2, 8, 8))
    assert_same(fd.drop_block2d(x, 0.3, 3, rng=2, eps=eps), expected_of(x, 0.3, 3, fd.Key(2), eps))


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_where_nothing_is_kept_all_is_zero(eps: float) -> None:
    x = np.full((1, 1, 4, 4), np.inf)
    y = fd.drop_block2d(x, 1.0, 4, rng=2, eps=eps)
    assert not data(y).strip(b"\0")


def test_nan_in_a_block_is_gone() -> None:
    x = np.full((4, 4, 9, 9), np.nan, np.float32)
    y = fd.drop_block2d(x, 0.3, 3, rng=2)
    kept = kept_mask(x.shape, 0.3, 3, fd.Key(2))
    assert not data(y[~kept]).strip(b"\0")
    assert np.isnan(y[kept]).all()


def test_layouts_and_overlaps(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4, 8, 8)).astype(np.float32)
    expected = expected_of(x, 0.2, 3, fd.Key(2))
    for order in itertools.permutations(range(4)):
        view = x.transpose(order).copy().transpose(np.argsort(order))
        assert_same(fd.drop_block2d(view, 0.2, 3, rng=2), expected)
    before = x.copy()
    fd.drop_block2d(x, 0.2, 3, rng=2)
    assert data(x) == data(before)
    fd.drop_block2d(x, 0.2, 3, rng=2, out=x)
    assert_same(x, expected)
    buffer = np.zeros((4, 4, 8, 8), np.float32)
    buffer[:3] = before
    fd.drop_block2d(buffer[:3], 0.2, 3, rng=2, out=buffer[1:])
    assert_same(buffer[1:], expected)


def test_any_number_of_threads_gives_the_same_bits(set_threads: Any) -> None:
    x = np.linspace(1, 2, 32 * 32 * 32 * 40, dtype=np.float32).reshape(32, 32, 32, 40)
    results = []
    for n in (1, 2, 5):
        set_threads(n)
        results.append(data(fd.drop_block2d(x, 0.1, 7, rng=4)))
    assert len(set(results)) == 1


def test_evaluation_returns_x_itself() -> None:
    x = np.ones((1, 1, 8, 8))
    assert fd.drop_block2d(x, 0.5, 3, training=False) is x
    out = poisoned(x.shape, x.dtype)
    assert_same(fd.drop_block2d(x, 0.5, 3, training=False, out=out), x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fd.drop_block2d(x, 0.1, 0), ValueError, "block_size=0 is below 1"),
        (lambda x: fd.drop_block2d(x, 0.1, int), TypeError, "block_size=<class"),  # type: ignore[arg-type]
        (lambda x: fd.drop_block2d(x[0], 0.1, 3), ValueError, r"drop_block2d takes \(N, C, H, W\)"),
        (lambda x: fd.drop_block3d(x, 0.1, 3), ValueError, r"drop_block3d takes \(N, C, D, H"),
        (lambda x: fd.drop_block2d(x, 1.1, 3), ValueError, r"p=1\.1"),
        (lambda x: fd.drop_block2d(x, 0.1, 3, eps=-1.0), ValueError, r"eps=-1\.0 is negative"),
        (lambda x: fd.drop_block2d(x, 0.1, 3, eps=math.nan), ValueError, "eps=nan"),
        (lambda x: fd.drop_block2d(x, 0.1, 3, training=None), TypeError, "training=None"),  # type: ignore[arg-type]
        (lambda x: fd.drop_block2d(x.astype(int), 0.1, 3), TypeError, "dtype int64"),
        (lambda x: fd.drop_block2d(x, 0.1, 3, out=x[:, :1]), ValueError, "out has shape"),
        (lambda x: fd.drop_block2d(x, 0.1, 3, out=x.astype("f4")), TypeError, "out has dtype"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    call: Any, error: type[Exception], message: str
) -> None:
    x = np.ones((2, 3, 6, 8))
    with pytest.raises(error, match=message):
        call(x)
    assert (x == 1).all()


@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (2, 3, 8, 5), (1, 2, 5, 6, 7), (2, 1, 1, 9)])
def test_a_block_larger_than_the_map_has_the_length_of_its_shortest_side(
    shape: tuple[int, ...],
) -> None:
    function, x = FUNCTIONS[len(shape) - 2], np.ones(shape, np.float32)
    size = min(shape[2:])
    for larger in (size + 1, 2 * size, 10**6):
        for p in (0.0, 0.3, 1.0):
            given = function(x, p, larger, rng=3)
            assert_same(given, expected_of(x, p, size, fd.Key(3)))
    layer = {2: fd.DropBlock2d, 3: fd.DropBlock3d}[len(shape) - 2](0.3, 10**6, rng=3)
    assert_same(layer(x), expected_of(x, 0.3, size, fd.Key(3)))


@pytest.mark.parametrize("shape", [(2, 3, 0, 8), (2, 3, 8, 0), (2, 3, 0, 0), (0, 3, 4, 4)])
def test_maps_of_no_elements(shape: tuple[int, ...]) -> None:
    assert fd.drop_block2d(np.ones(shape), 0.3, 2, rng=1).shape == shape


@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype in DTYPES[2:], DTYPES))
@pytest.mark.parametrize("shape", [(3, 4, 9, 7), (2, 3, 5, 6, 7)])
def test_coupled_channels_lose_the_same_blocks(shape: tuple[int, ...], dtype: Any) -> None:
    function = FUNCTIONS[len(shape) - 2]
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    alone = (shape[0], 1, *shape[2:])
    kept = kept_mask(alone, 0.3, 3, fd.Key(8))
    full = np.broadcast_to(kept, shape)
    assert not kept.all() and kept.any()
    y = function(x, 0.3, 3, rng=8, couple_channels=True)
    assert_same(y, applied(full, x, kept.size / (1e-6 + kept.sum())))
    assert_same(function(x, 0.3, 3, rng=8, couple_channels=True, scale_by_keep=False),
                applied(full, x, 1.0))  # fmt: skip
    assert (function(x, 0.3, 3, rng=8) == 0).sum() != (y == 0).sum()


@pytest.mark.parametrize("scale", [0, 0.0, 0.5, 1, 2.0, 1e300])
def test_gamma_scale_multiplies_the_probability_of_block_starts(scale: float) -> None:
    x = np.ones((4, 3, 10, 12))
    gamma = 0.05 * 120 / (9 * 8 * 10)
    starts = ~fd.dropout_mask((4, 3, 8, 10), min(scale * gamma, 1.0), rng=2)
    y = fd.drop_block2d(x, 0.05, 3, rng=2, gamma_scale=scale, scale_by_keep=False)
    for row, column in itertools.product(range(10), range(12)):
        near = starts[:, :, max(row - 2, 0) : row + 1, max(column - 2, 0) : column + 1]
        np.testing.assert_array_equal(y[:, :, row, column], ~near.any((2, 3)))


def test_kept_elements_that_are_not_scaled_are_as_they_were(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 9, 9))
    scaled = fd.drop_block2d(x, 0.3, 3, rng=1)
    y = fd.drop_block2d(x, 0.3, 3, rng=1, scale_by_keep=False)
    assert_same(y, np.where(scaled == 0, 0.0, x))


def test_torch_grows_coupled_blocks_alike_with_timms_arguments() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((3, 4, 9, 9)).astype(np.float32)
    gamma = 0.7 * 0.3 * 81 / (9 * 49)
    starts = torch.from_numpy(~fd.dropout_mask((3, 1, 7, 7), gamma, rng=5)).float()
    pooled = torch.nn.functional.max_pool2d(torch.nn.functional.pad(starts, [2] * 4), 3, 1)
    kept = 1 - pooled
    expected = torch.from_numpy(x) * kept * (kept.numel() / (kept.sum() + 1e-7))
    y = fd.drop_block2d(x, 0.3, 3, rng=5, couple_channels=True, gamma_scale=0.7, eps=1e-7)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3), (2, 3, 4), (1, 2, 3, 4, 5, 6)])
def test_evaluation_takes_any_shape(shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    for function in FUNCTIONS.values():
        assert function(x, 0.3, 3, training=False) is x
    for layer in (fd.DropBlock2d(0.3, 3, rng=1), fd.DropBlock3d(0.3, 3, rng=1)):
        assert layer.eval()(x) is x


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"couple_channels": 1}, TypeError, "couple_channels=1"),
        ({"scale_by_keep": None}, TypeError, "scale_by_keep=None"),
        ({"gamma_scale": -0.5}, ValueError, r"gamma_scale=-0\.5 is negative"),
        ({"gamma_scale": math.nan}, ValueError, "gamma_scale=nan"),
        ({"gamma_scale": "1"}, TypeError, "gamma_scale='1'"),
    ],
)
def test_wrong_settings_of_blocks(wrong: Any, error: Any, says: str) -> None:
    for function, x in ((fd.drop_block2d, np.ones((1, 1, 4, 4))),
                        (fd.drop_block3d, np.ones((1, 1, 4, 4, 4)))):  # fmt: skip
        for training in (True, False):
            with pytest.raises(error, match=says):
                function(x, 0.3, 2, rng=1, training=training, **wrong)


@pytest.mark.parametrize("layer_of", [fd.DropBlock2d, fd.DropBlock3d])
def test_layers_have_all_settings_of_blocks(layer_of: Any, rng: np.random.Generator) -> None:
    settings: dict[str, Any] = {"couple_channels": True, "gamma_scale": 0.5, "scale_by_keep": False}
    layer = layer_of(0.4, 2, rng=1, **settings)
    x = rng.standard_normal((2, 3, *[6] * (2 if layer_of is fd.DropBlock2d else 3)))
    y = FUNCTIONS[x.ndim - 2](x, 0.4, 2, rng=1, **settings)
    assert (y == 0).any()
    assert_same(layer(x), y)
    assert_same(layer.backward(x), y)
    assert "couple_channels=True, gamma_scale=0.5, scale_by_keep=False" in repr(layer)
    assert "gamma_scale" not in repr(layer_of(0.4, 2, rng=1))
    with pytest.raises(ValueError, match="gamma_scale=-1"):
        layer.gamma_scale = -1
