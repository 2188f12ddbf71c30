"""The CUDA kernels, in CUDA C++, and their launches. Importing this needs no CuPy and no GPU."""
