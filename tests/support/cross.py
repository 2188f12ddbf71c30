"""Compiling kernels for a processor and an operating system other than this machine's.

`set_target` must be called before any module of `fastdrop_kernels.cpu` is imported, in a process
of its own: from then on Numba generates code for the target. LLVM loads that code as it loads its
own, but nothing may call it, so kernels are replaced by functions that do nothing.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm


class Target(NamedTuple):
    """A target of LLVM, and a processor that every machine of it can do."""

    triple: str
    processor: str
    features: str


TARGETS = {
    "aarch64-linux": Target("aarch64-unknown-linux-gnu", "generic", "+neon,+fp-armv8"),
    "arm64-macos": Target("arm64-apple-darwin20.1.0", "apple-m1", "+neon,+fp-armv8"),
    # Numba and llvmlite add "-elf" there: the only object files that LLVM's JIT loads on Windows.
    "x86_64-windows": Target("x86_64-pc-windows-msvc-elf", "haswell", "+avx2,+fma,+bmi2,+f16c"),
    "x86_64-linux": Target("x86_64-unknown-linux-gnu", "x86-64", "+sse2"),
}


def set_target(target: Target) -> None:
    """Let Numba generate code for a target in this process."""
    import fastdrop as fastdrop  # finds the kernels in a tree that is not installed

    assert "fastdrop_kernels.cpu.codegen.target" not in sys.modules, "kernels are imported already"
    from numba.core import config

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    config.CPU_NAME, config.CPU_FEATURES = target.processor, target.features
    from_triple = llvm.Target.from_triple
    replaced: dict[str, Any] = {
        "get_process_triple": lambda: target.triple,
        "get_default_triple": lambda: target.triple,
        "get_host_cpu_name": lambda: target.processor,
    }
    for name, function in replaced.items():
        setattr(llvm, name, function)
    setattr(llvm.Target, "from_default_triple", lambda: from_triple(target.triple))  # noqa: B010


Seen = Callable[[str, Any], None]


def call_no_kernels(seen: Seen) -> None:
    """Replace all kernels by functions that do nothing, and report each with its library.

    What plans calls is told by the compiled fast path that it has to make each of them, so the
    kernels of all calls are compiled. Results are whatever their memory held.
    """
    from fastdrop_kernels import contract
    from fastdrop_kernels.cpu.codegen import compiler

    compile_, kernel = compiler._compile, compiler.kernel

    def compiled(name: str, function: Any, signature: Any, options: Any) -> Any:
        result = compile_(name, function, signature, options)
        seen(name, result.library)
        return result

    def without_code(name: str, function: Any, signature: Any) -> Any:
        address = compiler.address_of_kernel(kernel(name, function, signature))

        def entry_point(*arguments: int) -> Any:
            if name == "fold-in":
                return contract.fold_in(*arguments)
            return 2 if name.startswith("fast-call") else None  # `fast_call.FITS`

        compiler._addresses[entry_point] = address
        return entry_point

    setattr(compiler, "_compile", compiled)  # noqa: B010
    setattr(compiler, "kernel", without_code)  # noqa: B010


def load_no_code() -> None:
    """Let Numba hand nothing to LLVM's JIT, which on Linux cannot link macOS's object files.

    Nothing is cached either.
    """
    from numba.core.caching import NullCache
    from numba.core.codegen import JitEngine

    from fastdrop_kernels.cpu.codegen import compiler

    setattr(compiler, "KernelCache", lambda *names: NullCache())  # noqa: B010

    nothing = ctypes.create_string_buffer(64)
    at = ctypes.addressof(nothing)
    replaced: dict[str, Any] = {
        "_nothing": nothing,
        "add_module": lambda self, module: self._load_defined_symbols(module),
        "finalize_object": lambda self: None,
        "get_function_address": lambda self, name: at,
        "get_global_value_address": lambda self, name: at,
    }
    for name, value in replaced.items():
        setattr(JitEngine, name, value)


def object_code(library: Any) -> bytes:
    """Generate the object file of a compiled library, for the target."""
    code: bytes = library.codegen._tm.emit_object(library._final_module)
    return code


def undefined_symbols(code: bytes) -> set[str]:
    """Return the symbols that an object file (ELF or Mach-O, 64 bits) expects elsewhere."""
    return _of_mach_o(code) if code[:4] == b"\xcf\xfa\xed\xfe" else _of_elf(code)


def _name(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _of_elf(code: bytes) -> set[str]:
    assert code[:6] == b"\x7fELF\x02\x01"
    (first,) = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, first + k * size) for k in range(count)]
    found = set()
    for _, kind, _, _, begin, length, link, *_ in sections:
        if kind == 2:  # SHT_SYMTAB, whose names are in section `link`
            for at in range(begin, begin + length, 24):
                name, _, _, section = struct.unpack_from("<IBBH", code, at)
                if name and section == 0:  # SHN_UNDEF
                    found.add(_name(code, sections[link][4] + name))
    return found


def _of_mach_o(code: bytes) -> set[str]:
    (commands,) = struct.unpack_from("<I", code, 16)
    found, at = set(), 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", code, at)
        if command == 2:  # LC_SYMTAB
            symbols, count, names, _ = struct.unpack_from("<IIII", code, at + 8)
            for place in range(symbols, symbols + 16 * count, 16):
                name, kind, _, _, size_of = struct.unpack_from("<IBBHQ", code, place)
                # N_UNDF, which is not for debuggers (N_EXT may be set), nor a common symbol
                if not kind & 0xEE and not size_of:
                    found.add(_name(code, names + name).removeprefix("_"))
        at += size
    return found
