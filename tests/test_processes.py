"""What fastdrop does to the process it runs in: imports, forks, exits, caches, environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .oracle import ROOT, run_python

CALL = """
import numpy as np, fastdrop as fd
x = np.ones(1000, np.float32)
y = fd.dropout(x, 0.5, rng=42)
assert y[:8].tolist() == [2, 2, 0, 0, 0, 0, 2, 0], y[:8]
"""

# A call that threads share, and what it must give; `right()` says whether it does.
THREADED = """
import os, sys, threading, warnings
import numpy as np, fastdrop as fd
fd.set_num_threads(4)
x = np.ones(1 << 20, np.float32)
expected = fd.dropout(x, 0.5, rng=42).tobytes()
from fastdrop_kernels import threads
assert threads._workers

def right():
    return fd.dropout(x, 0.5, rng=42).tobytes() == expected
"""


def assert_succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_after_its_parent_used_threads() -> None:
    code = (
        THREADED
        + """
warnings.simplefilter("ignore", DeprecationWarning)  # what Python 3.12 says of any such fork
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os._exit(0 if right() and right() else 3)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == [0] * 4, codes
assert right()
print("done")
"""
    )
    assert assert_succeeds(run_python(code)).strip() == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_other_threads_compute_computes_too() -> None:
    code = (
        THREADED
        + """
warnings.simplefilter("ignore", DeprecationWarning)
stop = False
def busy():
    while not stop:
        assert right()
workers = [threading.Thread(target=busy) for _ in range(2)]
for worker in workers:
    worker.start()
codes = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(0 if right() else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for worker in workers:
    worker.join()
assert codes == [0] * 8, codes
print("done")
"""
    )
    assert assert_succeeds(run_python(code)).strip() == "done"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_draw_the_same_masks(method: str, tmp_path: Path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(
        "import multiprocessing, sys, warnings\n"
        "import numpy as np, fastdrop as fd\n"
        "def work(n):\n"
        "    return fd.dropout(np.ones(1 << 20, np.float32), 0.5, rng=n).tobytes()\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('ignore', DeprecationWarning)\n"
        "    fd.set_num_threads(3)\n"
        "    expected = [work(n) for n in range(4)]\n"
        "    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:\n"
        "        assert pool.map(work, range(4)) == expected\n"
        "    print('done')\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, str(script), method],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert assert_succeeds(done).strip() == "done"


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


def test_a_home_that_does_not_exist_costs_nothing_but_time() -> None:
    assert_succeeds(
        run_python(CALL, HOME="/proc/nonexistent", XDG_CACHE_HOME="", FASTDROP_CACHE_DIR="")
    )


def test_a_cache_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(file / "below")))
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(file)))
    assert file.read_text() == "not a folder"


def test_a_read_only_cache_folder_costs_nothing_but_time(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes to read-only folders too")
    tmp_path.chmod(0o500)
    try:
        assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    finally:
        tmp_path.chmod(0o700)


def test_kernels_are_kept_in_the_named_folder_and_damaged_ones_made_again(tmp_path: Path) -> None:
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    kernels = sorted(tmp_path.iterdir())
    assert kernels
    assert all(path.suffix == ".kernel" for path in kernels)  # and no temporary file is left
    sizes = {path: path.stat().st_size for path in kernels}
    damages = [b"", b"rubbish", b"\x80\x05K\x01.", None]  # the third is a pickle of something else
    for i, path in enumerate(kernels):
        damage = damages[i % len(damages)]
        path.write_bytes(path.read_bytes()[:1000] if damage is None else damage)
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    assert sorted(tmp_path.iterdir()) == kernels
    for path in kernels:  # whole again
        assert abs(path.stat().st_size - sizes[path]) < 0.2 * sizes[path]


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_without_numbas_compiler_the_error_says_what_to_do() -> None:
    done = run_python(CALL, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError")
    assert "NUMBA_DISABLE_JIT" in last
    assert "unset" in last


@pytest.mark.parametrize("name", ["FASTDROP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("value", ["abc", "0", "-2", "1.5"])
def test_a_wrong_number_of_threads_in_the_environment_is_named(name: str, value: str) -> None:
    others = {"FASTDROP_NUM_THREADS": "", "NUMBA_NUM_THREADS": ""}
    done = run_python("import fastdrop; fastdrop.get_num_threads()", **{**others, name: value})
    assert done.returncode == 1
    assert f"ValueError: {name}={value!r}" in done.stderr


def test_the_number_of_threads_is_taken_from_the_environment_in_order() -> None:
    code = "import fastdrop; print(fastdrop.get_num_threads())"
    both = {"FASTDROP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2"}
    neither = {"FASTDROP_NUM_THREADS": "", "NUMBA_NUM_THREADS": ""}
    assert assert_succeeds(run_python(code, **both)).strip() == "3"
    assert assert_succeeds(run_python(code, **{**both, "FASTDROP_NUM_THREADS": ""})).strip() == "2"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert assert_succeeds(run_python(code, **neither)).strip() == str(available)


def test_a_damaged_kernel_file_costs_nothing_but_time(tmp_path: Path) -> None:
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))
    files = sorted(tmp_path.glob("*.kernel"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        for place in range(len(content) // 3, len(content) * 2 // 3, 97):
            content[place] ^= 0x55  # inside the machine code, where LLVM would crash
        file.write_bytes(content)
    assert_succeeds(run_python(CALL, FASTDROP_CACHE_DIR=str(tmp_path)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_another_thread_compiles_can_compile(tmp_path: Path) -> None:
    code = """
import os, signal, sys, threading, warnings
import numpy as np, fastdrop as fd
from fastdrop_kernels.cpu import compiler
warnings.simplefilter("ignore", DeprecationWarning)
x = np.ones(8, np.float32)
thread = threading.Thread(target=lambda: fd.dropout(x, 0.5, rng=42))
thread.start()
while not compiler._alive:  # until some of it is compiled, and the rest is not
    pass
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is ended, and seen
    os._exit(0 if fd.dropout(x, 0.5, rng=42).tolist() == [2, 2, 0, 0, 0, 0, 2, 0] else 1)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    assert_succeeds(run_python(code, FASTDROP_CACHE_DIR=str(tmp_path)))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_nothing_is_written_after_a_call_was_interrupted() -> None:
    code = """
import signal, time
import numpy as np, fastdrop as fd
fd.set_num_threads(3)
x = np.ones(1 << 22, np.float32)
fd.dropout(x, 0.5, rng=1)

class Interrupt(Exception):
    pass

def strike(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, strike)
struck = 0
for n in range(60):
    out = np.full_like(x, 7.0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-4 + n * 2e-5)
        fd.dropout(x, 0.5, rng=1, out=out)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        struck += 1
        before = out.tobytes()
        time.sleep(0.01)
        assert out.tobytes() == before
assert struck > 10, struck
signal.setitimer(signal.ITIMER_REAL, 0)
assert fd.dropout(x, 0.5, rng=1).tobytes() == fd.dropout(x, 0.5, rng=1).tobytes()
"""
    assert_succeeds(run_python(code))
