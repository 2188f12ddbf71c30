"""``python -m bench loops``: dropout in real training steps.

The networks of `cases.toml` are trained without dropout, with the usual stored mask, with an
`fd.Mask` in its place, and with a layer, by turns, on scikit-learn's data, which need no download.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import report, timing
from .cases import CASES, softmax
from .check import Wrong
from .common import Array, chosen, load, progress
from .results import Row, made

SECONDS = 60.0
LEAST, MOST, WARM = 20, 400, 3  # rounds of a loop, and steps of each before the first
NONE, STORED, MASK, LAYER = "none", "stored mask", "fd.Mask", "fd.Dropout layer"
VARIANTS = (NONE, STORED, MASK, LAYER)
LOOPS: dict[str, dict[str, Any]] = {row["name"]: row for row in CASES["loop"]}

Make = Callable[[tuple[int, ...]], Any]
Params = dict[str, Array]


class Site:
    """What stands in a spot: no dropout, a mask that `make` makes, or a layer; and what it costs.

    Of several forwards the backwards come in reverse order, as in backpropagation through time.
    """

    def __init__(self, in_place: bool, make: Make | None = None, layer: Any = None) -> None:
        self.in_place, self.make, self.layer = in_place, make, layer
        self.masks: list[Any] = []
        self.seconds, self.kept = 0.0, 0  # of all calls, and the most bytes of masks
        self.forward = functools.partial(self._timed, there=True)
        self.backward = functools.partial(self._timed, there=False)

    def _timed(self, x: Array, there: bool) -> Array:
        if self.make is None and self.layer is None:
            return x
        start = time.perf_counter()
        if self.make is None:
            x = self.layer.forward(x) if there else self.layer.backward(x)
        else:
            mask = self.make(x.shape) if there else self.masks.pop()
            if self.in_place:
                x *= mask
            else:
                x = x * mask
            if there:
                self.masks.append(mask)
        self.seconds += time.perf_counter() - start
        self.kept = max(self.kept, sum(mask.nbytes for mask in self.masks))
        return x


def site(variant: str, spot: Sequence[Any], number: int) -> Site:
    """Return what stands in a network's n-th spot."""
    fd, (p, idiom, in_place) = load("fastdrop"), spot
    if variant == LAYER:
        return Site(in_place, layer=fd.Dropout(p, rng=fd.Key(2026).fold_in(number)))
    random: Any = np.random  # noqa: NPY002 - whose global state the idioms draw from
    masks: dict[str, Make] = {
        "rand": lambda shape: (random.rand(*shape) < 1 - p) / (1 - p),
        "binomial": lambda shape: random.binomial(1, 1 - p, shape) / (1 - p),
    }
    makes = {STORED: masks[idiom], MASK: lambda shape: fd.Mask(shape, p, rng=random)}
    return Site(in_place, makes.get(variant))


class Network:
    """A network of a loop, always of the same first weights, with its step and update."""

    def __init__(self, loop: dict[str, Any], sites: Sequence[Site], dtype: Any) -> None:
        code, scope = CASES["network"][loop["network"]], dict[str, Any](np=np, softmax=softmax)
        for name, given, result in (("forward", "x", "scores"), ("backward", "dscores", "found")):
            body = textwrap.indent(f"p = self.params\n{code[name]}\nreturn {result}", " ")
            exec(f"{code.get('setup', '')}\ndef {name}(self, {given}):\n{body}", scope)
        self.forward: Callable[[Array], Array] = functools.partial(scope["forward"], self)
        self.backward: Callable[[Array], Params] = functools.partial(scope["backward"], self)
        self.sites, self.rate, self.adam = sites, loop.get("rate", 0.05), loop.get("adam", False)
        self.params, self.moments, self.steps = Params(), dict[str, tuple[Array, Array]](), 0
        rng = np.random.default_rng(0)
        widths = {"inputs": loop["inputs"], "hidden": loop["hidden"]}
        for name, shape in eval(code["shapes"], widths).items():  # He et al., 2015, and zeros
            drawn = rng.standard_normal(shape) * np.sqrt(2 / shape[0])
            self.params[name] = (drawn if len(shape) > 1 else np.zeros(shape)).astype(dtype)

    def loss_and_gradients(self, x: Array, labels: Array) -> tuple[float, Params]:
        """Go forward and backward; what sites keep is then at its most in between."""
        scores, rows = self.forward(x), np.arange(len(x))
        self.activations, odds = scores.dtype, softmax(scores)
        loss = float(-np.log(odds[rows, labels]).mean())
        odds[rows, labels] -= 1
        odds /= len(scores)
        return loss, self.backward(odds)

    def step(self, x: Array, labels: Array) -> float:
        """Do a training step, by gradient descent or by Adam; returns the loss."""
        loss, gradients = self.loss_and_gradients(x, labels)
        self.steps += 1
        of_means, of_squares = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for name, param in self.params.items():
            if not self.adam:
                param -= self.rate * gradients[name]
                continue
            mean, square = self.moments.get(name, (param * 0, param * 0))
            mean = 0.9 * mean + 0.1 * gradients[name]
            square = 0.999 * square + 0.001 * gradients[name] ** 2
            self.moments[name] = mean, square
            param -= 1e-3 * (mean / of_means) / (np.sqrt(square / of_squares) + 1e-7)
        return loss


def batches(loop: dict[str, Any], dtype: Any, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield batches without end: samples drawn anew, each with noise of its own."""
    datasets, rng = load("sklearn.datasets"), np.random.default_rng(seed)
    scope = {"digits": datasets.load_digits(), "cells": datasets.load_breast_cancer()}
    exec(loop["data"], scope)
    while True:
        at = rng.integers(len(scope["images"]), size=loop["samples"])
        given = eval(loop.get("shaped", "x"), {"np": np, "x": scope["images"][at]})
        noise = rng.standard_normal(given.shape, np.float32) * np.float32(0.05)
        yield (given + noise).astype(dtype), scope["labels"][at]


def validate(loop: dict[str, Any], dtype: str) -> None:
    """Check that the same masks give the same gradients, however they are kept."""
    fd, batch = load("fastdrop"), next(batches(loop, dtype, 0))

    def one(kind: str, spot: Sequence[Any], number: int) -> Site:
        # A layer's n-th forward is n streams further on.
        key, ahead, (p, _, in_place) = fd.Key(3).fold_in(number), itertools.count(), spot

        def mask(shape: tuple[int, ...]) -> Any:
            drawn = fd.Mask(shape, p, rng=key.advanced(next(ahead)))
            return drawn.astype(dtype) if kind == STORED else drawn

        return (
            Site(in_place, layer=fd.Dropout(p, rng=key)) if kind == LAYER else Site(in_place, mask)
        )

    loss, right = None, Params()
    for kind in (STORED, MASK, LAYER):
        sites = [one(kind, spot, number) for number, spot in enumerate(loop["spots"])]
        given = Network(loop, sites, dtype).loss_and_gradients(*batch)
        if loss is None:
            loss, right = given
        wrong = [name for name in right if given[1][name].tobytes() != right[name].tobytes()]
        if given[0] != loss or wrong:
            raise Wrong(f"{loop['text']}, {dtype}: {kind} has another loss, or gradient of {wrong}")


def measure(
    loop: dict[str, Any], dtype: str, seconds: float, tell: Callable[[float], object]
) -> Iterator[Row]:
    """Time steps of all variants in turn, each with a batch of its own."""
    spots, given = list(enumerate(loop["spots"])), batches(loop, dtype, 1)
    networks = {v: Network(loop, [site(v, spot, n) for n, spot in spots], dtype) for v in VARIANTS}
    samples = {variant: list[Any]() for variant in VARIANTS}
    np.random.seed(1)  # noqa: NPY002 - what public loops draw their masks from
    for network in (*networks.values(),) * WARM:
        network.step(*next(given))
    start, used = time.perf_counter(), 0.0
    with timing.quiet_gc():
        while used < 1 or len(samples[NONE]) < (LEAST if seconds else 1):
            turn = len(samples[NONE])
            for variant in (*VARIANTS[turn % 4 :], *VARIANTS[: turn % 4]):
                batch, network = next(given), networks[variant]
                for each in network.sites:
                    each.seconds = 0.0
                begin = time.perf_counter()
                network.step(*batch)
                taken = time.perf_counter() - begin
                samples[variant].append((taken, sum(each.seconds for each in network.sites)))
            used = max((time.perf_counter() - start) / (seconds or 1e-9), turn / MOST)
            tell(min(1.0, used))
    shapes: list[tuple[int, ...]] = []  # of what a step drops from

    def counted(shape: tuple[int, ...]) -> Array:
        shapes.append(shape)
        return np.ones(shape)

    Network(loop, [Site(False, counted) for _ in spots], dtype).forward(next(given)[0])
    stored = np.asarray(samples[STORED])[:, 0]
    for variant, network in networks.items():
        steps, dropout = np.asarray(samples[variant]).T
        q1, median, q3 = np.percentile(steps, (25, 50, 75)).tolist()
        yield {
            **{"section": "loops", "loop": loop["name"], "dtype": dtype, "variant": variant},
            **{"steps": len(steps), "step": median, "step_q1": q1, "step_q3": q3},
            "ratio": float(np.median(steps / stored)),
            "dropout": float(np.median(dropout)),
            "share": float(np.median(dropout / steps)),
            "elements": sum(int(np.prod(shape)) for shape in shapes),
            **{"masks": len(shapes), "kept": sum(each.kept for each in network.sites)},
            "activations": network.activations.name,
        }


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say: benchmarks inform, tests decide."""
    names, rows = chosen(args.only, list(LOOPS), "loop"), list[Row]()
    cases = [(LOOPS[name], dtype) for name in names for dtype in LOOPS[name]["dtypes"]]
    seconds = 0.0 if args.check else (args.seconds or SECONDS) / len(cases)
    # A second thread of BLAS gains little at these sizes, and spins when it has nothing to do.
    with progress() as tell, load("threadpoolctl").threadpool_limits(1, user_api="blas"):
        for done, (loop, dtype) in enumerate(cases):

            def doing(
                part: float, done: int = done, what: str = f"{loop['name']}, {dtype}"
            ) -> None:
                tell(what, (done + part) / len(cases))

            loop = loop | {"samples": 4, "hidden": 16} if args.check else loop
            validate(loop, dtype)
            rows += measure(loop, dtype, seconds, doing)
    settings = {"seconds": seconds * len(cases), "check": args.check, "blas_threads": 1}
    labels = {name: {"label": loop["text"], "role": ""} for name, loop in LOOPS.items()}
    report.finish(made(rows, settings, labels), args, "loops")
    return 0
