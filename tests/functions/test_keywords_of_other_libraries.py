"""For a keyword of another library the error names ours, and its advice can be followed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.internals import keywords
from tests.support.oracle import ROOT, data

X = np.random.default_rng(0).standard_normal((2, 3, 4, 4), np.float32)
KEY = fd.Key(5)


def network(x: Any, key: Any) -> Any:
    return fd.dropout(x, 0.5, rng=key)


# How each function is called, with everything by its name.
CALLS: dict[str, dict[str, Any]] = {
    "dropout": {"x": X, "p": 0.2},
    "dropout_mask": {"shape": (3, 4), "p": 0.2},
    "masked_fill": {"x": X, "p": 0.2, "value": 7.0},
    "alpha_dropout": {"x": X, "p": 0.2},
    "alpha_dropout_backward": {"dy": X, "p": 0.2},
    "feature_alpha_dropout": {"x": X, "p": 0.2},
    "feature_alpha_dropout_backward": {"dy": X, "p": 0.2},
    "gaussian_dropout": {"x": X, "p": 0.2},
    "gaussian_noise": {"x": X, "stddev": 0.2},
    "feature_dropout": {"x": X, "p": 0.2},
    "drop_path": {"x": X, "p": 0.2},
    "drop_block2d": {"x": X, "p": 0.2, "block_size": 2},
    "drop_block3d": {"x": X[None], "p": 0.2, "block_size": 2},
    "softmax_dropout": {"x": X, "p": 0.2},
    "softmax_dropout_backward": {"dy": X, "x": X, "p": 0.2},
    "bias_act_dropout_add": {"x": X, "act": "relu", "p": 0.2},
    "bias_act_dropout_add_backward": {"dy": X, "x": X, "act": "relu", "p": 0.2},
    "zoneout": {"x": X, "h_prev": X + 1, "p": 0.2},
    "zoneout_backward": {"dy": X, "p": 0.2},
    "mask_spans": {"shape": (3, 40), "p": 0.2},
    "spec_augment": {"x": X[0], "freq_width": 2},
    "mc_dropout": {"fn": network, "x": X, "n_samples": 2},
    "mask_tokens": {"ids": np.arange(24).reshape(4, 6), "p": 0.2, "mask_id": 3, "vocab_size": 9},
    "swap_rows": {"x": X, "p": 0.2},
    "keep_k": {"shape": (3, 40), "k": 7},
    "poisson_weights": {"shape": (3, 40)},
    "bernoulli_weights": {"shape": (3, 40), "p": 0.2},
}
WITH_P = [name for name, given in CALLS.items() if "p" in given]
IN_TRAINING = [n for n in CALLS if "training" in inspect.signature(getattr(fd, n)).parameters]
KEEP = ["keep_prob", "keep_rate", "survival_prob"]
DROP = ["rate", "drop_prob", "prob", "dropout_rate", "ratio", "dropout"]
DRAW = ["seed", "key", "rng_key", "generator", "random_state"]


def bits(result: Any) -> list[bytes]:
    results = result if isinstance(result, tuple) else (result,)
    return [data(np.ascontiguousarray(one)) for one in results if one is not None]


def told(name: str, /, **given: Any) -> str:
    """Return the error that a call gets; a Generator has not moved."""
    rng = np.random.default_rng(3)
    if "rng" not in given:
        given = {"rng": rng, **given}
    with pytest.raises(TypeError) as caught:
        getattr(fd, name)(**given)
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state
    assert str(caught.value).startswith(f"{name}() got")
    return str(caught.value)


def advised(text: str, **places: Any) -> dict[str, Any]:
    """Return the arguments that an error says to give."""
    found = re.findall(r"(?:give|that is) (\w+)=((?:[^,:;()]|\([^()]*\))+)", text)
    assert found, text
    places = {"Key": fd.Key, "fastdrop": fd, "numpy": np, "np": np, "seed": 5, "x": X, **places}
    return {key: eval(value, places) for key, value in found}


def without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in names}


@pytest.mark.parametrize("keyword", KEEP)
@pytest.mark.parametrize("name", WITH_P)
def test_keep_probabilities_become_p(name: str, keyword: str) -> None:
    given = CALLS[name]
    text = told(name, **without(given, "p"), **{keyword: 0.8})
    assert f"'{keyword}': give p=1 - {keyword}, that is p=0.2: p is the probability" in text
    following = advised(text, **{keyword: 0.8})
    assert following == {"p": 0.2}
    function = getattr(fd, name)
    assert bits(function(**{**given, **following}, rng=KEY)) == bits(function(**given, rng=KEY))


def test_numbers_are_shown_as_they_are_written() -> None:
    for keep in (0.9, 0.7, 0.3, 0.1, 1, 0, np.float32(0.75), 1 / 3):
        text = told("dropout", x=X, keep_prob=keep)
        assert advised(text, keep_prob=keep)["p"] == pytest.approx(1 - float(keep), abs=1e-12)
        assert len(text) < 160
    for keep in ("0.8", 80, None, np.array([0.5, 0.5])):
        text = told("dropout", x=X, keep_prob=keep)
        assert "give p=1 - keep_prob: p is" in text


@pytest.mark.parametrize("keyword", DROP)
@pytest.mark.parametrize("name", WITH_P)
def test_other_names_of_p(name: str, keyword: str) -> None:
    given = CALLS[name]
    text = told(name, **without(given, "p"), **{keyword: 0.2})
    assert f"'{keyword}': give p=0.2, the probability of dropping" in text
    function = getattr(fd, name)
    following = {**given, **advised(text)}
    assert bits(function(**following, rng=KEY)) == bits(function(**given, rng=KEY))


@pytest.mark.parametrize("keyword", DRAW)
@pytest.mark.parametrize("name", CALLS)
def test_other_names_of_rng(name: str, keyword: str) -> None:
    given, function = CALLS[name], getattr(fd, name)
    values: list[Any] = [KEY, 5, np.int64(5), None, np.random.default_rng(5),
                         np.random.RandomState(5)]  # fmt: skip
    for value in values:
        with pytest.raises(TypeError) as caught:
            function(**given, **{keyword: value})
        text = str(caught.value)
        following = advised(text, **{keyword: value})
        assert list(following) == ["rng"]
        if not isinstance(value, np.random.RandomState):
            function(**given, **following)
        if isinstance(value, fd.Key | int | np.int64):
            assert fd.as_key(following["rng"]) == KEY
            if name != "mc_dropout" and not isinstance(value, fd.Key):
                assert "the same mask at every call" in text
    for value in (-1, 1.5, "5", True, [1, 2], object()):
        text = told(name, **given, **{keyword: value})
        assert "NumPy's generators" in text
        function(**given, **advised(text))


@pytest.mark.parametrize("name", CALLS)
def test_names_of_in_place_results(name: str) -> None:
    given, function = CALLS[name], getattr(fd, name)
    assert "leave it out" in told(name, **given, inplace=False)
    text = told(name, **given, inplace=True)
    without = name == "swap_rows" or "shape" in given
    if "out" not in inspect.signature(function).parameters or without:
        assert "leave it out" in text
        return
    first = next(name for name in ("dy", "x", "ids") if name in given)
    mine = given[first].copy()
    following = advised(text, **{first: mine})
    result = function(**{**given, first: mine}, **following, rng=KEY)
    assert (result[0] if isinstance(result, tuple) else result) is mine
    expected = function(**given, rng=KEY)
    expected = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("name", IN_TRAINING)
def test_names_of_training(name: str) -> None:
    given, function = CALLS[name], getattr(fd, name)
    for keyword in ("train", "is_training", "train_mode"):
        for value in (True, False):
            following = advised(told(name, **given, **{keyword: value}))
            assert following == {"training": value}
            function(**given, **following, rng=KEY)
    for keyword in ("deterministic", "inference"):
        for value in (True, False):
            assert advised(told(name, **given, **{keyword: value})) == {"training": not value}


def test_keywords_without_a_counterpart_are_to_be_left_out() -> None:
    for name in ("dropout_mask", "mc_dropout"):
        for keyword in ("training", "train", "is_training", "deterministic"):
            assert f"'{keyword}': leave it out" in told(name, **CALLS[name], **{keyword: True})
    for keyword in ("name", "dtype"):
        assert f"'{keyword}': leave it out" in told("dropout", x=X, **{keyword: "float32"})


def test_names_of_shapes_and_masks() -> None:
    text = told("dropout_mask", size=(3, 4))
    assert advised(text) == {"shape": (3, 4)}
    text = told("dropout", x=X, size=X.shape)
    assert "leave it out" in text
    code = re.search(r"fastdrop\.dropout_mask\(.*?\)", text)
    assert code
    mask = eval(code[0], {"fastdrop": fd, "shape": X.shape, "p": 0.5, "rng": 1})
    assert data(np.where(mask, X * 2, 0.0)) == data(fd.dropout(X, 0.5, rng=1))
    text = told("dropout", x=X, mask=mask)
    code = re.search(r"numpy\.where\(.*\)", text)
    assert code
    stored = eval(code[0], {"numpy": np, "x": X, "mask": mask, "p": 0.5})
    assert data(stored) == data(fd.dropout(X, 0.5, rng=1))
    text = told("softmax_dropout", x=X, mask=mask)
    code = re.search(r"numpy\.where\(.*?\)", text)
    assert code
    scores = eval(code[0], {"numpy": np, "x": X, "mask": mask})
    assert not fd.softmax_dropout(scores, 0.0, rng=1)[~mask & mask.any(-1, keepdims=True)].any()


def test_other_names() -> None:
    cases: list[tuple[str, dict[str, Any], str, Any]] = [
        ("softmax_dropout", {"dim": 1}, "axis", 1),
        ("gaussian_noise", {"std": 0.3}, "stddev", 0.3),
        ("masked_fill", {"fill_value": 3}, "value", 3),
        ("bias_act_dropout_add", {"activation": "gelu"}, "act", "gelu"),
        ("mc_dropout", {"num_samples": 3}, "n_samples", 3),
        ("drop_block2d", {"size": 3}, "block_size", 3),
        ("drop_block3d", {"kernel_size": 3}, "block_size", 3),
    ]
    for name, wrong, ours, value in cases:
        text = told(name, **without(CALLS[name], ours), **wrong)
        following = advised(text)
        assert following == {ours: value}
        getattr(fd, name)(**{**CALLS[name], **following}, rng=KEY)
    for keyword in ("input", "inputs", "data"):
        text = told("dropout", **{keyword: X})
        assert f"give x={keyword}" in text
    assert "give dy=grad_output" in told("alpha_dropout_backward", grad_output=X)
    for keyword in ("axis", "broadcast_dims"):
        text = told("dropout", x=X, **{keyword: 0})
        assert "noise_shape, with 1 along axes that share a decision" in text


def test_several_keywords_are_explained_at_once() -> None:
    text = told("drop_block2d", x=X, keep_prob=0.8, seed=5, inplace=True, block_size=2)
    assert text.startswith("drop_block2d() got unexpected keyword arguments 'keep_prob': give p=")
    following = advised(text, keep_prob=0.8)
    y = fd.drop_block2d(X.copy(), block_size=2, **without(following, "out"))
    assert data(y) == data(fd.drop_block2d(X, 0.2, 2, rng=5))


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_keyword_is_the_usual_error(name: str) -> None:
    text = told(name, **CALLS[name], frobnicate=1)
    assert text == f"{name}() got an unexpected keyword argument 'frobnicate'"
    if "noise_shape" in inspect.signature(getattr(fd, name)).parameters:
        for close in ("noiseshape", "noise_shap", "noise_shapes"):
            text = told(name, **CALLS[name], **{close: 1})
            assert text.endswith(f"keyword argument '{close}'. Did you mean 'noise_shape'?")


@pytest.mark.parametrize("name", CALLS)
def test_a_missing_argument_is_the_usual_error(name: str) -> None:
    function = getattr(fd, name)
    required = [
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    ]
    assert required
    for key in required:
        with pytest.raises(TypeError) as caught:
            function(**without(CALLS[name], key))
        by_name = inspect.signature(function).parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
        kind = "keyword-only" if by_name else "positional"
        assert str(caught.value) == f"{name}() missing 1 required {kind} argument: '{key}'"
    named = [key for key in required if key in ("mask_id", "vocab_size")] or required
    with pytest.raises(TypeError, match=" and ".join(map(repr, named))):
        function()


@pytest.mark.parametrize("name", CALLS)
def test_signatures_show_the_arguments(name: str) -> None:
    function = getattr(fd, name)
    signature = inspect.signature(function)
    assert all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values())
    assert "required" not in str(signature) and "unknown" not in str(signature)
    given = CALLS[name]
    signature.bind(**given)
    assert list(inspect.signature(function).parameters)[0] in ("x", "dy", "shape", "fn", "ids")
    with pytest.raises(TypeError, match="keep_prob"):
        signature.bind(**given, keep_prob=0.8)


def test_every_public_function_of_masks_is_here() -> None:
    made_of_rng = {
        name
        for name in fd.__all__
        if inspect.isfunction(value := getattr(fd, name))
        and "rng" in (parameters := inspect.signature(value).parameters)
        and parameters["rng"].kind is inspect.Parameter.KEYWORD_ONLY
    }
    tied = {name for name in made_of_rng if name.endswith("_vjp")}
    made_of_rng.remove("apply_blocks")  # whose keywords are those of the function it is given
    made_of_rng.remove("random_erasing")  # whose `ratio` is its own
    assert made_of_rng - tied == set(CALLS)
    for name in tied:
        given = CALLS[name.removesuffix("_vjp")]
        for wrong, says in ({"keep_prob": 0.8}, r"that is p=0\.2"), ({"seed": 1}, "give rng=1"):
            if "p" in given or "seed" in wrong:
                with pytest.raises(TypeError, match=says):
                    getattr(fd, name)(**without(given, "p"), **wrong)
    assert all(getattr(fd, name).__defaults__[0] is keywords.MISSING for name in CALLS)


def test_keywords_of_layers_are_translated() -> None:
    def refuse(name: str, /, **unknown: Any) -> str:
        with pytest.raises(TypeError) as caught:
            keywords.raise_argument_error(name, unknown)
        return str(caught.value)

    cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("Dropout", {"keep_prob": 0.8}, {"p": 0.2}),
        ("Dropout", {"rate": 0.2}, {"p": 0.2}),
        ("FeatureDropout", {"drop_prob": 0.2}, {"p": 0.2}),
        ("Dropout", {"seed": 5}, {"rng": 5}),
        ("DropBlock2d", {"keep_prob": 0.8, "seed": 5}, {"p": 0.2, "rng": 5}),
        ("SoftmaxDropout", {"dim": 1}, {"axis": 1}),
        ("RNNDropout", {"input_keep_prob": 0.8}, {"input_p": 0.2}),
        ("RNNDropout", {"state_keep_prob": 0.5}, {"state_p": 0.5}),
        ("RNNDropout", {"output_dropout": 0.5}, {"output_p": 0.5}),
        ("GaussianNoise", {"std": 0.5}, {"stddev": 0.5}),
    ]
    for name, wrong, ours in cases:
        text = refuse(name, **wrong)
        assert advised(text, **wrong) == ours
        required = {"stddev": 0.1} if name == "GaussianNoise" else {}
        if name == "DropBlock2d":
            required = {"p": 0.1, "block_size": 2}
        layer = getattr(fd, name)(**{**required, **ours})
        assert all(getattr(layer, key) == value for key, value in ours.items() if key != "rng")
    for wrong in ({"training": False}, {"train": 0}, {"deterministic": True}):
        assert "leave it out, and call layer.eval()" in refuse("Dropout", **wrong)
    assert "leave it out" in refuse("Dropout", inplace=True)
    assert "Did you mean 'noise_shape'?" in refuse("Dropout", noiseshape=1)
    assert refuse("Dropout", what=1).endswith("Dropout() got an unexpected keyword argument 'what'")


def test_constructors_can_be_decorated_too() -> None:
    class Layer:
        @keywords.checks_keywords
        def __init__(self, p: float, size: int = 3, *, rng: Any = None, **unknown: Any) -> None:
            if unknown or p is keywords.MISSING:
                keywords.raise_argument_error("Dropout", unknown, p=p)

    make: Callable[..., Any] = Layer
    assert str(inspect.signature(Layer)) in (
        "(p: 'float', size: 'int' = 3, *, rng: 'Any' = None) -> 'None'",
        "(p: 'float', size: 'int' = 3, *, rng: 'Any' = None) -> None",
    )
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'p'"):
        make()
    with pytest.raises(TypeError, match=r"that is p=0\.2"):
        make(keep_prob=0.8)
    make(0.5)


@pytest.mark.slow
def test_type_checkers_refuse_other_keywords(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    code = tmp_path / "code.py"
    code.write_text(
        "import numpy as np\n"
        "import fastdrop as fd\n"
        "x = np.ones(3)\n"
        "fd.dropout(x, 0.5, rng=1, training=False)\n"
        "fd.dropout(x, keep_prob=0.8)\n"
        "fd.drop_block2d(x, block_size=3)\n"
        "fd.masked_fill(x, 0.5, 0, seed=1)\n"
        "fd.drop_block2d(x, 0.5, 3, gamma_scale=2.0)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir",
         str(tmp_path / "cache"), "--explicit-package-bases", str(code)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"MYPYPATH": f"{ROOT}:{ROOT / 'kernels'}", "PATH": ""},
    )  # fmt: skip
    lines = [int(found) for found in re.findall(r"code\.py:(\d+): error", checked.stdout)]
    assert lines == [5, 6, 7], checked.stdout + checked.stderr


untyped: Any = fd


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: untyped.Dropout(keep_prob=0.8), r"Dropout\(\).*'keep_prob'.*that is p=0\.2"),
        (lambda: untyped.Dropout(rate=0.3), r"'rate': give p=0\.3, the probability of dropping"),
        (lambda: untyped.AlphaDropout(0.3, seed=7), "'seed': give rng=7"),
        (
            lambda: untyped.FeatureDropout(0.3, key=fd.Key(1)),
            r"'key': give rng=Key\(seed=1, stream=0\)",
        ),
        (lambda: untyped.DropPath(drop_prob=0.1), r"'drop_prob': give p=0\.1"),
        (lambda: untyped.DropBlock2d(0.1, 3, inplacee=True), "Did you mean 'inplace'"),
        (lambda: untyped.DropBlock2d(0.1), "missing 1 required positional argument: 'block_size'"),
        (lambda: untyped.GaussianNoise(sigma=0.1), r"'sigma': give stddev=0\.1"),
        (lambda: untyped.GaussianNoise(), "missing 1 required positional argument: 'stddev'"),
        (lambda: untyped.SoftmaxDropout(0.1, dim=1), "'dim': give axis=1"),
        (lambda: untyped.BiasActDropoutAdd(activation="relu"), "'activation': give act='relu'"),
        (lambda: untyped.RNNDropout(output_keep_prob=0.9), r"that is output_p=0\.1"),
        (lambda: untyped.Mask((3,), keep_prob=0.8), r"Mask\(\).*that is p=0\.2"),
        (lambda: untyped.Mask.like(np.ones(3), rate=0.8), r"Mask\(\).*'rate': give p=0\.8"),
        (lambda: untyped.Mask(), "missing 1 required positional argument: 'shape'"),
        (lambda: untyped.dropout_vjp(np.ones(3), keep_prob=0.8), r"dropout\(\).*that is p=0\.2"),
    ],
)
def test_layers_masks_and_results_with_backwards_name_our_arguments(
    make: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_errors_of_a_user_s_subclass_name_the_layer_it_derives_from() -> None:
    class Own(fd.Dropout):
        pass

    make: Any = Own
    with pytest.raises(TypeError, match=r"Dropout\(\).*that is p=0\.2"):
        make(keep_prob=0.8)
