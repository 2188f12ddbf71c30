"""The CPU kernels, compiled by Numba: draw bits, decide, apply the operation."""
