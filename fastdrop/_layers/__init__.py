"""The layers: mode, key, settings, and the history of forwards that backwards need."""
