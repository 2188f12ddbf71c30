"""A call that finds no memory leaves its output as it was, and the next one works."""

from __future__ import annotations

import sys

import pytest

from tests.support.subprocesses import run_scenario

# Calls that are known to need memory of the size of arrays, or of some rows for each thread.
NEEDY = {
    "dropout, new result",
    "dropout, of lists",
    "dropout, overlapping",
    "gaussian_dropout, overlapping",
    "bias_act_dropout_add_backward",
    "softmax_dropout, of columns",
    "softmax_dropout_backward, of columns",
    "drop_block2d",
    "swap_rows, permuted",
    "keep_k, of columns",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has, is read from /proc")
def test_an_output_is_untouched_where_memory_is_missing() -> None:
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    wanted = set(run_scenario("out_of_memory", environment=settings).splitlines())
    assert wanted >= NEEDY, wanted
