"""A Function object with forward and backward, as in DeZero and similar libraries.

The object stores the key for its backward. The backward calls the function itself, so that
higher-order gradients work too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]

# The library: a variable references the function that created it.


class Variable:
    """An array, and the function that created it."""

    def __init__(self, data: Array, creator: Function | None = None) -> None:
        self.data, self.creator = data, creator
        self.grad: Variable | None = None

    def backward(self) -> None:
        """Compute the gradients of ``sum(self)`` with respect to all variables in its graph."""
        self.grad = Variable(np.ones_like(self.data))
        functions = [self.creator] if self.creator else []
        while functions:
            function = functions.pop()
            assert function.output.grad is not None
            function.input.grad = function.backward(function.output.grad)
            if function.input.creator:
                functions.append(function.input.creator)


class Function:
    """A function of one input: `forward` computes on arrays, `backward` on variables."""

    def __call__(self, x: Variable) -> Variable:
        """Compute the output, and store input and output."""
        self.input, self.output = x, Variable(self.forward(x.data), self)
        return self.output

    def forward(self, x: Array) -> Array:
        """Compute the output."""
        raise NotImplementedError

    def backward(self, dy: Variable) -> Variable:
        """Compute the gradient with respect to the input."""
        raise NotImplementedError


# Dropout by fastdrop.


class Dropout(Function):
    """Dropout with the mask of a key."""

    def __init__(self, p: float, key: fd.Key) -> None:
        self.p, self.key = p, key

    def forward(self, x: Array) -> Array:
        """Drop elements."""
        return fd.dropout(x, self.p, rng=self.key)

    def backward(self, dy: Variable) -> Variable:
        """Drop the same elements of the gradient."""
        return Dropout(self.p, self.key)(dy)


def dropout(
    x: Variable, p: float = 0.5, rng: fd.Key | np.random.Generator | None = None
) -> Variable:
    """Drop elements of a variable, with a new mask each time unless `rng` is a key."""
    return Dropout(p, fd.as_key(rng))(x)


def run() -> None:
    """Check output, gradient, and second-order gradient."""
    rng = np.random.default_rng(0)
    x = Variable(rng.uniform(1, 2, (4, 5)))
    hidden = dropout(x, 0.5, rng)
    y = dropout(hidden, 0.25, rng)
    y.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, y.data / x.data, rtol=1e-12)
    assert (x.grad.data == 0).any() and (x.grad.data != 0).any()
    dy = y.grad
    assert dy is not None
    x.grad.backward()  # x.grad was computed from dy by the same two functions
    assert dy.grad is not None
    np.testing.assert_array_equal(dy.grad.data, x.grad.data)
