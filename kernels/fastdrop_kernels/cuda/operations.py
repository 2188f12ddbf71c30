"""Operations: which C++ functor, over which storage type. operations.cuh says what they do."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

from .modules import ANY, FLAT, FORMS, Module


class Storage(NamedTuple):
    """What of a storage type of storage.cuh is known here."""

    name: str
    itemsize: int  # bytes that a step along contiguous elements takes, or of 8 packed ones
    group: int  # elements that are written at once where memory is contiguous
    together: int = 1  # elements that cannot be written one by one


FLOAT16 = Storage("Float16", 2, 8)
BFLOAT16 = Storage("Bfloat16", 2, 8)
FLOAT32 = Storage("Float32", 4, 4)
FLOAT64 = Storage("Float64", 8, 2)
BOOL = Storage("Bool", 1, 16)
PACKED = Storage("Packed", 1, 32, 8)
MOVED = {size: Storage(f"Moved<{size}>", size, 16 // size) for size in (1, 2, 4, 8, 16)}


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """One member of the kernel family."""

    name: str
    functor: str  # a C++ template over the storage type
    storage: Storage  # of what is written
    operands: tuple[Storage, ...]  # of what is read: x, and what belongs to its elements
    exact: bool = False  # whether it needs 32-bit uniforms, and not only decisions
    own: bool = False  # whether elements have thresholds of their own, see `Noise`
    arguments: tuple[str, ...] = ()  # more of the template
    definition: str = ""  # of the functor, where the headers have none

    @functools.cached_property
    def module(self) -> Module:
        """The operation's kernels."""
        forms = FORMS if self.storage.together == 1 else (FLAT, ANY)
        arguments = ", ".join((f"fastdrop::{self.storage.name}", *self.arguments))
        functor = f"fastdrop::{self.functor}<{arguments}>"
        # Registers must hold the groups of all operands.
        loaded = self.storage.group * sum(operand.itemsize for operand in self.operands)
        share = 1 if loaded <= 32 else 2 if loaded <= 128 else 4
        return Module(self.name, functor, forms, share, self.definition)


def drop(name: str, storage: Storage) -> Operation:
    """Dropout: kept elements times the parameter, dropped ones +0.0."""
    return Operation(f"drop_{name}", "Drop", storage, (storage,))


def drop_each(name: str, storage: Storage) -> Operation:
    """Dropout by the elements' own thresholds and factors; an infinite factor drops."""
    factor = FLOAT64 if storage is FLOAT64 else FLOAT32
    operands = storage, MOVED[4], factor
    arguments = (f"fastdrop::{factor.name}",)
    return Operation(
        f"drop_each_{name}", "DropEach", storage, operands, own=True, arguments=arguments
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
    """Dropout of an activation of x plus a bias, plus a residual: either may be missing."""
    storage = FLOATS[name]
    parts = _has(bias=bias, residual=residual)
    arguments = f"fastdrop::{ACTIVATIONS[act]}", f"{bias:d}", f"{residual:d}"
    operands = (storage,) * (1 + bias + residual)
    named = f"{act}_{parts}drop_{name}"
    return Operation(named, "BiasActDrop", storage, operands, arguments=arguments)


@functools.cache
def bias_act_drop_backward(name: str, act: str, bias: bool) -> Operation:
    """Its gradient by x. The operands are dy, x, and the bias, which may be missing."""
    storage = FLOATS[name]
    arguments = f"fastdrop::{ACTIVATIONS[act]}", f"{bias:d}"
    operands = (storage,) * (2 + bias)
    named = f"{act}_{_has(bias=bias)}drop_backward_{name}"
    return Operation(named, "BiasActDropBackward", storage, operands, arguments=arguments)


def alpha(name: str, storage: Storage) -> Operation:
    """Alpha dropout: kept elements times a parameter plus another, dropped ones a third."""
    return Operation(f"alpha_{name}", "Alpha", storage, (storage,))


def gaussian_drop(name: str, storage: Storage) -> Operation:
    """Gaussian dropout: elements times normals of mean 1, whose deviation is the parameter."""
    return Operation(f"gaussian_drop_{name}", "GaussianDrop", storage, (storage,), exact=True)


def gaussian_add(name: str, storage: Storage) -> Operation:
    """Gaussian noise: elements plus normals of mean 0, whose deviation is the parameter."""
    return Operation(f"gaussian_add_{name}", "GaussianAdd", storage, (storage,), exact=True)


def fill(storage: Storage) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""
    return Operation(f"fill_{storage.itemsize}", "Fill", storage, (storage,))


def fill_each(storage: Storage) -> Operation:
    """Masked fill by the elements' own thresholds, of 64 bits: ``2**32`` drops."""
    return Operation(
        f"fill_each_{storage.itemsize}", "FillEach", storage, (storage, MOVED[8]), own=True
    )


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", "Mark", BOOL, ())


def mark_each() -> Operation:
    """Mark an element by a threshold of its own, of 64 bits, which is all that is read."""
    return Operation("mark_each", "MarkEach", BOOL, (MOVED[8],), own=True)


def pack() -> Operation:
    """Mark as `mark` does, eight elements to a byte."""
    return Operation("pack", "Mark", PACKED, ())


FLOATS = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "float64": FLOAT64}
DROPS = {name: drop(name, storage) for name, storage in FLOATS.items()}
DROPS_EACH = {name: drop_each(name, storage) for name, storage in FLOATS.items()}
ALPHAS = {name: alpha(name, storage) for name, storage in FLOATS.items()}
GAUSSIAN_DROPS = {name: gaussian_drop(name, storage) for name, storage in FLOATS.items()}
GAUSSIAN_ADDS = {name: gaussian_add(name, storage) for name, storage in FLOATS.items()}
FILLS = {size: fill(storage) for size, storage in MOVED.items()}
FILLS_EACH = {size: fill_each(storage) for size, storage in MOVED.items()}
MARK = mark()
MARK_EACH = mark_each()
PACK = pack()
_ALL = (DROPS, DROPS_EACH, ALPHAS, GAUSSIAN_DROPS, GAUSSIAN_ADDS, FILLS, FILLS_EACH)
EVERY = (*(each for family in _ALL for each in family.values()), MARK, MARK_EACH, PACK)
