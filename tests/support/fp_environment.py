"""Reading and setting the floating-point environment of a thread, by instructions of our own.

C's ``fesetenv`` does not set all of FPCR, and torch knows of flushing only. For Linux, on x86-64
and AArch64.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MACHINE = platform.machine().lower()
IS_ARM = _MACHINE in ("aarch64", "arm64")
IS_KNOWN = sys.platform == "linux" and (IS_ARM or _MACHINE == "x86_64")

# Names of settings, and the value of MXCSR or FPCR. Rounding up, down and to zero.
SETTINGS: dict[str, int] = (
    {
        "flush to zero": 1 << 24,
        "flush float16 to zero": 1 << 19,
        "default NaN": 1 << 25,
        "alternative half precision": 1 << 26,
        "upwards": 1 << 22,
        "downwards": 2 << 22,
        "towards zero": 3 << 22,
    }
    if IS_ARM
    else {
        "flush to zero": 0x1F80 | 1 << 15,
        "subnormals are zero": 0x1F80 | 1 << 6,
        "downwards": 0x1F80 | 1 << 13,
        "upwards": 0x1F80 | 2 << 13,
        "towards zero": 0x1F80 | 3 << 13,
    }
)
_DEFAULT = 0 if IS_ARM else 0x1F80
_FLAGS = 0 if IS_ARM else 0x3F  # of MXCSR: what happened, not what is set
# Machine code of a C function that stores the register at an address, and of one that loads it:
# mrs x1, fpcr; str w1, [x0]; ret and ldr w1, [x0]; msr fpcr, x1; ret, or stmxcsr [rdi]; ret and
# ldmxcsr [rdi]; ret.
_READ, _WRITE = (
    ("01443bd5010000b9c0035fd6", "010040b901441bd5c0035fd6") if IS_ARM else ("0fae1fc3", "0fae17c3")
)


def _function(code: str) -> Any:
    if sys.platform == "win32":
        raise OSError("memory is mapped otherwise on Windows")
    else:  # noqa: RET506  # for mypy, which takes what follows a raise for unreachable
        rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=rights)
        memory.write(bytes.fromhex(code))
        _alive.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


_alive: list[mmap.mmap] = []
_word = ctypes.c_uint32()


@functools.cache
def _functions() -> tuple[Any, Any]:
    return _function(_READ), _function(_WRITE)


def read() -> int:
    """Return the control bits of the thread's register."""
    _functions()[0](ctypes.addressof(_word))
    return _word.value & ~_FLAGS


def write(value: int) -> None:
    """Set the thread's register."""
    _word.value = value
    _functions()[1](ctypes.addressof(_word))


@contextmanager
def environment(value: int) -> Iterator[None]:
    """Set the thread's register, and check at the end that it is still set; restore the default."""
    assert read() == _DEFAULT
    write(value)
    try:
        yield
        found = read()
    finally:
        write(_DEFAULT)
    assert found == value, f"{found:#x} is set, and was {value:#x}"
