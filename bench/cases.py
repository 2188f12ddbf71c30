"""Who is timed: `cases.toml` has the contenders as rows of data, which this module makes callable.

All sections of the benchmark, the family, the layouts and the regression tests take them from here.
"""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from . import check as checks
from .check import Wrong, is_step, key
from .common import (
    HALF,
    Array,
    BenchError,
    P,
    default_threads,
    dtype_of,
    fresh_input,
    fresh_output,
    identity,
    load,
    placed,
    size_label,
    toml,
)

Calls = dict[str, Callable[..., Any]]

CASES = toml("cases")
CHUNK = 65536


def keeper(bits: Any, p: float) -> Callable[[Array], object]:
    """Return what fills a bool array: a bit generator's 64-bit words, seen as 16-bit integers.

    2 times faster to draw than Generator.integers(dtype=uint16), the fastest of some twenty ways.
    """
    raw, threshold = bits.random_raw, np.uint16(round(p * 65536))

    def keep(mask: Array) -> None:
        np.greater_equal(
            raw((mask.size + 3) // 4).view(np.uint16)[: mask.size], threshold, out=mask
        )

    return keep


def drop_in_chunks(x: Array, s: Any, y: Array, mask: Array, keep: Any = None) -> Array:
    """Scale and mask x; the mask, which may be a chunk's, is filled first where `keep` is given.

    Multiplying by the mask is 2 times faster than putmask, copyto, indexing or where=; chunks are
    worth 15% at 16 Mi.
    """
    for i in range(0, x.size, CHUNK):
        source, target = x[i : i + CHUNK], y[i : i + CHUNK]
        kept = mask[i : i + CHUNK] if mask.size == x.size else mask[: source.size]
        if keep is not None:
            keep(kept)
        np.multiply(source, s, out=target)
        np.multiply(target, kept, out=target)
    return y


def softmax(x: Array) -> Array:
    """Return the softmax along the last axis."""
    odds: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    odds /= odds.sum(axis=-1, keepdims=True)
    return odds


@functools.lru_cache(maxsize=1)
def rates(*shape: int) -> Array:
    """Draw probabilities between 0.05 and 0.15."""
    p = np.float32(P) * (np.float32(0.5) + np.random.default_rng(1).random(shape, np.float32))
    return placed(p)


@functools.cache
def torch_compiled(p: float) -> Callable[[Any], Any]:
    """Compile torch's dropout, once for all sizes."""
    torch, functional = load("torch"), load("torch.nn.functional")
    compiled: Callable[[Any], Any] = torch.compile(
        lambda x: functional.dropout(x, p, True), dynamic=True
    )
    return compiled


# What snippets see, beside the libraries that they need.
_NAMES = {"np": np, "itertools": itertools, "math": math, "CHUNK": CHUNK}
_NAMES |= {f.__name__: f for f in (keeper, drop_in_chunks, softmax, rates, placed, fresh_output)}
_NAMES |= {"normal": functools.partial(fresh_input, seed=0)}
_NAMES |= {"draw": checks.draw, "scaled": checks.scaled, "torch_compiled": torch_compiled}
_LIBRARIES = {
    "fastdrop": {"fd": "fastdrop"},
    "torch": {"torch": "torch", "F": "torch.nn.functional"},
    "fastdrop.torch": {"D": "fastdrop.torch.functional"},
    "jax": {"jax": "jax", "jnp": "jax.numpy"},
    "tensorflow": {"tf": "tensorflow"},
    "randomgen": {"randomgen": "randomgen"},
    "triton": {"triton_dropout": "bench.triton_dropout"},
}


def compiled(
    arguments: str, setup: str, snippets: dict[str, str], needs: Iterable[str], names: Any
) -> Callable[..., Calls]:
    """Return a function of `arguments` that runs the setup and returns the snippets as calls.

    Snippets are expressions by the signature of their call, such as "back(kept)", and cost what
    they do in a loop; statements may stand on lines before.
    """
    lines = [f"def case({arguments}):", textwrap.indent(setup.strip() or "pass", " ")]
    for signature, code in snippets.items():
        *before, last = code.strip().split("\n") if "(i" in signature else [code]
        lines += [f" def {signature}:", *(f"  {line}" for line in before), f"  return {last}"]
    calls = (signature.partition("(")[0] for signature in snippets)
    lines.append(f" return {{{', '.join(f'{name!r}: {name}' for name in calls)}}}")
    scope = {**_NAMES, "rng": np.random.default_rng(), **names}
    for need in needs:
        scope |= {name: load(module) for name, module in _LIBRARIES[need].items()}
        scope |= {"key": key(), "key_without_ties": key(1)} if need == "fastdrop" else {}
    exec("\n".join(lines), scope)
    case: Callable[..., Calls] = scope["case"]
    return case


@dataclass(frozen=True)
class Contender:
    """One way to compute dropout, or the roof no dropout can pass, which ratios are to.

    `name` stands in files and on the command line, `label` in tables. `threads` is what is set
    before timing; None is a library that only uses one, "own" one whose number cannot be changed in
    a running process. `check` says what is wrong with a result; a `right` snippet decides in its
    place. `dtype` and `variant` set rows of one name apart; `base` is the `id` of what ratios are
    to. `step` is whether forward and backward are timed. The rest is as in `cases.toml`.
    """

    name: str
    label: str
    call: str
    role: Literal["roof", "ours", "peer"] = "peer"
    setup: str = ""
    step_setup: str = ""
    there: str = ""
    back: str = ""
    right: str = ""
    multiply: str = ""
    needs: tuple[str, ...] = ()
    threads: Literal["one", "all", "own"] | int | None = None
    check: checks.Check = checks.is_dropout
    dtype: str = "float32"
    variant: str = ""
    p: float = P
    base: str = "multiply"
    step: bool = False
    names: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def id(self) -> str:
        """Name, and dtype and variant where they are not the usual ones."""
        return identity(self.name, self.dtype, self.variant)

    @property
    def spins(self) -> str:
        """The library whose threads may be spinning after a call; ours sleep."""
        parallel = self.threads not in (None, "one", 1) and self.role == "peer"
        return self.needs[0] if parallel else ""

    def set_threads(self) -> None:
        """Set the thread count of the contender's library; called untimed before each batch."""
        if self.threads not in (None, "own"):
            usual = {"one": 1, "all": default_threads(self.needs[0])}
            load(self.needs[0]).set_num_threads(usual.get(str(self.threads), self.threads))

    def calls(self, x: Array, y: Array, dx: Array | None = None) -> Calls:
        """Make ready: returns "call", or "there" and "back" of a step whose gradient is -x."""
        snippets = {"call()": self.call, "right()": self.right, "multiply()": self.multiply}
        setup = self.setup
        if dx is not None:
            snippets = {"there()": self.there or f"{self.call}, None", "back(kept)": self.back}
            setup = self.step_setup or self.setup
        setup = f"q, s = 1 - p, x.dtype.type(1 / (1 - p))\n{setup}"
        snippets = {name: code for name, code in snippets.items() if code}
        case = compiled("x, dy, p, y, dx", setup, snippets, self.needs, self.names)
        return case(x, x if dx is None else -x, self.p, y, dx)

    def make(self, x: Array, y: Array) -> Callable[[], Any]:
        """Return the call that is timed."""
        calls = self.calls(x, y, fresh_output(y) if self.step else None)
        if not self.step:
            return calls["call"]
        there, back = calls["there"], calls["back"]

        def step() -> tuple[Any, Any]:
            output, kept = there()
            return output, back(kept)

        return step

    def validate(self, x: Array, y: Array) -> None:
        """Make one call and check all of its result; y is poisoned first."""
        y.fill(np.nan)
        self.set_threads()
        if self.right:
            calls = self.calls(x, y)
            right, given = calls["right"](), calls["call"]()
            arrays = isinstance(right, np.ndarray)
            same = checks.same_bits(given, right) if arrays else given == right
            wrong = "" if same else "computes wrong values"
        else:
            wrong = self.check(x, self.make(x, y)(), self.p)
        if wrong:
            aside = self.id.partition("/")[2]
            where = f"{self.label}{f' ({aside})' if aside else ''}, {size_label(x.size)} elements"
            raise Wrong(f"{where}: {wrong}")


def _group(group: str, **more: Any) -> tuple[Contender, ...]:
    found = []
    for row in CASES[group]:
        row = {"role": "ours" if "fastdrop" in row.get("needs", ()) else "peer", **more, **row}
        row["check"] = checks.CHECKS[row.get("check", "dropout")]
        found.append(Contender(**row | {"needs": tuple(row.get("needs", ()))}))
    return tuple(found)


_OURS = {"role": "ours", "needs": ["fastdrop"]}
CONTENDERS = _group("contender")
EVERYONE = (*CONTENDERS, *_group("small", **_OURS), *_group("small_step", **_OURS))
EVERYONE += _group("part", **_OURS, check="nothing")
BY_NAME = {contender.name: contender for contender in EVERYONE}
ROOF = BY_NAME["multiply"]
FORMS = tuple(r["name"] for r in CASES["form"] if r["name"] != "plain" and "steady" not in r)


def form(name: str, plain: Contender = BY_NAME["fastdrop-1"]) -> Contender:
    """Return a contender that is called in another way: see the forms in `cases.toml`."""
    row = CASES["form_usual"] | next(row for row in CASES["form"] if row["name"] == name)
    if "noise" in row:
        row |= {"more": f"noise_shape={row['noise']}", "mask": f"draw({row['noise']}, p)"}
        row["factor"] = f"placed(np.full({row['noise']}, 1 / (1 - p), np.float32))"
    setup = [f"{name} = {row[name]}" for name in ("n", "side", "x", "y", "p", "key", "factor")]
    return replace(
        plain,
        variant="" if name == "plain" else name,
        setup="\n".join(setup),
        call=row["call"].format(**row),
        right=f"(lambda mask: {row['right']})({row['mask']})",
        multiply=row["multiply"],
    )


def in_dtype(contender: Contender, dtype: str) -> Contender:
    """Return a contender for another dtype.

    Ratios are to multiplying by a constant in that dtype. For the half types it is that in float32:
    NumPy multiplies them one by one, which no kernel needs to be proud to beat.
    """
    moved = replace(contender, dtype=dtype)
    if dtype not in HALF:
        return replace(moved, base=replace(ROOF, dtype=dtype).id)
    return replace(moved, role="peer") if contender.role == "roof" else moved


def as_step(contender: Contender) -> Contender:
    """Return a contender whose call is forward and backward; it must have a `back`."""
    return replace(contender, step=True, check=is_step(contender.check))


def available(contenders: Iterable[Contender]) -> tuple[list[Contender], list[str]]:
    """Return the contenders that can run here, and a note on each that cannot."""
    able, notes = [], []
    for contender in contenders:
        try:
            dtype_of(contender.dtype)
            list(map(load, contender.needs))
            able.append(contender)
        except ImportError as error:
            if contender.role == "ours" and contender.dtype != "bfloat16":
                raise BenchError(f"fastdrop cannot be imported: {error}") from error
            notes.append(f"left out, not importable: {contender.label} ({error})")
    return able, notes
