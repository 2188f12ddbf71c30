"""Code generation: traced vectors, LLVM intrinsics, the compiler and its cache."""
