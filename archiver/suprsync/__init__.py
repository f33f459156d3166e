"""SupRsync: registers files with the agent of Simons Observatory's socs, and finds up to when an archive is final.

socs is an extra: only the modules that use its database import it.
"""
