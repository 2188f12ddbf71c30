"""``python -m fastdrop bits``: the bits that masks are drawn from, as a stream for other programs.

Batteries of statistical tests read it from a pipe. It calls the kernel of the uniforms.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_PART = 1 << 20  # elements that are drawn at once: 4 MiB, which stay in the caches
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ABOUT = """Write the bits that masks are drawn from to stdout, as binary data and without end: the
uniforms U(i) of the mask contract for i = 0, 1, 2, ..., as little-endian words of 32 bits. An
element is dropped if U(i) is below p * 2**32. With --level, the 16 bits of one level are written
instead, as little-endian words of 16 bits; those of level 0 are the output words of Philox4x32-10
in their order."""


def _number(text: str) -> int:
    """Read an integer of 64 bits, also as 0x2A."""
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an integer as Python writes it, such as 42 or 0x2A"
        ) from None
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 2**64)")
    return value


def _size(text: str) -> int:
    """Read a number of bytes, such as 1000, 64K or 4G: powers of 1024."""
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, as 1000 and 4G are")
    return int(match[1]) * _UNITS[match[2].upper()]


def add_arguments(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command = add_parser("bits", help="write the bits of masks to stdout", description=_ABOUT)
    command.add_argument("--seed", type=_number, default=0, help="of the key (default: 0)")
    command.add_argument("--stream", type=_number, default=0, help="of the key (default: 0)")
    command.add_argument("--level", type=int, choices=(0, 1), help="only the bits of this level")
    command.add_argument("--bytes", type=_size, metavar="N", help="stop after N bytes, such as 4G")


def write(args: argparse.Namespace, out: Any = None) -> int:
    """Write the stream until the reader has enough, or to the end that was asked for."""
    from fastdrop_kernels.cpu.batch.uniforms import write_uniforms  # imports Numba

    out = sys.stdout.buffer if out is None else out
    if out.isatty():
        print(
            "fastdrop: bits are binary data, and this is a terminal: "
            "give a pipe or a file, as in `python -m fastdrop bits | RNG_test stdin32`",
            file=sys.stderr,
        )
        return 2
    words, first, left = np.empty(_PART, np.uint32), 0, args.bytes
    try:
        while left is None or left:
            write_uniforms(words, args.seed, args.stream, first)
            first += _PART
            part = memoryview(_little_endian(words, args.level)).cast("B")[:left]
            out.write(part)
            left = None if left is None else left - len(part)
        out.flush()
    except BrokenPipeError:
        # The reader has enough, which is how most of them end. What is buffered has no place to go
        # when Python flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _little_endian(words: Any, level: int | None) -> Any:
    """Return the words of the stream: the uniforms, or one half of each."""
    if level is None:
        return words.astype("<u4", copy=False)
    return (words >> 16 if level == 0 else words & 0xFFFF).astype("<u2")
