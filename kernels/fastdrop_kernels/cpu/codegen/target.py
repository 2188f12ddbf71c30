"""What the processor that is compiled for can do, as Numba's settings have it."""

from __future__ import annotations

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_HAS = frozenset(_FEATURES.split(","))


def has(feature: str) -> bool:
    """Say whether LLVM may use an instruction set, named as LLVM names it."""
    return f"+{feature}" in _HAS


# Vectors of 512 bits need AVX-512BW too, whose registers hold 16-bit lanes. What is wider than a
# machine's registers would still run: LLVM splits it.
VECTOR_BYTES = 64 if has("avx512bw") else 32 if has("avx2") else 16
# Loads and stores of single lanes of any width, for what is no whole vector.
MASKS = VECTOR_BYTES == 64
IS_X86_64 = _TRIPLE.startswith("x86_64")
REGISTERS = 16 if IS_X86_64 and VECTOR_BYTES < 64 else 32
# Whether nontemporal stores are faster where the caches cannot hold the output (see `nontemporal`):
# timed on Zen 5 alone.
NONTEMPORAL = MASKS and IS_X86_64 and llvm.get_host_cpu_name() == "znver5"
