"""The CPU kernels, compiled by Numba: bits, decide, apply."""
