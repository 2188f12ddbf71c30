"""The path of a call from a public function to the kernels: coefficients, operands, call plans."""
