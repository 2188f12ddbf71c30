"""Dropout for torch: functions and modules that stand in for torch's, by the kernels of fastdrop.

Masks are drawn from keys that torch's own generator gives, and the backward keeps the key alone::

    import fastdrop.torch

    model = fastdrop.torch.convert(model)      # swaps nn.Dropout and its like, in place
    y = fastdrop.torch.functional.dropout(x, 0.1)

It is an import of its own: `import fastdrop` imports nothing of torch.
"""

from . import functional
from ._convert import convert, revert
from ._draws import draw_key
from ._keys import key_of
from .modules import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    FeatureAlphaDropout,
)

__all__ = [
    "AlphaDropout",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "convert",
    "draw_key",
    "functional",
    "key_of",
    "revert",
]
