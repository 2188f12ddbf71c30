"""What a user calls beside the functions: warm-up, threads, the self-check."""
