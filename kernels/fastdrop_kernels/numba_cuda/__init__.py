"""Kernels for arrays in a GPU's memory that Numba compiles, and what launches them.

Importing this package imports nothing; its modules import ``numba.cuda``.
"""
