"""Training steps in the shape of public from-scratch loops, written anew.

Each network is plain NumPy with its gradients by hand, and has dropout in some spots. All of a step
is there: forward, loss, backward and the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .common import Array
from .loop_sites import Site

Params = dict[str, Array]
CLASSES = 10


class Batch(NamedTuple):
    """Samples and their classes."""

    x: Array
    labels: Array


class Network:
    """What the networks have in common: parameters, sites, and the step.

    `forward` returns scores and keeps what `backward` needs, which returns gradients by the names
    of the parameters.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = list(sites)
        self.params: Params = {}
        self.rate = 0.05

    def forward(self, x: Array) -> Array:
        """Return the scores."""
        raise NotImplementedError

    def backward(self, dscores: Array) -> Params:
        """Return the gradients."""
        raise NotImplementedError

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Params]:
        """Go forward and backward; what sites keep is then at its most in between."""
        scores = self.forward(batch.x)
        self.activations = scores.dtype
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        rows = np.arange(len(scores))
        loss = float(-np.log(odds[rows, batch.labels]).mean())
        odds[rows, batch.labels] -= 1
        odds /= len(scores)
        return loss, self.backward(odds)

    def update(self, gradients: Params) -> None:
        """Take a step of gradient descent."""
        for name, param in self.params.items():
            param -= self.rate * gradients[name]

    def step(self, batch: Batch) -> float:
        """Do a training step; returns the loss."""
        loss, gradients = self.loss_and_gradients(batch)
        self.update(gradients)
        return loss

    def weights(self, rng: np.random.Generator, dtype: Any, **shapes: tuple[int, ...]) -> None:
        """Draw matrices (He et al., 2015), and make vectors of zeros."""
        for name, shape in shapes.items():
            drawn = rng.standard_normal(shape) * np.sqrt(2 / shape[0])
            self.params[name] = (drawn if len(shape) > 1 else np.zeros(shape)).astype(dtype)


class TwoHidden(Network):
    """The train_step of CS231n's notes: two hidden ReLU layers, ``H1 *= U1`` and ``H2 *= U2``."""

    def __init__(
        self, sites: Sequence[Site], dtype: Any, inputs: int, hidden: int, rng: np.random.Generator
    ) -> None:
        super().__init__(sites)
        self.weights(rng, dtype, W1=(inputs, hidden), b1=(hidden,), W2=(hidden, hidden))
        self.weights(rng, dtype, b2=(hidden,), W3=(hidden, CLASSES), b3=(CLASSES,))

    def forward(self, x: Array) -> Array:
        """Keep x, H1 and H2."""
        p = self.params
        h1 = self.sites[0].forward(np.maximum(0, x @ p["W1"] + p["b1"]))
        h2 = self.sites[1].forward(np.maximum(0, h1 @ p["W2"] + p["b2"]))
        self.kept = x, h1, h2
        scores: Array = h2 @ p["W3"] + p["b3"]
        return scores

    def backward(self, dscores: Array) -> Params:
        """Go back; a unit that was dropped has no gradient, so that ``h > 0`` is the ReLU's."""
        p, (x, h1, h2) = self.params, self.kept
        dh2 = self.sites[1].backward(dscores @ p["W3"].T)
        dh2[h2 <= 0] = 0
        dh1 = self.sites[0].backward(dh2 @ p["W2"].T)
        dh1[h1 <= 0] = 0
        return {
            **{"W3": h2.T @ dscores, "b3": dscores.sum(axis=0)},
            **{"W2": h1.T @ dh2, "b2": dh2.sum(axis=0)},
            **{"W1": x.T @ dh1, "b1": dh1.sum(axis=0)},
        }


class Dense:
    """A fully connected layer with its ReLU, as an object that keeps its input."""

    def __init__(self, network: Network, name: str, relu: bool) -> None:
        self.params, self.name, self.relu = network.params, name, relu

    def forward(self, x: Array) -> Array:
        """Keep input and output."""
        self.x = x
        self.y = x @ self.params[f"W{self.name}"] + self.params[f"b{self.name}"]
        return np.maximum(0, self.y) if self.relu else self.y

    def backward(self, dy: Array, gradients: Params) -> Array:
        """Add the gradients, and return that of the input."""
        if self.relu:
            dy = dy * (self.y > 0)
        gradients[f"W{self.name}"] = self.x.T @ dy
        gradients[f"b{self.name}"] = dy.sum(axis=0, keepdims=True)[0]
        dx: Array = dy @ self.params[f"W{self.name}"].T
        return dx


class Layers(Network):
    """Objects with forward and backward, a binomial mask and Adam, as in books from scratch."""

    def __init__(
        self, sites: Sequence[Site], dtype: Any, inputs: int, hidden: int, rng: np.random.Generator
    ) -> None:
        super().__init__(sites)
        widths = [inputs, *[hidden] * len(sites), CLASSES]
        for n, (rows, columns) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            self.weights(rng, dtype, **{f"W{n}": (rows, columns), f"b{n}": (columns,)})
        self.dense = [Dense(self, str(n), n < len(sites)) for n in range(len(widths) - 1)]
        self.rate, self.steps = 1e-3, 0
        self.means = {name: np.zeros_like(param) for name, param in self.params.items()}
        self.squares = {name: np.zeros_like(param) for name, param in self.params.items()}

    def forward(self, x: Array) -> Array:
        """Go through all layers; after each but the last there is dropout."""
        for dense, site in zip(self.dense, self.sites, strict=False):
            x = site.forward(dense.forward(x))
        return self.dense[-1].forward(x)

    def backward(self, dscores: Array) -> Params:
        """Go back through all layers."""
        gradients: Params = {}
        dx = self.dense[-1].backward(dscores, gradients)
        for dense, site in zip(self.dense[-2::-1], self.sites[::-1], strict=True):
            dx = dense.backward(site.backward(dx), gradients)
        return gradients

    def update(self, gradients: Params) -> None:
        """Take a step of Adam."""
        self.steps += 1
        for name, param in self.params.items():
            mean = 0.9 * self.means[name] + 0.1 * gradients[name]
            square = 0.999 * self.squares[name] + 0.001 * gradients[name] ** 2
            self.means[name], self.squares[name] = mean, square
            of_means, of_squares = 1 - 0.9**self.steps, 1 - 0.999**self.steps
            param -= self.rate * (mean / of_means) / (np.sqrt(square / of_squares) + 1e-7)


def _sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


class Lstm(Network):
    """An LSTM over the rows of an image, dropout on its input and output at each step of time."""

    def __init__(
        self, sites: Sequence[Site], dtype: Any, inputs: int, hidden: int, rng: np.random.Generator
    ) -> None:
        super().__init__(sites)
        self.weights(rng, dtype, Wx=(inputs, 4 * hidden), Wh=(hidden, 4 * hidden), b=(4 * hidden,))
        self.weights(rng, dtype, Ws=(hidden, CLASSES), bs=(CLASSES,))
        self.hidden, self.rate = hidden, 0.5

    def forward(self, x: Array) -> Array:
        """Read x of (samples, steps, inputs); the scores are of the mean of all outputs."""
        p, n = self.params, self.hidden
        h = c = np.zeros((len(x), n), x.dtype)
        total: Array | float = 0.0
        self.steps = []
        for t in range(x.shape[1]):
            dropped = self.sites[0].forward(x[:, t])
            gates = dropped @ p["Wx"] + h @ p["Wh"] + p["b"]
            i, f, o = (_sigmoid(gates[:, k * n : (k + 1) * n]) for k in range(3))
            g = np.tanh(gates[:, 3 * n :])
            before, c = c, f * c + i * g
            self.steps.append((dropped, h, before, i, f, o, g, np.tanh(c)))
            h = o * np.tanh(c)
            total = total + self.sites[1].forward(h)
        self.mean = np.asarray(total / x.shape[1])
        scores: Array = self.mean @ p["Ws"] + p["bs"]
        return scores

    def backward(self, dscores: Array) -> Params:
        """Go back through time."""
        p = self.params
        gradients = {"Ws": self.mean.T @ dscores, "bs": dscores.sum(axis=0)}
        dmean = dscores @ p["Ws"].T / len(self.steps)
        dh: Array | float = 0.0
        dc: Array | float = 0.0
        sums: dict[str, Any] = {"Wx": 0.0, "Wh": 0.0, "b": 0.0}
        for dropped, h, before, i, f, o, g, tanh_c in reversed(self.steps):
            dh = dh + self.sites[1].backward(dmean)
            dc = dc + dh * o * (1 - tanh_c**2)
            parts = (
                dc * g * i * (1 - i),
                dc * before * f * (1 - f),
                dh * tanh_c * o * (1 - o),
                dc * i * (1 - g**2),
            )
            dgates = np.concatenate(parts, axis=1)
            sums["Wx"] = sums["Wx"] + dropped.T @ dgates
            sums["Wh"] = sums["Wh"] + h.T @ dgates
            sums["b"] = sums["b"] + dgates.sum(axis=0)
            self.sites[0].backward(dgates @ p["Wx"].T)
            dh, dc = dgates @ p["Wh"].T, dc * f
        return gradients | sums


def _normed(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation, deviation


def _normed_backward(dy: Array, y: Array, deviation: Array) -> Array:
    mean = dy.mean(axis=-1, keepdims=True)
    along = (dy * y).mean(axis=-1, keepdims=True)
    dx: Array = (dy - mean - y * along) / deviation
    return dx


class Transformer(Network):
    """A transformer block over patches: dropout of the attention, and of both branches."""

    heads = 4

    def __init__(
        self, sites: Sequence[Site], dtype: Any, inputs: int, hidden: int, rng: np.random.Generator
    ) -> None:
        super().__init__(sites)
        d = hidden
        self.weights(rng, dtype, We=(inputs, d), Wq=(d, d), Wk=(d, d), Wv=(d, d), Wo=(d, d))
        self.weights(rng, dtype, W1=(d, 4 * d), b1=(4 * d,), W2=(4 * d, d), b2=(d,))
        self.weights(rng, dtype, Ws=(d, CLASSES), bs=(CLASSES,))

    def split(self, x: Array) -> Array:
        """Turn (samples, places, width) into (samples, heads, places, width of a head)."""
        samples, places, _ = x.shape
        parts: Array = x.reshape(samples, places, self.heads, -1).transpose(0, 2, 1, 3)
        return parts

    def joined(self, x: Array) -> Array:
        """Undo `split`."""
        samples, _, places, _ = x.shape
        whole: Array = x.transpose(0, 2, 1, 3).reshape(samples, places, -1)
        return whole

    def forward(self, x: Array) -> Array:
        """Read x of (samples, places, inputs); the scores are of the mean over places."""
        p = self.params
        embedded = x @ p["We"]
        a, a_deviation = _normed(embedded)
        q, k, v = (self.split(a @ p[name]) for name in ("Wq", "Wk", "Wv"))
        logits = q @ k.swapaxes(-1, -2) / q.dtype.type(q.shape[-1] ** 0.5)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        odds /= odds.sum(axis=-1, keepdims=True)
        attention = self.sites[0].forward(odds)
        mixed = self.joined(attention @ v)
        first = embedded + self.sites[1].forward(mixed @ p["Wo"])
        m, m_deviation = _normed(first)
        hidden = np.maximum(0, m @ p["W1"] + p["b1"])
        second = first + self.sites[2].forward(hidden @ p["W2"] + p["b2"])
        self.kept = (x, a, a_deviation, q, k, v, odds, attention, mixed, m, m_deviation, hidden)
        self.mean = second.mean(axis=1)
        scores: Array = self.mean @ p["Ws"] + p["bs"]
        return scores

    def backward(self, dscores: Array) -> Params:
        """Go back."""
        p = self.params
        x, a, a_deviation, q, k, v, odds, attention, mixed, m, m_deviation, hidden = self.kept
        found = {"Ws": self.mean.T @ dscores, "bs": dscores.sum(axis=0)}
        dsecond = np.repeat((dscores @ p["Ws"].T / x.shape[1])[:, None], x.shape[1], axis=1)
        branch = self.sites[2].backward(dsecond)
        dhidden = branch @ p["W2"].T * (hidden > 0)
        found |= {"W2": _outer(hidden, branch), "b2": branch.sum(axis=(0, 1))}
        found |= {"W1": _outer(m, dhidden), "b1": dhidden.sum(axis=(0, 1))}
        dfirst = dsecond + _normed_backward(dhidden @ p["W1"].T, m, m_deviation)
        branch = self.sites[1].backward(dfirst)
        found["Wo"] = _outer(mixed, branch)
        dmixed = self.split(branch @ p["Wo"].T)
        dodds = self.sites[0].backward(dmixed @ v.swapaxes(-1, -2))
        dlogits = odds * (dodds - (dodds * odds).sum(axis=-1, keepdims=True))
        dlogits /= q.dtype.type(q.shape[-1] ** 0.5)
        parts = {
            "Wq": dlogits @ k,
            "Wk": dlogits.swapaxes(-1, -2) @ q,
            "Wv": attention.swapaxes(-1, -2) @ dmixed,
        }
        da: Array | float = 0.0
        for name, part in parts.items():
            whole = self.joined(part)
            found[name] = _outer(a, whole)
            da = da + whole @ p[name].T
        found["We"] = _outer(x, dfirst + _normed_backward(np.asarray(da), a, a_deviation))
        return found


def _outer(x: Array, dy: Array) -> Array:
    """Return the gradient of a matrix that x of (samples, places, width) was multiplied by."""
    product: Array = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    return product
