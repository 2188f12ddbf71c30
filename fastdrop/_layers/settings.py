"""Settings of layers: the arguments of their constructors, checked whenever they are set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload

import numpy as np

from .._check.detect import described, short
from .._check.key import Key

_T = TypeVar("_T")
_REQUIRED: Any = object()
_MOST_SHOWN = 8  # numbers of an array


Plans: TypeAlias = dict[Any, Callable[..., Any]]
_MOST_PLANS = 64


def keep_plan(plans: Plans, key: Any, plan: Callable[..., Any]) -> None:
    """Keep a plan, one of not too many."""
    if len(plans) >= _MOST_PLANS:
        plans.clear()
    plans[key] = plan


class Settings(Mapping[str, Any]):
    """The settings of a layer: replaced as a whole when one is set, and never changed.

    So a forward can remember them by reference. Arrays among them are the layer's own, and cannot
    be written to, in copies neither.

    Attributes
    ----------
    forward_plans, backward_plans : dict
        The plans of the calls of the layer's functions so far: by dtype for contiguous arrays, else
        by shape, strides and dtype.
    """

    # Not a dict: making one of a dict takes 0.4 us, a fifth of a new layer.
    __slots__ = ("_arguments", "_values", "backward_plans", "forward_plans", "inplace")

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.inplace: bool = values.get("inplace", False)  # looked at in every forward
        self._arguments: dict[str, Any] | None = None
        self.forward_plans: Plans = {}
        self.backward_plans: Plans = {}

    def __getitem__(self, name: str) -> Any:
        """Return the value of one."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._values)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the layer's function is given: all but `inplace`, which becomes an `out`."""
        if self._arguments is None:
            self._arguments = {name: value for name, value in self.items() if name != "inplace"}
        return self._arguments

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by way of `_of_copies`: NumPy's copies can be written to."""
        return _of_copies, (self._values,)

    def alike(self, other: Settings) -> bool:
        """Say whether all settings are the same."""
        return self is other or (
            self.keys() == other.keys() and all(same(self[name], other[name]) for name in self)
        )


def _of_copies(values: dict[str, Any]) -> Settings:
    return Settings({name: kept(value) for name, value in values.items()})


def kept(value: Any) -> Any:
    """Return the value of a setting; an array, which must be the layer's own, becomes read-only."""
    if type(value) is np.ndarray:
        value.flags.writeable = False
    return value


class HasSettings(Protocol):
    """A layer, to a setting of it."""

    _settings: Settings


class Setting(Generic[_T]):
    """An argument of a layer's constructor: an attribute that is checked whenever it is set.

    One without a default is always shown. What `check` makes of an array must be a copy.
    """

    def __init__(self, check: Callable[[Any], _T], default: Any = _REQUIRED) -> None:
        self.check, self.default = check, default

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the attribute's name."""
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Setting[_T]: ...
    @overload
    def __get__(self, layer: HasSettings, owner: type) -> _T: ...
    def __get__(self, layer: HasSettings | None, owner: type) -> Any:
        """Return the setting's value."""
        return self if layer is None else layer._settings[self.name]

    def __set__(self, layer: HasSettings, value: Any) -> None:
        """Check the value and set it."""
        layer._settings = Settings({**layer._settings, self.name: kept(self.check(value))})

    def is_shown(self, value: Any) -> bool:
        """Say whether a value is another than the default."""
        return self.default is _REQUIRED or not same(value, self.default)

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is _REQUIRED


class Absent:
    """A name that other libraries use for an attribute: layers have another, and errors say so."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the attribute's name."""
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        """Raise AttributeError, unless a user's subclass has an attribute of that name."""
        if layer is not None and self.name in (own := getattr(layer, "__dict__", {})):
            return own[self.name]
        raise AttributeError(f"a {owner.__name__} has no attribute {self.name!r}: {self.way}")

    def __set__(self, layer: Any, value: Any) -> None:
        """Raise AttributeError, unless a user's subclass has room for attributes of its own."""
        if not hasattr(layer, "__dict__"):
            self.__get__(layer, type(layer))
        layer.__dict__[self.name] = value


def to_config(value: Any) -> Any:
    """Return the value of a setting as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def from_config(declared: Mapping[str, Setting[Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a layer's constructor from what `Layer.get_config` returned."""
    if not isinstance(config, Mapping):
        raise TypeError(f"{described('config', config)}: give what get_config returned")
    known = {*declared, "seed", "stream"}
    needed = {name for name, setting in declared.items() if setting.is_required}
    if extra := sorted(map(str, set(config) - known)):
        raise ValueError(
            f"config has {short(extra)}, which are none of {sorted(known)}: give what get_config "
            "of such a layer returned"
        )
    if missing := sorted((needed | {"seed", "stream"}) - set(config)):
        raise ValueError(f"config has no {missing}: give what get_config returned")
    settings = {name: value for name, value in config.items() if name in declared}
    return {**settings, "rng": Key(config["seed"], config["stream"])}


def same(one: Any, other: Any) -> bool:
    """Say whether two values of a setting are the same, arrays among them."""
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)
    return bool(one == other)


def shown(value: Any) -> str:
    """Show a value as code, but of large arrays not more than shape and bounds."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.size <= _MOST_SHOWN:
        return repr(value.tolist())
    return f"<{value.shape} from {value.min():.4g} to {value.max():.4g}>"
