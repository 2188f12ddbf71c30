"""Check that this machine draws the masks of the contract.

A few seconds, and exact: known answers, and every kind of kernel against the NumPy reference.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastdrop_kernels import contract, reference

from .._check.key import Key
from .._functions.dropout import dropout, dropout_mask, masked_fill
from .threads import get_num_threads, set_num_threads

# (shape, p, seed, stream, sha256 of the packed mask), worked out independently of this code.
_KNOWN_MASKS = (
    ((64,), 0.5, 0, 0, "0dd6ca87dc14dee999c71f73f17da44a3502996983a02d685b09496ff4a5a1a1"),
    ((1000,), 0.1, 42, 7, "cfd713688aca78884b784b215243df8be146120e59555bb0df6da1f613aa49dc"),
)
# Random123's known answer for Philox4x32-10 with counter and key all ones.
_ONES = 0xFFFFFFFF
_PHILOX_OF_ONES = (0x41C83B0E408F276D, 0x6D5451FDA20BC7C6)


def _philox() -> bool:
    words = contract.philox4x32_10(*[np.uint64(_ONES)] * 6)
    return tuple(map(int, words)) == _PHILOX_OF_ONES


def _packed_bytes(shape: tuple[int, ...], p: float, key: Key) -> bytes:
    return dropout_mask(shape, p, rng=key, packed=True).tobytes()


def _known_masks() -> bool:
    return all(
        hashlib.sha256(_packed_bytes(shape, p, Key(seed, stream))).hexdigest() == digest
        for shape, p, seed, stream, digest in _KNOWN_MASKS
    )


def _agrees(x: Any, p: float, key: Key, **place: Any) -> bool:
    """Say whether all functions agree with the reference, bit for bit."""
    kept = reference.keep_mask(reference.mask_index(x.shape, **place), p, *key)
    computed = np.promote_types(x.dtype, np.float32)
    scaled = (x.astype(computed) * computed.type(contract.scale(p))).astype(x.dtype)
    expected = np.where(kept, scaled, x.dtype.type(0))
    poison = np.full_like(x, np.nan)
    return (
        np.array_equal(dropout(x, p, rng=key, out=poison, **place), expected)
        and np.array_equal(dropout_mask(x.shape, p, rng=key, **place), kept)
        and np.array_equal(
            dropout_mask(x.shape, p, rng=key, packed=True, **place),
            np.packbits(kept, bitorder="little"),
        )
        and np.array_equal(masked_fill(x, p, 7.5, rng=key, **place), np.where(kept, x, 7.5))
    )


def _fresh(dtype: Any) -> tuple[Any, Key]:
    rng = np.random.default_rng()
    x = rng.standard_normal((37, 211)).astype(dtype)
    return x, Key(int(rng.integers(2**63)), int(rng.integers(2**63)))


def _layouts() -> bool:
    x, key = _fresh(np.float32)
    layouts = (x, x.T, np.asfortranarray(x), x[::-2, 3:], np.broadcast_to(x[:1], x.shape))
    shard = {"offset": (5, 1000), "global_shape": (50, 5000)}
    return all(_agrees(a, p, key) for a in layouts for p in (0.0, 0.1, 1.0)) and all(
        _agrees(x, 0.3, key, **place)
        for place in ({"offset": 2**35 - 100}, {"noise_shape": (37, 1)}, shard)
    )


def _dtype(dtype: Any) -> bool:
    x, key = _fresh(dtype)
    return all(_agrees(x, p, key, offset=offset) for p in (0.1, 0.7) for offset in (0, 2**35 - 99))


def _ties() -> bool:
    index = 123_456_789_012
    uniform = int(contract.uniform32(np.uint64(9), np.uint64(0), np.uint64(index)))
    at, above = uniform / 2**32, (uniform + 1) / 2**32
    kept = [dropout_mask(1, p, rng=9, offset=index)[0] for p in (at, above)]
    return bool(kept[0]) and not kept[1]


def _threads() -> bool:
    x = np.ones(1_100_003, np.float32)  # enough for several threads
    threads = get_num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            set_num_threads(n)
            results.append(dropout(x, 0.2, rng=11))
    finally:
        set_num_threads(threads)
    return all(np.array_equal(results[0], result) for result in results)


def found_cupy() -> tuple[Any, str]:
    """Return CuPy where it can be imported and finds a GPU, and else why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is installed beside it
            import cupy
    except ImportError as error:
        return None, f"CuPy: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return None, str(error)
    return cupy, "" if count else "CuPy finds no device"


def _on_both(x: Any, on_gpu: Any, key: Key, **place: Any) -> bool:
    """Say whether the functions give the same for an array on the CPU and the same on a GPU."""
    place |= {"rng": key}
    results = [
        (
            dropout(a, 0.3, **place),
            masked_fill(a, 0.3, 7, **place),
            dropout_mask(a.shape, 0.3, like=a, **place),
            dropout_mask(a.shape, 0.3, like=a, packed=True, **place),
        )
        for a in (x, on_gpu)
    ]
    return all(np.array_equal(mine, theirs.get()) for mine, theirs in zip(*results, strict=True))


_VIEWS: tuple[Callable[[Any], Any], ...] = (
    lambda a: a,
    lambda a: a.T,
    lambda a: a[:, 3::2],
)


def _gpu(cupy: Any) -> bool:
    places: tuple[dict[str, Any], ...] = ({}, {"offset": 2**35 - 99}, {"noise_shape": (None, 1)})
    return all(
        _on_both(view(x), view(cupy.asarray(x)), key, **place)
        for x, key in map(_fresh, (np.float16, np.float32, np.float64))
        for place in places
        for view in _VIEWS
    )


def checks() -> Iterator[tuple[str, bool]]:
    """Run the checks one by one, and yield what each is about and whether it passed."""
    yield "Philox4x32-10 gives its known answer", _philox()
    yield "masks are those of contract version 1", _known_masks()
    yield "float32 kernels agree with the reference, in all layouts", _layouts()
    yield "float64 kernels agree with the reference", _dtype(np.float64)
    yield "float16 kernels agree with the reference", _dtype(np.float16)
    yield "ties are settled by the second 16 bits", _ties()
    yield "any number of threads gives the same bits", _threads()
    cupy, reason = found_cupy()
    if not reason:
        yield "the GPU gives the same bits as the CPU", _gpu(cupy)
