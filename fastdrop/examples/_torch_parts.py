"""The time of a training step by part, measured with hooks of torch.

`_torch_training` makes one for each network. Hooks of modules divide the forward into parts. The
functions that a part adds to autograd's graph are that part's backward, and hooks of these time it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

from fastdrop.examples._torch_models import Encoder

ATTENTION, FEED_FORWARD, DROPOUT = "attention", "feed-forward", "dropout"
REST, OPTIMISER = "rest", "optimiser"
FORWARD, BACKWARD = "forward", "backward"
PARTS = (ATTENTION, FEED_FORWARD, DROPOUT, REST, OPTIMISER)

Seconds = defaultdict[tuple[str, str], float]  # part and direction to seconds


class PartClock:
    """Times one training step: `begin`, the forward, `end_forward`, the backward, `end_backward`.

    What is between the functions of a backward (autograd's own work, and these hooks) belongs to
    no part.

    Parameters
    ----------
    model : Encoder
        The network, which gets hooks. They cost nothing noticeable until `begin`.
    """

    def __init__(self, model: Encoder) -> None:
        self.seconds: Seconds = defaultdict(float)
        self._on, self._part, self._around = False, REST, REST
        self._since = 0.0
        self._nodes: dict[Node, str] = {}
        self._handles: list[Any] = []
        for block in model.blocks:
            self._begins(block.norm_attention, ATTENTION)
            self._begins(block.norm, FEED_FORWARD)
        self._begins(model.norm, REST)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.register_forward_pre_hook(self._before_dropout)
                module.register_forward_hook(self._after_dropout)

    def begin(self) -> None:
        """Begin a step."""
        self.seconds = defaultdict(float)
        self._on, self._part, self._since = True, REST, time.perf_counter()

    def end_forward(self, loss: Tensor) -> None:
        """End the forward, whose result is the loss."""
        self._switch(REST, loss)
        self._on = False

    def end_backward(self) -> None:
        """Take the hooks off the graph."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._nodes.clear()

    def _begins(self, module: Any, part: str) -> None:
        module.register_forward_pre_hook(lambda module, given: self._switch(part, given[0]))

    def _switch(self, part: str, reached: Tensor) -> None:
        """End the present part, whose last result is `reached`, and begin another."""
        if not self._on:
            return
        self.seconds[self._part, FORWARD] += time.perf_counter() - self._since
        self._claim(reached)
        self._part, self._since = part, time.perf_counter()

    def _before_dropout(self, module: nn.Module, given: tuple[Tensor]) -> None:
        self._around = self._part
        self._switch(DROPOUT, given[0])

    def _after_dropout(self, module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
        self._switch(self._around, result)

    def _claim(self, reached: Tensor) -> None:
        """Give the present part what is new in the graph, and time it in the backward."""
        new = [reached.grad_fn]
        while new:
            node = new.pop()
            if node is None or node in self._nodes:
                continue
            self._nodes[node] = self._part
            started = [0.0]
            self._handles += [
                node.register_prehook(lambda _, at=started: _start(at)),
                node.register_hook(lambda _, __, at=started, to=self._part: self._add(to, at)),
            ]
            new += [following for following, _ in node.next_functions]

    def _add(self, part: str, started: list[float]) -> None:
        self.seconds[part, BACKWARD] += time.perf_counter() - started[0]


def _start(started: list[float]) -> None:
    started[0] = time.perf_counter()
