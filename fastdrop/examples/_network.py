"""A three-layer network in plain NumPy, as in the CS231n notes, with dropout before each layer.

`_training` trains it, and `_checks` checks its gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]
Params = dict[str, Array]


class DropoutLayer(Protocol):
    """The interface of a dropout layer; ``fastdrop.Dropout`` has it."""

    def forward(self, x: Array, training: bool | None = None) -> Array:
        """Drop elements of `x` and scale the rest; return `x` itself when not training."""

    def backward(self, dy: Array) -> Array:
        """Return the gradient with respect to the last forward's input."""


class Network:
    """Input, two hidden ReLU layers and a softmax, each fully connected.

    Parameters
    ----------
    sizes : sequence of four int
        Number of inputs, of units in either hidden layer, and of classes.
    dropout : sequence of three DropoutLayer
        The layers for the input and for the two hidden layers.
    rng : numpy.random.Generator
        Draws the initial weights (He et al., 2015).
    dtype : dtype, optional
        Type of the weights; the inputs should have the same.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dropout: Sequence[DropoutLayer],
        rng: np.random.Generator,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.dropout = list(dropout)
        self.params: Params = {}
        for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True), start=1):
            weights = rng.standard_normal((n_in, n_out)) * np.sqrt(2 / n_in)
            self.params[f"W{i}"] = weights.astype(dtype)
            self.params[f"b{i}"] = np.zeros(n_out, dtype)

    def forward(self, x: Array, training: bool) -> Array:
        """Return the class scores; keep the activations for `backward`."""
        p = self.params
        drop_x, drop1, drop2 = self.dropout
        x = drop_x.forward(x, training)
        h1 = drop1.forward(np.maximum(0, x @ p["W1"] + p["b1"]), training)
        h2 = drop2.forward(np.maximum(0, h1 @ p["W2"] + p["b2"]), training)
        self.activations = x, h1, h2
        return np.asarray(h2 @ p["W3"] + p["b3"])

    def backward(self, dscores: Array) -> Params:
        """Return the gradients of the parameters and, under ``"x"``, of the input.

        The backwards of the dropout layers run in reverse order, like those of all layers.
        """
        p = self.params
        drop_x, drop1, drop2 = self.dropout
        x, h1, h2 = self.activations
        dh2 = drop2.backward(dscores @ p["W3"].T)
        # After dropout, active units are still positive, and the gradient of dropped ones is 0
        # already: `h2 > 0` can be used as the ReLU's mask.
        dh2 = dh2 * (h2 > 0)
        dh1 = drop1.backward(dh2 @ p["W2"].T)
        dh1 = dh1 * (h1 > 0)
        return {
            "W3": h2.T @ dscores,
            "b3": dscores.sum(axis=0),
            "W2": h1.T @ dh2,
            "b2": dh2.sum(axis=0),
            "W1": x.T @ dh1,
            "b1": dh1.sum(axis=0),
            # Only the gradient check uses this one.
            "x": drop_x.backward(dh1 @ p["W1"].T),
        }

    def loss_and_grads(self, x: Array, labels: Labels) -> tuple[float, Params]:
        """Run one training forward and backward pass over a minibatch."""
        loss, dscores = softmax_loss(self.forward(x, training=True), labels)
        return loss, self.backward(dscores)

    def accuracy(self, x: Array, labels: Labels) -> float:
        """Return the fraction of `x` that is classified correctly, without dropout."""
        return float((self.forward(x, training=False).argmax(axis=1) == labels).mean())


def softmax_loss(scores: Array, labels: Labels) -> tuple[float, Array]:
    """Return the mean cross-entropy of softmax(scores), and its gradient."""
    probs = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(probs[rows, labels]).mean())
    probs[rows, labels] -= 1
    probs /= len(labels)
    return loss, probs


def momentum_step(
    params: Params, grads: Params, velocity: Params, lr: float, momentum: float = 0.9
) -> None:
    """Update `params` and `velocity` in place by one step of SGD with momentum."""
    for name, param in params.items():
        velocity[name] *= momentum
        velocity[name] -= lr * grads[name]
        param += velocity[name]
