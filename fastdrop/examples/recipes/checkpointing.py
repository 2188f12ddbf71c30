"""Gradient checkpointing: activations are discarded, and recomputed in the backward pass.

The recomputation must drop the same elements. With a key for each block it is the same call; no
generator state must be saved before a segment and restored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float64]


def block(x: Array, weights: Array, key: fd.Key) -> Array:
    """Compute one block: matrix product, ReLU, dropout."""
    return fd.dropout(np.maximum(0, x @ weights), 0.5, rng=key)


def forward(
    x: Array, all_weights: list[Array], key: fd.Key, every: int
) -> tuple[Array, list[Array]]:
    """Compute all blocks; keep the input of every n-th block only."""
    kept = []
    for n, weights in enumerate(all_weights):
        if n % every == 0:
            kept.append(x)
        x = block(x, weights, key.fold_in(n))
    return x, kept


def backward(
    dy: Array, kept: list[Array], all_weights: list[Array], key: fd.Key, every: int
) -> list[Array]:
    """Return the gradients of all weights; each segment is recomputed from its kept input."""
    gradients: list[Array] = []
    for segment in reversed(range(len(kept))):
        numbers = range(segment * every, min((segment + 1) * every, len(all_weights)))
        inputs = [kept[segment]]
        for n in numbers:
            inputs.append(block(inputs[-1], all_weights[n], key.fold_in(n)))
        for n, x, y in zip(reversed(numbers), inputs[-2::-1], inputs[:0:-1], strict=True):
            # After dropout, active units are still positive, and the gradient of dropped ones is 0:
            # `y > 0` can be used as the ReLU's mask.
            dh = fd.dropout(dy, 0.5, rng=key.fold_in(n)) * (y > 0)
            gradients.append(x.T @ dh)
            dy = dh @ all_weights[n].T
    return gradients[::-1]


def run() -> None:
    """Compare with keeping all activations."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((8, 16)), rng.standard_normal((8, 16))
    weights = [rng.standard_normal((16, 16)) / 4 for _ in range(7)]
    step = fd.Key(42).fold_in(1234)  # another key in each training step
    results = []
    for every in (1, 3):
        y, kept = forward(x, weights, step, every)
        assert len(kept) == -(-len(weights) // every)
        results.append((y, backward(dy, kept, weights, step, every)))
    (y_all, all_kept), (y_some, some_kept) = results
    assert np.array_equal(y_all, y_some) and y_all.any()
    for ours, expected in zip(some_kept, all_kept, strict=True):
        assert np.array_equal(ours, expected) and expected.any()
