"""The memory layout of NumPy's array objects, from which kernels read data pointers and shapes.

A *slot* is the address of the memory that holds an array's data pointer, usually a field of the
array object itself. Kernels read the pointer there, because getting it in Python takes 1.5 us
(``array.ctypes``) or 1.8 us (``__array_interface__``) of a small call's 3 us (November 2026). Host
code calls `slot`, and the compiled fast path uses the field offsets.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# In CPython, id(array) is the address of NumPy's public C struct PyArrayObject: Python's object
# header, followed by these fields in every NumPy since 1.7.
_HEADER = object.__basicsize__


class _Fields(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("nd", ctypes.c_int),
        ("dimensions", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("base", ctypes.c_void_p),
        ("descr", ctypes.c_void_p),
        ("flags", ctypes.c_int),
    ]


class _DtypeFields(ctypes.Structure):
    _fields_ = [
        ("typeobj", ctypes.c_void_p),
        ("kind", ctypes.c_ubyte),
        ("type", ctypes.c_ubyte),
        ("byteorder", ctypes.c_ubyte),
        ("flags", ctypes.c_ubyte),
        ("type_num", ctypes.c_int),
    ]


def _kind_and_number(dtype: np.dtype[Any]) -> tuple[int, int]:
    fields = _DtypeFields.from_address(id(dtype) + _HEADER)
    return fields.kind, fields.type_num


def dtype_word(dtype: np.dtype[Any]) -> int:
    """Return the 8 bytes that identify a dtype; equal dtypes may be different objects."""
    return ctypes.c_uint64.from_address(id(dtype) + DTYPE_WORD).value


def _in_object(array: npt.NDArray[Any]) -> int:
    return id(array) + _HEADER


def _matches(array: npt.NDArray[Any]) -> bool:
    fields = _Fields.from_address(_in_object(array))
    return (
        fields.data == array.__array_interface__["data"][0]
        and fields.nd == array.ndim
        and tuple(fields.dimensions[: array.ndim]) == array.shape
        and tuple(fields.strides[: array.ndim]) == array.strides
        and fields.descr == id(array.dtype)
        and _kind_and_number(array.dtype) == (ord(array.dtype.kind), array.dtype.num)
        and fields.flags == array.flags.num
    )


def _verify_layout() -> bool:
    """Return whether several different arrays have the layout described above."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    probe = np.zeros((3, 8))
    frozen = np.ones(5, np.float32)
    frozen.flags.writeable = False
    arrays = (probe, probe[1:, 3:], probe.T, frozen, probe.view(np.uint8), np.array(1.0))
    return all(map(_matches, arrays))


LAYOUT_IS_KNOWN = _verify_layout()
# Offset from id(dtype) of the bytes of `dtype_word`: kind, type, byte order, flags (unused in
# NumPy 2) and type number.
DTYPE_WORD = _HEADER + _DtypeFields.kind.offset
# Offsets from id(array) of the data pointer, the number of axes, the pointer to the shape, the id()
# of the dtype, and the flags.
DATA, AXES, LENGTHS, DTYPE, FLAGS = (
    _HEADER + getattr(_Fields, name).offset
    for name in ("data", "nd", "dimensions", "descr", "flags")
)


class _OwnedSlot(int):
    """A slot in memory that this integer object owns."""

    pointer: ctypes.c_void_p


def _new_slot(array: npt.NDArray[Any]) -> int:
    pointer = ctypes.c_void_p(array.__array_interface__["data"][0])
    owned = _OwnedSlot(ctypes.addressof(pointer))
    owned.pointer = pointer
    return owned


slot: Callable[[npt.NDArray[Any]], int] = _in_object if LAYOUT_IS_KNOWN else _new_slot
slot.__doc__ = "Return an array's slot, valid while the array and the returned object are alive."
