"""Proof that an archive is whole and right, or what is wrong with it.

Reads only: nothing in an archive or in Kafka is changed here.
"""
