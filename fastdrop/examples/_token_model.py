"""A masked-token model in plain NumPy: what a token was, by the tokens around it.

`masked_tokens` trains it. Each token is a vector; those of a window around a masked place go
through a hidden layer with dropout, which the backward pass draws again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]
DROPOUT = 0.1


class WindowModel:
    """Embeddings of a window of tokens, a hidden layer, and a score for each token.

    Parameters
    ----------
    tokens : int
        Size of the vocabulary.
    side : int
        Tokens of the window on each side of the place.
    width, hidden : int
        Numbers of an embedding, and hidden units.
    seed : int
        Of the initial weights.
    """

    def __init__(self, tokens: int, side: int, width: int, hidden: int, seed: int) -> None:
        rng, inputs = np.random.default_rng(seed), (2 * side + 1) * width
        self.tokens, self.side = tokens, side
        # One more embedding, for places beyond the ends.
        self.weights: dict[str, Array] = {
            "embedding": rng.standard_normal((tokens + 1, width), np.float32),
            "w1": rng.standard_normal((inputs, hidden), np.float32) * np.sqrt(2 / inputs),
            "b1": np.zeros(hidden, np.float32),
            "w2": rng.standard_normal((hidden, tokens), np.float32) * np.sqrt(1 / hidden),
            "b2": np.zeros(tokens, np.float32),
        }
        self.weights = {name: w.astype(np.float32) for name, w in self.weights.items()}

    def windows(self, inputs: Array, places: Array) -> Array:
        """Return the tokens around places, flat indices of ``inputs``, in rows."""
        padded = np.pad(inputs, ((0, 0), (self.side, self.side)), constant_values=self.tokens)
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * self.side + 1, axis=1)
        rows, columns = np.divmod(places, inputs.shape[1])
        found: Array = around[rows, columns]
        return found

    def scores(self, windows: Array) -> Array:
        """Return the scores of all tokens, in evaluation."""
        w = self.weights
        x = w["embedding"][windows].reshape(len(windows), -1)
        found: Array = np.maximum(x @ w["w1"] + w["b1"], 0) @ w["w2"] + w["b2"]
        return found

    def loss_and_gradients(
        self, windows: Array, targets: Array, key: fd.Key
    ) -> tuple[float, dict[str, Array]]:
        """Return the mean cross-entropy and its gradients by all weights."""
        w, count = self.weights, len(windows)
        x = w["embedding"][windows].reshape(count, -1)
        h = np.maximum(x @ w["w1"] + w["b1"], 0)
        dropped = fd.dropout(h, DROPOUT, rng=key)
        loss, d = cross_entropy(dropped @ w["w2"] + w["b2"], targets)
        gradients = {"w2": dropped.T @ d, "b2": d.sum(0)}
        dh = fd.dropout(d @ w["w2"].T, DROPOUT, rng=key) * (h > 0)  # the same mask again
        gradients |= {"w1": x.T @ dh, "b1": dh.sum(0)}
        dx = (dh @ w["w1"].T).reshape(*windows.shape, -1)
        gradients["embedding"] = np.zeros_like(w["embedding"])
        for k in range(windows.shape[1]):  # a product with one-hot rows adds up faster than add.at
            one_hot = np.zeros((count, self.tokens + 1), np.float32)
            one_hot[np.arange(count), windows[:, k]] = 1
            gradients["embedding"] += one_hot.T @ dx[:, k]
        return loss, gradients


def cross_entropy(scores: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean cross-entropy, and its gradient by the scores."""
    shifted = scores - scores.max(1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    there = np.arange(len(targets)), targets
    loss = float(np.mean(np.log(total[:, 0]) - shifted[there]))
    p /= total
    p[there] -= 1
    p /= len(targets)
    return loss, p


class Adam:
    """Adam, by Kingma and Ba, 2015."""

    def __init__(self, weights: dict[str, Array], rate: float) -> None:
        self.weights, self.rate, self.steps = weights, rate, 0
        self.moments = {n: (np.zeros_like(w), np.zeros_like(w)) for n, w in weights.items()}

    def step(self, gradients: dict[str, Array]) -> None:
        """Change the weights in place."""
        self.steps += 1
        first, second = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for name, g in gradients.items():
            m, v = self.moments[name]
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            self.weights[name] -= self.rate * (m / first) / (np.sqrt(v / second) + 1e-8)
