"""What needs no function of its own: a few lines each, which run and check what they say.

``python -m fastdrop.examples.recipes`` lists and runs them all, and with a name it prints that one
and runs it. Each is a module here whose ``run()`` raises an AssertionError if it does not hold.
"""

from __future__ import annotations

import importlib
from types import ModuleType

RECIPES = (
    "numerical_gradient",
    "any_order",
    "checkpointing",
    "workers",
    "returned_mask",
    "padding",
    "masked_tokens",
    "hips_autograd",
    "function_object",
    "dropconnect",
    "vanilla",
)


def recipe(name: str) -> ModuleType:
    """Import a recipe by its name."""
    return importlib.import_module(f"{__name__}.{name}")
