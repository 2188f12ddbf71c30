"""Benchmarks of fastdrop against what it replaces; not part of the installed package.

``python -m bench`` validates every contender, times them side by side in sections (`bench.sections`
says who, in what, at which sizes), prints ratios first, and writes bench/results/cpu.json. Peers
that can be imported take part: torch, jax, tensorflow, randomgen. ``--check`` makes every call
once, at tiny sizes, and judges no times: that is for CI.

``python -m bench small`` shows small calls beside the usual idiom, what is made beside them (keys,
layers, shards) and where their time goes, ``python -m bench start`` what the
first call of a process takes, ``python -m bench latency`` single calls beside busy processes, and
``python -m bench compare OLD NEW`` what has become slower. ``python -m bench readme`` and
``python -m bench plot`` make the README's tables and the plots from the results.
``python -m pytest bench --benchmark-only`` times the same contenders under pytest-benchmark.
"""
