"""Settings of ``python -m pytest bench``."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Time only under --benchmark-only, which overrides this."""
    if hasattr(config.option, "benchmark_skip"):
        config.option.benchmark_skip = True
