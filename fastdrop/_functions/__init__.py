"""The public functions, one file for each family, and their ``_vjp`` forms."""
