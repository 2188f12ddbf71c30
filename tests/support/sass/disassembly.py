"""Machine code as text: runs nvdisasm on a cubin, and parses instructions, labels and constants.

`launcher` calls it. Operands stay text here; `operands` parses them, once for an instruction.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .memory import SHARED_BASE

ABSENT = "nvdisasm is not here: pip install -e '.[cuda-check]'"
SIZE = 16  # bytes of an instruction

_LABEL = re.compile(r"(\.L_x_\d+|[\w$.]+):$")
_INSTRUCTION = re.compile(
    r"/\*([0-9a-f]{4,})\*/\s+(?:\{ )?(?:@(!?U?P[T0-9]) )?([A-Z][A-Za-z0-9_.]*)\s*(.*?)\s*;"
)
_NAN = re.compile(r"[+-]?QNAN")
_COMMENT = re.compile(r"\(\*.*?\*\)")


class Instruction(NamedTuple):
    """An instruction: ``@guard opcode.modifiers operands``."""

    address: int
    guard: str  # a predicate, or empty
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def mnemonic(self) -> str:
        """The opcode with its modifiers."""
        return ".".join((self.opcode, *self.modifiers))

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{guard}{self.mnemonic} {', '.join(self.operands)}"


class Program(NamedTuple):
    """The instructions of a kernel and of the functions that it calls."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]  # their addresses


class Kernel(NamedTuple):
    """What a launch needs to know of a kernel."""

    program: Program
    constants: dict[int, bytes]  # banks, but the launch's own, which is 0
    bank0: int  # bytes of bank 0, which ends with the launch's argument
    shared: int  # bytes of static shared memory


@functools.cache
def nvdisasm() -> str | None:
    """Return the path of nvdisasm, on PATH or out of NVIDIA's wheel; None if it is not here."""
    if found := shutil.which("nvdisasm"):
        return found
    for folder in dict.fromkeys((sysconfig.get_paths()["purelib"], *sys.path)):
        for path in sorted(Path(folder).glob("nvidia/*/bin/nvdisasm")):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def disassembly(cubin: bytes) -> str:
    """Return the text of all functions of a cubin."""
    tool = nvdisasm()
    assert tool is not None, ABSENT
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kernels(cubin: bytes, text: str) -> dict[str, Kernel]:
    """Return the kernels of a cubin, given its disassembly."""
    sections = dict(_sections(cubin))
    found = {}
    for name, lines in _functions(text):
        banks = {}
        for section, data in sections.items():
            bank = re.fullmatch(rf"\.nv\.constant([1-9]\d*)(\.{re.escape(name)})?", section)
            if bank:
                banks[int(bank[1])] = data
        bank0 = sections[f".nv.constant0.{name}"]
        shared = sections.get(f".nv.shared.{name}", bytes(SHARED_BASE))
        program = parse(lines, sections[f".text.{name}"])
        found[name] = Kernel(program, banks, len(bank0), len(shared) - SHARED_BASE)
    return found


def parse(lines: Iterable[str], encoded: bytes = b"") -> Program:
    """Parse the lines of a function: instructions behind their addresses, and labels.

    With the encoded instructions, an immediate that is a NaN gets its bits, which the text lacks.
    """
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in map(str.strip, lines):
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions) * SIZE
        elif found := _INSTRUCTION.match(line):
            address, guard, mnemonic, rest = found.groups()
            assert int(address, 16) == len(instructions) * SIZE, line
            opcode, *modifiers = mnemonic.split(".")
            operands = _split(_COMMENT.sub("", rest).replace(".reuse", ""))
            if encoded:
                operands = _with_bits(operands, encoded[len(instructions) * SIZE :])
            instructions.append(
                Instruction(int(address, 16), guard or "", opcode, tuple(modifiers), operands)
            )
    return Program(tuple(instructions), labels)


def assembled(*lines: str) -> Program:
    """Parse instructions written without addresses, and end them by EXIT."""
    numbered = (f"/*{n * SIZE:04x}*/ {line} ;" for n, line in enumerate((*lines, "EXIT")))
    return parse(numbered)


def _split(text: str) -> tuple[str, ...]:
    """Split operands at the commas outside of brackets."""
    found = re.findall(r"(?:\[[^\]]*\]|\([^)]*\)|[^,\[(])+", text)
    return tuple(part.strip() for part in found if part.strip())


def _with_bits(operands: tuple[str, ...], encoded: bytes) -> tuple[str, ...]:
    """Return the operands of an instruction with the bits of an immediate that is a NaN."""
    (immediate,) = struct.unpack_from("<I", encoded, 4)
    return tuple(f"{immediate:#x}" if _NAN.fullmatch(text) else text for text in operands)


def _functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield kernels by name, each with its lines."""
    name, lines = "", list[str]()
    for line in map(str.strip, text.splitlines()):
        begins = re.fullmatch(r"\.text\.(\w+):", line)
        if begins or line.startswith(".section"):
            if name:
                yield name, lines
            name, lines = (begins[1] if begins else ""), []
        else:
            lines.append(line)
    if name:
        yield name, lines


def _sections(elf: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the sections of a 64-bit ELF file by name; those without data are zeros."""
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<3H", elf, 58)

    def header(number: int) -> tuple[int, ...]:
        return struct.unpack_from("<IIQQQQ", elf, offset + number * size)

    strings = header(names)[4]
    for number in range(count):
        name, kind, _, _, start, length = header(number)
        end = elf.index(b"\0", strings + name)
        data = bytes(length) if kind == 8 else elf[start : start + length]  # SHT_NOBITS
        yield elf[strings + name : end].decode(), data
