"""`warmup` by function compiles the forward and backward of the named functions, and no other."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.batches import ON_BATCHES
from tests.support.internals import WARMUP_FUNCTIONS, progress_bars
from tests.support.subprocesses import COUNTING, assert_succeeds, run_python
from tests.support.warmup_calls import ACTS, CALLS, calls_of

CODE = (
    COUNTING
    + """
fd.warmup({dtype!r}, {functions}, p_arrays={p_arrays}, activations={acts})
assert made
made.clear()
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 500)).astype({dtype!r})
large = rng.standard_normal((1500, 1400)).astype({dtype!r})
images, volumes = np.ones((4, 3, 60, 70), x.dtype), np.ones((2, 2, 9, 8, 7), x.dtype)
for n in (1, 2):
    fd.set_num_threads(n)
    for a in (x, np.asfortranarray(x), x[:, ::3], large, np.asfortranarray(large)):
        bias, column = a[0].copy(), a[:, :1].copy()
        some = rng.random(a.shape[1]), rng.random((a.shape[0], 1)), rng.random(a.shape)
        for p in (0.3, 0.0):
            {calls}
            assert not made, (made, a.shape, a.strides, p)
print("nothing was compiled")
"""
)

QUICK = "gaussian_noise"


def test_every_function_that_computes_can_be_named() -> None:
    functions = {name for name in fd.__all__ if inspect.isfunction(getattr(fd, name))}
    public = {name for name in functions if not name.endswith("_vjp")}  # which call two others
    others = {"as_key", "get_num_threads", "mc_dropout", "set_num_threads", "threads", "warmup"}
    others |= {"show_versions", *ON_BATCHES}
    assert set(WARMUP_FUNCTIONS) == set(CALLS) == public - others


CASES = [("float32", QUICK)]
SLOW_CASES = [
    *[("float32", name) for name in CALLS if name != QUICK],
    ("float16", "softmax_dropout"),  # which computes in another type than it stores
]


@pytest.mark.parametrize(
    ("dtype", "name"), [*CASES, *[pytest.param(*c, marks=pytest.mark.slow) for c in SLOW_CASES]]
)
def test_nothing_is_left_to_compile(dtype: str, name: str) -> None:
    calls = calls_of(name)
    p_arrays = name in ("dropout", "masked_fill", "dropout_mask")
    code = CODE.format(dtype=dtype, functions=repr(name), calls=calls, p_arrays=p_arrays, acts=ACTS)
    assert assert_succeeds(run_python(code)) == "nothing was compiled\n"


def test_wrong_names_are_named_before_anything_is_compiled() -> None:
    with pytest.raises(ValueError, match="functions='Dropout': give 'dropout' or"):
        fd.warmup(functions=["dropout", "Dropout"])
    with pytest.raises(ValueError, match="activations|act='swish'"):
        fd.warmup(functions="bias_act_dropout_add", activations="swish")
    with pytest.raises(TypeError, match="p_arrays=1"):
        fd.warmup(p_arrays=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="progress='bar'"):
        fd.warmup(progress="bar")


def test_each_function_takes_its_dtypes() -> None:
    with pytest.raises(TypeError, match="x has dtype int32"):
        fd.warmup(np.int32, ["masked_fill", "dropout"])
    with pytest.raises(TypeError, match="does not move Python objects"):
        fd.warmup(object, "masked_fill")
    fd.warmup([], "masked_fill")


@pytest.mark.slow
def test_masked_fill_of_any_dtype_can_be_compiled_ahead() -> None:
    fd.warmup(["int64", "M8[s]", "U1"], "masked_fill")


@pytest.mark.parametrize("progress", [True, "rich", "tqdm", False, None])
def test_a_progress_bar_changes_nothing(progress: Any) -> None:
    if isinstance(progress, str) or progress:
        pytest.importorskip("rich" if progress is True else progress)
    fd.warmup([], ["dropout"], progress=progress)
    assert list(progress_bars.progress_bar(progress, "counting")([1, 2, 3], 3)) == [1, 2, 3]


class Terminal:
    """Standard error that says it is a terminal, or not."""

    def __init__(self, is_one: bool) -> None:
        self.is_one, self.text = is_one, ""

    def isatty(self) -> bool:
        return self.is_one

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    now = [0.0]
    monkeypatch.setattr(progress_bars, "time", type("Clock", (), {"monotonic": lambda: now[0]}))

    def passes(n: float) -> None:
        now[0] += n

    return passes


@pytest.mark.parametrize(("is_one", "each"), [(True, 2.0), (True, 0.01), (False, 2.0)])
def test_a_progress_bar_appears_in_a_terminal_if_it_takes_long(
    is_one: bool, each: float, seconds: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    terminal = Terminal(is_one)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    done = []
    for item in progress_bars.progress_bar(None, "counting")(range(4), 4):
        done.append(item)
        seconds(each)
    assert done == [0, 1, 2, 3]
    assert ("counting" in terminal.text) == (is_one and each > 1)


def test_without_rich_there_is_no_bar(
    seconds: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(True)
    monkeypatch.setattr(sys, "stderr", terminal)
    for name in ("rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    for _ in progress_bars.progress_bar(None, "counting")(range(3), 3):
        seconds(2.0)
    assert terminal.text == ""
