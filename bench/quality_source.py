"""What the quality report tests: masks and numbers of fastdrop, by key; and the keys.

The tests of `quality_bits`, `quality_keys` and `quality_values` draw from a `Source`. The tests of
the report itself put bad ones in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop_kernels.cpu.batch.uniforms import write_uniforms

Key = fd.Key
Array = npt.NDArray[Any]

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


class Source:
    """The masks of fastdrop."""

    def packed(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        """Return which of n elements are kept, 8 in a byte; n is a multiple of 64."""
        return fd.dropout_mask(n, p, rng=key, packed=True, offset=offset)

    def kept(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        """Return which of n elements are kept, as bools."""
        return fd.dropout_mask(n, p, rng=key, offset=offset)

    def uniforms(self, key: Key, n: int, offset: int = 0) -> Array:
        """Return the 32-bit uniforms of n elements."""
        out = np.empty(n, np.uint32)
        write_uniforms(out, key.seed, key.stream, offset)
        return out

    def normals(self, key: Key, n: int, dtype: Any = np.float32) -> Array:
        """Return n normal numbers."""
        return fd.gaussian_noise(np.zeros(n, dtype), 1.0, rng=key)

    def fold_in(self, key: Key, numbers: Array) -> Array:
        """Return seed and stream of the keys that are folded with numbers."""
        return fd.sample_keys(key, numbers)


class FromUniforms(Source):
    """Masks that are decided in NumPy, by uniforms alone: what a bad source is made of."""

    def threshold(self, p: float) -> int:
        """Return the threshold of a drop probability."""
        return round(p * 2**32)

    def kept(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        """Return which of n elements are kept, as bools."""
        return np.asarray(self.uniforms(key, n, offset) >= self.threshold(p))

    def packed(self, key: Key, p: float, n: int, offset: int = 0) -> Array:
        """Return which of n elements are kept, 8 in a byte."""
        return np.packbits(self.kept(key, p, n, offset), bitorder="little")


def key_of(test: str, number: int) -> Key:
    """Return the key of a test's repetition, always the same: NumPy's hash of its name."""
    words = np.random.SeedSequence([number, *test.encode()]).generate_state(2, np.uint64)
    return Key(int(words[0]), int(words[1]))


def ones(packed: Array) -> int:
    """Count the bits that are set, of a whole number of 64-bit words."""
    if hasattr(np, "bitwise_count"):
        return int(np.bitwise_count(packed.view(np.uint64)).sum(dtype=np.int64))
    return int(_ONES[packed].sum(dtype=np.int64))  # NumPy 1
