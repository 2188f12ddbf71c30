"""Launches of the functions on batches: modules of their sources, and the bytes of the argument.

The files beside it call `batch_module` and `run_rows`, which launches on CuPy's current stream.
batch.cuh explains the fields.
"""

from __future__ import annotations

import functools
import importlib
import struct
from collections.abc import Sequence

from ...rows import Rows
from .. import driver
from ..driver import Array
from ..launch import Launch
from ..modules import THREADS, Module, source_file
from . import FAMILIES

ARRAYS, WORDS = 8, 16  # at most, as in batch.cuh
ARGUMENT = struct.Struct(f"<{ARRAYS}Q 10Q {WORDS}Q")


@functools.cache
def _text(name: str) -> str:
    return source_file(f"{name}.cuh", __name__.rpartition(".")[0])


def batch_module(name: str, kernels: Sequence[tuple[str, str]]) -> Module:
    """Return the module of a file ``{name}.cuh``.

    `kernels` are names, and the function of the namespace that each calls with the argument.
    """
    others = tuple(
        (kernel, f"FASTDROP_BATCH_KERNEL({kernel}, {body})\n") for kernel, body in kernels
    )
    return Module(f"batch_{name}", definition=_text("batch") + _text(name), others=others)


def modules() -> list[Module]:
    """Return the modules of all families."""
    package = __package__
    return [importlib.import_module(f"{package}.{name}").module() for name in FAMILIES]


def run_rows(
    module: Module,
    kernel: str,
    threads: int,
    rows: Rows,
    arrays: Sequence[Array],
    seed: int,
    stream: int,
    words: Sequence[int] = (),
    key_pointer: int | None = None,
) -> None:
    """Launch a kernel.

    Parameters
    ----------
    module, kernel
        Of `batch_module`, and the kernel's name.
    threads : int
        How many threads the kernel needs; they are rounded up to blocks of `THREADS`.
    rows : Rows
        The rows; their table, if there is one, is in device memory.
    arrays : sequence of array
        Those whose addresses the kernel gets.
    seed, stream : int
        The key of all rows, unless they have their own.
    words : sequence of int
        What else the kernel gets, modulo ``2**64``.
    key_pointer : int, optional
        Address of seed and stream in device memory, to be used instead.
    """
    if not rows.number or not threads:
        return
    launcher = driver.current()
    addresses = [launcher.address(array) for array in arrays]
    table = 0 if rows.table is None else launcher.address(rows.table)
    argument = ARGUMENT.pack(
        *addresses,
        *[0] * (ARRAYS - len(addresses)),
        *(seed, stream, key_pointer or 0),
        *(table, int(rows.has_keys)),
        *(rows.number, rows.length, rows.last, rows.first % 2**64, rows.step % 2**64),
        *(word % 2**64 for word in words),
        *[0] * (WORDS - len(words)),
    )
    grid = -(-threads // THREADS)
    launcher.launch(Launch(module, kernel, grid, THREADS, argument))
