"""What tests run in processes of their own, as ``python -m tests.support.scenarios.NAME``."""

SKIPPED = 77  # the exit status of a process whose last line says what it misses
