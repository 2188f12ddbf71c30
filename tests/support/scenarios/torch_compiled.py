"""A function that Inductor compiles, or finds in its cache on disk, draws.

``python -m tests.support.scenarios.torch_compiled``
"""

from __future__ import annotations

import warnings

import torch
from torch._dynamo.utils import counters

from fastdrop.torch import functional as F


def f(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([F.dropout(x.sin(), 0.5), F.dropout(x.sin(), 0.5)]) != 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*torch.jit.*deprecated")
    compiled, x = torch.compile(f, fullgraph=True), torch.ones(48)
    torch.seed()
    unseeded = [compiled(x).tolist() for _ in range(2)]
    torch.manual_seed(11)
    seeded = compiled(x).tolist()
    torch.manual_seed(11)
    eager = f(x).tolist()
    hits = counters["inductor"]["fxgraph_cache_hit"]
    print({"hits": hits, "unseeded": unseeded, "seeded": seeded, "eager": eager})
