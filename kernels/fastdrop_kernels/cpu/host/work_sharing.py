"""How many threads share a call, and in chunks of what size.

The plans of `call_plan`, and the drivers of several operands and of softmax, ask `shares` before
they run a kernel on the threads of `fastdrop_kernels.threads`.
"""

from __future__ import annotations

from ...threads import thread_count
from ..elements.operations import Operation
from ..loops.call_descriptor import ALL

CHUNKS_PER_THREAD = 16  # at most
# Elements below which a second thread costs more than it saves, on a machine of two cores whose
# other core was idle: 1 Mi takes 0.75 of one thread's time on two if called again and again, as a
# training loop does, but 1.15 after 20 ms in which one thread did something else, and 2 Mi 0.6 and
# 0.9. Of what is walked over, 1 Mi in runs of 16 that share a decision takes 0.6.
PARALLEL_FROM = 1 << 20
# Normal numbers take six times as long: 512 Ki in 0.97 ms on two threads, not 1.65. By 4 and not 6,
# threads come in from 256 Ki on, and not from 171 Ki, where nobody has timed whether they pay.
_EXACT_WEIGHT = 4
# Chunks are small, so that a thread that starts late or shares its core does not hold up the others
# (16 Mi on two threads: 10% faster than with 4 chunks each), but begin with lines that nobody has
# asked for: 2 Mi takes 5% less in chunks of 64 Ki than of 32 Ki, and no less in larger ones.
_CHUNK = 1 << 16


def weight(operation: Operation) -> int:
    """Return how much longer an element takes than one of dropout, as far as threads care."""
    return _EXACT_WEIGHT if operation.needs_uniform else 1


def shares(length: int, elements: int, multiple: int) -> tuple[int, int]:
    """Return how long the chunks of an axis are, and how many threads share them."""
    threads = thread_count()
    if elements < PARALLEL_FROM or threads == 1:
        return ALL, 1
    chunks = min(threads * CHUNKS_PER_THREAD, max(1, elements // _CHUNK))
    size = -(-length // chunks)
    size = -(-size // multiple) * multiple
    return size, min(threads, -(-length // size))
