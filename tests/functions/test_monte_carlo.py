"""mc_dropout: the keys of its passes, and the mean and variance of their results."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same

X = np.random.default_rng(0).standard_normal((6, 20)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)


def net(x: Array, key: fd.Key) -> Array:
    hidden = fd.dropout(x, 0.3, rng=key.fold_in(0)) @ W
    return fd.dropout(np.tanh(hidden), 0.5, rng=key.fold_in(1))


def batched(x: Array, keys: list[fd.Key]) -> Array:
    return np.stack([net(x, key) for key in keys])


def samples_of(key: fd.Key, n: int) -> Array:
    return np.stack([net(X, key.fold_in(t)) for t in range(n)])


def test_pass_t_uses_the_key_folded_with_t() -> None:
    keys: list[fd.Key] = []

    def fn(x: Array, key: fd.Key) -> Array:
        assert x is X
        keys.append(key)
        return net(x, key)

    result = fd.mc_dropout(fn, X, 9, rng=7, return_samples=True)
    assert keys == [fd.Key(7).fold_in(t) for t in range(9)]
    assert result.samples is not None
    assert_same(result.samples, samples_of(fd.Key(7), 9))


@pytest.mark.parametrize("ddof", [0, 1, 3])
def test_mean_and_variance_are_those_of_numpy_in_float64(ddof: int) -> None:
    samples = samples_of(fd.Key(7), 50).astype(np.float64)
    mean, variance, nothing = fd.mc_dropout(net, X, 50, rng=7, ddof=ddof)
    assert nothing is None
    assert mean.dtype == variance.dtype == np.float64
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(variance, samples.var(axis=0, ddof=ddof), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_the_batch_size_makes_no_difference(batch_size: int) -> None:
    alone = fd.mc_dropout(net, X, 50, rng=7, return_samples=True)
    together = fd.mc_dropout(batched, X, 50, rng=7, batch_size=batch_size, return_samples=True)
    for one, other in zip(alone, together, strict=True):
        assert one is not None and other is not None
        assert_same(one, other)


def test_a_longer_run_begins_with_the_passes_of_a_shorter_one() -> None:
    short = fd.mc_dropout(net, X, 10, rng=7, return_samples=True).samples
    long = fd.mc_dropout(net, X, 30, rng=7, return_samples=True).samples
    assert short is not None and long is not None
    assert_same(long[:10], short)


def test_a_small_spread_about_a_large_mean_is_not_lost() -> None:
    def fn(x: Array, key: fd.Key) -> Array:
        return 1e9 + fd.dropout(x, 0.5, rng=key)

    variance = fd.mc_dropout(fn, np.ones(200), 400, rng=1).variance
    np.testing.assert_allclose(variance.mean(), 1.0, rtol=0.02)  # p / (1 - p)


def test_memory_does_not_grow_with_the_number_of_passes() -> None:
    def fn(x: Array, key: fd.Key) -> Array:
        return fd.dropout(x, 0.5, rng=key)

    x = np.ones(100_000)
    fd.mc_dropout(fn, x, 2, rng=1)
    tracemalloc.start()
    fd.mc_dropout(fn, x, 100, rng=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * x.nbytes


def test_a_result_that_the_function_writes_over_is_kept() -> None:
    buffer = np.empty_like(X)

    def fn(x: Array, key: fd.Key) -> Array:
        return fd.dropout(x, 0.5, rng=key, out=buffer)

    result = fd.mc_dropout(fn, X, 5, rng=1, return_samples=True)
    assert result.samples is not None
    for t, sample in enumerate(result.samples):
        assert_same(sample, fd.dropout(X, 0.5, rng=fd.Key(1).fold_in(t)))
    np.testing.assert_allclose(result.mean, result.samples.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_any_dtype_is_accumulated_in_float64(dtype: Any) -> None:
    x = X.astype(dtype)
    result = fd.mc_dropout(
        lambda x, key: fd.dropout(x, 0.5, rng=key), x, 20, rng=1, return_samples=True
    )
    assert result.samples is not None
    assert result.samples.dtype == dtype
    exact = result.samples.astype(np.float64)
    np.testing.assert_allclose(result.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.variance, exact.var(axis=0), rtol=1e-12, atol=1e-14)


def test_numbers_lists_and_classes_are_results_too() -> None:
    mean, variance, _ = fd.mc_dropout(lambda x, key: 2.5, None, 4)
    assert (float(mean), float(variance)) == (2.5, 0.0)
    mean, variance, _ = fd.mc_dropout(lambda x, key: [True, False], None, 4)
    assert mean.tolist() == [1.0, 0.0] and variance.tolist() == [0.0, 0.0]
    mean, _, _ = fd.mc_dropout(lambda x, keys: np.arange(len(keys)), None, 6, batch_size=3)
    assert float(mean) == 1.0


def test_x_is_anything_that_the_function_takes() -> None:
    given = {"a": X}
    mean, _, _ = fd.mc_dropout(lambda x, key: net(x["a"], key), given, 3, rng=1)
    assert_same(mean, fd.mc_dropout(net, X, 3, rng=1).mean)


@pytest.mark.parametrize("progress", [True, "rich", "tqdm"])
def test_progress_changes_nothing(progress: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich" if progress is True else progress)
    result = fd.mc_dropout(net, X, 5, rng=1, progress=progress)
    assert_same(result.mean, fd.mc_dropout(net, X, 5, rng=1).mean)
    captured = capsys.readouterr()
    assert "Monte Carlo dropout" in captured.out + captured.err


def test_no_progress_bar_is_imported_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    fd.mc_dropout(net, X, 2, rng=1)
    fd.mc_dropout(net, X, 2, rng=1, progress=True)
    for progress in ("rich", "tqdm"):
        with pytest.raises(ImportError, match=f"pip install {progress}"):
            fd.mc_dropout(net, X, 2, rng=1, progress=progress)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples=0 is below 1"),
        ({"n_samples": 2.5}, TypeError, r"n_samples=2\.5"),
        ({"ddof": 3}, ValueError, "ddof=3 leaves nothing of n_samples=3"),
        ({"ddof": -1}, ValueError, "ddof=-1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"return_samples": 1}, TypeError, "return_samples=1"),
        ({"progress": "bar"}, ValueError, "progress='bar'"),
        ({"fn": X}, TypeError, "cannot be called"),
        ({"fn": lambda x, key: 1j}, TypeError, "complex128"),
        ({"fn": lambda x, key: "text"}, TypeError, "averages real numbers"),
        ({"fn": lambda x, key: np.ones(key[0] % 5)}, ValueError, "fn returned shape"),
        ({"fn": lambda x, keys: 1.0, "batch_size": 2}, ValueError, "for 2 keys"),
        ({"fn": lambda x, keys: np.ones((3, 4)), "batch_size": 2}, ValueError, "for 2 keys"),
        ({"rng": -1}, ValueError, "rng=-1"),
    ],
)
def test_bad_input_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"fn": net, "x": X, "n_samples": 3, "rng": 1, **arguments}
    with pytest.raises(error, match=message):
        fd.mc_dropout(given.pop("fn"), given.pop("x"), given.pop("n_samples"), **given)


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_mean_of_infinite_samples_is_infinite(batch_size: int | None, dtype: Any) -> None:
    inf, nan = np.inf, np.nan
    samples = np.array(
        [
            # always, first, last, of both signs, with NaN, never
            [inf, -inf, inf, -inf, 1, 1, 2, -2, inf, -inf, inf, nan, 1],
            [inf, -inf, 1, 1, 2, 2, 3, -3, -inf, inf, nan, -inf, 2],
            [inf, -inf, 2, 2, inf, -inf, inf, -inf, 3, 3, 4, 4, 3],
        ],
        dtype,
    )
    keys = {fd.Key(5).fold_in(t): t for t in range(3)}

    def fn(x: Any, key: Any) -> Any:
        if batch_size is None:
            return samples[keys[key]]
        return samples[[keys[one] for one in key]]

    with np.errstate(all="raise"):
        mean, variance, _ = fd.mc_dropout(fn, None, 3, rng=5, batch_size=batch_size)
    with np.errstate(all="ignore"):
        expected = samples.astype(np.float64).mean(0)
    np.testing.assert_array_equal(mean, expected)
    assert np.isnan(variance[:-1]).all()
    np.testing.assert_allclose(variance[-1], 2 / 3, rtol=1e-15)


def test_the_mean_of_samples_that_are_far_apart() -> None:
    samples = iter([1.7e308, -1.7e308, 1.7e308, -1.7e308])
    mean, _, _ = fd.mc_dropout(lambda x, key: np.array([next(samples)]), None, 4, rng=1)
    assert abs(mean[0]) < 1e293
