"""Call descriptors, which the host writes, and call states, which kernels keep on their stacks.

`cpu.host` writes a *call descriptor*, words in memory that are valid for all calls of one layout,
and passes its address to a kernel. The kernel copies what its loops need to a *call state* on its
stack, with the key and the address of the mask buffer, and passes the address of the state to the
loops. So no loop has more than eight parameters, and threads share only the counter of chunks.

For each argument of a kernel, Numba takes 40 ns to convert it to a number, and Python takes as long
to create it (Cascade Lake, November 2026).
"""

from __future__ import annotations

import array
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..codegen.compiler import device
from ..codegen.intrinsics import copy_bytes, pointer_at, pointer_in, scratch, take
from ..codegen.ndarray_layout import slot
from ..codegen.vectors import I64, load
from ..elements.sampler import load64, store64

ALL = 1 << 62  # a chunk of the whole array, whatever its size

_ALL, _ZERO = np.uint64(ALL), np.uint64(0)

# Byte offsets in a descriptor: the number of elements (or axes), the common threshold, the slot of
# the operation's parameters, the axis that is split into chunks, the slot of the table of axes, the
# address of the dispatch table (see `tiles`); and for per-element p, the address of p, the bytes of
# each number, and whether the factor of kept elements is given (1) or computed from p (0).
(
    _LENGTH,
    _THRESHOLD,
    _VALUE,
    _SPLIT,
    _AXES,
    _DISPATCH_TABLE,
    _P,
    _P_BYTES,
    _IS_GIVEN,
    _DESCRIPTOR_BYTES,
) = (np.uint64(8 * k) for k in range(10))

# Byte offsets in a call state: the key, the threshold, the address of the operation's parameters;
# the address of the mask buffer, which holds the elements from FIRST to below END; whether no
# decision is needed twice (ONCE), and how many mask indices from the current one on are needed soon
# (REACH). For per-element p: the address of the next element's p, the bytes of a number, and
# whether factors are given; the address of the threshold streams, the next element's position in
# them (PLACE), the number of elements after which they repeat (PERIOD), and their step, 0 or 1.
(
    SEED, STREAM, THRESHOLD, VALUE, BUFFER, FIRST, END, ONCE, REACH,
    P, P_BYTES, IS_GIVEN, STREAMS, PLACE, PERIOD, STEP,
) = (np.uint64(8 * k) for k in range(16))  # fmt: skip
call_state = scratch(8 * 16)


class State(NamedTuple):
    """The words of a call state, loaded by code that is being generated."""

    seed: Any
    stream: Any
    threshold: Any
    value: Any  # a pointer
    streams: Any  # a pointer
    place: Any
    period: Any
    step: Any


def loaded(builder: Any, call: Any) -> State:
    """Load a call state."""

    def word(offset: np.uint64) -> Any:
        return load(builder, call, int(offset), I64, 0).value

    value, streams = (builder.inttoptr(word(offset), call.type) for offset in (VALUE, STREAMS))
    of_stream = word(PLACE), word(PERIOD), word(STEP)
    return State(word(SEED), word(STREAM), word(THRESHOLD), value, streams, *of_stream)


class Descriptor(NamedTuple):
    """A call descriptor, and the objects whose memory it refers to."""

    at: int  # its address
    alive: tuple[Any, ...]


def make_descriptor(
    length: int,
    threshold: int,
    value: npt.NDArray[Any],
    split: int = 0,
    axes: npt.NDArray[np.uint64] | None = None,
    dispatch_table: npt.NDArray[np.uint64] | None = None,
    p: tuple[int, int, bool] = (0, 0, True),
) -> Descriptor:
    """Return a descriptor; `length` is the number of elements, or of axes.

    `p` is the address of an array of p, the bytes of each number, and whether the factor is given.
    """
    slots = slot(value), slot(value if axes is None else axes)
    # An array.array returns its address in 0.1 us, a NumPy array in 1.5 (Cascade Lake, 2026-11).
    at = 0 if dispatch_table is None else dispatch_table.__array_interface__["data"][0]
    words = array.array("Q", (length, threshold, slots[0], split, slots[1], at, *p))
    return Descriptor(words.buffer_info()[0], (words, value, axes, slots, dispatch_table))


descriptor_scratch = scratch(int(_DESCRIPTOR_BYTES))


@device
def copy_with_length(descriptor: Any, target: Any, length: Any) -> None:
    """Copy a descriptor, with another number of elements."""
    for word in (_THRESHOLD, _VALUE, _SPLIT, _AXES):
        store64(target, word, load64(descriptor, word))
    store64(target, _LENGTH, length)


@device
def copy_with_p(descriptor: Any, target: Any, p: Any) -> None:
    """Copy a descriptor, with the address of another array of p."""
    copy_bytes(target, descriptor, _DESCRIPTOR_BYTES)
    store64(target, _P, p)


@device
def set_key(call: Any, seed: Any, stream: Any) -> None:
    """Write the key to a call state, and mark its mask buffer as empty."""
    store64(call, SEED, seed)
    store64(call, STREAM, stream)
    forget(call)


@device
def set_coefficients(call: Any, threshold: Any, value: Any) -> None:
    """Write the threshold, and the address of the operation's parameters, to a call state."""
    store64(call, THRESHOLD, threshold)
    store64(call, VALUE, value)


@device
def forget(call: Any) -> None:
    """Mark the mask buffer as empty."""
    store64(call, FIRST, _ZERO)
    store64(call, END, _ZERO)


@device
def length_in(descriptor: Any) -> Any:
    """Return the number of elements, or of axes."""
    return load64(descriptor, _LENGTH)


@device
def threshold_in(descriptor: Any) -> Any:
    """Return the common threshold."""
    return load64(descriptor, _THRESHOLD)


@device
def value_in(descriptor: Any) -> Any:
    """Return the address of the operation's parameters."""
    return load64(pointer_at(load64(descriptor, _VALUE)), _ZERO)


@device
def split_in(descriptor: Any) -> Any:
    """Return the axis that is split into chunks."""
    return load64(descriptor, _SPLIT)


@device
def axes_in(descriptor: Any) -> Any:
    """Return the pointer to the table of axes."""
    return pointer_in(load64(descriptor, _AXES))


@device
def dispatch_table_in(descriptor: Any) -> Any:
    """Return the pointer to the operation's dispatch table."""
    return pointer_at(load64(descriptor, _DISPATCH_TABLE))


@device
def set_p(call: Any, descriptor: Any) -> None:
    """Copy to a call state the bytes of a number of p, and whether factors are given."""
    store64(call, P_BYTES, load64(descriptor, _P_BYTES))
    store64(call, IS_GIVEN, load64(descriptor, _IS_GIVEN))


@device
def p_in(descriptor: Any) -> Any:
    """Return the address of an array of p."""
    return load64(descriptor, _P)


# A kernel's own counter, for calls on one thread.
counter_scratch = scratch(8)


@device
def counter_in(slot: Any, own: Any) -> Any:
    """Return the counter of a slot, or if the slot is 0, the kernel's own, which is set to 0."""
    store64(own, _ZERO, _ZERO)
    return pointer_in(slot) if slot else own


@device
def take_chunk(counter: Any, chunk: Any) -> Any:
    """Take the next chunk from an atomic counter, and return where it begins.

    Threads share an array by calling the same kernel with the same counter, an array of one uint64
    that is 0 at first; each takes chunks until none is left. So a thread returns to Python, and
    waits for the GIL, once a call and not once a chunk: 16 chunks of 64 Ki on two threads took 312
    us, 4 chunks 274 (Cascade Lake, 2026-11). A single thread takes one chunk, `ALL`, and needs no
    atomic counter.
    """
    if chunk != _ALL:
        return take(counter, chunk)
    begin = load64(counter, _ZERO)
    store64(counter, _ZERO, begin + chunk)
    return begin
