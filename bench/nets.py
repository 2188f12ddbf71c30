"""Training steps in the shape of public from-scratch loops, written anew, for `bench.loops`.

Each network is plain NumPy with its gradients by hand, and has dropout at some sites. All of a step
is there: forward, loss, backward and the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .common import Array

Params = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
CLASSES = 10


class Network:
    """What the networks have in common: parameters of `shapes`, sites, and the step.

    `forward` returns scores and keeps what `backward` needs, which returns gradients by the names
    of the parameters. A site has `forward` and `backward` too.
    """

    rate = 0.05

    def __init__(
        self, sites: Sequence[Any], dtype: Any, inputs: int, hidden: int, rng: np.random.Generator
    ) -> None:
        self.sites, self.hidden, self.params = list(sites), hidden, Params()
        for name, shape in self._shapes(inputs, hidden).items():  # He et al., 2015, and zeros
            drawn = rng.standard_normal(shape) * np.sqrt(2 / shape[0])
            self.params[name] = (drawn if len(shape) > 1 else np.zeros(shape)).astype(dtype)

    def _shapes(self, inputs: int, hidden: int) -> Shapes:
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        """Return the scores."""
        raise NotImplementedError

    def backward(self, dscores: Array) -> Params:
        """Return the gradients."""
        raise NotImplementedError

    def loss_and_gradients(self, x: Array, labels: Array) -> tuple[float, Params]:
        """Go forward and backward; what sites keep is then at its most in between."""
        scores, rows = self.forward(x), np.arange(len(x))
        self.activations, odds = scores.dtype, np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        loss = float(-np.log(odds[rows, labels]).mean())
        odds[rows, labels] -= 1
        odds /= len(scores)
        return loss, self.backward(odds)

    def update(self, gradients: Params) -> None:
        """Take a step of gradient descent."""
        for name, param in self.params.items():
            param -= self.rate * gradients[name]

    def step(self, x: Array, labels: Array) -> float:
        """Do a training step; returns the loss."""
        loss, gradients = self.loss_and_gradients(x, labels)
        self.update(gradients)
        return loss


class _Dense(Network):
    """Dense ReLU layers, dropout after each but the last: the train_step of CS231n's notes."""

    def _shapes(self, inputs: int, hidden: int) -> Shapes:
        widths = [inputs, *[hidden] * len(self.sites), CLASSES]
        weights: Shapes = {f"W{n}": w for n, w in enumerate(zip(widths, widths[1:], strict=False))}
        return weights | {f"b{n}": (width,) for n, width in enumerate(widths[1:])}

    def forward(self, x: Array) -> Array:
        p, self.kept = self.params, [x]
        for n, site in enumerate(self.sites):
            x = site.forward(np.maximum(0, x @ p[f"W{n}"] + p[f"b{n}"]))
            self.kept.append(x)
        scores: Array = x @ p[f"W{len(self.sites)}"] + p[f"b{len(self.sites)}"]
        return scores

    def backward(self, dscores: Array) -> Params:
        p, found, dy = self.params, Params(), dscores
        for n in range(len(self.sites), -1, -1):
            x = self.kept[n]
            found |= {f"W{n}": x.T @ dy, f"b{n}": dy.sum(axis=0)}
            if n:
                dy = self.sites[n - 1].backward(dy @ p[f"W{n}"].T)
                dy[x <= 0] = 0  # what was dropped has no gradient, so that this is the ReLU's
        return found


class _Adam(_Dense):
    """The same trained by Adam, as in books from scratch."""

    rate, steps = 1e-3, 0

    def update(self, gradients: Params) -> None:
        if not self.steps:
            self.moments = {name: (param * 0, param * 0) for name, param in self.params.items()}
        self.steps += 1
        for name, param in self.params.items():
            mean = 0.9 * self.moments[name][0] + 0.1 * gradients[name]
            square = 0.999 * self.moments[name][1] + 0.001 * gradients[name] ** 2
            self.moments[name] = mean, square
            of_means, of_squares = 1 - 0.9**self.steps, 1 - 0.999**self.steps
            param -= self.rate * (mean / of_means) / (np.sqrt(square / of_squares) + 1e-7)


def _sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


class _Lstm(Network):
    """An LSTM over the rows of an image, dropout on its input and output at each step of time."""

    rate = 0.5

    def _shapes(self, inputs: int, hidden: int) -> Shapes:
        gates = {"Wx": (inputs, 4 * hidden), "Wh": (hidden, 4 * hidden), "b": (4 * hidden,)}
        return {**gates, "Ws": (hidden, CLASSES), "bs": (CLASSES,)}

    def forward(self, x: Array) -> Array:  # of (samples, steps, inputs)
        p, n, self.kept = self.params, self.hidden, list[tuple[Array, ...]]()
        h = c = np.zeros((len(x), n), x.dtype)
        total: Any = 0.0
        for t in range(x.shape[1]):
            dropped = self.sites[0].forward(x[:, t])
            gates = dropped @ p["Wx"] + h @ p["Wh"] + p["b"]
            i, f, o = (_sigmoid(gates[:, k * n : (k + 1) * n]) for k in range(3))
            g = np.tanh(gates[:, 3 * n :])
            before, c = c, f * c + i * g
            self.kept.append((dropped, h, before, i, f, o, g, np.tanh(c)))
            h = o * np.tanh(c)
            total = total + self.sites[1].forward(h)
        self.mean = total / x.shape[1]
        scores: Array = self.mean @ p["Ws"] + p["bs"]
        return scores

    def backward(self, dscores: Array) -> Params:
        p, sums = self.params, dict[str, Any].fromkeys(("Wx", "Wh", "b"), 0.0)
        dmean, dh, dc = dscores @ p["Ws"].T / len(self.kept), 0.0, 0.0
        for dropped, h, before, i, f, o, g, tanh_c in reversed(self.kept):
            dh = dh + self.sites[1].backward(dmean)
            dc = dc + dh * o * (1 - tanh_c**2)
            di, df = dc * g * i * (1 - i), dc * before * f * (1 - f)
            dgates = np.hstack((di, df, dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)))
            for name, part in (("Wx", dropped.T @ dgates), ("Wh", h.T @ dgates)):
                sums[name] = sums[name] + part
            sums["b"] = sums["b"] + dgates.sum(axis=0)
            self.sites[0].backward(dgates @ p["Wx"].T)
            dh, dc = dgates @ p["Wh"].T, dc * f
        return {**sums, "Ws": self.mean.T @ dscores, "bs": dscores.sum(axis=0)}


NETWORKS = {"dense": _Dense, "adam": _Adam, "lstm": _Lstm}
