"""Masking of tokens, as BERT's training does it.

`mask_tokens` is public. It checks its arguments, and calls `fastdrop_kernels.*.batch.tokens`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence, Set
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract
from fastdrop_kernels.rows import Rows, pieces, whole_rows
from fastdrop_kernels.tokens import BY_PLACE, Rule, Special, special_ids

from .._arrays.adapter import Backend
from .._arrays.dispatch import backend_of
from .._arrays.overlap import same
from .._call.operands import fits
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from . import call, plans
from .keys import checked_keys
from .ready import compiles

_PIECE = 1 << 14  # elements that a thread takes at a time
_MOST = 1 << 32  # tokens of a vocabulary
_TOLERANCE = 1e-6  # of the sum of shares
_USUAL = (0.8, 0.1, 0.1)
P_MEANS = "the probability that a token is chosen"


def _check_dtype(kind: np.dtype[Any]) -> None:
    if kind.kind not in "iu":
        raise TypeError(f"ids has dtype {kind}: give integers, such as ids.astype(numpy.int64)")
    if not kind.isnative:
        raise TypeError(f"ids has the byte order of {kind}: give ids.astype({kind.name!r})")


@checks_keywords
@compiles("tokens", "int64", "int32", check=_check_dtype)
def mask_tokens(
    ids: ArrayLike,
    p: float = 0.15,
    *,
    mask_id: int,
    vocab_size: int,
    special: ArrayLike | Set[int] | None = None,
    replace: Sequence[float] = _USUAL,
    ignore_index: int = -100,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    labels_out: Output = None,
    **unknown: NoReturn,
) -> tuple[Array, Array]:
    """Mask tokens for training by BERT's rule [1]_, in one pass: the inputs and the labels.

    A token is chosen with probability p, unless it is special. Of the chosen ones, 80% become
    `mask_id`, 10% a token of the vocabulary, uniformly, and 10% stay as they are.

    Parameters
    ----------
    ids : array_like of integers
        The tokens. They are moved and compared, never looked up: those outside the vocabulary, such
        as a padding of -1, are chosen like others unless they are special.
    p : float
        Probability that a token is chosen, in [0, 1].
    mask_id : int
        The token that stands for masked ones, in ``[0, vocab_size)``.
    vocab_size : int
        Number of tokens from which random ones are drawn: ``len(tokenizer)``. All are drawn equally
        often, exactly, special ones too. In ``[1, 2**32]``.
    special : array_like, optional
        Tokens that are never chosen. An array of dtype bool says it by place, and broadcasts to
        `ids`; integers, in one axis or a set, are the ids of special tokens, such as
        ``tokenizer.all_special_ids``.
    replace : sequence of 3 floats
        Of chosen tokens: the share that becomes `mask_id`, the share that becomes a random token,
        and the share that stays. They are at least 0, and their sum is 1. A share of 0 is exact.
    ignore_index : int
        The label of tokens that are not chosen.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (samples, 2) and dtype uint64: one for each sample along the first axis,
        as `sample_keys` returns them.
    sample_index : array_like of int, optional
        Numbers of the samples along the first axis, with which the key is folded.
    offset, global_shape
        As in `dropout`, for a part of a larger array. Not with keys of samples.
    out, labels_out : ndarray, optional
        Output arrays for the inputs and the labels, of the shape and dtype of `ids`. `out` may be
        `ids` itself.

    Returns
    -------
    inputs, labels : ndarray
        Of the shape and dtype of `ids`. Labels are the tokens where they were chosen, and else
        `ignore_index`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn or written.

    Notes
    -----
    Chosen tokens are those that ``dropout_mask(ids.shape, p)`` of the same key drops.

    References
    ----------
    .. [1] J. Devlin, M.-W. Chang, K. Lee and K. Toutanova, "BERT: Pre-training of deep
       bidirectional transformers for language understanding", NAACL 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> ids = np.array([[101, 7592, 2088, 999, 102, 0, 0],
    ...                 [101, 2129, 2024, 2017, 2651, 1029, 102]])
    >>> inputs, labels = fd.mask_tokens(
    ...     ids, 0.4, mask_id=103, vocab_size=30522, special=[0, 101, 102], rng=6
    ... )
    >>> inputs
    array([[ 101,  103, 5399,  999,  102,    0,    0],
           [ 101, 2129,  103, 2017,  103, 1554,  102]])
    >>> labels
    array([[-100, 7592, 2088, -100, -100, -100, -100],
           [-100, -100, 2024, -100, 2651, 1029, -100]])
    """
    if unknown or ids is MISSING:
        raise_argument_error("mask_tokens", unknown, ids=ids)
    where = (out, labels_out), rng, sample_index, offset, global_shape
    key, read_too = _plan_key(ids, where, special, replace, p, mask_id, vocab_size, ignore_index)
    if planned := plans.planned(key, read_too, where[0], rng, sample_index, offset):
        return planned[0], planned[1]
    chance = arguments.probability(p, meaning=P_MEANS)
    backend = call.backend_for(ids, "ids")
    tokens = backend.array(ids, "ids")
    kind = tokens.dtype
    _check_dtype(kind)
    given = chance, mask_id, vocab_size, replace, ignore_index, kind
    try:
        rule = _kept_rule(*given)
    except TypeError:  # a list, say, is no key; or the rule is refused, in the same words
        rule = _rule(*given)
    marks, numbers = _special(special, tokens, backend)
    keys = checked_keys(rng, sample_index, tokens.shape[0] if tokens.ndim else None, "ids")
    place = call.sample_placement(tokens.shape, keys, offset, global_shape, "ids")
    size = tokens.shape

    def rows_of(own: npt.NDArray[np.uint64] | None) -> Rows:
        if own is not None:
            return whole_rows(size[:1], math.prod(size[1:]), keys=own)
        if place.strides is None or not size:
            return pieces(math.prod(size), place.first, _PIECE)
        return whole_rows(size[:-1], size[-1], place.first, place.strides[:-1])

    read = [tokens] if marks is None else [tokens, marks]
    with backend.ordered(read, out, keys.rng):
        in_place = out is not None and _is_the_same(backend, out, tokens)
        inputs = call.Output(backend, out, size, kind, read[in_place:])
        if out is not None:
            read.append(backend.writable(out))
        labels = call.Output(backend, labels_out, size, kind, read, "labels_out")
        if tokens.size:
            if marks is not None:
                seen = call.contiguous(backend, backend.broadcast(marks, size))
                numbers = Special(BY_PLACE, seen)
            elif numbers.table is not None:
                table, listed = (backend.table(a, tokens) for a in (numbers.table, numbers.ids))
                numbers = numbers._replace(table=table, ids=listed)
            source = call.contiguous(backend, tokens)
            both = inputs.target, labels.target
            driver = backend, "tokens", "mask_tokens"
            how = call.run(*driver, both, rows_of, keys, source, rule, numbers)
            plans.remember(key, how, read_too, both, rng, sample_index)
        return inputs.finished(), labels.finished()


def _plan_key(
    ids: Any, where: tuple[Any, ...], special: Any, replace: Any, *numbers: Any
) -> tuple[plans.PlanKey | None, tuple[Any, ...]]:
    """Return the key of a call's plan, and the arrays that it reads but does not write."""
    in_place, given = ids is where[0][0], [ids]
    if type(special) is np.ndarray:
        if special.dtype == np.bool_:
            given.append(special)
            special = "by place"
        elif special.ndim == 1 and special.dtype.kind in "iu":
            special = tuple(special.tolist())
        else:
            return None, ()
    elif type(special) is list:
        special = tuple(special)
    elif special is not None and type(special) is not tuple:
        return None, ()
    if replace is _USUAL:
        shares: tuple[Any, ...] = ("as usual",)
    elif type(replace) is tuple and len(replace) == 3:
        shares = replace
    else:
        return None, ()
    key = plans.key_of("mask_tokens", given, *where, in_place, special, *shares, *numbers)
    return key, tuple(given[in_place:])


def _is_the_same(backend: Backend, out: Any, tokens: Array) -> bool:
    written, read = backend.addresses(backend.writable(out)), backend.addresses(tokens)
    return written.shape == read.shape and written.dtype == read.dtype and same(written, read)


def _rule(
    p: float,
    mask_id: Any,
    vocab_size: Any,
    replace: Any,
    ignore_index: Any,
    dtype: np.dtype[Any],
) -> Rule:
    """Return the numbers of the rule, checked."""
    vocabulary = arguments.integer("vocab_size", vocab_size)
    most, least = int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)
    if not 1 <= vocabulary <= _MOST:
        raise ValueError(
            f"vocab_size={detect.short(vocabulary)} is out of range: give the number of tokens, 1 "
            "to 2**32"
        )
    if vocabulary - 1 > most:
        raise ValueError(
            f"vocab_size={vocabulary} has tokens that {dtype}, the dtype of ids, has not: give ids "
            "of a larger dtype"
        )
    masked = arguments.integer("mask_id", mask_id)
    if not 0 <= masked < vocabulary:
        raise ValueError(
            f"mask_id={detect.short(masked)} is not in the vocabulary of {vocabulary} tokens: give "
            "a token below vocab_size, which is len(tokenizer), with the tokens that were added"
        )
    ignored = arguments.integer("ignore_index", ignore_index)
    if not least <= ignored <= most:
        raise ValueError(
            f"ignore_index={detect.short(ignored)} is not in the range of {dtype}, the dtype of "
            "ids and labels: give another ignore_index, or ids of another dtype"
        )
    return Rule(contract.threshold(p), *_shares(replace), masked, ignored, vocabulary)


_kept_rule = functools.lru_cache(maxsize=32, typed=True)(
    _rule
)  # checks take as long as 8 Ki tokens


def _shares(replace: Any) -> tuple[int, int]:
    """Return the thresholds of draw 1: below the first a token is masked, below the second random.

    The third share is the rest. A share of 0 never occurs.
    """
    arguments.reject_rng("replace", replace)
    several = isinstance(replace, list | tuple | np.ndarray)
    if not several or np.ndim(replace) == 0 or len(replace) != 3:
        raise TypeError(
            f"{detect.described('replace', replace)}: give three shares of the chosen tokens, of "
            "those that are masked, that become random tokens, and that stay"
        )
    masked, random, kept = (arguments.real(f"replace[{k}]", n) for k, n in enumerate(replace))
    if min(masked, random, kept) < 0 or abs(masked + random + kept - 1) > _TOLERANCE:
        raise ValueError(
            f"replace={detect.short(replace)}: give three shares that are at least 0 and "
            "whose sum is 1"
        )
    replaced = contract.ALWAYS if kept == 0 else contract.threshold(min(1.0, masked + random))
    return (replaced if random == 0 else contract.threshold(min(1.0, masked))), replaced


def _special(value: Any, tokens: Array, backend: Backend) -> tuple[Array | None, Special]:
    """Return which tokens are special: an array of bool, or a table of ids."""
    if value is None:
        return None, Special()
    arguments.reject_rng("special", value)
    if isinstance(value, Set):
        value = list(value)
    on_host = isinstance(value, list | tuple | range | bool)
    if on_host and not isinstance(value, bool) and all(map(_is_integer, value)):
        return None, _by_id(value, tokens.dtype)
    own = backend_of(value)
    if own.is_lazy:
        raise TypeError(f"special is {detect.a_kind_of(value)}, which is lazy: compute it first")
    given = own.array(value, "special")
    if given.dtype == np.bool_:
        if on_host:
            given = backend.to_device(given, tokens)
        elif not backend.is_like(own):
            raise TypeError(
                f"special is {detect.a_kind_of(value)}, which does not lie where ids does: bring "
                "one to the other"
            )
        backend.check_same_device("special", given, tokens)
        if not fits(given.shape, tokens.shape):
            raise ValueError(
                f"special has shape {given.shape}, which does not broadcast to that of ids, "
                f"{tokens.shape}"
            )
        return given, Special()
    if detect.on_gpu(value):
        raise TypeError(
            f"special is {detect.a_kind_of(value)} of dtype {given.dtype} on a GPU: give marks by "
            "place, of dtype bool, or a list of special ids"
        )
    if given.dtype.kind not in "iu":
        raise TypeError(
            f"special has dtype {given.dtype}: give an array of dtype bool, whose shape is that of "
            "ids, or the ids of special tokens"
        )
    if given.ndim != 1:
        raise ValueError(
            f"special has dtype {given.dtype} and {given.ndim} axes: give ids of special tokens "
            "in one, or marks by place, of dtype bool, such as special.astype(bool)"
        )
    return None, _by_id(given.tolist(), tokens.dtype)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _by_id(ids: Iterable[int], dtype: np.dtype[Any]) -> Special:
    """Return the table of special ids; those that the dtype does not have are nowhere."""
    return _table(tuple(map(int, ids)), dtype)


@functools.lru_cache(maxsize=32)
def _table(ids: tuple[int, ...], dtype: np.dtype[Any]) -> Special:
    limits = np.iinfo(dtype)
    inside = [n for n in ids if limits.min <= n <= limits.max]
    return special_ids(np.array(inside, dtype))
