"""cubed: lazy dropout of an array in chunks, with one mask whatever the chunks.

`cubed.map_blocks` tells a function which chunk it is given. All chunks but the last along an axis
have one length, so a chunk's number says where it begins. A task that is run again, on another
machine, gives the same bits.
"""

from __future__ import annotations

from typing import Any

import cubed
import numpy as np

import fastdrop as fd


def dropout(x: Any, p: float, key: fd.Key) -> Any:
    """Return a lazy cubed array of the chunks of x; `key` is asked for, as tasks may run twice."""
    shape, lengths = x.shape, x.chunksize

    def chunk(part: Any, block_id: tuple[int, ...]) -> Any:
        offset = tuple(n * length for n, length in zip(block_id, lengths, strict=True))
        with fd.threads(1):  # cubed runs several tasks at once
            return fd.dropout(part, p, rng=key, offset=offset, global_shape=shape)

    return cubed.map_blocks(chunk, x, dtype=x.dtype)


def run() -> None:
    """Compare arrays in chunks, before and after `rechunk`, with a call on the whole array."""
    x = np.random.default_rng(0).standard_normal((60, 37)).astype(np.float32)
    key, spec = fd.Key(3), cubed.Spec(allowed_mem="100MB")
    expected = fd.dropout(x, 0.5, rng=key)
    for chunks in (x.shape, (20, 10), (7, 37)):
        lazy = cubed.from_array(x, chunks=chunks, spec=spec)
        assert dropout(lazy, 0.5, key).compute().tobytes() == expected.tobytes()
        again = dropout(lazy.rechunk((25, 16)), 0.5, key)
        assert again.compute().tobytes() == expected.tobytes()
    # A function that is not told which chunk it is given draws one mask for all.
    halves = cubed.from_array(x, chunks=(30, 37), spec=spec)
    naive = cubed.map_blocks(lambda part: fd.dropout(part, 0.5, rng=key), halves, dtype=x.dtype)
    kept = naive.compute() != 0
    assert np.array_equal(kept[:30], kept[30:])
