"""Names of the public functions on batches, and on arrays larger than memory."""

from __future__ import annotations

import fastdrop as fd

_FOLDERS = ("fastdrop._batch.", "fastdrop._blocks.")
# They have no backward of their own, and are compiled when they are first called.
ON_BATCHES = frozenset(
    name for name in fd.__all__ if getattr(getattr(fd, name), "__module__", "").startswith(_FOLDERS)
)
