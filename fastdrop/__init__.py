"""Fused dropout and random masking for NumPy: one pass, no stored mask, the same bits everywhere.

The mask is a pure function of a key, a drop probability and an element's index, so the backward
pass of dropout is the same call on the gradient, with the same key::

    key = fastdrop.Key(42)
    y = fastdrop.dropout(x, 0.5, rng=key)      # forward
    dx = fastdrop.dropout(dy, 0.5, rng=key)    # backward: the mask is drawn again, not stored

NumPy arrays in, NumPy arrays out; CuPy arrays in, CuPy arrays out, with the same bits.

Importing fastdrop imports NumPy and nothing else; the kernels are compiled, or loaded from the
cache, when they are first called.
"""

from typing import Any as _Any

try:
    import fastdrop_kernels as _kernels  # noqa: F401
except ModuleNotFoundError:  # running from a source tree, without an installation
    import os as _os
    import sys as _sys

    _folder = _os.path.join(
        _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))), "kernels"
    )
    if not _os.path.isdir(_os.path.join(_folder, "fastdrop_kernels")):
        raise ImportError(
            "fastdrop_kernels is missing, which is installed together with fastdrop: install "
            "fastdrop again"
        ) from None
    _sys.path.append(_folder)
from . import cuda
from ._batch.collator import TokenCollator
from ._batch.erasing import random_erasing
from ._batch.keep import keep_k
from ._batch.keys import sample_keys
from ._batch.spans import mask_spans
from ._batch.spec_augment import spec_augment
from ._batch.swap import swap_rows
from ._batch.tokens import mask_tokens
from ._batch.weights import bernoulli_weights, poisson_weights
from ._blocks.apply import apply_blocks
from ._check.key import Key, as_key
from ._functions.alpha import (
    alpha_dropout,
    alpha_dropout_backward,
    feature_alpha_dropout,
    feature_alpha_dropout_backward,
)
from ._functions.bias_act import bias_act_dropout_add, bias_act_dropout_add_backward
from ._functions.drop_block import drop_block2d, drop_block3d
from ._functions.dropout import dropout, dropout_mask, masked_fill
from ._functions.gaussian import gaussian_dropout, gaussian_noise
from ._functions.monte_carlo import MonteCarlo, mc_dropout
from ._functions.softmax import softmax_dropout, softmax_dropout_backward
from ._functions.structured import drop_path, feature_dropout
from ._functions.vjp import (
    alpha_dropout_vjp,
    bias_act_dropout_add_vjp,
    drop_block2d_vjp,
    drop_block3d_vjp,
    drop_path_vjp,
    dropout_vjp,
    feature_alpha_dropout_vjp,
    feature_dropout_vjp,
    gaussian_dropout_vjp,
    gaussian_noise_vjp,
    masked_fill_vjp,
    softmax_dropout_vjp,
    zoneout_vjp,
)
from ._functions.zoneout import zoneout, zoneout_backward
from ._layers.elementwise import AlphaDropout, Dropout, GaussianDropout, GaussianNoise
from ._layers.fused import BiasActDropoutAdd, SoftmaxDropout
from ._layers.rnn import RNNDropout
from ._layers.structured import (
    DropBlock2d,
    DropBlock3d,
    DropPath,
    FeatureAlphaDropout,
    FeatureDropout,
)
from ._mask.mask import Mask
from ._tools.environment import show_versions
from ._tools.threads import get_num_threads, set_num_threads, threads
from ._tools.warmup import warmup


def __getattr__(name: str) -> _Any:
    if name == "device":  # lazily, because it imports Numba
        import importlib

        return importlib.import_module(".device", __name__)
    if name == "torch":
        raise AttributeError(
            "fastdrop.torch is imported by a line of its own: import fastdrop.torch"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "AlphaDropout",
    "BiasActDropoutAdd",
    "DropBlock2d",
    "DropBlock3d",
    "DropPath",
    "Dropout",
    "FeatureAlphaDropout",
    "FeatureDropout",
    "GaussianDropout",
    "GaussianNoise",
    "Key",
    "Mask",
    "MonteCarlo",
    "RNNDropout",
    "SoftmaxDropout",
    "TokenCollator",
    "alpha_dropout",
    "alpha_dropout_backward",
    "alpha_dropout_vjp",
    "apply_blocks",
    "as_key",
    "bernoulli_weights",
    "bias_act_dropout_add",
    "bias_act_dropout_add_backward",
    "bias_act_dropout_add_vjp",
    "cuda",
    "drop_block2d",
    "drop_block2d_vjp",
    "drop_block3d",
    "drop_block3d_vjp",
    "drop_path",
    "drop_path_vjp",
    "dropout",
    "dropout_mask",
    "dropout_vjp",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
    "feature_alpha_dropout_vjp",
    "feature_dropout",
    "feature_dropout_vjp",
    "gaussian_dropout",
    "gaussian_dropout_vjp",
    "gaussian_noise",
    "gaussian_noise_vjp",
    "get_num_threads",
    "mask_spans",
    "keep_k",
    "mask_tokens",
    "masked_fill",
    "masked_fill_vjp",
    "mc_dropout",
    "poisson_weights",
    "random_erasing",
    "sample_keys",
    "set_num_threads",
    "show_versions",
    "softmax_dropout",
    "softmax_dropout_backward",
    "softmax_dropout_vjp",
    "spec_augment",
    "swap_rows",
    "threads",
    "warmup",
    "zoneout",
    "zoneout_backward",
    "zoneout_vjp",
]
