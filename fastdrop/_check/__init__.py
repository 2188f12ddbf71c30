"""Checks of arguments: numbers, shapes, placements, keys, fill values, kinds of arrays."""
