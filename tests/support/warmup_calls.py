"""Calls of the functions that `warmup` makes ready, as code: with an array a, a p, and others.

It sees fd, a, p, images, volumes, bias and column, which are a row and a column of a, and some,
arrays of p; and one_like, which gives functions that take no array the library of a.
"""

from __future__ import annotations

PLAIN = "fd.{name}(a, p); fd.{name}(a, p, out=a.copy()); fd.{name}(a, p, noise_shape=(None, 1))"
IMAGES = "fd.{name}(images, p); fd.{name}(images, p, data_format='channels_last')"
SOFTMAX = "[fd.softmax_dropout(a, p, axis=k) for k in (0, 1)]"
SOFTMAX_BACK = "[fd.softmax_dropout_backward(a, a, p, axis=k) for k in (0, 1)]"
EPILOGUE = (
    "[fd.bias_act_dropout_add(a, b, act, p, residual=r) "
    "for act in ACTS for b in (None, bias, column) for r in (None, a, bias)]"
)
EPILOGUE_BACK = (
    "[fd.bias_act_dropout_add_backward(a, a, b, act, p) "
    "for act in ACTS for b in (None, bias, column)]"
)
ZONEOUT_BACK = "[fd.zoneout_backward(a, p, training=t) for t in (True, False)]"
ZONEOUT = "[fd.zoneout(a, h, p, training=t) for h in (a, bias, 0) for t in (True, False)]"
ACTS = ("identity", "relu")
WEIGHTS = "a.dtype, **one_like)"
SPANS = ("wav2vec2", "spanbert", "t5")
ERASED = (0, 0.5, "noise")
CALLS = {
    "dropout": f"{PLAIN}; [fd.dropout(a, q, scale=s) for q in some for s in (None, 2.0)]",
    "masked_fill": PLAIN.replace("a, p", "a, p, 1") + "; [fd.masked_fill(a, q, 1) for q in some]; "
    "[fd.masked_fill(a, p, v) for v in (a, bias, column)]",
    "dropout_mask": "[fd.dropout_mask(a.shape, p, packed=k) for k in (False, True)]; "
    "[fd.dropout_mask(a.shape, q, packed=k) for q in some for k in (False, True)]",
    "feature_dropout": IMAGES,
    "drop_path": "fd.{name}(images, p); fd.{name}(images, p, mode='batch')",
    "drop_block2d": "fd.{name}(images, p, 3)",
    "drop_block3d": "fd.{name}(volumes, p, 3)",
    "alpha_dropout": f"{PLAIN}; fd.alpha_dropout_backward(a, p)",
    "alpha_dropout_backward": PLAIN,
    "feature_alpha_dropout": f"{IMAGES}; fd.feature_alpha_dropout_backward(images, p)",
    "feature_alpha_dropout_backward": IMAGES,
    "gaussian_dropout": PLAIN,
    "gaussian_noise": PLAIN,
    "softmax_dropout": f"{SOFTMAX}; {SOFTMAX_BACK}",
    "softmax_dropout_backward": SOFTMAX_BACK,
    "bias_act_dropout_add": f"{EPILOGUE}; {EPILOGUE_BACK}",
    "bias_act_dropout_add_backward": EPILOGUE_BACK,
    "zoneout": f"{ZONEOUT}; {ZONEOUT_BACK}",
    "zoneout_backward": ZONEOUT_BACK,
    "mask_tokens": "[fd.mask_tokens(a, p, mask_id=1, vocab_size=9, special=s) "
    "for s in (None, [3], [1, 300], list(range(0, 4000, 2)))]; "
    "fd.mask_tokens(a, p, mask_id=1, vocab_size=9, sample_index=range(len(a)))",
    "poisson_weights": f"fd.poisson_weights((30, 50), dtype={WEIGHTS}",
    "bernoulli_weights": f"fd.bernoulli_weights((30, 50), p, dtype={WEIGHTS}",
    "keep_k": "[fd.keep_k((30, 50), 7, axis=k, indices=i, **one_like) "
    "for k in (0, 1) for i in (False, True)]",
    "mask_spans": "[fd.mask_spans((3, 99), kind=k, **one_like) for k in SPANS]; "
    "fd.mask_spans((3, 99), 0.3, min_spacing=1, **one_like)",
    "spec_augment": "[fd.spec_augment(z, time_masks=1, time_width=9, freq_masks=1, freq_width=2) "
    "for z in (a, images, volumes)]",
    "swap_rows": "[fd.swap_rows(a, p, replace=r) for r in (True, False)]; "
    "fd.swap_rows(a, p, source=a[:9], return_mask=True)",
    "random_erasing": "[fd.random_erasing(images, 1.0, value=v) for v in ERASED]; "
    "fd.random_erasing(images, 1.0, count=2, out=images)",
}
# What is no float32.
DTYPES = {"mask_tokens": "int64", "poisson_weights": "int8"}


def calls_of(name: str) -> str:
    """Return calls of a function."""
    code = CALLS[name].replace("{name}", name)
    for listed, values in (("ACTS", ACTS), ("SPANS", SPANS), ("ERASED", ERASED)):
        code = code.replace(listed, repr(values))
    return code
