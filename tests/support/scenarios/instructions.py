"""How many instructions an element takes in the contiguous kernels of dropout, for a target.

``python -m tests.support.scenarios.instructions TARGET``, a name of `cross.TARGETS`. Printed is a
JSON object, from dtype to the number in the loop over groups of cached arrays, with a branch that
is taken for one element in 65,536.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from tests.support import cross

_JUMPS = re.compile(r"j\w+|b|b\.\w+|cbn?z|tbn?z")
_PRODUCTS = re.compile(r"umull2?|pmuludq")


def loops(assembly: str) -> list[list[str]]:
    """Return the instructions of each loop: from a label to the last jump back to it."""
    labels: dict[str, int] = {}
    code: list[str] = []
    found: dict[str, list[str]] = {}
    for line in assembly.splitlines():
        text = re.split(r"//|#", line)[0].strip()
        if label := re.match(r"([.\w$]+):", text):
            labels[label[1]] = len(code)
        elif text and not text.startswith("."):
            code.append(text)
            name, *operands = re.split(r"[\s,]+", text)
            if _JUMPS.fullmatch(name) and operands[-1] in labels:
                found[operands[-1]] = code[labels[operands[-1]] :]
    return list(found.values())


def of_loop(loop: list[str]) -> int:
    """Return how many products of Philox a loop has."""
    return sum(bool(_PRODUCTS.match(line)) for line in loop)


def main(target: str) -> None:
    """Compile and count."""
    cross.set_target(cross.TARGETS[target])
    cross.load_no_code()
    code: dict[str, str] = {}

    def seen(name: str, library: Any) -> None:
        if "-contiguous" in name:
            code[name] = library.codegen._tm.emit_assembly(library._final_module)

    cross.call_no_kernels(seen)
    from fastdrop_kernels.catalogue import FLOAT_TYPES
    from fastdrop_kernels.cpu.elements.sampler import GROUP
    from fastdrop_kernels.cpu.host.catalogue import operation_by_name
    from fastdrop_kernels.cpu.loops.contiguous import CACHED, contiguous_loop

    counts = {}
    for name, kind in FLOAT_TYPES.items():
        contiguous_loop(operation_by_name("drop", name, kind.itemsize), CACHED)
        found = loops(code[f"drop-{name}-contiguous"])
        most = max(map(of_loop, found))
        # The shortest loop with all products; loops around it are longer.
        shortest = min(len(loop) for loop in found if of_loop(loop) == most)
        counts[name] = round(shortest / GROUP, 2)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
