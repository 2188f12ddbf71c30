"""Calls of the functions on batches, with NumPy's arrays or those on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from tests.support.devices import Device
from tests.support.oracle import Array

OWN = np.array([3, 0, 2**62 - 1, 9])  # numbers of the four samples of each call
_IDS = np.arange(4 * 333).reshape(4, 333) % 500
_TABLE = np.arange(4 * 90, dtype=np.float32).reshape(4, 90)
_SOUND = np.arange(4 * 120 * 40, dtype=np.float32).reshape(4, 120, 40)
_RULE: dict[str, Any] = {"mask_id": 499, "vocab_size": 500}
_LIKE = np.zeros(1, np.float32)


class Call(NamedTuple):
    """A call, and the arrays that it reads, in their order."""

    run: Callable[..., Any]  # (arrays, **where)
    reads: tuple[Array, ...]

    def __call__(self, put: Callable[[Array], Any], **where: Any) -> list[Any]:
        """Make the call with the arrays as `put` returns them; returns what was written."""
        made = self.run(*map(put, self.reads), **where)
        return list(made) if isinstance(made, tuple) else [made]


def _mask_tokens(ids: Any, *marks: Any, special: Any = None, **where: Any) -> Any:
    return fd.mask_tokens(ids, 0.3, special=marks[0] if marks else special, **_RULE, **where)


CALLS: dict[str, Call] = {
    "mask_tokens": Call(_mask_tokens, (_IDS,)),
    "mask_tokens, ids": Call(
        lambda ids, **where: _mask_tokens(ids, special=[0, 5, 7], **where), (_IDS,)
    ),
    "mask_tokens, places": Call(_mask_tokens, (_IDS, _IDS % 3 == 0)),
    "keep_k": Call(lambda x, **w: fd.keep_k((4, 3, 333), 80, like=x, **w), (_LIKE,)),
    "keep_k, positions": Call(
        lambda x, **w: fd.keep_k((4, 3, 333), 80, indices=True, like=x, **w), (_LIKE,)
    ),
    "keep_k, axis 1": Call(lambda x, **w: fd.keep_k((4, 30, 40), 8, axis=1, like=x, **w), (_LIKE,)),
    "poisson_weights": Call(lambda x, **w: fd.poisson_weights((4, 333), like=x, **w), (_LIKE,)),
    "bernoulli_weights": Call(lambda x, **w: fd.bernoulli_weights((4, 333), like=x, **w), (_LIKE,)),
    "mask_spans": Call(lambda x, **w: fd.mask_spans((4, 333), like=x, **w), (_LIKE,)),
    "mask_spans, spanbert": Call(
        lambda x, **w: fd.mask_spans((4, 333), kind="spanbert", like=x, **w), (_LIKE,)
    ),
    "mask_spans, t5": Call(
        lambda x, **w: fd.mask_spans((4, 333), kind="t5", like=x, **w), (_LIKE,)
    ),
    "spec_augment": Call(
        lambda x, **w: fd.spec_augment(x, time_width=30, value=-1.5, **w), (_SOUND,)
    ),
    "swap_rows": Call(
        lambda x, source, **w: fd.swap_rows(x, source=source, **w), (_TABLE, _TABLE[::-1])
    ),
    "random_erasing": Call(lambda x, **w: fd.random_erasing(x, 0.9, **w), (_SOUND,)),
}


def check(device: Device, name: str, **where: Any) -> None:
    """Compare a call with NumPy's, twice, as the second one finds its tables."""
    call = CALLS[name]
    wanted = call(np.asarray, **where)
    for _ in range(2):
        for a, b in zip(call(device.put, **where), wanted, strict=True):
            np.testing.assert_array_equal(device.get(a), b)
            assert a.dtype == b.dtype and a.shape == b.shape
