"""Benchmarks of fastdrop against what it replaces; not part of the installed package.

Cases (`cases.toml`, `bench.cases`) are validated (`bench.check`), timed side by side
(`bench.timing`) and written as results (`bench.results`), which `bench.report`, `bench.goals`,
`bench.plot` and `bench.compare` read. `python -m bench --help` lists the commands;
``python -m pytest bench`` is a suite of regression tests for pytest-benchmark.
"""
