"""Read G3 frames from TCP connections and publish them to Kafka, one topic for each stream.

The path of a frame: receive/ (from the socket to a record) → spool/ (on disk until Kafka has it) → publish/ (in
order, until acknowledged). ingest never imports archiver.
"""
