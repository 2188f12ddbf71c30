"""Training loops in the shape of public ones: one or two lines changed make them use `Mask`.

Each loop is a text. It is run as it is, with its lines changed to a Mask, and with that Mask turned
into the array that it stands for: the last two must train alike, to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array

CS231N = """
def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    mask = None
    if mode == "train":
        mask = (np.random.rand(*x.shape) < p) / p
        out = x * mask
    else:
        out = x
    return out, (dropout_param, mask)

def dropout_backward(dout, cache):
    dropout_param, mask = cache
    return dout * mask if dropout_param["mode"] == "train" else dout

def affine_forward(x, w, b):
    return x.reshape(x.shape[0], -1) @ w + b, (x, w, b)

def affine_backward(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(x.shape[0], -1).T @ dout, dout.sum(axis=0)

def loss_of(scores, y):
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs = shifted / shifted.sum(axis=1, keepdims=True)
    dscores = probs.copy()
    dscores[np.arange(len(y)), y] -= 1
    return -np.log(probs[np.arange(len(y)), y]).mean(), dscores / len(y)

dropout_param = {"mode": "train", "p": 0.75}
params = {"W1": W1, "b1": np.zeros(HIDDEN), "W2": W2, "b2": np.zeros(CLASSES)}
losses = []
for step in range(STEPS):
    a, cache1 = affine_forward(X, params["W1"], params["b1"])
    h = np.maximum(0, a)
    d, dropped = dropout_forward(h, dropout_param)
    scores, cache2 = affine_forward(d, params["W2"], params["b2"])
    loss, dscores = loss_of(scores, Y)
    grads = {}
    dd, grads["W2"], grads["b2"] = affine_backward(dscores, cache2)
    dh = dropout_backward(dd, dropped)
    _, grads["W1"], grads["b1"] = affine_backward(dh * (a > 0), cache1)
    for name in params:
        params[name] -= 0.5 * grads[name]
    losses.append(loss)
weights = params["W1"], params["W2"]
"""

LAYERS = """
class Affine:
    def __init__(self, W):
        self.W, self.b = W, np.zeros(W.shape[1])

    def forward(self, x, train_flg=True):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.W -= 0.5 * np.dot(self.x.T, dout)
        self.b -= 0.5 * np.sum(dout, axis=0)
        return dx

class Relu:
    def forward(self, x, train_flg=True):
        self.mask = (x <= 0)
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout

class Dropout:
    def __init__(self, dropout_ratio=0.25):
        self.dropout_ratio = dropout_ratio
        self.mask = None

    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = np.random.rand(*x.shape) > self.dropout_ratio
            return x * self.mask
        else:
            return x * (1.0 - self.dropout_ratio)

    def backward(self, dout):
        return dout * self.mask

layers = [Affine(W1), Relu(), Dropout(), Affine(W2)]
losses = []
for step in range(STEPS):
    x = X
    for layer in layers:
        x = layer.forward(x, train_flg=True)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    dout = e / e.sum(axis=1, keepdims=True)
    losses.append(-np.log(dout[np.arange(len(Y)), Y]).mean())
    dout[np.arange(len(Y)), Y] -= 1
    dout /= len(Y)
    for layer in reversed(layers):
        dout = layer.backward(dout)
weights = layers[0].W, layers[3].W
"""

BINARY_MASK = """
class Layer_Dense:
    def __init__(self, weights):
        self.weights, self.biases = weights, np.zeros((1, weights.shape[1]))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)

class Layer_Dropout:
    def __init__(self, rate):
        self.rate = 1 - rate

    def forward(self, inputs):
        self.inputs = inputs
        self.binary_mask = np.random.binomial(1, self.rate, size=inputs.shape) / self.rate
        self.output = inputs * self.binary_mask

    def backward(self, dvalues):
        self.dinputs = dvalues * self.binary_mask

dense1, dense2, dropout1 = Layer_Dense(W1), Layer_Dense(W2), Layer_Dropout(0.25)
losses = []
for epoch in range(STEPS):
    dense1.forward(X)
    active = np.maximum(0, dense1.output)
    dropout1.forward(active)
    dense2.forward(dropout1.output)
    exp_values = np.exp(dense2.output - np.max(dense2.output, axis=1, keepdims=True))
    probabilities = exp_values / np.sum(exp_values, axis=1, keepdims=True)
    losses.append(np.mean(-np.log(probabilities[range(len(Y)), Y])))
    dvalues = probabilities.copy()
    dvalues[range(len(Y)), Y] -= 1
    dense2.backward(dvalues / len(Y))
    dropout1.backward(dense2.dinputs)
    drelu = dropout1.dinputs.copy()
    drelu[dense1.output <= 0] = 0
    dense1.backward(drelu)
    for layer in (dense1, dense2):
        layer.weights += -0.5 * layer.dweights
        layer.biases += -0.5 * layer.dbiases
weights = dense1.weights, dense2.weights
"""

KEEP_PROB = """
keep_prob = 0.75
XT, hot = X.T, np.eye(CLASSES)[Y].T
A, B = W1.T.copy(), W2.T.copy()
losses = []
for i in range(STEPS):
    Z1 = np.dot(A, XT)
    A1 = np.maximum(0, Z1)
    D1 = np.random.rand(A1.shape[0], A1.shape[1])
    D1 = (D1 < keep_prob).astype(int)
    A1 = A1 * D1
    A1 = A1 / keep_prob
    Z2 = np.dot(B, A1)
    A2 = np.exp(Z2 - Z2.max(axis=0))
    A2 /= A2.sum(axis=0)
    losses.append(-np.sum(hot * np.log(A2)) / XT.shape[1])
    dZ2 = (A2 - hot) / XT.shape[1]
    dB = np.dot(dZ2, A1.T)
    dA1 = np.dot(B.T, dZ2)
    dA1 *= D1
    dA1 = dA1 / keep_prob
    dA = np.dot(np.multiply(dA1, np.int64(A1 > 0)), XT.T)
    A, B = A - 0.5 * dA, B - 0.5 * dB
weights = A, B
"""

AUTOGRAD = """
import autograd.numpy as anp
from autograd import grad

def loss_of(params, inputs, targets):
    W1, W2 = params
    h = anp.maximum(anp.dot(inputs, W1), 0)
    mask = np.random.rand(*h.shape) < keep
    h = h * mask / keep
    scores = anp.dot(h, W2)
    largest = anp.max(scores, axis=1, keepdims=True)
    logs = scores - largest - anp.log(anp.sum(anp.exp(scores - largest), axis=1, keepdims=True))
    loss = -anp.mean(logs[np.arange(len(targets)), targets])
    losses.append(float(getattr(loss, "_value", loss)))
    return loss

keep, params, losses = 0.75, [W1, W2], []
gradient = grad(loss_of)
for step in range(STEPS):
    params = [w - 0.5 * g for w, g in zip(params, gradient(params, X, Y))]
weights = params
"""

# The lines of each loop that change, and what they become.
CHANGES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "CS231n": (CS231N, [
        ("mask = (np.random.rand(*x.shape) < p) / p", "mask = fd.Mask(x.shape, 1 - p, rng=rng)"),
    ]),
    "layers": (LAYERS, [
        ("self.mask = np.random.rand(*x.shape) > self.dropout_ratio",
         "self.mask = fd.Mask(x.shape, self.dropout_ratio, rng=rng, scale=1.0)"),
    ]),
    "binary mask": (BINARY_MASK, [
        ("self.binary_mask = np.random.binomial(1, self.rate, size=inputs.shape) / self.rate",
         "self.binary_mask = fd.Mask.like(inputs, 1 - self.rate, rng=rng)"),
    ]),
    "keep_prob": (KEEP_PROB, [
        ("D1 = np.random.rand(A1.shape[0], A1.shape[1])", "pass"),
        ("D1 = (D1 < keep_prob).astype(int)",
         "D1 = fd.Mask(A1.shape, 1 - keep_prob, rng=rng, scale=1.0)"),
    ]),
    "autograd": (AUTOGRAD, [
        ("mask = np.random.rand(*h.shape) < keep",
         "mask = fd.Mask(h.shape, 1 - keep, rng=rng, scale=1.0)"),
    ]),
}  # fmt: skip

SAMPLES, FEATURES, HIDDEN, CLASSES, STEPS = 60, 12, 16, 3, 40


def changed(loop: str, changes: list[tuple[str, str]], stored: bool = False) -> str:
    for old, new in changes:
        assert loop.count(old) == 1
        if stored and "= fd." in new:
            name, made = new.split(" = ", 1)
            new = f"{name} = np.asarray({made})"
        loop = loop.replace(old, new)
    return loop


def run(loop: str, dtype: Any = np.float64) -> tuple[list[float], list[Array]]:
    data = np.random.default_rng(1)
    labels = data.integers(0, CLASSES, SAMPLES)
    centres = data.standard_normal((CLASSES, FEATURES))
    namespace: dict[str, Any] = {
        "np": np,
        "fd": fd,
        "rng": np.random.default_rng(2),
        "X": (centres[labels] + 0.7 * data.standard_normal((SAMPLES, FEATURES))).astype(dtype),
        "Y": labels,
        "W1": (data.standard_normal((FEATURES, HIDDEN)) / 4).astype(dtype),
        "W2": (data.standard_normal((HIDDEN, CLASSES)) / 4).astype(dtype),
        "HIDDEN": HIDDEN,
        "CLASSES": CLASSES,
        "STEPS": STEPS,
    }
    np.random.seed(3)  # noqa: NPY002  # as such loops do
    exec(loop, namespace)
    return namespace["losses"], list(namespace["weights"])


@pytest.mark.parametrize("name", CHANGES)
def test_loops_train_as_with_the_stored_mask(name: str) -> None:
    loop, changes = CHANGES[name]
    if name == "autograd":
        pytest.importorskip("autograd")
    assert len(changes) <= 2
    losses, weights = run(changed(loop, changes))
    same_losses, same_weights = run(changed(loop, changes, stored=True))
    assert losses == same_losses
    for one, other in zip(weights, same_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert losses[-1] < 0.5 * losses[0]
    original, _ = run(loop)
    assert original != losses
    assert original[-1] < 0.5 * original[0]


@pytest.mark.parametrize("name", ["CS231n", "layers", "binary mask", "autograd"])
def test_loops_in_float32_stay_in_float32(name: str) -> None:
    """A stored mask of float64 turns all that follows it to float64."""
    loop, changes = CHANGES[name]
    if name == "autograd":
        pytest.importorskip("autograd")
    _, weights = run(changed(loop, changes), np.float32)
    assert {w.dtype for w in weights} == {np.dtype(np.float32)}
