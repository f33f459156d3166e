"""Verification: proof that an archive is complete and correct, or the list of its faults.

Reads only: nothing in an archive or in Kafka is changed here.
"""
