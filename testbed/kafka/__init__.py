"""Apache Kafka without Docker: one broker or a cluster, and MirrorMaker. Run it with `python -m testbed.kafka`."""
