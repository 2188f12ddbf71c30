"""Compiling ahead of the first call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.catalogue import ACTIVATIONS, CATALOGUE, FLOAT_TYPES, FLOATS, MOVED
from fastdrop_kernels.cpu.codegen import notice

from .._arrays.adapter import Operation, imported
from .._arrays.numpy_arrays import NUMPY, cpu_driver
from .._batch.call import driver_of
from .._batch.ready import COMPILED
from .._call.rows import ROWS
from .._check import arguments, detect
from .._check.fill_values import check_fillable
from .._functions.progress import progress_bar

_DType: TypeAlias = np.dtype[Any]
# A step makes something ready; steps that are equal are made once.
_Step: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
_EITHER = (False, True)
_USUAL = ("dropout", "masked_fill", "dropout_mask")  # functions, if none are named
_USUAL_DTYPES = ("float32", "float64")
# Those that arrays of p are given to.
_BY_P = ("dropout", "masked_fill", "dropout_mask", "feature_dropout", "drop_path")
_MASK, _SOFTMAX, _EPILOGUE = "dropout_mask", "softmax_dropout", "bias_act_dropout_add"
FUNCTIONS = (*ROWS, *COMPILED)  # all that the package has imported, which is all


def warmup(
    dtypes: npt.DTypeLike | Iterable[npt.DTypeLike] | None = None,
    functions: str | Iterable[str] = _USUAL,
    *,
    activations: str | Iterable[str] = ACTIVATIONS,
    p_arrays: bool = False,
    progress: bool | str | None = None,
    device: str = "cpu",
    arch: str | Iterable[str] | None = None,
) -> None:
    """Make the kernels of some functions ready, so that no call waits.

    A kernel is compiled when it is first called, and kept in the cache folder
    (``FASTDROP_CACHE_DIR``, else the user's) for other processes; later ones load it in
    milliseconds. Call this when a container is built, or before anything is timed. From an empty
    cache it takes some ten seconds a function and dtype, functions on batches (`mask_tokens`,
    `keep_k` and so on) two to five, and `bias_act_dropout_add` with all its activations a minute.
    So only three functions are made ready if none is named.

    The kernels for CuPy's arrays are compiled into CuPy's cache (``CUPY_CACHE_DIR``, else
    ``~/.cupy/kernel_cache``), in as many processes as a call may use threads (see
    `set_num_threads`), at most 32. The GPU itself is only asked for its compute capability, and
    not even that with `arch`: a machine without one can compile for another.

    Parameters
    ----------
    dtypes : dtype or iterable of dtype, optional
        Those that the functions will be called with, or their names: of x, of the tokens of
        `mask_tokens`, of what `poisson_weights` and `bernoulli_weights` return. By default float32
        and float64; of `mask_tokens` int64 and int32, of the weights their own, of
        `random_erasing` uint8 and float32. `dropout_mask`, `keep_k` and `mask_spans` have none.
        Names of functions can be given in the place of dtypes: ``warmup("mask_tokens")``.
    functions : str or iterable of str
        Names of public functions; one that has a backward of its own is made ready with that, and a
        backward can be named alone. Layers call the functions of their names, and `TokenCollator`
        calls `mask_tokens`. "all": all of them, each for those of `dtypes` that it takes. That is
        minutes.
    activations : str or iterable of str
        Those that `bias_act_dropout_add` will be called with.
    p_arrays : bool
        Whether `dropout`, `masked_fill`, `dropout_mask`, `feature_dropout` and `drop_path` will be
        given arrays of p, too.
    progress : bool, "rich", "tqdm" or None
        Show a progress bar, as `mc_dropout` does. None shows one if this takes long, on a terminal
        where rich is installed or in a notebook; and there, or with ``FASTDROP_VERBOSE=1``
        anywhere, says what is compiled.
    device : "cpu" or "cuda"
        Whose kernels to compile.
    arch : str or iterable of str, optional
        With ``device="cuda"``, the compute capability of the GPUs to compile for, such as "90" for
        an H100 or H200. By default that of the GPUs here.

    Raises
    ------
    TypeError
        If a function does not take one of the dtypes.
    ValueError
        If a function, an activation or a device is not known.
    ImportError
        If the progress bar's package is not installed; or CuPy, with ``device="cuda"``.
    RuntimeError
        If there is no GPU and no `arch`, or compiling for a GPU fails.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.warmup(["float32"])  # doctest: +SKIP
    >>> fd.warmup("float32", ["softmax_dropout", "bias_act_dropout_add"], activations="gelu")
    ... # doctest: +SKIP
    >>> fd.warmup("bfloat16", "dropout", device="cuda", arch="90")  # doctest: +SKIP
    """
    if functions is _USUAL and _names_functions(dtypes):
        functions, dtypes = dtypes, None  # type: ignore[assignment]
    acts = _names("activations", activations, ACTIVATIONS)
    each = arguments.flag("p_arrays", p_arrays)
    shown = progress_bar(progress, "Compiling kernels")
    wanted = _wanted(functions, dtypes)
    if arguments.choice("device", device, ("cpu", "cuda")) == "cuda":
        from . import cuda_warmup

        found = cuda_warmup.architectures(arch)
        kernels = cuda_warmup.kernels(_described(wanted, acts, each))
        cuda_warmup.compile_all(kernels, found, shown)
        for name, _ in wanted:
            if name in COMPILED and COMPILED[name].draws_here:
                driver_of(NUMPY, COMPILED[name].family).prepare(None)
        return
    if arch is not None:
        raise ValueError(
            f"arch={detect.short(arch)} is that of a GPU: give device='cuda' too, or no arch"
        )
    steps = list(dict.fromkeys(_steps(wanted, acts, each)))
    with notice.about("" if progress else _spoken(wanted)):
        for make, what in shown(steps, len(steps)):
            make(*what)


def _names(name: str, given: Any, choices: tuple[str, ...]) -> list[str]:
    """Return one name or several as a list; errors call the argument `name`."""
    arguments.reject_rng(name, given)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{detect.described(name, given)}: give a name, or a list of names")
    names = [given] if isinstance(given, str) else given
    return [arguments.choice(name, item, choices) for item in names]


def _names_functions(dtypes: Any) -> bool:
    """Say whether what was given for dtypes are names of functions."""
    given = [dtypes] if isinstance(dtypes, str) else dtypes
    return isinstance(given, list | tuple) and any(
        isinstance(name, str) and name in (*FUNCTIONS, "all") for name in given
    )


def _wanted(functions: str | Iterable[str], dtypes: Any) -> list[tuple[str, _DType]]:
    """Return the functions that are made ready, each with a dtype; bool if it has none.

    A dtype that a function does not take is an error, or left out if all functions are meant.
    """
    every = isinstance(functions, str) and functions == "all"
    names = _names("functions", FUNCTIONS if every else functions, FUNCTIONS)
    if isinstance(dtypes, str | type | np.dtype) or not isinstance(dtypes, Iterable):
        dtypes = None if dtypes is None else [dtypes]
    given = None if dtypes is None else list(map(_dtype, dtypes))
    wanted: list[tuple[str, _DType]] = []
    for name in names:
        usual = COMPILED[name].usual if name in COMPILED else _USUAL_DTYPES
        if name == _MASK or not usual:
            wanted.append((name, np.dtype(np.bool_)))
            continue
        for kind in map(np.dtype, usual) if given is None else given:
            try:
                _check(name, kind)
            except TypeError:
                if not every:
                    raise
            else:
                wanted.append((name, kind))
    return wanted


def _dtype(item: Any) -> _DType:
    """Return a dtype; the error for a name speaks of functions, too, which may stand there."""
    try:
        return arguments.dtype(item, "dtypes")
    except TypeError:
        like = detect.closest(item, FUNCTIONS)
        if like is None:
            raise
    if item == like:
        raise TypeError(
            f"dtypes has {item!r}, which is a function: give all functions in one list, functions="
        )
    raise TypeError(
        f"dtypes={detect.short(item)} is neither a dtype nor a function: did you mean {like!r}?"
    )


def _spoken(wanted: list[tuple[str, _DType]]) -> str:
    """Return functions and dtypes for people."""
    functions = list(dict.fromkeys(name for name, _ in wanted))
    named = ", ".join(functions[:4]) + f" and {len(functions) - 4} more" * (len(functions) > 4)
    kinds = dict.fromkeys(kind.name for _, kind in wanted if kind != np.bool_)
    return f"{named} for {', '.join(kinds)}" if kinds else named or "kernels"


def _check(name: str, dtype: _DType) -> None:
    """Raise a TypeError if a function does not take a dtype."""
    if name == "masked_fill":
        check_fillable(dtype, name="dtypes")
    elif name in COMPILED:
        try:
            COMPILED[name].check(dtype)
        except TypeError as error:
            raise TypeError(f"dtypes has {dtype}, and {name} does not take it: {error}") from None
    elif not dtype.isnative or dtype.name not in FLOAT_TYPES:
        shown = dtype if dtype.isnative else f"{dtype.str!r}, not in this machine's byte order"
        raise TypeError(
            f"dtypes has {shown}, and {name} takes {', '.join(FLOAT_TYPES)}: give these"
        )


def _described(
    wanted: list[tuple[str, _DType]], acts: list[str], p_arrays: bool
) -> Iterator[tuple[str, _DType, list[Operation], str]]:
    """Yield names, dtypes, operations and families of functions, for `cuda_warmup.kernels`."""
    for name, kind in wanted:
        family = COMPILED[name].family if name in COMPILED else ""
        yield name, kind, list(_operations(name, kind, acts, p_arrays)), family


def _steps(wanted: list[tuple[str, _DType]], acts: list[str], p_arrays: bool) -> Iterator[_Step]:
    """Yield what has to be done on the CPU, some of it more than once."""
    for name, kind in wanted:
        if name in COMPILED:
            yield driver_of(NUMPY, COMPILED[name].family).prepare, (kind,)
            yield imported("fastdrop_kernels.cpu.batch.fast_rows").prepare, ()
            continue
        for operation in _operations(name, kind, acts, p_arrays):
            yield cpu_driver().prepare, ((operation.of(cpu_driver()),),)
        if name.startswith(_SOFTMAX):
            yield NUMPY.softmax_driver.prepare, (kind, True)
        if name == _SOFTMAX:
            yield NUMPY.softmax_driver.prepare, (kind, False)
        if name.startswith(_EPILOGUE):
            yield _sums_ready, (kind,)


def _operations(
    function: str, dtype: _DType, acts: list[str], p_arrays: bool
) -> Iterator[Operation]:
    """Yield the operations of a function, in all variants that it may call."""
    for name in ROWS.get(function, ()):
        row = CATALOGUE[name]
        kind = dtype if row.elements in (FLOATS, MOVED) else None
        choices = [acts if part == "act" else _EITHER for part in row.variant]
        for variant in product(*choices):
            # The gradient of what is no activation is dropout's.
            if name != "bias_act_drop_backward" or variant[0] != "identity":
                yield Operation(name, kind, variant)
        if p_arrays and function in _BY_P and row.takes_p_array:
            for given in _EITHER if row.is_scaled else (True,):
                yield Operation(name, kind, given=given)


def _sums_ready(dtype: _DType) -> None:
    cpu_driver().sum_to(np.zeros(1, dtype), (1,))
