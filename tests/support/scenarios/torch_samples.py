"""Torch's sample inputs of its dropout functions, given to torch's and to ours.

In a process of its own: importing torch's samples forbids the process to change settings of torch.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from typing import Any

from . import SKIPPED

for needed in ("torch", "expecttest"):  # torch's samples import the second
    if importlib.util.find_spec(needed) is None:
        print(f"{needed} is not installed")
        sys.exit(SKIPPED)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

import fastdrop.torch as fdt  # noqa: E402
from fastdrop.torch import functional as F  # noqa: E402

FUNCTIONS: dict[str, Any] = {
    "nn.functional.dropout": F.dropout,
    "nn.functional.dropout2d": F.dropout2d,
    "nn.functional.dropout3d": F.dropout3d,
    "nn.functional.alpha_dropout": F.alpha_dropout,
    "nn.functional.feature_alpha_dropout": F.feature_alpha_dropout,
}
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def masked(y: Tensor, name: str, x: Tensor, p: float) -> Tensor:
    """What is kept of x in dropout's result, by the mask of the key that is drawn next."""
    axes = x.dim()
    decided = axes
    if name.endswith(("dropout2d", "feature_alpha_dropout")):
        decided = 2
    elif name.endswith("dropout3d"):
        decided = 2 if axes == 5 else 1
    noise = tuple(n if axis < decided else 1 for axis, n in enumerate(x.shape))
    return F.dropout_mask(x.shape, p, key=fdt.draw_key(), noise_shape=noise)


def compare(name: str, sample: Any, inplace: bool) -> str:
    """Compare our function with torch's for a sample, and name the case it was."""
    ours, torchs = FUNCTIONS[name], getattr(torch.nn.functional, name.rpartition(".")[2])
    x, more = sample.input, sample.kwargs
    given, other = [x.detach().clone().requires_grad_(x.requires_grad) for _ in range(2)]
    arguments = given * 1 if inplace else given, other * 1 if inplace else other
    torch.manual_seed(6)
    y = ours(arguments[0], inplace=inplace, **more)
    true = torchs(arguments[1], inplace=inplace, **more)
    assert (y.shape, y.dtype, y.stride()) == (true.shape, true.dtype, true.stride())
    assert y.requires_grad == true.requires_grad
    assert y is arguments[0] or true is not arguments[1]  # dropout3d of torch views its input
    p, training = more.get("p", 0.5), more.get("training", "alpha" not in name)
    dropped = training and p not in (0.0, 1.0)
    if not dropped:
        assert torch.equal(y, true)
    else:
        torch.manual_seed(6)
        kept = masked(y, name, x, p)
        assert y[~kept].unique().numel() <= 1
        if "alpha" not in name:
            assert torch.equal(y, torch.where(kept, x * (1 / (1 - p)), 0.0))
    if y.requires_grad:
        y.sum().backward()
        true.sum().backward()
        assert given.grad is not None and other.grad is not None
        assert given.grad.stride() == other.grad.stride()
        if dropped:
            assert torch.equal(given.grad != 0, kept)
        else:
            assert torch.equal(given.grad, other.grad)
    return "dropped" if dropped else "as torch's"


def main() -> None:
    """Compare all, and print how many there were of each function."""
    seen: Counter[str] = Counter()
    for op in op_db:
        if op.name not in FUNCTIONS:
            continue
        for dtype in sorted(op.dtypes, key=str):
            floats = dtype in FLOATS
            for needs in (False, True) if floats else (False,):
                for sample in op.sample_inputs("cpu", dtype, requires_grad=needs):
                    for inplace in (False, True):
                        seen[f"{op.name}: {compare(op.name, sample, inplace)}"] += 1
    for case, count in sorted(seen.items()):
        print(count, case)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", "dropout2d: Received a 3D")
    main()
