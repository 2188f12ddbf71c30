"""Kernels compiled for another system call nothing that is not there.

``python -m tests.support.scenarios.cross_compiled TARGET [--all]``, a name of `cross.TARGETS`. LLVM
writes the object code of kernels for the target, which nothing loads or runs. With ``--all`` of all
operations, layouts and dtypes, over three minutes; else of a third, another one for each target.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, product
from typing import Any, TypeAlias

import numpy as np

from tests.support import cross

Step: TypeAlias = Callable[[], object]

# What code may call. Symbols of ours are of routines, which are compiled before. Numba's wrappers
# call Python. LLVM makes calls of copies and of clearing. On Windows functions with large frames
# call __chkstk, whose address its JIT knows.
EVERYWHERE = r"fastdrop_[\w-]+|_?Py\w+|_Py_\w+|numba_\w+|mem(cpy|set|move)"
ON = {
    "aarch64-linux": EVERYWHERE,
    "arm64-macos": EVERYWHERE + "|bzero",
    "x86_64-windows": EVERYWHERE + "|__chkstk",
    "x86_64-linux": EVERYWHERE,
}
# Names of LLVM's functions of a processor.
FOREIGN = {"x86_64": r"llvm\.(aarch64|arm)\.", "aarch64": r"llvm\.x86\.", "arm64": r"llvm\.x86\."}


def main(target: str, everything: bool) -> None:
    """Compile, and print what was found; exit with 1 if anything is foreign."""
    chosen = cross.TARGETS[target]
    cross.set_target(chosen)
    cross.load_no_code()
    allowed, foreign = re.compile(ON[target]), re.compile(FOREIGN[chosen.triple.split("-")[0]])
    symbols: Counter[str] = Counter()
    wrong: set[str] = set()
    number = 0

    def seen(name: str, library: Any) -> None:
        nonlocal number
        number += 1
        called = cross.undefined_symbols(cross.object_code(library))
        called |= {match[0] for match in re.finditer(foreign.pattern + r"[\w.]+", _ir(library))}
        symbols.update(called)
        wrong.update(f"{name}: {symbol}" for symbol in called if not allowed.fullmatch(symbol))

    cross.call_no_kernels(seen)
    turn = list(cross.TARGETS).index(target)
    for step in _all_steps() if everything else _some_steps(turn):
        step()
    outside = sorted(s for s in symbols if not re.match(r"fastdrop_|_?Py|numba_", s))
    print(f"{number} kernels and routines for {chosen.triple}; they call {', '.join(outside)}")
    if wrong:
        sys.exit("not there:\n" + "\n".join(sorted(wrong)))


def _ir(library: Any) -> str:
    return str(library._final_module)


def _operations(dtypes: tuple[str, ...]) -> Iterator[tuple[str, Any, bool]]:
    """Yield rows, their operations in all variants, and whether they take per-element p."""
    from fastdrop_kernels.catalogue import ACTIVATIONS, CATALOGUE, FLOAT_TYPES, FLOATS, MOVED, SIZES
    from fastdrop_kernels.cpu.host.catalogue import operation_by_name

    for name, row in CATALOGUE.items():
        choices = [ACTIVATIONS if part == "act" else (True, False) for part in row.variant]
        kinds = [("", size) for size in SIZES] if row.elements == MOVED else [("", 0)]
        if row.elements == FLOATS:
            kinds = [(dtype, FLOAT_TYPES[dtype].itemsize) for dtype in dtypes]
        for (kind, size), variant in product(kinds, product(*choices)):
            if name != "bias_act_drop_backward" or variant[0] != "identity":
                yield name, operation_by_name(name, kind, size, *variant), row.takes_p_array


def _kernels(operation: Any, takes_p: bool) -> list[Step]:
    """Return what compiles an operation's kernels, layout by layout."""
    from fastdrop_kernels.cpu.loops import contiguous, kernels
    from fastdrop_kernels.cpu.loops.dispatch import dispatch_table
    from fastdrop_kernels.cpu.loops.tile_transpose import tiled_bytes
    from fastdrop_kernels.layout import STRIDED, TILED, TRANSPOSED

    cached, far = contiguous.CACHED, contiguous.PREFETCH
    steps: list[Step] = [lambda: dispatch_table(operation, cached)]
    if operation.operands:
        steps += [lambda: kernels.multi_operand_kernel(1 + len(operation.operands))]
        if operation.in_registers:
            steps += [lambda: kernels.contiguous_operands_kernel(operation, far)]
        return steps
    steps += [
        lambda: kernels.contiguous_kernel(operation, cached),
        lambda: kernels.layout_kernel(operation, TRANSPOSED),
        lambda: kernels.contiguous_kernel(operation, far),
        lambda: kernels.layout_kernel(operation, STRIDED),
    ]
    if tiled_bytes(operation):
        steps.append(lambda: kernels.layout_kernel(operation, TILED))
    if takes_p:
        steps.append(lambda: kernels.per_element_kernel(operation, cached))
    return steps


def _others(dtypes: tuple[str, ...]) -> Iterator[Step]:
    """Yield what compiles kernels that are not those of an operation."""
    from fastdrop_kernels.cpu.host import fast_call, fold_in, kernel_call, softmax
    from fastdrop_kernels.cpu.host.catalogue import FLOATS
    from fastdrop_kernels.cpu.loops import softmax as loops
    from fastdrop_kernels.cpu.loops.kernels import sum_kernel

    yield fast_call.fast_call
    yield fast_call.fast_call_by_addresses
    yield fast_call.fast_call_on_team
    yield fast_call.per_element_fast_call
    yield fold_in.fold_in_kernel
    yield kernel_call.team_entry
    for name in dtypes:
        yield partial(sum_kernel, name, FLOATS[name])
        kind = softmax._kind(_dtype(name))
        yield partial(loops.softmax_kernel, kind, kind.dropped_out)
        yield partial(loops.gradient_kernel, kind, kind.dropped_in)


def _dtype(name: str) -> Any:
    from fastdrop._check import arguments

    return arguments.dtype(name)


def _batches(cases: int | None = None) -> list[Step]:
    """Return what compiles the kernels of each family's first cases, or of all."""
    from tests.golden.batches import FAMILIES

    def calls(family: Callable[[], Iterator[object]]) -> None:
        with np.errstate(all="ignore"), contextlib.suppress(Exception):
            for _ in islice(
                family(), cases
            ):  # nothing was computed, and the next step may refuse that
                pass

    return [partial(calls, family) for family in FAMILIES]


def _all_steps() -> Iterator[Step]:
    from fastdrop_kernels.catalogue import FLOAT_TYPES

    dtypes = tuple(FLOAT_TYPES)
    yield from _others(dtypes)
    for _, operation, takes_p in _operations(dtypes):
        yield from _kernels(operation, takes_p)
    yield from _batches()


def _some_steps(turn: int) -> list[Step]:
    """Return a share of the steps: all shares together have each operation, layout and family."""
    from fastdrop_kernels.catalogue import FLOAT_TYPES

    dtypes = tuple(FLOAT_TYPES)
    rows: dict[str, list[tuple[Any, bool]]] = {}
    for row, operation, takes_p in _operations(dtypes):
        rows.setdefault(row, []).append((operation, takes_p))
    steps = list(_others(dtypes[turn : turn + 1]))
    for k, operations in enumerate(rows.values()):
        # An odd step, so that dtypes take turns as well as variants.
        kernels = _kernels(*operations[(k + turn) * 7 % len(operations)])
        steps += [kernels[(k + n) % len(kernels)] for n in range(2)]
    return [*steps, *_batches(2)][turn % 3 :: 3]


if __name__ == "__main__":
    main(sys.argv[1], "--all" in sys.argv[2:])
