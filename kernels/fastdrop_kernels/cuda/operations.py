"""Operations: the C++ functor, storage type and operands of each; operations.cuh implements them.

The driver looks operations up here, and `launch` reads their storage types.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

from .modules import ANY, FLAT, SCHEDULES, Module


class Storage(NamedTuple):
    """A storage type of storage.cuh."""

    name: str
    itemsize: int  # bytes of a unit: of an element, or of 8 packed ones
    group: int  # elements of the widest store
    per_unit: int = 1  # elements of a unit, the least that can be stored


FLOAT16 = Storage("Float16", 2, 8)
BFLOAT16 = Storage("Bfloat16", 2, 8)
FLOAT32 = Storage("Float32", 4, 4)
FLOAT64 = Storage("Float64", 8, 2)
BOOL = Storage("Bool", 1, 16)
PACKED = Storage("Packed", 1, 32, 8)
RAW = {size: Storage(f"Raw<{size}>", size, 16 // size) for size in (1, 2, 4, 8, 16)}


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

    @functools.cached_property
    def module(self) -> Module:
        """The operation's kernels."""
        schedules = SCHEDULES if self.storage.per_unit == 1 else (FLAT, ANY)
        arguments = ", ".join((f"fastdrop::{self.storage.name}", *self.arguments))
        functor = f"fastdrop::{self.functor}<{arguments}>"
        # Registers must hold the groups in flight of all operands.
        loaded = self.storage.group * sum(operand.itemsize for operand in self.operands)
        divisor = 1 if loaded <= 32 else 2 if loaded <= 128 else 4
        return Module(self.name, functor, schedules, divisor, self.definition)


def drop(name: str, storage: Storage) -> Operation:
    """Dropout: kept elements times the parameter, dropped ones +0.0."""
    return Operation(f"drop_{name}", "Drop", storage, (storage,))


def drop_each(name: str, storage: Storage) -> Operation:
    """Dropout with per-element thresholds and factors; an infinite factor drops."""
    factor = FLOAT64 if storage is FLOAT64 else FLOAT32
    operands = storage, RAW[4], factor
    arguments = (f"fastdrop::{factor.name}",)
    return Operation(
        f"drop_each_{name}", "DropEach", storage, operands, per_element=True, arguments=arguments
    )


ACTIVATIONS = {
    "identity": "Identity",
    "relu": "Relu",
    "gelu": "Gelu",
    "gelu_tanh": "GeluTanh",
    "silu": "Silu",
    "tanh": "Tanh",
}


def _has(**parts: bool) -> str:
    return "".join(f"{part}_" for part, there in parts.items() if there)


@functools.cache
def bias_act_drop(name: str, act: str, bias: bool, residual: bool) -> Operation:
    """Dropout of ``act(x + bias)``, plus a residual; bias and residual are optional."""
    storage = FLOATS[name]
    parts = _has(bias=bias, residual=residual)
    arguments = f"fastdrop::{ACTIVATIONS[act]}", f"{bias:d}", f"{residual:d}"
    operands = (storage,) * (1 + bias + residual)
    return Operation(
        f"{act}_{parts}drop_{name}", "BiasActDrop", storage, operands, arguments=arguments
    )


@functools.cache
def bias_act_drop_backward(name: str, act: str, bias: bool) -> Operation:
    """Its gradient with respect to x. The operands are dy, x, and the optional bias."""
    storage = FLOATS[name]
    arguments = f"fastdrop::{ACTIVATIONS[act]}", f"{bias:d}"
    operands = (storage,) * (2 + bias)
    full_name = f"{act}_{_has(bias=bias)}drop_backward_{name}"
    return Operation(full_name, "BiasActDropBackward", storage, operands, arguments=arguments)


def alpha(name: str, storage: Storage) -> Operation:
    """Alpha dropout: ``a * x + b`` where kept, ``c`` where dropped; the parameters are a, b, c."""
    return Operation(f"alpha_{name}", "Alpha", storage, (storage,))


def gaussian_drop(name: str, storage: Storage) -> Operation:
    """Gaussian dropout: x times normals of mean 1; the parameter is their standard deviation."""
    return Operation(
        f"gaussian_drop_{name}", "GaussianDrop", storage, (storage,), needs_uniform=True
    )


def gaussian_add(name: str, storage: Storage) -> Operation:
    """Gaussian noise: x plus normals of mean 0; the parameter is their standard deviation."""
    return Operation(f"gaussian_add_{name}", "GaussianAdd", storage, (storage,), needs_uniform=True)


def fill(storage: Storage) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""
    return Operation(f"fill_{storage.itemsize}", "Fill", storage, (storage,))


def fill_each(storage: Storage) -> Operation:
    """Masked fill with per-element 64-bit thresholds; ``2**32`` always drops."""
    return Operation(
        f"fill_each_{storage.itemsize}", "FillEach", storage, (storage, RAW[8]), per_element=True
    )


def mark() -> Operation:
    """Keep mask: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", "Mark", BOOL, ())


def mark_each() -> Operation:
    """Keep mask with per-element 64-bit thresholds, which are the only input."""
    return Operation("mark_each", "MarkEach", BOOL, (RAW[8],), per_element=True)


def pack() -> Operation:
    """Packed keep mask, eight elements per byte."""
    return Operation("pack", "Mark", PACKED, ())


FLOATS = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "float64": FLOAT64}
DROPS = {name: drop(name, storage) for name, storage in FLOATS.items()}
DROPS_EACH = {name: drop_each(name, storage) for name, storage in FLOATS.items()}
ALPHAS = {name: alpha(name, storage) for name, storage in FLOATS.items()}
GAUSSIAN_DROPS = {name: gaussian_drop(name, storage) for name, storage in FLOATS.items()}
GAUSSIAN_ADDS = {name: gaussian_add(name, storage) for name, storage in FLOATS.items()}
FILLS = {size: fill(storage) for size, storage in RAW.items()}
FILLS_EACH = {size: fill_each(storage) for size, storage in RAW.items()}
MARK = mark()
MARK_EACH = mark_each()
PACK = pack()
_ALL = (DROPS, DROPS_EACH, ALPHAS, GAUSSIAN_DROPS, GAUSSIAN_ADDS, FILLS, FILLS_EACH)
EVERY = (*(each for family in _ALL for each in family.values()), MARK, MARK_EACH, PACK)
