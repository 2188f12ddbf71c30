"""The base classes of all layers: mode, key, count of forwards, settings and history.

`function_layer` derives layers of functions from it, `fused` those that keep a reference to their
input, and `rnn` the one for recurrent cells.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from .._check import arguments
from .._check.arguments import Training, check_state
from .._check.key import RNG, Key, as_key
from .._check.keywords import MISSING, raise_argument_error
from .history import ForwardKey, ForwardRun, History, ThreadHistory
from .settings import Absent, Setting, Settings, from_config, kept, shown, to_config

_L = TypeVar("_L", bound="Layer")


class Layer:
    """Base class of layers: mode, key, count of forwards, settings; saving, loading and repr.

    Threads may share a layer. Each training forward takes its own number from the count, and each
    thread has its own history of forwards.
    """

    # With slots, setting an attribute that does not exist is an error.
    __slots__ = ("__weakref__", "_key", "_history", "_numbers", "_settings", "_training")

    _declared: ClassVar[Mapping[str, Setting[Any]]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the settings of a class, and make ``__call__`` its forward."""
        super().__init_subclass__()
        cls._declared = {
            name: value
            for parent in reversed(cls.__mro__)
            for name, value in vars(parent).items()
            if isinstance(value, Setting)
        }
        if "forward" in vars(cls) and "__call__" not in vars(cls):
            cls.__call__ = vars(cls)["forward"]  # type: ignore[method-assign]

    def __init__(self, rng: RNG, unknown: Mapping[str, Any], **settings: Any) -> None:
        if unknown:
            raise_argument_error(self._public_name(), unknown)
        declared = self._declared
        for name, value in settings.items():
            setting = declared[name]
            if value is not setting.default:
                if value is MISSING:
                    raise_argument_error(self._public_name(), unknown, **settings)
                settings[name] = kept(setting.check(value))
        self._settings, self._key = Settings(settings), as_key(rng)
        self._numbers = itertools.count()  # next() is atomic
        self._history, self._training = History(), True

    keep_prob = Absent("p is the probability of dropping, 1 - keep_prob")
    rate = Absent("p is the probability of dropping")
    drop_prob = Absent("p is the probability of dropping")
    prob = Absent("p is the probability of dropping")
    mask = Absent(
        "it is not stored: that of the last forward is dropout_mask(x.shape, layer.p, "
        "rng=layer.key.advanced(layer.forwards - 1))"
    )

    @classmethod
    def _public_name(cls) -> str:
        """Return the name of the layer of this package that this is, or is derived from."""
        return next(filter(_is_ours, cls.__mro__)).__name__

    @property
    def training(self) -> bool:
        """Whether the layer is in training mode; True in a new layer."""
        return self._training

    @training.setter
    def training(self, mode: Training) -> None:
        self._training = arguments.in_training(mode)

    @property
    def key(self) -> Key:
        """The key that the masks are drawn from; accepts anything that `as_key` takes."""
        return self._key

    @key.setter
    def key(self, rng: RNG) -> None:
        self._key = as_key(rng)

    @property
    def forwards(self) -> int:
        """Number of training forwards so far."""
        # itertools.count shows its next value in its repr only.
        return int(repr(self._numbers)[len("count(") : -1])

    @forwards.setter
    def forwards(self, number: int) -> None:
        self._numbers = itertools.count(arguments.whole("forwards", number, 0))

    def train(self: _L, mode: Training = True) -> _L:
        """Set training mode (or evaluation, if `mode` is False), and return the layer."""
        self._training = arguments.flag("mode", mode)
        return self

    def eval(self: _L) -> _L:
        """Set evaluation mode, in which nothing is dropped, and return the layer."""
        self._training = False
        return self

    @contextlib.contextmanager
    def fixed(self: _L, n: int | None = None) -> Iterator[_L]:
        """Return a context in which all training forwards of this thread use the same mask.

        For numerical gradients, which evaluate the same function several times::

            with layer.fixed():
                loss(x)
                dx = layer.backward(dy)
                numerical = (loss(x + h) - loss(x - h)) / (2 * h)

        Other threads draw their own masks meanwhile. Backwards of forwards in the context must run
        in it: at its end, the history is what it was at its beginning.

        Parameters
        ----------
        n : int, optional
            Number of the forward whose mask is used, from 0: ``layer.forwards - 1`` is the last
            one. By default it is the next forward, and the count advances by one in all.

        Raises
        ------
        TypeError, ValueError
            If `n` is not an integer, or negative.
        """
        number = next(self._numbers) if n is None else arguments.whole("n", n, 0)
        history = self._history.of_this_thread()
        before, epoch = (history.fixed, history.runs, history.last), history.epoch
        history.fixed, history.runs, history.last = self._key.advanced(number), [], None
        try:
            yield self
        finally:
            history = self._history.of_this_thread()
            history.fixed, history.runs, history.last = before
            if history.epoch is not epoch:  # `forget` was called meanwhile
                history.clear(history.epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the state to save, so that a resumed training run draws the same masks.

        Returns
        -------
        dict
            The integers ``seed``, ``stream`` and ``forwards``; JSON holds them exactly.
        """
        return {"seed": self.key.seed, "stream": self.key.stream, "forwards": self.forwards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore a state that `state_dict` returned, and call `forget`.

        Raises
        ------
        ValueError
            If the entries are not those of `state_dict`, or out of range. Nothing has changed then.
        TypeError
            If it is no dict, or they are not integers.
        """
        check_state(state, ("forwards", "seed", "stream"))
        forwards = arguments.whole("forwards", state["forwards"], 0)
        self._key = Key(state["seed"], state["stream"])
        self.forwards = forwards
        self.forget()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments of this layer, as `from_config` takes them.

        Returns
        -------
        dict
            The settings, and the integers ``seed`` and ``stream`` of the key. It can be written
            as JSON: arrays of p are lists. The count of forwards is in `state_dict`.
        """
        settings = {name: to_config(value) for name, value in self._settings.items()}
        return {**settings, "seed": self._key.seed, "stream": self._key.stream}

    @classmethod
    def from_config(cls: type[_L], config: Mapping[str, Any]) -> _L:
        """Return a new layer from what `get_config` returned.

        Raises
        ------
        ValueError
            If a required entry is missing, or an entry is unknown.
        TypeError, ValueError
            If a value is invalid.
        """
        return cls(**from_config(cls._declared, config))

    def forget(self) -> None:
        """Clear the history of forwards in all threads; the count of forwards stays."""
        self._history.forget()

    def _mode(self, training: Training | None) -> bool:
        return self._training if training is None else arguments.in_training(training)

    def _next_key(self, history: ThreadHistory) -> ForwardKey:
        """Return the lazy key of the next forward."""
        return ForwardKey(self._key, self._numbers, history.fixed)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, with the history of this thread."""
        others = dict(getattr(self, "__dict__", {}))  # attributes of a user's subclass
        for cls in type(self).__mro__:
            if not _is_ours(cls):
                for name in _slots_of(cls):
                    if hasattr(self, name):
                        others[name] = getattr(self, name)
        return {
            "settings": self._settings,
            "key": self._key,
            "forwards": self.forwards,
            "training": self._training,
            "history": self._history.of_this_thread(),
            "others": others,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state that `__getstate__` returned."""
        self._settings, self._key = state["settings"], state["key"]
        self._numbers, self._training = itertools.count(state["forwards"]), state["training"]
        self._history = History()
        self._history.of_this_thread().copy_from(state["history"])
        for name, value in state["others"].items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        """Show the layer as a constructor call."""
        always: list[str] = []
        seldom: list[str] = []
        for name, value in self._settings.items():
            setting = self._declared[name]
            if setting.is_shown(value):
                (always if setting.is_required else seldom).append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join([*always, f'rng={self.key}', *seldom])})"


def _is_ours(cls: type) -> bool:
    """Return whether a class belongs to this package, or is `object`, which has no state."""
    return cls.__module__.partition(".")[0] in (__name__.partition(".")[0], "builtins")


def _slots_of(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


class PairedLayer(Layer):
    """A layer that records its forwards until their backwards, which run last in, first out."""

    __slots__ = ()

    @property
    def _pending(self) -> list[ForwardRun]:
        """The forwards of this thread whose backward has not run."""
        return self._history.of_this_thread().runs

    def _record(
        self,
        history: ThreadHistory,
        forward_key: ForwardKey,
        shape: tuple[int, ...],
        settings: Settings,
        kept: tuple[Any, ...] = (),
        more: Any = None,
    ) -> None:
        forward_key.key()  # takes the number if no kernel did, for an empty array
        history.record(
            ForwardRun(
                forward_key.number, shape, forward_key.base, settings, kept, more, forward_key.step
            )
        )
