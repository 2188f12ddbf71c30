"""Alpha dropout: torch's values at the places that dropout drops, and a mean and variance kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.limits import set_limits
from tests.support.oracle import Array, affine, alpha_numbers, assert_same, mask, misaligned
from tests.support.thinning import thinned

KEY = fd.Key(2**40 + 9, 2**63 + 5)
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
WHERE: list[dict[str, Any]] = [
    {},
    {"offset": 2**35 - 700},
    {"noise_shape": (None, 1)},
    {"noise_shape": (1, None)},
    {"noise_shape": (1, 1)},
    {"offset": (3, 5), "global_shape": (40, 100)},
]
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.copy,
    "F": lambda x: np.array(x, order="F"),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "misaligned": lambda x: misaligned(x, x.itemsize),
}


def expected(x: Array, p: float, **where: Any) -> Array:
    return affine(mask(x.shape, p, KEY, **where), x, *alpha_numbers(p))


@pytest.mark.parametrize(
    ("layout", "dtype"),
    thinned(lambda layout, dtype: layout != "F" and dtype == np.float32, LAYOUTS, DTYPES),
    ids=str,
)
def test_kept_and_dropped_elements_are_what_they_must_be(
    layout: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    x = (3 * rng.standard_normal((37, 83))).astype(dtype)
    x[3, 5], x[4, 4], x[5, 5] = np.nan, np.inf, -0.0
    given = LAYOUTS[layout](x)
    for where in WHERE:
        for p in (0.0, 0.3, 1.0):
            got = fd.alpha_dropout(given, p, rng=KEY, **where)
            assert_same(np.ascontiguousarray(got), expected(x, p, **where))
    assert_same(np.ascontiguousarray(given), x)
    fd.alpha_dropout(given, 0.3, rng=KEY, out=given)
    assert_same(np.ascontiguousarray(given), expected(x, 0.3))


@pytest.mark.parametrize(
    ("dtype", "n"),
    thinned(
        lambda dtype, n: dtype == np.float32 or n < 1 << 18,
        DTYPES,
        [1, 7, 255, 256, 257, 5001, 1 << 18],
    ),
    ids=str,
)
def test_any_size_and_number_of_threads(
    dtype: np.dtype[Any],
    n: int,
    set_threads: Callable[[int], None],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_limits(monkeypatch, PARALLEL_FROM=1 << 17)
    x = rng.standard_normal(n).astype(dtype)
    want = expected(x, 0.1, offset=n % 19)
    for threads in (1, 2):
        set_threads(threads)
        assert_same(fd.alpha_dropout(x, 0.1, rng=KEY, offset=n % 19), want)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("feature", [False, True])
def test_the_values_are_those_of_torch(p: float, feature: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    torch.manual_seed(1)
    x = rng.standard_normal((32, 16, 8, 8))
    function = torch.nn.functional
    theirs = (function.feature_alpha_dropout if feature else function.alpha_dropout)(
        torch.from_numpy(x), p, training=True
    ).numpy()
    # Which elements it dropped is read off its result, and ours is compared there.
    a, b, c = alpha_numbers(p)
    kept = np.isclose(theirs, a * x + b, rtol=1e-12, atol=1e-12) & (p < 1)
    if feature:
        assert (kept == kept[:, :, :1, :1]).all()
    if 0 < p < 1:
        assert kept.any() and not kept.all()
    np.testing.assert_allclose(affine(kept, x, a, b, c), theirs, rtol=1e-12, atol=1e-12)
    ours = fd.feature_alpha_dropout(x, p, rng=KEY) if feature else fd.alpha_dropout(x, p, rng=KEY)
    kept = mask(x.shape, p, KEY, noise_shape=(None, None, 1, 1) if feature else None)
    assert_same(ours, affine(kept, x, a, b, c))


@pytest.mark.parametrize("p", [0.05, 0.3, 0.8])
def test_mean_and_variance_stay_what_they_were(p: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal(1_000_000)
    y = fd.alpha_dropout(x, p, rng=KEY)
    # Of the fourth moment, at most this large, follow the deviations of mean and variance.
    assert abs(float(y.mean())) < 5 / 1000
    assert abs(float(y.var()) - 1) < 5 * float(np.std(y * y)) / 1000


def test_the_backward_scales_where_the_forward_kept(rng: np.random.Generator) -> None:
    dy = rng.standard_normal((20, 30)).astype(np.float32)
    for where in WHERE[:-1]:
        for p in (0.0, 0.4, 1.0):
            kept = mask(dy.shape, p, KEY, **where)
            want = affine(kept, dy, alpha_numbers(p)[0], -0.0, 0.0)
            assert_same(fd.alpha_dropout_backward(dy, p, rng=KEY, **where), want)
    assert fd.alpha_dropout_backward(dy, rng=KEY, training=False) is dy


def test_features_are_channels_of_either_format(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 5, 6, 7), np.float32)
    for data_format, noise in (
        ("channels_first", (None, None, 1, 1)),
        ("channels_last", (None, 1, 1, None)),
    ):
        where: dict[str, Any] = {"rng": KEY, "data_format": data_format}
        wanted: dict[str, Any] = {"rng": KEY, "noise_shape": noise}
        for feature, plain in (
            (fd.feature_alpha_dropout, fd.alpha_dropout),
            (fd.feature_alpha_dropout_backward, fd.alpha_dropout_backward),
        ):
            assert_same(feature(x, 0.4, **where), plain(x, 0.4, **wanted))
    with pytest.raises(ValueError, match="feature_alpha_dropout needs one of samples"):
        fd.feature_alpha_dropout(np.ones(3), 0.4, rng=KEY)


def test_evaluation_returns_x_itself() -> None:
    x, out = np.ones(3), np.zeros(3)
    assert fd.alpha_dropout(x, rng=1, training=False) is x
    assert fd.alpha_dropout(x, rng=1, training=False, out=out) is out
    assert_same(out, x)


def test_bad_input_is_refused_before_anything_is_written() -> None:
    x, out = np.ones(3), np.zeros(3)
    for wrong, error, says in (
        ({"p": 1.5}, ValueError, "p=1.5"),
        ({"p": float("nan")}, ValueError, "p=nan"),
        ({"training": 2}, TypeError, "training=2"),
        ({"noise_shape": (2,)}, ValueError, "noise_shape"),
        ({"offset": -1}, ValueError, "offset=-1"),
        ({"out": np.zeros(4)}, ValueError, "out has shape"),
        ({"out": np.zeros(3, np.float32)}, TypeError, "out has dtype"),
    ):
        arguments: dict[str, Any] = {"rng": 1, "out": out, **wrong}
        for function in (fd.alpha_dropout, fd.alpha_dropout_backward):
            with pytest.raises(error, match=says):
                function(x, **arguments)
    with pytest.raises(TypeError, match="int64"):
        fd.alpha_dropout([1, 2, 3], rng=1)
    assert not out.any()
