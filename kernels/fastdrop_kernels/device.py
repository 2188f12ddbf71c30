"""The mask contract for code that users compile with Numba: importing this lets it be called."""

from __future__ import annotations

from numba.extending import register_jitable

from . import contract

for _function in contract.COMPILED:
    register_jitable(forceinline=True, error_model="numpy")(_function)
