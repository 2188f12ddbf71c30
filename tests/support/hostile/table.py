"""The table of wrong arguments: every parameter of every public function, with wrong values."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.hostile import calls
from tests.support.hostile.faults import (
    AXES,
    CHOICES,
    COUNTS,
    FLAGS,
    FLOAT_MAPS,
    FLOAT_VOLUMES,
    FLOATS,
    GENERATOR,
    GLOBAL_SHAPE,
    HUGE,
    INDICES,
    INF,
    INTEGERS,
    KEY,
    KEYS_OF_OTHERS,
    LAST_OFFSET,
    NAMES,
    NAN,
    NOISE_SHAPE,
    NOISE_SHAPE_OF_A_LAYER,
    OFFSET,
    ONE_P,
    OPERAND,
    OPTIONAL_COUNTS,
    PROGRESS,
    RAGGED,
    REALS,
    SAMPLE_INDEX,
    SAMPLES_RNG,
    SCALE,
    SCALE_OF_ANY_DTYPE,
    SHAPE,
    SHARED_RNG,
    STRICT_FLAGS,
    VALUE,
    WEIGHTS_DTYPE,
    WRONG_SHAPE_OF_P,
    P,
    Wrong,
    arrays,
    types,
    values,
)

Rows = dict[str, Wrong]

_BY_NAME: Rows = {
    "act": CHOICES,
    "axis": AXES,
    "bias": OPERAND,
    "block_size": INTEGERS + values(0, -1, -HUGE),
    "couple_channels": STRICT_FLAGS,
    "data_format": CHOICES,
    "dy": FLOATS,
    "eps": REALS + values(-1.0),
    "gamma_scale": REALS + values(-1.0),
    "global_shape": GLOBAL_SHAPE,
    "h_prev": OPERAND + types(None),
    "inplace": STRICT_FLAGS,
    "like": types("cupy", b"a", {}, object(), np.ma.array([1.0]), KEY, GENERATOR),
    "mode": CHOICES,
    "noise_shape": NOISE_SHAPE,
    "offset": OFFSET + LAST_OFFSET,
    "p": ONE_P,
    "residual": OPERAND,
    "rng": SHARED_RNG,
    "sample_index": SAMPLE_INDEX,
    "scale": SCALE,
    "scale_by_keep": STRICT_FLAGS,
    "shape": SHAPE,
    "stddev": REALS + values(-0.1),
    "training": FLAGS,
    "value": VALUE + values(RAGGED),
    "x": FLOATS,
}
_SAMPLES: Rows = {"rng": SAMPLES_RNG + KEYS_OF_OTHERS}
_EACH: Rows = {"p": P + WRONG_SHAPE_OF_P}
_MAPS: Rows = {"x": FLOAT_MAPS + values(1.0, calls.x()[0])}
_MOVED = arrays(calls.x(), "OUS")
_WEIGHTS: Rows = {**_SAMPLES, "dtype": WEIGHTS_DTYPE}

OF: dict[str, Rows] = {
    "dropout": _EACH,
    "masked_fill": {**_EACH, "x": _MOVED},
    "dropout_mask": {
        **_EACH, "packed": STRICT_FLAGS,
        "chunks": types(object()) + values(((1,), (4,)), 0, -5, (2, 0)),
    },
    "drop_path": {"p": P + WRONG_SHAPE_OF_P, "x": FLOATS + values(1.0)},
    "feature_dropout": {"p": P + WRONG_SHAPE_OF_P, **_MAPS},
    "feature_alpha_dropout": _MAPS,
    "feature_alpha_dropout_backward": {"dy": FLOAT_MAPS + values(calls.x()[0])},
    "drop_block2d": {"x": FLOAT_MAPS + values(calls.x())},
    "drop_block3d": {"x": FLOAT_VOLUMES + values(calls.x())},
    "gaussian_dropout": {"p": ONE_P + values(1.0, 1)},
    "softmax_dropout": {"x": FLOATS + values(1.0)},
    "bias_act_dropout_add_backward": {"x": OPERAND},
    "softmax_dropout_backward": {"dy": FLOATS + values(calls.x()[0])},
    "bernoulli_weights": _WEIGHTS,
    "poisson_weights": {**_WEIGHTS, "rate": REALS + values(-0.1, 33.0)},
    "keep_k": {
        **_SAMPLES,
        "indices": STRICT_FLAGS,
        "k": types(
            *["1", None, True, 1.5, 0.5, 1j, b"1", {}, object(), KEY, GENERATOR, NAN],
            *[[1.5, 2], ["a", "b"], [None, 1], [HUGE, 1], np.zeros((2, 2))],
        ) + values(5, -1, HUGE, [1, 2, 3], [5, 1], [[1], [1, 2]], []),
    },
    "mask_spans": {
        **_SAMPLES,
        "p": ONE_P.but(None),
        "n": values("1", True, 1.5, -1, HUGE, 1, np.zeros((2, 2))),  # p is given, too
        "length": (INTEGERS + values(0, -1, 100, HUGE)).but(None),
        "kind": CHOICES,
        "min_spacing": OPTIONAL_COUNTS,
        "min_spans": COUNTS,
        "max_length": values(1, "1", -1, HUGE, np.zeros((2, 2))),  # of another kind
        "row_lengths": INDICES + values([1], [41, 2], [1000, 1]),
    },
    "mask_tokens": {
        **_SAMPLES,
        "ids": arrays(np.arange(8).reshape(2, 4), "bfcgOUSVM>") + types(1.0),
        "mask_id": COUNTS + values(50, HUGE),
        "vocab_size": COUNTS + values(0, 1 << 33, 1, HUGE),
        "ignore_index": INTEGERS + values(1 << 63, HUGE),
        "special": types(
            *["ab", 1.5, [1.5], [None], {}, np.zeros(2), object(), KEY, GENERATOR, {1.5}, NAN],
        ) + values([[1, 2]], np.zeros(3, bool), np.zeros((1, 1), int)),
        "replace": types(
            *[(0.8, 0.1), "abc", None, 1.0, {}, ("a", "b", "c"), KEY, [[1], [2], [3]]],
            *[2, np.array(1.0), GENERATOR],
        ) + values((0.8, 0.1, 0.2), (-0.1, 0.5, 0.6), (NAN, 0.5, 0.5), (HUGE, 0, 0)),
    },
    "random_erasing": {
        **_SAMPLES,
        "images": arrays(calls.maps(), "OUS") + values(calls.x(), 1.0, calls.maps(5)),
        "scale": types(1.0, "a", None, (0.1, 0.2, 0.3), ("a", "b"), {}, KEY, np.array(1.0), [])
        + values((0.5, 0.2), (-0.1, 0.2), (0.1, 2), (NAN, 1.0), (0.1, HUGE)),
        "ratio": types(1.0, "a", None, (1, 2, 3), ("a", "b"), {}, KEY, np.array(1.0), [], (None, 1))
        + values((2, 1), (0, 1), (-1, 1), (NAN, 1.0), (INF, INF), (1, HUGE)),
        "value": VALUE.but("a") + values("a", np.zeros(7), RAGGED),
        "count": COUNTS + values(0, HUGE, 1 << 63),
    },
    "spec_augment": {
        **_SAMPLES,
        "x": arrays(np.ones((2, 6, 8), np.float32), "bicgOUSVM") + values(1.0, calls.x()[0]),
        "time_masks": COUNTS + values(HUGE, 1 << 17),
        "freq_masks": COUNTS + values(HUGE, 1 << 17),
        "time_width": COUNTS,
        "freq_width": COUNTS + values(9, HUGE),
        "p_max": ONE_P,
        "time_axis": INTEGERS + values(3, -4, -1, HUGE, -HUGE),
        "freq_axis": INTEGERS + values(3, -4, -2, HUGE, -HUGE),
        "row_lengths": INDICES + values([1], [7, 2]),
        "value": VALUE + types(np.zeros(2)) + values(np.zeros(7), [1.0]),
    },
    "swap_rows": {
        "x": _MOVED + values(1.0),
        "rng": SAMPLES_RNG + values(np.zeros((2, 2), np.uint64)) + KEYS_OF_OTHERS,
        "offset": OFFSET.all_values(),  # which needs a source
        "global_shape": GLOBAL_SHAPE.all_values(),
        "replace": STRICT_FLAGS,
        "return_mask": STRICT_FLAGS,
        "source": arrays(calls.x(), "bicgOUSVM>").but(None) + values(np.zeros(7, np.float32)),
    },
    "sample_keys": {"rng": SHARED_RNG, "sample_index": INDICES + types(None) + values([1 << 62])},
    "mc_dropout": {
        "fn": types(None, 1, "f", KEY, lambda x, key: None, lambda x, key: "a", lambda x, key: {}),
        "n_samples": COUNTS + values(0),
        "batch_size": OPTIONAL_COUNTS + values(0),
        "ddof": COUNTS + values(2, HUGE),
        "return_samples": STRICT_FLAGS,
        "progress": PROGRESS,
    },
    "apply_blocks": {
        "function": types(None, 1, "dropout", np.add, fd.drop_block2d, fd.Dropout, [], KEY),
        "source": types(None, 1, "a", [1.0], {}, KEY, GENERATOR, object(), np.ma.array(calls.x())),
        "target": types(1, "a", [1.0], {}, KEY, GENERATOR, object(), np.zeros((2, 4), np.float64))
        + values(np.zeros(7, np.float32)),
        "block_bytes": OPTIONAL_COUNTS + values(0),
        "start": INTEGERS + values(-1, 5, HUGE),
        "progress": PROGRESS,
    },
    "set_num_threads": {"n": COUNTS + values(0, HUGE, 1_000_000)},
    "threads": {"n": COUNTS + values(0, HUGE, 1_000_000)},
    "warmup": {
        "dtypes": types(
            *["bad", 1, object(), "U3", object, "complex64", np.dtype("f8,f4"), ">f4"],
            *[KEY, NAN, "int32", True, ["float32", 1], [[]]],
        ),
        "functions": NAMES,
        "activations": NAMES,
        "p_arrays": STRICT_FLAGS,
        "progress": PROGRESS,
        "device": CHOICES,
        "arch": values("bad", 1, [], object()),  # of a GPU
    },
    # Classes. What depends on an array's shape or dtype is checked in the forward.
    "Dropout": {"p": P, "noise_shape": NOISE_SHAPE_OF_A_LAYER, "scale": SCALE_OF_ANY_DTYPE},
    "AlphaDropout": {"noise_shape": NOISE_SHAPE_OF_A_LAYER},
    "GaussianDropout": {"p": ONE_P + values(1.0), "noise_shape": NOISE_SHAPE_OF_A_LAYER},
    "GaussianNoise": {"noise_shape": NOISE_SHAPE_OF_A_LAYER},
    "DropPath": {"p": P},
    "FeatureDropout": {"p": P},
    "SoftmaxDropout": {"axis": INTEGERS},
    "RNNDropout": {
        "input_p": ONE_P,
        "output_p": ONE_P,
        "state_p": ONE_P,
        "variational": STRICT_FLAGS,
        "share_batch": STRICT_FLAGS,
        "drop_state": types("ab", 1, (1,), ("a",), True, {}, KEY, [None], NAN),
    },
    "Key": {name: COUNTS + values(1 << 64, HUGE) for name in ("seed", "stream")},
    "Mask": {"scale": SCALE_OF_ANY_DTYPE},
    "TokenCollator": {
        "mlm": STRICT_FLAGS + values(False),
        "mlm_probability": ONE_P,
        "mask_replace_prob": ONE_P,
        "random_replace_prob": ONE_P,
        "pad_to_multiple_of": OPTIONAL_COUNTS + values(0),
        "return_tensors": CHOICES,
        "sample_index": types(1, [1], {}, object(), KEY, NAN),
        "mask_id": COUNTS.but(None) + values(None, 50, HUGE),
        "pad_id": INTEGERS.but(None) + values(HUGE, 1 << 63),
        "vocab_size": COUNTS.but(None) + values(None, 0, 1, 1 << 33, HUGE),
        "special": types(1.5, [1.5], [None], "ab", object(), KEY, GENERATOR, [True], NAN, 1),
        "padding_side": CHOICES.but(None),
    },
}  # fmt: skip
# Parameters of which every value is right, or whose wrong ones show up later.
FREE = {
    ("mc_dropout", "x"): "it is passed to fn as it is",
    ("TokenCollator", "tokenizer"): "any object, of which attributes are read that it may lack",
}
OUTPUTS = ("out", "labels_out")  # whose wrong values depend on the result


def parameters(name: str) -> list[str]:
    """Return the names of the parameters of something public."""
    kinds = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    signature = inspect.signature(getattr(fd, name))
    return [p.name for p in signature.parameters.values() if p.kind not in kinds]


def wrong_for(name: str, parameter: str) -> Wrong | None:
    """Return the wrong values of a parameter of something public; None if the table has none."""
    for known in (name, name.removesuffix("_vjp")):
        if parameter in OF.get(known, {}):
            return OF[known][parameter]
    return _BY_NAME.get(parameter)


def wrong_outputs(result: Any) -> Wrong:
    """Return outputs that do not fit a result."""
    shape, dtype = result.shape, result.dtype
    other = np.float32 if dtype == np.float64 else np.float64
    frozen = np.zeros(shape, dtype)
    frozen.flags.writeable = False
    return types(
        np.zeros(shape, other), np.zeros(shape, "V4"), np.zeros(shape, object),
        np.zeros(shape, ">f4" if np.little_endian else "<f4"), np.ma.array(np.zeros(shape, dtype)),
        [1.0], "out", 3, b"ab", (), True, {}, KEY, GENERATOR, object(), np.float32(1),
        memoryview(bytearray(4)), (np.zeros(shape, dtype),),
    ) + values(
        np.zeros((*shape, 1), dtype), np.zeros((1, *shape), dtype), np.zeros(7, dtype),
        np.zeros((*shape[:-1], shape[-1] + 1), dtype)[..., :-1][..., ::2], frozen,
        np.broadcast_to(np.zeros((), dtype), shape),
    )  # fmt: skip
