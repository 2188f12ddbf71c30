"""Dropout of a recurrent cell's input, state and output, with variational masks as an option.

`RNNDropout` derives the key of each mask from the pass, the part and the step, and calls `dropout`.
"""

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
_INPUT, _OUTPUT, _STATE = 0, 1, 2  # arguments of fold_in on a pass's key; states count from 2 on


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
    """Dropout of a recurrent cell's input, state and output, with backpropagation through time.

    Each of the three has its own masks. Variational dropout locks them: a sequence has one mask for
    all of its steps [1]_. Otherwise each step has its own. In both cases a mask is a function of
    the pass and the number of the step. So **the backward of a step is the same call** on its
    gradient, in any order, and nothing is stored.

    Parameters
    ----------
    input_p, output_p, state_p : float
        Probabilities of **dropping** an element, in [0, 1]. With 0, the array is returned as it is.
    rng : Key, int, Generator, numpy.random, or anything else that `as_key` takes
        The masks are drawn from it, see `as_key`.
    variational : bool
        Whether all steps of a sequence have the same mask.
    share_batch : bool
        Whether all sequences of a batch (along axis 0) have the same mask, as in TensorFlow's
        variational dropout. In [1]_ each has its own, which is the default.
    drop_state : tuple of bool, optional
        Which members of a tuple of states are dropped. An LSTM's memory cell must not be. By
        default a tuple of two is ``(c, h)``, of which only h is dropped, and a named tuple with the
        fields c and h may have any order. For PyTorch's order (h, c) give ``(True, False)``.

    Attributes
    ----------
    forwards : int
        Number of training passes so far. Pass n, from 0, uses
        ``Key(seed, (stream + n) mod 2**64)``.
    training, key
        As in `Dropout`.

    Notes
    -----
    As in tf.compat.v1.nn.rnn_cell.DropoutWrapper, the state is dropped after a step, for the next
    one; the output is that of the cell before its state is dropped, and has its own mask.

    A pass lasts from one call of `begin` to the next: forward and backward through time of one
    batch of sequences. Two interleaved passes in one thread need two layers; threads that share a
    layer have their own passes.

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

    and the backward, with ``dys[t]`` the gradient with respect to the output y of step t, and
    ``dh`` that with respect to its state::

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
        """Begin the pass over a new batch of sequences, with new masks.

        Parameters
        ----------
        training : bool, optional
            Overrides the mode for this pass.
        """
        history = self._history.of_this_thread()
        key = self._next_key(history).key() if self._mode(training) else None
        history.begun = _Pass(key, self._settings)

    def input(self, x: ArrayLike, t: int) -> Array:
        """Apply dropout to the cell's input `x` of step t, of shape (batch, ...).

        Returns `x` itself in evaluation. Raises RuntimeError before the first `begin`.
        """
        y: Array = self._begun().dropped(x, t, "input_p", _INPUT)
        return y

    def output(self, y: ArrayLike, t: int) -> Array:
        """Apply dropout to the cell's output of step t."""
        dropped: Array = self._begun().dropped(y, t, "output_p", _OUTPUT)
        return dropped

    def state(self, state: State, t: int) -> State:
        """Apply dropout to the state after step t: an array, or a tuple of states.

        Nested tuples, as of stacked cells, are traversed. Raises ValueError for a tuple whose
        members to drop are unknown, see `drop_state`.
        """
        return self._begun().state(state, t, _STATE)[0]

    def input_backward(self, dy: ArrayLike, t: int) -> Array:
        """Return the gradient with respect to the argument of `input` in step t."""
        return self.input(dy, t)

    def output_backward(self, dy: ArrayLike, t: int) -> Array:
        """Return the gradient with respect to the argument of `output` in step t."""
        return self.output(dy, t)

    def state_backward(self, dstate: State, t: int) -> State:
        """Return the gradient with respect to the argument of `state` in step t."""
        return self.state(dstate, t)

    def _begun(self) -> _Pass:
        begun: _Pass | None = self._history.of_this_thread().begun
        if begun is None:
            raise RuntimeError(
                "no pass has begun in this thread: call begin() before the first step of each one"
            )
        return begun


class _Pass:
    """A pass over one batch of sequences: the key of its masks, and the settings."""

    def __init__(self, key: Key | None, settings: Mapping[str, Any]) -> None:
        self.key, self.settings = key, settings
        self.keys: dict[int, Key] = {}  # of the parts used so far

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
        """Apply dropout to a state; also return the number of the next part."""
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
        result = state._make(members) if hasattr(state, "_make") else tuple(members)
        return result, part

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
