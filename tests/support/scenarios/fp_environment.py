"""Results of threads that flush subnormal numbers to zero, or round otherwise, are the usual ones.

``python -m tests.support.scenarios.fp_environment``, also in an emulator: see tests/emulated/run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.fp_environment import IS_KNOWN, SETTINGS, environment
from tests.support.oracle import Array, assert_same, poison

KEY = fd.Key(3, 5)
P_OF_COLUMNS = np.full(133, 0.3)
DTYPES: list[np.dtype[Any]] = [np.dtype(np.float16), np.dtype(np.float32)]

CALLS: dict[str, Callable[[Array, Any], Any]] = {
    "plain": lambda x, out: fd.dropout(x, 0.3, rng=KEY, out=out),
    "Fortran": lambda x, out: fd.dropout(x.T, 0.3, rng=KEY, out=out.T),
    "strided": lambda x, out: fd.dropout(x[:, ::2], 0.3, rng=KEY, out=out[:, ::2]),
    "p array": lambda x, out: fd.dropout(x, P_OF_COLUMNS, rng=KEY, out=out),
    "zoneout": lambda x, out: fd.zoneout(x, x[::-1], 0.3, rng=KEY, out=out),
    "alpha": lambda x, out: fd.alpha_dropout(x, 0.3, rng=KEY, out=out),
    "softmax": lambda x, out: fd.softmax_dropout(x, 0.3, rng=KEY, out=out),
}


def numbers(dtype: np.dtype[Any]) -> Array:
    """Return numbers of which every other is subnormal, and one infinite."""
    info = np.finfo(dtype)
    x = np.linspace(-7, 7, 33 * 133).reshape(33, 133).astype(dtype)
    x[:, ::2] = x[:, ::2] * info.tiny / 8
    assert np.count_nonzero(x[:, ::2]) > 0.9 * x[:, ::2].size
    x[5, 7], x[6, 8] = np.inf, np.nan
    return x


def calls(name: str, dtypes: Iterable[np.dtype[Any]] = DTYPES) -> Iterator[None]:
    """Make a call in each dtype, and ignore the results."""
    for dtype in dtypes:
        x = numbers(dtype)
        yield CALLS[name](x, np.empty_like(x))


def check(name: str, dtype: np.dtype[Any], settings: list[str]) -> int:
    """Make a call under each setting and compare; return how many were compared."""
    call, x = CALLS[name], numbers(dtype)
    expected, out = (poison(np.empty_like(x)) for _ in range(2))
    with np.errstate(all="ignore"):
        call(x, expected)
        for setting in settings:
            poison(out)
            with environment(SETTINGS[setting]):
                call(x, out)
            assert_same(out, expected)
    return len(settings)


def main(dtypes: Iterable[np.dtype[Any]] = DTYPES) -> None:
    """Check all that this processor has."""
    there = []
    for setting, value in SETTINGS.items():
        try:
            with environment(value):
                pass
            there.append(setting)
        except AssertionError:
            print(f"this processor cannot be set to {setting!r}")
    total = sum(check(name, dtype, there) for name in CALLS for dtype in dtypes)
    print(f"{total} results are right under {', '.join(there)}.")


if __name__ == "__main__":
    if IS_KNOWN:
        main()
    else:
        print("the floating-point environment of this machine is not known")
