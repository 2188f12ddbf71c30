"""Benchmarks of fastdrop against what it replaces; not part of the installed package.

``python -m bench`` validates every contender, times them side by side, prints ratios first and
writes bench/results/cpu.json. ``python -m bench readme`` and ``python -m bench plot`` make the
README's table and the plot from that file. ``python -m pytest bench --benchmark-only`` times the
same contenders under pytest-benchmark.
"""
