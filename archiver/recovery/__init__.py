"""A stream's partial after a stop or a rebalance: reopened, rebuilt or salvaged before consuming resumes.

Recording itself is in recording/.
"""
