"""Recipes: short solutions with the public functions, which can be run and check themselves.

``python -m fastdrop.examples.recipes`` lists and runs all of them; with a name, it prints and runs
one. Each is a module whose ``run()`` raises AssertionError if its claim does not hold.
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
    "jax_callback",
    "shared_memory",
    "cubed_arrays",
    "ray_data",
    "function_object",
    "dropconnect",
    "vanilla",
)


def recipe(name: str) -> ModuleType:
    """Import a recipe by its name."""
    return importlib.import_module(f"{__name__}.{name}")
