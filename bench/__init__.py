"""Benchmarks of fastdrop against what it replaces; not part of the installed package.

``python -m bench`` validates every contender, times them side by side in sections (`bench.sections`
says who, in what, at which sizes), prints ratios first, and writes bench/results/cpu.json. Peers
that can be imported take part: torch, jax, tensorflow, randomgen. ``--check`` makes every call
once, at tiny sizes, and judges no times: that is for CI.

``python -m bench loops`` times dropout in real training steps, ``python -m bench small`` small
calls beside the usual idiom, what is made beside them (keys, layers, masks, shards) and where their
time goes, ``python -m bench start`` the first call of a process, and ``python -m bench latency``
single calls beside busy processes. ``python -m bench compare OLD NEW`` shows what became slower.
``python -m bench readme`` and ``python -m bench plot`` make the tables of README.md and
docs/performance.md, and the plots, from the results.
``python -m pytest bench --benchmark-only`` times the same contenders under pytest-benchmark.
"""
