"""Functions on tensors of torch: dropout and its family, drawn from a key, with gradients.

They stand in for those of `torch.nn.functional`, with the same arguments, and take a key besides.
"""

from ._dropout import alpha_dropout, dropout, dropout_mask, masked_fill
from ._fused_functions import bias_act_dropout_add, softmax_dropout
from ._structured import (
    drop_path,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
    feature_dropout,
)

__all__ = [
    "alpha_dropout",
    "bias_act_dropout_add",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_mask",
    "feature_alpha_dropout",
    "feature_dropout",
    "masked_fill",
    "softmax_dropout",
]
