"""Generators of masks that are not random enough, which the quality report must reject."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from bench.quality_source import Array, FromUniforms, Key, Source
from fastdrop_kernels import contract

_PART = 1 << 17  # elements, whose words stay in the caches


class Lagged(FromUniforms):
    """One element in a hundred decides as the one 100 places before it."""

    def kept(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        kept = fd.dropout_mask(n, p, rng=key, offset=offset).copy()
        copied = ~fd.dropout_mask(n, 0.01, rng=key.fold_in(1), offset=offset)
        copied[:100] = False
        return np.asarray(np.where(copied, np.roll(kept, 100), kept))


class Biased(Source):
    """p is too large by one part in 10,000."""

    def packed(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        return super().packed(key, p * 1.0001, n, offset)


class Stuck(FromUniforms):
    """The counter begins again after 2**20 elements."""

    def uniforms(self, key: Key, n: int, offset: int = 0) -> Array:
        period = 1 << 20
        first = super().uniforms(key, min(n + offset % period, period), 0)
        return np.resize(np.roll(first, -(offset % period)), n)


class Added(Source):
    """The stream is added to the seed, so that neighbours share their masks."""

    def packed(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        return super().packed(Key((key.seed + key.stream) % 2**64), p, n, offset)


class Xored(Source):
    """Seed and stream are combined by xor, so that one may take the other's place."""

    def packed(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        return super().packed(Key(key.seed ^ key.stream), p, n, offset)


class Rounds(FromUniforms):
    """Philox of fewer rounds than ten."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def _block_bits(self, key: Key, blocks: Array, level: int) -> tuple[Any, Any]:
        words = (*contract.split(blocks), *contract.split(np.uint64(key.stream)))
        c0, c1, c2, c3 = words
        c1 = c1 + contract.level_word(np.uint64(level))
        state = (c0, c1, c2, c3, *contract.split(np.uint64(key.seed)))
        for _ in range(self.rounds - 1):
            state = contract.philox_round(*state)
        return contract.philox_last_round(*state)

    def uniforms(self, key: Key, n: int, offset: int = 0) -> Array:
        out = np.empty((-(-n // 8), 8), np.uint32)
        for at in range(0, len(out), _PART // 8):
            part = out[at : at + _PART // 8]
            blocks = np.arange(len(part), dtype=np.uint64) + np.uint64(offset // 8 + at)
            levels = [
                np.stack(np.broadcast_arrays(*self._block_bits(key, blocks, level)), axis=-1)
                .view(np.uint16)
                .reshape(-1, 8)
                for level in (0, 1)
            ]
            part[:] = levels[0].astype(np.uint32) << 16 | levels[1]
        return out.reshape(-1)[:n]

    def fold_in(self, key: Key, numbers: Array) -> Array:
        n = np.asarray(numbers, np.uint64)
        c0, c1 = contract.split(n)
        state: Any = (c0, c1 + np.uint64(1 << 30), *contract.split(np.uint64(key.stream)))
        state = (*state, *contract.split(np.uint64(key.seed)))
        for _ in range(self.rounds - 1):
            state = contract.philox_round(*state)
        return np.stack(np.broadcast_arrays(*contract.philox_last_round(*state)), axis=-1)
