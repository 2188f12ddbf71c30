"""The CUDA C++ of the kernels compiled for the host, and launches run there thread by thread."""
