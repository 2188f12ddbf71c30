"""What all layers have in common: a mode, a key, a count of forwards, and forwards to go back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from . import _arguments as arguments
from . import _libraries as libraries
from ._arguments import Array, ArrayLike
from ._forwards import Backward, Memories, Memory, Run, Turn
from ._key import RNG, Key, as_key
from ._laws import EXPRESS
from ._settings import Absent, Setting, Settings, from_config, kept, shown, to_config

_L = TypeVar("_L", bound="Layer")
_WORD = (1 << 64) - 1
_ndarray, _empty = np.ndarray, np.empty


class Layer:
    """A mode, a key, a count of forwards, and settings: what a layer saves, and what it shows.

    Threads may share a layer. Each training forward takes a number of its own from the count, and
    what has to go back is remembered by thread.
    """

    # So that an attribute that no layer has cannot be set by mistake.
    __slots__ = ("__weakref__", "_key", "_memories", "_numbers", "_settings", "_training")

    _declared: ClassVar[Mapping[str, Setting[Any]]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the settings of a class, and let its call be its forward."""
        super().__init_subclass__()
        cls._declared = {
            name: value
            for parent in reversed(cls.__mro__)
            for name, value in vars(parent).items()
            if isinstance(value, Setting)
        }
        if "forward" in vars(cls) and "__call__" not in vars(cls):
            cls.__call__ = vars(cls)["forward"]  # type: ignore[method-assign]

    def __init__(self, rng: RNG, **settings: Any) -> None:
        declared = self._declared
        for name, value in settings.items():
            setting = declared[name]
            if value is not setting.default:
                settings[name] = kept(setting.check(value))
        self._settings, self._key = Settings(settings), as_key(rng)
        self._numbers = itertools.count()  # the next is taken atomically
        self._memories, self._training = Memories(), True

    keep_prob = Absent("p is the probability of dropping, 1 - keep_prob")
    rate = Absent("p is the probability of dropping")
    drop_prob = Absent("p is the probability of dropping")
    prob = Absent("p is the probability of dropping")
    mask = Absent("it is not stored: dropout_mask(x.shape, p, rng=key) draws it")

    @property
    def training(self) -> bool:
        """The mode: whether forwards drop out; True in a new layer."""
        return self._training

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = arguments.in_training(mode)

    @property
    def key(self) -> Key:
        """What the masks are drawn from; anything that `as_key` takes may be set."""
        return self._key

    @key.setter
    def key(self, rng: RNG) -> None:
        self._key = as_key(rng)

    @property
    def forwards(self) -> int:
        """Training forwards so far."""
        # A count says what comes next in its representation alone.
        return int(repr(self._numbers)[len("count(") : -1])

    @forwards.setter
    def forwards(self, number: int) -> None:
        self._numbers = itertools.count(arguments.whole("forwards", number, 0))

    def train(self: _L, mode: bool = True) -> _L:
        """Set training mode (or evaluation, if `mode` is False), and return the layer."""
        self._training = arguments.flag("mode", mode)
        return self

    def eval(self: _L) -> _L:
        """Set evaluation mode, in which nothing is dropped, and return the layer."""
        self._training = False
        return self

    @contextlib.contextmanager
    def fixed(self: _L, n: int | None = None) -> Iterator[_L]:
        """Return a context in which all training forwards of this thread draw one mask.

        For numerical gradients, which need the same function at each evaluation::

            with layer.fixed():
                loss(x)
                dx = layer.backward(dy)
                numerical = (loss(x + h) - loss(x - h)) / (2 * h)

        Other threads draw their own masks meanwhile. Forwards in the context go back in it; those
        that have not are forgotten at its end, and the ones before it are as they were.

        Parameters
        ----------
        n : int, optional
            Number of the forward whose mask is drawn, from 0: ``layer.forwards - 1`` is the last
            one. Without it, that is the next forward, and the count moves on by one in all.

        Raises
        ------
        TypeError, ValueError
            If `n` is not an integer, or negative.
        """
        number = next(self._numbers) if n is None else arguments.whole("n", n, 0)
        memory = self._memories.own()
        before = memory.fixed, memory.runs, memory.last
        memory.fixed, memory.runs, memory.last = self._key.advanced(number), [], None
        try:
            yield self
        finally:
            memory.fixed, memory.runs, memory.last = before

    def state_dict(self) -> dict[str, int]:
        """Return what has to be saved so that a resumed run draws the same masks.

        Returns
        -------
        dict
            The integers ``seed``, ``stream`` and ``forwards``; JSON holds them exactly.
        """
        return {"seed": self.key.seed, "stream": self.key.stream, "forwards": self.forwards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state that `state_dict` returned; forwards not gone back are forgotten.

        Raises
        ------
        ValueError
            If the entries are not those of `state_dict`, or out of range.
        TypeError
            If they are no integers.
        """
        expected = {"seed", "stream", "forwards"}
        if not isinstance(state, dict) or set(state) != expected:
            given = sorted(map(str, state)) if isinstance(state, dict) else libraries.kind_of(state)
            raise ValueError(f"state has {given}, and a state_dict has {sorted(expected)}")
        forwards = arguments.whole("forwards", state["forwards"], 0)
        self._key = Key(state["seed"], state["stream"])
        self.forwards = forwards
        self.forget()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, as `from_config` takes them.

        Returns
        -------
        dict
            The settings, and the integers ``seed`` and ``stream`` of the key. JSON holds all of
            it: arrays of p are lists. The count of forwards is in `state_dict`.
        """
        settings = {name: to_config(value) for name, value in self._settings.items()}
        return {**settings, "seed": self._key.seed, "stream": self._key.stream}

    @classmethod
    def from_config(cls: type[_L], config: Mapping[str, Any]) -> _L:
        """Return a new layer from what `get_config` returned.

        Raises
        ------
        ValueError
            If an entry is missing that the layer needs, or is none that it has.
        TypeError, ValueError
            If a value is none that the layer takes.
        """
        return cls(**from_config(cls._declared, config))

    def forget(self) -> None:
        """Forget the forwards of all threads that have not gone back; the count stays."""
        self._memories.forget()

    def _mode(self, training: bool | None) -> bool:
        return self._training if training is None else arguments.in_training(training)

    def _turn(self, memory: Memory) -> Turn:
        """Return the key of the next forward, which takes its number when it is asked for."""
        return Turn(self._key, self._numbers, memory.fixed)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: of the forwards to go back, those of this thread."""
        return {
            "settings": self._settings,
            "key": self._key,
            "forwards": self.forwards,
            "training": self._training,
            "memory": self._memories.own(),
            "others": getattr(self, "__dict__", {}),  # of a class that is not ours
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy of what `__getstate__` returned."""
        self._settings, self._key = state["settings"], state["key"]
        self._numbers, self._training = itertools.count(state["forwards"]), state["training"]
        self._memories = Memories()
        self._memories.own().take_over(state["memory"])
        for name, value in state["others"].items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        """Show the layer as it can be written in code."""
        always: list[str] = []
        seldom: list[str] = []
        for name, value in self._settings.items():
            setting = self._declared[name]
            if setting.is_shown(value):
                (always if setting.is_required else seldom).append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join([*always, f'rng={self.key}', *seldom])})"


class PairedLayer(Layer):
    """A layer whose forwards are remembered until they go back, the last one first."""

    __slots__ = ()

    @property
    def _pending(self) -> list[Run]:
        """The forwards of this thread that have not gone back."""
        return self._memories.own().runs

    def _remember(
        self,
        memory: Memory,
        turn: Turn,
        shape: tuple[int, ...],
        settings: Settings,
        kept: tuple[Any, ...] = (),
        more: Any = None,
    ) -> None:
        turn.key()  # nothing was drawn of an empty array
        memory.remember(Run(turn.number, shape, turn.base, settings, kept, more, turn.step))


class FunctionLayer(PairedLayer):
    """A function as a layer: each forward draws a new mask, and its backward the same one again.

    A subclass says which function, ``function(x, *, rng, training, **settings)``, and which its
    backward is where that is another, ``function(dy, *, rng, training, **settings)``.
    """

    __slots__ = ()

    _function: ClassVar[Callable[..., Array]]
    _backward_function: ClassVar[Callable[..., Array] | None] = None

    inplace = Setting(lambda value: arguments.flag("inplace", value), default=False)

    def forward(self, x: ArrayLike, training: bool | None = None) -> Array:
        """Apply the layer to `x` in training; return `x` itself in evaluation.

        Parameters
        ----------
        x : array_like
            As in the layer's function, on the CPU or a GPU; written to only if the layer is
            `inplace`.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`; `x` if the layer is `inplace`, and in
            evaluation.
        """
        settings, memory = self._settings, self._memories.own()
        training = self._training if training is None else arguments.in_training(training)
        # The usual call of `Dropout` goes straight to compiled code, as that of `dropout` does.
        if training and type(x) is _ndarray and memory.fixed is None:
            law = settings.laws.get(x.dtype)
            if law is not None and (run := law.kernel(x.nbytes)) is not None:
                y, key, n = _empty(x.shape, x.dtype), self._key, next(self._numbers)
                words = key[0], (key[1] + n) & _WORD
                if run(id(x), id(y), law.record_at, 0, *words):
                    memory.remember_plain(n, y.shape, key, settings, law)
                    return y
                return self._drop(x, memory, Turn(key, iter((n,))))
        if not training:
            return self._function(x, rng=None, training=False, **settings.arguments)
        return self._drop(x, memory, self._turn(memory))

    __call__ = forward

    def _drop(self, x: ArrayLike, memory: Memory, turn: Turn) -> Array:
        """Apply the function in training, and remember that."""
        settings = self._settings
        out = {"out": x} if settings["inplace"] else {}
        y = self._function(x, rng=turn, training=True, **settings.arguments, **out)
        self._remember(memory, turn, y.shape, settings)
        if (plain := self._plain(settings)) is not None and type(x) is _ndarray:
            law = EXPRESS.get((*plain, x.dtype))
            if law is not None:
                settings.laws[x.dtype] = law
        return y

    def _plain(self, settings: Settings) -> tuple[float, float | None] | None:
        """Return p and scale where forward and backward are plain calls of `dropout`."""
        return None

    def backward(self, dy: ArrayLike) -> Array:
        """Return the gradient of this thread's last training forward that has not yet gone back.

        Forwards in evaluation do not count. In evaluation mode, where no training forward is left,
        this returns `dy` itself; after training forwards that are not to go back, as in Monte Carlo
        dropout, call `forget` first. Where backwards come in another order than the reverse of the
        forwards, as of the two batches of a GAN's step, use `vjp`.

        Parameters
        ----------
        dy : array_like
            Gradient of the forward's output, of its shape.

        Returns
        -------
        ndarray
            Gradient of its input: the same mask, drawn again, and the same scale.

        Raises
        ------
        RuntimeError
            If no training forward is left, in training mode.
        ValueError
            If `dy` has another shape than that forward's output.
        """
        memory = self._memories.own()
        if not memory.runs:
            return self._in_evaluation(dy)
        run = memory.runs[-1]
        law = run.law
        if law is not None and type(dy) is _ndarray and dy.dtype is law.dtype:
            if dy.shape == run.shape and (kernel := law.kernel(dy.nbytes)) is not None:
                dx, key = _empty(run.shape, law.dtype), run.key
                words = key[0], (key[1] + run.stop - 1) & _WORD  # type: ignore[index]
                if kernel(id(dy), id(dx), law.record_at, 0, *words):
                    memory.went_back()
                    return dx
        run.check(dy)
        dx = self._gradient(run.settings)(dy, rng=run.last_key())
        memory.went_back()
        return dx

    def _in_evaluation(self, dy: ArrayLike) -> Array:
        if not self._training:
            return self._gradient(self._settings)(dy, rng=None, training=False)
        raise RuntimeError(
            "backward without a forward: every training forward of this layer in this thread has "
            "already gone back"
        )

    def _gradient(self, settings: Settings) -> Callable[..., Array]:
        """Return ``gradient(dy, *, rng)`` of forwards with some settings."""
        function = self._backward_function or type(self)._function
        return lambda dy, **call: function(dy, **{"training": True, **settings.arguments, **call})

    def vjp(
        self, x: ArrayLike, training: bool | None = None
    ) -> tuple[Array, Callable[[ArrayLike], Array]]:
        """Return what `forward` returns, and the backward of this very call.

        For backwards that come in any order, more than once, or from another thread. A forward of
        `vjp` takes its number from the count as any other, and `backward` knows nothing of it.

        Parameters
        ----------
        x, training
            As in `forward`.

        Returns
        -------
        y : ndarray
            The result.
        backward : callable
            ``backward(dy)``, the gradient by x of a gradient by y; it holds 16 bytes of key and no
            array.

        Examples
        --------
        >>> import numpy as np
        >>> import fastdrop as fd
        >>> layer = fd.Dropout(0.5, rng=1)
        >>> real, back_from_real = layer.vjp(np.ones(4))
        >>> fake, back_from_fake = layer.vjp(np.ones(4))
        >>> bool((back_from_real(np.ones(4)) == real).all())
        True
        """
        memory, settings = self._memories.own(), self._settings
        y = self.forward(x, training)
        key: Key | None = None
        if self._mode(training):
            run = memory.runs[-1]
            key, settings = run.last_key(), run.settings
            memory.went_back()  # so that `backward` does not meet it
        gradient = self._gradient(settings)

        def back(dy: ArrayLike, **out: Any) -> Array:
            return gradient(dy, rng=key, training=key is not None, **out)

        return y, Backward(back, np.shape(y))
