"""Two checks of training with fastdrop: of the gradients, and of resuming from a file.

``python -m fastdrop.examples.digits --check`` calls `run_checks`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from fastdrop.examples._network import Array, Network, Params, softmax_loss
from fastdrop.examples._training import N_CLASSES, Trainer, load_data
from fastdrop.examples._variants import P_DROP, fastdrop_layers

Layers = list[fd.Dropout]
GRADIENT_LIMIT = 1e-6


def gradient_check(make_layers: Callable[[int], Layers] = fastdrop_layers) -> dict[str, float]:
    """Compare the gradients with central differences, in float64, with dropout.

    Returns
    -------
    dict of str to float
        For each parameter, and the input ``"x"``: ``|a - n| / max(|a|, |n|)`` of the analytic
        and the numerical gradient, in the Euclidean norm.
    """
    data = load_data(np.float64)
    x, labels = data.x_train[:5].copy(), data.y_train[:5]
    layers = make_layers(0)
    network = Network((x.shape[1], 16, 12, N_CLASSES), layers, np.random.default_rng(0), x.dtype)
    # Away from 0, where a ReLU is not differentiable.
    network.params["b1"] += 0.1
    network.params["b2"] += 0.1
    before = [layer.state_dict() for layer in layers]

    def loss() -> float:
        # Each evaluation must drop the same elements: restore the layers' states.
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
    """Return the central difference of `loss` with respect to each element of `values`."""
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


def save(path: Path, trainer: Trainer, layers: Layers) -> None:
    """Write the training state to an .npz file; that of a dropout layer is three integers."""
    contents: dict[str, Any] = {"seed": trainer.seed, "epoch": trainer.epoch}
    contents["dropout"] = json.dumps([layer.state_dict() for layer in layers])
    for name, param in trainer.network.params.items():
        contents[f"param {name}"] = param
        contents[f"velocity {name}"] = trainer.velocity[name]
    np.savez(path, **contents)


def load(path: Path, trainer: Trainer, layers: Layers) -> None:
    """Restore a state that `save` wrote."""
    with np.load(path) as contents:
        trainer.seed, trainer.epoch = int(contents["seed"]), int(contents["epoch"])
        for layer, state in zip(layers, json.loads(str(contents["dropout"])), strict=False):
            layer.load_state_dict(state)
        for name in trainer.velocity:
            trainer.network.params[name] = contents[f"param {name}"]
            trainer.velocity[name] = contents[f"velocity {name}"]


class Resume(NamedTuple):
    """The result of `resume_check`."""

    identical: bool  # whether all weights are equal, bit for bit
    difference: float  # the largest difference of a weight
    # The same without restoring the dropout layers' state, so that they draw other masks. If this
    # were 0, the check could not fail.
    control: float


def resume_check() -> Resume:
    """Compare 4 epochs without interruption with 2 epochs, save, load, and 2 more epochs."""
    data = load_data()

    def new(seed: int) -> tuple[Trainer, Layers]:
        layers = fastdrop_layers(seed)
        return Trainer(data, layers, seed=seed, hidden=64, epochs=4), layers

    def params_after(trainer: Trainer, epoch: int) -> Params:
        while trainer.epoch < epoch:
            trainer.train_epoch()
        return trainer.network.params

    straight = params_after(new(seed=1)[0], epoch=4)
    resumed = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        stopped, layers = new(seed=1)
        params_after(stopped, epoch=2)
        save(path, stopped, layers)
        for restore_layers in (True, False):
            # Before load(), weights, order of minibatches and masks differ.
            other, layers = new(seed=2)
            load(path, other, layers if restore_layers else [])
            resumed.append(params_after(other, epoch=4))
    same, control = resumed
    return Resume(
        all(np.array_equal(same[k], straight[k]) for k in straight),
        max(float(abs(same[k] - straight[k]).max()) for k in straight),
        max(float(abs(control[k] - straight[k]).max()) for k in straight),
    )


def run_checks() -> bool:
    """Run both checks, print the results, and return whether both passed."""
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
