"""A small regression network in plain NumPy, and its predictions by Monte Carlo dropout.

All randomness comes from keys: a training step derives its key from its number, its backward pass
makes the same calls on the gradients, and each Monte Carlo pass has its own key. The example
`uncertainty` calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_diabetes

import fastdrop as fd

Array = npt.NDArray[np.float64]
Params = dict[str, Array]

HIDDEN = 64
P_DROP = 0.2  # of either hidden layer
FOLDS = 5
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
PASSES_AT_ONCE = 50
LEVELS = (0.5, 0.8, 0.9, 0.95)


def initial_params(inputs: int, rng: np.random.Generator) -> Params:
    """Return random weights (He et al., 2015) for two hidden ReLU layers and one output."""
    sizes = (inputs, HIDDEN, HIDDEN, 1)
    params = {}
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True), start=1):
        params[f"W{i}"] = rng.standard_normal((n_in, n_out)) * np.sqrt(2 / n_in)
        params[f"b{i}"] = np.zeros(n_out)
    return params


def predict(params: Params, x: Array, key: fd.Key | None = None) -> Array:
    """Return predictions, with dropout by a key, or without."""
    if key is not None:
        return np.asarray(stochastic(params, x, [key])[0])
    h1 = np.maximum(0, x @ params["W1"] + params["b1"])
    h2 = np.maximum(0, h1 @ params["W2"] + params["b2"])
    return np.asarray((h2 @ params["W3"] + params["b3"])[..., 0])


def stochastic(params: Params, x: Array, keys: list[fd.Key]) -> Array:
    """Return the predictions of several passes, one for each key: all in the same products."""
    h1 = np.maximum(0, x @ params["W1"] + params["b1"])
    h1 = np.stack([fd.dropout(h1, P_DROP, rng=key.fold_in(1)) for key in keys])
    h2 = np.maximum(0, h1 @ params["W2"] + params["b2"])
    for h, key in zip(h2, keys, strict=True):
        fd.dropout(h, P_DROP, rng=key.fold_in(2), out=h)
    return np.asarray((h2 @ params["W3"] + params["b3"])[..., 0])


def gradients(params: Params, x: Array, y: Array, key: fd.Key) -> tuple[float, Params]:
    """Return half the mean squared error and its gradients, with dropout by a key."""
    first, second = key.fold_in(1), key.fold_in(2)
    h1 = fd.dropout(np.maximum(0, x @ params["W1"] + params["b1"]), P_DROP, rng=first)
    h2 = fd.dropout(np.maximum(0, h1 @ params["W2"] + params["b2"]), P_DROP, rng=second)
    error = h2 @ params["W3"] + params["b3"] - y[:, None]
    dout = error / len(x)
    # The backward pass of dropout: the same call, with the same key. The gradient of a dropped unit
    # is 0, so `h > 0` can be used as the ReLU's mask.
    d2 = fd.dropout(dout @ params["W3"].T, P_DROP, rng=second) * (h2 > 0)
    d1 = fd.dropout(d2 @ params["W2"].T, P_DROP, rng=first) * (h1 > 0)
    grads = {"W3": h2.T @ dout, "W2": h1.T @ d2, "W1": x.T @ d1}
    grads |= {"b3": dout.sum(axis=0), "b2": d2.sum(axis=0), "b1": d1.sum(axis=0)}
    return 0.5 * float((error**2).mean()), grads


def train(x: Array, y: Array, epochs: int, key: fd.Key) -> Params:
    """Train a network by Adam (Kingma and Ba, 2015) with weight decay."""
    rng = np.random.default_rng(list(key))
    params = initial_params(x.shape[1], rng)
    mean = {name: np.zeros_like(value) for name, value in params.items()}
    square = {name: np.zeros_like(value) for name, value in params.items()}
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for first in range(0, len(x), BATCH_SIZE):
            batch = order[first : first + BATCH_SIZE]
            _, grads = gradients(params, x[batch], y[batch], key.fold_in(step))
            step += 1
            for name, value in params.items():
                mean[name] += 0.1 * (grads[name] - mean[name])
                square[name] += 0.001 * (grads[name] ** 2 - square[name])
                size = np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8
                value -= LEARNING_RATE * (mean[name] / (1 - 0.9**step) / size)
                value -= LEARNING_RATE * WEIGHT_DECAY * value
    return params


class Predictions(NamedTuple):
    """Held-out predictions for all patients, in the units of the target."""

    observed: Array
    plain: Array  # without dropout
    mean: Array  # of the passes
    spread: Array  # variance of the passes
    noise: Array  # variance of the observations about the mean, as estimated in each fold


def folds(n: int, rng: np.random.Generator) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the rows to train on, to estimate the noise from, and to predict."""
    parts = np.array_split(rng.permutation(n), FOLDS)
    for i, test in enumerate(parts):
        rest = np.concatenate([part for j, part in enumerate(parts) if j != i])
        validation = len(rest) // 5
        yield rest[validation:], rest[:validation], test


def cross_validate(epochs: int, samples: int, seed: int) -> Iterator[Predictions]:
    """Train a network in each fold, and yield the predictions for what it has not seen."""
    x, y = load_diabetes(return_X_y=True)
    key = fd.Key(seed)
    for i, (train_rows, noise_rows, test_rows) in enumerate(
        folds(len(x), np.random.default_rng(seed))
    ):
        x_mean, x_std = x[train_rows].mean(axis=0), x[train_rows].std(axis=0)
        y_mean, y_std = y[train_rows].mean(), y[train_rows].std()
        inputs, targets = (x - x_mean) / x_std, (y - y_mean) / y_std
        fold_key = key.fold_in(i)
        params = train(inputs[train_rows], targets[train_rows], epochs, fold_key.fold_in(0))
        held = passes(params, inputs[noise_rows], samples, fold_key.fold_in(1))
        noise = np.mean((targets[noise_rows] - held.mean) ** 2 - held.variance)
        found = passes(params, inputs[test_rows], samples, fold_key.fold_in(2))
        yield Predictions(
            y[test_rows],
            predict(params, inputs[test_rows]) * y_std + y_mean,
            found.mean * y_std + y_mean,
            found.variance * y_std**2,
            np.full(len(test_rows), max(float(noise), 1e-3) * y_std**2),
        )


def passes(params: Params, x: Array, samples: int, key: fd.Key) -> fd.MonteCarlo:
    """Run many passes with dropout left on."""
    return fd.mc_dropout(
        functools.partial(stochastic, params), x, samples, rng=key, batch_size=PASSES_AT_ONCE
    )


def interval(found: Predictions, level: float, with_noise: bool) -> Array:
    """Return half the width of the central interval of a level, the predictions being normal."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    return np.asarray(z * np.sqrt(found.spread + (found.noise if with_noise else 0)))


def coverage(found: Predictions, level: float, with_noise: bool) -> float:
    """Return the part of the observations that lie in their interval."""
    inside = abs(found.observed - found.mean) <= interval(found, level, with_noise)
    return float(inside.mean())


def rmse(predicted: Array, observed: Array) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((predicted - observed) ** 2)))
