"""Who is timed: one list of contenders for every section, for memory and for pytest.

To add one, write its setup function in `bench.peers` or `bench.ours` and a line in CONTENDERS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from . import ours, peers, small_calls
from .common import DTYPES, HALF, Array, BenchError, dtype_of, fresh_input, fresh_output
from .contender import Contender, Setup, Step, Steps, Threads, load


def _ours(name: str, label: str, setup: Setup, steps: Steps, threads: Threads) -> Contender:
    return Contender(name, label, "ours", setup, "fastdrop", threads, exact=ours.exact, steps=steps)


def _torch(name: str, label: str, threads: Threads) -> Contender:
    return Contender(
        name, label, "peer", peers.torch, "torch", threads, steps=peers.torch_steps, traceable=False
    )


def _own_threads(name: str, label: str, setup: Setup, steps: Steps) -> Contender:
    return Contender(name, label, "peer", setup, name, "own", steps=steps, traceable=False)


ROOF = Contender(
    "multiply",
    "np.multiply(x, s, out=y)",
    "roof",
    peers.multiply,
    kind="scaled",
    steps=peers.multiply_steps,
)
CONTENDERS = (
    ROOF,
    _ours("fastdrop-1", "fastdrop, 1 thread", ours.given, ours.given_steps, "one"),
    _ours("fastdrop", "fastdrop, all threads", ours.given, ours.given_steps, "all"),
    _ours("fastdrop-new", "fastdrop, all threads, new array", ours.fresh, ours.fresh_steps, "all"),
    Contender(
        "numpy-best",
        "best NumPy (SFC64, 16 bits, in place)",
        "peer",
        peers.numpy_best,
        steps=peers.numpy_best_steps,
    ),
    Contender(
        "randomgen",
        "randomgen (Xoroshiro128, 16 bits, in place)",
        "peer",
        peers.randomgen_best,
        "randomgen",
    ),
    Contender(
        "randomgen-philox",
        "randomgen (Philox2x64, 16 bits, in place)",
        "peer",
        peers.randomgen_philox,
        "randomgen",
    ),
    Contender(
        "cs231n",
        "cs231n: x * ((rand(*x.shape) < q) / q)",
        "peer",
        peers.cs231n,
        steps=peers.cs231n_steps,
    ),
    Contender("binomial", "x * (binomial(1, q, x.shape) / q)", "peer", peers.binomial),
    _torch("torch-1", "torch F.dropout, 1 thread", "one"),
    _torch("torch", "torch F.dropout, all threads", "all"),
    _own_threads("jax", "jax bernoulli + where, jit, own threads", peers.jax, peers.jax_steps),
    _own_threads(
        "tensorflow",
        "TensorFlow stateless_dropout, own threads",
        peers.tensorflow,
        peers.tensorflow_steps,
    ),
)
# How small calls are made too: Python's part differs.
_SMALL_ONLY = tuple(
    Contender(f"fastdrop-{name}", f"fastdrop, new array, {label}", "ours", setup, "fastdrop")
    for name, label, setup in (
        ("layer", "a layer's forward", ours.layered),
        ("generator", "rng=Generator", ours.generated),
        ("unseeded", "rng=None", ours.unseeded),
    )
)
_SMALL_ONLY = (*_SMALL_ONLY, small_calls.MASK)
EVERYONE = (*CONTENDERS, *_SMALL_ONLY, *small_calls.STEPS, *small_calls.PARTS)
BY_NAME = {contender.name: contender for contender in EVERYONE}
SMALL = (
    *(BY_NAME[name] for name in ("multiply", "cs231n", "fastdrop", "fastdrop-new")),
    *_SMALL_ONLY,
)


def known(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set.

    Raises
    ------
    BenchError
        Naming one that no contender has.
    """
    wanted = frozenset(names)
    if unknown := sorted(wanted - set(BY_NAME)):
        raise BenchError(f"no contender {unknown[0]!r}; there are {', '.join(sorted(BY_NAME))}")
    return wanted


def in_dtype(contender: Contender, dtype: str) -> Contender:
    """Return a contender for another dtype.

    Ratios are to multiplying by a constant in that dtype. For the half types it is that in float32:
    NumPy multiplies them one by one, which no kernel needs to be proud to beat.
    """
    if dtype not in DTYPES:
        raise BenchError(f"no dtype {dtype!r}; there are {', '.join(DTYPES)}")
    if dtype == "float32":
        return contender
    moved = replace(contender, dtype=dtype)
    if dtype not in HALF:
        return replace(moved, base=replace(ROOF, dtype=dtype).id)
    return replace(moved, role="peer") if contender.role == "roof" else moved


def as_step(contender: Contender) -> Contender:
    """Return a contender whose call is forward and backward; `steps` must be there."""
    steps = contender.steps
    assert steps is not None

    def setup(x: Array, p: float, out: Array) -> Step:
        # The gradient is not x, so that it comes from memory of its own.
        return steps(x, -x, p, out, fresh_output(out))

    return replace(contender, setup=setup, kind="step")


def _reason(contender: Contender) -> str | None:
    """Say why a contender cannot run here; None if it can."""
    try:
        if contender.needs:
            load(contender.needs)
        dtype_of(contender.dtype)
    except ImportError as error:
        if contender.needs == "fastdrop" and contender.dtype != "bfloat16":
            raise BenchError(f"fastdrop cannot be imported: {error}") from error
        return f"left out, not importable: {contender.label} ({error})"
    if contender.role == "ours" and contender.dtype in HALF:
        x: Any = fresh_input(8, contender.dtype)
        try:
            load("fastdrop").dropout(x, contender.p, rng=1)
        except TypeError as error:
            return f"left out: fastdrop in {contender.dtype} ({error})"
    return None


def available(contenders: Iterable[Contender]) -> tuple[tuple[Contender, ...], list[str]]:
    """Split off the contenders that cannot run here.

    Returns
    -------
    tuple of Contender
        Those that can run.
    list of str
        A note on each that cannot.
    """
    able, notes = [], []
    for contender in contenders:
        if reason := _reason(contender):
            if reason not in notes:
                notes.append(reason)
        else:
            able.append(contender)
    return tuple(able), notes
