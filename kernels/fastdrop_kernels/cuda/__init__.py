"""The CUDA kernels, in CUDA C++: bits, decide, apply. Importing this needs no CuPy and no GPU."""
