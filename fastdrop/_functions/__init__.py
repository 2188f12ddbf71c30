"""The public functions, a file for each family, and what ties results to their backwards."""
