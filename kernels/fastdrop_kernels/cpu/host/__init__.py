"""Host code: it plans the public package's calls, and runs them by the kernels of `cpu.loops`."""
