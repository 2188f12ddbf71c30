"""`warmup` by function compiles the forward and backward of the named functions, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from tests.support.internals import WARMUP_FUNCTIONS, warmup_of
from tests.support.subprocesses import COUNTING, assert_succeeds, run_python
from tests.support.warmup_calls import ACTS, CALLS, DTYPES, calls_of

CODE = (
    COUNTING
    + """
fd.warmup({dtype!r}, {functions}, p_arrays={p_arrays}, activations={acts})
assert made
made.clear()
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 500)).astype({dtype!r})
large = rng.standard_normal((1500, 1400)).astype({dtype!r})
one_like = {{}}
images, volumes = np.ones((4, 3, 60, 70), x.dtype), np.ones((2, 2, 9, 8, 7), x.dtype)
for n in (1, 2):
    fd.set_num_threads(n)
    for a in (x, np.asfortranarray(x), x[:, ::3], large, np.asfortranarray(large)):
        bias, column = a[0].copy(), a[:, :1].copy()
        some = rng.random(a.shape[1]), rng.random((a.shape[0], 1)), rng.random(a.shape)
        for p in (0.3, 0.0):
            {calls}
            assert not made, (made, a.shape, a.strides, p)
print("nothing was compiled")
"""
)

QUICK = "gaussian_noise"


def test_every_function_that_computes_can_be_named() -> None:
    functions = {name for name in fd.__all__ if inspect.isfunction(getattr(fd, name))}
    public = {name for name in functions if not name.endswith("_vjp")}  # which call two others
    others = {"as_key", "get_num_threads", "mc_dropout", "set_num_threads", "threads", "warmup"}
    others |= {"show_versions", "apply_blocks", "sample_keys"}  # which compile nothing
    assert set(WARMUP_FUNCTIONS) == set(CALLS) == public - others


CASES = [("float32", QUICK)]
SLOW_CASES = [
    *[(DTYPES.get(name, "float32"), name) for name in CALLS if name != QUICK],
    ("float16", "softmax_dropout"),  # which computes in another type than it stores
]


@pytest.mark.parametrize(
    ("dtype", "name"), [*CASES, *[pytest.param(*c, marks=pytest.mark.slow) for c in SLOW_CASES]]
)
def test_nothing_is_left_to_compile(dtype: str, name: str) -> None:
    calls = calls_of(name)
    p_arrays = name in ("dropout", "masked_fill", "dropout_mask")
    code = CODE.format(dtype=dtype, functions=repr(name), calls=calls, p_arrays=p_arrays, acts=ACTS)
    assert assert_succeeds(run_python(code)) == "nothing was compiled\n"


TOKENS = (
    COUNTING
    + """
fd.warmup("mask_tokens")
assert made
made.clear()
for dtype in ("int64", "int32"):
    ids = np.arange(400, dtype=dtype).reshape(4, 100)
    for special in (None, [1, 2], ids > 7, range(0, 400, 3)):
        fd.mask_tokens(ids, mask_id=3, vocab_size=400, special=special)
print(*made)
"""
)


def test_functions_on_batches_are_named_alone(tmp_path: Path) -> None:
    """In the place of dtypes; they have usual ones, and an empty cache."""
    assert assert_succeeds(run_python(TOKENS, FASTDROP_CACHE_DIR=str(tmp_path))) == "\n"
    assert list(tmp_path.glob("mask-tokens-8-*.kernel"))


def test_all_functions_take_the_dtypes_that_they_can() -> None:
    wanted = warmup_of("all", None)
    assert {name for name, _ in wanted} == set(WARMUP_FUNCTIONS)
    assert ("mask_tokens", "int64") in wanted and ("dropout", "float64") in wanted
    assert ("keep_k", "bool") in wanted and ("random_erasing", "uint8") in wanted
    some = warmup_of("all", ["float32", "int64"])
    assert ("dropout", "float32") in some and ("mask_tokens", "int64") in some
    assert {("dropout", "int64"), ("mask_tokens", "float32")}.isdisjoint(some)


def test_wrong_names_are_named_before_anything_is_compiled() -> None:
    with pytest.raises(ValueError, match="functions='Dropout': did you mean 'dropout'\\? give"):
        fd.warmup(functions=["dropout", "Dropout"])
    for name in ("sample_keys", "TokenCollator", "mask_token"):
        with pytest.raises(ValueError, match=f"functions='{name}': .*give .*'mask_tokens'.* or"):
            fd.warmup(functions=name)
    with pytest.raises(ValueError, match=r"'mask_token': did you mean 'mask_tokens'\?"):
        fd.warmup(functions="mask_token")
    with pytest.raises(TypeError, match=r"dtypes='mask_token' is neither .*'mask_tokens'\?"):
        fd.warmup("mask_token")
    with pytest.raises(ValueError, match="functions='float32': give"):
        fd.warmup(["mask_tokens", "float32"])
    with pytest.raises(TypeError, match="dtypes has 'mask_tokens', which is a function"):
        fd.warmup("mask_tokens", "dropout")
    with pytest.raises(ValueError, match="activations|act='swish'"):
        fd.warmup(functions="bias_act_dropout_add", activations="swish")
    with pytest.raises(TypeError, match="p_arrays=1"):
        fd.warmup(p_arrays=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="progress='bar'"):
        fd.warmup(progress="bar")


def test_each_function_takes_its_dtypes() -> None:
    with pytest.raises(TypeError, match="dtypes has int32, and dropout takes"):
        fd.warmup(np.int32, ["masked_fill", "dropout"])
    for wrong, name, message in (
        ("float32", "mask_tokens", "ids has dtype float32"),
        ("complex64", "poisson_weights", "dtype=complex64 is not supported"),
        ("int8", "spec_augment", "x has dtype int8"),
        ("S3", "swap_rows", "x has dtype |S3 of 3 bytes"),
        ("O", "random_erasing", "Python objects"),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            fd.warmup(wrong, name)
    with pytest.raises(TypeError, match="does not move Python objects"):
        fd.warmup(object, "masked_fill")
    fd.warmup([], "masked_fill")


@pytest.mark.slow
def test_masked_fill_of_any_dtype_can_be_compiled_ahead() -> None:
    fd.warmup(["int64", "M8[s]", "U1"], "masked_fill")
