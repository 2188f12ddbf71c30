"""After `warmup` nothing is left to compile, and wrong dtypes are named."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.subprocesses import COUNTING, assert_succeeds, run_python

EVERY_CALL = (
    COUNTING
    + """
fd.warmup({dtypes})
assert made
made.clear()
x = np.ones((300, 500), np.float32)
for n in (1, 2):
    fd.set_num_threads(n)
    for a in (x, x.T, x[:, ::3], x[:, :99], np.ones(2_000_000, np.float32)):
        fd.dropout(a, 0.5)
        fd.masked_fill(a, 0.5, 3)
        fd.dropout_mask(a.shape, 0.5)
        fd.dropout_mask(a.shape, 0.5, packed=True)
    fd.dropout(x, 0.5, noise_shape=(300, 1))
    fd.dropout(x.T, 0.5, noise_shape=(500, 1))
    fd.dropout(x, 0.5, offset=(3, 4), global_shape=(400, 600))
    fd.dropout_mask(x.shape, 0.5, offset=(3, 4), global_shape=(400, 600), packed=True)
    fd.dropout(x, 0.0), fd.dropout(x, 1.0)
assert not made, made
print("nothing was compiled")
"""
)


def test_after_warmup_nothing_is_compiled() -> None:
    done = run_python(EVERY_CALL.replace("{dtypes}", '"float32"'))
    assert assert_succeeds(done) == "nothing was compiled\n"


@pytest.mark.slow
def test_another_process_loads_what_was_compiled(tmp_path: Path) -> None:
    code = "import numpy as np, fastdrop as fd\n" + "".join(
        f"fd.{call}, 0.5)\n"
        for call in ("dropout(np.ones((30, 50), np.float32)", "dropout_mask((30, 50)")
    )
    listed = []
    for _ in range(2):
        assert_succeeds(run_python(code, FASTDROP_CACHE_DIR=str(tmp_path)))
        listed.append({path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()})
    assert len(listed[0]) >= 4
    assert listed[0] == listed[1]


def test_wrong_dtypes_are_named_before_anything_is_compiled() -> None:
    for wrong, message in (
        ("float31", "'float31' is not a dtype"),
        (np.int64, "dtypes has int64"),
        ([np.float32, "c8"], "dtypes has complex64"),
        (ml_dtypes.float8_e5m2, "dtypes has float8_e5m2"),
    ):
        with pytest.raises(TypeError, match=message):
            fd.warmup(wrong)


@pytest.mark.slow
def test_half_types_by_name() -> None:
    fd.warmup(["float16", "bfloat16", ml_dtypes.bfloat16])
    fd.warmup([])
