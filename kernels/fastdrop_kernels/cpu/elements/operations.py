"""Operations: what an element becomes, depending on whether it is kept.

An operation has traced functions for kept and dropped elements, of x and of parameters in memory,
and the storage types of input and output. The storage type selects one result, before or after
rounding. Nothing is multiplied by the mask, so a NaN or an infinity in a dropped place is not in
the output. `host.catalogue` makes operations of `FUNCTIONS`; all of them share the loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..codegen.vectors import FLOAT, I32, Lanes
from .math import standard_normal
from .storage import BITS, MOVED, NOTHING, Storage

# (x, *parameters) -> y, traced. A plain 0 is all bits 0 in every storage type, which is +0.0.
Becomes: TypeAlias = Callable[..., Lanes | int]


def _itself(x: Lanes, *parameters: Lanes) -> Lanes:
    return x


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """An operation on elements, for which kernels are compiled."""

    name: str
    source: Storage  # how x is read
    target: Storage  # how y is written
    kept: Callable[..., Lanes]
    dropped: Becomes
    numbers: int = 1  # of parameters, adjacent in memory
    # Whether it needs the element's 32-bit uniform, and not only a decision. Then nothing is
    # dropped, and `kept` gets ``of_uniform(uniform)``, 32 bits, after x. That is computed where
    # uniforms are drawn, so only once for all elements that share one.
    needs_uniform: bool = False
    of_uniform: Callable[[Lanes], Lanes] = _itself
    # Storage types of further inputs. Their elements are passed to `kept` and `dropped` after x
    # (and ``of_uniform(uniform)``) and before the parameters.
    operands: tuple[Storage, ...] = ()
    # Storage type of the factor of kept elements, if the parameter is one. With per-element p, each
    # element may have a factor of its own (see `threshold_streams`).
    factor: Storage | None = None

    # Whether contiguous arrays are processed in one loop with the draws, and not by way of the mask
    # buffer, if there are operands.
    in_registers: bool = False

    def parameters(self, builder: Any, pointer: Any) -> list[Lanes]:
        """Load the parameters, in the compute type."""
        return [self.source.load_value(builder, pointer, k) for k in range(self.numbers)]


def _scaled(x: Lanes, scale: Lanes) -> Lanes:
    return x * scale


def _zero(x: Lanes, *parameters: Lanes) -> int:
    return 0


def _filling(x: Lanes, value: Lanes) -> Lanes:
    return value


def _operand(x: Lanes, operand: Lanes) -> Lanes:
    return operand


def _affine(x: Lanes, a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    return x * a + b


def _third(x: Lanes, a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    return c


def _normal_bits(u: Lanes) -> Lanes:
    return standard_normal(u).bitcast(I32)


def _times_normal(x: Lanes, bits: Lanes, deviation: Lanes) -> Lanes:
    return x * (_normal(x, bits) * deviation + 1.0)


def _plus_normal(x: Lanes, bits: Lanes, deviation: Lanes) -> Lanes:
    return x + _normal(x, bits) * deviation


def _normal(x: Lanes, bits: Lanes) -> Lanes:
    return _like(x, bits.bitcast(FLOAT))


def _like(x: Lanes, number: Lanes) -> Lanes:
    return number if number.element == x.element else number.convert(x.element)


def _uniform_itself(x: Lanes, bits: Lanes) -> Lanes:
    return bits


def _previous(x: Lanes, h_prev: Lanes, p: Lanes, q: Lanes) -> Lanes:
    return h_prev


def _mean(x: Lanes, h_prev: Lanes, p: Lanes, q: Lanes) -> Lanes:
    return h_prev * p + x * q


class Function(NamedTuple):
    """The functions of an operation, ``(x, *parameters) -> y``; see `Operation`."""

    kept: Callable[..., Lanes]
    dropped: Becomes = _zero
    of_uniform: Callable[[Lanes], Lanes] = _itself


# Keys are the names of rows in `fastdrop_kernels.catalogue`.
FUNCTIONS: dict[str, Function | Callable[..., Function]] = {
    "drop": Function(_scaled),
    "fill": Function(_itself, _filling),
    "fill_from": Function(_itself, _operand),
    "alpha": Function(_affine, _third),
    "gaussian_drop": Function(_times_normal, of_uniform=_normal_bits),
    "gaussian_add": Function(_plus_normal, of_uniform=_normal_bits),
    "zoneout": lambda mean: Function(_mean if mean else _itself, _previous),
    "mark": Function(_itself, _itself),
    "pack": Function(_itself, _itself),
}


# Keep bits, eight to a byte: for packed masks, and for the mask buffer.
PACK = Operation("pack", NOTHING, BITS, _itself, _itself)
# Draws ``of_uniform(uniform)`` to memory, 4 bytes per element; keys are `of_uniform`.
_OF_UNIFORM: dict[Callable[[Lanes], Lanes], Operation] = {
    of: Operation(
        name, NOTHING, MOVED[4], _uniform_itself, _zero, 0, needs_uniform=True, of_uniform=of
    )
    for name, of in (("uniforms", _itself), ("normals", _normal_bits))
}

# The uniforms themselves, as uint32.
UNIFORMS = _OF_UNIFORM[_itself]


def buffer_draw(operation: Operation) -> Operation:
    """Return what draws decisions to memory: keep bits, or results of `of_uniform`."""
    return _OF_UNIFORM[operation.of_uniform] if operation.needs_uniform else PACK
