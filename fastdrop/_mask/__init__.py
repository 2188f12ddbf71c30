"""`Mask`: a mask as an object that multiplies arrays."""
