"""Functions that return their result and its backward: ``y, backward = dropout_vjp(x, p)``.

One mechanism makes all of them: the function is called with a key that is resolved once, and its
gradient is tied to that key. A row of the list at the end says what a function's gradient is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from .._arrays.dispatch import backend_of
from .._check import detect
from .._check.arguments import Array, in_training
from .._check.key import Deferred, Key, KeyOnDevice, as_key
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

P = ParamSpec("P")
_Arguments = tuple[Any, ...]
_Keywords = dict[str, Any]
# ``(x, args, keywords) -> gradient``: the forward was ``function(x, *args, **keywords)``, with the
# key as `rng`, and ``gradient(dy, **out)`` is its backward. It holds x only if it reads it.
_GradientOf = Callable[[Any, _Arguments, _Keywords], Callable[..., Any]]

_DOC = """Return ``{name}(...)``, and the backward of this very call.

    For loops that keep a closure for the backward pass, and for backwards in any order.

    Parameters
    ----------
    x, ...
        Those of `{name}`. `rng` is resolved once, so that None and a Generator serve, too.

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


def _tied(
    function: Callable[P, Array],
    gradient_of: _GradientOf,
    example: str = "0.5",
    gradient: str = "the gradient by x",
    held: str = "no array",
    more_axes: str = "",
    floats: bool = True,
) -> Callable[P, tuple[Array, Backward]]:
    """Return the ``_vjp`` of a function.

    `held` says in the docstring what the gradient reads of the call's arrays, and `floats` whether
    it takes no gradients but of floats.
    """
    reads = held != "no array"

    def vjp(*args: P.args, **keywords: P.kwargs) -> tuple[Array, Backward]:
        given: _Keywords = dict(keywords)
        rng, training = given.pop("rng", None), given.pop("training", True)
        # Else it is resolved by the function, after all that may be refused has been checked.
        is_key = isinstance(rng, Key | KeyOnDevice)
        deferred: Any = rng if is_key else Deferred(lambda: as_key(rng))
        if not in_training(training):
            deferred = None
        if reads:
            _refuse_to_write_over(name, given.get("out"), *args, *given.values())
        else:  # what the caller does to them before the backward must not change it
            args = tuple([args[0], *map(_copied, args[1:])]) if args else args  # type: ignore[assignment]
            given = {key: v if key in ("x", "out") else _copied(v) for key, v in given.items()}
        y = function(*args, **given, rng=deferred, training=training)
        if isinstance(deferred, Deferred):
            deferred = deferred.key()
        given.pop("out", None)
        x, rest = (args[0], args[1:]) if args else (given.pop("x"), ())
        call = {**given, "rng": deferred, "training": training}
        shape = y.shape if hasattr(y, "shape") else np.shape(y)
        return y, Backward(gradient_of(x, rest, call), shape, floats)

    name = function.__name__
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
    """Return a copy of what can be changed: an array or a list of p, or of lengths."""
    if type(argument) is list:
        return list(argument)
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _refuse_to_write_over(name: str, out: Any, *arrays: Any) -> None:
    """Refuse an `out` that shares memory with what the backward has to read."""
    if out is None:
        return
    written = backend_of(out)
    for array in arrays:
        if array is out and sum(other is out for other in arrays) == 1:
            continue  # `out` itself, among the keywords
        if isinstance(array, np.ndarray) or detect.on_gpu(array):
            backend = backend_of(array)
            theirs = backend.addresses(backend.array(array))
            if np.may_share_memory(written.addresses(written.array(out)), theirs):
                raise ValueError(
                    f"out shares memory with an array that the backward of {name} reads: give "
                    "another out, or none"
                )


def _by(backward: Callable[..., Any]) -> _GradientOf:
    """Return the gradient of a function whose backward takes dy in the place of x."""

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
        # Before dy, which may be `out`, is written over.
        dresidual = None if shape is None else residual_gradient(dy, shape)
        dx, dbias, _ = bias_act_dropout_add_backward(
            dy, dy if read is None else read, **given, **out
        )
        return dx, dbias, dresidual

    return gradients


dropout_vjp = _tied(dropout, _by(dropout))
masked_fill_vjp = _tied(masked_fill, _of_fill, "0.5, 7.0", floats=False)
feature_dropout_vjp = _tied(feature_dropout, _by(feature_dropout))
drop_path_vjp = _tied(drop_path, _by(drop_path))
drop_block2d_vjp = _tied(drop_block2d, _by(drop_block2d), "0.1, 3", more_axes=", 8, 8")
drop_block3d_vjp = _tied(drop_block3d, _by(drop_block3d), "0.1, 3", more_axes=", 8, 8, 8")
alpha_dropout_vjp = _tied(alpha_dropout, _by(alpha_dropout_backward))
feature_alpha_dropout_vjp = _tied(feature_alpha_dropout, _by(feature_alpha_dropout_backward))
gaussian_dropout_vjp = _tied(gaussian_dropout, _by(gaussian_dropout))
gaussian_noise_vjp = _tied(gaussian_noise, _of_noise, "0.1")
softmax_dropout_vjp = _tied(softmax_dropout, _of_softmax, held="the scores x, by reference")
bias_act_dropout_add_vjp = _tied(
    bias_act_dropout_add,
    _of_epilogue,
    'None, "relu"',
    "the tuple of the gradients by x, bias and residual, None for those that were not given",
    "x and the bias, by reference",
)
