"""What importing and calling fastdrop does to a process: imports, exit, interrupts, environment."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.slow import slow_unless
from tests.support.subprocesses import assert_succeeds, run_python

CALL = """
import numpy as np, fastdrop as fd
x = np.ones(1000, np.float32)
y = fd.dropout(x, 0.5, rng=42)
assert y[:8].tolist() == [2, 2, 0, 0, 0, 0, 2, 0], y[:8]
"""

# A call that threads share, and what it must give; `right()` says whether it does.
THREADED = """
import numpy as np, fastdrop as fd
fd.set_num_threads(4)
x = np.ones(1 << 21, np.float32)
expected = fd.dropout(x, 0.5, rng=42).tobytes()
from fastdrop_kernels import threads
assert threads._workers

def right():
    return fd.dropout(x, 0.5, rng=42).tobytes() == expected
"""


def test_importing_fastdrop_imports_numpy_and_no_other_library() -> None:
    code = """
import sys
import numpy
import fastdrop
heavy = "numba llvmlite cupy dask torch scipy tensorflow jax ml_dtypes matplotlib pandas".split()
print([name for name in heavy if name in sys.modules])
"""
    assert assert_succeeds(run_python(code)).strip() == "[]"


def test_keys_layers_and_evaluation_need_no_compiler() -> None:
    code = """
import sys
import numpy as np
import fastdrop as fd
key = fd.as_key(np.random.default_rng(1)).fold_in(3)
x = np.ones(4)
assert fd.Dropout(0.5, rng=key).eval()(x) is x
fd.set_num_threads(2)
assert fd.get_num_threads() == 2
print("numba" in sys.modules)
"""
    assert assert_succeeds(run_python(code)).strip() == "False"


def test_checking_arguments_imports_nothing() -> None:
    # What is imported in a call costs its time, and hangs a child that is forked meanwhile.
    code = """
import sys
import numpy as np
import fastdrop as fd
before = set(sys.modules)
for rng in (42, np.int64(42), fd.Key(42), None):
    fd.as_key(rng)
fd.dropout([1.0, 2.0], 0.5, training=False, out=np.zeros(2))
fd.masked_fill([1, 2], 0.5, 7, training=False, out=np.zeros(2, int))
fd.Dropout(0.5)
print(sorted(set(sys.modules) - before))
"""
    assert assert_succeeds(run_python(code)).strip() == "[]"


def test_calls_import_no_library_but_numba() -> None:
    code = (
        CALL
        + """
import sys
fd.masked_fill(x, 0.5, 0, rng=1)
print([n for n in ("cupy", "dask", "torch", "tensorflow", "jax", "pandas") if n in sys.modules])
"""
    )
    assert assert_succeeds(run_python(code)).strip() == "[]"


def test_calls_at_the_exit_of_the_interpreter_work() -> None:
    code = (
        THREADED
        + """
import atexit
@atexit.register
def last():
    fd.set_num_threads(7)  # so that the pool has to be made anew, which no longer can be
    print("right" if right() else "wrong", flush=True)
atexit.register(lambda: print("right" if right() else "wrong", flush=True))
"""
    )
    assert assert_succeeds(run_python(code)).split() == ["right", "right"]


def test_a_first_call_at_the_exit_of_the_interpreter_works() -> None:
    code = """
import atexit
@atexit.register
def last():
    import numpy as np, fastdrop as fd
    fd.set_num_threads(4)
    print(int(fd.dropout(np.ones(1 << 20, np.float32), 1.0, rng=1).sum()), flush=True)
"""
    assert assert_succeeds(run_python(code)).strip() == "0"


def test_without_numbas_compiler_the_error_says_what_to_do() -> None:
    done = run_python(CALL, NUMBA_DISABLE_JIT="1")
    assert done.status == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError")
    assert "NUMBA_DISABLE_JIT" in last
    assert "unset" in last


@pytest.mark.parametrize(
    ("value", "name"),
    slow_unless(
        lambda value, name: value == "abc",
        ["abc", "0", "-2", "1.5"],
        ["FASTDROP_NUM_THREADS", "NUMBA_NUM_THREADS"],
    ),
)
def test_a_wrong_number_of_threads_in_the_environment_is_named(value: str, name: str) -> None:
    others = {"FASTDROP_NUM_THREADS": "", "NUMBA_NUM_THREADS": ""}
    done = run_python("import fastdrop; fastdrop.get_num_threads()", **{**others, name: value})
    assert done.status == 1
    assert f"ValueError: {name}={value!r}" in done.stderr


def test_the_number_of_threads_is_taken_from_the_environment_in_order() -> None:
    code = "import fastdrop; print(fastdrop.get_num_threads())"
    both = {"FASTDROP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2"}
    neither = {"FASTDROP_NUM_THREADS": "", "NUMBA_NUM_THREADS": ""}
    assert assert_succeeds(run_python(code, **both)).strip() == "3"
    assert assert_succeeds(run_python(code, **{**both, "FASTDROP_NUM_THREADS": ""})).strip() == "2"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert assert_succeeds(run_python(code, **neither)).strip() == str(available)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_nothing_is_written_after_a_call_was_interrupted() -> None:
    code = """
import signal, time
import numpy as np, fastdrop as fd
fd.set_num_threads(3)
x = np.ones(1 << 22, np.float32)
out = np.empty_like(x)
seconds = []
for _ in range(4):
    begin = time.perf_counter()
    fd.dropout(x, 0.5, rng=1, out=out)
    seconds.append(time.perf_counter() - begin)
right = out.tobytes()

class Interrupt(Exception):
    pass

def strike(*_):
    # A worker may have been given the signal, and hand it on when the call is over.
    if armed:
        raise Interrupt

armed = False
signal.signal(signal.SIGALRM, strike)
struck = 0
for n in range(60):
    out.fill(7.0)
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, min(seconds) * (n + 1) / 60)  # all over the call
        fd.dropout(x, 0.5, rng=1, out=out)
        armed = False
        assert out.tobytes() == right
    except Interrupt:
        armed = False
        struck += 1
        before = out.tobytes()
        time.sleep(0.01)
        assert out.tobytes() == before
    signal.setitimer(signal.ITIMER_REAL, 0)
assert struck > 10, struck
assert fd.dropout(x, 0.5, rng=1, out=out).tobytes() == right
"""
    assert_succeeds(run_python(code))


def test_nothing_is_written_where_the_number_of_threads_is_wrong() -> None:
    code = """
import numpy as np, fastdrop as fd
out = np.full(1 << 18, 7, np.uint8)
try:
    fd.dropout_mask(1 << 21, 0.5, rng=1, packed=True, out=out)
except ValueError as error:
    assert "FASTDROP_NUM_THREADS" in str(error)
    assert (out == 7).all()
    print("nothing written")
"""
    done = run_python(code, FASTDROP_NUM_THREADS="abc")
    assert assert_succeeds(done) == "nothing written\n"
