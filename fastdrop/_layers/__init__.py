"""The layers: modes, keys, settings, and what a forward leaves for its backward."""
