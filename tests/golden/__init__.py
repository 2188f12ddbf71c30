"""Frozen results of every public function and layer: see `cases` and ``python -m tests.golden``."""

import fastdrop as fastdrop  # finds the kernels in a tree that is not installed
