"""Files registered with the SupRsync agent of Simons Observatory's socs, and up to when an archive is final.

Imports socs only where its database is used: it is an extra.
"""
