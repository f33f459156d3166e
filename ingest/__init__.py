"""Reads G3 frames from a TCP connection and publishes each to its stream's Kafka topic.

The way of a frame: receive/ (from the socket to a record) → spool/ (on disk until Kafka has it) → publish/ (in order,
until acknowledged). ingest never imports archiver.
"""
