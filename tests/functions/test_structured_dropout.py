"""feature_dropout and drop_path: whole channels and whole samples."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from tests.support.gradients import assert_backward_is_the_gradient
from tests.support.oracle import (
    Array,
    applied,
    assert_same,
    data,
    dropped,
    key_from,
    mask,
    poisoned,
)

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [(5, 6), (5, 6, 7), (4, 5, 6, 3), (3, 5, 4, 3, 2), (0, 3, 2), (2, 3, 0)]


def noise_of(shape: tuple[int, ...], data_format: str) -> tuple[int, ...]:
    n, *middle = shape
    if data_format == "channels_first":
        return (n, middle[0], *[1] * (len(shape) - 2))
    return (n, *[1] * (len(shape) - 2), shape[-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_feature_dropout_is_the_mask_of_samples_and_channels(
    shape: tuple[int, ...], data_format: str, dtype: Any, rng: np.random.Generator
) -> None:
    x, key = rng.standard_normal(shape).astype(dtype), key_from(rng)
    expected = dropped(x, 0.4, key, noise_shape=noise_of(shape, data_format))
    assert_same(fd.feature_dropout(x, 0.4, data_format=data_format, rng=key), expected)
    out = poisoned(shape, dtype)
    assert fd.feature_dropout(x, 0.4, data_format=data_format, rng=key, out=out) is out
    assert_same(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale_by_keep", [True, False])
@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("shape", [(9,), (9, 4), (9, 4, 3, 2), (0, 3)])
def test_drop_path_is_the_mask_of_samples(
    shape: tuple[int, ...], mode: str, scale_by_keep: bool, dtype: Any, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    noise = (shape[0] if mode == "row" else 1, *[1] * (len(shape) - 1))
    factor = 1 / (1 - 0.4) if scale_by_keep else 1.0
    for seed in range(6):
        expected = applied(mask(shape, 0.4, fd.Key(seed), noise_shape=noise), x, factor)
        arguments: dict[str, Any] = {"mode": mode, "scale_by_keep": scale_by_keep, "rng": seed}
        assert_same(fd.drop_path(x, 0.4, **arguments), expected)
        out = poisoned(shape, dtype)
        assert fd.drop_path(x, 0.4, out=out, **arguments) is out
        assert_same(out, expected)


def test_drop_path_of_a_batch_takes_no_axes_too() -> None:
    values = {float(fd.drop_path(np.ones(()), 0.5, mode="batch", rng=n)) for n in range(20)}
    assert values == {0.0, 2.0}


FUNCTIONS = [fd.feature_dropout, fd.drop_path]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_backward_is_the_same_call(function: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 3, 5))

    def call(x: Array) -> Array:
        return np.asarray(function(x, 0.4, rng=3))

    assert_backward_is_the_gradient(call, call, x)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(
    full=st.tuples(*[st.integers(1, 6)] * 3),
    cuts=st.data(),
    seed=st.integers(0, 2**64 - 1),
)
def test_shards_tile_the_whole(
    function: Any, full: tuple[int, ...], cuts: st.DataObject, seed: int
) -> None:
    x = np.arange(1.0, np.prod(full) + 1).reshape(full)
    whole = function(x, 0.5, rng=seed)
    tiled = poisoned(full, np.float64)
    at = [cuts.draw(st.integers(0, n)) for n in full]
    for corner in np.ndindex(2, 2, 2):
        block = tuple(
            slice(a, n) if c else slice(0, a) for c, a, n in zip(corner, at, full, strict=True)
        )
        offset = tuple(s.start for s in block)
        function(x[block], 0.5, rng=seed, out=tiled[block], offset=offset, global_shape=full)
    assert data(tiled) == data(whole)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_evaluation_returns_x_itself(function: Any) -> None:
    x = np.ones((3, 4))
    assert function(x, 0.5, training=False) is x


@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_number_of_threads_gives_the_same_bits(function: Any, set_threads: Any) -> None:
    x = np.linspace(1, 2, 64 * 40 * 500, dtype=np.float32).reshape(64, 40, 500)
    results = []
    for n in (1, 2, 5):
        set_threads(n)
        results.append(data(function(x, 0.3, rng=4)))
    assert len(set(results)) == 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nan_in_what_is_dropped_is_gone(function: Any) -> None:
    x = np.full((40, 6, 5), np.nan)
    y = function(x, 0.5, rng=1)
    assert not data(y[y == 0]).strip(b"\0")
    assert 0 < np.isnan(y).sum() < y.size


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: fd.feature_dropout(x, 0.5, data_format="NCHW"),
            ValueError,
            "'NCHW'.*channels_f",
        ),
        (lambda x: fd.feature_dropout(x[0], 0.5), ValueError, r"1 axes.*x\[None\]"),
        (lambda x: fd.drop_path(x, 0.5, mode="sample"), ValueError, "mode='sample': give 'row'"),
        (lambda x: fd.drop_path(np.float32(1), 0.5), ValueError, "no axes"),
        (lambda x: fd.drop_path(x, 0.5, scale_by_keep=1), TypeError, "scale_by_keep=1"),  # type: ignore[arg-type]
        (lambda x: fd.drop_path(x, 1.5), ValueError, r"p=1\.5"),
        (lambda x: fd.feature_dropout(x.astype(int), 0.5), TypeError, "dtype int64"),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((3, 4), np.float32))


def whole_channels(y: Any, axes: tuple[int, ...]) -> set[float]:
    """The values of an array of ones whose channels lie outside of `axes`, dropped as wholes."""
    array = np.asarray(y)
    assert (array.min(axis=axes) == array.max(axis=axes)).all()
    return set(array.ravel().tolist())


@pytest.mark.parametrize(("name", "spatial"), [("1d", 1), ("2d", 2), ("3d", 3)])
def test_torch_drops_the_same_parts_by_the_same_scale(name: str, spatial: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, f"dropout{name}")
    shape = (20, 10, *[3] * spatial)
    axes = tuple(range(2, 2 + spatial))
    expected = whole_channels(theirs(torch.ones(shape), 0.5), axes)
    assert whole_channels(fd.feature_dropout(np.ones(shape), 0.5, rng=1), axes) == expected
    for p in (0.0, 1.0):
        np.testing.assert_array_equal(
            fd.feature_dropout(np.ones(shape), p), theirs(torch.ones(shape), p).numpy()
        )


def test_channels_last_is_channels_first_transposed_in_which_channels_are_whole() -> None:
    y = fd.feature_dropout(np.ones((20, 3, 4, 10)), 0.5, data_format="channels_last", rng=1)
    assert whole_channels(y, (1, 2)) == {0.0, 2.0}
    assert len({tuple(row) for row in y[:, 0, 0]}) > 10  # each sample has its own


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 3, 4)])
def test_evaluation_takes_any_shape(shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    functions: list[Any] = [
        fd.feature_dropout, fd.feature_alpha_dropout, fd.feature_alpha_dropout_backward,
        fd.drop_path, lambda x, p, training: fd.drop_path(x, p, mode="batch", training=training),
    ]  # fmt: skip
    for function in functions:
        for training in (False, np.False_, 0):
            assert function(x, 0.5, training=training) is x
    for layer in (fd.FeatureDropout(rng=1), fd.FeatureAlphaDropout(rng=1), fd.DropPath(rng=1)):
        assert layer.eval()(x) is x
        assert layer.backward(x) is x
    out = np.empty(shape)
    assert fd.feature_dropout(x, 0.5, training=False, out=out) is out
    np.testing.assert_array_equal(out, x)


def test_evaluation_checks_the_other_arguments() -> None:
    with pytest.raises(ValueError, match="data_format='NCHW'"):
        fd.feature_dropout(np.ones(3), 0.5, data_format="NCHW", training=False)
    with pytest.raises(ValueError, match="p=2"):
        fd.drop_path(np.ones(()), 2.0, training=False)
    with pytest.raises(ValueError, match="offset=-1"):
        fd.feature_alpha_dropout(np.ones(3), 0.5, offset=-1, training=False)
