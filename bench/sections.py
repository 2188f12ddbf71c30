"""What is timed with what: the sections of the benchmark, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import small_calls, variants
from .common import DTYPES, KI, MI, BenchError
from .contender import Contender
from .contenders import BY_NAME, CONTENDERS, ROOF, SMALL, as_step, in_dtype
from .machine import usable_cpus

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """Contenders that are timed side by side, at some sizes.

    Attributes
    ----------
    title : str
        What it shows.
    contenders : callable
        Returns who takes part, the roof first.
    sizes, quick, tiny : tuple of int
        Element counts of a full run, of a quick one, and of one that only checks.
    share : float
        Part of the time for timing.
    multiple : int
        What sizes have to be multiples of.
    between : bool
        Whether each call is made after other work, and timed alone. Else calls are made in a row.
    """

    title: str
    contenders: Callable[[], tuple[Contender, ...]]
    sizes: Sizes
    quick: Sizes
    tiny: Sizes
    share: float
    multiple: int = 1
    between: bool = False


def _dtypes() -> tuple[Contender, ...]:
    ours = ("multiply", "fastdrop-1", "fastdrop")
    # float64 is what most from-scratch loops compute in.
    more = {"float64": ("numpy-best", "cs231n", "binomial")}
    return tuple(
        in_dtype(BY_NAME[name], dtype) for dtype in DTYPES for name in (*ours, *more.get(dtype, ()))
    )


def _variants() -> tuple[Contender, ...]:
    return ROOF, *variants.variants()


def _steps() -> tuple[Contender, ...]:
    return tuple(as_step(contender) for contender in CONTENDERS if contender.steps)


def thread_counts(cpus: int) -> list[int]:
    """Return the thread counts to try: all up to 8, then doublings, and the most there are."""
    return sorted({*range(1, min(cpus, 8) + 1), *(n for n in (16, 32, 64, 128) if n < cpus), cpus})


def threads_variant(count: int) -> str:
    """Name a number of threads."""
    return f"{count} thread{'s' if count > 1 else ''}"


def _threads() -> tuple[Contender, ...]:
    ours = BY_NAME["fastdrop"]
    return ROOF, *(
        replace(ours, threads=n, variant=threads_variant(n)) for n in thread_counts(usable_cpus())
    )


def _small() -> tuple[Contender, ...]:
    return SMALL


def _small_steps() -> tuple[Contender, ...]:
    own = (BY_NAME[name] for name in ("multiply", "cs231n", "fastdrop", "fastdrop-new"))
    return tuple(as_step(contender) for contender in (*own, *small_calls.STEPS))


def _parts() -> tuple[Contender, ...]:
    plain = ("multiply", "cs231n", "fastdrop-new", "fastdrop-generator", "fastdrop-layer")
    return (*(BY_NAME[name] for name in plain), *small_calls.PARTS)


_BY_FOURS = tuple(64 << 2 * n for n in range(11))  # 64 to 64 Mi

SECTIONS = {
    "forward": Section(
        "every contender, one forward call",
        lambda: CONTENDERS,
        _BY_FOURS,
        (KI, 64 * KI),
        (KI,),
        share=0.41,
    ),
    "small": Section(
        "small calls",
        _small,
        small_calls.SIZES,
        (64, KI),
        (64,),
        share=0.06,
    ),
    "small-step": Section(
        "small calls, forward plus backward",
        _small_steps,
        small_calls.SIZES,
        (64,),
        (64,),
        share=0.03,
    ),
    "small-parts": Section(
        "what is made beside small calls",
        _parts,
        (small_calls.PARTS_ELEMENTS,),
        (small_calls.PARTS_ELEMENTS,),
        (small_calls.PARTS_ELEMENTS,),
        share=0.015,
        multiple=small_calls.PARTS_ELEMENTS,
    ),
    "small-between": Section(
        "the same, each call after other work",
        _parts,
        (small_calls.PARTS_ELEMENTS,),
        (small_calls.PARTS_ELEMENTS,),
        (small_calls.PARTS_ELEMENTS,),
        share=0.015,
        multiple=small_calls.PARTS_ELEMENTS,
        between=True,
    ),
    "variants": Section(
        "other ways to call fastdrop",
        _variants,
        (64 * KI, MI, 16 * MI),
        (64 * KI,),
        (8 * KI,),
        share=0.14,
        multiple=variants.LONG,
    ),
    "dtypes": Section(
        "dtypes",
        _dtypes,
        (64 * KI, MI, 16 * MI, 64 * MI),
        (64 * KI,),
        (8 * KI,),
        share=0.14,
    ),
    "step": Section(
        "forward plus backward",
        _steps,
        (64 * KI, MI, 16 * MI),
        (64 * KI,),
        (8 * KI,),
        share=0.12,
    ),
    "threads": Section(
        "numbers of threads",
        _threads,
        (64 * KI, MI, 16 * MI, 64 * MI),
        (64 * KI,),
        (8 * KI,),
        share=0.07,
    ),
}
# These are no times side by side, and have modules of their own.
MEMORY, PROFILE = "memory", "profile"
# Those that `python -m bench small` runs. In a full run they have a process of their own, so that
# neither threads nor memory of peers are in figures of a microsecond.
BY_THEMSELVES = ("small", "small-step", "small-parts", "small-between", PROFILE)
NAMES = (*SECTIONS, MEMORY, PROFILE)


def chosen(names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the sections of these names in their order, or all.

    Raises
    ------
    BenchError
        Naming one that does not exist.
    """
    if names is None:
        return NAMES
    if unknown := [name for name in names if name not in NAMES]:
        raise BenchError(f"no section {unknown[0]!r}; there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)
