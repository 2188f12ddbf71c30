"""Compiling ahead of the first call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arguments as arguments
from ._backends import cpu_driver
from ._laws import compute_type


def warmup(dtypes: npt.DTypeLike | Iterable[npt.DTypeLike] = (np.float32, np.float64)) -> None:
    """Make the CPU's kernels of dropout, masks and fills ready, so that no call waits.

    A kernel is compiled when it is first called, and kept in the cache folder
    (``FASTDROP_CACHE_DIR``, else the user's) for other processes; later ones load it in
    milliseconds. Call this when a container is built, or before anything is timed. From an empty
    cache it takes some ten seconds a dtype.

    Parameters
    ----------
    dtypes : dtype or iterable of dtype
        Those that `dropout` and `masked_fill` will be called with, or their names; `dropout_mask`
        is made ready too.

    Raises
    ------
    TypeError
        If `dropout` does not take one of them.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.warmup(["float32"])  # doctest: +SKIP
    """
    given: Any = dtypes
    if isinstance(given, str | type | np.dtype) or not isinstance(given, Iterable):
        given = [given]
    kinds = [arguments.dtype(item) for item in given]
    for kind in kinds:
        compute_type(kind)
    driver = cpu_driver()
    operations = [driver.marking(), driver.packing()]
    for kind in kinds:
        operations += [driver.dropping(kind), driver.filling(kind)]
    driver.prepare(dict.fromkeys(operations))
