"""The catalogue: all operations, for the three backends.

A row says what an operation reads, and whether it needs the uniform of an element or only the
decision. The functions that compute results are in `cpu.elements.operations.FUNCTIONS`, in
`numba_cuda.operations.FUNCTIONS` and, as functors, in ``cuda/operations.cuh``. The backends make
kernels of a row and the function of the same name. The public package names operations by their
rows, and derives from them what `warmup` compiles.
"""

from __future__ import annotations

from typing import NamedTuple


class FloatType(NamedTuple):
    """A floating-point dtype of arrays."""

    itemsize: int  # bytes
    computed_in: str  # name of the compute type's dtype


FLOAT_TYPES = {
    "float16": FloatType(2, "float32"),
    "bfloat16": FloatType(2, "float32"),
    "float32": FloatType(4, "float32"),
    "float64": FloatType(8, "float64"),
}

FLOATS = "floats"  # one of `FLOAT_TYPES`
MOVED = "moved"  # any dtype whose size is in `SIZES`: elements are only moved
BOOLS = "bools"  # decisions, one per byte; no input
BITS = "bits"  # decisions, eight to a byte; no input
SIZES = (1, 2, 4, 8, 16)  # bytes of elements that can be moved


class Row(NamedTuple):
    """An operation of the catalogue."""

    functor: str  # its name in CUDA C++
    elements: str  # of x and y: FLOATS, MOVED, BOOLS or BITS
    parameters: int = 1  # numbers for all elements, adjacent in memory
    # Whether it needs the element's 32-bit uniform, and not only whether the element is kept.
    needs_uniform: bool = False
    # Arrays that are read besides x, of its dtype. One that `variant` also names may be missing.
    operands: tuple[str, ...] = ()
    # What else an operation depends on, such as an activation, and which operands are present.
    variant: tuple[str, ...] = ()
    # Whether it supports per-element p; and whether its parameter is a factor of kept elements,
    # which is 1 / (1 - p) unless it is given.
    takes_p_array: bool = False
    is_scaled: bool = False

    def present(self, variant: tuple[object, ...]) -> tuple[str, ...]:
        """Return the operands that are present."""
        given = dict(zip(self.variant, variant, strict=True))
        return tuple([name for name in self.operands if given.get(name, True)])


CATALOGUE: dict[str, Row] = {
    # y = x * scale where kept, +0.0 where dropped
    "drop": Row("Drop", FLOATS, takes_p_array=True, is_scaled=True),
    # y = x where kept, the value where dropped
    "fill": Row("Fill", MOVED, takes_p_array=True),
    # y = x where kept, the value's element where dropped
    "fill_from": Row("FillFrom", MOVED, parameters=0, operands=("value",)),
    # y = x * a + b where kept, c where dropped
    "alpha": Row("Alpha", FLOATS, parameters=3),
    # y = x * (1 + deviation * z), where z is the element's standard normal number
    "gaussian_drop": Row("GaussianDrop", FLOATS, needs_uniform=True),
    # y = x + deviation * z
    "gaussian_add": Row("GaussianAdd", FLOATS, needs_uniform=True),
    # y = 1 where kept, 0 where dropped
    "mark": Row("Mark", BOOLS, takes_p_array=True),
    "pack": Row("Mark", BITS, takes_p_array=True),
    # y = x where kept, h_prev where dropped; with `mean`, h_prev * p + x * (1 - p) where kept
    "zoneout": Row("Zoneout", FLOATS, parameters=2, operands=("h_prev",), variant=("mean",)),
    # y = act(x + bias) * scale + residual where kept, 0.0 + residual where dropped
    "bias_act_drop": Row(
        "BiasActDrop",
        FLOATS,
        operands=("bias", "residual"),
        variant=("act", "bias", "residual"),
    ),
    # the gradient of that by x: its x is the gradient of y, the operand "x" the forward's x
    "bias_act_drop_backward": Row(
        "BiasActDropBackward", FLOATS, operands=("x", "bias"), variant=("act", "bias")
    ),
}
ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh")
