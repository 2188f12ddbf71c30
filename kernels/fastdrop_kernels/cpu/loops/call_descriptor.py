"""What kernels know of a call: a descriptor that the host writes, and a state on their stack.

`cpu.host` writes a *call descriptor*, words in memory that hold for all calls of a layout, and
gives every kernel its address. A kernel copies what its loops need to a *call state* on its stack,
beside the key and the mask buffer, and hands its loops the address of that. So no loop has more
than eight parameters, and threads share nothing but the counter from which they take chunks.

Numba takes 40 ns to make a number of an argument, and Python as long to make the argument.
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

ALL = 1 << 62  # a chunk that no array is larger than

_ALL, _ZERO = np.uint64(ALL), np.uint64(0)

# Byte offsets in a descriptor: how many elements there are (or axes), the threshold of all
# elements, the slots of the operation's parameters and of the table of axes, the axis that is cut
# into chunks; where the operation's program is (see `tiles`); and if elements have their own p, the
# address of p, the bytes of each, and whether the factor of kept elements is given and not made of
# p.
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
# the mask buffer, and which elements' noise it holds, from FIRST on and below END; whether no
# decision is asked for twice (ONCE), and how many mask indices from here on will be asked for soon
# (REACH).
# Of calls by a p of each element: p of the element treated next, its bytes, and whether factors are
# given; the threshold streams, where in them the element treated next is (PLACE), behind how many
# elements they are repeated (PERIOD), and their step, 0 or 1.
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
    """A call descriptor, and what it needs to stay alive."""

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
    """Return the descriptor of calls on so many elements, or axes.

    `p` is the address of an array of p, the bytes of each, and whether the factor is given.
    """
    slots = slot(value), slot(value if axes is None else axes)
    # Python's array says where it is in 0.1 us; NumPy's in 1.5.
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
    """Write the key to a call state, and that its mask buffer is empty."""
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
    """Say that the mask buffer is empty: at first, and where another threshold has settled it."""
    store64(call, FIRST, _ZERO)
    store64(call, END, _ZERO)


@device
def length_in(descriptor: Any) -> Any:
    """Return how many elements there are, or axes."""
    return load64(descriptor, _LENGTH)


@device
def threshold_in(descriptor: Any) -> Any:
    """Return the threshold of all elements."""
    return load64(descriptor, _THRESHOLD)


@device
def value_in(descriptor: Any) -> Any:
    """Return the address of the operation's parameters."""
    return load64(pointer_at(load64(descriptor, _VALUE)), _ZERO)


@device
def split_in(descriptor: Any) -> Any:
    """Return the axis that is cut into chunks."""
    return load64(descriptor, _SPLIT)


@device
def axes_in(descriptor: Any) -> Any:
    """Return where the table of axes is."""
    return pointer_in(load64(descriptor, _AXES))


@device
def dispatch_table_in(descriptor: Any) -> Any:
    """Return where the operation's program is."""
    return pointer_at(load64(descriptor, _DISPATCH_TABLE))


@device
def set_p(call: Any, descriptor: Any) -> None:
    """Write to a call state what there is to know of p, but where it is."""
    store64(call, P_BYTES, load64(descriptor, _P_BYTES))
    store64(call, IS_GIVEN, load64(descriptor, _IS_GIVEN))


@device
def p_in(descriptor: Any) -> Any:
    """Return the address of an array of p."""
    return load64(descriptor, _P)


# What a kernel sets aside for a counter of its own.
counter_scratch = scratch(8)


@device
def counter_in(slot: Any, own: Any) -> Any:
    """Return the counter of a slot, or one's own, made ready, where there is none."""
    store64(own, _ZERO, _ZERO)
    return pointer_in(slot) if slot else own


@device
def take_chunk(counter: Any, chunk: Any) -> Any:
    """Take the next chunk from an atomic counter, and return where it begins.

    Threads share an array by calling the same kernel with the same counter, an array of one uint64
    that is 0 at first: each takes chunk after chunk, until none is left. So threads come to Python,
    and wait for the GIL, once a call and not once a chunk: 16 chunks of 64 Ki on two threads took
    312 us, 4 chunks 274. Who is alone takes one chunk, `ALL`, and needs no counter.
    """
    if chunk != _ALL:
        return take(counter, chunk)
    begin = load64(counter, _ZERO)
    store64(counter, _ZERO, begin + chunk)
    return begin
