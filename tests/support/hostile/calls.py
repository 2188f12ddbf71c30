"""A small valid call of every public function and class, by keywords.

The table of wrong arguments changes one argument of these at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd

Keywords = dict[str, Any]

SHAPE = (2, 4)
SAMPLES = 2  # along the first axis of all arrays


def x() -> Any:
    """An array of two axes."""
    return np.linspace(-1, 1, 8, dtype=np.float32).reshape(SHAPE)


def maps(axes: int = 4) -> Any:
    """Feature maps of two samples and three channels."""
    return np.linspace(-1, 1, 6 * 5 ** (axes - 2), dtype=np.float32).reshape(
        2, 3, *(5,) * (axes - 2)
    )


def _with_x(**more: Any) -> Callable[[], Keywords]:
    return lambda: {"x": x(), **{k: v() if callable(v) else v for k, v in more.items()}}


def _with_maps(axes: int = 4, first: str = "x", **more: Any) -> Callable[[], Keywords]:
    return lambda: {first: maps(axes), **more}


def _with_dy(**more: Any) -> Callable[[], Keywords]:
    return lambda: {"dy": x(), **{k: v() if callable(v) else v for k, v in more.items()}}


def _settings(**more: Any) -> Callable[[], Keywords]:
    return lambda: dict(more)


_TOKENS: Keywords = {"mask_id": 1, "vocab_size": 50}
_EPILOGUE: Keywords = {"act": "relu", "p": 0.5}

# The arguments of functions whose forms with a backward, `name_vjp`, take the same.
_FORWARDS: dict[str, Callable[[], Keywords]] = {
    "alpha_dropout": _with_x(p=0.5),
    "bias_act_dropout_add": _with_x(bias=lambda: np.ones(4, np.float32), **_EPILOGUE),
    "drop_block2d": _with_maps(p=0.3, block_size=2),
    "drop_block3d": _with_maps(5, p=0.3, block_size=2),
    "drop_path": _with_x(p=0.5),
    "dropout": _with_x(p=0.5),
    "feature_alpha_dropout": _with_maps(p=0.5),
    "feature_dropout": _with_maps(p=0.5),
    "gaussian_dropout": _with_x(p=0.5),
    "gaussian_noise": _with_x(stddev=0.1),
    "masked_fill": _with_x(p=0.5, value=7.0),
    "softmax_dropout": _with_x(p=0.5),
    "zoneout": _with_x(h_prev=x, p=0.5),
}
FUNCTIONS: dict[str, Callable[[], Keywords]] = {
    **_FORWARDS,
    **{f"{name}_vjp": given for name, given in _FORWARDS.items()},
    "alpha_dropout_backward": _with_dy(p=0.5),
    "bias_act_dropout_add_backward": _with_dy(x=x, **_EPILOGUE),
    "feature_alpha_dropout_backward": _with_maps(first="dy", p=0.5),
    "softmax_dropout_backward": _with_dy(x=x, p=0.5),
    "zoneout_backward": _with_dy(p=0.5),
    "dropout_mask": _settings(shape=SHAPE, p=0.5),
    "apply_blocks": lambda: {
        "function": fd.dropout, "source": x(), "target": np.empty(SHAPE, np.float32)
    },
    "bernoulli_weights": _settings(shape=SHAPE, p=0.5),
    "poisson_weights": _settings(shape=SHAPE, rate=1.0),
    "keep_k": _settings(shape=SHAPE, k=2),
    "mask_spans": _settings(shape=(2, 40), p=0.2, length=4),
    "mask_tokens": lambda: {"ids": np.arange(8).reshape(SHAPE), "p": 0.5, **_TOKENS},
    "random_erasing": _with_maps(first="images", p=1.0),
    "spec_augment": lambda: {"x": np.ones((2, 6, 8), np.float32), "time_width": 3, "freq_width": 3},
    "swap_rows": _with_x(p=0.5),
    "sample_keys": lambda: {"rng": 1, "sample_index": [3, 5]},
    "mc_dropout": lambda: {"fn": lambda x, key: x, "x": x(), "n_samples": 2},
    "as_key": _settings(rng=1),
    "set_num_threads": lambda: {"n": fd.get_num_threads()},
    "threads": _settings(n=1),
    "warmup": _settings(dtypes="float32", functions="dropout"),
}  # fmt: skip
LAYERS: dict[str, Callable[[], Keywords]] = {
    "AlphaDropout": _settings(p=0.5),
    "BiasActDropoutAdd": _settings(**_EPILOGUE),
    "DropBlock2d": _settings(p=0.3, block_size=2),
    "DropBlock3d": _settings(p=0.3, block_size=2),
    "DropPath": _settings(p=0.5),
    "Dropout": _settings(p=0.5),
    "FeatureAlphaDropout": _settings(p=0.5),
    "FeatureDropout": _settings(p=0.5),
    "GaussianDropout": _settings(p=0.5),
    "GaussianNoise": _settings(stddev=0.1),
    "RNNDropout": _settings(input_p=0.2, output_p=0.2, state_p=0.2),
    "SoftmaxDropout": _settings(p=0.5),
}
CLASSES: dict[str, Callable[[], Keywords]] = {
    **LAYERS,
    "Key": _settings(seed=1),
    "Mask": _settings(shape=SHAPE, p=0.5),
    "TokenCollator": _settings(pad_id=0, special=[2, 3], **_TOKENS),
}
CALLS = {**FUNCTIONS, **CLASSES}
# What is public and takes no arguments that could be wrong.
WITHOUT_ARGUMENTS = {
    "MonteCarlo": "what mc_dropout returns, a named tuple",
    "cuda": "a module; DeviceKey needs a GPU, and is tested in tests/gpu and tests/cuda_host",
    "get_num_threads": "no arguments",
    "show_versions": "no arguments",
}
