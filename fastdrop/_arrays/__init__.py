"""The array libraries: how each one's arrays are made, viewed, and given to kernels."""
