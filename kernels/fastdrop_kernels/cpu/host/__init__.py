"""Host code in Python: what is called by the public package, plans calls, and runs them."""
