"""A Function object with forward and backward, as in DeZero and in many libraries like it.

The key is what such an object keeps for its backward. That is written with the function itself, so
that gradients of gradients go through it, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]

# What the library has: a variable knows the function that made it.


class Variable:
    """An array, and where it comes from."""

    def __init__(self, data: Array, creator: Function | None = None) -> None:
        self.data, self.creator = data, creator
        self.grad: Variable | None = None

    def backward(self) -> None:
        """Give the gradients of ``sum(self)`` to all that it was made of."""
        self.grad = Variable(np.ones_like(self.data))
        functions = [self.creator] if self.creator else []
        while functions:
            function = functions.pop()
            assert function.output.grad is not None
            function.input.grad = function.backward(function.output.grad)
            if function.input.creator:
                functions.append(function.input.creator)


class Function:
    """Of one input: `forward` computes on arrays, `backward` on variables."""

    def __call__(self, x: Variable) -> Variable:
        """Go forward, and remember input and output."""
        self.input, self.output = x, Variable(self.forward(x.data), self)
        return self.output

    def forward(self, x: Array) -> Array:
        """Compute the output."""
        raise NotImplementedError

    def backward(self, dy: Variable) -> Variable:
        """Compute the gradient of the input."""
        raise NotImplementedError


# What fastdrop adds.


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
    """Drop elements of a variable, by another mask each time unless `rng` is a key."""
    return Dropout(p, fd.as_key(rng))(x)


def run() -> None:
    """Check output and gradient, and a gradient's own gradient."""
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
    x.grad.backward()  # which came of dy by the same two functions
    assert dy.grad is not None
    np.testing.assert_array_equal(dy.grad.data, x.grad.data)
