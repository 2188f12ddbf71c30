"""The catalogue: every operation of the family, stated once for the three backends.

A row says what an operation reads, and what it needs to know of an element. What becomes of the
element is a function of the same name: `cpu.elements.operations.FUNCTIONS`, a functor in
``cuda/operations.cuh``, and `numba_cuda.operations.FUNCTIONS` for what Numba compiles for GPUs. The
backends make kernels of a row and a function; the public package names operations by their rows,
and derives from them what `warmup` compiles.
"""

from __future__ import annotations

from typing import NamedTuple


class FloatType(NamedTuple):
    """A floating-point dtype of arrays."""

    itemsize: int  # bytes
    computed_in: str  # the dtype's name: its own, or a wider one's


FLOAT_TYPES = {
    "float16": FloatType(2, "float32"),
    "bfloat16": FloatType(2, "float32"),
    "float32": FloatType(4, "float32"),
    "float64": FloatType(8, "float64"),
}

FLOATS = "floats"  # of `FLOAT_TYPES`
MOVED = "moved"  # any, by their size in bytes: they are only moved
BOOLS = "bools"  # decisions, a byte each; nothing is read
BITS = "bits"  # decisions, eight to a byte; nothing is read
SIZES = (1, 2, 4, 8, 16)  # bytes of elements that can be moved


class Row(NamedTuple):
    """An operation of the family."""

    functor: str  # of CUDA C++
    elements: str  # of x and y
    parameters: int = 1  # numbers for all elements, side by side in memory
    # Whether it needs the element's 32-bit uniform, and not only whether the element is kept.
    needs_uniform: bool = False
    # Arrays that are read beside x, of its dtype. One that `variant` names may be missing.
    operands: tuple[str, ...] = ()
    # What else an operation depends on: an activation, and which operands are there.
    variant: tuple[str, ...] = ()
    # Whether elements may have a p of their own; and whether its parameter is a factor of kept
    # elements, which then is 1 / (1 - p) unless it is given.
    takes_p_array: bool = False
    is_scaled: bool = False

    def present(self, variant: tuple[object, ...]) -> tuple[str, ...]:
        """Return the operands that are there."""
        given = dict(zip(self.variant, variant, strict=True))
        return tuple([name for name in self.operands if given.get(name, True)])


CATALOGUE: dict[str, Row] = {
    # y = x * scale where kept, +0.0 where dropped
    "drop": Row("Drop", FLOATS, takes_p_array=True, is_scaled=True),
    # y = x where kept, the value where dropped
    "fill": Row("Fill", MOVED, takes_p_array=True),
    # y = x * a + b where kept, c where dropped
    "alpha": Row("Alpha", FLOATS, parameters=3),
    # y = x * (1 + deviation * z), z an element's standard normal
    "gaussian_drop": Row("GaussianDrop", FLOATS, needs_uniform=True),
    # y = x + deviation * z
    "gaussian_add": Row("GaussianAdd", FLOATS, needs_uniform=True),
    # y = 1 where kept, 0 where dropped
    "mark": Row("Mark", BOOLS, takes_p_array=True),
    "pack": Row("Mark", BITS, takes_p_array=True),
    # y = x where kept, h_prev where dropped; or their mean, by p and 1 - p
    "zoneout": Row("Zoneout", FLOATS, parameters=2, operands=("h_prev",), variant=("mean",)),
    # y = act(x + bias) * scale + residual where kept, 0.0 + residual where dropped
    "bias_act_drop": Row(
        "BiasActDrop",
        FLOATS,
        operands=("bias", "residual"),
        variant=("act", "bias", "residual"),
    ),
    # its gradient by x, given that of its result as x; the operand x is the forward's
    "bias_act_drop_backward": Row(
        "BiasActDropBackward", FLOATS, operands=("x", "bias"), variant=("act", "bias")
    ),
}
ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh")
