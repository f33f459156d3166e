"""The page: what is recorded now and what was, for a browser, and the same as JSON. Reads only; joins no group."""
