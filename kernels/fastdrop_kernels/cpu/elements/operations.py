"""Operations: what becomes of an element once it is decided whether it is kept.

An operation is what a kept element becomes, and what a dropped one, of x and parameters in memory,
and the storage types of its input and output. The storage type selects, before or after it rounds;
nothing is multiplied by the mask, so a NaN or an infinity in a dropped place vanishes. A new
operation is a few lines here; the loops around it are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..codegen.vectors import FLOAT, I32, Lanes
from .normal import standard_normal
from .storage import BITS, MARK, MOVED, NOTHING, Storage

# (x, *parameters) -> y, traced. A plain 0 is all bits 0 however elements are stored, so +0.0 too.
Becomes: TypeAlias = Callable[..., Lanes | int]


def _itself(x: Lanes, *parameters: Lanes) -> Lanes:
    return x


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """One member of the kernel family."""

    name: str
    source: Storage  # how x is read
    target: Storage  # how y is written
    kept: Callable[..., Lanes]
    dropped: Becomes
    numbers: int = 1  # of parameters, side by side in memory
    # Whether it needs the element's 32-bit uniform, and not only a decision. Then nothing is
    # dropped, and `kept` gets, behind x, what `noise` makes of the uniform: 32 bits again, made
    # where they are drawn, and so once for all elements that share them.
    needs_uniform: bool = False
    of_uniform: Callable[[Lanes], Lanes] = _itself
    # What else is read of every element: how it is stored. It is given to `kept` and `dropped`
    # behind x (and the noise), in front of the parameters.
    operands: tuple[Storage, ...] = ()
    # How factors of kept elements are stored, if the parameter is one: then a stream may give
    # every element its own (see `threshold_streams`).
    factor: Storage | None = None

    def parameters(self, builder: Any, pointer: Any) -> list[Lanes]:
        """Load the parameters, as they are computed with."""
        return [self.source.load_value(builder, pointer, k) for k in range(self.numbers)]


def _scaled(x: Lanes, scale: Lanes) -> Lanes:
    return x * scale


def _zero(x: Lanes, *parameters: Lanes) -> int:
    return 0


def _filling(x: Lanes, value: Lanes) -> Lanes:
    return value


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


def _second(x: Lanes, noise: Lanes) -> Lanes:
    return noise


def _previous(x: Lanes, h_prev: Lanes, p: Lanes, q: Lanes) -> Lanes:
    return h_prev


def _mean(x: Lanes, h_prev: Lanes, p: Lanes, q: Lanes) -> Lanes:
    return h_prev * p + x * q


class Function(NamedTuple):
    """What becomes of an element, ``(x, *parameters) -> y``; see `Operation` for the rest."""

    kept: Callable[..., Lanes]
    dropped: Becomes = _zero
    of_uniform: Callable[[Lanes], Lanes] = _itself


# By the names of `fastdrop_kernels.catalogue`.
FUNCTIONS: dict[str, Function | Callable[..., Function]] = {
    "drop": Function(_scaled),
    "fill": Function(_itself, _filling),
    "alpha": Function(_affine, _third),
    "gaussian_drop": Function(_times_normal, of_uniform=_normal_bits),
    "gaussian_add": Function(_plus_normal, of_uniform=_normal_bits),
    "zoneout": lambda mean: Function(_mean if mean else _itself, _previous),
    "mark": Function(_itself, _itself),
    "pack": Function(_itself, _itself),
}


# Keep bits, eight to a byte: a mask that is packed, and what the mask buffer holds.
PACK = Operation("pack", NOTHING, BITS, _itself, _itself)
# The decisions themselves, for loops that come to an element by another way.
MARKS = Operation("marks", NOTHING, MARK, _itself, _itself)
# And the noise of exact operations, 4 bytes each, by what makes it of uniforms.
_OF_UNIFORM: dict[Callable[[Lanes], Lanes], Operation] = {
    noise: Operation(
        name, NOTHING, MOVED[4], _second, _zero, 0, needs_uniform=True, of_uniform=noise
    )
    for name, noise in (("uniforms", _itself), ("normals", _normal_bits))
}


def micro_tile_draw(operation: Operation) -> Operation:
    """Return what draws the noise of an operation to memory, where transposed tiles find it."""
    return _OF_UNIFORM[operation.of_uniform] if operation.needs_uniform else MARKS


def buffer_draw(operation: Operation) -> Operation:
    """Return what draws the mask buffer: keep bits, or what exact operations need."""
    return _OF_UNIFORM[operation.of_uniform] if operation.needs_uniform else PACK
