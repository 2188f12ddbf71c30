"""A plugin of pytest that pretends there is a GPU, so that the tests on one are collected."""

from __future__ import annotations

import contextlib
import importlib
import warnings

from tests.support.devices import cupy_or_skip

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    cuda = importlib.import_module("numba.cuda")

vars(cuda)["is_available"] = lambda: True
cupy_or_skip().cuda.runtime.getDeviceCount = lambda: 1
with contextlib.suppress(ImportError):
    vars(importlib.import_module("torch.cuda"))["is_available"] = lambda: True
