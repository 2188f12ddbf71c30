"""Two checks of training with fastdrop: of the gradients, and of a save and resume."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from fastdrop.examples._network import Array, Network, Params, softmax_loss
from fastdrop.examples._training import (
    N_CLASSES,
    Data,
    learning_rate,
    load_data,
    minibatches,
    train_step,
)
from fastdrop.examples._variants import P_DROP

Layers = list[fd.Dropout]
GRADIENT_LIMIT = 1e-6


def new_layers(seed: int) -> Layers:
    """Return the network's three dropout layers, each with a key of its own."""
    return [fd.Dropout(p, rng=fd.Key(seed).fold_in(i)) for i, p in enumerate(P_DROP)]


def gradient_check(make_layers: Callable[[int], Layers] = new_layers) -> dict[str, float]:
    """Compare the gradients with central differences, in float64, dropout at work.

    Returns
    -------
    dict of str to float
        For each parameter, and the input ``"x"``: ``|a - n| / max(|a|, |n|)`` of the analytic
        and the numerical gradient, in the Euclidean norm.
    """
    data = load_data(np.float64)
    x, labels = data.x_train[:8].copy(), data.y_train[:8]
    layers = make_layers(0)
    network = Network((x.shape[1], 20, 15, N_CLASSES), layers, np.random.default_rng(0), x.dtype)
    # Away from 0, where a ReLU has its kink and central differences mean nothing.
    network.params["b1"] += 0.1
    network.params["b2"] += 0.1
    before = [layer.state_dict() for layer in layers]

    def loss() -> float:
        # Each evaluation has to drop the same elements: set the layers back.
        for layer, state in zip(layers, before, strict=True):
            layer.load_state_dict(state)
        return softmax_loss(network.forward(x, training=True), labels)[0]

    _, grads = network.loss_and_grads(x, labels)
    errors = {}
    for name, values in {"x": x, **network.params}.items():
        analytic, numerical = grads[name], numerical_gradient(loss, values)
        size = max(np.linalg.norm(analytic), np.linalg.norm(numerical))
        errors[name] = float(np.linalg.norm(analytic - numerical) / size)
    return errors


def numerical_gradient(loss: Callable[[], float], values: Array, eps: float = 1e-5) -> Array:
    """Return the central difference of `loss` by each element of `values`."""
    gradient = np.empty_like(values)
    for i in np.ndindex(values.shape):
        value = values[i]
        values[i] = value + eps
        above = loss()
        values[i] = value - eps
        below = loss()
        values[i] = value
        gradient[i] = (above - below) / (2 * eps)
    return gradient


class Trainer:
    """A network with its dropout layers and momentum: all that a resume has to bring back."""

    def __init__(self, data: Data, seed: int) -> None:
        self.data = data
        self.seed = seed
        self.epoch = 0
        self.layers = new_layers(seed)
        sizes = (data.x_train.shape[1], 64, 64, N_CLASSES)
        self.network = Network(sizes, self.layers, np.random.default_rng(seed))
        self.velocity = {k: np.zeros_like(v) for k, v in self.network.params.items()}

    def train(self, until: int, epochs: int) -> Params:
        """Train up to epoch `until` of `epochs`; return the parameters."""
        for epoch in range(self.epoch, until):
            for batch in minibatches(len(self.data.x_train), self.seed, epoch):
                x, labels = self.data.x_train[batch], self.data.y_train[batch]
                train_step(self.network, self.velocity, x, labels, learning_rate(epoch, epochs))
        self.epoch = until
        return self.network.params

    def save(self, path: Path) -> None:
        """Write everything to an .npz file; the dropout layers are a few integers of JSON."""
        states = json.dumps([layer.state_dict() for layer in self.layers])
        arrays: dict[str, Any] = {f"param {k}": v for k, v in self.network.params.items()}
        arrays |= {f"velocity {k}": v for k, v in self.velocity.items()}
        np.savez(path, **arrays, seed=self.seed, epoch=self.epoch, dropout=states)

    def load(self, path: Path, *, dropout: bool = True) -> None:
        """Read what `save` wrote; without `dropout`, leave the layers as they are."""
        with np.load(path) as saved:
            self.seed, self.epoch = int(saved["seed"]), int(saved["epoch"])
            for name in self.velocity:
                self.network.params[name] = saved[f"param {name}"]
                self.velocity[name] = saved[f"velocity {name}"]
            if dropout:
                states = json.loads(str(saved["dropout"]))
                for layer, state in zip(self.layers, states, strict=True):
                    layer.load_state_dict(state)


class Resume(NamedTuple):
    """What `resume_check` found."""

    identical: bool  # all weights, bit for bit
    difference: float  # the largest of any weight
    # The same where the dropout layers' state is left out of the resume, so that they draw other
    # masks. Were this 0, the check could not fail.
    control: float


def resume_check() -> Resume:
    """Train 4 epochs at once, and 2 epochs, save, load into a new network, 2 epochs more."""
    data = load_data()
    straight = Trainer(data, seed=1).train(until=4, epochs=4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        stopped = Trainer(data, seed=1)
        stopped.train(until=2, epochs=4)
        stopped.save(path)
        resumed = []
        for dropout in (True, False):
            other = Trainer(data, seed=2)  # other weights, order and masks, until load()
            other.load(path, dropout=dropout)
            resumed.append(other.train(until=4, epochs=4))
    same, control = resumed
    return Resume(
        all(np.array_equal(same[k], straight[k]) for k in straight),
        max(float(abs(same[k] - straight[k]).max()) for k in straight),
        max(float(abs(control[k] - straight[k]).max()) for k in straight),
    )


def run_checks() -> bool:
    """Run both checks, print what they found, and return whether both passed."""
    errors = gradient_check()
    gradients_right = all(error < GRADIENT_LIMIT for error in errors.values())
    p_input, p_hidden, _ = P_DROP
    print(
        f"Gradient check: 3-layer network in float64, dropout p = {p_input} on the input and "
        f"{p_hidden}\non both hidden layers, central differences with the same masks redrawn."
    )
    for name, error in errors.items():
        print(f"  relative error of d loss / d {name:2}  {error:.1e}")
    print(f"  all below {GRADIENT_LIMIT:g}: {_verdict(gradients_right)}\n")

    resume = resume_check()
    resumes = resume.identical and resume.control > 0
    print("Resume check: 4 epochs at once, and 2, save to a file, load into a new network, 2 more.")
    print(f"  largest difference of any weight       {resume.difference:.1e}")
    print(f"  the same without the layers' state     {resume.control:.1e}  (has to differ)")
    print(f"  identical weights: {_verdict(resumes)}")
    return gradients_right and resumes


def _verdict(passed: bool) -> str:
    return "passed" if passed else "FAILED"
