"""A Key is a tuple of two integers, and is not taken for a p, a shape or a number."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

KEY: Any = fd.Key(1, 2)
X = np.ones((4, 2), np.float32)
MAPS = np.ones((2, 3, 4, 4), np.float32)

Call = Callable[[Any], Any]
WITH_P: dict[str, Call] = {
    "dropout": lambda p: fd.dropout(X, p),
    "evaluation": lambda p: fd.dropout(X, p, training=False),
    "dropout_mask": lambda p: fd.dropout_mask((4, 2), p),
    "packed": lambda p: fd.dropout_mask((4, 2), p, packed=True),
    "masked_fill": lambda p: fd.masked_fill(X, p, 0),
    "alpha_dropout": lambda p: fd.alpha_dropout(X, p),
    "alpha_dropout_backward": lambda p: fd.alpha_dropout_backward(X, p),
    "feature_alpha_dropout": lambda p: fd.feature_alpha_dropout(X, p),
    "feature_alpha_dropout_backward": lambda p: fd.feature_alpha_dropout_backward(X, p),
    "gaussian_dropout": lambda p: fd.gaussian_dropout(X, p),
    "feature_dropout": lambda p: fd.feature_dropout(X, p),
    "drop_path": lambda p: fd.drop_path(X, p),
    "drop_block2d": lambda p: fd.drop_block2d(MAPS, p, 2),
    "drop_block3d": lambda p: fd.drop_block3d(MAPS[None], p, 2),
    "softmax_dropout": lambda p: fd.softmax_dropout(X, p),
    "softmax_dropout_backward": lambda p: fd.softmax_dropout_backward(X, X, p),
    "bias_act_dropout_add": lambda p: fd.bias_act_dropout_add(X, p=p),
    "bias_act_dropout_add_backward": lambda p: fd.bias_act_dropout_add_backward(X, X, p=p),
    **{
        kind.__name__: kind
        for kind in (
            fd.Dropout, fd.AlphaDropout, fd.FeatureDropout, fd.FeatureAlphaDropout,
            fd.GaussianDropout, fd.DropPath, fd.SoftmaxDropout,
        )
    },
    "dropout_vjp": lambda p: fd.dropout_vjp(X, p),
    "softmax_dropout_vjp": lambda p: fd.softmax_dropout_vjp(X, p),
    "Mask": lambda p: fd.Mask((4, 2), p),
    "DropBlock2d": lambda p: fd.DropBlock2d(p, 2),
    "BiasActDropoutAdd": lambda p: fd.BiasActDropoutAdd("relu", p),
}  # fmt: skip
ELSEWHERE: list[tuple[str, Call]] = [
    ("x", lambda key: fd.dropout(key, 0.5)),
    ("x", lambda key: fd.masked_fill(key, 0.5, 0)),
    ("dy", lambda key: fd.alpha_dropout_backward(key, 0.5)),
    ("dy", lambda key: fd.softmax_dropout_backward(key, X, 0.5)),
    ("scale", lambda key: fd.dropout(X, scale=key)),
    ("offset", lambda key: fd.dropout(X, offset=key)),
    ("offset", lambda key: fd.dropout(X, offset=key, global_shape=(9, 9))),
    ("global_shape", lambda key: fd.dropout(X, global_shape=key)),
    ("noise_shape", lambda key: fd.dropout(X, noise_shape=key)),
    ("noise_shape", lambda key: fd.Dropout(0.5, noise_shape=key)),
    ("noise_shape", lambda key: fd.alpha_dropout(X, noise_shape=key)),
    ("shape", fd.dropout_mask),
    ("noise_shape", lambda key: fd.dropout_mask((2, 2), noise_shape=key)),
    ("offset", lambda key: fd.dropout_mask((2, 2), offset=key, global_shape=(9, 9))),
    ("global_shape", lambda key: fd.dropout_mask((2, 2), global_shape=key)),
    ("value", lambda key: fd.masked_fill(X, 0.5, key)),
    ("value", lambda key: fd.masked_fill(X, [0.5, 0.5], key)),
    ("noise_shape", lambda key: fd.masked_fill(X, 0.5, 0, noise_shape=key)),
    ("bias", lambda key: fd.bias_act_dropout_add(X, key)),
    ("residual", lambda key: fd.bias_act_dropout_add(X, residual=key)),
    ("bias", lambda key: fd.bias_act_dropout_add_backward(X, X, key, "relu")),
    ("scale", lambda key: fd.bias_act_dropout_add(X, scale=key)),
    ("axis", lambda key: fd.softmax_dropout(X, axis=key)),
    ("axis", lambda key: fd.SoftmaxDropout(axis=key)),
    ("global_shape", lambda key: fd.softmax_dropout(X, global_shape=key)),
    ("stddev", lambda key: fd.gaussian_noise(X, key)),
    ("stddev", fd.GaussianNoise),
    ("block_size", lambda key: fd.drop_block2d(MAPS, 0.5, key)),
    ("eps", lambda key: fd.drop_block2d(MAPS, 0.5, 2, eps=key)),
    ("gamma_scale", lambda key: fd.drop_block2d(MAPS, 0.5, 2, gamma_scale=key)),
    ("training", lambda key: fd.dropout(X, training=key)),
    ("packed", lambda key: fd.dropout_mask(3, packed=key)),
    ("n_samples", lambda key: fd.mc_dropout(lambda x, key: x, X, key)),
    ("batch_size", lambda key: fd.mc_dropout(lambda x, key: x, X, 2, batch_size=key)),
    ("ddof", lambda key: fd.mc_dropout(lambda x, key: x, X, 2, ddof=key)),
    ("input_p", fd.RNNDropout),
    ("shape", fd.Mask),
    ("scale", lambda key: fd.Mask((4, 2), scale=key)),
    ("scale", lambda key: fd.Dropout(scale=key)),
]


def test_the_example_of_a_key_in_the_place_of_p() -> None:
    with pytest.raises(TypeError, match=r"^p is a Key: give rng=Key\(seed=1, stream=0\)$"):
        fd.dropout(X, fd.Key(1))


@pytest.mark.parametrize("call", WITH_P.values(), ids=WITH_P)
def test_a_key_is_no_p(call: Call) -> None:
    with pytest.raises(TypeError) as caught:
        call(KEY)
    assert str(caught.value) == "p is a Key: give rng=Key(seed=1, stream=2)"


@pytest.mark.parametrize(("name", "call"), ELSEWHERE, ids=[name for name, _ in ELSEWHERE])
def test_a_key_is_no_shape_and_no_number(name: str, call: Call) -> None:
    with pytest.raises(TypeError) as caught:
        call(KEY)
    assert str(caught.value) == f"{name} is a Key: give rng=Key(seed=1, stream=2)"


def test_the_advice_gives_the_mask_of_the_key() -> None:
    with pytest.raises(TypeError) as caught:
        fd.dropout(X, KEY)
    told = re.search(r"rng=(.*)$", str(caught.value))
    assert told
    key = eval(told[1], {"Key": fd.Key})
    assert fd.dropout(X, rng=key).tobytes() == fd.dropout(X, rng=KEY).tobytes()


@pytest.mark.parametrize(
    "rng",
    [
        np.random.default_rng(1), np.random.PCG64(1), np.random.SeedSequence(1),
        np.random.RandomState(1), np.random,
    ],
    ids=lambda rng: getattr(rng, "__name__", type(rng).__name__),
)  # fmt: skip
def test_neither_are_generators(rng: Any) -> None:
    for call in (*WITH_P.values(), *(call for _, call in ELSEWHERE)):
        with pytest.raises(TypeError, match="give it as rng$"):
            call(rng)


def test_other_tuples_of_two_are_what_they_were() -> None:
    kept = fd.dropout_mask((2, 3), (0.0, 1.0, 0.0), rng=1)
    assert kept.tolist() == [[True, False, True]] * 2
    assert fd.dropout_mask(tuple(KEY), 0.0).shape == (1, 2)
