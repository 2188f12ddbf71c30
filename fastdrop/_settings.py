"""Settings of layers: the arguments of their constructors, checked whenever they are set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

_T = TypeVar("_T")
_REQUIRED: Any = object()
_MOST_SHOWN = 8  # numbers of an array


class Settings(dict[str, Any]):
    """The settings of a layer: replaced as a whole when one is set, and never changed.

    So a forward can remember them by reference. Arrays among them are the layer's own, and cannot
    be written to, in copies neither.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        for value in self.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the constructor: NumPy's copies can be written to."""
        return Settings, (dict(self),)

    def alike(self, other: Settings) -> bool:
        """Say whether all settings are the same."""
        return self is other or (
            self.keys() == other.keys() and all(same(self[name], other[name]) for name in self)
        )


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
        layer._settings = Settings({**layer._settings, self.name: self.check(value)})

    def is_shown(self, value: Any) -> bool:
        """Say whether a value is another than the default."""
        return self.default is _REQUIRED or not same(value, self.default)

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is _REQUIRED


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
