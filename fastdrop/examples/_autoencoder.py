"""A small masked autoencoder in plain NumPy: transformer blocks, forward and backward.

`masked_digits` trains it. The encoder sees the kept patches only. The decoder sees what it made of
them, with a mask token in each other place, and says what all patches are (K. He et al., "Masked
autoencoders are scalable vision learners", CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop.examples._network import Array, Params

Positions = npt.NDArray[np.int64]
Backward = Callable[[Array], Array]
_ADAM = 0.9, 0.95, 1e-8


class Masking(NamedTuple):
    """Masks of images, as `fastdrop.keep_k` returns them with ``indices=True``."""

    mask: npt.NDArray[np.bool_]  # True = kept
    kept: Positions
    dropped: Positions
    restore: Positions

    def of(self, index: npt.NDArray[np.int64]) -> Masking:
        """Return the masks of some images."""
        rest = self.kept[index], self.dropped[index], self.restore[index]
        return Masking(self.mask[index], *rest)


def gathered(x: Array, positions: Positions) -> Array:
    """Return the tokens at some positions of each image."""
    return np.take_along_axis(x, positions[..., None], axis=1)


class Autoencoder:
    """Encoder and decoder, each of transformer blocks.

    Parameters
    ----------
    patches, pixels : int
        Number of patches of an image, and of pixels of a patch.
    rng : numpy.random.Generator
        Draws the initial weights.
    width, heads : int
        Length of a token; number of attention heads, which must divide it.
    blocks : (int, int)
        Number of blocks of the encoder and of the decoder.
    dtype : dtype
        Of the weights; images should have the same.
    """

    def __init__(
        self,
        patches: int,
        pixels: int,
        rng: np.random.Generator,
        width: int = 64,
        heads: int = 4,
        blocks: tuple[int, int] = (2, 1),
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.heads, self.blocks = heads, blocks
        self.params: Params = {}

        def add_linear(name: str, n_in: int, n_out: int) -> None:
            weights = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
            self.params[f"{name} weights"] = weights.astype(dtype)
            self.params[f"{name} bias"] = np.zeros(n_out, dtype)

        def add_table(name: str, rows: int) -> None:
            self.params[name] = (0.2 * rng.standard_normal((rows, width))).astype(dtype)

        add_linear("embed", pixels, width)
        add_linear("bridge", width, width)
        add_linear("predict", width, pixels)
        for part, count in zip(("encoder", "decoder"), blocks, strict=True):
            add_table(f"{part} places", patches)
            for b in range(count):
                add_linear(f"{part} {b} attention", width, 3 * width)
                add_linear(f"{part} {b} mix", width, width)
                add_linear(f"{part} {b} widen", width, 2 * width)
                add_linear(f"{part} {b} narrow", 2 * width, width)
        add_table("mask token", 1)

    def forward(self, patches: Array, masking: Masking) -> Array:
        """Return what the model takes all patches to be, given the kept ones."""
        return self._forward(patches, masking, {})[0]

    def loss(self, patches: Array, masking: Masking) -> float:
        """Return the mean squared error of the dropped pixels."""
        error = (self.forward(patches, masking) - patches)[~masking.mask]
        return float((error**2).mean())

    def loss_and_grads(self, patches: Array, masking: Masking) -> tuple[float, Params]:
        """Return the loss of a minibatch, and its gradients."""
        grads: Params = {}
        predicted, backward = self._forward(patches, masking, grads)
        error = np.where(masking.mask[..., None], 0, predicted - patches)
        count = masking.dropped.size * patches.shape[-1]
        backward(error * patches.dtype.type(2 / count))
        return float((error**2).sum() / count), grads

    def _forward(
        self, patches: Array, masking: Masking, grads: Params
    ) -> tuple[Array, Callable[[Array], None]]:
        """Return the predictions, and the function that fills `grads` from their gradient."""
        p = self.params
        steps: list[Backward] = []

        def through(made: tuple[Array, Backward]) -> Array:
            steps.append(made[1])
            return made[0]

        x = through(self._linear("embed", gathered(patches, masking.kept), grads))
        x = x + p["encoder places"][masking.kept]

        def to_places(dx: Array) -> Array:
            grads["encoder places"] = np.zeros_like(p["encoder places"])
            np.add.at(grads["encoder places"], masking.kept, dx)
            return dx

        steps.append(to_places)
        for b in range(self.blocks[0]):
            x = through(self._attend(f"encoder {b}", x, grads))
            x = through(self._compute(f"encoder {b}", x, grads))
        x = through(self._linear("bridge", x, grads))
        x = through(self._restored(x, masking, grads))
        for b in range(self.blocks[1]):
            x = through(self._attend(f"decoder {b}", x, grads))
            x = through(self._compute(f"decoder {b}", x, grads))
        x = through(self._linear("predict", x, grads))

        def backward(dx: Array) -> None:
            for step in reversed(steps):
                dx = step(dx)

        return x, backward

    def _restored(self, x: Array, masking: Masking, grads: Params) -> tuple[Array, Backward]:
        """Put the kept patches' tokens in their places, and mask tokens in the others."""
        token, kept = self.params["mask token"], masking.kept.shape[1]
        tokens = np.broadcast_to(token, (*masking.dropped.shape, token.shape[1]))
        places = self.params["decoder places"]
        whole = gathered(np.concatenate([x, tokens], axis=1), masking.restore) + places

        def backward(dy: Array) -> Array:
            grads["decoder places"] = dy.sum(0)
            grads["mask token"] = gathered(dy, masking.dropped).sum((0, 1))[None]
            return gathered(dy, masking.kept)

        assert kept + masking.dropped.shape[1] == len(places)
        return whole, backward

    def _linear(self, name: str, x: Array, grads: Params) -> tuple[Array, Backward]:
        weights, bias = self.params[f"{name} weights"], self.params[f"{name} bias"]

        def backward(dy: Array) -> Array:
            rows = dy.reshape(-1, dy.shape[-1])
            grads[f"{name} weights"] = x.reshape(-1, x.shape[-1]).T @ rows
            grads[f"{name} bias"] = rows.sum(0)
            return np.asarray(dy @ weights.T)

        return x @ weights + bias, backward

    def _attend(self, name: str, x: Array, grads: Params) -> tuple[Array, Backward]:
        """Attention of the tokens of an image, added to them."""
        batch, tokens, width = x.shape
        head = width // self.heads
        normal, normal_backward = _normalised(x)
        joint, joint_backward = self._linear(f"{name} attention", normal, grads)
        split = joint.reshape(batch, tokens, 3, self.heads, head).transpose(2, 0, 3, 1, 4)
        query, key, value = split
        factor = x.dtype.type(head**-0.5)
        scores = query @ key.swapaxes(-1, -2) * factor
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        share = scores / scores.sum(-1, keepdims=True)
        seen = (share @ value).swapaxes(1, 2).reshape(x.shape)
        mixed, mixed_backward = self._linear(f"{name} mix", seen, grads)

        def backward(dy: Array) -> Array:
            dseen = mixed_backward(dy).reshape(batch, tokens, self.heads, head).swapaxes(1, 2)
            dshare = dseen @ value.swapaxes(-1, -2)
            dscores = share * (dshare - (dshare * share).sum(-1, keepdims=True)) * factor
            dsplit = np.stack(
                [dscores @ key, dscores.swapaxes(-1, -2) @ query, share.swapaxes(-1, -2) @ dseen]
            )
            djoint = dsplit.transpose(1, 3, 0, 2, 4).reshape(joint.shape)
            return dy + normal_backward(joint_backward(djoint))

        return x + mixed, backward

    def _compute(self, name: str, x: Array, grads: Params) -> tuple[Array, Backward]:
        """Two layers for each token, added to it."""
        normal, normal_backward = _normalised(x)
        hidden, hidden_backward = self._linear(f"{name} widen", normal, grads)
        active = np.maximum(hidden, 0)
        made, made_backward = self._linear(f"{name} narrow", active, grads)

        def backward(dy: Array) -> Array:
            return dy + normal_backward(hidden_backward(made_backward(dy) * (hidden > 0)))

        return x + made, backward


def _normalised(x: Array) -> tuple[Array, Backward]:
    """Normalise each token to mean 0 and variance 1."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + x.dtype.type(1e-5))
    y = centred * inverse

    def backward(dy: Array) -> Array:
        mean = dy.mean(-1, keepdims=True)
        return np.asarray(inverse * (dy - mean - y * (dy * y).mean(-1, keepdims=True)))

    return y, backward


class Adam:
    """Adam's steps (D. Kingma and J. Ba, ICLR 2015) over parameters that are changed in place."""

    def __init__(self, params: Params) -> None:
        self._params, self._steps = params, 0
        self._mean: Params = {name: np.zeros_like(value) for name, value in params.items()}
        self._square: Params = {name: np.zeros_like(value) for name, value in params.items()}

    def step(self, grads: Params, rate: float) -> None:
        """Move the parameters against their gradients."""
        self._steps += 1
        one, two, least = _ADAM
        rate *= float(np.sqrt(1 - two**self._steps) / (1 - one**self._steps))
        for name, value in self._params.items():
            mean, square, gradient = self._mean[name], self._square[name], grads[name]
            mean += (1 - one) * (gradient - mean)
            square += (1 - two) * (gradient**2 - square)
            value -= (rate * mean / (np.sqrt(square) + least)).astype(value.dtype)


def patches_of(images: Array, side: int) -> Array:
    """Cut images into patches of `side` times `side` pixels: shape (images, patches, pixels)."""
    count, height, width = images.shape
    cut = images.reshape(count, height // side, side, width // side, side)
    return np.asarray(cut.swapaxes(2, 3).reshape(count, -1, side * side))


def images_of(patches: npt.NDArray[Any], side: int, height: int) -> npt.NDArray[Any]:
    """Put patches together again."""
    count, rows = len(patches), height // side
    cut = patches.reshape(count, rows, -1, side, side)
    return np.asarray(cut.swapaxes(2, 3).reshape(count, height, -1))
