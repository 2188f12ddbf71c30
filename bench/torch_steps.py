"""Training steps of small torch networks without dropout, with torch's and with fastdrop.torch's.

`bench.torch_calls` calls `measured`. The networks are rows of `torch.toml`, made of the models of
the examples. Run as ``python -m bench.torch_steps STEP VARIANT`` it measures memory in this
process, and prints JSON.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import common, timing
from .check import Wrong
from .common import load, toml
from .processes import resident
from .results import Row

NONE, TORCH, OURS, FUSED = "none", "torch", "fastdrop.torch", "fastdrop.torch, fused"
STEPS: dict[str, dict[str, Any]] = {row["name"]: row for row in toml("torch")["step"]}
BATCHES, PEAKS = 8, 5  # batches that steps take in turn, and steps whose peaks are measured
Batch = tuple[Tensor, Tensor]


def variants(name: str) -> tuple[str, ...]:
    """Return the kinds of dropout that a network is trained with."""
    return (NONE, TORCH, OURS, *[FUSED] * ("fused" in STEPS[name]["model"]))


def tokens(samples: int, length: int) -> Batch:
    """Return random bytes, and those that follow them."""
    drawn = torch.randint(256, (samples, length + 1))
    return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()


def digits(samples: int) -> Batch:
    """Return scans of digits, drawn anew, with noise."""
    data = load("sklearn.datasets").load_digits()
    at = torch.randint(len(data.data), (samples,)).numpy()
    x = torch.from_numpy((data.data[at] / 16).astype(np.float32))
    return x + 0.05 * torch.randn_like(x), torch.from_numpy(data.target[at])


def batches(name: str) -> Iterator[Batch]:
    """Yield the batches of a network, again and again."""
    torch.manual_seed(1)
    code = STEPS[name]["batch"]
    scope = {"tokens": tokens, "digits": digits}
    return itertools.cycle([eval(code, scope) for _ in range(BATCHES)])


class Step:
    """A network, always of the same first weights, with one kind of dropout, and its training."""

    def __init__(self, name: str, variant: str) -> None:
        models, fdt = load("fastdrop.examples._torch_models"), load("fastdrop.torch")
        torch.manual_seed(0)
        scope = {"models": models, "fused": fdt.functional if variant == FUSED else None}
        self.model: nn.Module = eval(STEPS[name]["model"], scope)
        if variant == NONE:
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0  # torch returns the input itself
        elif variant != TORCH:
            fdt.convert(self.model)
        self.batches = batches(name)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Go forward."""
        return F.cross_entropy(self.model(x).flatten(0, -2), labels.flatten())

    def gradients(self, batch: Batch) -> list[Tensor]:
        """Return the loss and the gradients of the parameters."""
        loss = self.loss(*batch)
        return [loss.detach(), *torch.autograd.grad(loss, list(self.model.parameters()))]

    def __call__(self) -> None:
        """Do a training step."""
        torch.autograd.backward(self.loss(*next(self.batches)))
        self.optimizer.step()
        self.optimizer.zero_grad()


class Stored(nn.Module):
    """Dropout by a stored mask of `fastdrop.dropout_mask`, with the key that ours would draw."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the mask."""
        fd, fdt = load("fastdrop"), load("fastdrop.torch")
        mask = fd.dropout_mask(tuple(x.shape), self.p, rng=fdt.key_of(fdt.draw_key()))
        return x * (torch.from_numpy(mask) * (1 / (1 - self.p)))


def validate(name: str) -> None:
    """Check that ours give the loss and the gradients that stored masks of the same keys give."""
    stored = Step(name, TORCH)
    batch = next(stored.batches)
    for module in list(stored.model.modules()):
        for attribute, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, attribute, Stored(child.p))
    torch.manual_seed(2)
    right = stored.gradients(batch)
    for variant in variants(name)[2:]:
        step = Step(name, variant)
        torch.manual_seed(2)
        for given, expected in zip(step.gradients(batch), right, strict=True):
            if not torch.allclose(given, expected, 1e-4, 1e-5 * float(expected.abs().max())):
                raise Wrong(f"{name}: {variant} has another loss or gradient")


def kept_bytes(forward: Callable[[], Tensor], given: Iterable[Tensor]) -> int:
    """Bytes of memory that the graph of a result keeps, beside the result and what was given.

    That is what functions save, and tensors among the attributes of functions of one's own.
    """
    found: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = forward()
    nodes = {result.grad_fn}
    while ready := [n for node in nodes if node for n, _ in node.next_functions if n not in nodes]:
        nodes |= {*ready}
    for node in nodes:
        for value in vars(node).values() if hasattr(node, "__dict__") else ():
            if isinstance(value, Tensor):
                pack(value)
    for t in (result, *given):
        found.pop(t.untyped_storage().data_ptr(), None)
    return sum(found.values())


def memory(name: str, variant: str) -> dict[str, float]:
    """Measure in this process how far a step's memory rises, and what its forward keeps."""
    step, peaks = Step(name, variant), list[int]()
    for _ in range(PEAKS + 2):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is the present
        before = resident("VmRSS")
        step()
        peaks.append(resident("VmHWM") - before)
    batch = next(step.batches)
    kept = kept_bytes(lambda: step.loss(*batch), (*step.model.parameters(), *batch))
    return {"peak": statistics.median(peaks[2:]), "kept": kept}


def memory_alone(name: str, variant: str) -> dict[str, float]:
    """Measure the same in a fresh process, whose freed memory goes back to the system at once."""
    command = ["-m", "bench.torch_steps", name, variant]
    found: dict[str, float] = common.child(command, MALLOC_MMAP_THRESHOLD_="65536")
    return found


def measured(seconds: float, check: bool, tell: Callable[[str], object]) -> Iterator[Row]:
    """Time steps of all variants in turn, each network by itself, and measure their memory."""
    effort = timing.ONCE if check else timing.FULL._replace(least=20)
    for name in STEPS:
        tell(f"steps, {name}")
        validate(name)
        entries = [timing.prepare(v, Step(name, v), effort=effort) for v in variants(name)]
        samples = timing.measure(entries, seconds / len(STEPS), effort=effort)
        found = timing.summarise(samples, dict.fromkeys(samples, TORCH))
        for variant, figures in found.items():
            without = np.asarray(samples[NONE]) / np.asarray(samples[variant])
            used = memory(name, variant) if check else memory_alone(name, variant)
            about = {"section": "steps", "loop": name, "variant": variant, **figures}
            yield {**about, "share": 1 - float(np.median(without)), **used}


if __name__ == "__main__":
    print(json.dumps(memory(*sys.argv[1:])))
