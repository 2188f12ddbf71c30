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
    own: bool = False  # whether elements have thresholds of their own: the second operand
    arguments: tuple[str, ...] = ()  # more of the template
    definition: str = ""  # of the functor, where the headers have none

    @functools.cached_property
    def module(self) -> Module:
        """The operation's kernels."""
        forms = FORMS if self.storage.together == 1 else (FLAT, ANY)
        arguments = ", ".join((f"fastdrop::{self.storage.name}", *self.arguments))
        functor = f"fastdrop::{self.functor}<{arguments}>"
        # Four groups of more than 48 bytes are more than registers can hold.
        loaded = self.storage.group * sum(operand.itemsize for operand in self.operands)
        return Module(self.name, functor, forms, 1 if loaded <= 48 else 2, self.definition)


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
def epilogue(name: str, activation: str, bias: bool, residual: bool) -> Operation:
    """Return dropout of an activation of x and a bias, plus a residual, if they are there."""
    storage = FLOATS[name]
    parts = _has(bias=bias, residual=residual)
    return Operation(
        f"epilogue_{activation}_{parts}{name}",
        "Epilogue",
        storage,
        (storage,) * (1 + bias + residual),
        arguments=(f"fastdrop::{ACTIVATIONS[activation]}", f"{bias:d}", f"{residual:d}"),
    )


@functools.cache
def epilogue_backward(name: str, activation: str, bias: bool) -> Operation:
    """Return what gives the gradient of x, of that of y, x and the bias, if it is there."""
    storage = FLOATS[name]
    return Operation(
        f"epilogue_backward_{activation}_{_has(bias=bias)}{name}",
        "EpilogueBackward",
        storage,
        (storage,) * (2 + bias),
        arguments=(f"fastdrop::{ACTIVATIONS[activation]}", f"{bias:d}"),
    )


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


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", "Mark", BOOL, ())


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
MARK = mark()
PACK = pack()
_ALL = (DROPS, DROPS_EACH, ALPHAS, GAUSSIAN_DROPS, GAUSSIAN_ADDS, FILLS)
EVERY = (*(each for family in _ALL for each in family.values()), MARK, PACK)
