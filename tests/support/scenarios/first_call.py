"""Fork while another thread does what a process's first call does: import and compile.

``python -m tests.support.scenarios.first_call import MODULE``: when its import has begun;
``python -m tests.support.scenarios.first_call device``: when that of `fastdrop.device` has;
``python -m tests.support.scenarios.first_call user``: when a user's own import of Numba has;
``python -m tests.support.scenarios.first_call compile``: when a kernel is being compiled;
``python -m tests.support.scenarios.first_call numba``: when a user's own function is;
``python -m tests.support.scenarios.first_call llvm``: inside a call of LLVM.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import fastdrop as fd

from .children import fork, wait


def call() -> None:
    """Make a small call: in a new process the first one, which imports and compiles."""
    y = fd.dropout(np.ones(8, np.float32), 0.5, rng=42)
    assert y.tolist() == [2, 2, 0, 0, 0, 0, 2, 0], y


def another_call() -> None:
    """Make a call that needs another kernel, from a thread that no lock takes for its owner.

    The memory of threads that a fork has ended is used again, and so are their identifiers.
    """
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    y = fd.masked_fill(np.zeros(8, np.int32), 0.5, 1, rng=42)
    assert y.tolist() == [0, 0, 1, 1, 1, 1, 0, 1], y


def fork_during(
    work: Callable[[], None], begun: Callable[[], bool], of_child: Callable[[], None] = call
) -> None:
    """Fork when a thread's work has begun; both the child and the thread must succeed."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=guarded)
    thread.start()
    while not begun() and thread.is_alive():
        time.sleep(0)
    assert thread.is_alive(), "it was over before a fork: this tests nothing"
    child = fork(of_child)
    thread.join()
    wait(child)
    assert not errors, errors


def during_import(module: str) -> None:
    assert module not in sys.modules, "it was imported before the first call: this tests nothing"
    fork_during(call, lambda: module in sys.modules)


def during_import_of_device() -> None:
    fork_during(lambda: fd.device.threshold(0.5), lambda: "numba" in sys.modules)


def during_a_users_import() -> None:
    def work() -> None:
        import numba  # noqa: F401

    fork_during(work, lambda: "numba" in sys.modules)


def during_compilation() -> None:
    from fastdrop_kernels.cpu.codegen import compiler

    # Some of it is compiled then, and the rest is not.
    fork_during(call, lambda: bool(compiler._alive))


def during_compilation_of_user_code() -> None:
    import numba
    from numba.core import event

    begun = threading.Event()

    class Slowly(event.Listener):  # type: ignore[misc]
        def on_start(self, event: object) -> None:
            if not begun.is_set():
                begun.set()
                time.sleep(1)

        def on_end(self, event: object) -> None:
            pass

    def compile_it() -> None:
        with event.install_listener("numba:compile", Slowly()):
            assert numba.njit(lambda x: x)(1) == 1

    fork_during(compile_it, begun.is_set)


def during_a_call_of_llvm() -> None:
    """llvmlite's lock is held, and not Numba's: so it is while a kernel's name is looked up."""
    call()
    from llvmlite.binding import ffi

    begun = threading.Event()

    def hold() -> None:
        with ffi.lib._lock:
            begun.set()
            time.sleep(0.5)

    fork_during(hold, begun.is_set, another_call)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    scenarios: dict[str, Callable[..., None]] = {
        "import": during_import,
        "device": during_import_of_device,
        "user": during_a_users_import,
        "compile": during_compilation,
        "numba": during_compilation_of_user_code,
        "llvm": during_a_call_of_llvm,
    }
    scenarios[what](*arguments)
    print("done")
