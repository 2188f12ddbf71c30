"""``python -m bench torch``: dropout of torch's tensors, beside torch's own, compiled and not.

The calls are rows of `torch.toml`. This module makes contenders of them, which `bench.cpu.timed`
validates and times, and measures what is kept for the backward; training steps are `torch_steps`'s.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import common, cpu, report, timing, torch_steps
from .cases import Contender
from .check import Check, is_dropout, is_ours, is_step, nothing
from .common import KI, MI, Array, P, chosen, identity, load, toml
from .results import Row, made

SECONDS, SEED = 300.0, 17
SIZES = {"float32": tuple(64 * 4**n for n in (0, 2, 4, 5, 6, 7, 8, 9)), "bfloat16": (MI, 16 * MI)}
FORWARD, BACKWARD, BOTH = "torch-forward", "torch-backward", "torch-step"
TIMED, KEPT, STEPS, ONE = (FORWARD, BACKWARD, BOTH), "kept", "steps", "1 thread"
CALLS: dict[str, dict[str, Any]] = {row["name"]: row for row in toml("torch")["call"]}
COMPILER = os.environ.get("CXX", "g++")  # without one Inductor compiles nothing


class Nothing(torch.autograd.Function):
    """The cheapest function of one's own: with ctx in `forward` it is quicker than with a setup."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return memory as it is."""
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        """Return the gradient as it is."""
        return dy


@functools.cache
def compiled_dropout(whose: str) -> Callable[[Tensor], Tensor]:
    """Compile dropout for the shape that it is called with; one function for all sections."""
    ours = load("fastdrop.torch").functional.dropout
    # Each a function of its own: what is compiled, is found by its code.
    functions = {"torch": lambda t: F.dropout(t, P), "fastdrop": lambda t: ours(t, P)}
    compiled: Callable[[Tensor], Tensor] = torch.compile(functions[whose], dynamic=False)
    return compiled


def tensor(x: Array) -> Tensor:
    """Return an array as a tensor, without a copy."""
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def array(t: Tensor) -> Array:
    """Return a tensor as an array, without a copy."""
    t = t.detach()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(common.dtype_of("bfloat16"))
    made: Array = t.numpy()
    return made


def _is_drawn(x: Array, y: Any, p: float) -> str:
    """Check dropout, bit for bit, under the first key after `manual_seed`."""
    torch.manual_seed(SEED)
    fdt = load("fastdrop.torch")
    return is_ours(x, y, p, rng=fdt.key_of(fdt.draw_key()))


def _of_tensors(check: Check) -> Check:
    """Let a check of arrays take tensors."""

    def checked(x: Array, given: Any, p: float) -> str:
        return check(x, tuple(map(array, given)) if isinstance(given, tuple) else array(given), p)

    return checked


_NAMES = {"tensor": tensor, "compiled_dropout": compiled_dropout, "Nothing": Nothing}


def contenders(section: str, dtype: str, only: Collection[str]) -> Iterator[Contender]:
    """Yield the ways to call dropout in a section, each on all threads and on one."""
    for name in only:
        row, role = CALLS[name], CALLS[name]["role"]
        lines = ["t, g = tensor(x).requires_grad_(), tensor(dy)", row.get("setup", "")]
        lines.append(f"torch.manual_seed({SEED})")
        call, there = row["call"], f"(r := {row['call']}), r"
        if section == BACKWARD:
            lines.append(f"r = {call}")
            call = "torch.autograd.grad(r, t, g, retain_graph=True)[0]"
        check: Check = {"ours": _is_drawn, "peer": is_dropout, "roof": nothing}[role]
        if role != "roof":
            check = _of_tensors(is_step(check) if section == BOTH else check)
        usual = Contender(name, row["label"], call, role, "\n".join(lines), there=there)
        needs = ("torch", "fastdrop.torch") if role == "ours" else ("torch",)
        usual = replace(usual, needs=needs, threads="all", check=check, dtype=dtype, names=_NAMES)
        usual = replace(usual, back="torch.autograd.grad(kept, t, g)[0]", step=section == BOTH)
        yield replace(usual, base=identity("torch", dtype, ""))
        if role != "roof":  # which computes nothing that threads could share
            base = identity("torch", dtype, ONE)
            yield replace(usual, threads="one", variant=ONE, base=base)


def kept(dtype: str, elements: int, only: Collection[str]) -> Iterator[Row]:
    """Measure what dropout keeps between forward and backward, in bytes of the whole tensor."""
    x = common.fresh_input(elements, dtype)
    for contender in contenders(FORWARD, dtype, [n for n in only if CALLS[n]["role"] != "roof"]):
        if not contender.variant:
            contender.set_threads()
            there = contender.calls(x, x, x)["there"]
            found = torch_steps.kept_bytes(lambda there=there: there()[0], [tensor(x)])  # type: ignore[misc]
            about = {"section": KEPT, "contender": contender.name, "dtype": dtype}
            yield {**about, "elements": elements, "bytes": found}


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say: benchmarks inform, tests decide."""
    sections = chosen(args.sections, (*TIMED, KEPT, STEPS), "section")
    wanted = {"torch", *chosen(args.only, list(CALLS), "contender")}
    compiles = shutil.which(COMPILER) is not None
    only = [n for n in CALLS if n in wanted and (compiles or "compiled" not in n)]
    few = (KI,) if args.check else args.sizes
    dtypes = ("float32",) if args.check else (*SIZES,)
    groups = [(dtype, n) for dtype in dtypes for n in few or SIZES[dtype]]
    seconds, threads = args.seconds or SECONDS, common.default_threads("torch")
    rows, notes = list[Row](), list[str]()
    if not compiles:
        notes.append(f"left out: torch.compile, for there is no C++ compiler ({COMPILER})")
    with common.progress() as tell:
        for done, (dtype, n) in enumerate(groups):
            torch._dynamo.reset()  # of each function some shapes only are compiled
            compiled_dropout.cache_clear()
            x = common.fresh_input(n, dtype)
            for section in (section for section in TIMED if section in sections):
                tell(f"{section}, {dtype}, {common.size_label(n)}", done / (len(groups) + 1))
                effort = timing.ONCE if args.check else timing.FULL
                part = seconds / (len(groups) + 1) / len(TIMED)
                operands = lambda dtype, x=x: (x, common.fresh_output(x))  # noqa: E731
                ways = contenders(section, dtype, only)
                if args.check:  # one thread makes the same calls, and compiles them anew
                    ways = (contender for contender in ways if not contender.variant)
                rows += cpu.timed(section, ways, operands, part, notes, effort)
            if KEPT in sections and n in (few or (MI,)):
                rows += kept(dtype, n, only)
        torch.set_num_threads(threads)  # contenders have set it
        if STEPS in sections:
            rows += torch_steps.measured(seconds / 4, args.check, lambda what: tell(what, 0.95))
    target = load("fastdrop_kernels.cpu.codegen.target")
    settings = {"p": P, "seconds": seconds, "check": args.check, "threads": threads}
    settings |= {"vector_bytes": target.VECTOR_BYTES}
    settings |= {"torch_vectors": torch.backends.cpu.get_cpu_capability()}
    labels = {name: {"label": row["label"], "role": row["role"]} for name, row in CALLS.items()}
    report.finish(made(rows, settings, labels, notes), args, "torch")
    return 0
