"""Backends: one adapter for each array library, which allocates, views, and calls the kernels."""
