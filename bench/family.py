"""``python -m bench family``: the other functions beside the usual NumPy way and PyTorch's.

The members are rows of `cases.toml`. This module makes contenders of them, and `bench.cpu.timed`
validates and times those.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from . import common, cpu, report, timing
from .cases import CASES, Contender
from .check import Check, has_moments, kept_or_lost, nothing
from .common import MI, Array, BenchError, P, chosen
from .results import Row, made

SECONDS, SIZES = 90.0, (MI, 16 * MI)
MULTIPLE = 1 << 16  # of which sizes are multiples: an image of 64 channels of 32 x 32
ALPHA = 1.7580993408473766
REFRESH = 32  # calls after which what is dropped in place is brought back
LABELS = {
    **{"numpy": "NumPy", "normals": "normals alone"},
    **{"fastdrop-1": "fastdrop, 1 thread", "fastdrop": "fastdrop, all threads"},
    **{"torch-1": "torch, 1 thread", "torch": "torch, all threads"},
}
MEMBERS: dict[str, dict[str, Any]] = {row["name"]: row for row in CASES["family"]}

_rng = np.random.default_rng()


def like(x: Any, name: str) -> Array:
    """Return normal numbers of x's shape, or a bias, alike for all who ask by that name."""
    shape = tuple(x.shape[-1:] if name == "bias" else x.shape)
    return np.random.default_rng([*name.encode(), *shape]).standard_normal(shape, np.float32)


def alpha(x: Array, kept: Array, p: float) -> Any:
    """Return alpha dropout, as SELUs need it."""
    a = ((ALPHA**2 * p + 1) * (1 - p)) ** -0.5
    return np.float32(a) * np.where(kept, x, np.float32(-ALPHA)) + np.float32(a * ALPHA * p)


def gelu_tanh(t: Array) -> Array:
    """Return GELU by tanh; t**3, as it is often written, takes NumPy longer."""
    made: Array = 0.5 * t * (1 + np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t * t * t)))
    return made


def blocks(x: Array, block: int, p: float) -> Any:
    """Draw where blocks begin, let them grow along each axis, and scale by what is left."""
    lengths = x.shape[2:]
    grid = tuple(n - block + 1 for n in lengths)
    gamma = np.float32(p * math.prod(lengths) / block ** len(lengths) / math.prod(grid))
    lost = _rng.random((*x.shape[:2], *grid), np.float32) < gamma
    for axis, length in enumerate(lengths, 2):
        grown = np.zeros((*lost.shape[:axis], length, *lost.shape[axis + 1 :]), np.bool_)
        for k in range(block):
            place = (*[slice(None)] * axis, slice(k, k + lost.shape[axis]))
            grown[place] |= lost
        lost = grown
    return x * (~lost * np.float32(lost.size / (lost.size - np.count_nonzero(lost))))


def refreshed(work: Any, source: Any, turn: Callable[[], int]) -> Any:
    """Bring back what is dropped in place, every few calls."""
    if turn() % REFRESH == 0:
        work[...] = source
    return work


_NAMES = {f.__name__: f for f in (like, alpha, gelu_tanh, blocks, refreshed)}
_NAMES |= {"one": np.float32(1), "zero": np.float32(0)}


def _equals(right: Any) -> Check:
    """Check a result, or the results of a tuple, to what rounding may differ by."""
    parts = right if isinstance(right, tuple) else (right,)

    def check(x: Array, made: Any, p: float) -> str:
        for y, part in zip(made if isinstance(made, tuple) else (made,), parts, strict=True):
            if not np.allclose(y, part, 1e-4, 1e-5 * float(np.abs(part).max())):
                return "computes wrong values"
        return ""

    return check


def contenders(name: str, x: Array) -> Iterator[Contender]:
    """Yield the ways to call a member: the usual one first, which ratios are to."""
    row = MEMBERS[name]
    noise, stored = row.get("noise", "x.shape"), row.get("stored", False)
    draw = f"rng.random({noise}, np.float32) < q" if row.get("draws", True) else "None"
    setup = f"""
rates = {row.get("rates", "np.float32(p)")}
q = 1 - rates
{row.get("setup", "")}
define, draw = (lambda kept: ({row.get("define", "x * (kept / q)")})), (lambda: {draw})
kept = {"draw()" if stored else "None"}
"""
    call = "define(kept)" if stored else "define(draw())"
    usual = Contender("numpy", LABELS["numpy"], call, setup=setup, check=nothing, variant=name)
    usual = replace(usual, base=f"numpy/{name}", needs=("fastdrop",), names=_NAMES)
    yield usual
    if name.startswith("gaussian"):
        call = "rng.standard_normal(out=y, dtype=np.float32)"
        yield replace(usual, name="normals", label=LABELS["normals"], role="roof", call=call)
    # Decisions that are shared, and blocks, make fewer independent values.
    independent = math.prod(eval(noise, {"x": x})) / row.get("block", 1)
    made = [
        replace(usual, call=f"define({kept})").make(x, x)()
        for kept in ("np.True_", "np.False_", "draw()")
    ]
    kept, lost, right = (each[0] if isinstance(each, tuple) else each for each in made)
    like_usual = has_moments(right, independent)
    if row.get("draws", True) and "probabilities" not in setup:
        like_usual = kept_or_lost(kept, lost, independent)
    ours = replace(usual, call=row["ours"], role="ours", check=like_usual)
    if row.get("exact", True):
        mask = f"fd.dropout_mask({noise}, {'rates' if 'rates' in row else 'p'}, rng=key)"
        ours = replace(ours, check=_equals(replace(usual, call=f"define({mask})").make(x, x)()))
    setup += f"x = torch.from_numpy(x)\n{row.get('torch_setup', '')}"
    torch = replace(usual, call=row.get("torch", ""), setup=setup, check=like_usual)
    torch = replace(torch, needs=("torch", "fastdrop"))
    for way, threads in (("fastdrop-1", "one"), ("fastdrop", "all")):
        yield replace(ours, name=way, label=LABELS[way], threads=threads)  # type: ignore[arg-type]
    for way, threads in (("torch-1", "one"), ("torch", "all")):
        if "torch" in row:
            yield replace(torch, name=way, label=LABELS[way], threads=threads)  # type: ignore[arg-type]


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say."""
    names = chosen(args.only, list(MEMBERS), "member")
    sizes = args.sizes or ((MULTIPLE,) if args.check else None)
    if wrong := [n for n in sizes or () if n % MULTIPLE]:
        raise BenchError(f"{wrong[0]} elements are no multiple of {MULTIPLE}")
    groups = [(name, n) for n in sizes or SIZES for name in names]
    groups += [(m, n) for m in names for n in MEMBERS[m].get("sizes", ()) if not sizes]
    seconds = args.seconds or SECONDS
    rows: list[Row] = []
    notes: list[str] = []
    with common.progress() as tell:
        for done, (name, n) in enumerate(groups):
            tell(f"{name}, {common.size_label(n)}", done / len(groups))
            shape = eval(MEMBERS[name].get("shape", "(n,)"), {"n": n})
            x = common.fresh_input(n, seed=0).reshape(shape)
            effort = timing.ONCE if args.check else timing.FULL
            ways, part = contenders(name, x), seconds / len(groups)
            operands = lambda dtype, x=x: (x, common.fresh_output(x))  # noqa: E731
            rows += cpu.timed("family", ways, operands, part, notes, effort)
    labels = {way: {"label": label, "role": "peer"} for way, label in LABELS.items()}
    for way in labels:
        labels[way]["role"] = "ours" if way.startswith("fastdrop") else "peer"
    settings = {"p": P, "seconds": seconds, "check": args.check}
    report.finish(made(rows, settings, labels, notes), args, "family")
    return 0
