"""`Mask`: a mask as an object that is multiplied with arrays."""
