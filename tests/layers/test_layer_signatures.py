"""Signatures of layers: what an editor shows is what a layer takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import fastdrop as fd
from fastdrop._layers.base import Layer


@pytest.mark.parametrize(
    "layer", [c for c in vars(fd).values() if inspect.isclass(c) and issubclass(c, Layer)]
)
def test_signatures_tell_all_settings_of_every_layer(layer: Any) -> None:
    signature = inspect.signature(layer)
    required = {"stddev": 0.1, "p": 0.1, "block_size": 2}
    given = {
        name: required[name]
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
    }
    made = layer(rng=1, **given)
    assert set(signature.parameters) == {"rng", *made._settings}
    assert signature.parameters["rng"].kind is inspect.Parameter.KEYWORD_ONLY
    for name, value in made._settings.items():
        assert value == given.get(name, signature.parameters[name].default)
