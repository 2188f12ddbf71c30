"""Promises of ``python -m fastdrop``: it reports, checks, and fails when a mask is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop import __main__ as command
from fastdrop._functions import dropout as _functions
from fastdrop._tools import self_check as _self_check


def test_it_reports_versions_and_passes() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fastdrop"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert fastdrop.__version__ in run.stdout
    for name in ("NumPy", "Numba", "CPU", "threads", "cache folder", "all passed"):
        assert name in run.stdout
    assert "FAILED" not in run.stdout


def test_a_wrong_mask_makes_it_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = _functions.dropout_mask

    def wrong(*args: Any, **kwargs: Any) -> Any:
        mask = right(*args, **kwargs)
        if mask.size > 100:
            mask.reshape(-1)[77] ^= True
        return mask

    monkeypatch.setattr(_self_check, "dropout_mask", wrong)
    assert command.main([]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_wrong_value_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _functions.dropout

    def wrong(*args: Any, **kwargs: Any) -> Any:
        y = right(*args, **kwargs)
        return np.nextafter(y, np.inf, dtype=y.dtype) if y.size > 100 else y

    monkeypatch.setattr(_self_check, "dropout", wrong)
    assert not all(passed for _, passed in _self_check.checks())


def test_the_self_check_leaves_the_number_of_threads_alone() -> None:
    before = fastdrop.get_num_threads()
    list(_self_check.checks())
    assert fastdrop.get_num_threads() == before
