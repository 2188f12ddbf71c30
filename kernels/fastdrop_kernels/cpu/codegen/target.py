"""Features of the target processor that the code generation depends on, from Numba's settings.

The modules of `cpu` read these constants when they generate kernels.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_HAS = frozenset(_FEATURES.split(","))


def has(feature: str) -> bool:
    """Return whether LLVM may use a target feature, by LLVM's name."""
    return f"+{feature}" in _HAS


# 512-bit vectors only with AVX-512BW, which has instructions for 16-bit lanes. Wider vectors than
# the machine's would run too: LLVM splits them.
VECTOR_BYTES = 64 if has("avx512bw") else 32 if has("avx2") else 16
# Whether there are masked loads and stores of lanes of any width, for partial vectors.
MASKS = VECTOR_BYTES == 64
IS_X86_64 = _TRIPLE.startswith("x86_64")
IS_AARCH64 = _TRIPLE.startswith(("aarch64", "arm64"))
# Whether instructions convert between float16 and float32. Every AArch64 has them. Without them,
# LLVM 22 crashes on vectors of float16 on x86-64.
CONVERTS_FLOAT16 = IS_AARCH64 or has("f16c")
REGISTERS = 16 if IS_X86_64 and VECTOR_BYTES < 64 else 32
# Whether nontemporal stores are faster for outputs larger than the caches (see
# `loops.nontemporal`): measured on a Zen 5 only (November 2026).
NONTEMPORAL = MASKS and IS_X86_64 and llvm.get_host_cpu_name() == "znver5"
