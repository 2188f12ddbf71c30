"""Junk for any argument of any public function: only TypeError and ValueError come out."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import fastdrop as fd
from tests.support.hostile import calls, table

# Junk that asks for much work or memory and gets it is no fault: numbers of passes, of threads'
# stacks, of elements.
LARGE = {("mc_dropout", "n_samples"), ("random_erasing", "count")}
DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(),
    npst.floating_dtypes(),
    npst.complex_number_dtypes(),
    npst.byte_string_dtypes(max_len=3),
    npst.unicode_string_dtypes(max_len=3),
    npst.datetime64_dtypes(),
    npst.array_dtypes(),
)


class Broken:
    """An object whose methods are of no use; Hypothesis, which reports it, can show it."""

    shown = True

    def __repr__(self) -> str:
        if not Broken.shown:
            raise RuntimeError("it cannot be shown")
        return "Broken()"

    @property
    def shape(self) -> Any:
        raise AttributeError("it has no shape")


class Lying:
    """An object that says that it is an array, and is none."""

    shape, dtype, ndim, strides = (2, 4), np.dtype(np.float32), 2, (16, 4)
    __array__ = None


def _masked(x: Any) -> Any:
    with np.errstate(all="ignore"):  # the usual fill value does not fit float16
        return np.ma.array(x)


SMALL = st.integers(-3, 12)
NUMBERS = st.one_of(
    SMALL,
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.booleans(),
    st.fractions(),
    st.decimals(),
    st.sampled_from([1 << 31, 1 << 32, 1 << 62, 1 << 63, 1 << 64, 10**400, -(10**4200)]),
)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = DTYPES.flatmap(lambda dtype: npst.arrays(dtype, SHAPES))
ODD = [Ellipsis, NotImplemented, int, object(), fd.Key(1), fd, np, np.random, slice(1)]
SCALARS = st.one_of(
    NUMBERS,
    st.none(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.dates(),
    DTYPES,
    st.sampled_from(ODD),
    st.builds(Broken),
    st.builds(Lying),
    st.builds(np.random.default_rng, st.integers(0, 9)),
)
VIEWS = st.builds(
    lambda array, step: array[::step],
    ARRAYS.filter(lambda array: array.ndim > 0),
    st.sampled_from([-1, 2]),
)
JUNK = st.one_of(
    SCALARS,
    ARRAYS,
    VIEWS,
    st.builds(_masked, ARRAYS),
    st.lists(SCALARS, max_size=4),
    st.lists(st.lists(NUMBERS, max_size=3), max_size=3),
    st.lists(SCALARS, max_size=4).map(tuple),
    st.tuples(SMALL, SMALL),
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=3),
)
TARGETS = [
    (name, parameter)
    for name in calls.CALLS
    for parameter in table.parameters(name)
    if (name, parameter) not in LARGE
    and name not in ("set_num_threads", "warmup")  # which change the process, or compile
    and (parameter != "chunks" or importlib.util.find_spec("dask"))
]


METHODS = [
    (name, method)
    for name in calls.LAYERS
    for method in ("forward", "backward", "vjp", "train", "load_state_dict", "from_config")
    if hasattr(getattr(fd, name), method)
]


def only_documented_errors(work: Callable[[], Any]) -> None:
    """Call something with junk in it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of NumPy's, about junk
        Broken.shown = False
        try:
            work()
        except (TypeError, ValueError) as error:
            assert str(error)
        except MemoryError:
            pass  # junk may be the shape of an array that is too large
        finally:
            Broken.shown = True


def x_for(name: str) -> Any:
    return calls.maps(5 if name == "DropBlock3d" else 4)


def with_argument(target: tuple[str, str], junk: Any) -> None:
    """Call a function with junk as one argument; or make a layer with it, and call that."""
    name, parameter = target
    result = getattr(fd, name)(**{**calls.CALLS[name](), parameter: junk})
    if name in calls.LAYERS and name != "RNNDropout":
        result(x_for(name))


def in_a_method(target: tuple[str, str], junk: Any) -> None:
    """Call a method of a layer with junk, after a forward."""
    name, method = target
    layer = getattr(fd, name)(**calls.CALLS[name]())
    if name != "RNNDropout":
        layer(x_for(name))
    getattr(layer, method)(junk)


@settings(max_examples=400)
@given(st.sampled_from(TARGETS), JUNK)
@example(("dropout_mask", "shape"), (1 << 40, 1 << 40))
@example(("spec_augment", "time_width"), 1 << 63)
@example(("softmax_dropout", "axis"), -(10**4200))
@example(("keep_k", "axis"), 10**4200)
@example(("dropout", "p"), Broken())
@example(("dropout", "x"), Lying())
@example(("mask_tokens", "replace"), np.array(1.0))
def test_junk(target: tuple[str, str], junk: Any) -> None:
    only_documented_errors(lambda: with_argument(target, junk))


@settings(max_examples=100)
@given(st.sampled_from(METHODS), JUNK)
def test_junk_in_methods(target: tuple[str, str], junk: Any) -> None:
    only_documented_errors(lambda: in_a_method(target, junk))


@settings(max_examples=100)
@given(JUNK)
def test_junk_in_batches(junk: Any) -> None:
    collate = fd.TokenCollator(**calls.CALLS["TokenCollator"](), rng=1)
    only_documented_errors(lambda: collate(junk))
    only_documented_errors(lambda: collate([{"input_ids": junk}, {"input_ids": [1, 2]}]))
    only_documented_errors(lambda: collate([{"input_ids": [1, 2], "attention_mask": junk}]))


@pytest.mark.slow
@settings(max_examples=4_000)
@given(st.sampled_from(TARGETS), JUNK)
def test_much_junk(target: tuple[str, str], junk: Any) -> None:
    only_documented_errors(lambda: with_argument(target, junk))
