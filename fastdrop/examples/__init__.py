"""Runnable examples; start one with ``python -m fastdrop.examples.NAME``."""
