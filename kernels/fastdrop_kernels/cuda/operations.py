"""Operations: rows of the catalogue, their C++ functors and storage types.

operations.cuh implements the functors. The driver looks operations up here, and `launch` reads
their storage types.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import catalogue
from ..catalogue import CATALOGUE, Row
from .modules import ANY, CONTIGUOUS, SCHEDULES, Module


class Storage(NamedTuple):
    """A storage type of storage.cuh."""

    name: str
    itemsize: int  # bytes of a unit: of an element, or of 8 packed ones
    group: int  # elements of the widest store
    per_unit: int = 1  # elements of a unit, the least that can be stored


FLOATS = {
    name: Storage(name.capitalize(), kind.itemsize, 16 // kind.itemsize)
    for name, kind in catalogue.FLOAT_TYPES.items()
}
BOOL = Storage("Bool", 1, 16)
PACKED = Storage("Packed", 1, 32, 8)
RAW = {size: Storage(f"Raw<{size}>", size, 16 // size) for size in catalogue.SIZES}


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, which is fast
class Operation:
    """An element-wise operation."""

    name: str
    functor: str  # a C++ template over the storage type
    storage: Storage  # of the output
    operands: tuple[Storage, ...]  # of the inputs: x, and further operands
    needs_uniform: bool = False  # whether it reads 32-bit uniforms, not only decisions
    per_element: bool = False  # whether elements have their own thresholds, see `Uniforms`
    arguments: tuple[str, ...] = ()  # further template arguments
    definition: str = ""  # of the functor, if the headers have none

    # Not a cached_property: Python 3.11's has a lock, which a fork may leave locked in the child.
    @property
    @functools.cache  # noqa: B019  # operations stay, too
    def module(self) -> Module:
        """The operation's kernels."""
        schedules = SCHEDULES if self.storage.per_unit == 1 else (CONTIGUOUS, ANY)
        arguments = ", ".join((f"fastdrop::{self.storage.name}", *self.arguments))
        functor = f"fastdrop::{self.functor}<{arguments}>"
        # Registers must hold the groups in flight of all operands.
        loaded = self.storage.group * sum(operand.itemsize for operand in self.operands)
        divisor = 1 if loaded <= 32 else 2 if loaded <= 128 else 4
        return Module(self.name, functor, schedules, divisor, self.definition)


_ACTIVATION_FUNCTORS = {
    act: "".join(word.capitalize() for word in act.split("_")) for act in catalogue.ACTIVATIONS
}


@functools.lru_cache(maxsize=256)  # a dtype takes 2 us to say its name
def operation(name: str, dtype: np.dtype[Any] | None = None, *variant: Any) -> Operation:
    """Return an operation of the catalogue on elements of a dtype.

    Parameters are of the type that elements are computed in; of moved ones, of their own.
    """
    elements = CATALOGUE[name].elements
    if elements in (catalogue.FLOATS, catalogue.MOVED):
        assert dtype is not None
        moved = elements == catalogue.MOVED
        return of_elements(name, str(dtype.itemsize) if moved else dtype.name, *variant)
    return of_elements(name, "")


@functools.cache
def of_elements(name: str, elements: str, *variant: Any) -> Operation:
    """Return an operation on elements of a dtype's name, or of so many bytes."""
    row = CATALOGUE[name]
    storage = _storage(row, elements)
    operands = (storage,) * (1 + len(row.present(variant)))
    if not elements:
        operands = ()
    arguments = [
        f"fastdrop::{_ACTIVATION_FUNCTORS[value]}" if isinstance(value, str) else f"{value:d}"
        for value in variant
    ]
    named = "_".join(filter(None, (*_words(row, variant), name, elements)))
    return Operation(
        named, row.functor, storage, operands, row.needs_uniform, arguments=tuple(arguments)
    )


def _storage(row: Row, elements: str) -> Storage:
    if row.elements == catalogue.FLOATS:
        return FLOATS[elements]
    if row.elements == catalogue.MOVED:
        return RAW[int(elements)]
    return PACKED if row.elements == catalogue.BITS else BOOL


def _words(row: Row, variant: tuple[Any, ...]) -> list[str]:
    """Return what a variant adds to a name: its activation, and the operands that are there."""
    return [value for value in variant if isinstance(value, str)] + [
        part for part, there in zip(row.variant, variant, strict=True) if there is True
    ]


@functools.lru_cache(maxsize=64)
def per_element(name: str, dtype: np.dtype[Any] | None, given: bool = False) -> Operation:
    """Return an operation by a threshold of each element, the first operand behind x.

    If its parameter is a factor, thresholds are uint32, and factors are operands, too, of the type
    that elements are computed in: an infinite one drops its element, for which the threshold would
    be ``2**32``. Others have thresholds of 64 bits.
    """
    return _per_element(name, operation(name, dtype))


@functools.cache
def _per_element(name: str, plain: Operation) -> Operation:
    row = CATALOGUE[name]
    arguments: tuple[str, ...] = ()
    own: tuple[Storage, ...] = (RAW[8],)
    if row.is_scaled:
        (own_name,) = (name for name, kind in FLOATS.items() if kind is plain.storage)
        factor = FLOATS[catalogue.FLOAT_TYPES[own_name].computed_in]
        arguments, own = (f"fastdrop::{factor.name}",), (RAW[4], factor)
    named = plain.name.replace(name, f"{name}_each", 1)
    operands = (*plain.operands, *own)
    return Operation(
        named, f"{row.functor}Each", plain.storage, operands, per_element=True, arguments=arguments
    )


@functools.cache
def family(name: str) -> dict[str, Operation]:
    """Return an operation on all elements that it takes, by what `of_elements` calls them."""
    kinds = {catalogue.FLOATS: tuple(FLOATS), catalogue.MOVED: tuple(map(str, RAW))}
    elements = kinds.get(CATALOGUE[name].elements, ("",))
    return {each: of_elements(name, each) for each in elements}


_PLAIN = [name for name, row in CATALOGUE.items() if not row.variant]
_BY_P = [name for name in _PLAIN if CATALOGUE[name].takes_p_array and name != "pack"]
EVERY = (
    *(each for name in _PLAIN for each in family(name).values()),
    *(_per_element(name, each) for name in _BY_P for each in family(name).values()),
)
PACK = of_elements("pack", "")
