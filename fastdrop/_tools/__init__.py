"""Utilities beside the functions and layers: warm-up, thread count, self-check."""
