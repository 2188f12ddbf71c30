"""What happens to elements, traced: the sampler, operations, storage types, mathematics."""
