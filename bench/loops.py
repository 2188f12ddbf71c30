"""``python -m bench loops``: dropout in real training steps.

The networks of `bench.nets` are trained without dropout, with the usual stored mask, with an
`fd.Mask` in its place, and with a layer, by turns, on scikit-learn's data, which need no download.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import nets, report, timing
from .check import Wrong
from .common import Array, chosen, load, progress
from .results import Row, made

SECONDS = 60.0
LEAST, MOST, WARM = 20, 400, 3  # rounds of a loop, and steps of each before the first
NONE, STORED, MASK, LAYER = "none", "stored mask", "fd.Mask", "fd.Dropout layer"
VARIANTS = (NONE, STORED, MASK, LAYER)

Make = Callable[[tuple[int, ...]], Any]


@dataclass(frozen=True)
class Spot:
    """A place in a network where elements are dropped, by the mask that public loops draw there.

    `in_place` is whether they multiply ``h *= mask``, as CS231n's notes do.
    """

    p: float
    binomial: bool = False
    in_place: bool = False

    def mask(self, shape: tuple[int, ...]) -> Array:
        """Draw a mask in the idiom."""
        q = 1 - self.p
        if self.binomial:
            return np.random.binomial(1, q, shape) / q  # noqa: NPY002 - that is the idiom
        return (np.random.rand(*shape) < q) / q  # noqa: NPY002 - that is the idiom


class Site:
    """What stands in a spot: no dropout, a mask that `make` makes, or a layer; and what it costs.

    Of several forwards the backwards come in reverse order, as in backpropagation through time.
    """

    def __init__(self, spot: Spot, make: Make | None = None, layer: Any = None) -> None:
        self.in_place, self.make, self.layer = spot.in_place, make, layer
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


def _site(variant: str, spot: Spot, number: int) -> Site:
    fd = load("fastdrop")
    if variant == LAYER:
        return Site(spot, layer=fd.Dropout(spot.p, rng=fd.Key(2026).fold_in(number)))
    # A Mask from the global state that the idiom draws from.
    makes = {STORED: spot.mask, MASK: lambda shape: fd.Mask(shape, spot.p, rng=np.random)}
    return Site(spot, makes.get(variant))


def _digits() -> tuple[Array, Array]:
    data = load("sklearn.datasets").load_digits()
    return data.images / 16.0, data.target


def _cells() -> tuple[Array, Array]:
    data = load("sklearn.datasets").load_breast_cancer()
    return (data.data - data.data.mean(axis=0)) / data.data.std(axis=0), data.target


def _large(images: Array) -> Array:
    """Enlarge images of 8 x 8 to 32 x 32, a row each."""
    large: Array = np.kron(images, np.ones((1, 4, 4))).reshape(len(images), -1)
    return large


@dataclass(frozen=True)
class Loop:
    """A training loop: a network, its data, samples of a batch, widths, and where dropout is."""

    text: str
    network: type[nets.Network]
    data: Callable[[], tuple[Array, Array]]
    shaped: Callable[[Array], Array]
    samples: int
    inputs: int
    hidden: int
    spots: tuple[Spot, ...]
    dtypes: tuple[str, ...]  # that people run it in

    def batches(self, dtype: Any, seed: int) -> Iterator[tuple[Array, Array]]:
        """Yield batches without end: samples drawn anew, each with noise of its own."""
        rng, (x, labels) = np.random.default_rng(seed), self.data()
        while True:
            chosen = rng.integers(len(x), size=self.samples)
            given = self.shaped(x[chosen])
            noise = rng.standard_normal(given.shape, np.float32) * np.float32(0.05)
            yield (given + noise).astype(dtype), labels[chosen]

    def build(self, sites: Sequence[Site], dtype: Any) -> nets.Network:
        """Return a new network, always of the same weights."""
        rng = np.random.default_rng(0)
        return self.network(sites, np.dtype(dtype), self.inputs, self.hidden, rng)


LOOPS = {
    "cs231n": Loop(
        "CS231n's two hidden layers of 500, batches of 100",
        *(nets.NETWORKS["dense"], _digits, _large, 100, 1024, 500),
        *((Spot(0.5, in_place=True),) * 2, ("float64", "float32")),
    ),
    "layers": Loop(
        "layer objects, binomial masks and Adam, 2 x 512, batches of 256",
        *(nets.NETWORKS["adam"], _cells, np.asarray, 256, 30, 512),
        *((Spot(0.1, binomial=True),) * 2, ("float32",)),
    ),
    "lstm": Loop(
        "an LSTM of 128 over 8 rows, batches of 64",
        *(
            nets.NETWORKS["lstm"],
            _digits,
            np.asarray,
            64,
            8,
            128,
            (Spot(0.1), Spot(0.5)),
            ("float64",),
        ),
    ),
}


def validate(loop: Loop, dtype: str) -> None:
    """Check that the same masks give the same gradients, however they are kept.

    Raises
    ------
    Wrong
        Naming the loop, the variant and the parameters.
    """
    fd, batch = load("fastdrop"), next(loop.batches(dtype, 0))

    def site(kind: str, spot: Spot, number: int) -> Site:
        # A layer's n-th forward is n streams further on.
        key, ahead = fd.Key(3).fold_in(number), itertools.count()

        def mask(shape: tuple[int, ...]) -> Any:
            drawn = fd.Mask(shape, spot.p, rng=key.advanced(next(ahead)))
            return drawn.astype(dtype) if kind == STORED else drawn

        return Site(spot, layer=fd.Dropout(spot.p, rng=key)) if kind == LAYER else Site(spot, mask)

    loss, right = None, dict[str, Array]()
    for kind in (STORED, MASK, LAYER):
        sites = [site(kind, spot, number) for number, spot in enumerate(loop.spots)]
        given = loop.build(sites, dtype).loss_and_gradients(*batch)
        if loss is None:
            loss, right = given
        wrong = [name for name in right if given[1][name].tobytes() != right[name].tobytes()]
        if given[0] != loss or wrong:
            raise Wrong(f"{loop.text}, {dtype}: {kind} has another loss, or gradient of {wrong}")


def measure(
    name: str, loop: Loop, dtype: str, seconds: float, tell: Callable[[float], object]
) -> Iterator[Row]:
    """Time steps of all variants in turn, each with a batch of its own."""
    spots = list(enumerate(loop.spots))
    networks = {v: loop.build([_site(v, spot, n) for n, spot in spots], dtype) for v in VARIANTS}
    batches, samples = loop.batches(dtype, 1), {variant: list[Any]() for variant in VARIANTS}
    np.random.seed(1)  # noqa: NPY002 - what public loops draw their masks from
    for network in (*networks.values(),) * WARM:
        network.step(*next(batches))
    start, used = time.perf_counter(), 0.0
    with timing.quiet_gc():
        while used < 1 or len(samples[NONE]) < (LEAST if seconds else 1):
            turn = len(samples[NONE])
            for variant in (*VARIANTS[turn % 4 :], *VARIANTS[: turn % 4]):
                batch, network = next(batches), networks[variant]
                for site in network.sites:
                    site.seconds = 0.0
                begin = time.perf_counter()
                network.step(*batch)
                taken = time.perf_counter() - begin
                samples[variant].append((taken, sum(site.seconds for site in network.sites)))
            used = max((time.perf_counter() - start) / (seconds or 1e-9), turn / MOST)
            tell(min(1.0, used))
    shapes: list[tuple[int, ...]] = []  # of what a step drops from

    def counted(shape: tuple[int, ...]) -> Array:
        shapes.append(shape)
        return np.ones(shape)

    loop.build([Site(spot, counted) for _, spot in spots], dtype).forward(next(batches)[0])
    stored = np.asarray(samples[STORED])[:, 0]
    for variant, network in networks.items():
        steps, dropout = np.asarray(samples[variant]).T
        q1, median, q3 = np.percentile(steps, (25, 50, 75)).tolist()
        yield {
            **{"section": "loops", "loop": name, "dtype": dtype, "variant": variant},
            **{"steps": len(steps), "step": median, "step_q1": q1, "step_q3": q3},
            "ratio": float(np.median(steps / stored)),
            "dropout": float(np.median(dropout)),
            "share": float(np.median(dropout / steps)),
            "elements": sum(int(np.prod(shape)) for shape in shapes),
            **{"masks": len(shapes), "kept": sum(site.kept for site in network.sites)},
            "activations": network.activations.name,
        }


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say: benchmarks inform, tests decide."""
    names, rows = chosen(args.only, list(LOOPS), "loop"), list[Row]()
    cases = [(name, LOOPS[name], dtype) for name in names for dtype in LOOPS[name].dtypes]
    seconds = 0.0 if args.check else (args.seconds or SECONDS) / len(cases)
    # A second thread of BLAS gains little at these sizes, and spins when it has nothing to do.
    with progress() as tell, load("threadpoolctl").threadpool_limits(1, user_api="blas"):
        for done, (name, loop, dtype) in enumerate(cases):

            def doing(part: float, done: int = done, what: str = f"{name}, {dtype}") -> None:
                tell(what, (done + part) / len(cases))

            loop = replace(loop, samples=4, hidden=16) if args.check else loop
            validate(loop, dtype)
            rows += measure(name, loop, dtype, seconds, doing)
    settings = {"seconds": seconds * len(cases), "check": args.check, "blas_threads": 1}
    labels = {name: {"label": loop.text, "role": ""} for name, loop in LOOPS.items()}
    report.finish(made(rows, settings, labels), args, "loops")
    return 0
