"""Load: frames, streams and archives of any size, made cheaply, and the processes that send them."""
