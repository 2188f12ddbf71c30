"""A plugin of pytest that pretends there is a GPU, so that the tests on one are collected."""

from __future__ import annotations

import numba.cuda

from tests.support.devices import cupy_or_skip

cupy_or_skip().cuda.runtime.getDeviceCount = lambda: 1
numba.cuda.is_available = lambda: True
