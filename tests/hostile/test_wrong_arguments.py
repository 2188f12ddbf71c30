"""Every wrong argument of every public function: the error, its words, and that nothing changed."""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.hostile import calls, table
from tests.support.hostile.faults import Fresh, values
from tests.support.oracle import poison

ROWS = [
    (name, parameter)
    for name in calls.CALLS
    for parameter in table.parameters(name)
    if (name, parameter) not in table.FREE
]
# How messages say what to give instead.
WAYS = re.compile(
    r"\bgive\b|\bGive\b|\buse\b|\bleave\b|out of bounds for array of dimension \d|"
    r"does not broadcast to that of|\bis the (share|probability|most)|takes \("
)
DECIDE_THE_RESULT = ("x", "dy", "images", "ids", "shape", "dtype", "indices", "packed", "chunks")
# In evaluation these take arrays of any number of axes.
IN_TRAINING = {
    ("drop_path", "x"),
    ("drop_block2d", "x"),
    ("drop_block3d", "x"),
    ("feature_dropout", "x"),
    ("feature_alpha_dropout", "x"),
    ("feature_alpha_dropout_backward", "dy"),
}
AFTER_A_FUNCTION_OF_THE_USER = ("mc_dropout", "fn")  # which was called with a key


def test_all_that_is_public_has_rows() -> None:
    assert set(fd.__all__) == {*calls.CALLS, *calls.WITHOUT_ARGUMENTS}


def test_every_parameter_has_wrong_values() -> None:
    missing = [
        f"{name}({parameter}=)"
        for name, parameter in ROWS
        if parameter not in table.OUTPUTS and not table.wrong_for(name, parameter)
    ]
    assert not missing, f"give these rows in tests/support/hostile/table.py: {missing}"


@pytest.mark.parametrize("name", calls.CALLS)
def test_the_calls_are_right_but_for_what_is_wrong(name: str) -> None:
    right_result(name)


@functools.cache
def right_result(name: str) -> Any:
    result = getattr(fd, name)(**calls.CALLS[name]())
    if name.endswith("_vjp") or (isinstance(result, tuple) and not isinstance(result, fd.Key)):
        return result[0]
    return result


@pytest.mark.parametrize(("name", "parameter"), ROWS)
def test_wrong_arguments(name: str, parameter: str) -> None:
    if parameter == "chunks":
        pytest.importorskip("dask")
    faults = list(faults_in(name, parameter))
    assert not faults, "\n".join(faults)


def faults_in(name: str, parameter: str) -> Iterator[str]:
    wrong = table.wrong_for(name, parameter)
    if parameter in table.OUTPUTS:
        wrong = table.wrong_outputs(right_result(name))
    assert wrong is not None
    if parameter == "global_shape":
        wrong += values(smaller_than_the_shard(name))
    for value, kind in wrong:
        for training in (True, False):
            if training or ("training" in table.parameters(name) and parameter != "rng"):
                text = fault_of(name, parameter, value, kind, training)
                if text and (training or (name.removesuffix("_vjp"), parameter) not in IN_TRAINING):
                    yield f"{name}({parameter}={shown(value)}, training={training}): {text}"


def smaller_than_the_shard(name: str) -> tuple[int, ...]:
    given = calls.CALLS[name]()
    shape = given[table.parameters(name)[0]]
    rows, *others = shape if isinstance(shape, tuple) else shape.shape
    return (rows - 1, *others)


def fault_of(name: str, parameter: str, value: Any, kind: type[Exception], training: bool) -> str:
    """Make one call with a wrong value; return what is wrong with its error, or ""."""
    own = table.parameters(name)
    given = calls.CALLS[name]()
    rng = np.random.default_rng(5)
    if not training and parameter != "training":
        given["training"] = False
    if "rng" in own and (name, parameter) != ("apply_blocks", "start"):
        given["rng"] = rng
    if "out" in own and parameter not in DECIDE_THE_RESULT:
        given["out"] = poison(np.empty_like(right_result(name)))
    made = value.make() if isinstance(value, Fresh) else value
    given[parameter] = made
    before = {k: v.tobytes() for k, v in given.items() if type(v) is np.ndarray and v.size < 1e6}
    state = rng.bit_generator.state
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = getattr(fd, name)(**given)
    except (TypeError, ValueError) as error:
        if not isinstance(error, kind):
            return f"raises {type(error).__name__}, not {kind.__name__}: {error}"
        message = str(error)
        if isinstance(error, np.exceptions.AxisError):
            message = f"{parameter}: {message}"  # NumPy's own words
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    else:
        return f"is taken, and gives {shown(result)}"
    if rng.bit_generator.state != state and (name, parameter) != AFTER_A_FUNCTION_OF_THE_USER:
        return f"the generator was advanced: {message}"
    changed = [k for k, bits in before.items() if given[k].tobytes() != bits]
    if changed:
        return f"{changed} changed: {message}"
    if not re.search(rf"\b{parameter}\b", message):
        return f"the message does not name {parameter}: {message}"
    if not any(text in message for text in texts_of(made)):
        return f"the message does not show the value: {message}"
    if not WAYS.search(message):
        return f"the message names no way out: {message}"
    if (
        len(message) > 700
        or "\n" in message
        or re.search(r"\ba (int|object|array|ellips)", message)
    ):
        return f"the message is too long, or no sentence: {message}"
    return ""


def texts_of(value: Any) -> list[str]:
    """Return the texts by which an error may show a value."""
    texts = [shown(value)[:50], type(value).__name__]
    if isinstance(value, str | np.generic | np.dtype):
        texts.append(str(value))
    if isinstance(value, int) and value >= (1 << 63) - 8:
        texts.append("2**63")
    if value is None:
        texts.append("is missing")
    if isinstance(value, set):
        value = list(value)
    if callable(value):
        texts += ["fn's result", "fn returned", getattr(value, "__name__", "")]
    if np.ma.isMaskedArray(value):
        texts.append("masked array")
    array: Any = value
    if not isinstance(value, np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError:
            return [*texts, "several lengths", "inhomogeneous", f"shape ({len(value)},)"]
    texts += [f"dtype {array.dtype}", f"shape {array.shape}", f"has {array.ndim} axes"]
    if isinstance(value, np.ndarray):
        texts += [f"{array.dtype.str!r}", f"order of {array.dtype}", "read-only", "overlaps itself"]
    if array.ndim == 0:
        texts += ["no axes", "of dimension 0"]
    else:
        items = list(value) if isinstance(value, list | tuple) else [*array.flat]
        texts += [shown(item)[:50] for item in items[:9]]
        texts += [str(item)[:50] for item in items[:9] if isinstance(item, int | float | np.number)]
        texts += [
            f"has {len(array)} axes",
            f"has {len(array)} numbers",
            f"for {len(array)} samples",
        ]
        texts.append("a key for each row")
    return [text for text in texts if text]


def shown(value: Any) -> str:
    try:
        return " ".join(repr(value).split())[:70]
    except Exception:
        return type(value).__name__


def test_a_typing_error_in_a_keyword_suggests_the_name() -> None:
    for name, parameter in ROWS:
        target = getattr(fd, name)
        own = [p.kind for p in inspect.signature(target).parameters.values()]
        if len(parameter) < 4 or inspect.Parameter.VAR_KEYWORD in own:
            continue
        with pytest.raises(TypeError) as caught:
            target(**calls.CALLS[name](), **{f"{parameter}_": 1, "zzz": 2})
        message = str(caught.value)
        assert f"'{parameter}_'" in message, name
        if name not in ("Key", "as_key", "sample_keys", "warmup"):  # where Python itself says it
            assert re.search(rf"Did you mean '{parameter}'|\bgive \b|\bleave it out", message), name
            assert "'zzz'" in message


@pytest.mark.parametrize(
    ("name", "keyword", "says"),
    [
        ("gaussian_noise", "keep_prob", "argument 'keep_prob'"),
        ("dropout_mask", "dtype", "'dtype': leave it out, and take mask.astype(dtype)"),
        ("dropout_mask", "array", "'array': give shape=array.shape"),
        ("random_erasing", "dims", "argument 'dims'"),
    ],
)
def test_keywords_that_another_function_takes(name: str, keyword: str, says: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(fd, name)(**calls.CALLS[name](), **{keyword: 1})
    assert says in str(caught.value)


def test_all_functions_that_explain_keywords_take_an_rng() -> None:
    """What the advice for ``seed=`` relies on."""
    for name in fd.__all__:
        target = getattr(fd, name)
        if hasattr(target, "__signature__") or hasattr(
            getattr(target, "__init__", None), "__signature__"
        ):
            assert "rng" in table.parameters(name), name
