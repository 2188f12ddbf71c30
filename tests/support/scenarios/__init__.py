"""What tests run in processes of their own, as ``python -m tests.support.scenarios.NAME``."""

SKIPPED = 77  # exit status of a process that cannot run here; its last line says why
