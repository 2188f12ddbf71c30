"""Compiled loops over arrays, and the kernels that are called from Python."""
