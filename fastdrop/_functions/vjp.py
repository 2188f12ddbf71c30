"""Functions that return their result and its backward: ``y, backward = dropout_vjp(x, p)``.

`_vjp_of` derives each of them from a public function: it calls the function with a key that is
resolved once, and binds the gradient to that key. The list at the end names each function's
gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from .._arrays.dispatch import backend_of
from .._check import detect
from .._check.arguments import Array, in_training
from .._check.key import Key, KeyOnDevice, LazyKey, as_key
from .alpha import (
    alpha_dropout,
    alpha_dropout_backward,
    feature_alpha_dropout,
    feature_alpha_dropout_backward,
)
from .backward import Backward
from .bias_act import bias_act_dropout_add, bias_act_dropout_add_backward, residual_gradient
from .drop_block import drop_block2d, drop_block3d
from .dropout import dropout, masked_fill
from .gaussian import gaussian_dropout, gaussian_noise, noise_backward
from .softmax import softmax_dropout, softmax_dropout_backward
from .structured import drop_path, feature_dropout
from .zoneout import zoneout, zoneout_backward

P = ParamSpec("P")
_Arguments = tuple[Any, ...]
_Keywords = dict[str, Any]
# ``(x, args, keywords) -> gradient``: for the forward ``function(x, *args, **keywords)``, with the
# resolved key as `rng`, returns its backward ``gradient(dy, **out)``. That references x only if it
# reads x.
_GradientOf = Callable[[Any, _Arguments, _Keywords], Callable[..., Any]]

_NOT_READ = ("x", "h_prev", "value", "out")  # by backwards that hold no array

_DOC = """Return ``{name}(...)`` and the backward of this call.

    For training loops that keep a closure for the backward pass, and for backwards in any order.

    Parameters
    ----------
    x, ...
        Those of `{name}`. `rng` is resolved once, so None and a Generator work too.

    Returns
    -------
    result : ndarray
        What `{name}` returns.
    backward : callable
        ``backward(dy, *, out=None)`` returns {gradient}. It holds the key of the mask and {held}.

    Raises
    ------
    TypeError, ValueError
        As `{name}`; `backward` raises a ValueError if `dy` has another shape than the result.

    See Also
    --------
    {name} : for the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> y, backward = fd.{name}_vjp(np.ones((2, 4{more_axes})), {example})
    >>> backward(np.ones((2, 4{more_axes}))){item}.shape
    (2, 4{more_axes})
    """


def _vjp_of(
    function: Callable[P, Array],
    gradient_of: _GradientOf,
    example: str = "0.5",
    gradient: str = "the gradient with respect to x",
    held: str = "no array",
    more_axes: str = "",
    floats: bool = True,
) -> Callable[P, tuple[Array, Backward]]:
    """Return the ``_vjp`` form of a function.

    `example` to `more_axes` complete the docstring; `held` names the arrays that the backward
    reads. `floats` says whether dy must have a floating-point dtype.
    """
    reads = held != "no array"

    def vjp(*args: P.args, **keywords: P.kwargs) -> tuple[Array, Backward]:
        given: _Keywords = dict(keywords)
        rng, training = given.pop("rng", None), given.pop("training", True)
        # A generator is asked by the function, after all checks.
        is_key = isinstance(rng, Key | KeyOnDevice)
        lazy_key: Any = rng if is_key else LazyKey(lambda: as_key(rng))
        if not in_training(training):
            lazy_key = None
        if reads:
            _reject_shared_out(name, given.get("out"), *args, *given.values())
        else:  # copied, because the caller may change lists and arrays before the backward
            copied = [
                v if k in _NOT_READ else _copied(v) for k, v in zip(names, args, strict=False)
            ]
            args = (*copied, *args[len(copied) :])  # type: ignore[assignment]
            given = {k: v if k in _NOT_READ else _copied(v) for k, v in given.items()}
        y = function(*args, **given, rng=lazy_key, training=training)
        if isinstance(lazy_key, LazyKey):
            lazy_key = lazy_key.key()
        given.pop("out", None)
        x, rest = (args[0], args[1:]) if args else (given.pop("x"), ())
        call = {**given, "rng": lazy_key, "training": training}
        shape = y.shape if hasattr(y, "shape") else np.shape(y)
        return y, Backward(gradient_of(x, rest, call), shape, floats)

    name, names = function.__name__, list(inspect.signature(function).parameters)
    vjp.__name__ = vjp.__qualname__ = f"{name}_vjp"
    vjp.__doc__ = _DOC.format(
        name=name,
        example=example,
        gradient=gradient,
        held=held,
        more_axes=more_axes,
        item="[0]" if "tuple" in gradient else "",
    )
    signature = inspect.signature(function)
    vjp.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation="tuple[Array, Backward]"
    )
    return vjp


def _copied(argument: Any) -> Any:
    """Return a copy of a list or an array (of p, or of lengths); other arguments as they are."""
    if type(argument) is list:
        return list(argument)
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _reject_shared_out(name: str, out: Any, *arrays: Any) -> None:
    """Raise ValueError if `out` shares memory with an array that the backward reads."""
    if out is None:
        return
    written = backend_of(out)
    for array in arrays:
        if array is out and sum(other is out for other in arrays) == 1:
            continue  # the keyword `out` itself
        if detect.is_masked(array):
            continue  # which the function refuses, by its name
        if isinstance(array, np.ndarray) or detect.on_gpu(array):
            backend = backend_of(array)
            theirs = backend.addresses(backend.array(array))
            if np.may_share_memory(written.addresses(written.writable(out)), theirs):
                raise ValueError(
                    f"out shares memory with an array that the backward of {name} reads: give "
                    "another out, or none"
                )


def _by(backward: Callable[..., Any]) -> _GradientOf:
    """Return the gradient of a function whose backward takes dy in place of x."""

    def gradient_of(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
        return lambda dy, **out: backward(dy, *args, **keywords, **out)

    return gradient_of


def _of_fill(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
    given: _Keywords = {**dict(zip(("p", "value"), args, strict=False)), **keywords, "value": 0}
    return lambda dy, **out: masked_fill(dy, **given, **out)


def _of_noise(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
    return noise_backward


def _of_softmax(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
    given: _Keywords = {**dict(zip(("p",), args, strict=False)), **keywords}
    return lambda dy, **out: softmax_dropout_backward(dy, x, **given, **out)


def _of_epilogue(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
    names = ("bias", "act", "p")
    given = {**dict(zip(names, args, strict=False)), **keywords}
    residual = given.pop("residual", None)
    shape = None if residual is None else tuple(np.shape(residual))
    read = None if given.get("act", "identity") == "identity" else x  # its derivative is 1

    def gradients(dy: Any, **out: Any) -> tuple[Array, Array | None, Any]:
        # First, because `out` may be dy.
        dresidual = None if shape is None else residual_gradient(dy, shape)
        dx, dbias, _ = bias_act_dropout_add_backward(
            dy, dy if read is None else read, **given, **out
        )
        return dx, dbias, dresidual

    return gradients


def _of_zoneout(x: Any, args: _Arguments, keywords: _Keywords) -> Callable[..., Any]:
    given = {**dict(zip(("h_prev", "p"), args, strict=False)), **keywords}
    shape = tuple(np.shape(given.pop("h_prev")))

    def gradients(dy: Any, **out: Any) -> tuple[Array, Any]:
        dx, dh_prev = zoneout_backward(dy, **given, **out)
        return dx, residual_gradient(dh_prev, shape)

    return gradients


dropout_vjp = _vjp_of(dropout, _by(dropout))
masked_fill_vjp = _vjp_of(masked_fill, _of_fill, "0.5, 7.0", floats=False)
feature_dropout_vjp = _vjp_of(feature_dropout, _by(feature_dropout))
drop_path_vjp = _vjp_of(drop_path, _by(drop_path))
drop_block2d_vjp = _vjp_of(drop_block2d, _by(drop_block2d), "0.1, 3", more_axes=", 8, 8")
drop_block3d_vjp = _vjp_of(drop_block3d, _by(drop_block3d), "0.1, 3", more_axes=", 8, 8, 8")
alpha_dropout_vjp = _vjp_of(alpha_dropout, _by(alpha_dropout_backward))
feature_alpha_dropout_vjp = _vjp_of(feature_alpha_dropout, _by(feature_alpha_dropout_backward))
gaussian_dropout_vjp = _vjp_of(gaussian_dropout, _by(gaussian_dropout))
gaussian_noise_vjp = _vjp_of(gaussian_noise, _of_noise, "0.1")
zoneout_vjp = _vjp_of(
    zoneout,
    _of_zoneout,
    "np.zeros((2, 4)), 0.5",
    "the tuple of the gradients with respect to x and h_prev",
)
softmax_dropout_vjp = _vjp_of(softmax_dropout, _of_softmax, held="the scores x, by reference")
bias_act_dropout_add_vjp = _vjp_of(
    bias_act_dropout_add,
    _of_epilogue,
    'None, "relu"',
    "the tuple of the gradients with respect to x, bias and residual (None if not given)",
    "x and the bias, by reference",
)
