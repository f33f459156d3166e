"""`make demo` and `make demo-ocs`: a night in half a minute, and proof that nothing of it is missing."""
