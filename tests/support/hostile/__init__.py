"""Valid calls of everything public, and wrong values for every parameter."""
