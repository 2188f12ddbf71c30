"""What only a GPU has: keys in its memory, for CUDA graphs.

Everything else is the same functions for CuPy arrays as for NumPy's: see `fastdrop.dropout`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._check.key import RNG, Key, KeyOnDevice, as_key

__all__ = ["DeviceKey"]


class DeviceKey(KeyOnDevice):
    """A key in the memory of a GPU, which kernels read when they run.

    A CUDA graph repeats its kernels with the arguments that they were captured with, and with a
    `Key` would draw the same mask at every replay. It draws the next one if its kernels take the
    key from memory, and the last of them is `advance`::

        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            key = fd.cuda.DeviceKey(fd.Key(42))
            fd.dropout(x, 0.5, rng=key, out=y)       # once, so that its kernel is loaded
            stream.begin_capture()
            fd.dropout(x, 0.5, rng=key, out=y)       # forward
            ...                                      # the rest of a training step
            fd.dropout(dy, 0.5, rng=key, out=dx)     # backward: the same mask
            key.advance()                            # the next replay draws the next one
            graph = stream.end_capture()
            for step in range(1000):
                graph.launch()

    The n-th replay, from 0, has the mask of ``Key(seed, (stream + n) mod 2**64)``, which is that of
    the n-th forward of a `fastdrop.Dropout` of the same key. Several layers in a graph need a key
    each, such as ``DeviceKey(key.fold_in(0))``, ``DeviceKey(key.fold_in(1))``.

    Functions take it as `rng` for arrays on its device. It must live as long as a graph that reads
    it, and so must the arrays.

    Parameters
    ----------
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        What it is at first, see `as_key`. It is made on CuPy's current device, by a copy on its
        current stream: not while that is being captured.

    Attributes
    ----------
    words : cupy.ndarray
        Seed and stream, two uint64.
    """

    def __init__(self, rng: RNG = None) -> None:
        key = as_key(rng)
        try:
            import cupy
        except ModuleNotFoundError as error:
            if error.name != "cupy":
                raise
            raise ModuleNotFoundError(
                "a DeviceKey needs CuPy, which is not installed: pip install "
                "'fastdrop-kernels[cuda13]' (or [cuda12])",
                name="cupy",
            ) from None

        # One less, and then advanced: so that the kernel is loaded, which a stream that is being
        # captured may not allow.
        self.words: Any = cupy.array(np.array(key.advanced(-1), np.uint64))
        self.advance()

    @property
    def pointer(self) -> int:
        """Address of the two words on the device, for kernels of your own."""
        address: int = self.words.data.ptr
        return address

    @property
    def device(self) -> int:
        """Number of the device."""
        number: int = self.words.data.device_id
        return number

    def advance(self) -> None:
        """Add one to the stream, modulo ``2**64``, in order on CuPy's current stream.

        A kernel does it, which can be captured in a graph. Nothing waits for it.
        """
        from ._arrays.cupy_arrays import cuda_driver, cupy_backend

        with cupy_backend().on_device(self.words):
            cuda_driver().advance(self.pointer)

    def key(self) -> Key:
        """Return the key as it is now: waits for all that is on CuPy's current stream."""
        seed, stream = self.words.get()
        return Key(int(seed), int(stream))

    def __repr__(self) -> str:
        """Say where it lies; what it is would have to be waited for."""
        return f"<DeviceKey on device {self.device}>"
