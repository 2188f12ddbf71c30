"""The CPU's operations: a row of `fastdrop_kernels.catalogue`, its function and storage types.

The driver and the public package call `operation` and `per_element` with the names of rows.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ... import catalogue
from ...catalogue import CATALOGUE
from ..elements import activations as activations  # adds to FUNCTIONS
from ..elements import storage
from ..elements.operations import FUNCTIONS, PACK, Function, Operation
from ..elements.storage import Storage

FLOATS: dict[str, Storage] = {
    name: getattr(storage, name.upper()) for name in catalogue.FLOAT_TYPES
}


class PerElement(NamedTuple):
    """An operation with per-element p."""

    operation: Operation
    given: bool  # whether its parameter is given; else it is 1 / (1 - p)


@functools.cache  # dtype.name takes 5 us (Cascade Lake, November 2026)
def operation(name: str, dtype: np.dtype[Any] | None = None, *variant: Any) -> Operation:
    """Return an operation of the catalogue on elements of a dtype.

    Parameters are of the compute type; of elements that are only moved, of their own type.
    """
    if dtype is None:
        return operation_by_name(name, "", 0, *variant)
    return operation_by_name(name, dtype.name, dtype.itemsize, *variant)


@functools.cache
def operation_by_name(name: str, kind: str, itemsize: int, *variant: Any) -> Operation:
    """Return the same as `operation`, for elements of a dtype's name and bytes.

    For bfloat16 elements NumPy has a dtype only if ml_dtypes is installed.
    """
    row = CATALOGUE[name]
    if row.elements == catalogue.BITS:
        return PACK  # the same object that draws the mask buffer
    if row.elements == catalogue.MOVED:
        return of_storage(name, str(itemsize), storage.MOVED[itemsize], variant)
    if row.elements == catalogue.FLOATS:
        return of_storage(name, kind, FLOATS[kind], variant)
    return of_storage(name, "", storage.BOOL)


@functools.cache
def of_storage(name: str, kind: str, target: Storage, variant: tuple[Any, ...] = ()) -> Operation:
    """Return an operation on elements of a storage type; `kind` is part of its name."""
    row, function = CATALOGUE[name], FUNCTIONS[name]
    if not isinstance(function, Function):
        function = function(*variant)
    reads = row.elements in (catalogue.FLOATS, catalogue.MOVED)
    parts = [*map(str, variant), kind]
    return Operation(
        "-".join([name.replace("_", "-"), *filter(None, parts)]),
        target if reads else storage.NOTHING,
        target,
        function.kept,
        function.dropped,
        row.parameters,
        needs_uniform=row.needs_uniform,
        of_uniform=function.of_uniform,
        operands=(target,) * len(row.present(variant)),
        factor=storage.computed_in(target) if row.is_scaled else None,
        in_registers=bool(row.operands) and _is_short(dict(zip(row.variant, variant, strict=True))),
    )


def _is_short(variant: dict[str, Any]) -> bool:
    """Say whether the code of a vector is short: activations are much code, compiled once."""
    return "act" not in variant or (variant["act"] == "identity" and not variant["bias"])


@functools.cache
def per_element(name: str, dtype: np.dtype[Any] | None, given: bool) -> PerElement:
    """Return an operation with per-element p, an operand in float64 or float32.

    If its parameter is a factor, that is the one `given`, or else ``1 / (1 - p)``, rounded once.
    """
    return PerElement(operation(name, dtype), given or not CATALOGUE[name].is_scaled)
