"""`apply_blocks`: a function on an array that is larger than memory.

It checks all arguments, cuts the source into blocks (`cut`), opens source and target (`stores`),
and hands them to three threads (`pipeline`), which call the function by `calls`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np

from .._check import arguments, detect
from .._check.arguments import Array
from .._check.key import RNG, Key, as_key
from .._check.keywords import MISSING
from .._functions.progress import Tracked, progress_bar

# Blocks in buffers stay in the third-level cache between reading, computing and writing if they are
# small: 1 GiB of float32 in a cached file, in place, takes 0.17 s in blocks of 2 MiB, 0.20 of 4,
# 0.26 of 8 and 0.36 of 16 (Zen 5, 32 MiB of L3, 2026-11). Threads share blocks from 4 MiB on.
_FILE_BYTES = 4 << 20
_STORE_BYTES = 16 << 20  # several chunks, which libraries decode in parallel
_MEMORY_BYTES = 32 << 20
_BUFFERS = 4  # one for each stage, and one for what they do not take equally long for


def apply_blocks(
    function: Callable[..., Any],
    source: Any,
    target: Any = MISSING,
    *args: Any,
    rng: RNG = None,
    block_bytes: int | None = None,
    start: int = 0,
    progress: bool | str | Callable[[int, int], Any] | None = False,
    **keywords: Any,
) -> Any:
    """Apply a function to an array that is larger than memory, block by block, into another.

    The result is bit for bit that of one call on the whole array. While a block is computed, on all
    threads, the next ones are read and those before are written.

    Parameters
    ----------
    function : callable
        `dropout`, `masked_fill`, `dropout_mask`, `gaussian_dropout`, `gaussian_noise`,
        `alpha_dropout`, `feature_alpha_dropout`, their backwards, `feature_dropout`, `drop_path`,
        `zoneout`, `bias_act_dropout_add`, `softmax_dropout` or its backward.
    source : array
        What the function gets as its first argument: a `numpy.memmap` or another ndarray, an array
        of zarr or h5py, or any object with a shape, a NumPy dtype and slices like NumPy's. For
        `dropout_mask` it is the shape.
    target : array or None
        Where the result is written: of the shape of `source`, and the dtype of the result. To
        work **in place** give `source` again, or None.
    *args, **keywords
        The function's other arguments. Arrays among them (p, bias, residual, ...) broadcast to
        `source`, and may be on disk, too, except p.
    rng : Key, int, Generator or anything else that `as_key` takes
        As in `dropout`. It is asked for a key once, before anything is written.
    block_bytes : int, optional
        About how large a block is. Blocks are whole chunks of the target, and of the source where
        that fits, and at least one. The default is 4 MiB for files, 16 for zarr, h5py and others,
        and 32 for arrays in memory. At most four blocks are in memory at once.
    start : int
        The block to begin with: those before are done already.
    progress : bool, "rich", "tqdm", callable or None
        Whether to show a progress bar, and of which package, on a terminal or in a notebook; where
        stderr is neither there is a line now and then. None shows a bar alone, where it takes more
        than a second. A callable is called after each block, with the number of blocks that are
        done and of all blocks.

    Returns
    -------
    array
        `target`, or `source` if that is None.

    Raises
    ------
    TypeError, ValueError
        As the function; nothing has been written then.
    BaseException
        What interrupts it (KeyboardInterrupt, an error of the disk) is raised when the block that
        is being written is complete. It has an attribute `resume`, a dict of the arguments `start`,
        `rng` and `block_bytes` with which the same call goes on. All blocks before `start` are
        done; all others are untouched, except that an error in writing may leave that block written
        in part, which its note says.

    Notes
    -----
    In place, a block that is done twice is scaled twice (but `masked_fill`, or ``scale=1.0``, gives
    the same again). So resume at the very block. A process that is killed cannot say which that is,
    and may leave a block written in part: into another target any block can be done again.

    `numpy.memmap` and other arrays that are mapped from a file are read and written through the
    file, not through the mapping; all views see the result at once. As after an assignment, call
    ``target.flush()`` if it must be on the disk.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((1000, 100), np.float32)  # or numpy.memmap("x.bin", numpy.float32, "r+")
    >>> right = fd.dropout(x, 0.5, rng=42)
    >>> y = fd.apply_blocks(fd.dropout, x, x, 0.5, rng=42)  # in place
    >>> y is x, bool((x == right).all())
    (True, True)
    """
    from . import calls

    function = calls.checked_function(function)
    if target is MISSING:
        raise TypeError(
            f"apply_blocks() misses target, which comes before the arguments of "
            f"{function.__name__}: give an array to write to, or source itself to work in place"
        )
    job = _Job(function, source, target, args, keywords, block_bytes)
    count = len(job.blocks)
    start = arguments.integer("start", start)
    if not 0 <= start <= count:
        raise ValueError(
            f"start={detect.short(start)} is not one of the blocks: there are {count}, from 0 on; "
            "give the number of one, or of all"
        )
    if start and job.call.training and _moves_on(rng):
        raise ValueError(
            f"start={start} goes on with a mask, and rng={detect.kind_of(rng)} would give another "
            "key: give the key of the call that was interrupted, its error's resume['rng']"
        )
    shown = _shown(progress, f"fastdrop.{function.__name__}", start, count)
    job.rehearse()
    job.run(start, as_key(rng) if job.call.training else Key(0), shown)
    return job.result


def _moves_on(rng: Any) -> bool:
    """Return whether an rng gives another key each time."""
    if rng is None:
        return True
    return detect.is_rng(rng) and not isinstance(rng, np.random.SeedSequence)


def _shown(progress: Any, title: str, start: int, count: int) -> Tracked:
    """Return a function that shows blocks as they are done."""
    if not callable(progress):
        return progress_bar(progress, title)

    def told(blocks: Iterable[int], n: int) -> Iterator[int]:
        for block in blocks:
            progress(block + 1, count)
            yield block

    return told


class _Job:
    """A call that has been checked: what is read, computed and written, block by block."""

    def __init__(
        self,
        function: Callable[..., Any],
        source: Any,
        target: Any,
        args: Any,
        keywords: Any,
        block_bytes: Any,
    ) -> None:
        from . import calls, stores

        self._reads = not calls.is_mask(function)
        if self._reads:
            source = stores.checked(source, "source")
            shape, self._dtype = tuple(map(int, source.shape)), source.dtype
            target = source if target is None else target
        else:
            source = shape = arguments.lengths("source", source)
            self._dtype = np.dtype(np.bool_)
        self.result = stores.checked_target(target)
        self._source, self.shape = source, shape
        if tuple(target.shape) != shape:
            raise ValueError(f"target has shape {target.shape}, and source has {shape}: give that")
        if target.dtype != self._dtype:
            raise TypeError(
                f"target has dtype {target.dtype}, and the result has {self._dtype}: give one of "
                "that"
            )
        self.call = calls.Call(function, shape, self._dtype, args, keywords)
        for name, array in {"source": source, **self.call.operands}.items():
            if stores.overlap_in_part(array, target):
                raise ValueError(
                    f"target overlaps {name} in part, so that blocks would be read after they were "
                    "written: give another target, or the same array"
                )
        self._cut(block_bytes)

    def _cut(self, block_bytes: Any) -> None:
        """Cut into blocks, and choose how they are read and written."""
        from . import cut, stores

        source, target = self._source, self.result
        limit = None if block_bytes is None else arguments.whole("block_bytes", block_bytes, 1)
        ends = [end for end in (source, target) if hasattr(end, "dtype")]
        if limit is None:
            in_memory = [isinstance(end, np.ndarray) for end in ends]
            mapped = [stores.place_of(end) is not None for end in ends]
            limit = _STORE_BYTES if not all(in_memory) else _MEMORY_BYTES
            limit = _FILE_BYTES if all(in_memory) and any(mapped) else limit
        self.block_bytes = limit
        axes = range(len(self.shape))
        # A Fortran-ordered array is cut along its last axis, so that blocks are stretches of it.
        fortran = all(isinstance(end, np.ndarray) and end.flags.fnc for end in ends)
        self._order: Literal["C", "F"] = "F" if fortran else "C"
        along = list(reversed(axes)) if fortran else list(axes)
        itemsize = self._dtype.itemsize
        read, written = cut.chunks_of(source), cut.chunks_of(target)
        chunks = cut.common_chunks(self.shape, itemsize, limit, read, written)
        self.blocks = cut.cut(self.shape, along, itemsize, limit, chunks, self.call.whole_axes)
        self._contiguous = self.blocks.are_contiguous(along)
        self._where = self.call.placement(self.blocks.are_contiguous(axes))

    def _opened(self, end: Any, name: str, for_writing: bool) -> Any:
        from . import stores

        if not isinstance(end, np.ndarray):
            return stores.Store(end, name)
        plain = end.flags.c_contiguous if self._order == "C" else end.flags.f_contiguous
        file = stores.opened_file(end, for_writing) if self._contiguous and plain else None
        return file or stores.Memory(end.view(np.ndarray))

    def rehearse(self) -> None:
        """Call the function on a block of zeros: what it refuses, it refuses before any writing.

        This also compiles its kernels.
        """
        region = self.blocks[0] if len(self.blocks) else tuple([slice(0, n) for n in self.shape])
        shape = tuple([at.stop - at.start for at in region])
        x = np.zeros(shape, self._dtype, order=self._order)
        given = x if self._reads else shape
        self.call(given, Key(0), x, self.call.operand_blocks(region), self._where(region))

    def run(self, start: int, key: Key, shown: Tracked) -> None:
        """Do all blocks from `start` on."""
        from .pipeline import Pipeline

        opened: list[Any] = []
        source: Any = None
        count, size = len(self.blocks), self.block_bytes

        def finish(error: BaseException | None) -> None:
            if error is not None:
                _annotate(error, line.done, line.torn, count, key, size)
            for end in opened:
                end.close()

        try:
            opened.append(target := self._opened(self.result, "target", True))
            if self._reads:
                in_place = self._source is self.result
                source = target if in_place else self._opened(self._source, "source", False)
                opened.append(source)
            buffers = self._buffers(source, target)
            line = Pipeline(start, count, *self._stages(source, target, key))
        except BaseException:
            for end in opened:
                end.close()
            raise
        line.run(buffers, shown, finish)

    def _buffers(self, source: Any, target: Any) -> list[Array]:
        buffered = any(end is not None and end.buffered for end in (source, target))
        size = self.blocks.elements * self._dtype.itemsize if buffered else 0
        return [np.empty(size, np.uint8) for _ in range(_BUFFERS)]

    def _stages(self, source: Any, target: Any, key: Key) -> Any:
        """Return the functions that read, compute and write a block."""
        from . import stores

        def block_of(buffer: Array, region: Any) -> Array:
            shape = tuple([at.stop - at.start for at in region])
            return stores.buffer_of(buffer, shape, self._dtype, self._order)

        def read(n: int, buffer: Array) -> Any:
            region = self.blocks[n]
            into = block_of(buffer, region) if source is not None and source.buffered else buffer
            x = None if source is None else source.read(region, into)
            return x, self.call.operand_blocks(region)

        def compute(n: int, buffer: Array, given: Any) -> Array:
            out = block_of(buffer, self.blocks[n])
            self._call(n, key, out, given)
            return out

        def write(n: int, buffer: Array, result: Array) -> None:
            target.write(self.blocks[n], result)

        def compute_into(n: int, buffer: Array, given: Any) -> None:
            self._call(n, key, target.read(self.blocks[n], buffer), given)

        if target.buffered:
            return read, compute, write
        # The kernel writes to the target. That is the writing: what has begun must be counted.
        return read, lambda n, buffer, given: given, compute_into

    def _call(self, n: int, key: Key, out: Array, given: Any) -> None:
        x, operands = given
        x = out.shape if x is None else x
        self.call(x, key, out, operands, self._where(self.blocks[n]))


def _annotate(
    error: BaseException, done: int, torn: bool, count: int, key: Key, block_bytes: int
) -> None:
    """Say in an error where to go on."""
    resume = {"start": done, "rng": key, "block_bytes": block_bytes}
    text = f"{done} of {count} blocks are done"
    if torn:
        text += f", and block {done} may be written in part"
    text += f": go on with start={done}, rng={key!r}, block_bytes={block_bytes}"
    try:
        error.resume = resume  # type: ignore[attr-defined]
    except AttributeError:  # a type with slots
        pass
    if sys.version_info >= (3, 11):
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)
    elif isinstance(error, KeyboardInterrupt) and not error.args:
        error.args = (text,)
