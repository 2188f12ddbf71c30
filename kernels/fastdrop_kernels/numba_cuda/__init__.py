"""GPU kernels compiled by Numba, and their driver, for use without CuPy.

Importing this package imports nothing; its modules import ``numba.cuda``.
"""
