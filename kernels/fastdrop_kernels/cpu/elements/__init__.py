"""Traced code for single vectors of elements: sampler, operations, storage types, mathematics."""
