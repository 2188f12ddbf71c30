"""Take from a process what Windows does not have, before anything is imported that would use it.

Scenarios call `remove`, and so does pytest, as a plugin (``-p tests.support.without_posix``). Other
libraries choose by the system when they are imported, so they come first.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys

_OF_OS = (
    *("fork", "forkpty", "register_at_fork", "wait", "getpgid", "killpg", "geteuid", "getuid"),
    *("sched_getaffinity", "sched_setaffinity", "sysconf", "uname", "getloadavg"),
    *("preadv", "pwritev", "pread", "pwrite", "posix_fadvise", "fchown", "chown", "mkfifo"),
)
_OF_SIGNAL = ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "SIGHUP", "SIGSTOP", "setitimer")
_MODULES = ("resource", "fcntl", "pwd", "grp", "termios")
_CHOOSE = (
    *("numba.core.typed_passes", "numba.np.ufunc", "multiprocessing.pool"),
    *("multiprocessing.sharedctypes", "concurrent.futures.process"),
)
_CHOOSE_IN_TESTS = ("distributed", "hypothesis", "torch._dynamo.testing", "filelock", "zarr")


def remove(*, system: str = "win32", first: tuple[str, ...] = ()) -> None:
    """Remove functions, signals and modules, and say that this is Windows.

    Python's own multiprocessing can then start no process: give `system` as it is.
    """
    for name in (*_CHOOSE, *first):
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    assert not any(name.partition(".")[0] == "fastdrop" for name in sys.modules)
    for module, names in ((os, _OF_OS), (signal, _OF_SIGNAL)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # its import raises
    sys.platform = system


def pytest_load_initial_conftests() -> None:
    """Remove them in a test run, before anything of it imports the package.

    The system stays: many libraries that tests import look for what is only on Windows.
    """
    remove(system=sys.platform, first=_CHOOSE_IN_TESTS)
