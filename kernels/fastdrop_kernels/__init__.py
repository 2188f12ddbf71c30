"""Compiled kernels of fastdrop, and the mask contract that they implement.

`contract` defines the mask in plain Python; `reference` draws it with NumPy, for comparison; `cpu`,
`cuda` and `numba_cuda` have the kernels. The package `fastdrop` calls the drivers and checks all
arguments before. Importing this package, `contract` or `reference` needs NumPy only.
"""

from . import source_stamps as _sources  # noqa: F401  # first, before any kernel is imported
