"""Dropout around a recurrent cell: its input, its state and its output, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn, TypeAlias

import numpy as np

from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Training
from .._check.key import RNG, Key
from .._check.keywords import checks_keywords
from .._functions.dropout import dropout
from .base import Layer
from .settings import Setting

State: TypeAlias = Any  # an array, or a tuple of states
_INPUT, _OUTPUT, _STATE = 0, 1, 2  # which key is folded out of a pass's: states go on from 2


def _drop_state(value: Any) -> tuple[bool, ...] | None:
    if value is None:
        return None
    if not isinstance(value, tuple | list):
        raise TypeError(
            detect.described("drop_state", value)
            + ": give a tuple of True and False, one for each member of the state"
        )
    return tuple(arguments.flag(f"drop_state[{i}]", v) for i, v in enumerate(value))


class RNNDropout(Layer):
    """Dropout of a recurrent cell's input, state and output, with backward through time.

    Each of the three has its own masks. Variational dropout locks them: a sequence has one mask for
    all of its steps [1]_. Otherwise each step draws its own. Either way a mask is a function of the
    pass and the number of the step, so that **the backward of a step is the same call** on its
    gradient, in any order, and nothing is stored.

    Parameters
    ----------
    input_p, output_p, state_p : float
        Probabilities of **dropping** an element, in [0, 1]. What has 0 is passed on as it is.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        What the masks are drawn from, see `as_key`.
    variational : bool
        Whether all steps of a sequence have the same mask.
    share_batch : bool
        Whether all sequences of a batch (along axis 0) have the same mask, as TensorFlow's
        variational dropout has it. In [1]_ each has its own, which is the default.
    drop_state : tuple of bool, optional
        Which members of a tuple of states are dropped. An LSTM's memory cell must not be: without
        this, a tuple of two is ``(c, h)``, of which h alone is dropped, and a named tuple with the
        fields c and h may have any order. For PyTorch's order (h, c) give ``(True, False)``.

    Attributes
    ----------
    forwards : int
        Training passes so far. The n-th, from 0, draws from ``Key(seed, (stream + n) mod 2**64)``.
    training, key
        As in `Dropout`.

    Notes
    -----
    tf.compat.v1.nn.rnn_cell.DropoutWrapper: the state is dropped as it leaves a step, for the next
    one; the output is that of the cell, before its state was dropped, and has a mask of its own.

    A pass is whatever lies between two calls of `begin`: forward and backward through time of one
    batch of sequences. Two that are under way at once in one thread need two of these; threads that
    share one have passes of their own.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent
       neural networks", NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> rnn = fd.RNNDropout(0.2, 0.2, 0.5, rng=1, variational=True)
    >>> xs, W = np.ones((4, 2, 8)), np.full((8, 8), 0.1)
    >>> rnn.begin()
    >>> h = np.zeros((2, 8))
    >>> for t, x in enumerate(xs):
    ...     h = np.tanh(rnn.input(x, t) @ W + h)
    ...     y = rnn.output(h, t)
    ...     h = rnn.state(h, t)

    and back, ``dy`` being the gradient of y and ``dh`` that of the state that left step t::

        for t in reversed(range(len(xs))):
            dh = rnn.state_backward(dh, t) + rnn.output_backward(dys[t], t)
            ...
            dxs[t] = rnn.input_backward(dinput, t)
    """

    __slots__ = ()

    input_p = Setting(partial(arguments.probability, name="input_p"))
    output_p = Setting(partial(arguments.probability, name="output_p"))
    state_p = Setting(partial(arguments.probability, name="state_p"))
    variational = Setting(partial(arguments.flag, "variational"), default=False)
    share_batch = Setting(partial(arguments.flag, "share_batch"), default=False)
    drop_state = Setting(_drop_state, default=None)

    @checks_keywords
    def __init__(
        self,
        input_p: float = 0.0,
        output_p: float = 0.0,
        state_p: float = 0.0,
        *,
        rng: RNG = None,
        variational: bool = False,
        share_batch: bool = False,
        drop_state: tuple[bool, ...] | None = None,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(
            rng,
            unknown,
            input_p=input_p,
            output_p=output_p,
            state_p=state_p,
            variational=variational,
            share_batch=share_batch,
            drop_state=drop_state,
        )

    def begin(self, training: Training | None = None) -> None:
        """Begin the pass of a new batch of sequences, with new masks.

        Parameters
        ----------
        training : bool, optional
            Overrides the mode for this pass.
        """
        history = self._history.of_this_thread()
        key = self._next_key(history).key() if self._mode(training) else None
        history.begun = _Pass(key, self._settings)

    def input(self, x: ArrayLike, t: int) -> Array:
        """Return the cell's input of step t: `x`, of shape (batch, ...), dropped.

        In evaluation, `x` itself. Raises RuntimeError before the first `begin`.
        """
        y: Array = self._begun().dropped(x, t, "input_p", _INPUT)
        return y

    def output(self, y: ArrayLike, t: int) -> Array:
        """Return what step t puts out: the cell's output, dropped."""
        dropped: Array = self._begun().dropped(y, t, "output_p", _OUTPUT)
        return dropped

    def state(self, state: State, t: int) -> State:
        """Return the state with which step t is left, dropped: an array, or a tuple as given.

        Tuples of tuples, as of stacked cells, are gone through. Raises ValueError for a tuple of
        which it is not known what to drop, see `drop_state`.
        """
        return self._begun().state(state, t, _STATE)[0]

    def input_backward(self, dy: ArrayLike, t: int) -> Array:
        """Return the gradient of `input`'s argument in step t from that of its result."""
        return self.input(dy, t)

    def output_backward(self, dy: ArrayLike, t: int) -> Array:
        """Return the gradient of `output`'s argument in step t from that of its result."""
        return self.output(dy, t)

    def state_backward(self, dstate: State, t: int) -> State:
        """Return the gradient of `state`'s argument in step t from that of its result."""
        return self.state(dstate, t)

    def _begun(self) -> _Pass:
        begun: _Pass | None = self._history.of_this_thread().begun
        if begun is None:
            raise RuntimeError(
                "no pass has begun in this thread: call begin() before the first step of each one"
            )
        return begun


class _Pass:
    """One batch of sequences: what its masks are drawn from, and how."""

    def __init__(self, key: Key | None, settings: Mapping[str, Any]) -> None:
        self.key, self.settings = key, settings
        self.keys: dict[int, Key] = {}  # of the parts that have been asked for

    def dropped(self, x: Any, t: Any, p_name: str, part: int) -> Any:
        step = arguments.whole("t", t, 0)
        p = self.settings[p_name]
        if self.key is None or p == 0:
            return x
        if part not in self.keys:
            self.keys[part] = self.key.fold_in(part)
        noise = (1, *(None,) * (len(np.shape(x)) - 1)) if self.settings["share_batch"] else None
        key = self.keys[part].advanced(0 if self.settings["variational"] else step)
        return dropout(x, p, rng=key, noise_shape=noise)

    def state(self, state: Any, t: Any, part: int) -> tuple[Any, int]:
        """Return a state dropped, and the number of the part that comes after it."""
        if isinstance(state, list):
            raise TypeError("the state is a list: give a tuple of states, or an array")
        if not isinstance(state, tuple):
            return self.dropped(state, t, "state_p", part), part + 1
        flags = [True] * len(state)
        if not any(isinstance(member, tuple) for member in state):
            flags = self.which(state)
        members = []
        for member, flag in zip(state, flags, strict=True):
            new, following = self.state(member, t, part)
            members.append(new if flag else member)
            part = following
        made = state._make(members) if hasattr(state, "_make") else tuple(members)
        return made, part

    def which(self, state: tuple[Any, ...]) -> list[bool]:
        """Return which members of a tuple of arrays are dropped."""
        given = self.settings["drop_state"]
        fields = getattr(state, "_fields", ())
        if given is not None:
            if len(given) != len(state):
                raise ValueError(
                    f"drop_state={given} has {len(given)} entries, and the state {len(state)}"
                )
            return list(given)
        if {"c", "h"} <= set(fields):
            return [name != "c" for name in fields]
        if len(state) == 2:
            return [False, True]
        raise ValueError(
            f"the state is a tuple of {len(state)}, and not (c, h): say with drop_state which of "
            "them to drop"
        )
