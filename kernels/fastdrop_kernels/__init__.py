"""Compiled kernels of fastdrop, and the definition of the mask they share.

`contract` states the mask in plain Python, `reference` draws it slowly with NumPy, `cpu` draws
it fast with Numba. Nothing here checks arguments; that is done above, in the package `fastdrop`.
Importing this package, `contract` or `reference` needs NumPy alone.
"""

from . import source_stamps as _sources  # noqa: F401  # first, before any kernel is imported
