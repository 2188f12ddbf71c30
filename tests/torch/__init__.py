"""Tests of `fastdrop.torch`; all are skipped where torch is not installed."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install torch")
