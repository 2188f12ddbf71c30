"""Vanilla dropout: activations are scaled at test time instead of in training."""

from __future__ import annotations

import doctest
import sys

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.floating]


def vanilla_dropout(h: Array, p: float, key: fd.Key, training: bool = True) -> Array:
    """Drop activations without scaling the others, and scale all of them at test time instead.

    "Vanilla" dropout with the weight-scaling rule: a unit is present with probability ``1 - p`` in
    training and always at test time, where it is multiplied by ``1 - p`` to have the same
    expectation. The inverted form, `fastdrop.dropout`, needs no scaling at test time. The backward
    pass in training is the same call on the gradient.

    References
    ----------
    .. [1] The CS231n course notes, "Neural networks part 2", Stanford University.
    .. [2] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> h = np.ones(8)
    >>> vanilla_dropout(h, 0.25, fd.Key(3))
    array([1., 1., 1., 0., 1., 1., 0., 1.])
    >>> vanilla_dropout(h, 0.25, fd.Key(3), training=False)
    array([0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75])
    """
    if not training:
        return h * (1 - p)
    return fd.dropout(h, p, rng=key, scale=1.0)


def run() -> None:
    """Run the examples above."""
    result = doctest.testmod(sys.modules[__name__])
    assert result.attempted and not result.failed
