"""What `tests/emulated/run` runs: results on AArch64, in an emulator."""

import fastdrop as fastdrop  # finds the kernels in a tree that is not installed
