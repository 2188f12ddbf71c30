"""What each rank of the example `ranks` computes: its part of a result, and of a training step.

All ranks are given one key. The part of the mask that a rank draws follows from `offset`, where its
part of the array begins, and `global_shape`, the shape of the whole array.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop.examples._rank_processes import Communicator

Array: TypeAlias = npt.NDArray[Any]
Slices: TypeAlias = tuple[slice, ...]

P = 0.5
KEY = fd.Key(42)
SHAPE = (6, 10, 50)  # samples, positions of a sequence, features
AXES = {"data-parallel": 0, "sequence-parallel": 1, "tensor-parallel": 2}

SAMPLES, INPUTS, UNITS, OUTPUTS = 30, 8, 50, 3  # of the network
RATE = 0.1


def part(shape: tuple[int, ...], axis: int, ranks: Communicator) -> Slices:
    """Return where a rank's part of an array lies, which is cut along an axis."""
    start, stop = (shape[axis] * n // ranks.size for n in (ranks.rank, ranks.rank + 1))
    return tuple(slice(start, stop) if n == axis else slice(0, m) for n, m in enumerate(shape))


def placement(where: Slices, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments by which a part draws its part of the whole mask."""
    return {"offset": tuple(at.start for at in where), "global_shape": shape}


def activations() -> Array:
    """Return the array that the ranks share; each uses its part alone."""
    return np.random.default_rng(0).standard_normal(SHAPE)


def draw(ranks: Communicator, axis: int) -> tuple[tuple[int, ...], Array]:
    """Return where a rank's part of an array begins, and its result."""
    where = part(SHAPE, axis, ranks)
    place = placement(where, SHAPE)
    x = activations()[where].copy()
    return place["offset"], fd.dropout(x, P, rng=KEY, **place)


def compile_once(ranks: Communicator) -> None:
    """Let one rank compile the kernels that are not in the cache yet, and the others wait."""
    if ranks.rank == 0:
        for axis in AXES.values():
            draw(ranks, axis)
    ranks.allgather(None)


class Network(NamedTuple):
    """Weights of a layer of tanh with dropout, and of a linear layer."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array


class Training(NamedTuple):
    """The network after some steps, their losses, and the whole mask of each."""

    network: Network
    losses: list[float]
    masks: list[Array]


def untrained() -> Network:
    """Return the weights that training begins with."""
    rng = np.random.default_rng(1)
    w1 = rng.standard_normal((INPUTS, UNITS)) / INPUTS**0.5
    w2 = rng.standard_normal((UNITS, OUTPUTS)) / UNITS**0.5
    return Network(w1, np.zeros(UNITS), w2, np.zeros(OUTPUTS))


def train(ranks: Communicator, way: str, network: Network, steps: range) -> Training:
    """Train by full batches: "tensor-parallel", or "data-parallel".

    Tensor-parallel, a rank has some of the hidden units: the columns of w1 and the rows of w2 that
    belong to them. Data-parallel, it has some of the samples. Either way it has a part of the
    hidden layer, samples by units, and of its mask.
    """
    by_units = way == "tensor-parallel"
    shape = (SAMPLES, UNITS)
    rows, columns = where = part(shape, 1 if by_units else 0, ranks)
    place = placement(where, shape)
    rng = np.random.default_rng(2)
    x, target = rng.standard_normal((SAMPLES, INPUTS)), rng.standard_normal((SAMPLES, OUTPUTS))
    x, target = x[rows], target[rows]
    w1, b1, w2, b2 = (
        weights.copy()
        for weights in (
            network.w1[:, columns],
            network.b1[columns],
            network.w2[columns],
            network.b2,
        )
    )
    losses, masks = [], []
    for step in steps:
        # All that a restart needs to know of the masks is the number of the step.
        key = KEY.fold_in(step)
        units = np.tanh(x @ w1 + b1)
        h = fd.dropout(units, P, rng=key, **place)
        y = h @ w2
        if by_units:
            y = ranks.allreduce(y)  # of the sum over units each rank has a part
        error = y + b2 - target
        loss = (error**2).sum() / SAMPLES
        dy = 2 * error / SAMPLES
        # Backward, dropout is the same call on the gradient.
        da = fd.dropout(dy @ w2.T, P, rng=key, **place) * (1 - units**2)
        gradients = [x.T @ da, da.sum(axis=0), h.T @ dy, dy.sum(axis=0)]
        if not by_units:  # each rank has a part of the sums over samples
            loss, *gradients = (ranks.allreduce(each) for each in (loss, *gradients))
        for weights, gradient in zip((w1, b1, w2, b2), gradients, strict=True):
            weights -= RATE * gradient
        losses.append(float(loss))
        # No unit is 0 by itself: tanh is 0 at 0 alone.
        masks.append(np.concatenate(ranks.allgather(h != 0), axis=1 if by_units else 0))
    if by_units:
        w1, b1, w2 = (
            np.concatenate(ranks.allgather(weights), axis=axis)
            for weights, axis in ((w1, 1), (b1, 0), (w2, 0))
        )
    return Training(Network(w1, b1, w2, b2), losses, masks)
