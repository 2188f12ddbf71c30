"""Where arrays lie: the addresses that kernels are given.

A *slot* is the address of a place that holds an array's data pointer. Kernels read the pointer
themselves, because asking NumPy for it costs 1.5 us (``array.ctypes``) or 1.8 us
(``__array_interface__``) of a small call's 3.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

# In CPython an array's id() is the address of NumPy's public C struct PyArrayObject: Python's
# object header, and behind it the fields that every NumPy since 1.7 has there.
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


def _what_it_says(dtype: np.dtype[Any]) -> tuple[int, int]:
    fields = _DtypeFields.from_address(id(dtype) + _HEADER)
    return fields.kind, fields.type_num


def dtype_word(dtype: np.dtype[Any]) -> int:
    """Return the 8 bytes of a dtype that say what it is; equal dtypes may be different objects."""
    return ctypes.c_uint64.from_address(id(dtype) + DTYPE_WORD).value


def _in_object(array: npt.NDArray[Any]) -> int:
    return id(array) + _HEADER


def _reads_right(array: npt.NDArray[Any]) -> bool:
    fields = _Fields.from_address(_in_object(array))
    return (
        fields.data == array.__array_interface__["data"][0]
        and fields.nd == array.ndim
        and tuple(fields.dimensions[: array.ndim]) == array.shape
        and tuple(fields.strides[: array.ndim]) == array.strides
        and fields.descr == id(array.dtype)
        and _what_it_says(array.dtype) == (ord(array.dtype.kind), array.dtype.num)
        and fields.flags == array.flags.num
    )


def _holds() -> bool:
    """Say whether arrays of several kinds are laid out as is said above."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    probe = np.zeros((3, 8))
    frozen = np.ones(5, np.float32)
    frozen.flags.writeable = False
    kinds = (probe, probe[1:, 3:], probe.T, frozen, probe.view(np.uint8), np.array(1.0))
    return all(map(_reads_right, kinds))


LAYOUT_IS_KNOWN = _holds()
# Where, behind the id() of a dtype, the bytes of `dtype_word` lie: kind, type, byte order, flags
# (none in NumPy 2) and number.
DTYPE_WORD = _HEADER + _DtypeFields.kind.offset
# Where, behind the id() of an array, its data pointer lies, the number of its axes, the pointer to
# their lengths, the id() of its dtype, and its flags.
DATA, AXES, LENGTHS, DTYPE, FLAGS = (
    _HEADER + getattr(_Fields, name).offset
    for name in ("data", "nd", "dimensions", "descr", "flags")
)


class _Boxed(int):
    """A slot in memory of its own, which lives as long as the number does."""

    pointer: ctypes.c_void_p


def _in_box(array: npt.NDArray[Any]) -> int:
    pointer = ctypes.c_void_p(array.__array_interface__["data"][0])
    boxed = _Boxed(ctypes.addressof(pointer))
    boxed.pointer = pointer
    return boxed


slot: Callable[[npt.NDArray[Any]], int] = _in_object if LAYOUT_IS_KNOWN else _in_box
slot.__doc__ = "The slot of an array, valid while the array and the number returned are alive."
