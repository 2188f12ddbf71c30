"""Functions on arrays that are larger than memory, block by block: `fastdrop.apply_blocks`."""
