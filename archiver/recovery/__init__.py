"""A stream's partial after a stop or a rebalance: reopened, rebuilt or salvaged before consuming goes on.

Recording itself is in recording/.
"""
