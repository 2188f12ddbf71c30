"""Keys in GPU memory, for CUDA graphs.

All other functions take CuPy arrays as they take NumPy arrays: see `fastdrop.dropout`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._check.key import RNG, Key, KeyOnDevice, as_key

__all__ = ["DeviceKey"]


class DeviceKey(KeyOnDevice):
    """A key in GPU memory, which kernels read when they run.

    A CUDA graph replays its kernels with the captured arguments, so a `Key` would give the same
    mask at every replay. Kernels that read the key from memory draw a new one, if the last kernel
    of the graph is `advance`::

        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            key = fd.cuda.DeviceKey(fd.Key(42))
            fd.dropout(x, 0.5, rng=key, out=y)       # loads the kernel before the capture
            stream.begin_capture()
            fd.dropout(x, 0.5, rng=key, out=y)       # forward
            ...                                      # the rest of a training step
            fd.dropout(dy, 0.5, rng=key, out=dx)     # backward: the same mask
            key.advance()                            # the next replay draws the next one
            graph = stream.end_capture()
            for step in range(1000):
                graph.launch()

    Replay n, from 0, has the mask of ``Key(seed, (stream + n) mod 2**64)``, as forward n of a
    `fastdrop.Dropout` with the same key. Each layer in a graph needs its own key, such as
    ``DeviceKey(key.fold_in(0))``, ``DeviceKey(key.fold_in(1))``.

    Functions take it as `rng` for arrays on its device. It must live as long as the graphs that
    read it, and so must the arrays. In a graph of another library's, `advance` has to be called
    while the captured stream is CuPy's current one.

    Parameters
    ----------
    rng : Key, int, Generator, numpy.random, or anything else that `as_key` takes
        The initial key, see `as_key`. It is copied to CuPy's current device on the current stream,
        which must not be capturing.

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

        # Start at stream - 1 and advance once: this loads the kernel, which may not be possible
        # during a capture.
        self.words: Any = cupy.array(np.array(key.advanced(-1), np.uint64))
        self.advance()

    @property
    def pointer(self) -> int:
        """Device address of the two words, for your own kernels."""
        address: int = self.words.data.ptr
        return address

    @property
    def device(self) -> int:
        """Number of the device."""
        number: int = self.words.data.device_id
        return number

    def advance(self) -> None:
        """Add 1 to the key's stream, modulo ``2**64``, by a kernel on CuPy's current stream.

        It is asynchronous and can be captured in a graph.
        """
        from ._arrays.cupy_arrays import cuda_driver, cupy_backend

        with cupy_backend().on_device(self.words):
            cuda_driver().advance(self.pointer)

    def key(self) -> Key:
        """Return the current key; waits for CuPy's current stream."""
        seed, stream = self.words.get()
        return Key(int(seed), int(stream))

    def __repr__(self) -> str:
        """Show the device; showing the key would have to wait for it."""
        return f"<DeviceKey on device {self.device}>"
