"""The CUDA functions on batches, for CuPy arrays: a file for each family, on the base `launch`."""

# Names of the files, each of which has ``module()``, the CUDA C++ of its kernels.
FAMILIES = ("weights", "spans", "bands", "erasing", "swap", "keep", "tokens")
