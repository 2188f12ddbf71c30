"""Compiling ahead of the first call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.catalogue import ACTIVATIONS, CATALOGUE, FLOAT_TYPES, FLOATS, MOVED

from .._arrays.adapter import Operation
from .._arrays.numpy_arrays import NUMPY, cpu_driver
from .._call.rows import ROWS
from .._check import arguments, detect
from .._check.fill_values import check_fillable
from .._functions.progress import progress_bar

_DType: TypeAlias = np.dtype[Any]
# A step makes something ready; steps that are equal are made once.
_Step: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
_EITHER = (False, True)


def warmup(
    dtypes: npt.DTypeLike | Iterable[npt.DTypeLike] = (np.float32, np.float64),
    functions: str | Iterable[str] = ("dropout", "masked_fill", "dropout_mask"),
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
    cache it takes some ten seconds a function and dtype, and `bias_act_dropout_add` with all its
    activations a minute. Functions on batches (`mask_tokens`, `keep_k` and so on) are not among
    these, and take a second or two: call them once.

    The kernels for CuPy's arrays are compiled into CuPy's cache (``CUPY_CACHE_DIR``, else
    ``~/.cupy/kernel_cache``), in as many processes as a call may use threads (see
    `set_num_threads`), at most 32. The GPU itself is only asked for its compute capability, and
    not even that with `arch`: a machine without one can compile for another.

    Parameters
    ----------
    dtypes : dtype or iterable of dtype
        Those that the functions will be called with, or their names. `dropout_mask` has none.
    functions : str or iterable of str
        Names of public functions; one that has a backward of its own is made ready with that, and a
        backward can be named alone. Layers call the functions of their names.
    activations : str or iterable of str
        Those that `bias_act_dropout_add` will be called with.
    p_arrays : bool
        Whether `dropout`, `masked_fill`, `dropout_mask`, `feature_dropout` and `drop_path` will be
        given arrays of p, too.
    progress : bool, "rich", "tqdm" or None
        Show a progress bar, as `mc_dropout` does. None shows one if this takes long, in a terminal
        where rich is installed.
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
    given: Any = dtypes
    if isinstance(given, str | type | np.dtype) or not isinstance(given, Iterable):
        given = [given]
    kinds = [arguments.dtype(item, "dtypes") for item in given]
    names = _names("functions", functions, FUNCTIONS)
    acts = _names("activations", activations, ACTIVATIONS)
    each, shown = arguments.flag("p_arrays", p_arrays), progress_bar(progress, "Compiling kernels")
    for name, kind in product(names, kinds):
        if name != "dropout_mask":
            _check_dtype(name, kind)
    if arguments.choice("device", device, ("cpu", "cuda")) == "cuda":
        from . import cuda_warmup

        found = cuda_warmup.architectures(arch)
        wanted = (
            (name, kind, list(_operations(name, kind, acts, each)))
            for name, kind in _calls(names, kinds)
        )
        cuda_warmup.compile_all(cuda_warmup.kernels(wanted), found, shown)
        return
    if arch is not None:
        raise ValueError(
            f"arch={detect.short(arch)} is that of a GPU: give device='cuda' too, or no arch"
        )
    steps = list(dict.fromkeys(_steps(names, kinds, acts, each)))
    for make, what in shown(steps, len(steps)):
        make(*what)


def _names(name: str, given: Any, choices: tuple[str, ...]) -> list[str]:
    """Return one name or several as a list; errors call the argument `name`."""
    arguments.reject_rng(name, given)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{detect.described(name, given)}: give a name, or a list of names")
    names = [given] if isinstance(given, str) else given
    return [arguments.choice(name, item, choices) for item in names]


def _check_dtype(function: str, kind: _DType) -> None:
    """Raise TypeError for a dtype that a function does not take."""
    if function == "masked_fill":
        check_fillable(kind, name="dtypes")
    elif not kind.isnative or kind.name not in FLOAT_TYPES:
        shown = kind if kind.isnative else f"{kind.str!r}, not in this machine's byte order"
        raise TypeError(
            f"dtypes has {shown}, and {function} takes {', '.join(FLOAT_TYPES)}: give these"
        )


# Those that arrays of p are given to.
_BY_P = ("dropout", "masked_fill", "dropout_mask", "feature_dropout", "drop_path")
_MASK, _SOFTMAX, _EPILOGUE = "dropout_mask", "softmax_dropout", "bias_act_dropout_add"
FUNCTIONS = tuple(ROWS)  # all that the package has imported, which is all


def _calls(names: list[str], kinds: list[_DType]) -> list[tuple[str, _DType]]:
    """Return the functions that are made ready, each with a dtype."""
    calls = [(name, kind) for name in names for kind in kinds if name != _MASK]
    if _MASK in names:  # which has no dtype
        calls.append((_MASK, np.dtype(np.bool_)))
    return calls


def _steps(
    names: list[str], kinds: list[_DType], acts: list[str], p_arrays: bool
) -> Iterator[_Step]:
    """Yield what has to be done on the CPU, some of it more than once."""
    for name, kind in _calls(names, kinds):
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
    for name in ROWS[function]:
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
