"""Errors for unknown keywords: the message names the argument that other libraries' keyword means.

Public functions and layer constructors are decorated with `checks_keywords` and take
``**unknown: NoReturn``, so that type checkers reject unknown keywords. At run time such a call gets
to `raise_argument_error`. This costs a call 20 to 30 ns; a wrapper that catches the TypeError of
the call would cost 110 ns (CPython 3.11). The module calls `detect` to describe values.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NoReturn, TypeVar

import numpy as np

from . import detect
from .key import Key

_F = TypeVar("_F", bound=Callable[..., Any])
_SHOWN = (bool, int, float, str, tuple)  # types whose values messages show as code
_MAX_SHOWN = 40  # characters


class _Missing:
    """Sentinel: the default of a required argument that was not given."""

    def __repr__(self) -> str:
        return "<required>"


MISSING: Any = _Missing()


def checks_keywords(function: _F) -> _F:
    """Let a function report unknown keywords and missing required arguments itself.

    Python rejects a call without a required argument before the function runs, so the function
    could not explain a keyword that replaces it. Required arguments therefore get the default
    `MISSING`, which the function passes to `raise_argument_error`. The function object is the same,
    without a wrapper, and `inspect.signature` shows the signature as written.
    """
    assert isinstance(function, FunctionType)
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    function.__defaults__ = tuple(
        MISSING if p.default is p.empty else p.default
        for p in own
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    )
    return function


def raise_argument_error(name: str, unknown: Mapping[str, Any], **required: Any) -> NoReturn:
    """Raise TypeError for unknown keywords of a public function or layer.

    Without unknown keywords, the error names the required arguments that are missing.

    Parameters
    ----------
    name : str
        Name of the function or the layer, as in ``fastdrop.name``.
    unknown : mapping
        The unknown keywords and their values.
    **required
        The required arguments and their values, `MISSING` where not given.
    """
    if not unknown:
        missing = [repr(key) for key, value in required.items() if value is MISSING]
        plural = "s" if len(missing) > 1 else ""
        raise TypeError(
            f"{name}() missing {len(missing)} required positional argument{plural}: "
            + " and ".join(missing)
        )
    target = getattr(sys.modules[__name__.partition(".")[0]], name)
    parameters = inspect.signature(target).parameters.values()
    own = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    is_layer = isinstance(target, type) and name != "Mask"
    advice = [_advice(_Call(name, own, is_layer, key, value)) for key, value in unknown.items()]
    plural, article = ("s", "") if len(advice) > 1 else ("", "an ")
    raise TypeError(
        f"{name}() got {article}unexpected keyword argument{plural} " + "; and ".join(advice)
    )


class _Call:
    """An unknown keyword, with the function or layer that was called."""

    def __init__(self, name: str, own: list[str], is_layer: bool, key: str, value: Any) -> None:
        self.name, self.own, self.is_layer = name, own, is_layer
        self.key, self.value = key, value

    def has(self, *names: str) -> str:
        """Return the first of these names that is an argument of the function, or ""."""
        return next((name for name in names if name in self.own), "")

    def shown(self) -> str:
        """Return the value as code; the keyword itself if that is long or no code."""
        value = self.value.item() if isinstance(self.value, np.generic) else self.value
        text = repr(value) if isinstance(value, _SHOWN) or value is None else self.key
        return text if len(text) <= _MAX_SHOWN else self.key

    @property
    def first(self) -> str:
        """The name of the function's first array argument."""
        return self.has("dy", "x", "ids")


def _advice(call: _Call) -> str:
    meaning = _MEANINGS.get(call.key.lower().strip("_"))
    if meaning and (text := meaning(call)):
        return f"{call.key!r}: {text}"
    like = detect.closest(call.key, call.own)
    return f"{call.key!r}" + (f". Did you mean {like!r}?" if like else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _drop(call: _Call) -> str:
    name = call.has("p", *_parts(call.key))
    return name and f"give {name}={call.shown()}, the probability of dropping"


def _keep(call: _Call) -> str:
    name = call.has("p", *_parts(call.key))
    if not name:
        return ""
    text = f"give {name}=1 - {call.key}"
    if _is_number(call.value) and 0 <= call.value <= 1:
        text += f", that is {name}={float(f'{1 - float(call.value):.12g}')!r}"
    return text + f": {name} is the probability of dropping"


def _parts(key: str) -> tuple[str, ...]:
    """Return the arguments of `RNNDropout` that a keyword such as ``input_dropout`` may mean."""
    return tuple(f"{part}_p" for part in ("input", "output", "state") if part in key)


def _draw(call: _Call) -> str:
    value = call.value
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and 0 <= value < 1 << 64:
        text = f"give rng={int(value)}"
        if call.is_layer or call.name == "mc_dropout":
            return text
        if call.name == "Mask":
            return (
                f"{text}, which is the same mask each time; in a loop give one "
                f"numpy.random.default_rng({int(value)}), made before it"
            )
        return (
            f"{text}, which draws the same mask at every call; in a loop give one "
            f"numpy.random.default_rng({int(value)}), made before it"
        )
    if value is None or isinstance(value, Key) or detect.is_rng(value):
        return f"give rng={call.shown()}"
    return (
        "give rng=fastdrop.Key(seed), or another int, or one of NumPy's generators, which "
        f"{detect.kind_of(value)} is not"
    )


def _in_place(call: _Call) -> str:
    if not call.value:
        return "leave it out, as no argument is written to"
    if call.name == "Mask":
        return "leave it out: x *= mask multiplies in place"
    if call.is_layer:
        return "leave it out: the backward of this layer reads what its forward was given"
    if call.name == "swap_rows":
        return "leave it out: rows take values of each other, so x is not written to"
    return f"give out={call.first}" if call.has("out") and call.first else "leave it out"


def _train(call: _Call) -> str:
    return _training(call, call.value)


def _evaluate(call: _Call) -> str:
    return _training(call, not call.value)


def _training(call: _Call, value: Any) -> str:
    if call.name == "Mask":
        return "leave it out, and multiply by the mask in training alone"
    if call.is_layer:
        return f"leave it out, and call layer.{'train' if value else 'eval'}()"
    if not call.has("training"):
        return "leave it out"
    return f"give training={bool(value)}"


def _shape(call: _Call) -> str:
    if name := call.has("shape", "block_size"):
        return f"give {name}={call.shown()}"
    return (
        "leave it out: the mask has the shape of the array; fastdrop.dropout_mask(shape, p, "
        "rng=rng) draws one alone"
    )


def _mask(call: _Call) -> str:
    if "softmax" in call.name.lower():
        return "leave it out, and give numpy.where(mask, x, -numpy.inf) as x"
    return (
        "leave it out: masks are drawn from rng, the same one for the same key; one of your own is "
        "applied by numpy.where(mask, x / (1 - p), 0)"
    )


def _axis(call: _Call) -> str:
    if name := call.has("axis"):
        return f"give {name}={call.shown()}"
    if call.has("noise_shape"):
        return "give a noise_shape, with 1 along axes that share a decision and None along others"
    return ""


def _renamed(*names: str, more: str = "") -> Callable[[_Call], str]:
    """Return the advice for a keyword that is one of our arguments under another name."""

    def meaning(call: _Call) -> str:
        name = call.has(*names)
        return name and f"give {name}={call.shown()}{more}"

    return meaning


def _array(call: _Call) -> str:
    if name := call.has("x", "dy"):
        return f"give {name}={call.key}"
    return f"give shape={call.key}.shape" if call.has("shape") else ""


def _gradient(call: _Call) -> str:
    return f"give dy={call.key}" if call.has("dy") else ""


def _dtype(call: _Call) -> str:
    if call.name == "dropout_mask":
        return "leave it out, and take mask.astype(dtype)"
    if call.first:
        return f"leave it out, or give {call.first}.astype(dtype), whose dtype the result has"
    return "leave it out: the result has the dtype of the array"


def _name(call: _Call) -> str:
    return "leave it out: nothing here has a name"


_GROUPS: list[tuple[str, Callable[[_Call], str]]] = [
    (
        "rate drop_prob drop_rate dropout dropout_p dropout_prob dropout_rate drop_p p_drop pdrop "
        "prob probability drop_probability ratio input_dropout output_dropout state_dropout",
        _drop,
    ),
    (
        "keep_prob keep_rate keep_p p_keep keep keep_probability retain_prob survival_prob "
        "survival_rate input_keep_prob output_keep_prob state_keep_prob",
        _keep,
    ),
    (
        "seed key keys rng_key prng prng_key rngs generator random_state random_seed rng_seed",
        _draw,
    ),
    ("inplace in_place overwrite overwrite_x", _in_place),
    ("train training is_training is_train train_mode training_mode mode", _train),
    ("deterministic eval evaluate inference test is_test", _evaluate),
    ("size shape", _shape),
    ("mask attn_mask attention_mask", _mask),
    ("axis axes dim dims broadcast_dims", _axis),
    ("block blocksize kernel_size", _renamed("block_size")),
    ("std sigma noise stddev", _renamed("stddev")),
    ("fill fill_value mask_value", _renamed("value")),
    ("activation act_fn act nonlinearity", _renamed("act")),
    ("n_passes num_samples samples n_iter mc_samples", _renamed("n_samples")),
    ("variational_recurrent locked", _renamed("variational")),
    ("input inputs x data array tensor arr", _array),
    ("dy dout grad grad_output gradient", _gradient),
    ("dtype", _dtype),
    ("name", _name),
]
_MEANINGS = {key: meaning for keys, meaning in _GROUPS for key in keys.split()}
