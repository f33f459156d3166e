"""Kafka clients: their settings, their errors in words, and the administration of topics.

Nothing here knows what is published or recorded.
"""
