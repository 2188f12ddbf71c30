"""The way of a call from a checked function to the kernels: coefficients, operands, plans."""
