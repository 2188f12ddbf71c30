"""Compiling ahead of the first call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._arrays.numpy_arrays import NUMPY, cpu_driver
from .._call.coefficients import compute_type
from .._check import arguments
from .._check.fill_values import check_fillable
from .._functions.bias_act import ACTIVATIONS
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
) -> None:
    """Make the CPU's kernels of some functions ready, so that no call waits.

    A kernel is compiled when it is first called, and kept in the cache folder
    (``FASTDROP_CACHE_DIR``, else the user's) for other processes; later ones load it in
    milliseconds. Call this when a container is built, or before anything is timed. From an empty
    cache it takes some ten seconds a function and dtype, and `bias_act_dropout_add` with all its
    activations a minute.

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

    Raises
    ------
    TypeError
        If a function does not take one of the dtypes.
    ValueError
        If a function or an activation is not known.
    ImportError
        If the progress bar's package is not installed.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.warmup(["float32"])  # doctest: +SKIP
    >>> fd.warmup("float32", ["softmax_dropout", "bias_act_dropout_add"], activations="gelu")
    ... # doctest: +SKIP
    """
    given: Any = dtypes
    if isinstance(given, str | type | np.dtype) or not isinstance(given, Iterable):
        given = [given]
    kinds = [arguments.dtype(item) for item in given]
    names = [arguments.choice("functions", name, FUNCTIONS) for name in _several(functions)]
    acts = [arguments.choice("activations", act, ACTIVATIONS) for act in _several(activations)]
    each, shown = arguments.flag("p_arrays", p_arrays), progress_bar(progress, "Compiling kernels")
    for name, kind in product(names, kinds):
        if name != "dropout_mask":
            (check_fillable if name == "masked_fill" else compute_type)(kind)
    steps = list(dict.fromkeys(_steps(names, kinds, acts, each)))
    for make, what in shown(steps, len(steps)):
        make(*what)


def _several(names: str | Iterable[str]) -> Iterable[str]:
    return [names] if isinstance(names, str) else names


# What of the driver a function calls for arrays of a dtype, its backward too.
_OPERATIONS: dict[str, Callable[[Any, _DType], Iterable[Any]]] = {
    "dropout": lambda driver, dtype: [driver.dropping(dtype)],
    "masked_fill": lambda driver, dtype: [driver.filling(dtype)],
    "drop_block2d": lambda driver, dtype: [driver.dropping(dtype), driver.marking()],
    "alpha_dropout": lambda driver, dtype: [driver.alpha_dropping(dtype), driver.dropping(dtype)],
    "alpha_dropout_backward": lambda driver, dtype: [driver.dropping(dtype)],
    "gaussian_dropout": lambda driver, dtype: [driver.gaussian_dropping(dtype)],
    "gaussian_noise": lambda driver, dtype: [driver.gaussian_adding(dtype)],
}
_OPERATIONS["drop_block3d"] = _OPERATIONS["drop_block2d"]
_OPERATIONS["feature_dropout"] = _OPERATIONS["drop_path"] = _OPERATIONS["dropout"]
_OPERATIONS["feature_alpha_dropout"] = _OPERATIONS["alpha_dropout"]
_OPERATIONS["feature_alpha_dropout_backward"] = _OPERATIONS["alpha_dropout_backward"]
# And what for an array of p beside them.
_BY_P: dict[str, Callable[[Any, _DType], Iterable[Any]]] = {
    "dropout": lambda driver, dtype: [driver.dropping_each(dtype, scaled) for scaled in _EITHER],
    "masked_fill": lambda driver, dtype: [driver.filling_each(dtype)],
}
_BY_P["feature_dropout"] = _BY_P["drop_path"] = _BY_P["dropout"]
_MASK, _SOFTMAX, _EPILOGUE = "dropout_mask", "softmax_dropout", "bias_act_dropout_add"
_FUSED = [name + back for name in (_SOFTMAX, _EPILOGUE) for back in ("", "_backward")]
FUNCTIONS = (_MASK, *_OPERATIONS, *_FUSED)


def _steps(
    names: list[str], kinds: list[_DType], acts: list[str], p_arrays: bool
) -> Iterator[_Step]:
    """Yield what has to be done, some of it more than once."""
    driver = cpu_driver()
    if _MASK in names:
        yield from _ready([driver.marking(), driver.packing()])
        yield from _ready([driver.marking_each()] if p_arrays else [])
    for name, kind in product(names, kinds):
        if name in _OPERATIONS:
            yield from _ready(_OPERATIONS[name](driver, kind))
        if p_arrays and name in _BY_P:
            yield from _ready(_BY_P[name](driver, kind))
        if name == _SOFTMAX:
            yield NUMPY.softmax_driver.prepare, (kind, False)
        if name.startswith(_SOFTMAX):
            yield NUMPY.softmax_driver.prepare, (kind, True)
        if name == _EPILOGUE:
            for act, *beside in product(acts, _EITHER, _EITHER):
                yield from _ready([driver.bias_act_dropping(kind, act, *beside)])
        if name.startswith(_EPILOGUE):
            yield _sums_ready, (kind,)
            for act, bias in product(acts, _EITHER):
                # The gradient of what is no activation is dropout's.
                ours = act != "identity"
                back = driver.bias_act_dropping_backward(kind, act, bias) if ours else None
                yield from _ready([back or driver.dropping(kind)])


def _ready(operations: Iterable[Any]) -> Iterator[_Step]:
    for operation in operations:
        yield cpu_driver().prepare, ((operation,),)


def _sums_ready(dtype: _DType) -> None:
    cpu_driver().sum_to(np.zeros(1, dtype), (1,))
