"""A collator for masked-token training: it pads sequences of tokens, and masks them.

`TokenCollator` is public. It calls `mask_tokens`, by a key of each sample or of each step.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from .._check import arguments, detect
from .._check.arguments import Array
from .._check.key import RNG, Key, as_key
from .._check.keywords import checks_keywords, raise_argument_error
from .keys import sample_keys
from .token_samples import (
    OURS,
    as_tensors,
    checked_sample,
    entry,
    moved_right,
    padded,
    special_places,
)
from .tokens import P_MEANS, mask_tokens

SampleIndex: TypeAlias = str | Callable[[Any], int] | None
_IDS = 1 << 63  # ids of batches are int64
_STATE = ("seed", "stream", "step", "epoch")


class TokenCollator:
    """Pad sequences of tokens to a batch, and mask them: BERT's rule, as `mask_tokens` has it.

    It takes the arguments of the transformers package's ``DataCollatorForLanguageModeling``, and
    returns what that returns. What is masked depends on `rng`, and on the number of the step or,
    with `sample_index`, on the number of the sample.

    Parameters
    ----------
    tokenizer : object, optional
        Anything with the attributes ``pad_token_id``, ``mask_token_id`` and ``all_special_ids``, of
        which ``len`` is the size of the vocabulary.
    mlm : bool
        Must be True.
    mlm_probability : float
        Probability that a token is chosen, in [0, 1].
    mask_replace_prob, random_replace_prob : float
        Shares of the chosen tokens that become the mask token, and a random token. The others stay.
    pad_to_multiple_of : int, optional
        Pad to a multiple of it.
    return_tensors : {"np", "pt"}
        NumPy's arrays, or PyTorch's tensors.
    rng : Key, int, Generator, or anything else that `as_key` takes
        The key, which is taken here, once.
    sample_index : str or callable, optional
        The name under which samples, which are dicts then, have their numbers, or a function that
        returns the number of a sample. A sample is masked by ``rng.fold_in(epoch).fold_in(number)``
        then, so it is masked alike in whatever batch and process it appears. Without it, a batch is
        masked by ``rng.fold_in(step)``; steps are counted, in one process alone.
    mask_id, pad_id, vocab_size : int, optional
        Without a tokenizer, or instead of what it says.
    special : sequence of int, optional
        The ids of special tokens, likewise. Tokens that are padding are special in any case.
    padding_side : {"right", "left"}, optional
        By default that of the tokenizer, else "right".

    Attributes
    ----------
    step : int
        Number of batches so far; of the next batch, if there is no `sample_index`.
    epoch : int
        What `set_epoch` was given, 0 at first.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, out of range or missing.

    Examples
    --------
    >>> import fastdrop as fd
    >>> collate = fd.TokenCollator(mask_id=1, pad_id=0, vocab_size=100, special=[2, 3], rng=6)
    >>> batch = collate([[2, 10, 11, 12, 3], [2, 20, 3]])
    >>> batch["attention_mask"]
    array([[1, 1, 1, 1, 1],
           [1, 1, 1, 0, 0]])
    >>> sorted(batch)
    ['attention_mask', 'input_ids', 'labels']
    """

    @checks_keywords
    def __init__(
        self,
        tokenizer: Any = None,
        mlm: bool = True,
        mlm_probability: float = 0.15,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "np",
        *,
        rng: RNG = None,
        sample_index: SampleIndex = None,
        mask_id: int | None = None,
        pad_id: int | None = None,
        vocab_size: int | None = None,
        special: Sequence[int] | None = None,
        padding_side: str | None = None,
        **unknown: NoReturn,
    ) -> None:
        """Check the arguments."""
        if unknown:
            raise_argument_error("TokenCollator", unknown)
        if not arguments.flag("mlm", mlm):
            raise ValueError("mlm=False masks nothing: use a collator that only pads")
        self.mlm_probability = arguments.probability(
            mlm_probability, "mlm_probability", meaning=P_MEANS
        )
        self._replace = _shares(mask_replace_prob, random_replace_prob)
        self.pad_to_multiple_of = (
            None
            if pad_to_multiple_of is None
            else arguments.whole("pad_to_multiple_of", pad_to_multiple_of, 1)
        )
        self.return_tensors = arguments.choice("return_tensors", return_tensors, ("np", "pt"))
        if sample_index is not None and not isinstance(sample_index, str):
            if not callable(sample_index):
                raise TypeError(
                    f"{detect.described('sample_index', sample_index)}: give the name under which "
                    "samples have their numbers, or a function of a sample"
                )
        self._sample_index = sample_index
        self._mask_id = _number("mask_id", mask_id, tokenizer, "mask_token_id")
        pad = _number("pad_id", pad_id, tokenizer, "pad_token_id", required=False)
        self._vocab_size = _vocabulary(vocab_size, tokenizer)
        if special is None:
            special = getattr(tokenizer, "all_special_ids", ())
        arguments.reject_rng("special", special)
        if not isinstance(special, Iterable):
            raise TypeError(f"{detect.described('special', special)}: give the ids of tokens")
        self._special = [arguments.integer("special", n) for n in special]
        if pad is not None and not -_IDS <= pad < _IDS:
            raise ValueError(f"pad_id={detect.short(pad)} is not in int64: give another id")
        if pad is not None and pad not in self._special:
            self._special.append(pad)
        self._pad_id = pad
        if padding_side is None:
            padding_side = getattr(tokenizer, "padding_side", "right")
        self._side = arguments.choice("padding_side", padding_side, ("right", "left"))
        # What mask_tokens refuses, it refuses here and not in the first batch.
        mask_tokens(np.empty(0, np.int64), **self._rule(), rng=0)
        self._key, self.step, self._process = as_key(rng), 0, os.getpid()
        self._epoch: Any = None if sample_index is None else _shared_number(0)

    def __repr__(self) -> str:
        """Return the key, and how it is used."""
        how = "step" if self._sample_index is None else f"{self._sample_index!r}"
        return f"TokenCollator(p={self.mlm_probability}, rng={self._key}, by {how})"

    @property
    def key(self) -> Key:
        """The key that masks are made of."""
        return self._key

    @property
    def epoch(self) -> int:
        """The number of the epoch, with which the key is folded if there is a `sample_index`."""
        return 0 if self._epoch is None else int(self._epoch.value)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch, so that samples are masked otherwise than in others.

        To be called before the epoch's first batch is asked for. Processes that a DataLoader has
        started know it too.

        Raises
        ------
        RuntimeError
            If there is no `sample_index`: then steps are counted, and all differ.
        """
        if self._sample_index is None:
            raise RuntimeError(
                "this collator counts steps, which go on through all epochs: leave set_epoch out, "
                "or give sample_index"
            )
        self._epoch.value = _in_fold("epoch", epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the state to save: the integers ``seed``, ``stream``, ``step`` and ``epoch``."""
        words = self._key.seed, self._key.stream, self.step, self.epoch
        return dict(zip(_STATE, words, strict=True))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore a state that `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If the entries are not those of `state_dict`, or out of range.
        """
        arguments.check_state(state, _STATE)
        step, epoch = (_in_fold(name, state[name]) for name in ("step", "epoch"))
        if epoch and self._epoch is None:
            raise ValueError(
                f"epoch={epoch} is of a collator with sample_index, and this one has none: give a "
                "state of one without"
            )
        self._key, self.step = Key(state["seed"], state["stream"]), step
        if self._epoch is not None:
            self._epoch.value = epoch

    def __call__(
        self, features: Sequence[Any], return_tensors: str | None = None
    ) -> dict[str, Any]:
        """Return a batch of samples.

        Parameters
        ----------
        features : sequence
            The samples: sequences of tokens, or dicts with ``input_ids`` and, if wanted,
            ``attention_mask``, ``special_tokens_mask`` and others. Tokens whose attention mask is 0
            or whose special mask is not 0 are never chosen; without a special mask, those that are
            special by their id are not. Other entries are padded with 0 if they are as long as the
            tokens, and stacked if they are numbers.
        return_tensors : {"np", "pt"}, optional
            As of the constructor.

        Returns
        -------
        dict
            ``input_ids``, ``attention_mask`` and ``labels``, of shape (samples, length) and dtype
            int64, and other entries of the samples.

        Raises
        ------
        RuntimeError
            Without `sample_index`, in a worker of a DataLoader, or in another process that was
            forked: its copy would count the steps that others count too, and masks would repeat.
        TypeError, ValueError
            If samples are not as described.
        """
        kind = self.return_tensors if return_tensors is None else return_tensors
        arguments.choice("return_tensors", kind, ("np", "pt"))
        samples = [checked_sample(k, feature) for k, feature in enumerate(features)]
        if not samples:
            raise ValueError("features is empty: give at least one sample")
        key: Any = self._step_key() if self._sample_index is None else self._keys(features)
        lengths = np.array([len(sample["input_ids"]) for sample in samples])
        width = self._width(lengths)
        ids = padded([sample["input_ids"] for sample in samples], width, self._pad_id or 0)
        batch = self._others(samples, lengths, width)
        special = special_places(samples, ids, batch["attention_mask"], width, self._special)
        rule = {**self._rule(), "special": self._special if special is None else special}
        inputs, labels = mask_tokens(ids, **rule, rng=key, out=ids)
        batch = {"input_ids": inputs, **batch, "labels": labels}
        if self._side == "left":
            batch = {
                name: moved_right(array, lengths) if array.ndim == 2 else array
                for name, array in batch.items()
            }
        self.step += 1
        return as_tensors(batch) if kind == "pt" else batch

    def _rule(self) -> dict[str, Any]:
        """Return the arguments of `mask_tokens`."""
        rule = {"p": self.mlm_probability, "replace": self._replace, "special": self._special}
        return {**rule, "mask_id": self._mask_id, "vocab_size": self._vocab_size}

    def _step_key(self) -> Key:
        """Return the key of the step; refuse where copies of this count the same steps."""
        data = sys.modules.get("torch.utils.data")
        worker = None if data is None else data.get_worker_info()
        if worker is not None or os.getpid() != self._process:
            where = "another process" if worker is None else f"worker {worker.id} of a DataLoader"
            raise RuntimeError(
                f"this TokenCollator counts steps, and a copy of it runs in {where}: copies would "
                "count the same steps, and masks repeat. Give sample_index, the numbers of "
                "samples; or collate in one process, which num_workers=0 does; or in a process "
                "that you start, make a collator with rng=key.fold_in(number of the process)"
            )
        return self._key.fold_in(self.step)

    def _keys(self, features: Sequence[Any]) -> npt.NDArray[np.uint64]:
        """Return the key of each sample."""
        of, numbers = self._sample_index, []
        for k, feature in enumerate(features):
            if callable(of):
                number = of(feature)
            elif isinstance(feature, Mapping) and of in feature:
                number = feature[of]
            else:
                raise ValueError(
                    f"features[{k}] has no {of!r}, the number of the sample: let the data set give "
                    "it, such as {'input_ids': ids[i], " + f"{of!r}: i" + "}"
                )
            numbers.append(_in_fold(f"sample_index of features[{k}]", _item(number)))
        return sample_keys(self._key.fold_in(self.epoch), numbers)

    def _width(self, lengths: Array) -> int:
        """Return the length to which samples are padded."""
        width = int(lengths.max())
        if self.pad_to_multiple_of:
            width = math.ceil(width / self.pad_to_multiple_of) * self.pad_to_multiple_of
        if self._pad_id is None and (lengths != width).any():
            raise ValueError(
                f"samples have {int(lengths.min())} to {int(lengths.max())} tokens, and are padded "
                f"to {width}: give pad_id, or a tokenizer with a pad_token_id"
            )
        return width

    def _others(self, samples: list[dict[str, Any]], lengths: Array, width: int) -> dict[str, Any]:
        """Return the entries of samples beside the tokens, as arrays."""
        made: dict[str, Any] = {}
        if any("attention_mask" in sample for sample in samples):
            made["attention_mask"] = entry("attention_mask", samples, lengths, width)
        else:
            made["attention_mask"] = (np.arange(width) < lengths[:, None]).astype(np.int64)
        index = self._sample_index
        for name in samples[0]:
            if name not in OURS and name != index:
                made[name] = entry(name, samples, lengths, width)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled; processes that are being started share the epoch."""
        state = self.__dict__.copy()
        spawning = sys.modules.get("multiprocessing.context")
        if self._epoch is not None and not (spawning and spawning.get_spawning_popen()):
            state["_epoch"] = self.epoch
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled, in this process."""
        self.__dict__.update(state)
        self._process = os.getpid()
        if isinstance(self._epoch, int):
            self._epoch = _shared_number(self._epoch)


def _shared_number(number: int) -> Any:
    """Return a number that processes share which are started from now on."""
    from multiprocessing.sharedctypes import RawValue

    return RawValue("Q", number)


def _shares(masked: Any, random: Any) -> tuple[float, float, float]:
    share = "the share of chosen tokens that becomes"
    first = arguments.probability(masked, "mask_replace_prob", meaning=f"{share} the mask token")
    second = arguments.probability(random, "random_replace_prob", meaning=f"{share} a random token")
    rest = 1.0 - (first + second)
    if rest < -1e-9:
        raise ValueError(
            f"mask_replace_prob={masked!r} and random_replace_prob={random!r} have a sum above 1: "
            "they are shares of the chosen tokens"
        )
    return first, second, rest if rest > 1e-9 else 0.0


def _number(
    name: str, given: Any, tokenizer: Any, attribute: str, required: bool = True
) -> int | None:
    """Return an id that was given, or that of the tokenizer."""
    value = getattr(tokenizer, attribute, None) if given is None else given
    if value is None:
        if required:
            raise ValueError(f"{name} is missing: give it, or a tokenizer with a {attribute}")
        return None
    return arguments.integer(name, value)


def _vocabulary(given: Any, tokenizer: Any) -> int:
    if given is not None:
        return arguments.integer("vocab_size", given)
    if not hasattr(tokenizer, "__len__"):
        raise ValueError("vocab_size is missing: give it, or a tokenizer that has a length")
    return len(tokenizer)


def _in_fold(name: str, value: Any) -> int:
    number = arguments.whole(name, value, 0)
    if number >= 1 << 62:
        raise ValueError(
            f"{name}={detect.short(number)} is out of range: it is folded in, so below 2**62"
        )
    return number


def _item(number: Any) -> Any:
    """Return the integer in an array without axes, of NumPy or PyTorch."""
    return number.item() if hasattr(number, "item") and not getattr(number, "ndim", 0) else number
