"""Time dropout on a GPU beside copying, torch, Triton, JAX and the CuPy idiom.

Every contender is validated first: fastdrop exactly, peers by what they drop. Times are of CUDA
events, over inputs that are rotated so that none is in the L2 cache; ratios are to a copy within
the device. Needs CuPy alone; peers that can be imported take part. Writes
bench/results/gpu.json, and plots where matplotlib is.
"""

from .command import add_arguments, main

__all__ = ["add_arguments", "main"]
