"""The CPU's functions on batches: one file for each family, on the base in `rows`."""
