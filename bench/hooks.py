"""Where calls get their compiled kernels from: the one place here that knows names in fastdrop.

A hook puts a spy in the place of the kernels that calls take, for a while. Each finds what it looks
for by name, and does nothing where that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .contender import load

Kernel = Callable[..., Any]
Spy = Callable[[Kernel], Kernel]


@contextmanager
def express_kernels(spy: Spy) -> Iterator[None]:
    """Watch the kernels that plain calls go to straight from `fastdrop.dropout`."""
    laws = getattr(load("fastdrop._functions.dropout"), "_express", {}).values()
    before = [(law, law.near) for law in laws if hasattr(law, "near")]
    try:
        for law, kernel in before:
            law.near = spy(kernel)
        yield
    finally:
        for law, kernel in before:
            law.near = kernel


@contextmanager
def driver_kernels(spy: Spy) -> Iterator[None]:
    """Watch the kernels that the driver asks for, over contiguous elements."""
    driver = load("fastdrop_kernels.cpu.host.driver")
    flat = getattr(driver, "flat", None)

    def watched(*args: Any) -> Kernel:
        return spy(flat(*args))  # type: ignore[misc]

    if flat:
        driver.flat = watched
    try:
        yield
    finally:
        if flat:
            driver.flat = flat


HOOKS: tuple[Callable[[Spy], AbstractContextManager[None]], ...] = (
    express_kernels,
    driver_kernels,
)
