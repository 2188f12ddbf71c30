"""Work sharing: how many threads share a call, and how long their chunks are.

`call_plan`, `multi_operand` and `softmax` use `shares` before they call `threads.run_together`.
"""

from __future__ import annotations

from ...threads import team_and_parallel_from, thread_count
from ..elements.operations import Operation
from ..loops.call_descriptor import ALL

CHUNKS_PER_THREAD = 16  # at most
# With fewer elements, a second thread costs more than it saves. Time on two threads relative to
# one, with two cores, the other idle (Cascade Lake, November 2026): 1 Mi 0.75 in repeated calls, as
# in training loops, but 1.15 after 20 ms of other work on one thread; 2 Mi 0.6 and 0.9. With the
# strided schedule, 1 Mi in runs of 16 that share a decision 0.6.
PARALLEL_FROM = 1 << 20
# Normal numbers take six times as long: 512 Ki take 0.97 ms on two threads instead of 1.65 (Cascade
# Lake, November 2026). With 4, threads start at 256 Ki; with 6, at 171 Ki, which was not measured.
_UNIFORM_WEIGHT = 4
# Chunks are small, so that a thread that starts late or shares its core does not delay the others
# (16 Mi on two threads: 10% faster than with 4 chunks each). But their first cache lines are not
# prefetched: 2 Mi take 5% less in chunks of 64 Ki than of 32 Ki, and no less in larger ones
# (Cascade Lake, November 2026).
_CHUNK = 1 << 16


def weight(operation: Operation) -> int:
    """Return the time of an element relative to dropout, by which threads are chosen."""
    return _UNIFORM_WEIGHT if operation.needs_uniform else 1


def is_shared(elements: int) -> bool:
    """Return whether several threads share a call, in this context, of this weight in elements."""
    _, least = team_and_parallel_from()
    return elements >= (PARALLEL_FROM if least is None else least) and thread_count() > 1


def shares(length: int, elements: int, multiple: int) -> tuple[int, int]:
    """Return the length of the chunks of an axis, and the number of threads."""
    threads, (team, least) = thread_count(), team_and_parallel_from()
    if elements < (PARALLEL_FROM if least is None else least) or threads == 1:
        return ALL, 1
    chunk = _CHUNK if team is None else team.chunk
    chunks = min(threads * CHUNKS_PER_THREAD, max(1, elements // chunk))
    size = -(-length // chunks)
    size = -(-size // multiple) * multiple
    return size, min(threads, -(-length // size))
