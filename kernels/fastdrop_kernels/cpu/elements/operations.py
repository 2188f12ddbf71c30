"""Operations: what becomes of an element once it is decided whether it is kept.

An operation is what a kept element becomes, and what a dropped one, of x and parameters in memory,
and the storage types of its input and output. The storage type selects, before or after it rounds;
nothing is multiplied by the mask, so a NaN or an infinity in a dropped place vanishes. A new
operation is a few lines here; the loops around it are shared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..codegen.vectors import FLOAT, I32, Lanes
from .normal import standard_normal
from .storage import BITS, BOOL, FLOAT32, FLOAT64, MARK, MOVED, NOTHING, Storage

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
    exact: bool = False
    noise: Callable[[Lanes], Lanes] = _itself
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
    return standard_normal(u).seen_as(I32)


def _times_normal(x: Lanes, bits: Lanes, deviation: Lanes) -> Lanes:
    return x * (_normal(x, bits) * deviation + 1.0)


def _plus_normal(x: Lanes, bits: Lanes, deviation: Lanes) -> Lanes:
    return x + _normal(x, bits) * deviation


def _normal(x: Lanes, bits: Lanes) -> Lanes:
    return _like(x, bits.seen_as(FLOAT))


def _like(x: Lanes, number: Lanes) -> Lanes:
    return number if number.element == x.element else number.converted(x.element)


def _second(x: Lanes, noise: Lanes) -> Lanes:
    return noise


def drop(name: str, kind: Storage) -> Operation:
    """Dropout: kept elements times the parameter, dropped ones +0.0."""
    factor = FLOAT64 if kind is FLOAT64 else FLOAT32
    return Operation(f"drop-{name}", kind, kind, _scaled, _zero, factor=factor)


def fill(kind: Storage) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""
    return Operation(f"fill-{kind.itemsize}", kind, kind, _itself, _filling)


def alpha(name: str, kind: Storage) -> Operation:
    """Alpha dropout: kept elements times a parameter plus another, dropped ones a third."""
    return Operation(f"alpha-{name}", kind, kind, _affine, _third, 3)


def gaussian_drop(name: str, kind: Storage) -> Operation:
    """Gaussian dropout: elements times normals of mean 1, whose deviation is the parameter."""
    return _gaussian(f"gaussian-drop-{name}", kind, _times_normal)


def gaussian_add(name: str, kind: Storage) -> Operation:
    """Gaussian noise: elements plus normals of mean 0, whose deviation is the parameter."""
    return _gaussian(f"gaussian-add-{name}", kind, _plus_normal)


def _gaussian(name: str, kind: Storage, kept: Callable[..., Lanes]) -> Operation:
    return Operation(name, kind, kind, kept, _zero, exact=True, noise=_normal_bits)


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", NOTHING, BOOL, _itself, _itself)


@functools.cache  # it draws the mask buffer too
def pack() -> Operation:
    """Mark as `mark` does, eight elements to a byte, in memory that was zero."""
    return Operation("pack", NOTHING, BITS, _itself, _itself)


# The decisions themselves, for loops that come to an element by another way.
MARKS = Operation("marks", NOTHING, MARK, _itself, _itself)
# And the noise of exact operations, 4 bytes each, by what makes it of uniforms.
_NOISES: dict[Callable[[Lanes], Lanes], Operation] = {
    noise: Operation(name, NOTHING, MOVED[4], _second, _zero, 0, exact=True, noise=noise)
    for name, noise in (("uniforms", _itself), ("normals", _normal_bits))
}
UNIFORMS = _NOISES[_itself]


def drawn_for(operation: Operation) -> Operation:
    """Return what draws the noise of an operation to memory, where transposed tiles find it."""
    return _NOISES[operation.noise] if operation.exact else MARKS


def buffered_for(operation: Operation) -> Operation:
    """Return what draws the mask buffer: keep bits, or what exact operations need."""
    return _NOISES[operation.noise] if operation.exact else pack()
