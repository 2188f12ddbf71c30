"""What all layers have in common: a mode, a key, a count of forwards, and forwards to go back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from . import _arguments as arguments
from . import _libraries as libraries
from ._arguments import Array, ArrayLike
from ._backends import backend_of
from ._key import RNG, Key, as_key
from ._settings import Settings, shown

_L = TypeVar("_L", bound="Layer")


class Layer:
    """A mode, a key, a count of forwards, and settings: what a layer saves, and what it shows."""

    def __init__(self, rng: RNG, **settings: Any) -> None:
        self._settings = Settings({})
        for name, value in settings.items():
            setattr(self, name, value)
        self._key, self._forwards = as_key(rng), 0
        self.training = True

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
        return self._forwards

    @forwards.setter
    def forwards(self, number: int) -> None:
        self._forwards = arguments.whole("forwards", number, 0)

    def train(self: _L, mode: bool = True) -> _L:
        """Set training mode (or evaluation, if `mode` is False), and return the layer."""
        self.training = arguments.flag("mode", mode)
        return self

    def eval(self: _L) -> _L:
        """Set evaluation mode, in which nothing is dropped, and return the layer."""
        return self.train(False)

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
        self._forwards = forwards
        self.forget()

    def forget(self) -> None:
        """Forget the forwards that have not gone back; the count of forwards stays."""
        raise NotImplementedError

    def _mode(self, training: bool | None) -> bool:
        return self.training if training is None else arguments.flag("training", training)

    def __repr__(self) -> str:
        """Show the layer as it can be written in code."""
        always: list[str] = []
        seldom: list[str] = []
        for name, value in self._settings.items():
            setting = getattr(type(self), name)
            if setting.is_shown(value):
                (always if setting.is_required else seldom).append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join([*always, f'rng={self.key}', *seldom])})"


class PairedLayer(Layer):
    """A layer whose forwards are remembered until they go back, the last one first."""

    def __init__(self, rng: RNG, **settings: Any) -> None:
        super().__init__(rng, **settings)
        # Training forwards that have not gone back: runs of consecutive ones that are alike, so
        # that a layer does not grow when its forwards never go back (Monte Carlo dropout, say).
        self._pending: list[Run] = []

    def _remember(self, run: Run) -> None:
        last = self._pending[-1] if self._pending else None
        if last is not None and last.goes_on_as(run):
            last.stop = run.stop
        else:
            self._pending.append(run)

    def _went_back(self) -> None:
        """Forget the last forward that was remembered."""
        run = self._pending[-1]
        run.stop -= 1
        if run.start == run.stop:
            self._pending.pop()

    def forget(self) -> None:
        self._pending.clear()


class Run:
    """Consecutive forwards that are alike, from start to stop - 1: what their backwards need.

    Without a key, they are forwards in evaluation. `kept` are arrays of the caller's, by reference,
    and `more` is what else a backward must know, and can be compared.
    """

    __slots__ = ("kept", "key", "more", "settings", "shape", "start", "stop")

    def __init__(
        self,
        n: int,
        shape: Any,
        key: Key | None,
        settings: Settings,
        kept: tuple[Any, ...] = (),
        more: Any = None,
    ) -> None:
        self.start, self.stop = n, n + 1
        self.shape, self.key, self.settings = shape, key, settings
        self.kept, self.more = kept, more

    def goes_on_as(self, other: Run) -> bool:
        """Say whether another begins where this one stops, and is like it."""
        mine = self.stop, self.shape, self.key, self.more
        return (
            mine == (other.start, other.shape, other.key, other.more)
            and self.settings.alike(other.settings)
            and all(one is its for one, its in zip(self.kept, other.kept, strict=True))
        )

    def last_key(self) -> Key | None:
        """Return what the last of them drew from."""
        return None if self.key is None else self.key.advanced(self.stop - 1)

    def check(self, dy: ArrayLike) -> None:
        """Refuse a gradient of another shape than the result had."""
        shape = backend_of(dy).array(dy).shape
        if shape != self.shape:
            raise ValueError(
                f"dy has shape {shape}, and the last forward that has not gone back had "
                f"{self.shape}"
            )


class FunctionLayer(PairedLayer):
    """A function as a layer: each forward draws a new mask, and its backward the same one again.

    A subclass says which function, ``function(x, *, rng, training, **settings)``, and which its
    backward is where that is another, ``function(dy, *, rng, training, **settings)``.
    """

    _function: ClassVar[Callable[..., Array]]
    _backward_function: ClassVar[Callable[..., Array] | None] = None

    def __call__(self, x: ArrayLike) -> Array:
        """Return ``forward(x)``."""
        return self.forward(x)

    def forward(self, x: ArrayLike, training: bool | None = None) -> Array:
        """Apply the layer to `x` in training; return `x` itself in evaluation.

        Parameters
        ----------
        x : array_like
            As in the layer's function, on the CPU or a GPU; never written to.
        training : bool, optional
            Overrides the mode for this call.

        Returns
        -------
        ndarray
            A new array of the shape and dtype of `x`; in evaluation, `x`.
        """
        mode = self.training if training is None else self._mode(training)
        n, settings = self._forwards, self._settings
        key = self._key.advanced(n) if mode else None
        y = self._function(x, rng=key, training=mode, **settings)
        if mode:
            pending = self._pending
            last = pending[-1] if pending else None
            # As `_remember` would do, without making a run to compare with: 1 us of 6.
            if (
                last is not None
                and last.stop == n
                and last.settings is settings
                and last.key is self._key
                and last.shape == y.shape
                and not last.kept
                and last.more is None
            ):
                last.stop = n + 1
            else:
                self._remember(Run(n, y.shape, self._key, settings))
            self._forwards = n + 1
        return y

    def backward(self, dy: ArrayLike) -> Array:
        """Return the gradient of the last training forward that has not yet gone back.

        Forwards in evaluation do not count. In evaluation mode, where no training forward is left,
        this returns `dy` itself; after training forwards that are not to go back, as in Monte Carlo
        dropout, call `forget` first.

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
        function = self._backward_function or self._function
        if not self._pending:
            if not self.training:
                return function(dy, rng=None, training=False, **self._settings)
            raise RuntimeError(
                "backward without a forward: every training forward of this layer has already "
                "gone back"
            )
        run = self._pending[-1]
        run.check(dy)
        dx = function(dy, rng=run.last_key(), training=True, **run.settings)
        self._went_back()
        return dx
